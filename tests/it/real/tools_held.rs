//! Kafka's command-line tools in the middle of a switch: those that write and read go on over it and lose nothing, those that
//! ask and change are answered while the partitions are held; then with a group that is still behind the seam. On clusters
//! with an authorizer, for `kafka-acls`.
//!
//! A hold is milliseconds; here the source's answer to one record is withheld, which a seal waits for. No hold may be longer
//! than its budget: when that is up, the switch is undone, and what is left to ask is asked in the next one.

use std::process::Output;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_cutover::ids::Side;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::tools::*;
use crate::embedded::raw::{ONE, Plan, Raw, encode, produce};
use crate::support::own::Own;
use crate::support::proxy::{MIGRATION, Proxy};
use crate::support::rig::Rig;
use crate::support::tools::{Going, Tools};
use crate::support::withheld::Withheld;
use crate::support::{eventually, unique};

const AUTHORIZER: [&str; 2] =
    ["authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:ANONYMOUS"];
const SWITCHED: &str = "producers-switched";
const HELD: &str = "kafka_cutover_held_requests ";
/// A hold may be as long as a third of this: a client that waits allows no more.
const TIMEOUT: &str = "request.timeout.ms=180000";
const DELIVERY: &str = "delivery.timeout.ms=400000";

#[test]
fn tools_go_on_while_a_switch_is_under_way() {
    let runtime = Runtime::new().expect("a runtime");
    let clusters = Rig::connect();
    let properties = AUTHORIZER.map(str::to_owned);
    let (relay, source) = runtime.block_on(Withheld::before_a_source(&clusters, &properties));
    let target = Own::start(&clusters, Side::Target, 1, &properties);
    let hidden = [source.identities(Side::Source), target.identities(Side::Target)].concat();
    let rig = Rig::connect().with(Side::Source, &relay.address).with(Side::Target, &target.bootstrap());
    // One whose records are counted, and one for everything else.
    let (counted, other) = (unique("held"), unique("held-too"));
    for topic in [&counted, &other] {
        rig.create(topic, 2);
    }
    let mut proxy = Proxy::new(&rig, &[&counted, &other]);
    proxy.hold_budget = "30s"; // and a part that a broker does not answer is waited for even longer
    proxy.more = "timeouts: { straggling_part: 60s }";
    proxy.start();
    let tools = Side::BOTH.map(|side| Tools::of(&clusters, side, &proxy.bootstrap(), &hidden));
    let both = if Rig::full() { &tools[..] } else { &tools[..1] };

    for tools in &tools {
        tools.phase.set("before");
        acls(tools, &rig);
    }
    let behind = leave_a_group_behind(&tools[0], &other);
    proxy.prepare();
    let stream = Stream::begin(&clusters, &proxy, &counted);

    let mut questions: Vec<Box<dyn Fn() + '_>> = Vec::new();
    for tools in both {
        tools.phase.set("held");
        questions.extend(while_held(tools, &other, &behind));
    }
    let mut waiting = Vec::new();
    while !questions.is_empty() {
        let hold = Hold::begin(&runtime, &relay, &proxy, &other);
        if waiting.is_empty() {
            waiting = wait_for_release(&clusters, &proxy, &other, &behind);
        }
        while hold.lasts()
            && let Some(ask) = questions.pop()
        {
            ask();
            // Answered, but was that before the hold's end?
            if !hold.lasts() {
                questions.push(ask);
            }
        }
        hold.end();
    }
    eventually("the switch", || {
        proxy.migration().step == SWITCHED || proxy.command(&["switch", MIGRATION, "producers"]).status.success()
    });
    for (tool, says) in &mut waiting {
        let said = tool.end();
        assert!(said.concat().contains(says.as_str()), "`{says}` expected: {said:#?}");
    }

    for tools in &tools {
        tools.phase.set("with a group behind the seam");
        with_a_group_behind(tools, &other, &behind);
    }
    stream.end();
    proxy.stop();
}

