//! AlterConfigs (33), v0 to v2, and IncrementalAlterConfigs (44), v0 and v1: the source's.
//!
//! A topic that a migration has prepared is altered on both sides. Both are asked first whether they would do it, since
//! nothing takes a change back; then the target is changed, and the source last: it is what DescribeConfigs shows, so who
//! looks after an error sees the old value, and whoever asks again makes both equal. The error names the side.
//!
//! What the mirror sets on a copy for its time (`mirror::configs`) is left as it is there: the source has what was asked for, and
//! `complete` takes it over.
//!
//! Refused: what belongs to brokers, which clients do not see (their configs, the defaults of all, log levels, the throttles
//! of replicas). Client metrics and groups are the source's alone. AlterConfigs sets back what it does not name, hidden
//! throttles included.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    RequestKind, ResponseKind, alter_configs_response, incremental_alter_configs_response as incremental,
};
use kafka_protocol::protocol::StrBytes;

use super::configs::{TOPIC, is_broker, names_brokers};
use super::{Answers, Ask, Context, Input, Machine, Step, To};
use crate::error::code;
use crate::ids::Side;
use crate::store::identity::is_marker_topic;
use crate::upstream::Lane;

pub struct AlterConfigs {
    request: Request,
    resources: Vec<Resource>,
    phase: Phase,
    /// Whom the requests on their way went to, and which resources each one is about.
    sent: Vec<(Side, Vec<usize>)>,
    throttle_time_ms: i32,
}

enum Request {
    Replace(AlterConfigsRequest),
    Change(IncrementalAlterConfigsRequest),
}

/// One of the request.
struct Resource {
    kind: i8,
    name: StrBytes,
    on_both: bool,
    /// What the topic is set to on the target for as long as it is a copy, whatever is asked for.
    held: Option<Arc<BTreeMap<String, String>>>,
    failed: Option<Failure>,
}

type Failure = (i16, Option<StrBytes>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Would they?
    Check,
    Target,
    Source,
    Done,
}

impl AlterConfigs {
    /// `None`: another API's request.
    pub fn new(request: RequestKind) -> Option<Self> {
        let request = match request {
            RequestKind::AlterConfigs(request) => Request::Replace(request),
            RequestKind::IncrementalAlterConfigs(request) => Request::Change(request),
            _ => return None,
        };
        Some(Self { request, resources: vec![], phase: Phase::Check, sent: vec![], throttle_time_ms: 0 })
    }

    /// The requests of the first phase from this one on that has any.
    fn go_on(&mut self) -> Step {
        while self.phase != Phase::Done {
            let asks = self.asks();
            if !asks.is_empty() {
                return Step::Ask(asks);
            }
            self.phase = self.phase.next();
        }
        Step::Answer(self.request.answer(&self.resources, self.throttle_time_ms))
    }

    fn asks(&mut self) -> Vec<Ask> {
        let (phase, validate_only) = (self.phase, self.request.validate_only());
        let request = &self.request;
        let is_asked = |side: Side, i: usize, resource: &Resource| match phase {
            _ if side == Side::Target && request.is_held(i, resource) => false,
            Phase::Check => resource.on_both || (validate_only && side == Side::Source),
            Phase::Target => resource.on_both && side == Side::Target && !validate_only,
            Phase::Source => side == Side::Source && !validate_only,
            Phase::Done => false,
        };
        let mut asks = vec![];
        for side in Side::BOTH {
            let open = self.resources.iter().enumerate().filter(|(i, r)| r.failed.is_none() && is_asked(side, *i, r));
            let asked: Vec<usize> = open.map(|(i, _)| i).collect();
            if !asked.is_empty() {
                let request = self.request.about(&asked, phase == Phase::Check, (side, &self.resources));
                // One broker, once: another one might do it again when others have altered it since.
                asks.push(Ask { side, to: To::Controller, lane: Lane::Ordinary, request });
                self.sent.push((side, asked));
            }
        }
        asks
    }

