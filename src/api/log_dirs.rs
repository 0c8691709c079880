//! DescribeLogDirs (35), v1 to v4: the directories of every broker of the source, and of the target for the partitions that
//! have a part there, as if one node had them all. A directory keeps its error, its room and its logs (the replicas of a
//! partition one by one, as brokers count them); its path becomes `/source/…` or `/target/…` and a number that stays
//! the same as long as broker and path do, and tells neither. A broker that does not answer is one directory that is
//! offline, so that what is missing shows.
//!
//! With several virtual nodes every one of them shows all directories: the connection does not say which node was meant.

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, RequestKind, ResponseKind, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::ids::{NodeId, Side};
use crate::store::identity::is_marker_topic;
use crate::virtual_cluster::nodes::stable_hash;

pub struct DescribeLogDirs {
    request: DescribeLogDirsRequest,
    /// The brokers that were asked, in order.
    sent: Vec<(Side, NodeId)>,
}

impl DescribeLogDirs {
    pub fn new(request: DescribeLogDirsRequest) -> Self {
        Self { request, sent: vec![] }
    }

    fn start(&mut self, cx: &Context<'_>) -> Step {
        let mut asks = vec![];
        for side in Side::BOTH {
            let topics = match side {
                Side::Source => self.request.topics.clone().map(|mut topics| {
                    topics.retain(|t| !is_marker_topic(&t.topic));
                    topics
                }),
                Side::Target => match on_target(cx, self.request.topics.as_deref()) {
                    none if none.is_empty() => continue,
                    some => Some(some),
                },
            };
            let request = RequestKind::DescribeLogDirs(DescribeLogDirsRequest::default().with_topics(topics));
            let mut nodes: Vec<NodeId> =
                cx.topology.side(side).into_iter().flat_map(|c| c.brokers.keys().copied()).collect();
            nodes.sort_unstable();
            asks.extend(nodes.iter().map(|node| Ask::node(side, *node, request.clone())));
            self.sent.extend(nodes.into_iter().map(|node| (side, node)));
        }
        if asks.is_empty() { self.answer(cx, vec![]) } else { Step::Ask(asks) }
    }

    fn answer(&self, cx: &Context<'_>, answers: Answers) -> Step {
        let mut merged = DescribeLogDirsResponse::default();
        if self.sent.is_empty() {
            // No error has a place before version 3; without a directory clients take it for a lack of rights.
            merged.results.push(offline("/source".to_owned()));
        }
        for ((side, node), answer) in self.sent.iter().zip(answers) {
            let Ok(ResponseKind::DescribeLogDirs(answer)) = answer else {
                // Perhaps a broker that is no more.
                cx.shared.refresh(*side);
                merged.results.push(offline(shown(*side, *node, "")));
                continue;
            };
            merged.throttle_time_ms = merged.throttle_time_ms.max(answer.throttle_time_ms);
            if merged.error_code == code::NONE {
                merged.error_code = answer.error_code;
            }
            merged.results.extend(answer.results.into_iter().map(|mut dir| {
                dir.log_dir = StrBytes::from_string(shown(*side, *node, &dir.log_dir));
                dir.topics.retain(|t| !is_marker_topic(&t.name));
                dir
            }));
        }
        Step::Answer(ResponseKind::DescribeLogDirs(merged))
    }
}

impl Machine for DescribeLogDirs {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Answers(answers) => self.answer(cx, answers),
            Input::Start | Input::Woken => self.start(cx),
        }
    }
}

/// The partitions that have, or had, a part on the target, of those that are asked for (`None`: of all).
fn on_target(cx: &Context<'_>, wanted: Option<&[DescribableLogDirTopic]>) -> Vec<DescribableLogDirTopic> {
    let moved = |topic: &str, partition: i32| {
        cx.partitions.get(topic, partition).is_some_and(|state| state.map.is_used(Side::Target))
    };
    let of = |name: TopicName, partitions: &mut dyn Iterator<Item = i32>| {
        let there: Vec<i32> = partitions.filter(|p| moved(&name, *p)).collect();
        (!there.is_empty()).then(|| DescribableLogDirTopic::default().with_topic(name).with_partitions(there))
    };
    match wanted {
        Some(topics) => topics.iter().filter_map(|t| of(t.topic.clone(), &mut t.partitions.iter().copied())).collect(),
        None => {
            let all = cx.partitions.topics.iter();
            let name = |name: &str| TopicName(StrBytes::from_string(name.to_owned()));
            all.filter_map(|(topic, states)| of(name(topic), &mut (0..).take(states.len()))).collect()
        }
    }
}

fn shown(side: Side, node: NodeId, path: &str) -> String {
    format!("/{side}/{:08x}", stable_hash(&format!("{node} {path}")))
}

fn offline(log_dir: String) -> DescribeLogDirsResult {
    DescribeLogDirsResult::default()
        .with_error_code(code::KAFKA_STORAGE_ERROR)
        .with_log_dir(StrBytes::from_string(log_dir))
}
