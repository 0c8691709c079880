//! Heads of requests and answers against `kafka-protocol`'s, and frames through streams that give and take little.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_cutover::wire::schema::versions;
use kafka_cutover::wire::{
    Chain, ChainWriter, FrameError, FrameReader, WireError, peek, put_request_head, put_response_head, request_head,
    response_head, write_chains,
};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fn spoken() -> impl Iterator<Item = (i16, i16)> {
    (0..80)
        .filter_map(|key| versions(key).map(|all| (key, all)))
        .flat_map(|(key, all)| all.map(move |version| (key, version)))
}

#[test]
fn request_heads_of_every_api_and_version() {
    for (api_key, version) in spoken() {
        for client_id in [None, Some("client-1")] {
            let head = RequestHeader::default()
                .with_request_api_key(api_key)
                .with_request_api_version(version)
                .with_correlation_id(77)
                .with_client_id(client_id.map(StrBytes::from_static_str));
            let head_version = ApiKey::try_from(api_key).unwrap().request_header_version(version);
            let mut expected = BytesMut::new();
            head.encode(&mut expected, head_version).unwrap();

            let mut out = ChainWriter::new();
            put_request_head(&mut out, api_key, version, 77, client_id);
            assert_eq!(out.finish().unwrap().to_bytes(), expected, "{api_key} v{version}");

            if head_version >= 2 {
                // A tagged field that nobody knows, as a newer client may send.
                expected.truncate(expected.len() - 1);
                expected.put_slice(&[1, 9, 2, 0xaa, 0xbb]);
            }
            expected.put_slice(b"body");
            let mut frame = expected.clone().freeze();
            let read = request_head(&mut frame).unwrap();
            assert_eq!((read.api_key, read.api_version, read.correlation_id), (api_key, version, 77));
            assert_eq!(read.client_id.as_deref(), client_id);
            assert_eq!(frame, "body");
            for end in 0..expected.len() - 4 {
                let cut = expected.clone().freeze().slice(..end);
                let mut left = cut.clone();
                let error = request_head(&mut left).unwrap_err();
                assert!(matches!(error, WireError::Truncated | WireError::Count { .. }), "{api_key} v{version} {end}");
                assert_eq!(left, cut, "an error leaves the frame as it was");
            }
        }
    }
}

#[test]
fn answer_heads_of_every_api_and_version() {
    for (api_key, version) in spoken() {
        let head_version = ApiKey::try_from(api_key).unwrap().response_header_version(version);
        assert!(api_key != 18 || head_version == 0, "ApiVersions");
        let mut expected = BytesMut::new();
        ResponseHeader::default().with_correlation_id(-5).encode(&mut expected, head_version).unwrap();
        let mut out = ChainWriter::new();
        put_response_head(&mut out, api_key, version, -5);
        assert_eq!(out.finish().unwrap().to_bytes(), expected);
        expected.put_slice(b"body");
        let mut frame = expected.freeze();
        assert_eq!(response_head(&mut frame, api_key, version), Ok(-5));
        assert_eq!(frame, "body");
    }
}

#[test]
fn what_is_not_spoken_still_gives_its_correlation_id() {
    // ApiVersions v99, as a client of the future sends it first.
    let mut frame = Bytes::from_static(b"\0\x12\0\x63\0\0\0\x2a\0\x01c\0\x07future\0\0");
    let head = request_head(&mut frame).unwrap();
    assert_eq!(
        (head.api_key, head.api_version, head.correlation_id, head.client_id.as_deref()),
        (18, 99, 42, Some("c"))
    );
    let unknown = b"\x03\xe7\0\0\0\0\0\x2a\xff\xff";
    assert_eq!(peek(unknown), Some((999, 0, 42)));
    assert_eq!(peek(&unknown[..7]), None);
    let error = request_head(&mut Bytes::from_static(unknown)).unwrap_err();
    assert_eq!(error, WireError::Unsupported { api_key: 999, version: 0 });
    let mut out = ChainWriter::frame();
    put_response_head(&mut out, 999, 0, 42);
    assert_eq!(out.finish().unwrap_err(), error);
    let mut negative = Bytes::from_static(b"\0\x03\0\0\0\0\0\x2a\xff\xfe");
    assert_eq!(request_head(&mut negative).unwrap_err(), WireError::BadLength { len: -2 });
    let mut not_text = Bytes::from_static(b"\0\x03\0\0\0\0\0\x2a\0\x01\xff");
    assert_eq!(request_head(&mut not_text).unwrap_err(), WireError::Utf8);
}

/// Gives what it has in steps of so many bytes and pends between them; takes as little.
struct Slow {
    bytes: VecDeque<u8>,
    steps: Vec<usize>,
    turn: usize,
    largest_buffer: usize,
    flushed: bool,
}

impl Slow {
    fn new(bytes: &[u8], steps: Vec<usize>) -> Self {
        Self { bytes: bytes.iter().copied().collect(), steps, turn: 0, largest_buffer: 0, flushed: false }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        self.turn += 1;
        let step = self.steps[self.turn % self.steps.len()];
        if step == 0 {
            cx.waker().wake_by_ref();
        }
        (step > 0).then_some(step)
    }
}

