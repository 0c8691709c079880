//! EndTxn (26), v0 to v5: to the id's coordinator, its producer id native, and never twice by us: one that comes late ends
//! the next transaction (KAFKA-17754). A lost answer is NOT_COORDINATOR: the client looks up again and sends its own retry.
//! v5 gives a new epoch or producer id with every answer (KIP-890), the coordinator's own: a producer that has crossed is
//! called from then on what it is called there. What it was called before still stands for the retry of a lost answer.
//!
//! What was committed with it changes positions of groups behind our back: their shadows are read anew.

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, RequestKind, ResponseKind};

use super::groups::lost_code;
use super::transactions::{self, KNOWS_FENCED, ask, native, note_error, shown};
use super::{Context, Input, Machine, Step};
use crate::error::code;
use crate::ids::Side;
use crate::producers::homes::Claim;

pub struct EndTxn {
    request: EndTxnRequest,
    /// Whose coordinator was asked.
    side: Side,
    /// The id does not move before it has its answer: with the second protocol its producer is another one then.
    share: Option<Claim>,
}

impl EndTxn {
    pub fn new(request: EndTxnRequest) -> Self {
        Self { request, side: Side::Source, share: None }
    }
}

impl Machine for EndTxn {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let id = &self.request.transactional_id;
        let Input::Answers(answers) = input else {
            self.share = cx.shared.transactional_homes.share(id);
            if self.share.is_none() {
                // Every client sends it again.
                return Step::Answer(EndTxnResponse::default().with_error_code(code::CONCURRENT_TRANSACTIONS).into());
            }
            let named = (self.request.producer_id, self.request.producer_epoch);
            let (pid, epoch) = match native(cx, id, named, KNOWS_FENCED) {
                Ok(native) => native,
                Err(error) => return Step::Answer(EndTxnResponse::default().with_error_code(error).into()),
            };
            self.side = cx.shared.transactional_homes.of(id);
            let request = self.request.clone().with_producer_id(pid).with_producer_epoch(epoch);
            return Step::Ask(vec![ask(cx, id, RequestKind::EndTxn(request))]);
        };
        self.share = None;
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let mut answer = match answer {
            Some(Ok(ResponseKind::EndTxn(answer))) => answer,
            _ => EndTxnResponse::default().with_error_code(error),
        };
        note_error(cx, id, answer.error_code);
        // librdkafka and franz-go abort what they were refused, and take the coordinator's word that there is nothing to
        // abort for the end of the producer.
        if answer.error_code == code::INVALID_TXN_STATE
            && !self.request.committed
            && cx.shared.transactions.has_none(id)
        {
            answer.error_code = code::NONE;
        }
        if answer.error_code == code::NONE {
            transactions::ended(cx, id);
        }
        answer.producer_id = shown(self.side, answer.producer_id);
        Step::Answer(answer.into())
    }
}
