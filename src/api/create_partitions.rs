//! CreatePartitions (37), v0 to v3: done on the source, by its controller. Refused, with the migration's name, for a topic
//! that a migration has prepared: the count must stay the same on both sides, and whoever hashes keys would notice.
//! New replicas cannot be placed by hand: clients do not see the brokers.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

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
}

impl CreatePartitions {
    pub fn new(request: CreatePartitionsRequest) -> Self {
        Self { request, asked: vec![], refused: vec![] }
    }

    fn start(&mut self, cx: &Context<'_>) -> Step {
        for topic in std::mem::take(&mut self.request.topics) {
            match may_not(cx, &topic) {
                Some((error, text)) => self.refused.push(result(&topic, error, Some(text))),
                None => self.asked.push(topic),
            }
        }
        if self.asked.is_empty() {
            return self.answer(CreatePartitionsResponse::default());
        }
        ask(RequestKind::CreatePartitions(self.request.clone().with_topics(self.asked.clone())))
    }

    fn heard(&mut self, answer: Option<Result<ResponseKind, Unanswered>>) -> Step {
        let answer = match answer {
            Some(Ok(ResponseKind::CreatePartitions(answer))) => answer,
            lost => {
                let error = lost_code(lost.as_ref());
                let failed = self.asked.iter().map(|topic| result(topic, error, None));
                CreatePartitionsResponse::default().with_results(failed.collect())
            }
        };
        self.answer(answer)
    }

    fn answer(&mut self, mut answer: CreatePartitionsResponse) -> Step {
        answer.results.append(&mut self.refused);
        Step::Answer(ResponseKind::CreatePartitions(answer))
    }
}

impl Machine for CreatePartitions {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Answers(answers) => {
                // What there is now, and who the controller is.
                cx.shared.refresh(Side::Source);
                self.heard(answers.into_iter().next())
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
        "topic {} is part of migration {migration}, which has prepared it: its partitions stay as many as they are until \
         that is over",
        topic.name.as_str()
    );
    Some((code::POLICY_VIOLATION, text))
}