    fn hear(&mut self, answers: Answers) {
        for ((side, asked), answer) in std::mem::take(&mut self.sent).into_iter().zip(answers) {
            let said = answer.ok().and_then(said);
            if let Some((throttled, _)) = &said {
                self.throttle_time_ms = self.throttle_time_ms.max(*throttled);
            }
            for i in asked {
                let Some(resource) = self.resources.get_mut(i) else { continue };
                let found = said.as_ref().map(|(_, found)| found.get(&(resource.kind, resource.name.clone())));
                let (error, text) = match found {
                    Some(Some((code::NONE, _))) => continue,
                    Some(Some(failure)) => failure.clone(),
                    Some(None) => (code::UNKNOWN_SERVER_ERROR, Some("it said nothing of this resource".into())),
                    None => (code::REQUEST_TIMED_OUT, Some("no answer".into())),
                };
                let text = if resource.on_both { Some(self.phase.tell(side, text)) } else { text };
                resource.failed.get_or_insert((error, text));
            }
        }
    }
}

impl Machine for AlterConfigs {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Answers(answers) => {
                self.hear(answers);
                self.phase = self.phase.next();
            }
            Input::Start | Input::Woken => self.resources = self.request.resources(cx),
        }
        self.go_on()
    }
}

impl Phase {
    fn next(self) -> Self {
        match self {
            Self::Check => Self::Target,
            Self::Target => Self::Source,
            Self::Source | Self::Done => Self::Done,
        }
    }

    /// What went wrong with a topic of both sides: where, and what is left behind.
    fn tell(self, side: Side, text: Option<StrBytes>) -> StrBytes {
        let text = text.unwrap_or_default();
        let left = match self {
            Self::Check => "nothing was changed",
            Self::Target => "the source was not changed",
            Self::Source | Self::Done => "the target was changed: send it again once the source takes it",
        };
        StrBytes::from_string(format!("{side}: {}: {left}", text.trim_end_matches('.')))
    }
}

impl Request {
    fn validate_only(&self) -> bool {
        match self {
            Self::Replace(r) => r.validate_only,
            Self::Change(r) => r.validate_only,
        }
    }

    fn resources(&self, cx: &Context<'_>) -> Vec<Resource> {
        let resource = |kind: i8, name: &StrBytes, throttles: bool| Resource {
            kind,
            name: name.clone(),
            on_both: kind == TOPIC && cx.shared.prepared_by(name).is_some(),
            held: cx.shared.held_configs(name).filter(|_| kind == TOPIC),
            failed: may_not(kind, name, throttles),
        };
        match self {
            Self::Replace(r) => {
                let throttles = |configs: &[_]| configs.iter().any(|c: &Replaced| names_brokers(&c.name));
                let all = r.resources.iter();
                all.map(|r| resource(r.resource_type, &r.resource_name, throttles(&r.configs))).collect()
            }
            Self::Change(r) => {
                let throttles = |configs: &[_]| configs.iter().any(|c: &Changed| names_brokers(&c.name));
                let all = r.resources.iter();
                all.map(|r| resource(r.resource_type, &r.resource_name, throttles(&r.configs))).collect()
            }
        }
    }

    /// Whether nothing is left to change where the topic is a copy.
    fn is_held(&self, i: usize, resource: &Resource) -> bool {
        let (Some(held), Self::Change(r)) = (&resource.held, self) else { return false };
        r.resources.get(i).is_some_and(|r| r.configs.iter().all(|c| held.contains_key(c.name.as_str())))
    }

