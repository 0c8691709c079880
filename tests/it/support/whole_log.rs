//! What lies on both clusters, read without the proxy: the oracle for what clients must see.

use kafka_cutover::audit::{Checker, Event, Segment, What};
use kafka_cutover::ids::Side;

use super::dump::told;
use super::rig::Rig;

/// What `prepare` writes to a target partition that must have held a record, and deletes again.
const SEED: &[u8] = b"made by `kafka-cutover prepare`";

pub struct Entry {
    pub side: Side,
    pub native: i64,
    /// As clients must see it.
    pub offset: i64,
    pub timestamp: i64,
    pub value: Vec<u8>,
}

pub struct Partition {
    pub segments: Vec<Segment>,
    /// In the order of the virtual log.
    pub entries: Vec<Entry>,
    /// Records of the source's part on the target: their places there.
    pub copies: Vec<(i64, Vec<u8>)>,
    /// The first virtual offset on the target; where the source ends if there is none.
    pub seam: i64,
    /// The next virtual offset.
    pub end: i64,
}

/// By partition.
pub struct WholeLog(pub Vec<Partition>);

impl WholeLog {
    /// A topic that has been cut over once, from the source to the target, or not yet.
    pub fn read(rig: &Rig, topic: &str) -> Self {
        Self::read_with_copies(rig, topic, &[])
    }

    /// The same, with so many records of each partition mirrored.
    pub fn read_with_copies(rig: &Rig, topic: &str, copied: &[i64]) -> Self {
        let [source, mut target] = Side::BOTH.map(|side| rig.admin(side).bounds(topic).expect("the ends of the topic"));
        let mut found = Vec::new();
        for (side, bounds) in Side::BOTH.into_iter().zip([&source, &target]) {
            if bounds.iter().any(|(low, high)| low < high) {
                read(rig.bootstrap(side), topic, |p, native, timestamp, value| {
                    found.push((p, side, native, timestamp, value));
                });
            }
        }
        // A deleted seed comes back with a broker that was killed before it had written down its log's start.
        found.retain(|(p, side, native, _, value)| {
            let seed = *side == Side::Target && value.starts_with(SEED) && *native == target[*p].0;
            target[*p].0 += i64::from(seed);
            !seed
        });
        let mut partitions: Vec<Partition> = (0..source.len())
            .map(|p| partition(source[p], target.get(p), copied.get(p).copied().unwrap_or(0)))
            .collect();
        for (p, side, native, timestamp, value) in found {
            let partition = &mut partitions[p];
            let segment = partition.segments.iter().find(|s| s.side == side).expect("a segment for each side");
            if side == Side::Target && native < segment.native {
                partition.copies.push((native, value));
                continue;
            }
            let offset = segment.to_virtual(native).expect("inside of the segment, which spans all");
            partition.entries.push(Entry { side, native, offset, timestamp, value });
        }
        for partition in &mut partitions {
            partition.entries.sort_by_key(|e| e.offset);
        }
        Self(partitions)
    }

    pub fn tell(&self, checker: &mut Checker) {
        for (number, partition) in self.0.iter().enumerate() {
            for e in &partition.entries {
                checker.dump(e.side, &number.to_string(), e.native, &e.value);
            }
            for (native, value) in &partition.copies {
                checker.dump(Side::Target, &number.to_string(), *native, value);
            }
        }
    }

    /// What clients received is what lies there.
    pub fn holds(&self, events: &[Event]) {
        for event in events {
            let What::Recv { partition, offset, value, .. } = &event.what else { continue };
            let entries = &self.0[partition.parse::<usize>().expect("a number")].entries;
            let at = entries.binary_search_by_key(offset, |e| e.offset);
            let written = at.ok().map(|at| String::from_utf8_lossy(&entries[at].value));
            let name = &event.client;
            assert_eq!(Some(value.as_str()), written.as_deref(), "{name}, partition {partition}, offset {offset}");
        }
    }

    pub fn records(&self, side: Side) -> usize {
        self.0.iter().flat_map(|p| &p.entries).filter(|e| e.side == side).count()
    }
}

impl Partition {
    /// Where a reader of one side alone goes on that has read up to `next`: at its first record from there on, or its end.
    pub fn place_on(&self, side: Side, next: i64) -> i64 {
        match side {
            Side::Source => next.min(self.seam),
            Side::Target => self.segments[1].native + (next - self.seam).max(0),
        }
    }

    /// What Kafka answers for a timestamp: the first record in the log's order that is not older.
    pub fn at_time(&self, timestamp: i64) -> Option<i64> {
        self.entries.iter().find(|e| e.timestamp >= timestamp).map(|e| e.offset)
    }
}

fn partition((low, high): (i64, i64), target: Option<&(i64, i64)>, copied: i64) -> Partition {
    assert_eq!(low, 0, "the source's topic is whole");
    let part = |side, start, native, length| Segment { side, start, native, length, copy: false };
    let Some((first, next)) = target else {
        return Partition {
            segments: vec![part(Side::Source, 0, 0, None)],
            entries: Vec::new(),
            copies: Vec::new(),
            seam: high,
            end: high,
        };
    };
    // A seed that was deleted again leaves an offset behind: the target's part begins at its log start.
    let begins = first + copied;
    let mut segments = vec![part(Side::Source, 0, 0, Some(high)), part(Side::Target, high, begins, None)];
    if copied > 0 {
        segments.push(Segment { copy: true, ..part(Side::Target, 0, *first, Some(copied)) });
    }
    Partition { segments, entries: Vec::new(), copies: Vec::new(), seam: high, end: high + next - begins }
}

/// From the beginning of each partition to its end.
fn read(bootstrap: &str, topic: &str, mut each: impl FnMut(usize, i64, i64, Vec<u8>)) {
    for line in told(bootstrap, topic, "%p %o %T %S %s\\n").split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    {
        let mut words = line.splitn(5, |byte| *byte == b' ');
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<i64>().ok();
        let (partition, offset, timestamp, size) = (number(), number(), number(), number());
        let value = words.next().expect("a value").to_vec();
        assert_eq!(size, Some(value.len() as i64), "{}", String::from_utf8_lossy(line));
        let partition = usize::try_from(partition.expect("a partition")).expect("a partition");
        each(partition, offset.expect("an offset"), timestamp.expect("a timestamp"), value);
    }
}