/// Added, listed and removed: on both clusters.
fn acls(tools: &Tools, rig: &Rig) {
    let class = packaged(tools, "kafka.admin", "AclCommand");
    let topic = unique("tools-acl");
    let acl = ["--allow-principal", "User:alice", "--operation", "Read", "--topic", &topic];
    let list = ["--list", "--topic", &topic];
    tools.works(&class, &[&["--add"], &acl[..]].concat(), "User:alice");
    tools.comes_to_say(&class, &list, "User:alice");
    let on = |side| {
        let (ok, said) =
            tools.run_bare(&class, &[&["--bootstrap-server", rig.bootstrap(side)], &list[..]].concat(), "");
        assert!(ok, "{said}");
        said.contains("User:alice")
    };
    // Brokers hear of a change in their own time.
    eventually("added to both", || Side::BOTH.iter().all(|side| on(*side)));
    tools.works(&class, &[&["--remove", "--force"], &acl[..]].concat(), "");
    eventually("removed from both", || Side::BOTH.iter().all(|side| !on(*side)));
    let (ok, said) = tools.run(&class, &list, "");
    assert!(ok && !said.contains("User:alice"), "{said}");
}

/// Ten records of which a group has read five.
fn leave_a_group_behind(tools: &Tools, topic: &str) -> String {
    let group = format!("{topic}-behind");
    let ten: String = (0..10).map(|n| format!("line-{n}\n")).collect();
    let (ok, said) = tools.run(&packaged(tools, "kafka.tools", "ConsoleProducer"), &["--topic", topic], &ten);
    assert!(ok, "{said}");
    let five = ["--topic", topic, "--group", &group, "--from-beginning", "--max-messages", "5"];
    tools.works(CONSOLE_CONSUMER, &five, "Processed a total of 5 messages");
    group
}

/// What is answered at once, although partitions are held.
fn while_held<'a>(tools: &'a Tools, topic: &'a str, group: &'a str) -> Vec<Box<dyn Fn() + 'a>> {
    let made = || unique("held-made");
    vec![
        Box::new(move || tools.works(TOPICS, &["--list"], topic)),
        Box::new(move || tools.works(TOPICS, &["--describe", "--topic", topic], "PartitionCount: 2")),
        Box::new(move || {
            let made = made();
            tools.works(TOPICS, &["--create", "--topic", &made, "--partitions", "1"], "Created topic");
            tools.works(TOPICS, &["--alter", "--topic", &made, "--partitions", "2"], "");
            tools.works(TOPICS, &["--delete", "--topic", &made], "");
        }),
        Box::new(move || tools.refused(TOPICS, &["--alter", "--topic", topic, "--partitions", "5"], MIGRATION)),
        Box::new(move || tools.refused(TOPICS, &["--delete", "--topic", topic], MIGRATION)),
        Box::new(move || {
            let described = ["--describe", "--entity-type", "topics", "--entity-name", topic];
            tools.works(CONFIGS, &described, topic);
        }),
        Box::new(move || alter_topic(tools, topic, "retention.ms=7200000")),
        Box::new(move || tools.works(GROUPS, &["--list"], group)),
        Box::new(move || tools.works(GROUPS, &["--describe", "--group", group, "--state"], "Empty")),
        Box::new(move || tools.works(GROUPS, &["--describe", "--group", group, "--members"], "")),
        Box::new(move || {
            let dry = ["--reset-offsets", "--to-earliest", "--dry-run", "--group", group, "--topic", topic];
            tools.works(GROUPS, &dry, topic);
        }),
        Box::new(move || tools.works(OFFSETS, &["--topic", topic, "--time", "earliest"], &format!("{topic}:0:0"))),
        Box::new(move || {
            let read = ["--topic", topic, "--messages", "10", "--timeout", "60000"];
            tools.works("org.apache.kafka.tools.ConsumerPerformance", &read, "");
        }),
        Box::new(move || {
            let read = ["--topic", topic, "--from-beginning", "--max-messages", "10"];
            tools.works(CONSOLE_CONSUMER, &read, "line-0");
        }),
        Box::new(move || tools.works(&packaged(tools, "kafka.admin", "AclCommand"), &["--list"], "")),
        Box::new(move || cluster_id(tools)),
        Box::new(move || {
            tools.works(&packaged(tools, "kafka.admin", "BrokerApiVersionsCommand"), &[], "Fetch(1): 4 to")
        }),
        Box::new(move || tools.works("org.apache.kafka.tools.FeatureCommand", &["describe"], "")),
        Box::new(move || tools.works(LOG_DIRS, &["--describe", "--topic-list", topic], "\"/source/")),
        Box::new(move || tools.works(TRANSACTIONS, &["list"], "TransactionalId")),
        Box::new(move || {
            tools.works(TRANSACTIONS, &["describe-producers", "--topic", topic, "--partition", "0"], "ProducerId");
        }),
        Box::new(move || refused_election(tools, topic)),
    ]
}

