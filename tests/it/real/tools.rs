//! Kafka's own command-line tools through the proxy, before a cutover with those of the source's version and after it with
//! those of the target's: each works, or is refused in words. None shows who the brokers are.

use std::io::Write;
use std::process::{Command, Stdio};

use kafka_cutover::ids::Side;

use crate::support::proxy::{MIGRATION, Proxy};
use crate::support::rig::Rig;
use crate::support::unique;

#[test]
fn every_tool_works_or_is_refused_in_words() {
    let rig = Rig::connect();
    let moved = unique("tools-moved");
    rig.create(&moved, 3);
    let mut proxy = Proxy::new(&rig, &[&moved]);
    proxy.start();
    let hidden = rig.identities();
    let tools = |side, phase| Tools { rig: &rig, side, bootstrap: proxy.bootstrap(), phase, hidden: &hidden };

    let before = tools(Side::Source, "before");
    before.own_topic();
    before.records_of(&moved, 0);
    before.of_the_cluster(&moved);
    proxy.prepare();
    before.refused_for(&moved);
    proxy.switch();
    let after = tools(Side::Target, "after");
    after.records_of(&moved, 300);
    after.refused_for(&moved);
    after.own_topic();
    after.of_the_cluster(&moved);
    after.delete_records(&moved, &proxy);
    proxy.stop();
}

struct Tools<'a> {
    rig: &'a Rig,
    /// Whose version they are of.
    side: Side,
    bootstrap: String,
    phase: &'a str,
    hidden: &'a [String],
}

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";

