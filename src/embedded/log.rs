//! One partition's log: whole batches as they came, the offsets and epochs a broker gives them, and who waits for more.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError as E;
use tokio::sync::Notify;

use super::batch::{self, Header};
use super::producer_state::{ProducerStates, Remembered, Verdict};

/// A batch as a Fetch returns it.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    pub header: Header,
    pub bytes: Bytes,
}

pub struct Rules {
    pub max_message_bytes: usize,
    pub log_append_time: bool,
    pub timestamp_after_max_ms: i64,
    pub strict_first_sequence: bool,
}

#[derive(Debug)]
pub struct Appended {
    pub base_offset: i64,
    /// -1 unless the broker set it, or the batch is a duplicate (then the first one's newest timestamp, as `UnifiedLog` has it).
    pub log_append_time: i64,
}

pub struct Log {
    batches: VecDeque<StoredBatch>,
    pub start: i64,
    pub end: i64,
    /// Where the high watermark stands still, for tests; else it follows the end (replicas here are never behind).
    pub watermark_held_at: Option<i64>,
    pub producers: ProducerStates,
    /// Aborted transactions: producer id, first offset, the marker's.
    aborted: Vec<(i64, i64, i64)>,
    /// `(epoch, first offset of it)`: Kafka's `LeaderEpochFileCache`.
    epochs: Vec<(i32, i64)>,
    waiting: Vec<Arc<Notify>>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            batches: VecDeque::new(),
            start: 0,
            end: 0,
            watermark_held_at: None,
            producers: ProducerStates::default(),
            aborted: Vec::new(),
            epochs: vec![(0, 0)],
            waiting: Vec::new(),
        }
    }
}

impl Log {
    pub fn high_watermark(&self) -> i64 {
        self.watermark_held_at.map_or(self.end, |at| at.min(self.end))
    }

    /// All below it is committed or aborted.
    pub fn last_stable(&self) -> i64 {
        self.producers.first_open().map_or(i64::MAX, |open| open).min(self.high_watermark())
    }

    /// Aborted transactions with records from `from` to `upper`: producer id and first offset (`LogSegment.collectAbortedTxns`).
    pub fn aborted(&self, from: i64, upper: i64) -> Vec<(i64, i64)> {
        let reaches = |a: &&(i64, i64, i64)| a.2 >= from && a.1 < upper;
        self.aborted.iter().filter(reaches).map(|a| (a.0, a.1)).collect()
    }

    /// The end of a producer's transaction, as its coordinator has it written.
    pub fn mark(&mut self, producer: (i64, i16), commit: bool, leader_epoch: i32, now_ms: i64) {
        let open = self.producers.iter().find(|(pid, _)| **pid == producer.0).and_then(|(_, p)| p.open_transaction);
        let at = self.append_unchecked(batch::marker(producer, commit, now_ms), leader_epoch);
        if let (Some(first), Some(at), false) = (open, at, commit) {
            self.aborted.push((producer.0, first, at));
        }
    }

    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &StoredBatch> {
        self.batches.iter()
    }

    /// The order of the checks is `UnifiedLog.append`'s: the batch, its producer, then offsets.
    pub fn append(&mut self, records: Bytes, leader_epoch: i32, rules: &Rules, now_ms: i64) -> Result<Appended, E> {
        let header = Header::read(&records).ok_or(E::InvalidRecord)?;
        if header.size != records.len() || header.base_offset != 0 {
            return Err(E::InvalidRecord);
        }
        if header.size > rules.max_message_bytes {
            return Err(E::MessageTooLarge);
        }
        if batch::crc_of(&records) != header.crc {
            return Err(E::CorruptMessage);
        }
        let idempotent = header.producer_id >= 0;
        if header.is_control()
            || header.count <= 0
            || header.last_offset_delta != header.count - 1
            || (idempotent && header.base_sequence < 0)
        {
            return Err(E::InvalidRecord);
        }
        if !rules.log_append_time
            && (header.is_log_append_time()
                || header.max_timestamp.saturating_sub(now_ms) > rules.timestamp_after_max_ms)
        {
            return Err(E::InvalidTimestamp);
        }
        if idempotent && let Verdict::Duplicate(first) = self.producers.check(&header, rules.strict_first_sequence)? {
            let Remembered { base_offset, timestamp, .. } = first;
            return Ok(Appended { base_offset, log_append_time: timestamp });
        }
        let mut bytes = own(records);
        if rules.log_append_time {
            batch::stamp(&mut bytes, header.attributes, now_ms);
        }
        let base_offset = self.place(bytes, leader_epoch);
        if idempotent {
            let timestamp = if rules.log_append_time { now_ms } else { header.max_timestamp };
            self.producers.appended(&header, base_offset, timestamp);
        }
        Ok(Appended { base_offset, log_append_time: if rules.log_append_time { now_ms } else { -1 } })
    }

    /// Appends a batch without any check.
    pub fn append_unchecked(&mut self, records: Bytes, leader_epoch: i32) -> Option<i64> {
        let header = Header::read(&records).filter(|h| h.size == records.len())?;
        let base_offset = self.place(own(records), leader_epoch);
        if header.producer_id >= 0 {
            self.producers.appended(&header, base_offset, header.max_timestamp);
        }
        Some(base_offset)
    }

