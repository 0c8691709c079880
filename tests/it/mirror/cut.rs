//! What is copied of fetched batches, and as what: read back by the decoder of another library.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_cutover::embedded::batch::{marker, place};
use kafka_cutover::ids::{NOffset, Native};
use kafka_cutover::mirror::codec::{self, Codec, CodecError};
use kafka_cutover::mirror::cut::{Aborted, Copy, Cut, cut};
use kafka_cutover::mirror::record::Writer;
use kafka_cutover::mirror::{Ledger, Run};
use kafka_cutover::wire::batch::produce_batch;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;

pub(super) const CODECS: [(Compression, Codec); 5] = [
    (Compression::None, Codec::None),
    (Compression::Gzip, Codec::Gzip),
    (Compression::Snappy, Codec::Snappy),
    (Compression::Lz4, Codec::Lz4),
    (Compression::Zstd, Codec::Zstd),
];
const WRITER: Writer = Writer { producer_id: 77, producer_epoch: 0, records: 0 };
const LOG_APPEND_TIME: i16 = 0x08;
const DELETE_HORIZON: i16 = 0x40;

/// What a record says, wherever it lies.
fn record(offset: i64) -> Record {
    let mut headers = IndexMap::new();
    headers.insert(StrBytes::from_static_str("h"), Some(Bytes::from(format!("{offset}"))));
    headers.insert(StrBytes::from_static_str("none"), None);
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 5,
        producer_id: 9,
        producer_epoch: 1,
        timestamp_type: TimestampType::Creation,
        offset,
        // So that its batch may have gaps.
        sequence: offset as i32,
        timestamp: 1_000 + offset * 7 % 5,
        key: (offset % 3 != 0).then(|| Bytes::from(format!("k{offset}"))),
        value: (offset % 5 != 0).then(|| Bytes::from("v".repeat(offset as usize % 50))),
        headers,
    }
}

fn batch_of(records: &[Record], (compression, codec): (Compression, Codec)) -> Bytes {
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    let compress = |from: &mut BytesMut, into: &mut BytesMut, _: Compression| {
        into.extend_from_slice(&codec.compress(from).unwrap());
        Ok(())
    };
    RecordBatchEncoder::encode_with_custom_compression(&mut out, records, &options, Some(compress)).unwrap();
    out.freeze()
}

pub(super) fn batch(offsets: &[i64], codec: (Compression, Codec)) -> Bytes {
    batch_of(&offsets.iter().map(|offset| record(*offset)).collect::<Vec<_>>(), codec)
}

