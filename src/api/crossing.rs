//! How a transactional id gets to the other side (DESIGN.md section 7): on the first request of its producer that begins a
//! transaction there, which proves that it has the answer to its last EndTxn.
//!
//! Its coordinator of before is asked first: a transaction that is under way ends where it began, and a producer that is not
//! the id's present one is its to fence. Then the id is initialised on the new side, that is journalled, and the old side
//! fences whoever uses the id there. In this order a crash at any point leaves a producer that goes on: fenced before
//! it is journalled it would be a zombie to both.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{
    ApiKey, DescribeTransactionsRequest, InitProducerIdRequest, ProducerId, RequestKind, ResponseKind, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::beginning::Protocol;
use super::groups::lost_code;
use super::transactions::{ask_on, note_error_on};
use super::{Answers, Ask, Context, Input, Step};
use crate::error::{code, code_name, is_retriable};
use crate::ids::{NONE, Side, VirtualPid};
use crate::producers::homes::Claim;
use crate::store::{Decision, Event, MovedId};

/// Markers of its last transaction may still be written: asked again for this long, each time after a pause.
const TIME: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// One that has crossed already does not wait for long until its old side fences it.
const FENCE_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Crossing {
    id: String,
    from: Side,
    to: Side,
    /// What the client calls itself.
    client: (VirtualPid, i16),
    stage: Stage,
    until: Instant,
    timeout_ms: i32,
    native: (i64, i16),
    /// False: a transaction that begins now begins where the last one was.
    may_cross: bool,
    /// Nobody else moves it meanwhile, nor ends or initialises it.
    claim: Arc<Claim>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// What the old coordinator says of it.
    Describe,
    Initialise,
    Decide,
    Fence,
}

/// What is next.
#[allow(clippy::large_enum_variant, reason = "moved once, never stored")]
pub(super) enum Turn {
    Step(Step),
    /// Its transaction is under way on the side that it is at home on.
    Ongoing,
    /// It has none under way, and does not cross now.
    Stays,
    /// The coordinator there does not know it, or knows a later producer of its id.
    Unknown,
    /// It is at home on the new side, or was.
    Done,
    Refused(i16),
}

impl Crossing {
    /// `Err`: somebody else moves it.
    pub(super) fn new(cx: &Context<'_>, id: &str, client: (i64, i16)) -> Result<Self, i16> {
        let from = cx.shared.transactional_homes.of(id);
        Self::at(cx, id, client, (from, from.other()), Stage::Describe)
    }

    /// Whether the brokers say which transactions are under way (KIP-664).
    pub(super) fn is_offered(cx: &Context<'_>) -> bool {
        cx.shared.cluster.versions.ranges.contains_key(&(ApiKey::DescribeTransactions as i16))
    }

    /// Back to a side that it was on before it cannot with the first protocol: its producer's sequences go on, and a broker that
    /// knows the producer wants them from 0 with a new epoch.
    pub(super) fn is_possible(cx: &Context<'_>, id: &str, protocol: Protocol) -> bool {
        protocol == Protocol::Second || !cx.shared.transactional_homes.has_moved(id)
    }

    /// Its present transaction is all that matters.
    pub(super) fn staying(self, stays: bool) -> Self {
        Self { may_cross: !stays, ..self }
    }

    /// One that has moved, and whose producers of before may not be fenced on the side that it left.
    pub(super) fn to_fence(cx: &Context<'_>, id: &str, from: Side) -> Result<Self, i16> {
        let crossing = Self::at(cx, id, (NONE, -1), (from, from.other()), Stage::Fence)?;
        Ok(Self { until: cx.now + FENCE_TIME, ..crossing })
    }

