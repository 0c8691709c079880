//! What operators' tools ask, over the wire: transactions, producers, ACLs.

use kafka_cutover::ids::Side;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{
    CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest, DescribeProducersRequest, DescribeTransactionsRequest,
    FindCoordinatorRequest, InitProducerIdRequest, ListTransactionsRequest, delete_acls_request,
};

use super::world::*;

const SECURITY_DISABLED: i16 = 54;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;

/// Begun beside the proxy, by its own coordinator; its producer id.
async fn initialise(world: &World, id: &str) -> i64 {
    for address in world.source.bootstrap() {
        let mut raw = Raw::connect(&address).await;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(text(id).into()))
            .with_transaction_timeout_ms(9_000);
        let answer = raw.ask(&request, 5).await;
        if answer.error_code == 0 {
            return answer.producer_id.0;
        }
    }
    panic!("nobody coordinates {id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_found_at_whichever_broker_coordinates_them() {
    let mut world = World::of_nodes(3, 1, |_| {});
    world.start().unwrap();
    let mut pids = vec![];
    for n in 0..6 {
        let id = format!("id-{n}");
        pids.push((id.clone(), initialise(&world, &id).await));
    }
    let mut raw = world.client().await;
    let find = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("id-0")]);
    let found = raw.ask(&find, 4).await;
    assert_eq!((found.coordinators[0].error_code, found.coordinators[0].node_id.0), (0, 1), "the proxy's node");

    let ids = pids.iter().map(|(id, _)| text(id).into()).chain([text("nobody").into()]);
    let request = DescribeTransactionsRequest::default().with_transactional_ids(ids.collect());
    let answer = raw.ask(&request, 0).await;
    for ((id, pid), state) in pids.iter().zip(&answer.transaction_states) {
        let told =
            (state.transactional_id.as_str(), state.error_code, state.producer_id.0, state.transaction_timeout_ms);
        assert_eq!(told, (id.as_str(), 0, *pid, 9_000));
    }
    assert_eq!(answer.transaction_states[6].error_code, TRANSACTIONAL_ID_NOT_FOUND);

    let answer = raw.ask(&ListTransactionsRequest::default(), 0).await;
    let mut listed: Vec<_> =
        answer.transaction_states.iter().map(|t| (t.transactional_id.to_string(), t.producer_id.0)).collect();
    listed.sort();
    assert_eq!((answer.error_code, listed), (0, pids));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_has_the_same_id_before_and_after_the_switch() {
    let world = World::new(1);
    world.prepare().await;
    let pid = world.producer().await;
    let mut raw = world.client().await;
    let topic = TopicRequest::default().with_name(text("moved").into()).with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let mut last = 0;
    for switched in [false, true] {
        if switched {
            world.switch().await.expect("switched");
        }
        assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, last, 2))).await.0, 0);
        last += 2;
        let answer = raw.ask(&request, 0).await;
        let partition = &answer.topics[0].partitions[0];
        let told: Vec<_> = partition.active_producers.iter().map(|p| (p.producer_id.0, p.last_sequence)).collect();
        assert_eq!((partition.error_code, told), (0, vec![(pid, last - 1)]), "switched: {switched}");
    }
    assert_eq!(world.came(Side::Target, 0).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_an_authorizer_says_so() {
    let world = World::new(1);
    let mut raw = world.client().await;
    let described = raw.ask(&DescribeAclsRequest::default(), 3).await;
    assert_eq!(described.error_code, SECURITY_DISABLED);
    let acl = AclCreation::default().with_resource_type(2).with_resource_name(text("moved"));
    let created = raw.ask(&CreateAclsRequest::default().with_creations(vec![acl]), 3).await;
    assert_eq!(created.results[0].error_code, SECURITY_DISABLED);
    for name in [Some(text("moved")), None] {
        let filter = delete_acls_request::DeleteAclsFilter::default()
            .with_resource_type_filter(2)
            .with_resource_name_filter(name);
        let deleted = raw.ask(&DeleteAclsRequest::default().with_filters(vec![filter]), 3).await;
        assert_eq!(deleted.filter_results[0].error_code, SECURITY_DISABLED);
    }
}