/// What is answered when the hold ends: writing, and what has to know where a log ends. With what each says then.
fn wait_for_release(rig: &Rig, proxy: &Proxy, topic: &str, group: &str) -> Vec<(Going, String)> {
    let (bootstrap, of) = (proxy.bootstrap(), ["--topic", topic]);
    let server = ["--bootstrap-server", &bootstrap];
    let begin = |class: &str, flags: &[&[&str]]| Going::begin(&rig.dir, Side::Source, class, &flags.concat());
    let end = begin(OFFSETS, &[&server, &of]);
    let described = begin(GROUPS, &[&server, &["--describe", "--group", group, "--timeout", "120000"]]);
    let bootstrap_property = format!("bootstrap.servers={bootstrap}");
    let props = ["--producer-props", &bootstrap_property, TIMEOUT, DELIVERY];
    let load = ["--num-records", "100", "--throughput", "-1", "--record-size", "50"];
    let perf = begin("org.apache.kafka.tools.ProducerPerformance", &[&of, &load, &props]);
    let typed = ["--request-timeout-ms", "180000", "--producer-property", DELIVERY];
    let mut console = begin("kafka.tools.ConsoleProducer", &[&server, &of, &typed]);
    console.type_in("typed while held\n");
    console.no_more();
    vec![
        (end, format!("{topic}:0:")),
        (described, group.to_owned()),
        (perf, "100 records sent".to_owned()),
        (console, String::new()),
    ]
}

/// It has five records to go to the seam, and some behind it.
fn with_a_group_behind(tools: &Tools, topic: &str, group: &str) {
    let (ok, said) = tools.run(GROUPS, &["--describe", "--group", group], "");
    assert!(ok && said.contains(topic), "{said}");
    tools.works(GROUPS, &["--describe", "--group", group, "--state"], "Empty");
    tools.works(OFFSETS, &["--topic", topic, "--time", "earliest"], &format!("{topic}:0:0"));
    let all = records(tools, topic).to_string();
    let reset = |to: &[&str]| {
        let flags = ["--reset-offsets", "--execute", "--group", group, "--topic", topic];
        tools.works(GROUPS, &[&flags[..], to].concat(), topic);
    };
    // On the target, and back to the source.
    reset(&["--to-latest"]);
    reset(&["--to-earliest"]);
    // All of both parts, from where the group is now.
    let lines = ["--topic", topic, "--group", group, "--max-messages", &all];
    let (ok, said) = tools.run(CONSOLE_CONSUMER, &lines, "");
    let count = |what: &str| said.lines().filter(|line| *line == what).count();
    assert!(ok, "{said}");
    assert_eq!((count("line-0"), count("line-9"), count("typed while held")), (1, 1, 1), "{said}");
    reset(&["--to-earliest"]);
}

/// Tools that write and read all the time: what they count is what there is.
struct Stream {
    producer: Going,
    verified: Going,
    console: Going,
}

const ACKED: &str = "\"name\":\"producer_send_success\"";