    fn about(&self, asked: &[usize], check: bool, (side, resources): (Side, &[Resource])) -> RequestKind {
        let held = |i: usize| resources.get(i).and_then(|r| r.held.as_deref()).filter(|_| side == Side::Target);
        match self {
            Self::Replace(r) => {
                let one = |i: &usize| {
                    let mut resource = r.resources.get(*i)?.clone();
                    if let Some(held) = held(*i) {
                        // What it does not name is set back.
                        resource.configs.retain(|c| !held.contains_key(c.name.as_str()));
                        resource.configs.extend(held.iter().map(|(name, value)| {
                            let (name, value) = (name.clone(), value.clone());
                            Replaced::default().with_name(name.into()).with_value(Some(value.into()))
                        }));
                    }
                    Some(resource)
                };
                AlterConfigsRequest::default()
                    .with_resources(asked.iter().filter_map(one).collect())
                    .with_validate_only(check || r.validate_only)
                    .into()
            }
            Self::Change(r) => {
                let one = |i: &usize| {
                    let mut resource = r.resources.get(*i)?.clone();
                    if let Some(held) = held(*i) {
                        resource.configs.retain(|c| !held.contains_key(c.name.as_str()));
                    }
                    Some(resource)
                };
                IncrementalAlterConfigsRequest::default()
                    .with_resources(asked.iter().filter_map(one).collect())
                    .with_validate_only(check || r.validate_only)
                    .into()
            }
        }
    }

    fn answer(&self, resources: &[Resource], throttle_time_ms: i32) -> ResponseKind {
        let failure = |r: &Resource| r.failed.clone().unwrap_or((code::NONE, None));
        match self {
            Self::Replace(_) => {
                let responses = resources.iter().map(|r| {
                    let (error, text) = failure(r);
                    alter_configs_response::AlterConfigsResourceResponse::default()
                        .with_error_code(error)
                        .with_error_message(text)
                        .with_resource_type(r.kind)
                        .with_resource_name(r.name.clone())
                });
                AlterConfigsResponse::default()
                    .with_throttle_time_ms(throttle_time_ms)
                    .with_responses(responses.collect())
                    .into()
            }
            Self::Change(_) => {
                let responses = resources.iter().map(|r| {
                    let (error, text) = failure(r);
                    incremental::AlterConfigsResourceResponse::default()
                        .with_error_code(error)
                        .with_error_message(text)
                        .with_resource_type(r.kind)
                        .with_resource_name(r.name.clone())
                });
                IncrementalAlterConfigsResponse::default()
                    .with_throttle_time_ms(throttle_time_ms)
                    .with_responses(responses.collect())
                    .into()
            }
        }
    }
}

type Replaced = kafka_protocol::messages::alter_configs_request::AlterableConfig;
type Changed = kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
/// Throttle time, and what was said of each resource.
type Said = (i32, HashMap<(i8, StrBytes), Failure>);

/// `None`: the answer to another API.
fn said(answer: ResponseKind) -> Option<Said> {
    Some(match answer {
        ResponseKind::AlterConfigs(a) => {
            let all = a.responses.into_iter();
            let said = all.map(|r| ((r.resource_type, r.resource_name), (r.error_code, r.error_message)));
            (a.throttle_time_ms, said.collect())
        }
        ResponseKind::IncrementalAlterConfigs(a) => {
            let all = a.responses.into_iter();
            let said = all.map(|r| ((r.resource_type, r.resource_name), (r.error_code, r.error_message)));
            (a.throttle_time_ms, said.collect())
        }
        _ => return None,
    })
}

fn may_not(kind: i8, name: &StrBytes, throttles: bool) -> Option<Failure> {
    let (error, text) = if is_broker(kind) {
        (code::POLICY_VIOLATION, "kafka-cutover does not show brokers: alter their configs on the cluster itself")
    } else if kind == TOPIC && is_marker_topic(name) {
        (code::UNKNOWN_TOPIC_OR_PARTITION, "the source has no such topic")
    } else if kind == TOPIC && throttles {
        let text = "throttled replicas are named by their brokers, which kafka-cutover does not show: alter them on the \
                    cluster itself";
        (code::POLICY_VIOLATION, text)
    } else {
        return None;
    };
    Some((error, Some(StrBytes::from_static_str(text))))
}