/// The same batch with other attributes.
fn with(batch: &Bytes, more: i16) -> Bytes {
    let mut out = batch.to_vec();
    let attributes = i16::from_be_bytes([out[21], out[22]]) | more;
    out[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = kafka_cutover::embedded::batch::crc_of(&out);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

pub(super) const LIMIT: usize = 1 << 20;

fn cut_with(fetched: &Bytes, from: i64, aborted: &[Aborted], writer: Writer) -> Cut {
    let done = cut(fetched, Native(from), aborted, writer, LIMIT);
    assert!(done.failed.is_none(), "{:?}", done.failed);
    done
}

fn cut_all(fetched: &Bytes, from: i64) -> Cut {
    cut_with(fetched, from, &[], WRITER)
}

/// The records of the copy, each with the offset that it came from.
fn read(cut: &Cut, from: Writer) -> Vec<Record> {
    let (mut all, mut written) = (vec![], from.records);
    for copy in &cut.copies {
        let bytes: Bytes = copy.batch.concat().into();
        let head = produce_batch(&bytes).expect("a broker takes it");
        assert!(!head.is_transactional());
        assert_eq!((head.producer_id, head.producer_epoch, head.base_offset), (from.producer_id, 0, 0));
        assert_eq!((i64::from(head.base_sequence), i64::from(head.count)), (written & i64::from(i32::MAX), copy.count));
        written += copy.count;
        let decompress = |bytes: &mut Bytes, compression: Compression| {
            let (_, codec) = CODECS[compression as usize];
            Ok(Bytes::from(codec.decompress(bytes, 1 << 20)?))
        };
        let set = RecordBatchDecoder::decode_with_custom_compression(&mut bytes.clone(), Some(decompress)).unwrap();
        all.extend(set.records.into_iter().map(|mut record| {
            record.offset += copy.origin.0;
            record
        }));
    }
    all
}

/// What must be carried over.
type Said = (i64, i64, Option<Bytes>, Option<Bytes>, IndexMap<StrBytes, Option<Bytes>>);

fn said(records: &[Record]) -> Vec<Said> {
    let one = |r: &Record| (r.offset, r.timestamp, r.key.clone(), r.value.clone(), r.headers.clone());
    records.iter().map(one).collect()
}

fn expected(offsets: impl IntoIterator<Item = i64>) -> Vec<Said> {
    said(&offsets.into_iter().map(record).collect::<Vec<_>>())
}

#[test]
fn every_codec_reads_what_it_writes_and_no_more_than_it_may() {
    let text: Vec<u8> = (0..200_000u32).flat_map(|n| (n % 251).to_be_bytes()).collect();
    for (_, codec) in CODECS {
        let compressed = codec.compress(&text).unwrap();
        assert_eq!(codec.decompress(&compressed, text.len()).unwrap(), text, "{codec:?}");
        assert!(matches!(codec.decompress(&compressed, text.len() - 1), Err(CodecError::TooLong(_))), "{codec:?}");
        assert_eq!(codec.decompress(&codec.compress(&[]).unwrap(), 0).unwrap(), [0; 0], "{codec:?}");
        if codec != Codec::None {
            assert!(codec.decompress(&compressed[..compressed.len() / 2], 1 << 30).is_err(), "{codec:?}");
        }
    }
    // librdkafka writes one block of snappy, without what Java puts around several.
    let block = snap::raw::Encoder::new().compress_vec(&text).unwrap();
    assert_eq!(Codec::Snappy.decompress(&block, text.len()).unwrap(), text);
    assert!(matches!(Codec::of(5), Err(CodecError::Unknown(5))));
}

#[test]
fn a_whole_batch_goes_as_it_is() {
    for codec in CODECS {
        let offsets: Vec<i64> = (100..140).collect();
        let fetched = with(&batch(&offsets, codec), 0x10);
        let done = cut_all(&fetched, 100);
        assert_eq!((done.copies.len(), done.covered), (1, Native(140)));
        let body = &done.copies[0].batch[1];
        assert_eq!(body, &fetched[61..]);
        assert_eq!(body.as_ptr(), fetched[61..].as_ptr(), "nothing is copied");
        assert_eq!(said(&read(&done, WRITER)), expected(offsets));
    }
}

#[test]
fn a_batch_is_cut_at_every_gap_and_where_its_reader_begins() {
    for codec in CODECS {
        let fetched = batch(&[100, 101, 103, 104, 109], codec);
        let done = cut_all(&fetched, 0);
        let places: Vec<(i64, i64)> = done.copies.iter().map(|copy| (copy.origin.0, copy.count)).collect();
        assert_eq!((places, done.covered.0), (vec![(100, 2), (103, 2), (109, 1)], 110));
        assert_eq!(said(&read(&done, WRITER)), expected([100, 101, 103, 104, 109]));
        let done = cut_all(&fetched, 104);
        assert_eq!(said(&read(&done, WRITER)), expected([104, 109]));
        // Of a whole one, too.
        let done = cut_all(&batch(&[7, 8, 9], codec), 8);
        assert_eq!((said(&read(&done, WRITER)), done.covered.0), (expected([8, 9]), 10));
        let done = cut_all(&fetched, 110);
        assert_eq!((done.copies, done.covered), (vec![], Native(110)));
    }
}

#[test]
fn times_that_a_broker_has_set_stay_and_are_the_producers_now() {
    let fetched = with(&batch(&[0, 1, 2], CODECS[3]), LOG_APPEND_TIME);
    let records = read(&cut_all(&fetched, 0), WRITER);
    assert_eq!(records.iter().map(|r| r.timestamp).collect::<Vec<_>>(), [1_004; 3], "the batch's maximum");
    assert!(records.iter().all(|r| r.timestamp_type == TimestampType::Creation));
    // The first timestamp of such a batch is when its tombstones may go, and its records count from there all the same.
    let fetched = with(&batch(&[0, 1, 2], CODECS[0]), DELETE_HORIZON);
    let records = read(&cut_all(&fetched, 0), WRITER);
    assert!(records.iter().all(|r| !r.delete_horizon));
    assert_eq!(said(&records), expected(0..3));
}

#[test]
fn markers_and_what_was_aborted_stay_behind() {
    let of = |offsets: &[i64], producer_id: i64| {
        let one = |offset: &i64| Record { producer_id, transactional: true, ..record(*offset) };
        batch_of(&offsets.iter().map(one).collect::<Vec<_>>(), CODECS[0])
    };
    let end = |at: i64, producer_id: i64, commit: bool| {
        let mut bytes = marker((producer_id, 1), commit, 2_000).to_vec();
        place(&mut bytes, at, 5);
        bytes
    };
    let log = [
        of(&[0, 1], 1).to_vec(),
        of(&[2], 2).to_vec(),
        end(3, 1, false),
        batch(&[4], CODECS[0]).to_vec(),
        of(&[5, 6], 1).to_vec(),
        end(7, 2, true),
        end(8, 1, true),
        of(&[9], 1).to_vec(),
        end(10, 1, false),
    ];
    let fetched: Bytes = log.concat().into();
    let done = cut_with(&fetched, 0, &[(1, 0), (1, 9)], WRITER);
    assert_eq!((said(&read(&done, WRITER)), done.covered.0), (expected([2, 4, 5, 6]), 11));
    // From the midst, as an answer to that lists them.
    let done = cut_with(&fetched, 5, &[(1, 9)], WRITER);
    assert_eq!(said(&read(&done, WRITER)), expected([5, 6]));
}

/// A message of magic 0 or 1.
fn old(magic: i8, offset: i64, attributes: i8, (key, value): (Option<&[u8]>, Option<&[u8]>)) -> Vec<u8> {
    let mut out = vec![];
    out.put_i64(offset);
    let mut inner = vec![];
    inner.put_u32(0);
    inner.put_i8(magic);
    inner.put_i8(attributes);
    if magic == 1 {
        inner.put_i64(5_000 + offset);
    }
    for field in [key, value] {
        inner.put_i32(field.map_or(-1, |f| f.len() as i32));
        inner.extend_from_slice(field.unwrap_or_default());
    }
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &inner[4..]) as u32;
    inner[..4].copy_from_slice(&crc.to_be_bytes());
    out.put_i32(inner.len() as i32);
    [out, inner].concat()
}

#[test]
fn messages_of_the_formats_before_become_records() {
    let said = |fetched: Vec<u8>, from: i64| {
        let done = cut_all(&fetched.into(), from);
        let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|b| String::from_utf8(b.to_vec()).unwrap());
        let records = read(&done, WRITER);
        assert!(records.iter().all(|r| r.headers.is_empty()));
        records.iter().map(|r| (r.offset, r.timestamp, text(&r.key), text(&r.value))).collect::<Vec<_>>()
    };
    let (k, v) = (Some(&b"k"[..]), Some(&b"v"[..]));
    let (key, value) = (Some("k".to_owned()), Some("v".to_owned()));
    let plain = [old(0, 10, 0, (k, v)), old(0, 11, 0, (None, None)), old(0, 15, 0, (k, None))].concat();
    let all = [(10, -1, key.clone(), value.clone()), (11, -1, None, None), (15, -1, key.clone(), None)];
    assert_eq!(said(plain.clone(), 10), all);
    assert_eq!(said(plain.clone(), 11), all[1..]);
    let copies = cut_all(&plain.into(), 10).copies;
    assert_eq!(copies.iter().map(|c| c.count).collect::<Vec<_>>(), [2, 1], "what follows one another goes together");
    for (_, codec) in &CODECS[1..4] {
        let bits = codec.bits() as i8;
        // Absolute inside; then relative, the entry having the offset of its last message.
        let inner = [old(0, 10, 0, (k, v)), old(0, 12, 0, (None, v))].concat();
        let mut compressed = codec.compress(&inner).unwrap();
        if *codec == Codec::Lz4 {
            // As Java wrote it: the checksum of the frame's header is wrong.
            compressed[6] ^= 0x55;
            assert!(codec.decompress(&compressed, LIMIT).is_err());
            assert_eq!(codec::lz4_of_format_0(&compressed, LIMIT).unwrap(), inner);
        }
        let entry = old(0, 12, bits, (None, Some(&compressed)));
        assert_eq!(said(entry, 0), [(10, -1, key.clone(), value.clone()), (12, -1, None, value.clone())]);
        let inner = [old(1, 0, 0, (k, v)), old(1, 2, 0, (None, v))].concat();
        let inner = codec.compress(&inner).unwrap();
        let entry = old(1, 22, bits, (None, Some(&inner)));
        let both = [(20, 5_000, key.clone(), value.clone()), (22, 5_002, None, value.clone())];
        assert_eq!(said(entry, 0), both);
        let entry = old(1, 22, bits | LOG_APPEND_TIME as i8, (None, Some(&inner)));
        assert_eq!(said(entry, 21), [(22, 5_022, None, value.clone())]);
    }
}

