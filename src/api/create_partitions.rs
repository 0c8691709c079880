//! CreatePartitions (37), v0 to v3: done on the source, by its controller. Refused, with the migration's name, for a topic
//! that a migration has prepared: the count must stay the same on both sides, and whoever hashes keys would notice.
//! New replicas cannot be placed by hand: clients do not see the brokers.

use std::collections::HashSet;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, RequestKind, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::shown::{Change, UntilShown};
use super::topics::{INVALID_REPLICA_ASSIGNMENT, ask, lost_code};
use super::{Context, Input, Machine, Step, Unanswered};
use crate::error::code;
use crate::ids::Side;
use crate::store::identity::is_marker_topic;

pub struct CreatePartitions {
    request: CreatePartitionsRequest,
    /// What the source was asked for, and the answers that we gave in its place.
    asked: Vec<CreatePartitionsTopic>,
    refused: Vec<CreatePartitionsTopicResult>,
    done: Option<UntilShown>,
}

impl CreatePartitions {
    pub fn new(request: CreatePartitionsRequest) -> Self {
        Self { request, asked: vec![], refused: vec![], done: None }
    }

    fn start(&mut self, cx: &Context<'_>) -> Step {
        for topic in std::mem::take(&mut self.request.topics) {
            match may_not(cx, &topic) {
                Some((error, text)) => self.refused.push(result(&topic, error, Some(text))),
                None => self.asked.push(topic),
            }
        }
        if self.asked.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            return Step::Answer(CreatePartitionsResponse::default().with_results(refused).into());
        }
        ask(RequestKind::CreatePartitions(self.request.clone().with_topics(self.asked.clone())))
    }

    fn heard(&mut self, cx: &Context<'_>, answer: Option<Result<ResponseKind, Unanswered>>) -> Step {
        let mut answer = match answer {
            Some(Ok(ResponseKind::CreatePartitions(answer))) => answer,
            lost => {
                let error = lost_code(lost.as_ref());
                let failed = self.asked.iter().map(|topic| result(topic, error, None));
                CreatePartitionsResponse::default().with_results(failed.collect())
            }
        };
        let done: HashSet<&TopicName> =
            answer.results.iter().filter(|r| r.error_code == code::NONE).map(|r| &r.name).collect();
        let asked = if self.request.validate_only { &[][..] } else { &self.asked };
        let count = |t: &CreatePartitionsTopic| usize::try_from(t.count).unwrap_or(0);
        let changes = asked
            .iter()
            .filter(|t| done.contains(&t.name))
            .map(|t| Change::Has(t.name.to_string(), count(t)))
            .collect();
        answer.results.append(&mut self.refused);
        self.done.insert(UntilShown::new(ResponseKind::CreatePartitions(answer), changes)).step(cx)
    }
}

impl Machine for CreatePartitions {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        if let Some(done) = &mut self.done {
            return done.step(cx);
        }
        match input {
            Input::Answers(answers) => {
                // What there is now, and who the controller is.
                cx.shared.refresh(Side::Source);
                self.heard(cx, answers.into_iter().next())
            }
            Input::Start | Input::Woken => self.start(cx),
        }
    }
}

fn result(topic: &CreatePartitionsTopic, error: i16, text: Option<String>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(error)
        .with_error_message(text.map(StrBytes::from_string))
}

fn may_not(cx: &Context<'_>, topic: &CreatePartitionsTopic) -> Option<(i16, String)> {
    if is_marker_topic(&topic.name) {
        return Some((code::UNKNOWN_TOPIC_OR_PARTITION, "the source has no such topic".to_owned()));
    }
    if topic.assignments.as_ref().is_some_and(|by_hand| !by_hand.is_empty()) {
        let text = "the brokers behind kafka-cutover are not visible: add partitions without a replica assignment";
        return Some((INVALID_REPLICA_ASSIGNMENT, text.to_owned()));
    }
    let migration = cx.shared.prepared_by(&topic.name)?;
    let text = format!(
        "topic {} is part of migration {migration}, which has prepared it: through the proxy its partitions stay as many as \
         they are",
        topic.name.as_str()
    );
    Some((code::POLICY_VIOLATION, text))
}
