//! Record batches: heads, what a producer may send, other offsets, other producer ids.

use bytes::Bytes;
use kafka_cutover::wire::batch::{BatchError, BatchHead};
use kafka_cutover::wire::{Rebased, WireError, batches, produce_batch, rebase, verify_crc, with_producer};
use proptest::prelude::*;

use super::made::{Made, crc32c, set};

fn joined(rebased: &Rebased) -> Vec<u8> {
    rebased.pieces.concat()
}

#[test]
fn a_head_is_read_as_kafka_lays_it_out() {
    let made = Made { base_offset: 40, attributes: 0x14, count: 3, producer: (9, 2, i32::MAX - 1), ..Made::default() };
    let bytes = made.v2();
    let head = BatchHead::parse(&bytes).unwrap();
    assert_eq!((head.base_offset, head.last_offset(), head.next_offset()), (40, 42, 43));
    assert_eq!((head.producer_id, head.producer_epoch, head.base_sequence), (9, 2, i32::MAX - 1));
    assert_eq!((head.base_timestamp, head.max_timestamp), (1_700_000_000_000, 1_700_000_000_009));
    assert_eq!((head.partition_leader_epoch, head.magic, head.count, head.compression()), (7, 2, 3, 4));
    assert_eq!(head.size(), bytes.len());
    assert_eq!(head.last_sequence(), 0, "2^31 - 2, 2^31 - 1, 0");
    assert!(head.is_transactional() && head.is_idempotent() && !head.is_control());
    assert_eq!(verify_crc(&bytes), Ok(()));
    assert_eq!(BatchHead::parse(&Made::default().v2()).unwrap().last_sequence(), -1);
}

/// Kafka's own arithmetic (`DefaultRecordBatch.incrementSequence`).
fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    if sequence > i32::MAX - increment { increment - (i32::MAX - sequence) - 1 } else { sequence + increment }
}

#[test]
fn what_a_producer_may_not_send() {
    let good = Made { producer: (5, 0, 0), ..Made::default() };
    assert!(produce_batch(&good.v2()).is_ok());
    let refused = |bytes: &[u8], error: BatchError, code: i16| {
        assert_eq!(produce_batch(bytes).map_err(|error| (error, error.kafka_code())), Err((error, code)));
    };
    refused(&[], BatchError::Empty, 87);
    refused(&good.v2()[..60], BatchError::Truncated, 2);
    refused(&good.v2()[..65], BatchError::Truncated, 2);
    refused(&[good.v2(), good.v2()].concat(), BatchError::MoreThanOne(68), 87);
    refused(&good.old(1), BatchError::Magic(1), 87);
    refused(&good.old(0), BatchError::Magic(0), 87);
    refused(&Made { attributes: 0x20, ..good.clone() }.v2(), BatchError::Control, 87);
    refused(&Made { producer: (5, 0, -1), ..good.clone() }.v2(), BatchError::Sequence, 87);
    let mut broken = good.v2();
    *broken.last_mut().unwrap() ^= 1;
    refused(&broken, BatchError::Crc, 2);
    let mut counted = good.v2();
    counted[60] = 4;
    refused(&counted, BatchError::Count { count: 4, span: 3 }, 87);
    let mut short = good.v2();
    short[8..12].copy_from_slice(&48i32.to_be_bytes());
    refused(&short, BatchError::Length(48), 2);
    let mut negative = good.v2();
    negative[23..27].copy_from_slice(&(-1i32).to_be_bytes());
    refused(&negative, BatchError::Count { count: 3, span: 0 }, 87);
    let mut future = good.v2();
    future[16] = 3;
    refused(&future, BatchError::Magic(3), 87);
}

