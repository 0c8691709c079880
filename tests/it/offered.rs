//! `tests/golden/api_versions.txt`: what brokers of each Kafka version offer.

use std::collections::BTreeMap;

pub const FILE: &str = "tests/golden/api_versions.txt";
const TABLE: &str = include_str!("../golden/api_versions.txt");

/// Lowest and highest version, by API key.
pub type Ranges = BTreeMap<i16, (i16, i16)>;

/// Every API that any of them offers: key and Kafka's name.
pub fn names() -> BTreeMap<i16, &'static str> {
    rows().map(|row| (row[0].parse().expect("a key"), row[1])).collect()
}

/// What brokers of a version offer; `None`: it is not in the file.
pub fn by(version: &str) -> Option<Ranges> {
    let head: Vec<&str> = lines().next()?.split_whitespace().collect();
    let column = head.iter().position(|v| *v == version)?;
    let range = |row: Vec<&str>| {
        let (low, high) = row[column].split_once('-')?;
        Some((row[0].parse().ok()?, (low.parse().ok()?, high.parse().ok()?)))
    };
    Some(rows().filter_map(range).collect())
}

/// A column, as it would stand in the file.
pub fn column(ranges: &Ranges) -> String {
    ranges.iter().map(|(key, (low, high))| format!("{key} {low}-{high}\n")).collect()
}

fn lines() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|line| !line.starts_with('#'))
}

fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    lines().skip(1).map(|line| line.split_whitespace().collect())
}
