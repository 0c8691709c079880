//! AddOffsetsToTxn (25), v0 to v4: to the id's coordinator, its producer id native. The group's home is the id's.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, RequestKind, ResponseKind};

use super::groups::lost_code;
use super::transactions::{KNOWS_FENCED, ask, native, note_error};
use super::{Context, Input, Machine, Step};
use crate::error::code;

pub struct AddOffsetsToTxn(pub AddOffsetsToTxnRequest);

impl Machine for AddOffsetsToTxn {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let id = &self.0.transactional_id;
        let Input::Answers(answers) = input else {
            let named = (self.0.producer_id, self.0.producer_epoch);
            let (pid, epoch) = match native(cx, id, named, KNOWS_FENCED) {
                Ok(native) => native,
                Err(error) => return Step::Answer(AddOffsetsToTxnResponse::default().with_error_code(error).into()),
            };
            let request = self.0.clone().with_producer_id(pid).with_producer_epoch(epoch);
            return Step::Ask(vec![ask(cx, id, RequestKind::AddOffsetsToTxn(request))]);
        };
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
