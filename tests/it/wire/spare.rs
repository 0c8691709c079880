//! Allocations of large frames are kept, and only those.

use bytes::{Buf, Bytes, BytesMut};
use kafka_cutover::wire::spare::{MOST, SMALLEST, give, take};

fn frame(capacity: usize) -> Bytes {
    let mut frame = BytesMut::with_capacity(capacity);
    frame.extend_from_slice(&[7; 100]);
    frame.freeze()
}

#[test]
fn the_last_piece_of_a_frame_gives_its_allocation_back_whole() {
    let mut first = frame(SMALLEST);
    let address = first.as_ptr();
    let mut rest = first.split_off(40);
    give(first);
    assert!(take(SMALLEST).is_none(), "a piece is still in use");
    // As a writer leaves it: everything is written.
    let len = rest.len();
    rest.advance(len);
    give(rest);
    let mut again = take(SMALLEST).unwrap();
    assert!(again.is_empty());
    again.extend_from_slice(&[1]);
    assert_eq!((again.as_ptr(), again.capacity()), (address, SMALLEST));
    assert!(take(SMALLEST).is_none(), "it is given once");
}

#[test]
fn a_frame_gets_an_allocation_of_about_its_size() {
    give(frame(4 * SMALLEST));
    assert!(take(SMALLEST).is_none(), "four times its size");
    assert!(take(5 * SMALLEST).is_none(), "too small");
    assert!(take(3 * SMALLEST).is_some());
}

#[test]
fn what_is_small_or_shared_or_beyond_the_limit_is_not_kept() {
    give(frame(SMALLEST / 2));
    give(Bytes::from_static(&[0; 100]));
    assert!(take(SMALLEST / 2).is_none());
    for _ in 0..3 {
        give(frame(MOST / 2));
    }
    let kept = std::iter::from_fn(|| take(MOST / 2)).count();
    assert_eq!(kept, 2);
    give(frame(MOST + 1));
    assert!(take(MOST).is_none());
}
