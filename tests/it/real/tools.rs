//! Kafka's own command-line tools through the proxy, before a cutover, while a topic is prepared, and after it: each works,
//! or is refused in words. None shows who the brokers are. Those in the middle of a switch: `tools_held.rs`.
//!
//! Before with the tools of the source's version, after it with those of the target's; the whole version: both with both.

use kafka_cutover::ids::Side;

use crate::support::proxy::{MIGRATION, Proxy};
use crate::support::rig::Rig;
use crate::support::tools::Tools;
use crate::support::unique;

pub const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
pub const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
pub const CONFIGS: &str = "kafka.admin.ConfigCommand";
pub const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
pub const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
pub const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
pub const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
pub const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const NO_BROKERS: &str = "does not show brokers";

#[test]
fn every_tool_works_or_is_refused_in_words() {
    let rig = Rig::connect();
    let moved = unique("tools-moved");
    rig.create(&moved, 3);
    let mut proxy = Proxy::new(&rig, &[&moved]);
    proxy.start();
    let tools = Side::BOTH.map(|side| Tools::of(&rig, side, &proxy.bootstrap(), &rig.identities()));
    let sides = if Rig::full() { [vec![0, 1], vec![1, 0]] } else { [vec![0], vec![1]] };

    let mut records = 0;
    for tools in sides[0].iter().map(|side| &tools[*side]) {
        tools.phase.set("before");
        own_topic(tools);
        records_of(tools, &moved, &mut records);
        of_the_cluster(tools, &moved, &proxy);
    }
    proxy.prepare();
    for tools in sides[0].iter().map(|side| &tools[*side]) {
        tools.phase.set("prepared");
        refused_for(tools, &moved);
    }
    proxy.switch();
    for tools in sides[1].iter().map(|side| &tools[*side]) {
        tools.phase.set("after");
        records_of(tools, &moved, &mut records);
        refused_for(tools, &moved);
        own_topic(tools);
        of_the_cluster(tools, &moved, &proxy);
    }
    delete_records(&tools[1], &moved, &proxy);
    proxy.stop();
}

/// Where a tool has moved to in Kafka 4.
pub fn packaged(tools: &Tools, before: &str, name: &str) -> String {
    format!("{}.{name}", if tools.is_new { "org.apache.kafka.tools" } else { before })
}

/// A topic and a group that belong to no migration, from their making to their end.
fn own_topic(tools: &Tools) {
    let (topic, group) = (unique("tools-own"), unique("tools-group"));
    tools.works(TOPICS, &["--create", "--topic", &topic, "--partitions", "1"], "Created topic");
    tools.works(TOPICS, &["--alter", "--topic", &topic, "--partitions", "2"], "");
    tools.works(TOPICS, &["--describe", "--topic", &topic], "PartitionCount: 2");
    tools.works(TOPICS, &["--list"], &topic);
    let fifty = ["--topic", &topic, "--max-messages", "50"];
    tools.works_alone("org.apache.kafka.tools.VerifiableProducer", &fifty, "\"acked\":50");
    let typed = tools.run(&packaged(tools, "kafka.tools", "ConsoleProducer"), &["--topic", &topic], "typed\n");
    assert!(typed.0, "{}", typed.1);
    let read = ["--topic", &topic, "--group", &group, "--from-beginning", "--max-messages", "51"];
    tools.works(CONSOLE_CONSUMER, &read, "typed");
    let again = format!("{group}-verified");
    let read = ["--topic", &topic, "--group-id", &again, "--max-messages", "51", "--reset-policy", "earliest"];
    tools.works_alone("org.apache.kafka.tools.VerifiableConsumer", &read, "shutdown_complete");
    tools.works(GROUPS, &["--list"], &group);
    if tools.is_new {
        tools.works("org.apache.kafka.tools.GroupsCommand", &["--list"], &group);
    }
    tools.works(GROUPS, &["--describe", "--group", &group], &topic);
    let reset = ["--reset-offsets", "--to-earliest", "--execute", "--group", &group, "--topic", &topic];
    tools.works(GROUPS, &reset, &topic);
    tools.works(GROUPS, &["--delete-offsets", "--group", &again, "--topic", &topic], "Successful");
    tools.works(GROUPS, &["--delete", "--group", &group], "successful");
    alter_topic(tools, &topic, "retention.ms=3600000");
    let described = ["--describe", "--entity-type", "topics", "--entity-name", &topic];
    tools.comes_to_say(CONFIGS, &described, "retention.ms=3600000");
    tools.works(TOPICS, &["--delete", "--topic", &topic], "");
}

