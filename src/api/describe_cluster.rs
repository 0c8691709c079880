//! DescribeCluster (60), v0 to v1: the virtual cluster, its nodes and its controller.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use super::Context;

/// KIP-919: 1 asks for brokers, 2 for controllers.
const BROKERS: i8 = 1;
const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;

pub fn answer(cx: &Context<'_>, request: &DescribeClusterRequest) -> ResponseKind {
    let mut answer = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(cx.shared.cluster.cluster_id.clone()))
        .with_cluster_authorized_operations(i32::MIN);
    if cx.version >= 1 && request.endpoint_type != BROKERS {
        let text = "kafka-cutover has no controller endpoint";
        let answer = answer.with_endpoint_type(request.endpoint_type);
        return ResponseKind::DescribeCluster(
            answer.with_error_code(UNSUPPORTED_ENDPOINT_TYPE).with_error_message(Some(StrBytes::from_static_str(text))),
        );
    }
    let brokers = cx.nodes.all().iter().map(|n| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(n.id))
            .with_host(StrBytes::from_string(n.host.clone()))
            .with_port(i32::from(n.port))
    });
    answer.controller_id = BrokerId(cx.nodes.first().id);
    answer.brokers = brokers.collect();
    ResponseKind::DescribeCluster(answer)
}
