//! DescribeConfigs (32), v1 to v4: the source's, read only where a broker is meant. A virtual node's configs are those
//! of one real broker, under the virtual id and without what tells brokers apart: ids, addresses, directories.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::ids::{NodeId, Side};
use crate::store::identity::is_marker_topic;

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
/// A broker that is gone is asked once; then another.
const ATTEMPTS: usize = 2;

pub struct DescribeConfigs {
    request: DescribeConfigsRequest,
    attempt: usize,
    /// Which resources of the request each Ask is for.
    sent: Vec<Vec<usize>>,
}

/// Whom a resource's configs are asked of.
enum Whose {
    Cluster,
    /// One of our nodes: a real broker stands for it.
    Node,
    Nobody,
    /// A topic of our own.
    Hidden,
}

impl DescribeConfigs {
    pub fn new(request: DescribeConfigsRequest) -> Self {
        Self { request, attempt: 0, sent: vec![] }
    }

    fn ask(&mut self, cx: &Context<'_>) -> Step {
        let broker = representative(cx, self.attempt);
        let mut anywhere: Vec<usize> = vec![];
        let mut asks: Vec<Ask> = vec![];
        self.sent.clear();
        for (i, resource) in self.request.resources.iter().enumerate() {
            match (whose(cx, resource), broker) {
                (Whose::Cluster, _) => anywhere.push(i),
                (Whose::Node, Some(node)) => {
                    let real = resource.clone().with_resource_name(StrBytes::from_string(node.to_string()));
                    asks.push(Ask::node(Side::Source, node, self.request_for(vec![real])));
                    self.sent.push(vec![i]);
                }
                (Whose::Node, None) | (Whose::Nobody | Whose::Hidden, _) => {}
            }
        }
        if !anywhere.is_empty() {
            let resources = anywhere.iter().filter_map(|i| self.request.resources.get(*i).cloned()).collect();
            asks.push(Ask::any(Side::Source, self.request_for(resources)));
            self.sent.push(anywhere);
        }
        if asks.is_empty() { self.answer(cx, vec![]) } else { Step::Ask(asks) }
    }

    fn request_for(&self, resources: Vec<DescribeConfigsResource>) -> RequestKind {
        RequestKind::DescribeConfigs(self.request.clone().with_resources(resources))
    }

    fn answer(&self, cx: &Context<'_>, answers: Answers) -> Step {
        let mut merged = DescribeConfigsResponse::default();
        let mut results: Vec<Option<DescribeConfigsResult>> = self.request.resources.iter().map(|_| None).collect();
        for (asked, answer) in self.sent.iter().zip(answers) {
            let Ok(ResponseKind::DescribeConfigs(answer)) = answer else { continue };
            merged.throttle_time_ms = merged.throttle_time_ms.max(answer.throttle_time_ms);
            for i in asked {
                let Some(resource) = self.request.resources.get(*i) else { continue };
                // Brokers do not keep the order. One that stands for a node answers under its own name.
                let alone = matches!(whose(cx, resource), Whose::Node);
                let is_it = |r: &&DescribeConfigsResult| {
                    r.resource_type == resource.resource_type && (alone || r.resource_name == resource.resource_name)
                };
                results[*i] = answer.results.iter().find(is_it).map(|found| shown(cx, resource, found.clone()));
            }
        }
        let results = results.into_iter().zip(&self.request.resources);
        merged.results = results.map(|(found, r)| found.unwrap_or_else(|| failed(cx, r))).collect();
        Step::Answer(ResponseKind::DescribeConfigs(merged))
    }
}

impl Machine for DescribeConfigs {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Answers(answers) => {
                self.attempt += 1;
                if answers.iter().any(Result::is_err) && self.attempt < ATTEMPTS {
                    cx.shared.refresh(Side::Source);
                    return self.ask(cx);
                }
                self.answer(cx, answers)
            }
            Input::Start | Input::Woken => self.ask(cx),
        }
    }
}

/// The broker that stands for every virtual node: the first of them, and the next if it does not answer.
fn representative(cx: &Context<'_>, attempt: usize) -> Option<NodeId> {
    let mut nodes: Vec<NodeId> = cx.topology.side(Side::Source)?.brokers.keys().copied().collect();
    nodes.sort_unstable();
    nodes.get(attempt % nodes.len().max(1)).copied()
}

pub(super) fn is_broker(resource_type: i8) -> bool {
    resource_type == BROKER || resource_type == BROKER_LOGGER
}

fn whose(cx: &Context<'_>, resource: &DescribeConfigsResource) -> Whose {
    if resource.resource_type == TOPIC && is_marker_topic(&resource.resource_name) {
        return Whose::Hidden;
    }
    // A broker without a name: the defaults of all.
    if !is_broker(resource.resource_type) || resource.resource_name.is_empty() {
        return Whose::Cluster;
    }
    match resource.resource_name.parse::<i32>() {
        Ok(id) if cx.nodes.all().iter().any(|n| n.id == id) => Whose::Node,
        _ => Whose::Nobody,
    }
}

fn shown(
    cx: &Context<'_>,
    resource: &DescribeConfigsResource,
    mut found: DescribeConfigsResult,
) -> DescribeConfigsResult {
    found.resource_name = resource.resource_name.clone();
    if is_broker(resource.resource_type) {
        // It may name the broker.
        found.error_message = None;
        found.configs.retain(|c| !tells_a_broker(cx, c));
        for config in &mut found.configs {
            config.read_only = true;
        }
    } else {
        found.configs.retain(|c| !names_brokers(&c.name));
    }
    found
}

fn failed(cx: &Context<'_>, resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    let (error, text) = match whose(cx, resource) {
        Whose::Hidden => (code::UNKNOWN_TOPIC_OR_PARTITION, "the source has no such topic".to_owned()),
        Whose::Nobody => (code::INVALID_REQUEST, format!("there is no node {}", resource.resource_name.as_str())),
        _ => (code::REQUEST_TIMED_OUT, "no broker of the source answered".to_owned()),
    };
    DescribeConfigsResult::default()
        .with_error_code(error)
        .with_error_message(Some(StrBytes::from_string(text)))
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
}

/// Topic configs whose values are broker ids.
pub fn names_brokers(config: &str) -> bool {
    matches!(config, "leader.replication.throttled.replicas" | "follower.replication.throttled.replicas")
}

/// Whether a broker's config says who or where a broker is, by its name or by an address in its value.
fn tells_a_broker(cx: &Context<'_>, config: &DescribeConfigsResourceResult) -> bool {
    const NAMES: [&str; 18] = [
        "advertised.host.name",
        "advertised.listeners",
        "advertised.port",
        "broker.id",
        "broker.rack",
        "controller.quorum.bootstrap.servers",
        "controller.quorum.voters",
        "early.start.listeners",
        "host.name",
        "listeners",
        "log.dir",
        "log.dirs",
        "metadata.log.dir",
        "node.id",
        "port",
        "reserved.broker.max.id",
        "zookeeper.connect",
        "cordoned.log.dirs",
    ];
    if NAMES.contains(&config.name.as_str()) || names_brokers(&config.name) {
        return true;
    }
    let values = config.value.iter().chain(config.synonyms.iter().filter_map(|s| s.value.as_ref()));
    let addresses = || Side::BOTH.into_iter().filter_map(|s| cx.topology.side(s)).flat_map(|c| c.brokers.values());
    values.into_iter().any(|value| addresses().any(|broker| value.contains(&broker.address())))
}
