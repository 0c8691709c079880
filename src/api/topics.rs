//! CreateTopics (19), v2 to v7, and DeleteTopics (20), v1 to v6: done on the source, by its controller. Refused, with
//! the migration's name, is what would make the clusters differ: deleting a topic that a migration has prepared,
//! creating one of a migration that has moved on. Replicas cannot be placed by hand: clients do not see the brokers.

use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, RequestKind, ResponseKind,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::configs::names_brokers;
use super::shown::{Change, UntilShown};
use super::{Ask, Context, Input, Machine, Step, To, Unanswered};
use crate::config::Migration;
use crate::error::code;
use crate::ids::Side;
use crate::store::identity::is_marker_topic;
use crate::upstream::{Lane, Lost};

/// How long a topic id is looked for that the snapshot lacks.
const PATIENCE: Duration = Duration::from_secs(2);
pub(super) const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
/// DeleteTopics names topics by id, too, from here on.
const BY_ID: i16 = 6;

pub struct Topics {
    request: RequestKind,
    deadline: Option<Instant>,
    /// The topics that the source was asked for, and the answers that we gave in its place.
    created: (Vec<CreatableTopic>, Vec<CreatableTopicResult>),
    deleted: (Vec<DeleteTopicState>, Vec<DeletableTopicResult>),
    done: Option<UntilShown>,
}

impl Topics {
    pub fn new(request: RequestKind) -> Self {
        Self { request, deadline: None, created: Default::default(), deleted: Default::default(), done: None }
    }

    fn start_create(&mut self, cx: &Context<'_>, request: CreateTopicsRequest) -> Step {
        for topic in &request.topics {
            match may_not_create(cx, topic) {
                Some((error, text)) => self.created.1.push(
                    CreatableTopicResult::default()
                        .with_name(topic.name.clone())
                        .with_error_code(error)
                        .with_error_message(Some(StrBytes::from_string(text))),
                ),
                None => self.created.0.push(topic.clone()),
            }
        }
        if self.created.0.is_empty() {
            return Step::Answer(ResponseKind::CreateTopics(self.created_answer(None)));
        }
        ask(RequestKind::CreateTopics(request.with_topics(self.created.0.clone())))
    }

    fn created_answer(&mut self, answer: Option<Result<ResponseKind, Unanswered>>) -> CreateTopicsResponse {
        let (asked, refused) = std::mem::take(&mut self.created);
        let mut answer = match answer {
            Some(Ok(ResponseKind::CreateTopics(answer))) => answer,
            lost => {
                let error = lost_code(lost.as_ref());
                let failed =
                    |t: CreatableTopic| CreatableTopicResult::default().with_name(t.name).with_error_code(error);
                CreateTopicsResponse::default().with_topics(asked.into_iter().map(failed).collect())
            }
        };
        for config in answer.topics.iter_mut().filter_map(|t| t.configs.as_mut()) {
            config.retain(|c| !names_brokers(&c.name));
        }
        answer.topics.extend(refused);
        answer
    }

    fn start_delete(&mut self, cx: &Context<'_>, request: DeleteTopicsRequest) -> Step {
        let by_name = request.topic_names.iter().map(|n| DeleteTopicState::default().with_name(Some(n.clone())));
        let all: Vec<DeleteTopicState> = request.topics.iter().cloned().chain(by_name).collect();
        let unknown = |t: &DeleteTopicState| t.name.is_none() && name_of(cx, t.topic_id).is_none();
        let deadline = *self.deadline.get_or_insert(cx.now + PATIENCE);
        if cx.now < deadline && cx.topology.reachable(Side::Source) && all.iter().any(unknown) {
            // What an id stands for decides whether it may go.
            cx.shared.refresh(Side::Source);
            let newer_than = cx.topology.generation(Side::Source);
            return Step::AwaitTopology { side: Side::Source, newer_than, deadline };
        }
        for topic in all {
            let refusal = match topic.name.as_ref().map(|n| n.to_string()).or_else(|| name_of(cx, topic.topic_id)) {
                None => Some((code::UNKNOWN_TOPIC_ID, "the source has no such topic".to_owned())),
                Some(name) => may_not_delete(cx, &name),
            };
            match refusal {
                Some((error, text)) => self.deleted.1.push(
                    DeletableTopicResult::default()
                        .with_name(topic.name)
                        .with_topic_id(topic.topic_id)
                        .with_error_code(error)
                        .with_error_message(Some(StrBytes::from_string(text))),
                ),
                None => self.deleted.0.push(topic),
            }
        }
        if self.deleted.0.is_empty() {
            return Step::Answer(ResponseKind::DeleteTopics(self.deleted_answer(None)));
        }
        let asked = self.deleted.0.clone();
        ask(RequestKind::DeleteTopics(match cx.version >= BY_ID {
            true => request.with_topics(asked).with_topic_names(vec![]),
            false => request.with_topic_names(asked.into_iter().filter_map(|t| t.name).collect()).with_topics(vec![]),
        }))
    }

