//! From every version of Kafka to every other one that is newer: one cutover under every client.

use kafka_cutover::ids::Side;

use super::every_client::{self, GROUPS, PRODUCERS, Stream, cut_over};
use crate::support::own::Own;
use crate::support::rig::Rig;

/// The oldest that is supported, which is the last before KRaft, and the newest.
const PAIRS: [(&str, &str); 2] = [("2.8.2", "4.3.1"), ("4.3.1", "4.3.1")];
/// The whole version has these, too.
const MORE: [(&str, &str); 3] = [("2.8.2", "3.9.2"), ("3.9.2", "3.9.2"), ("3.9.2", "4.3.1")];
const STREAM: Stream = Stream { rate: "30", part: 120 };
const FULL: Stream = Stream { rate: "150", part: 5_000 };

#[test]
fn one_cutover_between_every_two_versions() {
    let rig = Rig::connect();
    let (pairs, producers, stream) = match Rig::full() {
        true => ([&PAIRS[..], &MORE].concat(), [&PRODUCERS[..], &every_client::MORE].concat(), FULL),
        false => (PAIRS.to_vec(), PRODUCERS.to_vec(), STREAM),
    };
    for (source, target) in pairs {
        println!("{source} to {target}");
        let clusters = [source, target].map(|version| Own::of_version(&rig, version, 1, &[]));
        let rig = Side::BOTH
            .into_iter()
            .fold(Rig::connect(), |rig, side| rig.with(side, &clusters[side.index()].bootstrap()));
        cut_over(&rig, &producers, &GROUPS, &stream);
    }
}
