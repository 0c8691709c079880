//! Chains: what goes in comes out, big pieces as they were.

use bytes::Bytes;
use kafka_cutover::wire::{Chain, ChainWriter, WireError};
use proptest::prelude::*;

#[test]
fn a_frame_has_its_length_in_front_and_shares_what_is_big() {
    let big = Bytes::from(vec![7; 5000]);
    let mut out = ChainWriter::frame();
    out.put_i32(1);
    out.put_shared(big.clone());
    out.put_shared(Bytes::from_static(b"small"));
    out.put_i16(-2);
    let chain = out.finish().unwrap();
    let pieces: Vec<_> = chain.pieces().cloned().collect();
    assert_eq!(pieces.len(), 3);
    assert_eq!(&pieces[0][..], [0, 0, 0x13, 0x93, 0, 0, 0, 1], "4 + 5000 + 7 bytes follow the length");
    assert_eq!(pieces[1].as_ptr(), big.as_ptr(), "not copied");
    assert_eq!(&pieces[2][..], b"small\xff\xfe");
    assert_eq!(chain.len(), 8 + 5000 + 7);
    assert_eq!(chain.to_bytes().len(), chain.len());
}

#[test]
fn texts_and_numbers_as_kafka_writes_them() {
    let mut out = ChainWriter::new();
    out.put_str("ab", false);
    out.put_str("ab", true);
    out.put_opt_str(None, false);
    out.put_opt_str(None, true);
    out.put_uvarint(300);
    out.put_uvarint(u32::MAX);
    out.put_count(2, false);
    out.put_count(2, true);
    out.put_null(false);
    out.put_null(true);
    out.put_bool(true);
    out.put_i8(-1);
    out.put_i64(1);
    let expected = b"\0\x02ab\x03ab\xff\xff\0\xac\x02\xff\xff\xff\xff\x0f\0\0\0\x02\x03\xff\xff\xff\xff\0\x01\xff\0\0\0\0\0\0\0\x01";
    assert_eq!(&out.finish().unwrap().to_bytes()[..], expected);
}

#[test]
fn a_text_that_does_not_fit_fails_the_writer() {
    let long = "x".repeat(40_000);
    let mut out = ChainWriter::frame();
    out.put_str(&long, true);
    assert!(out.finish().is_ok());
    let mut out = ChainWriter::frame();
    out.put_str(&long, false);
    out.put_i32(1);
    assert_eq!(out.finish().unwrap_err(), WireError::TooLarge { len: 40_000, limit: 32_767 });
}

proptest! {
    #[test]
    fn pieces_and_advance(sizes in proptest::collection::vec(0usize..3000, 0..12), step in 1usize..2000) {
        let mut all = Vec::new();
        let mut out = ChainWriter::new();
        for (at, size) in sizes.into_iter().enumerate() {
            let piece = vec![at as u8; size];
            all.extend(&piece);
            if at % 3 == 0 { out.put_slice(&piece) } else { out.put_shared(piece.into()) }
        }
        let mut chain = out.finish().unwrap();
        prop_assert_eq!(chain.to_bytes(), &all[..]);
        prop_assert!(chain.pieces().all(|piece| !piece.is_empty()));
        let mut at = 0;
        while !chain.is_empty() {
            let left = chain.advance(step);
            prop_assert_eq!(left, step.saturating_sub(all.len() - at));
            at += step - left;
            prop_assert_eq!(chain.len(), all.len() - at);
            prop_assert_eq!(chain.to_bytes(), &all[at..]);
        }
        prop_assert_eq!(Chain::new().advance(step), step);
    }
}