    fn deleted_answer(&mut self, answer: Option<Result<ResponseKind, Unanswered>>) -> DeleteTopicsResponse {
        let (asked, refused) = std::mem::take(&mut self.deleted);
        let mut answer = match answer {
            Some(Ok(ResponseKind::DeleteTopics(answer))) => answer,
            lost => {
                let error = lost_code(lost.as_ref());
                let failed = |t: DeleteTopicState| {
                    DeletableTopicResult::default().with_name(t.name).with_topic_id(t.topic_id).with_error_code(error)
                };
                DeleteTopicsResponse::default().with_responses(asked.into_iter().map(failed).collect())
            }
        };
        answer.responses.extend(refused);
        answer
    }
}

impl Machine for Topics {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        if let Some(done) = &mut self.done {
            return done.step(cx);
        }
        let request = self.request.clone();
        match (input, request) {
            (Input::Answers(answers), request) => {
                // What there is now, and who the controller is.
                cx.shared.refresh(Side::Source);
                let answer = answers.into_iter().next();
                let (answer, changes) = match request {
                    RequestKind::CreateTopics(request) => {
                        let answer = self.created_answer(answer);
                        let changes = if request.validate_only { vec![] } else { created(&answer) };
                        (ResponseKind::CreateTopics(answer), changes)
                    }
                    _ => {
                        let answer = self.deleted_answer(answer);
                        let changes = deleted(&answer);
                        (ResponseKind::DeleteTopics(answer), changes)
                    }
                };
                self.done.insert(UntilShown::new(answer, changes)).step(cx)
            }
            (_, RequestKind::CreateTopics(request)) => self.start_create(cx, request),
            (_, RequestKind::DeleteTopics(request)) => self.start_delete(cx, request),
            _ => Step::Close("neither CreateTopics nor DeleteTopics".to_owned()),
        }
    }
}

/// Of the source's controller.
pub(super) fn ask(request: RequestKind) -> Step {
    Step::Ask(vec![Ask { side: Side::Source, to: To::Controller, lane: Lane::Ordinary, request }])
}

/// Not sent: clients look for the controller and ask again. Sent: nobody knows, and nobody asks again by himself.
pub(super) fn lost_code(lost: Option<&Result<ResponseKind, Unanswered>>) -> i16 {
    match lost {
        Some(Err(Unanswered::Lost(Lost::NotSent(_)))) => code::NOT_CONTROLLER,
        _ => code::REQUEST_TIMED_OUT,
    }
}

fn created(answer: &CreateTopicsResponse) -> Vec<Change> {
    let done = answer.topics.iter().filter(|t| t.error_code == code::NONE);
    done.map(|t| Change::Has(t.name.to_string(), 1)).collect()
}

fn deleted(answer: &DeleteTopicsResponse) -> Vec<Change> {
    let done = answer.responses.iter().filter(|t| t.error_code == code::NONE);
    done.filter_map(|t| t.name.as_ref().map(|name| Change::Gone(name.to_string()))).collect()
}

fn name_of(cx: &Context<'_>, id: Uuid) -> Option<String> {
    Some(cx.topology.side(Side::Source)?.names.get(&id)?.to_string())
}

fn may_not_create(cx: &Context<'_>, topic: &CreatableTopic) -> Option<(i16, String)> {
    if !topic.assignments.is_empty() {
        let text = "the brokers behind kafka-cutover are not visible: create the topic without a replica assignment";
        return Some((INVALID_REPLICA_ASSIGNMENT, text.to_owned()));
    }
    if is_marker_topic(&topic.name) {
        return Some((code::POLICY_VIOLATION, "the name is kafka-cutover's own".to_owned()));
    }
    let migration = moved_on(cx, &topic.name)?;
    let text = format!(
        "migration {} has switched its producers: create topic {} on both clusters, then prepare it again",
        migration.name,
        topic.name.as_str()
    );
    Some((code::POLICY_VIOLATION, text))
}

/// A migration of the topic's name, if every one that matches it has switched its producers (DESIGN.md section 5).
/// A topic that is there already is the source's to refuse.
pub(super) fn moved_on<'a>(cx: &'a Context<'_>, topic: &TopicName) -> Option<&'a Migration> {
    if cx.partitions.topics.contains_key(topic.as_str()) {
        return None;
    }
    let matching: Vec<&Migration> = cx.shared.config.migrations.iter().filter(|m| m.matches(topic)).collect();
    matching.iter().all(|m| has_switched(cx, m)).then(|| matching.first().copied())?
}

/// All partitions that it has sealed take their records on the target. A topic that came after `prepare` is on the
/// source for good, and says nothing.
fn has_switched(cx: &Context<'_>, migration: &Migration) -> bool {
    let matching = cx.partitions.topics.iter().filter(|(name, _)| migration.matches(name));
    let sealed = matching.filter(|(_, states)| states.iter().any(|s| s.map.seals() > 0));
    let mut states = sealed.flat_map(|(_, states)| states.iter()).peekable();
    states.peek().is_some() && states.all(|s| s.map.open_side() == Side::Target)
}

fn may_not_delete(cx: &Context<'_>, topic: &str) -> Option<(i16, String)> {
    if is_marker_topic(topic) {
        return Some((code::UNKNOWN_TOPIC_OR_PARTITION, "the source has no such topic".to_owned()));
    }
    let migration = cx.shared.prepared_by(topic)?;
    let text = format!(
        "topic {topic} is part of migration {migration}, which has prepared it: through the proxy it stays; delete it on the \
         clusters when no client uses the proxy any more"
    );
    Some((code::POLICY_VIOLATION, text))
}
