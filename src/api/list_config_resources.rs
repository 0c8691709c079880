//! ListConfigResources (74), v0 (client metrics only, KIP-714) and v1 (KIP-1142): what has configs, as clients may see it.
//! Topics and nodes are those of Metadata; client metrics and groups with configs of their own are the source's.

use std::collections::BTreeSet;

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use super::configs::{BROKER, BROKER_LOGGER, TOPIC};
use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::ids::Side;
use crate::store::identity::is_marker_topic;

const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
/// In the order in which a broker lists them.
const ALL: [i8; 5] = [GROUP, CLIENT_METRICS, BROKER_LOGGER, BROKER, TOPIC];

pub struct ListConfigResources {
    wanted: BTreeSet<i8>,
}

impl ListConfigResources {
    pub fn new(version: i16, request: &ListConfigResourcesRequest) -> Self {
        let wanted = match (version, request.resource_types.as_slice()) {
            (0, _) => [CLIENT_METRICS].into(),
            (_, []) => ALL.into(),
            (_, types) => types.iter().copied().collect(),
        };
        Self { wanted }
    }

    /// What only the source knows.
    fn ask(&self, cx: &Context<'_>) -> Option<Ask> {
        let theirs: Vec<i8> = self.wanted.iter().copied().filter(|t| [CLIENT_METRICS, GROUP].contains(t)).collect();
        // v0 has no types, and an empty list means all of them.
        let types = if cx.version == 0 { vec![] } else { theirs.clone() };
        let request = ListConfigResourcesRequest::default().with_resource_types(types);
        (!theirs.is_empty()).then(|| Ask::any(Side::Source, RequestKind::ListConfigResources(request)))
    }

    fn answer(&self, cx: &Context<'_>, answers: Answers) -> ListConfigResourcesResponse {
        let mut merged = ListConfigResourcesResponse::default();
        for answer in answers {
            match answer {
                Ok(ResponseKind::ListConfigResources(answer)) => {
                    merged.throttle_time_ms = answer.throttle_time_ms;
                    merged.error_code = answer.error_code;
                    merged.config_resources = answer.config_resources;
                }
                _ => merged.error_code = code::REQUEST_TIMED_OUT,
            }
        }
        if merged.error_code != code::NONE {
            merged.config_resources.clear();
            return merged;
        }
        let resource = |kind: i8, name: &str| {
            ConfigResource::default()
                .with_resource_type(kind)
                .with_resource_name(StrBytes::from_string(name.to_owned()))
        };
        for kind in [BROKER_LOGGER, BROKER].into_iter().filter(|k| self.wanted.contains(k)) {
            merged.config_resources.extend(cx.nodes.all().iter().map(|n| resource(kind, &n.id.to_string())));
        }
        if self.wanted.contains(&TOPIC) {
            let topics = cx.topology.side(Side::Source).into_iter().flat_map(|c| c.topics.keys());
            let mut topics: Vec<_> = topics.filter(|name| !is_marker_topic(name)).collect();
            topics.sort();
            merged.config_resources.extend(topics.into_iter().map(|name| resource(TOPIC, name)));
        }
        merged
    }
}

impl Machine for ListConfigResources {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let answers = match input {
            Input::Answers(answers) => answers,
            Input::Start | Input::Woken => {
                if let Some(unknown) = self.wanted.iter().find(|t| !ALL.contains(t)) {
                    tracing::debug!(resource_type = unknown, "configs of an unknown kind are asked for");
                    let refused = ListConfigResourcesResponse::default().with_error_code(code::UNSUPPORTED_VERSION);
                    return Step::Answer(refused.into());
                }
                match self.ask(cx) {
                    Some(ask) => return Step::Ask(vec![ask]),
                    None => vec![],
                }
            }
        };
        Step::Answer(self.answer(cx, answers).into())
    }
}
