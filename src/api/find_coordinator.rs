//! FindCoordinator (10), v0 to v6: the coordinator of every group and transactional id is a virtual node, whatever its
//! home (PROTOCOL.md rule 28). Share groups are refused.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::error::code;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub fn answer(cx: &Context<'_>, request: &FindCoordinatorRequest) -> ResponseKind {
    let known = request.key_type == GROUP || request.key_type == TRANSACTION;
    if !known {
        tracing::warn!(
            key_type = request.key_type,
            key = %request.key,
            "a coordinator for share groups was asked for: refused, they are not supported"
        );
    }
    let refusal = code::INVALID_REQUEST;
    let text = StrBytes::from_static_str("kafka-cutover does not offer share groups");
    if cx.version < 4 {
        let node = cx.nodes.coordinator(&request.key);
        let answer = match known {
            true => FindCoordinatorResponse::default()
                .with_node_id(BrokerId(node.id))
                .with_host(StrBytes::from_string(node.host.clone()))
                .with_port(i32::from(node.port)),
            false => FindCoordinatorResponse::default().with_error_code(refusal).with_error_message(Some(text)),
        };
        return ResponseKind::FindCoordinator(answer);
    }
    let coordinators = request.coordinator_keys.iter().map(|key| {
        let node = cx.nodes.coordinator(key);
        let coordinator = Coordinator::default().with_key(key.clone());
        match known {
            true => coordinator
                .with_node_id(BrokerId(node.id))
                .with_host(StrBytes::from_string(node.host.clone()))
                .with_port(i32::from(node.port)),
            false => {
                coordinator.with_node_id(BrokerId(-1)).with_error_code(refusal).with_error_message(Some(text.clone()))
            }
        }
    });
    ResponseKind::FindCoordinator(FindCoordinatorResponse::default().with_coordinators(coordinators.collect()))
}