    fn at(
        cx: &Context<'_>,
        id: &str,
        (pid, epoch): (i64, i16),
        (from, to): (Side, Side),
        stage: Stage,
    ) -> Result<Self, i16> {
        let claim = cx.shared.transactional_homes.claim(id).ok_or(code::CONCURRENT_TRANSACTIONS)?;
        Ok(Self {
            id: id.to_owned(),
            from,
            to,
            client: (VirtualPid(pid), epoch),
            stage,
            until: cx.now + TIME,
            timeout_ms: FENCING_TIMEOUT_MS,
            native: (NONE, -1),
            may_cross: true,
            claim: Arc::new(claim),
        })
    }

    pub(super) fn step(&mut self, cx: &Context<'_>, input: Input) -> Turn {
        match (self.stage, input) {
            (Stage::Describe, Input::Answers(answers)) => self.described(cx, answers),
            (Stage::Initialise, Input::Answers(answers)) => self.initialised(cx, answers),
            (Stage::Fence, Input::Answers(answers)) => self.fenced(cx, answers),
            (Stage::Decide, _) => self.decided(cx),
            _ => self.ask(),
        }
    }

    fn ask(&self) -> Turn {
        let ask: Ask = match self.stage {
            Stage::Describe => {
                let id = TransactionalId(StrBytes::from_string(self.id.clone()));
                let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id]);
                ask_on(self.from, &self.id, request.into())
            }
            Stage::Initialise | Stage::Decide => ask_on(self.to, &self.id, self.initialisation()),
            Stage::Fence => ask_on(self.from, &self.id, self.initialisation()),
        };
        Turn::Step(Step::Ask(vec![ask]))
    }

    fn initialisation(&self) -> RequestKind {
        let id = TransactionalId(StrBytes::from_string(self.id.clone()));
        let request = InitProducerIdRequest::default().with_transactional_id(Some(id));
        let request = request.with_producer_id(ProducerId(NONE)).with_producer_epoch(-1);
        request.with_transaction_timeout_ms(self.timeout_ms).into()
    }

    fn described(&mut self, cx: &Context<'_>, answers: Answers) -> Turn {
        let answer = answers.into_iter().next();
        let lost = lost_code(answer.as_ref());
        let Some(Ok(ResponseKind::DescribeTransactions(answer))) = answer else {
            note_error_on(cx, self.from, &self.id, lost);
            return Turn::Refused(lost);
        };
        let Some(found) = answer.transaction_states.into_iter().find(|t| *t.transactional_id.0 == *self.id) else {
            return Turn::Refused(code::COORDINATOR_NOT_AVAILABLE);
        };
        note_error_on(cx, self.from, &self.id, found.error_code);
        match found.error_code {
            code::NONE => {}
            code::TRANSACTIONAL_ID_NOT_FOUND => return Turn::Unknown,
            error @ (code::NOT_COORDINATOR
            | code::COORDINATOR_LOAD_IN_PROGRESS
            | code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED) => return Turn::Refused(error),
            _ => return Turn::Refused(code::COORDINATOR_NOT_AVAILABLE),
        }
        let present = (found.producer_id.0, found.producer_epoch);
        let (VirtualPid(pid), epoch) = self.client;
        let is_present = cx.shared.transactional_homes.native(&self.id, (pid, epoch)) == Some(present);
        match found.transaction_state.as_str() {
            // Its producer has a number by then that is not shown here yet, if its epochs have come to their end (KIP-890).
            "PrepareCommit" | "PrepareAbort" => self.again(cx),
            _ if !is_present => Turn::Unknown,
            "Ongoing" => Turn::Ongoing,
            "Empty" | "CompleteCommit" | "CompleteAbort" if !self.may_cross => Turn::Stays,
            "Empty" | "CompleteCommit" | "CompleteAbort" => {
                self.timeout_ms = found.transaction_timeout_ms;
                self.stage = Stage::Initialise;
                self.ask()
            }
            // It was taken away from its producer.
            _ => self.again(cx),
        }
    }

    fn again(&self, cx: &Context<'_>) -> Turn {
        if cx.now >= self.until {
            return Turn::Refused(code::CONCURRENT_TRANSACTIONS);
        }
        Turn::Step(Step::AwaitRoutes { newer_than: u64::MAX, deadline: cx.now + PAUSE })
    }

    fn initialised(&mut self, cx: &Context<'_>, answers: Answers) -> Turn {
        let answer = answers.into_iter().next();
        let lost = lost_code(answer.as_ref());
        let Some(Ok(ResponseKind::InitProducerId(answer))) = answer else {
            note_error_on(cx, self.to, &self.id, lost);
            return Turn::Refused(lost);
        };
        note_error_on(cx, self.to, &self.id, answer.error_code);
        match answer.error_code {
            code::NONE => {}
            // A transaction of that name was open there: it is being aborted.
            code::CONCURRENT_TRANSACTIONS => return self.again(cx),
            error @ (code::NOT_COORDINATOR
            | code::COORDINATOR_NOT_AVAILABLE
            | code::COORDINATOR_LOAD_IN_PROGRESS
            | code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED) => return Turn::Refused(error),
            error => {
                if cx.shared.alarms.is_first(format!("initialisation of {} on the {}: {error}", self.id, self.to)) {
                    tracing::error!(transactional_id = self.id, side = %self.to, error = code_name(error),
                        timeout_ms = self.timeout_ms, "a transactional producer cannot be taken over there: \
                        its transactions are refused until it can");
                }
                return Turn::Refused(code::TRANSACTION_ABORTABLE);
            }
        }
        self.native = (answer.producer_id.0, answer.producer_epoch);
        crate::crash_point!("crossing.initialised");
        self.stage = Stage::Decide;
        let moved =
            MovedId { id: self.id.clone(), to: self.to, client: self.client, native: self.native, at_ms: cx.now_ms };
        Turn::Step(Step::Decide(Box::new(Event::TransactionalIdMoved(moved)), Some(self.claim.clone())))
    }

    fn decided(&mut self, cx: &Context<'_>) -> Turn {
        crate::crash_point!("crossing.decided");
        cx.shared.metrics.transactional_ids_moved.increment(1);
        tracing::debug!(transactional_id = self.id, to = %self.to, "a transactional id has moved");
        self.stage = Stage::Fence;
        self.ask()
    }

    fn fenced(&mut self, cx: &Context<'_>, answers: Answers) -> Turn {
        let answer = answers.into_iter().next();
        let lost = lost_code(answer.as_ref());
        let error = match &answer {
            Some(Ok(ResponseKind::InitProducerId(answer))) => answer.error_code,
            _ => lost,
        };
        note_error_on(cx, self.from, &self.id, error);
        match error {
            code::NONE => {
                crate::crash_point!("crossing.fenced");
                cx.shared.transactional_homes.fenced(&self.id);
                let event = Event::TransactionalIdFenced { id: self.id.clone() };
                // Nothing waits for it: if it is lost, the id is fenced once more.
                drop(cx.shared.decisions.send(Decision { event, done: None, claim: None }));
                Turn::Done
            }
            // Markers of its last transaction are being written.
            code::CONCURRENT_TRANSACTIONS => self.again(cx),
            _ if is_retriable(error) && cx.now < self.until && cx.topology.reachable(self.from) => self.again(cx),
            // A side that is away, or does not allow it, stops nobody on the other one. One that is away is asked again with
            // the next transaction, once it is back.
            _ => {
                if !is_retriable(error) {
                    cx.shared.transactional_homes.fenced(&self.id);
                }
                if cx.shared.alarms.is_first(format!("fencing of {} on the {}", self.id, self.from)) {
                    tracing::warn!(transactional_id = self.id, side = %self.from, error = code_name(error),
                        "who uses this transactional id there without the proxy could not be fenced");
                }
                Turn::Done
            }
        }
    }
}

/// Of an id that is only fenced: it begins no transaction there.
const FENCING_TIMEOUT_MS: i32 = 60_000;
