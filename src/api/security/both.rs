//! What is written to both clusters: the source first, then to the target what the source took. A client that moves must
//! find on the target what it was given here. One that is told of a failure asks again, and both sides are asked again:
//! what the source has already it takes once more.

use std::time::Duration;

use kafka_protocol::messages::{RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use crate::api::{Ask, Context, Input, Machine, Step, To, Unanswered};
use crate::error::{code, code_name};
use crate::ids::Side;
use crate::upstream::{Lane, Lost};

/// How long a look for another controller takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why an entry was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub error: i16,
    pub message: Option<StrBytes>,
}

impl Refusal {
    pub fn new(error: i16, text: impl Into<String>) -> Self {
        Self { error, message: Some(StrBytes::from_string(text.into())) }
    }

    /// As a broker's answer has it.
    pub fn said(error: i16, message: Option<StrBytes>) -> Result<(), Self> {
        if error == code::NONE { Ok(()) } else { Err(Self { error, message }) }
    }

    /// The answer says nothing of it.
    pub fn unanswered() -> Self {
        Self::new(code::UNKNOWN_SERVER_ERROR, "it was not answered")
    }

    pub fn text(&self) -> String {
        self.message.as_ref().filter(|m| !m.is_empty()).map_or_else(|| code_name(self.error), |m| m.to_string())
    }
}

/// A request of entries, each of which is taken or refused by itself.
pub trait Entries {
    fn count(&self) -> usize;

    /// What nobody is asked for.
    fn refusal(&self, entry: usize) -> Option<Refusal>;

    /// These entries alone; `None`: there is nothing to be done for them on this side.
    fn request(&mut self, side: Side, entries: &[usize]) -> Option<RequestKind>;

    /// What a side said of each of these entries; one that is missing was not answered.
    fn said(&mut self, side: Side, entries: &[usize], answer: ResponseKind) -> (i32, Vec<Result<(), Refusal>>);

    /// Whether a side that refuses it for this is as it should be: what is to go is not there. The source may be so
    /// because it was asked before, the target because it never had it.
    fn is_done(&self, _entry: usize, _refusal: &Refusal) -> bool {
        false
    }

    /// Nothing is to be changed anywhere.
    fn validates_only(&self) -> bool {
        false
    }

    fn answer(&mut self, outcomes: Vec<Result<(), Refusal>>, throttle_time_ms: i32) -> ResponseKind;
}

pub struct Both<E> {
    entries: E,
    side: Side,
    asked: Vec<usize>,
    outcomes: Vec<Result<(), Refusal>>,
    /// Another controller was looked for on this side.
    looked: bool,
    throttle_time_ms: i32,
}

impl<E: Entries> Both<E> {
    pub fn new(entries: E) -> Self {
        Self { entries, side: Side::Source, asked: vec![], outcomes: vec![], looked: false, throttle_time_ms: 0 }
    }

    fn start(&mut self, cx: &Context<'_>) -> Step {
        self.outcomes = (0..self.entries.count()).map(|i| self.entries.refusal(i).map_or(Ok(()), Err)).collect();
        self.asked = (0..).zip(&self.outcomes).filter(|(_, o)| o.is_ok()).map(|(i, _)| i).collect();
        self.ask(cx)
    }

    fn ask(&mut self, cx: &Context<'_>) -> Step {
        if self.asked.is_empty() {
            return self.answer();
        }
        match self.entries.request(self.side, &self.asked) {
            Some(request) => {
                Step::Ask(vec![Ask { side: self.side, to: To::Controller, lane: Lane::Ordinary, request }])
            }
            None => self.told(cx, vec![Ok(()); self.asked.len()]),
        }
    }

