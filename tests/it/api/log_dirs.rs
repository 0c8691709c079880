//! DescribeLogDirs: all brokers' directories as one node's, without a word about the brokers.

use std::collections::BTreeSet;

use kafka_cutover::api::{Ask, Input, To};
use kafka_cutover::error::code;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, RequestKind, ResponseKind};

use super::world::{SOURCE, TARGET, World, lost, text, topic};

type Topics<'a> = &'a [(&'a str, &'a [i32])];

fn describe(topics: Option<Topics>) -> DescribeLogDirsRequest {
    let one = |(name, partitions): &(&str, &[i32])| {
        DescribableLogDirTopic::default().with_topic(topic(name)).with_partitions(partitions.to_vec())
    };
    DescribeLogDirsRequest::default().with_topics(topics.map(|all| all.iter().map(one).collect()))
}

fn whom(asks: &[Ask]) -> Vec<(Side, To)> {
    asks.iter().map(|a| (a.side, a.to.clone())).collect()
}

fn wanted(ask: &Ask) -> Option<Vec<(String, Vec<i32>)>> {
    let RequestKind::DescribeLogDirs(request) = &ask.request else { panic!("another API") };
    Some(request.topics.as_ref()?.iter().map(|t| (t.topic.to_string(), t.partitions.clone())).collect())
}

fn dir(path: &str, error: i16, topics: Topics) -> DescribeLogDirsResult {
    let one = |(name, partitions): &(&str, &[i32])| {
        let partition = |i: &i32| {
            DescribeLogDirsPartition::default()
                .with_partition_index(*i)
                .with_partition_size(100 + i64::from(*i))
                .with_offset_lag(3)
        };
        DescribeLogDirsTopic::default()
            .with_name(topic(name))
            .with_partitions(partitions.iter().map(partition).collect())
    };
    DescribeLogDirsResult::default()
        .with_log_dir(text(path))
        .with_error_code(error)
        .with_topics(topics.iter().map(one).collect())
        .with_total_bytes(1_000)
        .with_usable_bytes(400)
}

fn said(dirs: Vec<DescribeLogDirsResult>) -> Result<ResponseKind, kafka_cutover::api::Unanswered> {
    Ok(DescribeLogDirsResponse::default().with_throttle_time_ms(4).with_results(dirs).into())
}

fn told(answer: ResponseKind) -> DescribeLogDirsResponse {
    let ResponseKind::DescribeLogDirs(answer) = answer else { panic!("another API") };
    answer
}

fn nodes(side: Side) -> impl Iterator<Item = (Side, To)> {
    let base = if side == Side::Source { SOURCE } else { TARGET };
    (1..=3).map(move |n| (side, To::Node(base + n)))
}

#[test]
fn before_a_seal_the_source_has_all_directories() {
    let world = World::new();
    for version in 1..=4 {
        let mut machine = world.machine(version, describe(None));
        let asks = machine.asks();
        assert_eq!(whom(&asks), nodes(Side::Source).collect::<Vec<_>>());
        assert!(asks.iter().all(|a| wanted(a).is_none()));
        let own = dir("/data/b1.source.real", 0, &[("orders", &[0, 1]), ("__kafka_cutover.default", &[0])]);
        let offline = dir("/data/1600000002", code::KAFKA_STORAGE_ERROR, &[]);
        let other = dir("/data/b1.source.real", 0, &[("orders", &[0])]);
        let answer = told(machine.answer(vec![said(vec![own]), said(vec![offline, other]), said(vec![])]));
        assert_eq!((answer.error_code, answer.throttle_time_ms, answer.results.len()), (0, 4, 3));
        let paths: BTreeSet<&str> = answer.results.iter().map(|d| d.log_dir.as_str()).collect();
        assert_eq!(paths.len(), 3, "the same path of two brokers is two directories");
        assert!(paths.iter().all(|p| p.starts_with("/source/")), "{paths:?}");
        assert_eq!(answer.results[1].error_code, code::KAFKA_STORAGE_ERROR);
        let [orders] = &answer.results[0].topics[..] else { panic!("our own topics are hidden") };
        assert_eq!(
            (orders.name.as_str(), orders.partitions[1].partition_size, orders.partitions[1].offset_lag),
            ("orders", 101, 3)
        );
        assert_eq!((answer.results[0].total_bytes, answer.results[0].usable_bytes), (1_000, 400));
    }
}

#[test]
fn a_directory_keeps_its_name() {
    let world = World::new();
    let paths = |absent: bool| {
        let mut machine = world.machine(4, describe(None));
        machine.asks();
        let first = if absent { lost() } else { said(vec![dir("/a", 0, &[])]) };
        let answer = told(machine.answer(vec![first, said(vec![dir("/a", 0, &[]), dir("/b", 0, &[])]), said(vec![])]));
        answer.results.iter().map(|d| d.log_dir.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(paths(false), paths(false));
    assert_eq!(paths(false)[1..], paths(true)[1..], "whoever else answers");
}

#[test]
fn the_target_is_asked_for_what_has_a_part_there() {
    let world = World::sealed();
    let mut machine = world.machine(4, describe(None));
    let asks = machine.asks();
    assert_eq!(whom(&asks), nodes(Side::Source).chain(nodes(Side::Target)).collect::<Vec<_>>());
    assert_eq!(wanted(&asks[0]), None);
    assert_eq!(wanted(&asks[3]), Some(vec![("orders".to_owned(), vec![0, 1, 2])]));
    let answers = asks.iter().map(|_| said(vec![dir("/data", 0, &[("orders", &[2])])])).collect();
    let answer = told(machine.answer(answers));
    let sides = |side: &str| answer.results.iter().filter(|d| d.log_dir.starts_with(side)).count();
    assert_eq!((sides("/source/"), sides("/target/")), (3, 3));

    let some: Topics = &[("plain", &[0]), ("orders", &[1]), ("__kafka_cutover.default", &[0])];
    let asks = world.machine(4, describe(Some(some))).asks();
    assert_eq!(wanted(&asks[0]), Some(vec![("plain".to_owned(), vec![0]), ("orders".to_owned(), vec![1])]));
    assert_eq!(wanted(&asks[3]), Some(vec![("orders".to_owned(), vec![1])]));
    let asks = world.machine(4, describe(Some(&[("plain", &[0])]))).asks();
    assert_eq!(whom(&asks), nodes(Side::Source).collect::<Vec<_>>());
}

#[test]
fn what_is_missing_shows() {
    let world = World::new();
    for version in 1..=4 {
        let mut machine = world.machine(version, describe(None));
        machine.asks();
        let refused = DescribeLogDirsResponse::default().with_error_code(if version >= 3 { 31 } else { 0 });
        let answer = told(machine.answer(vec![said(vec![dir("/a", 0, &[])]), lost(), Ok(refused.into())]));
        assert_eq!(answer.error_code, if version >= 3 { 31 } else { 0 });
        let errors: Vec<i16> = answer.results.iter().map(|d| d.error_code).collect();
        assert_eq!(errors, [0, code::KAFKA_STORAGE_ERROR], "a broker that says nothing is offline");
        assert!(world.was_refreshed(Side::Source));
    }
    let world = World::new();
    world.shared.topology.store(Default::default());
    let answer = told(world.machine(1, describe(None)).ends(Input::Start));
    assert_eq!((answer.results.len(), answer.results[0].error_code), (1, code::KAFKA_STORAGE_ERROR));
}
