//! The mirror of one partition: what it has entered, sent and stored, and what the answers of both sides mean for it. Pure.
//!
//! Records are entered in the ledger before they are sent (see `ledger`). After anything that leaves it open which of them are
//! stored, the lane is lost: it asks where the copy ends, cuts its ledger back to that, and reads the origin again from there.
//! What may still arrive of before has the same sequence as what takes its place, so that a broker takes one of the two.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::cut::{Aborted, Copy, cut};
use super::ledger::Ledger;
use super::record::Writer;
use super::stop::Stop;
use crate::error::{code, is_retriable};
use crate::ids::{NOffset, Side, TopicPartition};

/// So long the end of the copy must have stood still before it is believed, if something may still arrive.
const STILL: Duration = Duration::from_secs(2);
/// A broker forgets a producer that has been silent for very long, and takes any sequence from one that it does not know: after so
/// long a silence one batch goes alone.
const SILENCE: Duration = Duration::from_mins(10);
/// Batches that are with the copy's leader, or about to be.
const WINDOW: usize = 64;
/// Nothing more is read while so many bytes wait to be sent.
const AHEAD: usize = 2 * 1024 * 1024;

/// Whose copy it is, and where it lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub partition: TopicPartition,
    /// The side that is copied.
    pub from: Side,
    /// The producer id that its batches carry.
    pub writer: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// Where the copy ends is to be asked.
    Lost {
        /// Something may still arrive.
        unsettled: bool,
        /// Where it ended, and since when.
        seen: Option<(NOffset, Instant)>,
    },
    Copying,
    /// It stays where it is: all that was sent has its answer.
    Halted,
    Stopped(Stop),
}

/// What a lane wants next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Where the copy ends.
    AskEnd,
    /// Where the origin begins and ends: it has not what was asked for.
    AskExtent,
    /// Committed records of the origin, from here on.
    Read(NOffset),
    /// An answer that is on its way, or somebody's word.
    Nothing,
}

/// Of a Fetch answer, what matters.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub error_code: i16,
    /// The last stable offset.
    pub readable: NOffset,
    pub aborted: Vec<Aborted>,
    pub records: Bytes,
}

/// What became of a batch: where it was stored, or Kafka's error code and message. `None`: nobody knows.
pub type Outcome = Option<Result<NOffset, (i16, String)>>;

#[derive(Debug)]
struct Sent {
    /// First offset of the origin, and of the copy.
    origin: NOffset,
    copy: NOffset,
}

#[derive(Debug)]
pub struct Lane {
    route: Route,
    ledger: Ledger,
    stage: Stage,
    /// Entered, not sent yet.
    to_send: VecDeque<Copy>,
    bytes_to_send: usize,
    /// Sent, without an answer.
    sent: VecDeque<Sent>,
    /// Where the next batch is to be stored.
    next_copy: NOffset,
    /// Up to here, exclusive, every record of the origin is stored in the copy or is not to be.
    mirrored: NOffset,
    /// The last answer that a batch was stored.
    stored_at: Option<Instant>,
    /// The origin has not what was asked for.
    is_out_of_range: bool,
    /// Where the origin's committed records end, as of the last answer.
    readable: Option<NOffset>,
    /// An end that it has not come to yet, and since when it is known.
    goal: Option<(NOffset, Instant)>,
    wants_halt: bool,
    /// The ledger was changed since it was last given to be written; what was given is durable.
    is_unwritten: bool,
    is_durable: bool,
    /// As the ledger was before it was cut back, until something was stored since: what was cut off may arrive all the same.
    before: Option<Ledger>,
    /// Bytes of one batch, decompressed.
    limit: usize,
}

impl Lane {
    /// `ledger`: as it was written, if there was an earlier process that did: what it has sent may still arrive. `limit`: bytes of
    /// one batch, decompressed.
    pub fn new(route: Route, ledger: Ledger, is_new: bool, limit: usize) -> Self {
        Self {
            route,
            stage: Stage::Lost { unsettled: !is_new, seen: None },
            to_send: VecDeque::new(),
            bytes_to_send: 0,
            sent: VecDeque::new(),
            next_copy: ledger.copy_end(),
            mirrored: ledger.start().0,
            stored_at: None,
            is_out_of_range: false,
            readable: None,
            goal: None,
            wants_halt: false,
            is_unwritten: true,
            is_durable: false,
            before: None,
            ledger,
            limit,
        }
    }