    fn hear(&mut self, cx: &Context<'_>, answer: Option<Result<ResponseKind, Unanswered>>) -> Step {
        let side = self.side;
        let all = |refusal: Refusal| vec![Err(refusal); self.asked.len()];
        let said = match answer {
            Some(Ok(answer)) => {
                let (throttle, said) = self.entries.said(side, &self.asked, answer);
                self.throttle_time_ms = self.throttle_time_ms.max(throttle);
                said
            }
            Some(Err(Unanswered::Lost(Lost::NotSent(_)))) => {
                all(Refusal::new(code::NOT_CONTROLLER, "no broker could be asked"))
            }
            _ => all(Refusal::new(code::REQUEST_TIMED_OUT, "the answer was lost: ask again")),
        };
        // Then nothing was done.
        let elsewhere = |s: &Result<(), Refusal>| matches!(s, Err(r) if r.error == code::NOT_CONTROLLER);
        let elsewhere = !said.is_empty() && said.iter().all(elsewhere);
        if elsewhere {
            cx.shared.refresh(side);
        }
        if elsewhere && !self.looked && cx.topology.reachable(side) {
            self.looked = true;
            let newer_than = cx.topology.generation(side);
            return Step::AwaitTopology { side, newer_than, deadline: cx.now + PATIENCE };
        }
        self.told(cx, said)
    }

    fn told(&mut self, cx: &Context<'_>, said: Vec<Result<(), Refusal>>) -> Step {
        let said = said.into_iter().chain(std::iter::repeat_with(|| Err(Refusal::unanswered())));
        match self.side {
            Side::Source => {
                for (i, said) in self.asked.iter().zip(said) {
                    let named = |r: Refusal| match r.error {
                        // Ours, and it matters which side it was.
                        code::NOT_CONTROLLER | code::REQUEST_TIMED_OUT => {
                            Refusal::new(r.error, format!("the source: {}", r.text()))
                        }
                        _ => r,
                    };
                    self.outcomes[*i] = said.map_err(named);
                }
                let entries = &self.entries;
                let outcomes = &self.outcomes;
                self.asked.retain(|i| outcomes[*i].as_ref().err().is_none_or(|r| entries.is_done(*i, r)));
                (self.side, self.looked) = (Side::Target, false);
                self.ask(cx)
            }
            Side::Target => {
                let asked = std::mem::take(&mut self.asked);
                let mut differs = None;
                for (i, said) in asked.into_iter().zip(said) {
                    let refused = match said {
                        // Whatever the source said: now it is so on both.
                        Ok(()) => {
                            self.outcomes[i] = Ok(());
                            continue;
                        }
                        Err(refusal) => refusal,
                    };
                    if refused.error == code::SECURITY_DISABLED {
                        if cx.shared.alarms.is_first("the target has no authorizer".to_owned()) {
                            tracing::warn!("the target has no authorizer: ACLs are kept by the source alone");
                        }
                    } else if !self.entries.is_done(i, &refused) {
                        differs = Some(refused.error);
                        self.outcomes[i] = Err(self.unlike(i, &refused));
                    }
                }
                if let Some(error) = differs.filter(|_| !self.entries.validates_only()) {
                    tracing::error!(
                        error = %code_name(error),
                        "the source has taken a change of ACLs, quotas or credentials, and the target has not: \
                         they differ until the client's next try"
                    );
                }
                self.answer()
            }
        }
    }

    /// What is said of an entry that only the source has taken.
    fn unlike(&self, entry: usize, target: &Refusal) -> Refusal {
        let source = match self.outcomes.get(entry) {
            _ if self.entries.validates_only() => "the source would take it".to_owned(),
            Some(Err(source)) => format!("the source: {}", source.text()),
            _ => "the source has taken it".to_owned(),
        };
        Refusal::new(target.error, format!("{source}; the target: {}", target.text()))
    }

    fn answer(&mut self) -> Step {
        Step::Answer(self.entries.answer(std::mem::take(&mut self.outcomes), self.throttle_time_ms))
    }
}

impl<E: Entries> Machine for Both<E> {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Start => self.start(cx),
            Input::Woken => self.ask(cx),
            Input::Answers(answers) => self.hear(cx, answers.into_iter().next()),
        }
    }
}