    fn place(&mut self, mut bytes: BytesMut, leader_epoch: i32) -> i64 {
        let base_offset = self.end;
        batch::place(&mut bytes, base_offset, leader_epoch);
        let bytes = bytes.freeze();
        let header = Header::read(&bytes).expect("both callers have read this header");
        self.end = header.last_offset() + 1;
        self.batches.push_back(StoredBatch { header, bytes });
        self.wake();
        base_offset
    }

    /// Batches from the one that holds `offset`, below `upper`, within `max_bytes`; `at_least_one` ignores the budget for the first.
    pub fn read(&self, offset: i64, upper: i64, max_bytes: usize, at_least_one: bool) -> Vec<Bytes> {
        let from = self.batches.partition_point(|b| b.header.last_offset() < offset);
        let (mut taken, mut size) = (Vec::new(), 0);
        for stored in self.batches.range(from..) {
            size += stored.bytes.len();
            let fits = size <= max_bytes || (at_least_one && taken.is_empty());
            if stored.header.last_offset() >= upper || !fits {
                break;
            }
            taken.push(stored.bytes.clone());
        }
        taken
    }

    /// Retention or DeleteRecords: whole batches below `offset` go; producers are remembered (KIP-360).
    pub fn set_start(&mut self, offset: i64) {
        self.start = offset.clamp(self.start, self.end);
        while self.batches.front().is_some_and(|b| b.header.last_offset() < self.start) {
            self.batches.pop_front();
        }
        let epoch = self.epoch_of(self.start);
        let start = self.start;
        self.epochs.retain(|&(_, from)| from > start);
        self.epochs.insert(0, (epoch, start));
        self.wake();
    }

    /// An unclean election: the new leader never had the batches from `offset` on.
    pub fn lose(&mut self, offset: i64) {
        while self.batches.back().is_some_and(|b| b.header.last_offset() >= offset) {
            self.batches.pop_back();
        }
        self.end = self.batches.back().map_or(self.start, |b| b.header.last_offset() + 1);
        self.wake();
    }

    /// A new leader begins its epoch at the end of the log; an epoch that wrote nothing leaves no trace.
    pub fn begin_epoch(&mut self, epoch: i32) {
        self.epochs.retain(|&(_, from)| from < self.end);
        self.epochs.push((epoch, self.end));
        self.wake();
    }

    pub fn epoch_of(&self, offset: i64) -> i32 {
        self.epochs.iter().rev().find(|&&(_, from)| from <= offset).map_or(-1, |&(epoch, _)| epoch)
    }

    /// `LeaderEpochFileCache.endOffsetFor`: `(-1, -1)` for an epoch this log has not come to.
    pub fn end_of_epoch(&self, wanted: i32) -> (i32, i64) {
        match self.epochs.last() {
            Some(&(latest, _)) if wanted == latest => return (latest, self.end),
            Some(&(latest, _)) if wanted >= 0 && wanted < latest => {}
            _ => return (-1, -1),
        }
        let above = self.epochs.partition_point(|&(epoch, _)| epoch <= wanted);
        let end = self.epochs[above].1;
        if above == 0 { (wanted, end) } else { (self.epochs[above - 1].0, end) }
    }

    /// The first record at or after `timestamp`: `(offset, timestamp)`. Exact for uncompressed batches; of a compressed one, its first record.
    pub fn by_timestamp(&self, timestamp: i64) -> Option<(i64, i64)> {
        let found = self.batches.iter().find(|b| b.header.max_timestamp >= timestamp)?;
        let header = &found.header;
        let exact = (!header.is_log_append_time())
            .then(|| batch::find_record(header, &found.bytes, |t| t >= timestamp))
            .flatten();
        let (offset, at) = exact.unwrap_or((
            header.base_offset,
            if header.is_log_append_time() { header.max_timestamp } else { header.base_timestamp.max(timestamp) },
        ));
        // Retention may have cut this batch in half.
        Some((offset.max(self.start), at))
    }

    /// The first record with the newest timestamp.
    pub fn max_timestamp(&self) -> Option<(i64, i64)> {
        let max = self.batches.iter().map(|b| b.header.max_timestamp).max()?;
        let found = self.batches.iter().find(|b| b.header.max_timestamp == max)?;
        let exact = batch::find_record(&found.header, &found.bytes, |t| t == max);
        Some(exact.unwrap_or((found.header.last_offset(), max)))
    }

    /// Rings `bell` at the next change of this log.
    pub fn wait(&mut self, bell: &Arc<Notify>) {
        self.waiting.retain(|w| Arc::strong_count(w) > 1);
        if !self.waiting.iter().any(|w| Arc::ptr_eq(w, bell)) {
            self.waiting.push(bell.clone());
        }
    }

    pub fn wake(&mut self) {
        for bell in self.waiting.drain(..) {
            bell.notify_one();
        }
    }
}

/// The last slice of a frame is changed in place, any other is copied once.
fn own(records: Bytes) -> BytesMut {
    records.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}
