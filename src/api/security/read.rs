//! What is read from the source alone: ACLs, quotas, credentials. The controller says it first, since it is the one that
//! writes; if it does not answer, any other broker does.

use kafka_protocol::messages::{RequestKind, ResponseKind};

use crate::api::{Ask, Context, Input, Machine, Step, To};
use crate::error::code;
use crate::ids::Side;
use crate::upstream::Lane;
use crate::wire;

pub struct Read {
    request: RequestKind,
    /// What clients may see of the answer.
    show: fn(&mut ResponseKind),
    asked_elsewhere: bool,
}

impl Read {
    pub fn new(request: RequestKind, show: fn(&mut ResponseKind)) -> Self {
        Self { request, show, asked_elsewhere: false }
    }

    fn ask(&self, to: To) -> Step {
        let request = self.request.clone();
        Step::Ask(vec![Ask { side: Side::Source, to, lane: Lane::Ordinary, request }])
    }
}

impl Machine for Read {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let Input::Answers(answers) = input else { return self.ask(To::Controller) };
        if let Some(Ok(mut answer)) = answers.into_iter().next() {
            (self.show)(&mut answer);
            return Step::Answer(answer);
        }
        cx.shared.refresh(Side::Source);
        if !self.asked_elsewhere {
            self.asked_elsewhere = true;
            return self.ask(To::Any);
        }
        let text = "no broker of the source answered";
        match wire::refusal(&self.request, cx.version, code::REQUEST_TIMED_OUT, Some(text)) {
            Some(answer) => Step::Answer(answer),
            None => Step::Close(text.to_owned()),
        }
    }
}