pub fn alter_topic(tools: &Tools, topic: &str, config: &str) {
    let flags = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", config];
    tools.works(CONFIGS, &flags, "Completed");
}

/// 300 more, behind so many.
fn records_of(tools: &Tools, topic: &str, so_far: &mut u64) {
    *so_far += 300;
    let server = format!("bootstrap.servers={}", tools.bootstrap);
    let load = ["--topic", topic, "--num-records", "300", "--throughput", "-1", "--record-size", "50"];
    let flags = [&load[..], &["--producer-props", &server]].concat();
    let (ok, said) = tools.run_bare("org.apache.kafka.tools.ProducerPerformance", &flags, "");
    assert!(ok && said.contains("300 records sent"), "{said}");
    let all = so_far.to_string();
    tools.works("org.apache.kafka.tools.ConsumerPerformance", &["--topic", topic, "--messages", &all], "");
    assert_eq!(records(tools, topic), *so_far);
    tools.works(TRANSACTIONS, &["describe-producers", "--topic", topic, "--partition", "0"], "ProducerEpoch");
}

/// How many there are, by the ends of its partitions.
pub fn records(tools: &Tools, topic: &str) -> u64 {
    let (ok, said) = tools.run(OFFSETS, &["--topic", topic], "");
    assert!(ok, "{said}");
    said.lines().filter_map(|l| l.strip_prefix(topic)?.rsplit(':').next()?.parse::<u64>().ok()).sum()
}

fn of_the_cluster(tools: &Tools, topic: &str, proxy: &Proxy) {
    cluster_id(tools);
    tools.works(&packaged(tools, "kafka.admin", "BrokerApiVersionsCommand"), &[], "Fetch(1): 4 to");
    let acls = packaged(tools, "kafka.admin", "AclCommand");
    tools.refused(&acls, &["--list"], "No Authorizer is configured");
    tools.works("org.apache.kafka.tools.FeatureCommand", &["describe"], "");
    tools.works(LOG_DIRS, &["--describe", "--topic-list", topic], "\"/source/");
    tools.works(TRANSACTIONS, &["list"], "TransactionalId");
    tools.refused(TRANSACTIONS, &["describe", "--transactional-id", "nobody"], "could not be found");
    tools.works(TRANSACTIONS, &["find-hanging", "--topic", topic], "Topic");
    let abort = ["abort", "--topic", topic, "--partition", "0", "--start-offset", "0"];
    tools.refused(TRANSACTIONS, &abort, "Could not find any open transactions");
    let quota =
        ["--alter", "--entity-type", "clients", "--entity-name", topic, "--add-config", "request_percentage=99"];
    tools.works(CONFIGS, &quota, "Completed");
    let described = ["--describe", "--entity-type", "clients", "--entity-name", topic];
    tools.comes_to_say(CONFIGS, &described, "request_percentage=99.0");
    brokers(tools, topic, proxy);
    not_offered(tools, proxy);
}

pub fn cluster_id(tools: &Tools) {
    let flags = ["cluster-id", "--bootstrap-server", &tools.bootstrap];
    let (ok, said) = tools.run_bare("org.apache.kafka.tools.ClusterTool", &flags, "");
    assert!(ok && said.contains("Cluster ID"), "{said}");
}

