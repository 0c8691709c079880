//! What belongs together (DESIGN.md section 7): a transaction is written on one side as a whole, so the topics that one transactional
//! id writes to and reads from are switched as one. Migrations that tear such topics apart are to be merged; until they are, a
//! transaction that would span both clusters is refused, and its client aborts it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Finding};
use crate::config::{Config, Migration};
use crate::ids::TopicName;

/// Names in one message.
const NAMED: usize = 5;

/// Where topics are switched together: in a migration, or, in none, not at all.
type Unit<'a> = Option<&'a str>;

pub fn find(config: &Config, migrations: &[&Migration], facts: &Facts, found: &mut Vec<Finding>) {
    if let Some(why) = &facts.writers_unknown {
        found.push(Finding::warning(
            "transactions_unknown",
            "source",
            format!("it could not be asked which topics its transactional ids write to: {why}"),
            "make sure that no application writes to topics of several migrations in one transaction",
        ));
    }
    let mut components: Vec<Component> = vec![];
    for (id, topics) in &facts.writers {
        let mut one = Component { ids: vec![id], units: BTreeMap::new() };
        for topic in topics.iter().filter(|topic| !topic.starts_with("__")) {
            one.units.entry(unit_of(config, topic)).or_default().insert(topic);
        }
        if one.units.len() < 2 {
            continue;
        }
        // What is in no migration ties no two of them together.
        let touches = |other: &Component| one.units.keys().any(|unit| unit.is_some() && other.units.contains_key(unit));
        let (joined, apart): (Vec<_>, Vec<_>) = components.into_iter().partition(touches);
        components = apart;
        components.push(joined.into_iter().fold(one, Component::and));
    }
    let is_asked = |unit: &Unit| migrations.iter().any(|m| Some(m.name.as_str()) == *unit);
    for component in components.iter().filter(|c| c.units.keys().any(is_asked)) {
        found.push(component.finding());
    }
}

fn unit_of<'a>(config: &'a Config, topic: &str) -> Unit<'a> {
    config.migrations.iter().find(|m| m.matches(topic)).map(|m| m.name.as_str())
}

struct Component<'a> {
    ids: Vec<&'a String>,
    units: BTreeMap<Unit<'a>, BTreeSet<&'a TopicName>>,
}

impl Component<'_> {
    fn and(mut self, other: Self) -> Self {
        self.ids.extend(other.ids);
        for (unit, topics) in other.units {
            self.units.entry(unit).or_default().extend(topics);
        }
        self
    }

    fn finding(&self) -> Finding {
        let mut ids = self.ids.clone();
        ids.sort();
        let several = self.units.keys().flatten().count() > 1;
        let each = self.units.iter().map(|(unit, topics)| {
            let topics = named(topics.iter().map(|t| t.to_string()));
            match unit {
                Some(name) => format!("{topics} of migration {name}"),
                None => format!("{topics} of none"),
            }
        });
        let where_ = match &self.units.keys().flatten().copied().collect::<Vec<_>>()[..] {
            [one] => format!("migration {one}"),
            all => format!("migrations {}", all.join(", ")),
        };
        let message = format!(
            "the transactions of {} touch {}: one that would span both clusters is refused, and its client aborts it",
            named(ids.iter().map(|id| (*id).clone())),
            each.collect::<Vec<_>>().join(", "),
        );
        let action = match several {
            true => "merge these migrations into one, unless no single transaction touches topics of several",
            false => "take these topics into the migration, unless no single transaction touches both",
        };
        Finding::warning("transactions_span", where_, message, action)
    }
}

fn named(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!("{}{more}", all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "))
}
