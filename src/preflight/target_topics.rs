//! Each topic on the target: can be made, or is there with as many partitions, and empty.

use super::{Facts, Finding};

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for (name, topic) in &facts.topics {
        let place = format!("topic {name}");
        if let Some(why) = &topic.cannot_create {
            found.push(Finding::error(
                "topic_cannot_be_created",
                &place,
                format!("the target refuses to create it: {why}"),
                "create it on the target yourself, with as many partitions, or change what refuses it",
            ));
        }
        if let Some(there) = topic.target_partitions
            && there != topic.source_partitions
        {
            found.push(Finding::error(
                "partitions_differ",
                &place,
                format!("has {} partitions on the source and {there} on the target", topic.source_partitions),
                "delete it on the target, or add partitions to the smaller",
            ));
        }
        if let Some((partition, at)) = topic.foreign.first() {
            let more = match topic.foreign.len() {
                1 => String::new(),
                n => format!(", and {} more partitions hold some", n - 1),
            };
            found.push(Finding::error(
                "target_not_empty",
                &place,
                format!("partition {partition} on the target holds records ({} to {}){more}", at.start, at.end),
                "stop whoever writes to it; delete the topic on the target, or its records",
            ));
        }
    }
}