/// What names brokers.
fn brokers(tools: &Tools, topic: &str, proxy: &Proxy) {
    let described = ["--describe", "--entity-type", "brokers", "--entity-name", "1", "--all"];
    tools.works(CONFIGS, &described, "log.segment.bytes=16777216");
    let one = ["--alter", "--entity-type", "brokers", "--entity-name", "1", "--add-config", "background.threads=3"];
    tools.refused(CONFIGS, &one, NO_BROKERS);
    let all = ["--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "log.retention.ms=3600000"];
    tools.refused(CONFIGS, &all, NO_BROKERS);
    refused_election(tools, topic);
    tools.works(REASSIGN, &["--list"], "No partition reassignments found");
    let file = proxy.path("reassign.json");
    let text = format!(
        "{{\"version\":1,\"partitions\":[{{\"topic\":\"{topic}\",\"partition\":0,\"replicas\":[1],\"log_dirs\":[\"any\"]}}]}}"
    );
    std::fs::write(&file, text).expect("the file is written");
    let flags = ["--reassignment-json-file", file.to_str().expect("a path"), "--execute"];
    tools.refused(REASSIGN, &flags, NO_BROKERS);
}

pub fn refused_election(tools: &Tools, topic: &str) {
    let elect = ["--election-type", "preferred", "--topic", topic, "--partition", "0"];
    tools.refused(ELECTION, &elect, NO_BROKERS);
}

/// Whole tools whose APIs are not offered. Some end as if all was well: what they say counts.
fn not_offered(tools: &Tools, proxy: &Proxy) {
    let org = |name: &str| format!("org.apache.kafka.tools.{name}");
    tools.refused(&org("MetadataQuorumCommand"), &["describe", "--status"], "not support DESCRIBE_QUORUM");
    tools.refused(
        &org("FeatureCommand"),
        &["upgrade", "--feature", "transaction.version=1"],
        "not support UPDATE_FEATURES",
    );
    let file = proxy.path("empty.properties");
    std::fs::write(&file, "").expect("the file is written");
    let tokens = ["--describe", "--command-config", file.to_str().expect("a path")];
    tools.refused(&org("DelegationTokenCommand"), &tokens, "not support DESCRIBE_DELEGATION_TOKEN");
    let unregister = ["unregister", "--bootstrap-server", &tools.bootstrap, "--id", "1"];
    tools.says(&org("ClusterTool"), &unregister, "does not support the broker unregistration API");
    if tools.is_new {
        let nobody = ["--bootstrap-server", &tools.bootstrap, "--describe", "--group", "nobody"];
        tools.says(&org("consumer.group.ShareGroupCommand"), &nobody, "not support SHARE_GROUP_DESCRIBE");
        tools.says(&org("streams.StreamsGroupCommand"), &nobody, "not support STREAMS_GROUP_DESCRIBE");
    }
}

/// What would make the two clusters of a prepared topic differ.
fn refused_for(tools: &Tools, topic: &str) {
    tools.refused(TOPICS, &["--alter", "--topic", topic, "--partitions", "5"], MIGRATION);
    tools.refused(TOPICS, &["--delete", "--topic", topic], MIGRATION);
    alter_topic(tools, topic, "retention.ms=7200000"); // on both sides
}

fn delete_records(tools: &Tools, topic: &str, proxy: &Proxy) {
    let (_, said) = tools.run(OFFSETS, &["--topic", topic], "");
    let line = said.lines().find(|l| l.starts_with(topic) && !l.ends_with(":0")).expect("records somewhere");
    let partition = line.rsplit(':').nth(1).expect("topic:partition:offset");
    let file = proxy.path("delete.json");
    let text =
        format!("{{\"partitions\":[{{\"topic\":\"{topic}\",\"partition\":{partition},\"offset\":3}}],\"version\":1}}");
    std::fs::write(&file, text).expect("the file is written");
    let flags = ["--offset-json-file", file.to_str().expect("a path")];
    tools.works("org.apache.kafka.tools.DeleteRecordsCommand", &flags, "low_watermark: 3");
    let earliest = ["--topic", topic, "--time", "earliest"];
    tools.works(OFFSETS, &earliest, &format!("{topic}:{partition}:3"));
}
