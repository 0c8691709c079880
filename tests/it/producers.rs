//! The pure machines behind produce: the sequence gate, the order of one client's batches, lost batches, the seal's judgement.

use std::time::Duration;

use bytes::Bytes;
use kafka_cutover::ids::{Native, Side, TopicName, TopicPartition, VirtualPid};
use kafka_cutover::offsets::SpliceMap;
use kafka_cutover::producers::TransactionalHomes;
use kafka_cutover::producers::gate::{Gate, Outcome, Recent, Sealed, Verdict};
use kafka_cutover::producers::order::{At, Key, Order};
use kafka_cutover::producers::stamp::Stamp;
use kafka_cutover::producers::transactions::{LAPSE_MS, Transactions};
use kafka_cutover::producers::unknown::{Unknown, Unknowns};
use kafka_cutover::seal::reading::{Judged, Known, Reading, Wants, judge};
use kafka_cutover::store::SealedProducer;
use kafka_cutover::store::TransactionalIdHome;
use kafka_cutover::upstream::ask::ProducerState;

const PID: VirtualPid = VirtualPid(7);
const NOW: i64 = 1_000_000_000_000;
const DAY: i64 = 24 * 60 * 60 * 1_000;
/// Half of the circle of sequences.
const HALF: i64 = 1 << 30;

/// One record, by its place in the producer's life.
fn stamp(at: i64) -> Stamp {
    let sequence = (at % (1 << 31)) as i32;
    Stamp { pid: PID, epoch: 0, first: sequence, last: sequence }
}

fn sealed(at: i64) -> Sealed {
    Sealed { epoch: 0, last_sequence: stamp(at).last }
}

fn table(at: i64) -> Vec<(Recent, i64)> {
    let Sealed { epoch, last_sequence } = sealed(at);
    vec![(Recent { pid: PID, epoch, last_sequence, base_offset: None, at_ms: NOW }, NOW)]
}

fn write(gate: &mut Gate, at: i64) {
    assert_eq!(gate.judge(&stamp(at), NOW), Verdict::Forward, "record {at}");
    gate.forwarded(&stamp(at), NOW);
    gate.answered(&stamp(at), Outcome::Appended(None), NOW);
}

/// Sealed at 100; the producer has come to half a circle behind it.
fn far_behind() -> (Gate, i64) {
    let mut gate = Gate::default();
    gate.seal(1, table(100));
    let mut at = 101;
    while at < 100 + HALF + 10 {
        write(&mut gate, at);
        at += 1 << 28;
    }
    (gate, 100 + HALF + 10)
}

#[test]
fn half_a_circle_behind_the_seal_a_new_batch_is_not_taken_for_an_old_one() {
    let (mut gate, at) = far_behind();
    for at in (at..at + 2 * HALF + 1_000).step_by(1 << 25) {
        write(&mut gate, at);
    }
    // And the next seal's table does not bring the old entry back, unless it is about this producer.
    gate.seal(2, table(100));
    assert_eq!(gate.judge(&stamp(at), NOW), Verdict::Forward);
    gate.seal(3, table(at));
    assert_eq!(gate.judge(&stamp(at), NOW), Verdict::Acknowledge(None));
}

#[test]
fn near_the_seal_a_retry_stays_a_retry() {
    let mut gate = Gate::default();
    gate.seal(1, table(100));
    for at in 101..200 {
        write(&mut gate, at);
        assert_eq!(gate.judge(&stamp(100), NOW), Verdict::Acknowledge(None));
    }
}

#[test]
fn a_new_process_asks_how_far_a_producer_has_come() {
    let restored = || {
        let mut gate = Gate::default();
        gate.restore(1, table(100));
        gate
    };
    let old = stamp(100);
    let far = 100 + HALF + 10;
    // (what the open side says, when, the batch, the verdict)
    let cases = [
        (None, NOW, old, Verdict::Acknowledge(None)),
        (Some(sealed(150)), NOW, old, Verdict::Acknowledge(None)),
        (Some(sealed(150)), NOW, stamp(151), Verdict::Forward),
        (Some(sealed(far)), NOW, stamp(far + 1), Verdict::Forward),
        (Some(sealed(100 + 2 * HALF - 5)), NOW, stamp(100 + 2 * HALF - 4), Verdict::Forward),
        // Forgotten there after a day without a record, as on one cluster.
        (None, NOW + 2 * DAY, stamp(far + 1), Verdict::Forward),
    ];
    for (said, now, batch, verdict) in cases {
        let mut gate = restored();
        if gate.judge(&batch, now) != Verdict::Ask {
            assert_eq!((batch, verdict), (stamp(151), Verdict::Forward), "only what lies far ahead needs no question");
        }
        gate.asks(PID);
        assert_eq!(gate.judge(&old, now), Verdict::Wait);
        gate.known(PID, said, now);
        assert_eq!(gate.judge(&batch, now), verdict, "{said:?}, {batch:?}");
    }
}

