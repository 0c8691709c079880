//! InitProducerId (22), v0 to v5: a producer id for an idempotent producer, made virtual by who issued it
//! (DESIGN.md section 7). A transactional id is refused: transactions are not supported yet.

use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId, RequestKind, ResponseKind};

use super::{Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::ids::{Side, VirtualPid};

/// Asked again this often, and after this long.
const MOST_TIMES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

pub struct InitProducerId {
    request: InitProducerIdRequest,
    side: Side,
    asked: u32,
}

impl InitProducerId {
    pub fn new(request: InitProducerIdRequest) -> Self {
        Self { request, side: Side::Source, asked: 0 }
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
                // A broker that has no block of ids yet says so for a moment: clients would show it to their users.
                Some(Ok(ResponseKind::InitProducerId(answer)))
                    if answer.error_code == code::COORDINATOR_LOAD_IN_PROGRESS && self.asked < MOST_TIMES =>
                {
                    Step::AwaitRoutes { newer_than: u64::MAX, deadline: cx.now + PAUSE }
                }
                Some(Ok(ResponseKind::InitProducerId(mut answer))) => {
                    if answer.error_code == code::NONE {
                        answer.producer_id = ProducerId(VirtualPid::issued(self.side, answer.producer_id.0).0);
                    }
                    Step::Answer(ResponseKind::InitProducerId(answer))
                }
                _ => Self::refuse(code::COORDINATOR_NOT_AVAILABLE),
            },
            _ => {
                if let Some(id) = &self.request.transactional_id {
                    tracing::warn!(transactional_id = %id.as_str(), "refused: transactions are not supported yet");
                    return Self::refuse(code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
                }
                self.asked += 1;
                // Either side's ids will do: a dead one keeps nobody from starting.
                self.side = if cx.topology.reachable(Side::Source) { Side::Source } else { Side::Target };
                // A client that names its old id only wants a greater epoch; what it names is virtual.
                let request = self.request.clone().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
                Step::Ask(vec![Ask::any(self.side, RequestKind::InitProducerId(request))])
            }
        }
    }
}