#[test]
fn older_message_sets_are_walked_and_moved() {
    let entry = |magic, base_offset, attributes| Made { base_offset, attributes, ..Made::default() }.old(magic);
    let all = set(&[entry(1, 10, 0), entry(1, 14, 1), entry(0, 15, 0)]);
    let heads: Vec<_> = batches(&all).map(|batch| batch.unwrap().1).collect();
    assert_eq!(
        heads.iter().map(|head| (head.magic, head.base_offset)).collect::<Vec<_>>(),
        [(1, 10), (1, 14), (0, 15)]
    );
    assert_eq!((heads[0].max_timestamp, heads[2].max_timestamp), (1_600_000_000_000, -1));

    let same = rebase(all.clone(), 0, None).unwrap();
    assert_eq!(same.pieces.len(), 1);
    assert_eq!(same.pieces[0].as_ptr(), all.as_ptr(), "untouched");
    assert_eq!(same.next, Some(16));

    let moved = rebase(all, 100, Some(15)).unwrap();
    assert_eq!(joined(&moved), [entry(1, 110, 0), entry(1, 114, 1)].concat(), "only the offsets differ");
    assert_eq!((moved.next, moved.cut, moved.batches), (Some(15), true, 2));

    let compressed = set(&[entry(0, 15, 1)]);
    assert!(rebase(compressed.clone(), 0, None).is_ok());
    assert_eq!(rebase(compressed, 1, None).unwrap_err(), BatchError::CompressedMagic0);
}

#[test]
fn offsets_leave_neither_end_of_what_an_offset_can_be() {
    let at = |base_offset| set(&[Made { base_offset, ..Made::default() }.v2()]);
    assert_eq!(rebase(at(5), -6, None).unwrap_err(), BatchError::Offset);
    assert_eq!(rebase(at(5), i64::MAX - 6, None).unwrap_err(), BatchError::Offset);
    assert!(rebase(at(5), i64::MAX - 8, None).is_ok());
    assert_eq!(rebase(at(i64::MAX), 0, None).unwrap_err(), BatchError::Offset);
    assert!(rebase(at(5), -5, None).is_ok());
}

#[test]
fn one_owner_rewrites_in_place_and_sharers_share_bodies() {
    let made = Made { body: vec![9; 5000], ..Made::default() };
    let owned = set(&[made.v2()]);
    let place = owned.as_ptr();
    let moved = rebase(owned, 3, None).unwrap();
    assert_eq!((moved.pieces.len(), moved.pieces[0].as_ptr()), (1, place));

    let shared = set(&[made.v2()]);
    let moved_too = rebase(shared.clone(), 3, None).unwrap();
    assert_eq!(joined(&moved_too), joined(&moved));
    assert_eq!(moved_too.pieces.len(), 2);
    assert_eq!(moved_too.pieces[1].as_ptr(), shared[16..].as_ptr(), "the body was not copied");
    assert_eq!(shared, made.v2(), "what others see stays");
}

#[test]
fn a_batch_without_records_moves_too() {
    // Compaction leaves such: its offsets stay taken.
    let mut empty = Made { base_offset: 8, count: 5, body: Vec::new(), ..Made::default() }.v2();
    empty[57..61].copy_from_slice(&0i32.to_be_bytes());
    assert_eq!(rebase(set(&[empty]), 2, None).unwrap().next, Some(13));
}

fn made() -> impl Strategy<Value = Made> {
    let body =
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), proptest::collection::vec(any::<u8>(), 1000..2000)];
    (1..50i32, -1..9i32, 0..8i16, any::<bool>(), (-1..1000i64, -1..4i16, -1..=i32::MAX), body).prop_map(
        |(count, epoch, codec, transactional, producer, body)| Made {
            count,
            epoch,
            attributes: codec | i16::from(transactional) << 4,
            producer,
            body,
            ..Made::default()
        },
    )
}

fn log() -> impl Strategy<Value = Vec<Made>> {
    (0..100_000i64, proptest::collection::vec((made(), 0..3i64), 0..8)).prop_map(|(mut offset, log)| {
        let mut all = Vec::new();
        for (batch, gap) in log {
            offset += gap;
            let batch = Made { base_offset: offset, ..batch };
            offset += i64::from(batch.count);
            all.push(batch);
        }
        all
    })
}