impl Tools<'_> {
    /// A topic and a group that belong to no migration, from their making to their end.
    fn own_topic(&self) {
        let (topic, group) = (format!("{}-own", unique(self.phase)), format!("{}-group", unique(self.phase)));
        self.works(TOPICS, &["--create", "--topic", &topic, "--partitions", "1"], "Created topic");
        self.works(TOPICS, &["--alter", "--topic", &topic, "--partitions", "2"], "");
        self.works(TOPICS, &["--describe", "--topic", &topic], "PartitionCount: 2");
        self.works(TOPICS, &["--list"], &topic);
        self.works(
            "org.apache.kafka.tools.VerifiableProducer",
            &["--topic", &topic, "--max-messages", "50"],
            "\"acked\":50",
        );
        let (console, packaged) =
            ("ConsoleProducer", if self.is_new() { "org.apache.kafka.tools" } else { "kafka.tools" });
        let typed = self.run(&format!("{packaged}.{console}"), &["--topic", &topic], "typed\n");
        assert!(typed.0, "{}", typed.1);
        let read = ["--topic", &topic, "--group", &group, "--from-beginning", "--max-messages", "51"];
        self.works("org.apache.kafka.tools.consumer.ConsoleConsumer", &read, "typed");
        let again = format!("{group}-verified");
        let read = ["--topic", &topic, "--group-id", &again, "--max-messages", "51", "--reset-policy", "earliest"];
        self.works("org.apache.kafka.tools.VerifiableConsumer", &read, "shutdown_complete");
        self.works(GROUPS, &["--list"], &group);
        self.works(GROUPS, &["--describe", "--group", &group], &topic);
        let reset = ["--reset-offsets", "--to-earliest", "--execute", "--group", &group, "--topic", &topic];
        self.works(GROUPS, &reset, &topic);
        self.works(GROUPS, &["--delete-offsets", "--group", &again, "--topic", &topic], "Successful");
        self.works(GROUPS, &["--delete", "--group", &group], "successful");
        let retention =
            ["--alter", "--entity-type", "topics", "--entity-name", &topic, "--add-config", "retention.ms=3600000"];
        self.works(CONFIGS, &retention, "Completed");
        let described = ["--describe", "--entity-type", "topics", "--entity-name", &topic];
        self.works(CONFIGS, &described, "retention.ms=3600000");
        self.works(TOPICS, &["--delete", "--topic", &topic], "");
    }

    /// 300 more, behind so many.
    fn records_of(&self, topic: &str, so_far: u64) {
        let server = format!("bootstrap.servers={}", self.bootstrap);
        let load = ["--topic", topic, "--num-records", "300", "--throughput", "-1", "--record-size", "50"];
        let (ok, said) = self.run_bare(
            "org.apache.kafka.tools.ProducerPerformance",
            &[&load[..], &["--producer-props", &server]].concat(),
            "",
        );
        assert!(ok && said.contains("300 records sent"), "{said}");
        let all = (so_far + 300).to_string();
        self.works("org.apache.kafka.tools.ConsumerPerformance", &["--topic", topic, "--messages", &all], "");
        let (ok, said) = self.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", topic], "");
        let ends = said.lines().filter_map(|l| l.strip_prefix(topic)?.rsplit(':').next()?.parse::<u64>().ok());
        assert!(ok && ends.sum::<u64>() == so_far + 300, "{said}");
        self.works(TRANSACTIONS, &["describe-producers", "--topic", topic, "--partition", "0"], "ProducerEpoch");
    }

    fn of_the_cluster(&self, topic: &str) {
        let flags = ["cluster-id", "--bootstrap-server", &self.bootstrap];
        let (ok, said) = self.run_bare("org.apache.kafka.tools.ClusterTool", &flags, "");
        assert!(ok && said.contains("Cluster ID"), "{said}");
        let packaged = if self.is_new() { "org.apache.kafka.tools" } else { "kafka.admin" };
        self.works(&format!("{packaged}.BrokerApiVersionsCommand"), &[], "Fetch(1): 4 to");
        self.refused(&format!("{packaged}.AclCommand"), &["--list"], "No Authorizer is configured");
        self.works("org.apache.kafka.tools.FeatureCommand", &["describe"], "");
        self.works("org.apache.kafka.tools.LogDirsCommand", &["--describe", "--topic-list", topic], "\"/source/");
        self.works(TRANSACTIONS, &["list"], "TransactionalId");
        self.refused(TRANSACTIONS, &["describe", "--transactional-id", "nobody"], "could not be found");
        let quota =
            ["--alter", "--entity-type", "clients", "--entity-name", topic, "--add-config", "request_percentage=99"];
        self.works(CONFIGS, &quota, "Completed");
        let described = ["--describe", "--entity-type", "clients", "--entity-name", topic];
        self.works(CONFIGS, &described, "request_percentage=99.0");
        let defaults =
            ["--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "log.retention.ms=3600000"];
        self.refused(CONFIGS, &defaults, "does not show brokers");
        let elect = ["--election-type", "preferred", "--topic", topic, "--partition", "0"];
        self.refused("org.apache.kafka.tools.LeaderElectionCommand", &elect, "does not show brokers");
    }

    /// What would make the two clusters of a prepared topic differ.
    fn refused_for(&self, topic: &str) {
        self.refused(TOPICS, &["--alter", "--topic", topic, "--partitions", "5"], MIGRATION);
        self.refused(TOPICS, &["--delete", "--topic", topic], MIGRATION);
        // Done on both sides.
        let retention =
            ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", "retention.ms=7200000"];
        self.works(CONFIGS, &retention, "Completed");
    }

    fn delete_records(&self, topic: &str, proxy: &Proxy) {
        let (_, said) = self.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", topic], "");
        let line = said.lines().find(|l| l.starts_with(topic) && !l.ends_with(":0")).expect("records somewhere");
        let partition = line.rsplit(':').nth(1).expect("topic:partition:offset");
        let file = proxy.path("delete.json");
        let text = format!(
            "{{\"partitions\":[{{\"topic\":\"{topic}\",\"partition\":{partition},\"offset\":3}}],\"version\":1}}"
        );
        std::fs::write(&file, text).expect("the file is written");
        let flags = ["--offset-json-file", file.to_str().expect("a path")];
        self.works("org.apache.kafka.tools.DeleteRecordsCommand", &flags, "low_watermark: 3");
        let earliest = ["--topic", topic, "--time", "earliest"];
        self.works("org.apache.kafka.tools.GetOffsetShell", &earliest, &format!("{topic}:{partition}:3"));
    }

    fn is_new(&self) -> bool {
        self.rig.version(self.side).starts_with("4.")
    }

    fn works(&self, class: &str, flags: &[&str], says: &str) {
        let (ok, said) = self.run(class, flags, "");
        assert!(ok && said.contains(says), "{} {class} {flags:?}: `{says}` expected:\n{said}", self.phase);
    }

    fn refused(&self, class: &str, flags: &[&str], says: &str) {
        let (ok, said) = self.run(class, flags, "");
        assert!(
            !ok && said.contains(says),
            "{} {class} {flags:?}: a refusal with `{says}` expected:\n{said}",
            self.phase
        );
    }

    fn run(&self, class: &str, flags: &[&str], typed: &str) -> (bool, String) {
        self.run_bare(class, &[&["--bootstrap-server", &self.bootstrap], flags].concat(), typed)
    }

    /// Whether it ended well, and all that it said.
    fn run_bare(&self, class: &str, flags: &[&str], typed: &str) -> (bool, String) {
        let mut tool = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/rig"));
        tool.arg("tool").arg(&self.rig.dir).arg(self.side.to_string()).arg(class).args(flags);
        tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tool.spawn().expect("the rig's script runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // Most tools read nothing, and may have ended by now.
        drop(stdin.write_all(typed.as_bytes()));
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        for name in self.hidden {
            assert!(!said.contains(name.as_str()), "{class} {flags:?} shows {name}:\n{said}");
        }
        (output.status.success(), said)
    }
}
