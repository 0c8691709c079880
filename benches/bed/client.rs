//! A client that does next to nothing: frames are made before the clock runs, one blocking socket, answers are checked.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_cutover::embedded::batch;
use kafka_cutover::wire::chain::ChainWriter;
use kafka_cutover::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use kafka_cutover::wire::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use kafka_cutover::wire::{decode, encode, frame, produce};
use kafka_protocol::messages::{InitProducerIdRequest, ResponseKind};
use kafka_protocol::protocol::StrBytes;

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
const INIT_PRODUCER_ID: i16 = 22;
/// By name and flexible; the newest of which that holds.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
/// Tags of the partition, the topic and the request stand behind the records.
const BEHIND_RECORDS: usize = 3;

pub struct Client {
    stream: BufReader<TcpStream>,
    answer: Vec<u8>,
}

impl Client {
    pub fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream), answer: Vec::new() })
    }

    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(frame)?)
    }

    fn receive(&mut self) -> Result<()> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        self.answer.resize(usize::try_from(i32::from_be_bytes(len))?, 0);
        Ok(self.stream.read_exact(&mut self.answer)?)
    }

    fn body(&mut self, key: i16, version: i16) -> Result<Bytes> {
        self.receive()?;
        let mut body = Bytes::copy_from_slice(&self.answer);
        frame::response_head(&mut body, key, version)?;
        Ok(body)
    }

    /// The offset that the batch was given.
    pub fn produced(&mut self) -> Result<i64> {
        let answer = ProduceResponse::decode(self.body(PRODUCE, PRODUCE_VERSION)?, PRODUCE_VERSION)?;
        let part = answer.topics.first().and_then(|t| t.partitions.first()).context("no partition")?;
        ensure!(part.error_code == 0, "produce: error {} {:?}", part.error_code, part.error_message);
        Ok(part.base_offset)
    }

    /// An answer to a fetch of at least `least` bytes, unread: decoding a megabyte would be measured too.
    pub fn fetched(&mut self, least: usize) -> Result<()> {
        self.receive()?;
        ensure!(self.answer.len() >= least, "fetched {} bytes of {least}", self.answer.len());
        Ok(())
    }

    /// The same, read: where warming up shows that records really come.
    pub fn fetched_from(&mut self, offset: i64) -> Result<()> {
        let answer = FetchResponse::decode(self.body(FETCH, FETCH_VERSION)?, FETCH_VERSION)?;
        let part = answer.topics.first().and_then(|t| t.partitions.first()).context("no partition")?;
        ensure!(
            part.error_code == 0 && answer.error_code == 0,
            "fetch: error {} {}",
            answer.error_code,
            part.error_code
        );
        let records = part.records.to_bytes();
        let head = batch::Header::read(&records).context("no whole batch")?;
        ensure!(head.base_offset == offset, "asked for {offset}, got {}", head.base_offset);
        ensure!(batch::crc_of(&records[..head.size]) == head.crc, "the checksum is wrong");
        Ok(())
    }

    pub fn producer_id(&mut self) -> Result<(i64, i16)> {
        let version = 4;
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let mut out = head(INIT_PRODUCER_ID, version);
        encode::request(&request.into(), version, &mut out);
        self.send(&out.finish()?.to_bytes())?;
        match decode::response(INIT_PRODUCER_ID, version, self.body(INIT_PRODUCER_ID, version)?)? {
            ResponseKind::InitProducerId(answer) if answer.error_code == 0 => {
                Ok((answer.producer_id.0, answer.producer_epoch))
            }
            other => anyhow::bail!("{other:?}"),
        }
    }
}

fn head(key: i16, version: i16) -> ChainWriter {
    let mut out = ChainWriter::frame();
    frame::put_request_head(&mut out, key, version, 7, Some("bench"));
    out
}

/// One produce request to partition 0, to be sent again and again.
pub struct Produce {
    frame: Vec<u8>,
    batch_at: usize,
    batch_len: usize,
    /// `None`: not idempotent.
    next_sequence: Option<i32>,
}

impl Produce {
    pub fn new(topic: &str, value: usize, producer: Option<(i64, i16)>) -> Result<Self> {
        let records = one_record(value, producer);
        let batch_len = records.len();
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 30_000,
            topics: vec![ProduceTopic {
                name: StrBytes::from_string(topic.to_owned()),
                partitions: vec![ProducePartition { index: 0, records: records.into() }],
                ..ProduceTopic::default()
            }],
        };
        let mut out = head(produce::API_KEY, PRODUCE_VERSION);
        request.encode(PRODUCE_VERSION, &mut out);
        let frame = out.finish()?.to_bytes().to_vec();
        let batch_at = frame.len() - BEHIND_RECORDS - batch_len;
        Ok(Self { frame, batch_at, batch_len, next_sequence: producer.map(|_| 0) })
    }

    pub fn next(&mut self) -> &[u8] {
        if let Some(sequence) = &mut self.next_sequence {
            let batch = &mut self.frame[self.batch_at..self.batch_at + self.batch_len];
            batch[53..57].copy_from_slice(&sequence.to_be_bytes());
            let crc = batch::crc_of(batch);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
            *sequence += 1;
        }
        &self.frame
    }
}

/// A fetch of one batch of at most 1 MB.
pub fn fetch(topic: &str, offset: i64) -> Result<Bytes> {
    let limit = 1_040_000;
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: limit,
        topics: vec![FetchTopic {
            name: StrBytes::from_string(topic.to_owned()),
            partitions: vec![FetchPartition { fetch_offset: offset, max_bytes: limit, ..FetchPartition::default() }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let mut out = head(FETCH, FETCH_VERSION);
    request.encode(FETCH_VERSION, &mut out);
    Ok(out.finish()?.to_bytes())
}

/// A v2 batch (KIP-98) of one record.
fn one_record(value: usize, producer: Option<(i64, i16)>) -> Bytes {
    let mut record = BytesMut::new();
    for field in [0, 0, 0, -1] {
        varint(&mut record, field); // attributes, timestamp, offset, no key
    }
    varint(&mut record, value as i64);
    record.extend((0..value).map(|i| (i * 7 + i / 251) as u8));
    varint(&mut record, 0); // no headers
    let (pid, epoch) = producer.unwrap_or((-1, -1));
    let mut b = BytesMut::new();
    b.put_i64(0);
    b.put_i32(0);
    b.put_i32(-1);
    b.put_i8(2);
    b.put_u32(0);
    b.put_i16(0);
    b.put_i32(0);
    b.put_i64(1_700_000_000_000);
    b.put_i64(1_700_000_000_000);
    b.put_i64(pid);
    b.put_i16(epoch);
    b.put_i32(if producer.is_some() { 0 } else { -1 });
    b.put_i32(1);
    varint(&mut b, record.len() as i64);
    b.extend_from_slice(&record);
    let length = b.len() as i32 - 12;
    b[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = batch::crc_of(&b);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    b.freeze()
}

fn varint(out: &mut BytesMut, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
