//! AddOffsetsToTxn (25), v0 to v4: to the id's coordinator, its producer id native. The group's home is the id's: where the group
//! has moved, the id follows it with its next transaction (`following`), which may begin with this.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, RequestKind, ResponseKind};

use super::beginning::Protocol;
use super::following::{Following, Turn, is_behind};
use super::groups::lost_code;
use super::transactions::{KNOWS_FENCED, ask, native, note_error};
use super::{Context, Input, Machine, Step};
use crate::error::code;
use crate::producers::homes::Claim;

pub struct AddOffsetsToTxn {
    request: AddOffsetsToTxnRequest,
    following: Following,
    /// The id does not move before this has its answer.
    share: Option<Claim>,
}

/// The version from which on it knows TRANSACTION_ABORTABLE (KIP-890).
const KNOWS_ABORTABLE: i16 = 4;

impl AddOffsetsToTxn {
    pub fn new(request: AddOffsetsToTxnRequest) -> Self {
        Self { request, following: Following::default(), share: None }
    }

    fn refused(error: i16) -> Step {
        Step::Answer(AddOffsetsToTxnResponse::default().with_error_code(error).into())
    }

    fn start(&mut self, cx: &Context<'_>) -> Step {
        let id = self.request.transactional_id.as_str();
        if !is_behind(cx, id, &self.request.group_id) {
            return self.forward(cx);
        }
        let client = (self.request.producer_id.0, self.request.producer_epoch);
        let turn = self.following.start(cx, id, client, Protocol::First);
        self.follow(cx, turn)
    }

    fn follow(&mut self, cx: &Context<'_>, turn: Turn) -> Step {
        match turn {
            Turn::Step(step) => step,
            Turn::Go => self.forward(cx),
            Turn::Abort => {
                cx.shared.transactions.refused(&self.request.transactional_id, cx.now_ms);
                let knows = cx.version >= KNOWS_ABORTABLE;
                Self::refused(if knows { code::TRANSACTION_ABORTABLE } else { code::GROUP_AUTHORIZATION_FAILED })
            }
            Turn::Refused(error) => Self::refused(error),
        }
    }

    fn forward(&mut self, cx: &Context<'_>) -> Step {
        self.share = cx.shared.transactional_homes.share(&self.request.transactional_id);
        if self.share.is_none() {
            return Self::refused(code::CONCURRENT_TRANSACTIONS);
        }
        let named = (self.request.producer_id, self.request.producer_epoch);
        match native(cx, &self.request.transactional_id, named, KNOWS_FENCED) {
            Ok((pid, epoch)) => {
                let request = self.request.clone().with_producer_id(pid).with_producer_epoch(epoch);
                Step::Ask(vec![ask(cx, &self.request.transactional_id, RequestKind::AddOffsetsToTxn(request))])
            }
            Err(error) => Self::refused(error),
        }
    }
}

impl Machine for AddOffsetsToTxn {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let answers = match input {
            input if self.following.is_under_way() => {
                let turn = self.following.step(cx, input);
                return self.follow(cx, turn);
            }
            Input::Answers(answers) => answers,
            Input::Start | Input::Woken => return self.start(cx),
        };
        self.share = None;
        let id = &self.request.transactional_id;
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let answer = match answer {
            Some(Ok(ResponseKind::AddOffsetsToTxn(answer))) => answer,
            _ => AddOffsetsToTxnResponse::default().with_error_code(error),
        };
        note_error(cx, id, answer.error_code);
        if answer.error_code == code::NONE {
            cx.shared.transactions.began(id);
        }
        Step::Answer(answer.into())
    }
}