#[test]
fn a_broken_batch_is_named_by_its_place() {
    let good = batch(&[30, 31], CODECS[0]).to_vec();
    let broken = |at: usize, mut bytes: Vec<u8>, bit: u8| {
        bytes[at] ^= bit;
        let done = cut(&[good.clone(), bytes].concat().into(), Native(0), &[], WRITER, LIMIT);
        assert_eq!((done.copies.len(), done.covered), (1, Native(32)), "what comes before it is good");
        done.failed.expect("an error").to_string()
    };
    let whole = batch(&[40, 42], CODECS[0]).to_vec();
    let last = whole.len() - 1;
    let wrong = "the batch at offset 40 of the origin cannot be copied: the checksum of a record batch is wrong";
    assert_eq!(broken(last, whole.clone(), 1), wrong);
    // It calls itself a control batch; it counts nothing; it is of an older format.
    assert_eq!(broken(22, whole.clone(), 0x20), wrong);
    assert_eq!(broken(60, whole.clone(), 2), wrong);
    assert_eq!(broken(16, whole.clone(), 3), wrong);
    let message = old(1, 40, 0, (None, Some(b"value")));
    assert_eq!(broken(message.len() - 1, message, 1), wrong);
    // One message of a compressed set is missing.
    let inner = [old(1, 0, 0, (None, None)), old(1, 1, 0, (None, None))].concat();
    let inner = Codec::Gzip.compress(&inner[..inner.len() - 1]).unwrap();
    let entry = old(1, 40, 1, (None, Some(&inner)));
    assert!(broken(0, entry, 0).contains("a compressed message set is empty, or ends early"));
    // And one that is too much.
    let long = batch(&[40, 42], CODECS[1]);
    let done = cut(&long, Native(0), &[], WRITER, 10);
    assert!(done.failed.unwrap().to_string().contains("more than 10 bytes"));
}