impl AsyncRead for Slow {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.largest_buffer = self.largest_buffer.max(buf.remaining());
        let Some(step) = self.step(cx) else { return Poll::Pending };
        let n = step.min(buf.remaining()).min(self.bytes.len());
        let given: Vec<u8> = self.bytes.drain(..n).collect();
        buf.put_slice(&given);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(step) = self.step(cx) else { return Poll::Pending };
        let taken: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).take(step).collect();
        self.bytes.extend(&taken);
        self.flushed = false;
        Poll::Ready(Ok(taken.len()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().flat_map(|frame| [&(frame.len() as i32).to_be_bytes()[..], frame].concat()).collect()
}

proptest! {
    #[test]
    fn frames_come_out_as_they_were_sent(
        frames in proptest::collection::vec(prop_oneof![proptest::collection::vec(any::<u8>(), 4..40), proptest::collection::vec(any::<u8>(), 10_000..40_000)], 0..8),
        steps in proptest::collection::vec(prop_oneof![Just(0usize), 1usize..9, 1000usize..20_000], 1..6),
    ) {
        let steps = [steps, vec![3]].concat();
        let mut reader = FrameReader::new(Slow::new(&framed(&frames), steps), 50_000);
        let read = block_on(async {
            let mut read = Vec::new();
            loop {
                // Cancelled at every pending: what was read must not be lost.
                let next = tokio::select! {
                    biased;
                    next = reader.next() => next,
                    () = std::future::ready(()) => continue,
                };
                match next {
                    Ok(Some(frame)) => read.push(frame.to_vec()),
                    Ok(None) => break read,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn chains_are_written_whole_and_in_order(
        sizes in proptest::collection::vec(proptest::collection::vec(0usize..300, 0..100), 0..6),
        steps in proptest::collection::vec(0usize..700, 1..6),
    ) {
        let mut queue = VecDeque::new();
        let mut expected: Vec<u8> = Vec::new();
        for (n, sizes) in sizes.iter().enumerate() {
            let mut chain = Chain::new();
            for (at, size) in sizes.iter().enumerate() {
                let piece = vec![(n + at) as u8; *size];
                expected.extend(&piece);
                chain.push(piece.into());
            }
            queue.push_back(chain);
        }
        let mut stream = Slow::new(&[], [steps, vec![500]].concat());
        block_on(async {
            loop {
                tokio::select! {
                    biased;
                    done = write_chains(&mut stream, &mut queue) => break done,
                    () = std::future::ready(()) => {}
                }
            }
        }).unwrap();
        prop_assert!(queue.is_empty() && stream.flushed);
        prop_assert_eq!(Vec::from(stream.bytes), expected);
    }
}

#[test]
fn a_length_earns_no_memory() {
    let mut bytes = 50_000_000i32.to_be_bytes().to_vec();
    bytes.extend([1; 30_000]);
    let mut reader = FrameReader::new(Slow::new(&bytes, vec![100]), 100_000_000);
    assert!(matches!(block_on(reader.next()), Err(FrameError::Cut)));
    let largest = reader.get_ref().largest_buffer;
    assert!(largest <= 2 * 30_004 + 8192, "{largest}");
}

#[test]
fn lengths_that_cannot_be_end_the_stream() {
    for len in [-1, i32::MIN, i32::MAX, 0, 3, 101] {
        let mut reader = FrameReader::new(Slow::new(&len.to_be_bytes(), vec![9]), 100);
        let error = block_on(reader.next()).unwrap_err();
        assert!(matches!(error, FrameError::Length { len: found, limit: 100 } if found == len), "{error}");
    }
    for cut in [&[0u8, 0][..], &[0, 0, 0, 9, 1, 2]] {
        assert!(matches!(block_on(FrameReader::new(Slow::new(cut, vec![9]), 100).next()), Err(FrameError::Cut)));
    }
}

#[test]
fn a_big_frame_belongs_to_its_reader_alone() {
    let bytes = framed(&[vec![1; 20_000], vec![2; 9]]);
    let (first, second) = bytes.split_at(20_004);
    let mut reader = FrameReader::new(Slow::new(first, vec![50_000]), 100_000);
    let frame = block_on(reader.next()).unwrap().unwrap();
    assert!(frame.try_into_mut().is_ok(), "may be rewritten in place");
    reader.get_mut().bytes.extend(second);
    assert_eq!(block_on(reader.next()).unwrap().unwrap().len(), 9);
}

#[test]
fn a_large_frame_is_read_into_what_another_has_left() {
    let read = |byte: u8, step: usize| {
        let bytes = framed(&[vec![byte; 200_000]]);
        let frame = block_on(FrameReader::new(Slow::new(&bytes, vec![step]), 300_000).next()).unwrap().unwrap();
        assert_eq!(frame, vec![byte; 200_000]);
        frame
    };
    let first = read(1, 50_000);
    let place = first.as_ptr();
    let mut queue = VecDeque::from([Chain::from(first)]);
    block_on(write_chains(&mut io::Cursor::new(Vec::new()), &mut queue)).unwrap();
    let second = read(2, 3_000);
    assert_eq!(second.as_ptr(), place);
    assert_ne!(read(3, 3_000).as_ptr(), place, "while it is in use");
}

#[test]
fn a_stream_that_takes_nothing_is_an_error() {
    let mut queue = VecDeque::from([Chain::from(Bytes::from_static(b"x"))]);
    let error = block_on(write_chains(&mut io::Cursor::new(Box::<[u8]>::default()), &mut queue)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}
