//! What lies in a topic of one cluster, record by record with all that a record says: what a copy is compared by.

use std::process::Command;

use super::proxy::run_to_end;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dumped {
    pub offset: i64,
    pub record: Record,
}

/// What must be the same in a copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    /// Milliseconds, whoever has set it.
    pub timestamp: i64,
    /// `None`: null.
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// As kcat shows them: `name=value`, and NULL for null.
    pub headers: String,
}

/// What kcat tells of a topic, from the beginning of each partition to its end, each record as `format` says. It is nobody's client
/// library here, reads every codec, and is told to check every checksum.
pub(super) fn told(bootstrap: &str, topic: &str, format: &str) -> Vec<u8> {
    let mut kcat = Command::new("kcat");
    kcat.env_remove("LD_LIBRARY_PATH"); // which may lead to a librdkafka of cargo's, without zstd
    kcat.args(["-b", bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-X", "check.crcs=true"]);
    kcat.args(["-f", format]);
    let output = run_to_end(kcat);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "reading {topic} at {bootstrap}: {said}");
    output.stdout
}

/// By partition all committed records, to the end; every checksum is checked.
pub fn dump(bootstrap: &str, topic: &str, partitions: i32) -> Vec<Vec<Dumped>> {
    // The lengths of key and value, which may hold anything; -1 for null.
    let told = told(bootstrap, topic, "%p %o %T %K %S %k%s%h\\n");
    let mut found: Vec<Vec<Dumped>> = (0..partitions).map(|_| vec![]).collect();
    let mut rest = &told[..];
    while !rest.is_empty() {
        let mut number = || -> i64 {
            let end = rest.iter().position(|byte| *byte == b' ').expect("a number and a space");
            let (digits, behind) = rest.split_at(end);
            rest = &behind[1..];
            std::str::from_utf8(digits).expect("digits").parse().expect("a number")
        };
        let (partition, offset, timestamp, key, value) = (number(), number(), number(), number(), number());
        let mut bytes = |length: i64| {
            let length = usize::try_from(length).ok()?;
            let (bytes, behind) = rest.split_at(length);
            rest = behind;
            Some(bytes.to_vec())
        };
        let (key, value) = (bytes(key), bytes(value));
        let end = rest.iter().position(|byte| *byte == b'\n').expect("the end of a line");
        let headers = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        // What has no time is shown with 0 in the oldest format, and with -1 later.
        let record = Record { timestamp: if timestamp == 0 { -1 } else { timestamp }, key, value, headers };
        found[usize::try_from(partition).expect("a partition")].push(Dumped { offset, record });
    }
    found
}

/// How many of a copy's records are the origin's, in their order, each as it is there.
pub fn copied(origin: &[Dumped], copy: &[Dumped]) -> usize {
    copy.iter().zip(origin).take_while(|(copy, origin)| copy.record == origin.record).count()
}

/// The copy's records follow one another without a gap.
pub fn has_no_gap(copy: &[Dumped]) -> bool {
    copy.windows(2).all(|pair| pair[0].offset + 1 == pair[1].offset)
}