#[test]
fn a_question_without_an_answer_refuses_one_batch_and_is_asked_again() {
    for batch in [stamp(99), stamp(105)] {
        let mut gate = Gate::default();
        gate.restore(1, table(100));
        for _ in 0..3 {
            assert_eq!(gate.judge(&batch, NOW), Verdict::Ask);
            gate.asks(PID);
            assert_eq!(gate.judge(&batch, NOW), Verdict::Wait);
            gate.not_answered(PID);
            assert_eq!(gate.judge(&batch, NOW), Verdict::Later);
            gate.refused(PID);
        }
    }
}

#[test]
fn nobody_is_stirred_for_a_producer_that_the_open_side_knows() {
    let mut gate = Gate::default();
    gate.seal(1, table(100));
    let mut done = |at| {
        gate.forwarded(&stamp(at), NOW);
        gate.answered(&stamp(at), Outcome::Appended(None), NOW)
    };
    assert!(done(101), "what is behind the head waits for it");
    assert!(!done(102));
}

const A: At = (Side::Source, 1);
const B: At = (Side::Source, 2);

fn key() -> Key {
    ("moved".into(), 0, PID)
}

#[test]
fn what_is_behind_a_refused_head_comes_after_it() {
    let mut order = Order::default();
    for at in 0..3 {
        assert_eq!(order.refuses(&key(), &stamp(at), A), None);
        order.forwarded(&key(), &stamp(at), A);
    }
    for at in 0..3 {
        order.refused(&key(), &stamp(at), 6);
        order.answered(&key(), &stamp(at), A);
    }
    for at in 1..5 {
        assert_eq!(order.refuses(&key(), &stamp(at), B), Some(6));
    }
    assert_eq!(order.refuses(&key(), &Stamp { epoch: 1, ..stamp(0) }, B), None, "begun anew");
    for at in 0..5 {
        assert_eq!(order.refuses(&key(), &stamp(at), B), None);
        order.forwarded(&key(), &stamp(at), B);
    }
}

#[test]
fn a_good_batch_behind_a_bad_one_gets_a_code_with_which_it_is_sent_again() {
    for (head, behind) in [(10, 6), (87, 6), (6, 6), (19, 19), (56, 56)] {
        let mut order = Order::default();
        order.refused(&key(), &stamp(0), head);
        assert_eq!(order.refuses(&key(), &stamp(1), A), Some(behind));
    }
}

#[test]
fn a_batch_does_not_overtake_one_that_another_broker_still_has() {
    let mut order = Order::default();
    order.forwarded(&key(), &stamp(0), A);
    assert_eq!(order.refuses(&key(), &stamp(1), B), Some(6));
    order.answered(&key(), &stamp(0), A);
    assert_eq!(order.refuses(&key(), &stamp(2), B), Some(6), "nor one that was refused for that");
    assert_eq!(order.refuses(&key(), &stamp(1), B), None);
    order.forwarded(&key(), &stamp(1), B);
    // Sent again while the first copy is still with a broker that says nothing.
    assert_eq!(order.refuses(&key(), &stamp(1), A), None);
    order.forwarded(&key(), &stamp(1), A);
    assert_eq!(order.refuses(&key(), &stamp(2), A), None);
}

#[test]
fn a_batch_that_is_stored_ends_all_waiting_for_its_copies() {
    // Sent again to another broker while the first says nothing: what comes behind it goes on.
    let mut order = Order::default();
    order.forwarded(&key(), &stamp(0), A);
    order.forwarded(&key(), &stamp(0), B);
    order.stored(&key(), &stamp(0));
    assert_eq!(order.refuses(&key(), &stamp(1), B), None);
    // The late word of the first is no news.
    assert!(!order.is_awaited(&key(), &stamp(0), A));
    // Refused here, and then acknowledged as what the sealed side has.
    order.refused(&key(), &stamp(1), 6);
    assert_eq!(order.refuses(&key(), &stamp(2), A), Some(6));
    order.stored(&key(), &stamp(1));
    assert_eq!(order.refuses(&key(), &stamp(2), A), None);
    // A head behind it is still one.
    order.refused(&key(), &stamp(3), 6);
    order.stored(&key(), &stamp(2));
    assert_eq!(order.refuses(&key(), &stamp(4), A), Some(6));
}

const SETTLE: Duration = Duration::from_secs(10);

fn lost(pid: i64, at: i64, size: usize, at_ms: i64) -> Unknown {
    let stamp = Stamp { pid: VirtualPid(pid), ..stamp(at) };
    Unknown { side: Side::Source, stamp, acks: -1, records: Bytes::from(vec![0; size]), at_ms }
}