proptest! {
    #[test]
    fn rebased_is_what_would_have_been_made_there(
        log in log(), delta in -200_000i64..200_000, end in proptest::option::of(0..100_200i64),
        cut in 0usize..60, shared in any::<bool>(),
    ) {
        let mut bytes = log.iter().map(Made::v2).collect::<Vec<_>>().concat();
        // A broker may cut the last batch off.
        let tail = Made { base_offset: 200_000, ..Made::default() }.v2();
        bytes.extend(&tail[..cut]);
        let kept: Vec<_> = log.iter().take_while(|batch| end.is_none_or(|end| batch.base_offset < end)).collect();
        let records = Bytes::from(bytes);
        let _other = shared.then(|| records.clone());
        let rebased = rebase(records, delta, end);
        if kept.iter().any(|batch| batch.base_offset + delta < 0) {
            prop_assert_eq!(rebased.unwrap_err(), BatchError::Offset);
        } else {
            let rebased = rebased.unwrap();
            let expected: Vec<_> = kept
                .iter()
                .map(|batch| Made { base_offset: batch.base_offset + delta, epoch: -1, ..(*batch).clone() }.v2())
                .collect();
            prop_assert_eq!(joined(&rebased), expected.concat());
            prop_assert_eq!(rebased.next, kept.last().map(|batch| batch.base_offset + i64::from(batch.count)));
            prop_assert_eq!(rebased.batches, kept.len());
            prop_assert_eq!(rebased.cut, kept.len() < log.len());
        }
    }

    #[test]
    fn another_producer_is_what_would_have_been_made_with_it(batch in made(), pid in 0..i64::MAX, epoch in 0..i16::MAX) {
        let records = Bytes::from(batch.v2());
        let rewritten = with_producer(&records, pid, epoch).unwrap();
        prop_assert_eq!(rewritten[1].as_ptr(), records[61..].as_ptr());
        let rewritten = rewritten.concat();
        let expected = Made { producer: (pid, epoch, batch.producer.2), ..batch }.v2();
        prop_assert_eq!(&rewritten, &expected);
        prop_assert_eq!(crc32c(&rewritten[21..]).to_be_bytes(), &rewritten[17..21]);
    }

    #[test]
    fn sequences_wrap_as_kafkas(base in 0..=i32::MAX, count in 1..=i32::MAX) {
        let mut batch = Made { producer: (1, 0, base), count, ..Made::default() }.v2();
        batch[57..61].copy_from_slice(&1i32.to_be_bytes());
        prop_assert_eq!(BatchHead::parse(&batch).unwrap().last_sequence(), increment_sequence(base, count - 1));
    }

    #[test]
    fn broken_bytes_never_panic(log in log(), flips in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 0..4), delta in any::<i64>(), end in proptest::option::of(any::<i64>()), len in any::<prop::sample::Index>()) {
        let mut bytes = log.iter().map(Made::v2).collect::<Vec<_>>().concat();
        if !bytes.is_empty() {
            for (at, flip) in flips {
                let at = at.index(bytes.len().min(130));
                bytes[at] ^= flip;
            }
            bytes.truncate(len.index(bytes.len() + 1));
        }
        let records = Bytes::from(bytes);
        let walked: usize = batches(&records).map_while(Result::ok).map(|(place, _)| place.len()).sum();
        prop_assert!(walked <= records.len());
        let _ = (produce_batch(&records), verify_crc(&records), with_producer(&records, 1, 9), BatchHead::parse(&records));
        let shared = rebase(records.clone(), delta, end).map(|rebased| joined(&rebased));
        prop_assert_eq!(rebase(records, delta, end).map(|rebased| joined(&rebased)), shared);
    }
}

#[test]
fn only_one_whole_batch_gets_another_producer_id() {
    let one = Made::default().v2();
    let two = set(&[one.clone(), one.clone()]);
    assert_eq!(with_producer(&two, 1, 9).unwrap_err(), BatchError::MoreThanOne(one.len()));
    assert_eq!(with_producer(&two.slice(..one.len() - 1), 1, 9).unwrap_err(), BatchError::Truncated);
    assert_eq!(with_producer(&Made::default().old(1).into(), 1, 9).unwrap_err(), BatchError::Magic(1));
}

#[test]
fn texts_of_errors_are_for_people() {
    assert_eq!(WireError::from(BatchError::Crc).to_string(), "the checksum of a record batch is wrong");
}