    pub fn route(&self) -> &Route {
        &self.route
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn stopped(&self) -> Option<&Stop> {
        match &self.stage {
            Stage::Stopped(stop) => Some(stop),
            _ => None,
        }
    }

    /// Up to here, exclusive, every record of the origin is known to be stored in the copy or not to be copied.
    pub fn mirrored(&self) -> NOffset {
        self.mirrored
    }

    /// Where the copy ends, if that is known and nothing is on its way.
    pub fn copy_end(&self) -> Option<NOffset> {
        let is_known = matches!(self.stage, Stage::Copying | Stage::Halted) && self.is_durable;
        (is_known && self.is_clear()).then(|| self.ledger.copy_end())
    }

    /// Nothing waits to be sent, or for an answer.
    pub fn is_clear(&self) -> bool {
        self.sent.is_empty() && self.to_send.is_empty()
    }

    /// Batches that were sent and have no answer.
    pub fn unanswered(&self) -> usize {
        self.sent.len()
    }

    /// Offsets that the origin has more, as far as is known.
    pub fn lag(&self) -> Option<i64> {
        self.readable.map(|end| end.0.saturating_sub(self.mirrored.0).max(0))
    }

    /// Since when the origin has had something that it has not, as far as is known.
    pub fn behind_since(&self) -> Option<Instant> {
        self.goal.map(|(_, since)| since)
    }

    /// More of the origin is there to be read already.
    pub fn has_more(&self) -> bool {
        self.readable.is_none_or(|end| self.ledger.covered() < end)
    }

    /// It stays where it is, and nothing is on its way.
    pub fn is_halted(&self) -> bool {
        self.stage == Stage::Halted && self.is_durable
    }

    pub fn next(&self) -> Next {
        match &self.stage {
            Stage::Lost { .. } if self.sent.is_empty() => Next::AskEnd,
            Stage::Copying if self.is_out_of_range => Next::AskExtent,
            Stage::Copying if !self.wants_halt && self.bytes_to_send < AHEAD => Next::Read(self.ledger.covered()),
            _ => Next::Nothing,
        }
    }

    /// It is to stay where it is as soon as what was sent has its answer, or to go on.
    pub fn halt(&mut self, halt: bool) {
        self.wants_halt = halt;
        if self.stage == Stage::Halted && !halt {
            self.stage = Stage::Lost { unsettled: false, seen: None };
        }
        self.settle_halt();
    }

    fn settle_halt(&mut self) {
        if !self.wants_halt || self.stage != Stage::Copying {
            return;
        }
        // What was not sent is not entered either, so that it is read again if it goes on.
        self.forget_unsent();
        self.back_to(self.next_copy);
        if self.sent.is_empty() {
            self.mirrored = self.ledger.covered();
            self.stage = Stage::Halted;
        }
    }

    fn back_to(&mut self, end: NOffset) {
        if end < self.ledger.copy_end() {
            self.before.get_or_insert_with(|| self.ledger.clone());
            self.ledger.back_to(end);
            self.changed();
        }
        self.next_copy = end;
    }

    fn forget_unsent(&mut self) {
        self.to_send.clear();
        self.bytes_to_send = 0;
    }

    fn changed(&mut self) {
        (self.is_unwritten, self.is_durable) = (true, false);
    }

    /// What was taken to be written is durable.
    pub fn written(&mut self) {
        self.is_durable = !self.is_unwritten;
    }

    /// Whether the ledger is to be written before anything else, and is taken to be from now on.
    pub fn take_unwritten(&mut self) -> bool {
        std::mem::take(&mut self.is_unwritten)
    }

    /// Where the copy ends, now: its log end, and what of it all its replicas have.
    pub fn ended(&mut self, end: NOffset, high_watermark: NOffset, now: Instant) {
        let Stage::Lost { unsettled, seen } = &mut self.stage else { return };
        if high_watermark < end {
            return;
        }
        if *unsettled {
            let since = seen.filter(|(at, _)| *at == end).map_or(now, |(_, since)| since);
            *seen = Some((end, since));
            if now.duration_since(since) < STILL {
                return;
            }
        }
        let known = self.ledger.copy_end();
        // What was cut off has arrived, late.
        if let (true, Some(before)) = (end > known, self.before.take_if(|before| end <= before.copy_end())) {
            self.ledger = before;
            self.changed();
        }
        let known = self.ledger.copy_end();
        if end > known {
            self.stop(Stop::foreign_writer(&self.route, end, known));
        } else if end < self.ledger.start().1 {
            self.stop(Stop::copy_lost(&self.route, end));
        } else {
            self.stage = Stage::Copying;
            self.stored_at = None;
            self.is_out_of_range = false;
            self.back_to(end);
            self.mirrored = self.ledger.covered();
            self.settle_halt();
        }
    }

    /// Committed records of the origin, from here on, were read.
    pub fn read(&mut self, from: NOffset, fetched: &Fetched, now: Instant) {
        if self.stage != Stage::Copying || self.wants_halt || from != self.ledger.covered() {
            return;
        }
        match fetched.error_code {
            code::NONE => {}
            code::OFFSET_OUT_OF_RANGE => {
                self.is_out_of_range = true;
                return;
            }
            error if is_retriable(error) => return,
            error => return self.stop(Stop::not_read(&self.route, error)),
        }
        self.readable = Some(fetched.readable);
        let writer = Writer { producer_id: self.route.writer, producer_epoch: 0, records: self.ledger.records() };
        let cut = cut(&fetched.records, from, &fetched.aborted, writer, self.limit);
        for copy in cut.copies {
            if let Err(error) = self.ledger.copied(copy.origin, copy.count) {
                return self.stop(Stop::no_ledger(&self.route, &error.to_string()));
            }
            self.bytes_to_send += copy.size();
            self.to_send.push_back(copy);
        }
        if cut.covered > self.ledger.covered()
            && let Err(error) = self.ledger.skipped(cut.covered)
        {
            return self.stop(Stop::no_ledger(&self.route, &error.to_string()));
        }
        if self.ledger.covered() > from {
            self.changed();
        }
        if let Some(error) = cut.failed {
            return self.stop(Stop::corrupt(&self.route, &error.to_string()));
        }
        self.got_on(now);
    }

    /// All that can be read from here on is nothing: what lay before the end of what is committed is gone (compaction takes last
    /// batches, too).
    pub fn read_to_the_end(&mut self, from: NOffset, readable: NOffset, now: Instant) {
        if self.stage == Stage::Copying && !self.wants_halt && from == self.ledger.covered() && readable > from {
            self.readable = Some(readable);
            if self.ledger.skipped(readable).is_ok() {
                self.changed();
            }
            self.got_on(now);
        }
    }

    fn got_on(&mut self, now: Instant) {
        let first = self.sent.front().map(|sent| sent.origin).or_else(|| self.to_send.front().map(|copy| copy.origin));
        self.mirrored = first.unwrap_or(self.ledger.covered());
        self.goal = self.goal.filter(|(goal, _)| self.mirrored < *goal);
        if let (None, Some(end)) = (self.goal, self.readable.filter(|end| self.mirrored < *end)) {
            self.goal = Some((end, now));
        }
    }

    /// The origin's log begins and ends here, and has not what was asked for.
    pub fn extent(&mut self, start: NOffset, end: NOffset) {
        if !std::mem::take(&mut self.is_out_of_range) || self.stage != Stage::Copying {
            return;
        }
        let at = self.ledger.covered();
        if at > end {
            self.stop(Stop::truncated(&self.route, at, end));
        } else if at < start && self.ledger.records() > 0 {
            self.stop(Stop::overtaken(&self.route, at, start));
        } else if at < start {
            // Nothing is copied yet: it begins where the origin begins now.
            self.ledger = Ledger::new(start, self.ledger.copy_end());
            self.changed();
        }
    }

    /// What is to be sent now: it was entered, and written.
    pub fn send(&mut self, now: Instant) -> Vec<Copy> {
        let mut out = vec![];
        if self.stage != Stage::Copying {
            return out;
        }
        let is_known = self.stored_at.is_some_and(|at| now.duration_since(at) < SILENCE);
        let window = if is_known { WINDOW } else { 1 };
        while self.sent.len() < window {
            let Some(copy) = self.to_send.pop_front() else { break };
            self.bytes_to_send -= copy.size();
            self.sent.push_back(Sent { origin: copy.origin, copy: self.next_copy });
            self.next_copy.0 += copy.count;
            out.push(copy);
        }
        out
    }

    /// What became of the batch that was sent first of those without an answer.
    pub fn stored(&mut self, outcome: Outcome, now: Instant) {
        let Some(sent) = self.sent.pop_front() else { return };
        // A record's number says where it is to be: anywhere else the copy is not what it is to be.
        if let Some(Ok(at)) = &outcome
            && at.0 >= 0
            && *at != sent.copy
        {
            return self.stop(Stop::foreign_writer(&self.route, *at, sent.copy));
        }
        if self.stage == Stage::Copying {
            match outcome {
                Some(Ok(at)) if at == sent.copy => {
                    self.stored_at = Some(now);
                    self.before = None;
                    self.got_on(now);
                }
                // It was there already, or is not: somebody of before was faster, or a leader has lost some.
                Some(Ok(_)) | Some(Err((code::DUPLICATE_SEQUENCE_NUMBER | code::OUT_OF_ORDER_SEQUENCE_NUMBER, _))) => {
                    self.lose(true);
                }
                Some(Err((error, _))) if is_retriable(error) => self.lose(false),
                Some(Err((error, message))) => self.stop(Stop::refused(&self.route, error, &message)),
                None => self.lose(true),
            }
        } else if outcome.is_none() {
            self.lose(true);
        }
        self.settle_halt();
    }

    /// It is no longer known what is stored.
    fn lose(&mut self, may_arrive: bool) {
        self.forget_unsent();
        match &mut self.stage {
            Stage::Copying | Stage::Halted => self.stage = Stage::Lost { unsettled: may_arrive, seen: None },
            Stage::Lost { unsettled, .. } => *unsettled |= may_arrive,
            Stage::Stopped(_) => {}
        }
    }

    pub fn stop(&mut self, stop: Stop) {
        self.forget_unsent();
        self.stage = Stage::Stopped(stop);
    }

    /// One that may have been mended is tried again.
    pub fn try_again(&mut self) {
        if self.stopped().is_some_and(|stop| stop.may_pass) {
            self.stage = Stage::Lost { unsettled: true, seen: None };
        }
    }
}
