//! The frames of the goldens, cut short at every byte: an error or the end of the connection, and no more memory than the
//! frame has bytes. (Numbers in them that lie are in `system::hostile` and `wire::schema`.)

use allocation_counter::measure;
use bytes::Bytes;
use kafka_cutover::api::TABLE;
use kafka_cutover::wire::io::FIRST_READ;
use kafka_cutover::wire::{FrameError, FrameReader, frame};

use super::run::{Frame, decoded, heard};
use super::runs;

/// Beyond the frame: the text of an error, the count of who shares the frame's bytes, and what the few elements of a golden
/// weigh more than their bytes once Produce and Fetch have decoded them (all others are counted before they are decoded).
const BESIDES: u64 = 512;

/// What the connection makes of a frame from a client.
fn request(frame: &Bytes) -> Result<(), String> {
    let (key, version, _) = frame::peek(frame).ok_or("shorter than a head")?;
    let mut body = frame.clone();
    frame::request_head(&mut body).map_err(|e| e.to_string())?;
    decoded(key, version, body).map_err(|e| e.to_string())
}

/// What an upstream connection makes of one from a broker that was asked for this.
fn answer(key: i16, version: i16, frame: &Bytes) -> Result<(), String> {
    let mut body = frame.clone();
    frame::response_head(&mut body, key, version).map_err(|e| e.to_string())?;
    heard(key, version, body).map_err(|e| e.to_string())
}

fn name(frame: &Frame) -> String {
    let entry = TABLE.iter().find(|e| e.key as i16 == frame.key).expect("an API of the table");
    format!("{} v{}", entry.name, frame.version)
}

/// Whole it must be read, cut it must not; how many cuts there were.
fn cut(frame: &Frame, read: impl Fn(&Bytes) -> Result<(), String>) -> usize {
    assert_eq!(read(&frame.bytes), Ok(()), "{}", name(frame));
    for end in 0..frame.bytes.len() {
        let part = Bytes::copy_from_slice(&frame.bytes[..end]);
        let mut result = Ok(());
        let used = measure(|| result = read(&part));
        assert!(result.is_err(), "{}, {end} of {} bytes", name(frame), frame.bytes.len());
        let most = end as u64 + BESIDES;
        assert!(used.bytes_max <= most, "{}, {end} bytes: {} bytes allocated", name(frame), used.bytes_max);
    }
    frame.bytes.len()
}

#[test]
fn a_frame_cut_at_any_byte_is_an_error_and_takes_no_more_memory_than_it_has_bytes() {
    let (mut requests, mut answers) = (0, 0);
    for run in runs() {
        // What is not offered is refused by its head alone, or told so.
        let offered = |f: &Frame| TABLE.iter().any(|e| e.key as i16 == f.key && e.versions.contains(f.version));
        if offered(&run.request) {
            requests += cut(&run.request, request);
        }
        for frame in &run.answers {
            answers += cut(frame, |bytes| answer(frame.key, frame.version, bytes));
        }
    }
    assert!(requests > 10_000 && answers > 10_000, "{requests} and {answers} cuts");
}

#[test]
fn a_stream_that_ends_within_a_frame_is_cut() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for run in runs() {
        for frame in std::iter::once(&run.request).chain(&run.answers) {
            let length = frame.bytes.len() as i32;
            let whole = [&length.to_be_bytes()[..], &frame.bytes].concat();
            for end in 0..whole.len() {
                let mut read = None;
                let used = measure(|| {
                    let mut reader = FrameReader::new(&whole[..end], 1 << 20);
                    read = Some(runtime.block_on(reader.next()));
                });
                let cut = matches!(read, Some(Err(FrameError::Cut)));
                assert!(cut || end == 0 && matches!(read, Some(Ok(None))), "{}, {end} bytes: {read:?}", name(frame));
                let most = (FIRST_READ + end) as u64 + BESIDES;
                assert!(used.bytes_max <= most, "{}, {end} bytes: {} bytes allocated", name(frame), used.bytes_max);
            }
        }
    }
}
