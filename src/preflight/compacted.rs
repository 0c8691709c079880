//! Compacted topics keep the last record of each key for ever: what lies below the seam stays on the source, and a client may mind an
//! answer without an offset.

use super::{Facts, Finding};
use crate::config::{Migration, Mirror, Scheme};
use crate::ids::Side;

pub fn find(migrations: &[&Migration], facts: &Facts, found: &mut Vec<Finding>) {
    for (name, topic) in &facts.topics {
        let policy = topic.configs[Side::Source.index()].as_ref().and_then(|c| c.get("cleanup.policy"));
        if !policy.is_some_and(|p| p.split(',').any(|one| one.trim() == "compact")) {
            continue;
        }
        let place = format!("topic {name}");
        for migration in migrations.iter().filter(|m| m.matches(name)) {
            if migration.mirror == Mirror::None && migration.scheme != Scheme::ConsumersFirst {
                found.push(Finding::warning(
                    "compacted_without_copy",
                    &place,
                    "is compacted and not mirrored: keys that are not written again stay on the source, which must be kept for them",
                    format!("give migration {} `mirror: forward`, or keep the source", migration.name),
                ));
            }
            // DESIGN.md section 3: only with the tail `Both` is a produce answered before its record has an offset.
            if migration.scheme == Scheme::DualConsume {
                found.push(Finding::warning(
                    "compacted_dual_consume",
                    &place,
                    "is compacted: a client that needs the offset of what it wrote (Schema Registry) may get none",
                    "use producers-first or consumers-first for it",
                ));
            }
        }
    }
}