/// Batches of a log, by the offsets of each.
fn log() -> impl Strategy<Value = Vec<Vec<i64>>> {
    let one = (0i64..4, proptest::collection::vec(prop_oneof![4 => Just(1i64), 1 => 2i64..5], 1..12));
    proptest::collection::vec(one, 1..12).prop_map(|batches| {
        let mut next = 0;
        let mut all = vec![];
        for (gap, steps) in batches {
            next += gap;
            let offsets: Vec<i64> =
                steps.iter().scan(next, |at, step| Some(std::mem::replace(at, *at + step))).collect();
            next = offsets.last().unwrap() + 1;
            all.push(offsets);
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn wherever_it_begins_anew_it_cuts_the_same(log in log(), codec in 0usize..6, stop in any::<prop::sample::Index>()) {
        // One codec, or each its own.
        let of = |i: usize| CODECS[if codec < 5 { codec } else { i % 5 }];
        let fetched: Bytes = log.iter().enumerate().map(|(i, offsets)| batch(offsets, of(i)).to_vec()).collect::<Vec<_>>().concat().into();
        let whole = cut_all(&fetched, 0);
        prop_assert_eq!(said(&read(&whole, WRITER)), expected(log.concat()));
        let mut ledger = Ledger::new(Native(0), Native(0));
        for copy in &whole.copies {
            ledger.copied(copy.origin, copy.count).unwrap();
        }
        ledger.skipped(whole.covered).unwrap();
        prop_assert_eq!(ledger.runs().flat_map(|run: Run| run.origin.0..run.origin_end().0).collect::<Vec<_>>(), log.concat());
        // The copy's end tells where the next record is to come from, and which number it has.
        let written = stop.index(whole.copies.len() + 1);
        let records: i64 = whole.copies[..written].iter().map(|copy| copy.count).sum();
        let from: NOffset = ledger.to_origin(Native(records)).unwrap_or(whole.covered);
        let rest = cut_with(&fetched, from.0, &[], Writer { records, ..WRITER });
        // (Which bytes they are is another matter, where batches are packed.)
        let places = |copies: &[Copy]| copies.iter().map(|c| (c.origin, c.count)).collect::<Vec<_>>();
        prop_assert_eq!(places(&rest.copies), places(&whole.copies[written..]));
        let left: Vec<i64> = log.concat().into_iter().filter(|offset| *offset >= from.0).collect();
        prop_assert_eq!(said(&read(&rest, Writer { records, ..WRITER })), expected(left));
    }

    #[test]
    fn no_bytes_make_it_panic(log in log(), codec in 0usize..5, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut_at in any::<prop::sample::Index>()) {
        let mut fetched = log.iter().map(|offsets| batch(offsets, CODECS[codec]).to_vec()).collect::<Vec<_>>().concat();
        let at = at.index(fetched.len());
        fetched[at] = byte;
        // Its checksum is right all the same, if it is in the first batch.
        let first = kafka_cutover::embedded::batch::Header::read(&fetched).map_or(0, |head| head.size);
        if let Some(bytes) = fetched.get_mut(..first).filter(|bytes| bytes.len() > 21) {
            let crc = kafka_cutover::embedded::batch::crc_of(bytes);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        fetched.truncate(cut_at.index(fetched.len() + 1));
        let done = cut(&fetched.into(), Native(0), &[(9, 0)], WRITER, LIMIT);
        prop_assert!(done.copies.iter().all(|copy| copy.count > 0));
    }
}
