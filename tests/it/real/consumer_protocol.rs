//! Groups of KIP-848 (`group.protocol=consumer`) move home in mid-stream, between two clusters that both speak it.

use kafka_cutover::crash::MOVE;
use kafka_cutover::ids::Side;

use super::groups::{Kind, end_at_each_point, move_all};
use crate::support::own::Own;
use crate::support::rig::Rig;

const CONSUMER: &str = "group.protocol=consumer";
const KINDS: [Kind; 4] = [
    ("java", "auto", &["-X", CONSUMER]),
    ("java", "sync", &["-X", CONSUMER, "--commit", "sync"]),
    ("java", "static", &["-X", CONSUMER]),
    ("confluent", "auto", &["-X", CONSUMER]),
];
/// The other ways to commit: the whole version has these, too.
const MORE: [Kind; 5] = [
    ("java", "async", &["-X", CONSUMER, "--commit", "async"]),
    ("java", "static-sync", &["-X", CONSUMER, "--commit", "sync"]),
    ("java", "static-async", &["-X", CONSUMER, "--commit", "async"]),
    ("confluent", "sync", &["-X", CONSUMER, "--commit", "sync"]),
    ("confluent", "async", &["-X", CONSUMER, "--commit", "async"]),
];

/// A source that speaks it, beside the rig's target.
fn clusters() -> (Own, Rig) {
    let rig = Rig::connect();
    let source = Own::start(&rig, Side::Target, 1, &[]);
    let rig = rig.with(Side::Source, &source.bootstrap());
    (source, rig)
}

#[test]
fn groups_of_the_new_protocol_move_in_mid_stream_and_the_proxy_can_go() {
    let (_source, rig) = clusters();
    move_all(&rig, &KINDS, &MORE, &["allow.txt", "allow-heartbeats.txt"]);
}

/// At each point of a move the process ends; the next one finds every group at home on one side, with its place, and its
/// members with their partitions.
#[test]
fn a_move_of_the_new_protocol_survives_the_end_of_the_process_at_any_point() {
    let (_source, rig) = clusters();
    end_at_each_point(&rig, MOVE, &["-X", CONSUMER], &["allow.txt", "allow-restart.txt", "allow-heartbeats.txt"]);
}
