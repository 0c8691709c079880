//! Which topics the migrations mean: each pattern something, each topic one migration.

use super::{Facts, Finding};
use crate::config::{Config, Migration};
use crate::ids::{Side, TopicName};
use crate::migration::topics;

pub fn find(config: &Config, migrations: &[&Migration], facts: &Facts, found: &mut Vec<Finding>) {
    let Some(source) = facts.view(Side::Source) else { return };
    let mut names: Vec<TopicName> = Vec::new();
    for migration in migrations {
        let matched = topics::matched(migration, source);
        for pattern in migration.topics.iter().filter(|p| !matched.iter().any(|name| p.matches(name))) {
            found.push(Finding::warning(
                "pattern_matches_nothing",
                format!("migration {}", migration.name),
                format!("`{pattern}` matches no topic of the source"),
                "correct it, or create the topic first",
            ));
        }
        names.extend(matched);
    }
    names.sort();
    names.dedup();
    for (name, claims) in topics::claimed_twice(config, &names) {
        found.push(Finding::error(
            "topic_in_two_migrations",
            format!("topic {name}"),
            format!("is matched by migrations {}", claims.join(" and ")),
            "correct their `topics` so that one has it",
        ));
    }
}
