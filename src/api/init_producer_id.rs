//! InitProducerId (22), v0 to v5: a producer id, made virtual by who issued it (DESIGN.md section 7). An idempotent producer
//! has it from any broker of either side; a transactional one from its id's coordinator, which is asked once: what it has
//! before (v3 and newer) is what it named, native.

use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId, RequestKind, ResponseKind};
use tokio::time::Instant;

use super::groups::lost_code;
use super::transactions::{ask_on, ended, native, note_error};
use super::{Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::ids::{Side, VirtualPid};
use crate::producers::homes::Claim;

/// Asked again for this long, each time after a pause.
const TIME: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

pub struct InitProducerId {
    request: InitProducerIdRequest,
    side: Side,
    until: Option<Instant>,
    /// Its transactional id does not move meanwhile.
    share: Option<Claim>,
}

/// The version from which on it knows PRODUCER_FENCED.
const KNOWS_FENCED: i16 = 4;

impl InitProducerId {
    pub fn new(request: InitProducerIdRequest) -> Self {
        Self { request, side: Side::Source, until: None, share: None }
    }

    /// By the coordinator of its transactional id.
    fn of_transactions(&mut self, cx: &Context<'_>, id: &str, input: Input) -> Step {
        let Input::Answers(answers) = input else {
            // Every client takes this for "in a moment".
            self.share = cx.shared.transactional_homes.share(id);
            if self.share.is_none() {
                return Self::refuse(code::CONCURRENT_TRANSACTIONS);
            }
            let named = (self.request.producer_id, self.request.producer_epoch);
            let (pid, epoch) = match native(cx, id, named, KNOWS_FENCED) {
                Ok(native) => native,
                Err(error) => return Self::refuse(error),
            };
            self.side = cx.shared.transactional_homes.of(id);
            let request = self.request.clone().with_producer_id(pid).with_producer_epoch(epoch);
            return Step::Ask(vec![ask_on(self.side, id, RequestKind::InitProducerId(request))]);
        };
        self.share = None;
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let Some(Ok(ResponseKind::InitProducerId(answer))) = answer else {
            note_error(cx, id, error);
            return Self::refuse(error);
        };
        note_error(cx, id, answer.error_code);
        if answer.error_code == code::NONE {
            // What it had open is aborted, or was committed and its answer lost.
            ended(cx, id);
        }
        self.shown(answer)
    }

    fn shown(&self, mut answer: InitProducerIdResponse) -> Step {
        if answer.error_code == code::NONE {
            answer.producer_id = ProducerId(VirtualPid::issued(self.side, answer.producer_id.0).0);
        }
        Step::Answer(ResponseKind::InitProducerId(answer))
    }

    /// Asked again, or given back in the one way that sends no client to look for a coordinator: an idempotent producer has none.
    fn later(&self, cx: &Context<'_>) -> Step {
        if self.until.is_some_and(|until| cx.now < until) {
            return Step::AwaitRoutes { newer_than: u64::MAX, deadline: cx.now + PAUSE };
        }
        Self::refuse(code::COORDINATOR_LOAD_IN_PROGRESS)
    }

    fn refuse(error: i16) -> Step {
        let answer = InitProducerIdResponse::default().with_error_code(error).with_producer_id(ProducerId(-1));
        Step::Answer(ResponseKind::InitProducerId(answer.with_producer_epoch(-1)))
    }
}

impl Machine for InitProducerId {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        if let Some(id) = self.request.transactional_id.clone() {
            return self.of_transactions(cx, &id, input);
        }
        match input {
            Input::Answers(mut answers) => match answers.pop() {
                Some(Ok(ResponseKind::InitProducerId(answer)))
                    if answer.error_code == code::COORDINATOR_LOAD_IN_PROGRESS =>
                {
                    // A broker that has no block of ids yet says so for a moment: clients would show it to their users.
                    self.later(cx)
                }
                Some(Ok(ResponseKind::InitProducerId(answer))) => self.shown(answer),
                // Another broker does it as well; an id that was given and lost on the way is no loss.
                _ => self.later(cx),
            },
            _ => {
                self.until.get_or_insert(cx.now + TIME);
                // Either side's ids will do: a dead one keeps nobody from starting.
                self.side = if cx.topology.reachable(Side::Source) { Side::Source } else { Side::Target };
                // A client that names its old id only wants a greater epoch; what it names is virtual.
                let request = self.request.clone().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
                Step::Ask(vec![Ask::any(self.side, RequestKind::InitProducerId(request))])
            }
        }
    }
}
