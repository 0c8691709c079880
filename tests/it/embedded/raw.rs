//! A client that sends one request at a time and hides nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_cutover::embedded::batch;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Raw {
    socket: TcpStream,
    correlation: i32,
}

impl Raw {
    pub async fn connect(address: &str) -> Self {
        Self { socket: TcpStream::connect(address).await.expect("the node listens"), correlation: 0 }
    }

    pub async fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some("raw".into()));
        let mut out = BytesMut::new();
        out.put_i32(0);
        header.encode(&mut out, R::header_version(version)).unwrap();
        request.encode(&mut out, version).unwrap();
        let length = out.len() as i32 - 4;
        out[..4].copy_from_slice(&length.to_be_bytes());
        self.socket.write_all(&out).await.unwrap();
    }

    /// The next frame; `None` if the connection has ended.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let length = self.socket.read_i32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.socket.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    pub async fn receive<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let mut frame = self.frame().await?;
        let header_version = R::Response::header_version(version);
        assert_eq!(frame.get_i32(), self.correlation);
        if header_version == 1 {
            assert_eq!(frame.get_u8(), 0, "no tagged fields in a header");
        }
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes after the answer", frame.len());
        Some(response)
    }

    pub async fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version).await;
        self.receive::<R>(version).await.expect("an answer, not the end of the connection")
    }

    /// A raw frame of any key and version.
    pub async fn send_header(&mut self, key: i16, version: i16) {
        self.correlation += 1;
        let mut out = BytesMut::new();
        out.put_i32(10);
        out.put_i16(key);
        out.put_i16(version);
        out.put_i32(self.correlation);
        out.put_i16(-1);
        self.socket.write_all(&out).await.unwrap();
    }
}

pub fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

#[derive(Clone, Copy)]
pub struct Plan {
    pub pid: i64,
    pub epoch: i16,
    pub sequence: i32,
    pub records: i32,
    pub timestamp: i64,
    pub attributes: i16,
    pub value_size: usize,
}

/// A plain batch of one record, to be changed with `..`.
pub const ONE: Plan =
    Plan { pid: -1, epoch: -1, sequence: -1, records: 1, timestamp: 1_000, attributes: 0, value_size: 1 };

pub fn idempotent(pid: i64, epoch: i16, sequence: i32, records: i32) -> Plan {
    Plan { pid, epoch, sequence, records, ..ONE }
}

fn varint(out: &mut BytesMut, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A v2 batch with a right CRC; record i has timestamp + i.
pub fn encode(plan: Plan) -> Bytes {
    let mut b = BytesMut::new();
    b.put_i64(0);
    b.put_i32(0);
    b.put_i32(-1);
    b.put_i8(2);
    b.put_u32(0);
    b.put_i16(plan.attributes);
    b.put_i32(plan.records - 1);
    b.put_i64(plan.timestamp);
    b.put_i64(plan.timestamp + i64::from(plan.records) - 1);
    b.put_i64(plan.pid);
    b.put_i16(plan.epoch);
    b.put_i32(plan.sequence);
    b.put_i32(plan.records);
    for i in 0..i64::from(plan.records) {
        let mut record = BytesMut::new();
        record.put_i8(0);
        varint(&mut record, i);
        varint(&mut record, i);
        varint(&mut record, -1);
        varint(&mut record, plan.value_size as i64);
        record.put_bytes(b'v', plan.value_size);
        varint(&mut record, 0);
        varint(&mut b, record.len() as i64);
        b.extend_from_slice(&record);
    }
    let length = b.len() as i32 - 12;
    b[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = batch::crc_of(&b);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    b.freeze()
}

pub fn produce(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest::default().with_acks(-1).with_timeout_ms(5_000).with_topic_data(vec![
        TopicProduceData::default().with_name(text(topic).into()).with_partition_data(vec![
            PartitionProduceData::default().with_index(partition).with_records(Some(records)),
        ]),
    ])
}

impl Raw {
    /// Error and base offset of one batch.
    pub async fn produce(&mut self, topic: &str, partition: i32, records: Bytes) -> (i16, i64) {
        let response = self.ask(&produce(topic, partition, records), 9).await;
        let part = &response.responses[0].partition_responses[0];
        (part.error_code, part.base_offset)
    }
}