fn listed(unknowns: &mut Unknowns, now: i64) -> Vec<(i64, i32)> {
    unknowns.list(now, SETTLE).iter().map(|b| (b.stamp.pid.0, b.stamp.first)).collect()
}

#[test]
fn a_producers_lost_batches_are_kept_together_in_order_or_not_at_all() {
    let mut unknowns = Unknowns::default();
    assert!(unknowns.keep(lost(1, 1, 10, 0), SETTLE));
    assert!(unknowns.keep(lost(1, 0, 10, 0), SETTLE));
    assert!(unknowns.keep(lost(2, 0, 10, 0), SETTLE));
    assert_eq!(listed(&mut unknowns, 0), [(1, 0), (1, 1), (2, 0)]);
    // No room for the next one of the first: none of it may be sent again.
    assert!(!unknowns.keep(lost(1, 2, 9 << 20, 1), SETTLE));
    assert!(!unknowns.keep(lost(1, 3, 10, 1), SETTLE));
    assert_eq!(listed(&mut unknowns, 1), [(2, 0)]);
    // Until nothing of it can land any more.
    assert!(unknowns.keep(lost(1, 4, 10, 20_000), SETTLE));
}

#[test]
fn a_lost_batch_is_as_old_as_its_last_copy_and_as_young_as_its_producers_last() {
    let mut unknowns = Unknowns::default();
    assert!(unknowns.keep(lost(1, 0, 10, 0), SETTLE));
    assert!(unknowns.keep(lost(1, 1, 10, 8_000), SETTLE));
    assert_eq!(listed(&mut unknowns, 15_000), [(1, 0), (1, 1)], "never the second without the first");
    assert!(unknowns.keep(lost(1, 0, 10, 16_000), SETTLE));
    assert_eq!(listed(&mut unknowns, 26_000), [(1, 0), (1, 1)]);
    unknowns.resolved(&lost(1, 0, 10, 0).stamp);
    assert_eq!(listed(&mut unknowns, 26_000), [], "the youngest is done with, and the other one too old");
}

fn producer(last_sequence: i32) -> ProducerState {
    ProducerState {
        producer_id: PID.0,
        producer_epoch: 0,
        last_sequence,
        last_timestamp: NOW,
        current_txn_start_offset: -1,
    }
}

fn reading(producers: Vec<ProducerState>) -> Reading {
    Reading {
        partition: TopicPartition::new("moved", 0),
        end: Native(10),
        end_again: Native(10),
        end_epoch: 3,
        stable: Native(10),
        high_watermark: Native(10),
        other_end: Native(0),
        other_high_watermark: Native(0),
        producers,
    }
}

fn held_against() -> Known {
    Known { map: SpliceMap::whole(Side::Source), visible: 10, other_end: Native(0), recent: vec![], mirror: None }
}

#[test]
fn an_open_transaction_makes_a_seam_late() {
    let open = ProducerState { current_txn_start_offset: 4, ..producer(-1) };
    let with = |producers, end_again| Reading { end_again: Native(end_again), ..reading(producers) };
    let judged = |reading: &Reading, known: &Known, wants| judge(reading, known, Side::Target, wants, NOW);
    let (now, late) = (reading(vec![producer(3), open]), with(vec![producer(3), open], 11));
    assert_eq!(judged(&now, &held_against(), Wants::Seam), Judged::Open { producer_id: 7 });
    // Its markers may come at any time: what is read is a bound from below.
    let Judged::Sealed { map, next, producers, .. } = judged(&late, &held_against(), Wants::LateSeam) else {
        panic!("a late seam")
    };
    assert!(map.is_late() && producers.iter().any(|p| p.pid == VirtualPid(7)));
    assert_eq!((map.tail_side(), map.open_side(), map.late_next()), (Side::Source, Side::Target, Some(next)));
    let behind = Known { visible: 11, ..held_against() };
    assert!(matches!(judged(&late, &behind, Wants::LateSeam), Judged::Again(_)), "a leader of before");
    let foreign = Reading { other_end: Native(1), ..reading(vec![]) };
    assert!(matches!(judged(&foreign, &held_against(), Wants::LateSeam), Judged::Refused(_)));
    // Its place: when nothing is open any more, and all of it is there.
    let known = Known { map, ..held_against() };
    assert_eq!(judged(&now, &known, Wants::LateEnd), Judged::Open { producer_id: 7 });
    assert!(matches!(judged(&with(vec![producer(3)], 11), &known, Wants::LateEnd), Judged::Again(_)));
    let grown = Reading { other_end: Native(500), ..reading(vec![producer(9)]) };
    let Judged::Sealed { map, end, next, .. } = judged(&grown, &known, Wants::LateEnd) else { panic!("a seam") };
    assert_eq!((end, next, map.has_seam(), map.seals()), (Native(10), Native(0), true, 1));
}