impl Stream {
    fn begin(rig: &Rig, proxy: &Proxy, topic: &str) -> Self {
        let patient = proxy.path("patient.properties");
        std::fs::write(&patient, format!("{TIMEOUT}\n{DELIVERY}\n")).expect("the file is written");
        let (bootstrap, patient) = (proxy.bootstrap(), patient.to_str().expect("a path").to_owned());
        let flags = ["--bootstrap-server", &bootstrap, "--topic", topic];
        let (with_verified, with_console) = (format!("{topic}-verified"), format!("{topic}-console"));
        let begin =
            |side, class: &str, more: &[&str]| Going::begin(&rig.dir, side, class, &[&flags[..], more].concat());
        let writes = ["--throughput", "20", "--producer.config", &patient];
        let mut producer = begin(Side::Source, "org.apache.kafka.tools.VerifiableProducer", &writes);
        producer.wait(20, |line| line.contains(ACKED));
        let reads = ["--group-id", &with_verified, "--reset-policy", "earliest"];
        let verified = begin(Side::Source, "org.apache.kafka.tools.VerifiableConsumer", &reads);
        let mut console = begin(Side::Target, CONSOLE_CONSUMER, &["--group", &with_console, "--from-beginning"]);
        console.wait(20, is_value);
        Self { producer, verified, console }
    }

    /// Some more of it, and then nothing is lost or there twice.
    fn end(self) {
        let Self { mut producer, mut verified, mut console } = self;
        let so_far = producer.count(|line| line.contains(ACKED));
        producer.wait(so_far + 40, |line| line.contains(ACKED));
        let said = producer.stop();
        let failed: Vec<&String> = said.iter().filter(|line| line.contains("producer_send_error")).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        let sent = said.iter().filter(|line| line.contains(ACKED)).map(|line| json(line)["value"].to_string());
        let mut sent: Vec<String> = sent.map(|value| value.trim_matches('"').to_owned()).collect();
        sent.sort_unstable();
        console.wait(sent.len(), is_value);
        let mut received: Vec<String> = console.stop().into_iter().filter(|line| is_value(line)).collect();
        received.sort_unstable();
        assert_eq!(received, sent, "each of them, once");
        let mut counts = 0;
        verified.wait_for(|line| {
            let consumed = Some(line).filter(|l| l.contains("\"name\":\"records_consumed\""));
            counts += consumed.map_or(0, |line| json(line)["count"].as_u64().expect("a count") as usize);
            counts >= sent.len()
        });
        assert_eq!(counts, sent.len(), "as many as were acknowledged");
        verified.stop();
    }
}

/// Verifiable producers write numbers.
fn is_value(line: &str) -> bool {
    line.parse::<u64>().is_ok()
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// A switch that cannot end, and produce that waits for it.
struct Hold<'a> {
    proxy: &'a Proxy,
    release: watch::Sender<bool>,
    switch: JoinHandle<Output>,
    _client: Raw,
}

impl<'a> Hold<'a> {
    fn begin(runtime: &Runtime, relay: &Withheld, proxy: &'a Proxy, topic: &str) -> Self {
        let release = relay.withhold(topic);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let one = produce(topic, 0, encode(Plan { timestamp: now as i64, ..ONE })).with_timeout_ms(180_000);
        let client = runtime.block_on(async {
            let mut raw = Raw::connect(&proxy.bootstrap()).await;
            raw.send(&one, 9).await;
            raw
        });
        eventually("an answer is withheld", || relay.has_kept());
        let hold = Self { proxy, release, switch: proxy.begin_switch(), _client: client };
        eventually("produce is held", || hold.lasts() || hold.switch.is_finished());
        hold
    }

    /// The tools of the stream never stop writing: while there is a hold, one of them waits.
    fn lasts(&self) -> bool {
        let (_, metrics) = self.proxy.page("/metrics");
        let held = metrics.lines().find_map(|line| line.strip_prefix(HELD)?.trim().parse::<f64>().ok());
        held.is_some_and(|held| held > 0.0) && !self.switch.is_finished()
    }

    fn end(self) {
        self.release.send(true).expect("somebody waits");
        self.switch.join().expect("the command ends");
    }
}
