//! InitProducerId (22), v0 to v5: a producer id for an idempotent producer, made virtual by who issued it
//! (DESIGN.md section 7). A transactional id is refused: transactions are not supported yet.

use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId, RequestKind, ResponseKind};
use tokio::time::Instant;

use super::{Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::ids::{Side, VirtualPid};

/// Asked again for this long, each time after a pause.
const TIME: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

pub struct InitProducerId {
    request: InitProducerIdRequest,
    side: Side,
    until: Option<Instant>,
}

impl InitProducerId {
    pub fn new(request: InitProducerIdRequest) -> Self {
        Self { request, side: Side::Source, until: None }
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
        match input {
            Input::Answers(mut answers) => match answers.pop() {
                Some(Ok(ResponseKind::InitProducerId(answer)))
                    if answer.error_code == code::COORDINATOR_LOAD_IN_PROGRESS =>
                {
                    // A broker that has no block of ids yet says so for a moment: clients would show it to their users.
                    self.later(cx)
                }
                Some(Ok(ResponseKind::InitProducerId(mut answer))) => {
                    if answer.error_code == code::NONE {
                        answer.producer_id = ProducerId(VirtualPid::issued(self.side, answer.producer_id.0).0);
                    }
                    Step::Answer(ResponseKind::InitProducerId(answer))
                }
                // Another broker does it as well; an id that was given and lost on the way is no loss.
                _ => self.later(cx),
            },
            _ => {
                if let Some(id) = &self.request.transactional_id {
                    tracing::warn!(transactional_id = %id.as_str(), "refused: transactions are not supported yet");
                    return Self::refuse(code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
                }
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