#[test]
fn a_transactional_ids_producer_is_known_by_the_side_that_it_is_at_home_on() {
    let homes = std::sync::Arc::new(TransactionalHomes::default());
    assert_eq!((homes.of("tx"), homes.native("tx", (7, 2))), (Side::Source, Some((7, 2))));
    assert_eq!(homes.native("tx", (VirtualPid::issued(Side::Target, 7).0, 2)), None);
    let client = (VirtualPid(7), 2);
    let home = TransactionalIdHome { side: Side::Target, client, native: (31, 0), fenced: false, at_ms: NOW };
    homes.set("tx", home);
    assert_eq!(
        (homes.of("tx"), homes.to_fence("tx"), homes.any_on(Side::Target)),
        (Side::Target, Some(Side::Source), true)
    );
    assert_eq!(homes.native("tx", (7, 2)), Some((31, 0)));
    assert_eq!(homes.native("tx", (7, 1)), None, "a zombie of before");
    // Initialised again it has what the target calls it.
    assert_eq!(homes.native("tx", (VirtualPid::issued(Side::Target, 31).0, 1)), Some((31, 1)));
    assert_eq!(homes.native("tx", (-1, -1)), Some((-1, -1)));
    homes.fenced("tx");
    assert_eq!(homes.to_fence("tx"), None);
    let claim = homes.claim("tx").expect("nobody has it");
    assert!(homes.claim("tx").is_none() && homes.claim("another").is_some());
    assert!(homes.share("tx").is_none());
    drop(claim);
    let shared = [homes.share("tx"), homes.share("tx")];
    assert!(shared.iter().all(Option::is_some) && homes.claim("tx").is_none());
    drop(shared);
    assert!(homes.claim("tx").is_some());
}

#[test]
fn who_writes_in_transactions_is_remembered_for_a_while() {
    let seen = Transactions::default();
    let (a, b): (TopicName, TopicName) = ("a".into(), "b".into());
    seen.writes("one", VirtualPid(1), &a, NOW);
    seen.writes("two", VirtualPid(2), &b, NOW);
    let of_a = |now| seen.writers(|topic| **topic == *"a", now).into_keys().collect::<Vec<_>>();
    assert_eq!(of_a(NOW + LAPSE_MS), ["one"]);
    assert_eq!(of_a(NOW + LAPSE_MS + 1), [""; 0]);
    seen.writes("one", VirtualPid(1), &a, NOW + 10);
    assert_eq!(of_a(NOW + LAPSE_MS + 10), ["one"]);
}

#[test]
fn writers_beyond_the_memory_count_without_a_name() {
    let seen = Transactions::default();
    let topic: TopicName = "t".into();
    for n in 0..10_000 {
        seen.writes(&format!("id-{n}"), VirtualPid(n), &topic, NOW);
    }
    let another: TopicName = "another".into();
    seen.writes("late", VirtualPid(10_000), &another, NOW);
    let writers = seen.writers(|t| *t == another, NOW);
    assert_eq!(writers.keys().collect::<Vec<_>>(), [""]);
    // Whoever has stopped makes room.
    seen.writes("late", VirtualPid(10_000), &another, NOW + LAPSE_MS + 1);
    assert_eq!(seen.writers(|t| *t == another, NOW + LAPSE_MS + 1).keys().next_back().unwrap(), "late");
}

#[test]
fn what_a_transaction_carries_goes_with_it() {
    let seen = Transactions::default();
    assert!(!seen.has_none("tx") && seen.ended("tx").is_empty());
    seen.carries("tx", "g", NOW);
    seen.refused("tx", NOW);
    assert!(seen.has_none("tx"));
    seen.began("tx");
    assert!(!seen.has_none("tx"));
    assert_eq!(seen.ended("tx").into_iter().collect::<Vec<_>>(), ["g"]);
    assert!(seen.ended("tx").is_empty());
}

#[test]
fn a_later_seals_entry_takes_an_earlier_ones_place_however_far_it_has_come() {
    let entry = |at: i64| {
        let Sealed { epoch, last_sequence } = sealed(at);
        SealedProducer { pid: PID, epoch, last_sequence, base_offset: None, at_ms: NOW }
    };
    let earlier = entry(100);
    for at in [101, 5_000, 100 + HALF - 1, 100 + HALF + 10, 100 + 2 * HALF - (1 << 21), 100 + 2 * HALF + 1] {
        assert!(entry(at).replaces(&earlier), "{at}");
    }
    for at in [100, 99, 50] {
        assert!(!entry(at).replaces(&earlier), "{at}");
    }
    assert!(SealedProducer { epoch: 1, ..entry(0) }.replaces(&earlier));
    assert!(!earlier.replaces(&SealedProducer { epoch: 1, ..entry(0) }));
}
