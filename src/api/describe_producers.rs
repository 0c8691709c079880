//! DescribeProducers (61), v0: of each partition, what the leader on the side of its tail remembers. Producer ids and the start
//! of an open transaction are virtual, epochs and sequences are the brokers' own. Left out are producers that did not
//! come through the open part of the log: those of an earlier part, and whoever writes past the proxy after a seal.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerId, RequestKind, ResponseKind, TopicName,
};

use super::list_offsets::told;
use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::error::{code, is_stale_topology};
use crate::ids::{NONE, Native, NodeId, Side, VirtualPid};
use crate::offsets::SpliceMap;

pub struct DescribeProducers {
    request: DescribeProducersRequest,
    /// The partitions of the request, in its order.
    questions: Vec<Question>,
    /// Whom the requests on their way went to, and which questions each one asks.
    sent: Vec<(Side, Vec<usize>)>,
}

struct Question {
    topic: TopicName,
    partition: i32,
    /// How many seals the partition had passed when it was asked about.
    seals: u32,
    reply: PartitionResponse,
}

impl DescribeProducers {
    pub fn new(request: DescribeProducersRequest) -> Self {
        let question = |topic: &TopicRequest, partition: i32| Question {
            topic: topic.name.clone(),
            partition,
            seals: 0,
            reply: error(partition, code::NOT_LEADER_OR_FOLLOWER),
        };
        let topics = request.topics.iter();
        let questions = topics.flat_map(|t| t.partition_indexes.iter().map(move |i| question(t, *i))).collect();
        Self { request, questions, sent: vec![] }
    }

    fn ask(&mut self, cx: &Context<'_>) -> Step {
        let mut plan: BTreeMap<(Side, NodeId), Vec<usize>> = BTreeMap::new();
        for (i, question) in self.questions.iter_mut().enumerate() {
            let map = question.map(cx);
            let side = map.map_or(Side::Source, SpliceMap::tail_side);
            question.seals = map.map_or(0, SpliceMap::seals);
            let known = |t: &crate::upstream::TopicView| {
                usize::try_from(question.partition).is_ok_and(|index| index < t.partitions.len())
            };
            match cx.topology.leader(side, &question.topic, question.partition) {
                Some(leader) => plan.entry((side, leader.leader)).or_default().push(i),
                None => {
                    cx.shared.refresh(side);
                    let exists = map.is_some() || cx.topology.topic(side, &question.topic).is_some_and(|t| known(t));
                    // Java asks again at this one alone; LEADER_NOT_AVAILABLE it takes for final.
                    let why = if exists { code::NOT_LEADER_OR_FOLLOWER } else { code::UNKNOWN_TOPIC_OR_PARTITION };
                    question.reply = error(question.partition, why);
                }
            }
        }
        let asks: Vec<Ask> = plan.iter().map(|((side, node), asked)| self.request(*side, *node, asked)).collect();
        self.sent = plan.into_iter().map(|((side, _), asked)| (side, asked)).collect();
        if asks.is_empty() { self.answer(0) } else { Step::Ask(asks) }
    }

    fn request(&self, side: Side, node: NodeId, asked: &[usize]) -> Ask {
        let mut topics: Vec<TopicRequest> = vec![];
        for question in asked.iter().filter_map(|i| self.questions.get(*i)) {
            match topics.last_mut().filter(|t| t.name == question.topic) {
                Some(topic) => topic.partition_indexes.push(question.partition),
                None => {
                    let topic = TopicRequest::default().with_name(question.topic.clone());
                    topics.push(topic.with_partition_indexes(vec![question.partition]));
                }
            }
        }
        let request = DescribeProducersRequest::default().with_topics(topics);
        Ask::node(side, node, RequestKind::DescribeProducers(request))
    }

    fn hear(&mut self, cx: &Context<'_>, answers: Answers) -> i32 {
        let mut throttle_time_ms = 0;
        for ((side, asked), answer) in std::mem::take(&mut self.sent).into_iter().zip(answers) {
            let mut said: HashMap<(TopicName, i32), PartitionResponse> = HashMap::new();
            match answer {
                Ok(ResponseKind::DescribeProducers(a)) => {
                    throttle_time_ms = throttle_time_ms.max(a.throttle_time_ms);
                    for topic in a.topics {
                        said.extend(topic.partitions.into_iter().map(|p| ((topic.name.clone(), p.partition_index), p)));
                    }
                }
                _ => cx.shared.refresh(side),
            }
            for i in asked {
                let Some(question) = self.questions.get_mut(i) else { continue };
                let Some(mut found) = said.remove(&(question.topic.clone(), question.partition)) else { continue };
                if is_stale_topology(found.error_code) {
                    cx.shared.leaders_are_old(side);
                    found.error_code = told(found.error_code);
                }
                // A partition that was sealed meanwhile has another leader now: the client asks again.
                if question.map(cx).map_or(0, SpliceMap::seals) == question.seals {
                    question.reply = shown(question.map(cx), side, found);
                }
            }
        }
        throttle_time_ms
    }

    fn answer(&mut self, throttle_time_ms: i32) -> Step {
        let mut replies = std::mem::take(&mut self.questions).into_iter().map(|q| q.reply);
        let topics = self.request.topics.iter().map(|topic| {
            let partitions = replies.by_ref().take(topic.partition_indexes.len()).collect();
            TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        let topics = topics.collect();
        let answer = DescribeProducersResponse::default().with_throttle_time_ms(throttle_time_ms).with_topics(topics);
        Step::Answer(ResponseKind::DescribeProducers(answer))
    }
}

impl Machine for DescribeProducers {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Answers(answers) => {
                let throttle_time_ms = self.hear(cx, answers);
                self.answer(throttle_time_ms)
            }
            Input::Start | Input::Woken => self.ask(cx),
        }
    }
}

impl Question {
    /// `None`: no migration has to do with it.
    fn map<'a>(&self, cx: &'a Context<'_>) -> Option<&'a SpliceMap> {
        cx.partitions.get(&self.topic, self.partition).map(|state| &state.map)
    }
}

fn error(partition: i32, error: i16) -> PartitionResponse {
    PartitionResponse::default().with_partition_index(partition).with_error_code(error).with_error_message(None)
}

fn shown(map: Option<&SpliceMap>, side: Side, mut found: PartitionResponse) -> PartitionResponse {
    let seals = map.map_or(0, SpliceMap::seals);
    let one = |mut state: ProducerState| {
        let pid = VirtualPid::from_upstream(state.producer_id.0, seals)?;
        state.producer_id = ProducerId(pid.0);
        if let Some(map) = map.filter(|_| state.current_txn_start_offset > NONE) {
            // One that was open before the seam is so for readers from the seam on.
            let start = map.to_virtual(side, Native(state.current_txn_start_offset));
            state.current_txn_start_offset = start.unwrap_or(map.tail_start()).0;
        }
        Some(state)
    };
    found.active_producers = found.active_producers.into_iter().filter_map(one).collect();
    found
}
