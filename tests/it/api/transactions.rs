//! Transactions described and listed: at their coordinators, with virtual producer ids.

use kafka_cutover::api::{Input, To, Unanswered};
use kafka_cutover::error::code;
use kafka_cutover::ids::{Side, VirtualPid};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_transactions_response as listed;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, FindCoordinatorRequest, ListTransactionsRequest,
    ListTransactionsResponse, ProducerId, RequestKind, ResponseKind, TransactionalId,
};

use super::world::{SOURCE, World, lost, text, topic};

const OWN: &str = "__kafka_cutover.default";

fn id(name: &str) -> TransactionalId {
    TransactionalId(text(name))
}

#[test]
fn a_state_is_asked_of_the_ids_coordinator() {
    let world = World::sealed();
    world.shared.transaction_coordinators.set(Side::Source, "b", SOURCE + 2);
    world.shared.coordinators.set(Side::Source, "b", SOURCE + 1);
    let names = ["a", "b", "c"];
    let request = DescribeTransactionsRequest::default().with_transactional_ids(names.map(id).to_vec());
    let mut machine = world.machine(0, request);
    for (ask, name) in machine.asks().iter().zip(names) {
        assert_eq!((ask.side, &ask.to), (Side::Source, &To::TransactionCoordinator(name.to_owned())));
        let RequestKind::DescribeTransactions(part) = &ask.request else { panic!("{ask:?}") };
        assert_eq!(part.transactional_ids, [id(name)]);
    }
    let state = |topics: &[&str]| {
        let topics = topics.iter().map(|t| TopicData::default().with_topic(topic(t)).with_partitions(vec![1]));
        TransactionState::default()
            .with_transactional_id(id("a"))
            .with_transaction_state(text("Ongoing"))
            .with_producer_id(ProducerId(7))
            .with_producer_epoch(3)
            .with_topics(topics.collect())
    };
    let answer =
        DescribeTransactionsResponse::default().with_transaction_states(vec![state(&["orders", OWN, "plain"])]);
    let answers = vec![Ok(answer.with_throttle_time_ms(5).into()), lost(), Err(Unanswered::NoCoordinator(53))];
    let ResponseKind::DescribeTransactions(answer) = machine.answer(answers) else { panic!("another API") };
    assert_eq!((answer.throttle_time_ms, answer.transaction_states.len()), (5, 3));
    assert_eq!(answer.transaction_states[0], state(&["orders", "plain"]));
    let told: Vec<_> =
        answer.transaction_states[1..].iter().map(|t| (t.transactional_id.as_str(), t.error_code)).collect();
    assert_eq!(told, [("b", code::NOT_COORDINATOR), ("c", 53)]);
    assert_eq!(world.shared.transaction_coordinators.get(Side::Source, "b"), None, "looked up anew");
    assert_eq!(world.shared.coordinators.get(Side::Source, "b"), Some(SOURCE + 1), "a group of its name is another's");

    let none = world.machine(0, DescribeTransactionsRequest::default()).ends(Input::Start);
    assert_eq!(none, DescribeTransactionsResponse::default().into());
}

fn transaction(name: &str, pid: i64) -> listed::TransactionState {
    listed::TransactionState::default()
        .with_transactional_id(id(name))
        .with_producer_id(ProducerId(pid))
        .with_transaction_state(text("Ongoing"))
}

fn list(all: &[(&str, i64)], unknown: &[&str], error: i16) -> ListTransactionsResponse {
    ListTransactionsResponse::default()
        .with_error_code(error)
        .with_unknown_state_filters(unknown.iter().map(|s| text(s)).collect())
        .with_transaction_states(all.iter().map(|(name, pid)| transaction(name, *pid)).collect())
}

#[test]
fn every_broker_of_the_source_lists_and_each_id_comes_once() {
    for version in 0..=2 {
        let world = World::sealed();
        let mut request = ListTransactionsRequest::default().with_state_filters(vec![text("Ongoing"), text("Odd")]);
        if version >= 1 {
            request.duration_filter = 500;
        }
        if version >= 2 {
            request.transactional_id_pattern = Some(text("a|b"));
        }
        let mut machine = world.machine(version, request.clone());
        let asks = machine.asks();
        let asked: Vec<_> = asks.iter().map(|a| (a.side, a.to.clone())).collect();
        assert_eq!(asked, [1, 2, 3].map(|n| (Side::Source, To::Node(SOURCE + n))));
        assert!(asks.iter().all(|a| a.request == request.clone().into()));
        let answers =
            [list(&[("a", 1)], &["Odd"], 0), list(&[], &["Odd"], 0), list(&[("b", 2), ("a", 1)], &["Odd"], 0)];
        let answer = machine.answer(answers.into_iter().map(|a| Ok(a.into())).collect());
        assert_eq!(answer, list(&[("a", 1), ("b", 2)], &["Odd"], 0).into());
    }
}

#[test]
fn a_producer_id_that_the_source_has_not_issued_matches_none_of_its() {
    let world = World::new();
    let foreign = VirtualPid::issued(Side::Target, 7).0;
    let pids = |pids: &[i64]| pids.iter().map(|p| ProducerId(*p)).collect::<Vec<_>>();
    for (asked, sent) in [(vec![7, foreign], vec![7, -1]), (vec![foreign], vec![-1]), (vec![], vec![])] {
        let request = ListTransactionsRequest::default().with_producer_id_filters(pids(&asked));
        let asks = world.machine(0, request).asks();
        let RequestKind::ListTransactions(request) = &asks[0].request else { panic!("{asks:?}") };
        assert_eq!(request.producer_id_filters, pids(&sent), "an empty list would be all");
    }
}

#[test]
fn a_list_without_one_brokers_transactions_is_asked_for_again() {
    let world = World::new();
    let mut machine = world.machine(0, ListTransactionsRequest::default());
    machine.asks();
    let part = || Ok(list(&[("a", 1)], &[], 0).into());
    let ResponseKind::ListTransactions(answer) = machine.answer(vec![part(), lost(), part()]) else {
        panic!("another")
    };
    assert_eq!(answer.error_code, code::COORDINATOR_LOAD_IN_PROGRESS);
    assert!(world.was_refreshed(Side::Source));
}

#[test]
fn virtual_producer_ids_and_back() {
    for side in Side::BOTH {
        let pid = VirtualPid::issued(side, 7);
        assert_eq!((pid.native(side), pid.native(side.other())), (Some(7), None));
    }
    assert_eq!((VirtualPid(-1).native(Side::Source), VirtualPid(-1).native(Side::Target)), (None, None));
}

#[test]
fn coordinators_of_transactional_ids_are_found_and_of_share_groups_are_not() {
    let world = World::new();
    for (key_type, error) in [(0, 0), (1, 0), (2, code::INVALID_REQUEST)] {
        let request = FindCoordinatorRequest::default().with_key_type(key_type);
        let ResponseKind::FindCoordinator(answer) =
            world.machine(6, request.clone().with_coordinator_keys(vec![text("k")])).ends(Input::Start)
        else {
            panic!("another API")
        };
        let Coordinator { error_code, node_id, host, .. } = &answer.coordinators[0];
        assert_eq!(*error_code, error);
        assert_eq!((node_id.0 > 0, host.starts_with("proxy-")), (error == 0, error == 0));
        let ResponseKind::FindCoordinator(answer) = world.machine(3, request.with_key(text("k"))).ends(Input::Start)
        else {
            panic!("another API")
        };
        assert_eq!(answer.error_code, error);
    }
}
