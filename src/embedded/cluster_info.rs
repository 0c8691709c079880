//! DescribeCluster v0-2 and FindCoordinator v0-6.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::metadata::controller;
use super::state::State;

/// CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE
const CLUSTER_OPERATIONS: i32 = 0x1fa0;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const CONTROLLER_ENDPOINTS: i8 = 2;

pub fn describe_cluster(call: &Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let state = call.shared.lock();
    if request.endpoint_type == CONTROLLER_ENDPOINTS {
        return DescribeClusterResponse::default().with_error_code(E::MismatchedEndpointType.code());
    }
    let broker = |n: &super::state::Node| {
        DescribeClusterBroker::default()
            .with_broker_id(n.id.into())
            .with_host(StrBytes::from_string(n.host.clone()))
            .with_port(i32::from(n.port))
    };
    let response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(call.shared.spec.cluster_id.clone()))
        .with_controller_id(controller(&state).into())
        .with_brokers(state.nodes.iter().filter(|n| n.alive).map(broker).collect());
    if request.include_cluster_authorized_operations {
        response.with_cluster_authorized_operations(CLUSTER_OPERATIONS)
    } else {
        response
    }
}

pub fn find_coordinator(call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let state = call.shared.lock();
    if call.version >= 4 {
        let coordinators = request.coordinator_keys.iter().map(|key| find(&state, key, request.key_type)).collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = find(&state, &request.key, request.key_type);
    let response = FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port);
    if call.version >= 1 { response.with_error_message(found.error_message) } else { response }
}

fn find(state: &State, key: &StrBytes, key_type: i8) -> Coordinator {
    let answer = Coordinator::default().with_key(key.clone());
    let refused = |error: E| {
        answer
            .clone()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(error.to_string())))
            .with_node_id((-1).into())
            .with_port(-1)
    };
    if ![GROUP, TRANSACTION].contains(&key_type) {
        return refused(E::InvalidRequest);
    }
    match state.coordinator(key) {
        Some(node) => {
            let node = &state.nodes[node];
            answer
                .with_node_id(node.id.into())
                .with_host(StrBytes::from_string(node.host.clone()))
                .with_port(i32::from(node.port))
        }
        None => refused(E::CoordinatorNotAvailable),
    }
}
