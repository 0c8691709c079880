//! What is about brokers: no broker is asked, and the refusal stands where tools print it.

use kafka_cutover::api::Input;
use kafka_cutover::error::code;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, BrokerId, ElectLeadersRequest,
    ListPartitionReassignmentsRequest, ResponseKind,
};

use super::world::{SOURCE, World, text, topic};

const WHY: &str = "does not show brokers";

/// Topic, partition, error and text.
fn elected(answer: ResponseKind) -> Vec<(String, i32, i16, String)> {
    let ResponseKind::ElectLeaders(answer) = answer else { panic!("another API") };
    assert_eq!(answer.error_code, 0, "the Java client drops the partitions, and their texts, for an error here");
    let partitions = answer.replica_election_results.iter().flat_map(|t| {
        let text = |m: &Option<_>| m.as_ref().map(ToString::to_string).unwrap_or_default();
        let told = t.partition_result.iter();
        told.map(move |p| (t.topic.to_string(), p.partition_id, p.error_code, text(&p.error_message)))
    });
    partitions.collect()
}

#[test]
fn leaders_are_not_elected_here() {
    let world = World::sealed();
    for version in 0..=2 {
        let named = TopicPartitions::default().with_topic(topic("plain")).with_partitions(vec![1]);
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![named]));
        let told = elected(world.machine(version, request).ends(Input::Start));
        assert_eq!((told.len(), told[0].0.as_str(), told[0].1, told[0].2), (1, "plain", 1, code::POLICY_VIOLATION));
        assert!(told[0].3.contains(WHY), "{}", told[0].3);

        let all = ElectLeadersRequest::default().with_topic_partitions(None);
        let told = elected(world.machine(version, all).ends(Input::Start));
        let told: Vec<_> = told.iter().map(|t| (t.0.as_str(), t.1, t.2)).collect();
        let expected = [("orders", 0), ("orders", 1), ("orders", 2), ("plain", 0), ("plain", 1)];
        assert_eq!(told, expected.map(|(t, p)| (t, p, code::POLICY_VIOLATION)), "v{version}: every partition");
    }
}

#[test]
fn replicas_are_not_reassigned_here() {
    let world = World::new();
    for version in 0..=1 {
        let partition = ReassignablePartition::default()
            .with_partition_index(1)
            .with_replicas(Some(vec![BrokerId(SOURCE + 1), BrokerId(SOURCE + 2)]));
        let topics = vec![ReassignableTopic::default().with_name(topic("plain")).with_partitions(vec![partition])];
        let request = AlterPartitionReassignmentsRequest::default().with_topics(topics);
        let answer = world.machine(version, request).ends(Input::Start);
        let ResponseKind::AlterPartitionReassignments(answer) = answer else { panic!("another API") };
        let told = &answer.responses[0].partitions[0];
        assert_eq!((answer.error_code, told.partition_index, told.error_code), (0, 1, code::POLICY_VIOLATION));
        assert!(told.error_message.as_ref().unwrap().contains(WHY));
    }
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let answer = world.machine(0, request).ends(Input::Start);
    let ResponseKind::ListPartitionReassignments(answer) = answer else { panic!("another API") };
    assert_eq!((answer.error_code, answer.error_message, answer.topics.len()), (0, None, 0));
}

#[test]
fn logs_do_not_change_directories_here() {
    let world = World::new();
    for version in 1..=2 {
        let topics = vec![AlterReplicaLogDirTopic::default().with_name(topic("plain")).with_partitions(vec![0, 1])];
        let dirs = vec![AlterReplicaLogDir::default().with_path(text("/data")).with_topics(topics)];
        let request = AlterReplicaLogDirsRequest::default().with_dirs(dirs);
        let answer = world.machine(version, request).ends(Input::Start);
        let ResponseKind::AlterReplicaLogDirs(answer) = answer else { panic!("another API") };
        let told: Vec<_> = answer.results[0].partitions.iter().map(|p| (p.partition_index, p.error_code)).collect();
        assert_eq!(told, [(0, code::POLICY_VIOLATION), (1, code::POLICY_VIOLATION)]);
    }
}
