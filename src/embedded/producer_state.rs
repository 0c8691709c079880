//! What a partition remembers of idempotent producers: Kafka's `ProducerStateManager` and `ProducerAppendInfo`.
//! A retry of one of the last five batches is answered with its first offset. Older than that is OUT_OF_ORDER_SEQUENCE_NUMBER:
//! no broker since 1.1 says DUPLICATE_SEQUENCE_NUMBER.

use std::collections::{BTreeMap, VecDeque};

use kafka_protocol::error::ResponseError as E;

use super::batch::Header;

/// `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`
const WINDOW: usize = 5;

#[derive(Clone, Debug)]
pub struct Remembered {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub timestamp: i64,
}

#[derive(Clone, Debug)]
pub struct Producer {
    pub epoch: i16,
    pub batches: VecDeque<Remembered>,
    /// Where it begins.
    pub open_transaction: Option<i64>,
}

impl Producer {
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |b| b.last_sequence)
    }
    pub fn last_timestamp(&self) -> i64 {
        self.batches.back().map_or(-1, |b| b.timestamp)
    }
}

pub enum Verdict {
    Append,
    Duplicate(Remembered),
}

#[derive(Default)]
pub struct ProducerStates {
    producers: BTreeMap<i64, Producer>,
}

impl ProducerStates {
    pub fn iter(&self) -> impl Iterator<Item = (&i64, &Producer)> {
        self.producers.iter()
    }

    /// Where the first open transaction begins.
    pub fn first_open(&self) -> Option<i64> {
        self.producers.values().filter_map(|p| p.open_transaction).min()
    }

    /// `strict`: an unknown producer must begin at 0. No broker asks that of an idempotent producer (PROTOCOL.md section 4).
    pub fn check(&self, batch: &Header, strict: bool) -> Result<Verdict, E> {
        let Some(known) = self.producers.get(&batch.producer_id) else {
            let fits = !strict || batch.base_sequence == 0;
            return if fits { Ok(Verdict::Append) } else { Err(E::OutOfOrderSequenceNumber) };
        };
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        if batch.producer_epoch == known.epoch
            && let Some(same) = known.batches.iter().find(|b| b.first_sequence == first && b.last_sequence == last)
        {
            return Ok(Verdict::Duplicate(same.clone()));
        }
        if batch.producer_epoch < known.epoch {
            return Err(E::InvalidProducerEpoch);
        }
        let expected =
            if batch.producer_epoch > known.epoch { 0 } else { known.last_sequence().wrapping_add(1) & i32::MAX };
        if first == expected { Ok(Verdict::Append) } else { Err(E::OutOfOrderSequenceNumber) }
    }

    pub fn appended(&mut self, batch: &Header, base_offset: i64, timestamp: i64) {
        let producer = self.producers.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            batches: VecDeque::new(),
            open_transaction: None,
        });
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if batch.is_control() {
            // A marker has no sequence.
            producer.open_transaction = None;
            return;
        }
        if batch.is_transactional() {
            producer.open_transaction = producer.open_transaction.or(Some(base_offset));
        }
        if producer.batches.len() == WINDOW {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset,
            timestamp,
        });
    }
}
