//! The command line: what can be typed, and nothing of what it does. Commands that are not built yet are not offered.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::Address;
use crate::control::protocol::{Terms, What};
use crate::ids::{Side, TopicPartition};
use crate::offsets::NoPlace;
use crate::store::event::WaiverKind;

#[derive(Debug, Parser)]
#[command(name = "kafka-cutover", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// The proxy's control socket [default: ./kafka-cutover.sock if it is there, else /run/kafka-cutover/control.sock]
    #[arg(long, global = true, env = "KAFKA_CUTOVER_SOCKET", value_name = "PATH", hide_env_values = true)]
    pub socket: Option<PathBuf>,
    /// How log lines look on stderr; what is logged is up to KAFKA_CUTOVER_LOG (info, kafka_cutover::seal=debug, …)
    #[arg(long, global = true, env = "KAFKA_CUTOVER_LOG_FORMAT", value_enum, default_value = "human")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The proxy
    Run(RunArgs),
    /// The story, on embedded clusters or on those of a config
    Demo(DemoArgs),
    /// A playground until Ctrl-C: two embedded clusters behind the proxy
    Sandbox(SandboxArgs),
    /// Config and preflight against both clusters; changes nothing
    Check(CheckArgs),
    /// What the proxy and its migrations are doing
    Status(StatusArgs),
    /// Topics on the target, preflight
    Prepare(PrepareArgs),
    /// One step: move producers, the consumers that were held at the seam, or the groups that read
    Switch(SwitchArgs),
    /// All steps of a migration's scheme, stopping at each guard
    Cutover(CutoverArgs),
    /// The end: positions hold natively on both clusters, and the source is left
    Complete(CompleteArgs),
    /// The certificate of a migration
    Report(ReportArgs),
    /// Forget a migration that has sealed nothing yet; deletes nothing, says what is left
    Abort(AbortArgs),
    /// Accept, on record, that a group has not read all that lies before the switch
    Waive(WaiveArgs),
    /// Move readers on over what lies on a cluster that is lost, on record
    Skip(SkipArgs),
    /// Offsets that are kept outside Kafka
    #[command(subcommand)]
    Offsets(OffsetsCommand),
    /// Audit traffic: counts lost, duplicated, reordered records
    Canary(CanaryArgs),
    /// Completions for a shell
    Completions { shell: Shell },
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[arg(long, env = "KAFKA_CUTOVER_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    #[arg(long, value_enum, default_value = "all")]
    pub scheme: DemoScheme,
    /// Records to send
    #[arg(long, default_value_t = 200_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// On the clusters of this config instead of embedded ones
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One line of JSON per scheme
    #[arg(long)]
    pub json: bool,
    /// Leave the demo's topics on the clusters
    #[arg(long)]
    pub keep: bool,
}

/// Schemes that are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DemoScheme {
    ProducersFirst,
    All,
}

#[derive(Clone, Debug, Args)]
pub struct SandboxArgs {
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub listen: Address,
    /// Nodes of each embedded cluster
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
}

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    #[arg(long, env = "KAFKA_CUTOVER_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    pub migration: Option<String>,
    #[arg(long)]
    pub json: bool,
    /// Every second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

#[derive(Clone, Debug, Args)]
pub struct PrepareArgs {
    pub migration: String,
    /// Say what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct AbortArgs {
    pub migration: String,
    /// Say what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct CompleteArgs {
    pub migration: String,
    /// Say what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    pub migration: String,
    #[arg(long, value_enum, default_value = "text")]
    pub format: ReportFormat,
    /// From the journal in a state directory instead of the control socket; it is only read, and its proxy may run
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Text,
    Json,
    Html,
}

#[derive(Clone, Debug, Args)]
pub struct SwitchArgs {
    pub migration: String,
    #[arg(value_enum)]
    pub what: What,
    #[arg(long, value_enum, default_value = "target")]
    pub to: To,
    /// With producers: readers stay at the seam until `switch MIGRATION consumers`
    #[arg(long)]
    pub hold_consumers: bool,
    /// Go on over what an operator may overrule
    #[arg(long)]
    pub force: bool,
    /// Say what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    Source,
    Target,
}

impl From<To> for Side {
    fn from(to: To) -> Side {
        match to {
            To::Source => Side::Source,
            To::Target => Side::Target,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct WaiveArgs {
    pub migration: String,
    #[arg(value_enum)]
    pub what: Waive,
    /// The group's id, or the finding's code
    pub name: String,
    /// Why it is accepted; kept on record
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Say what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Waive {
    Group,
    Finding,
}

impl From<Waive> for WaiverKind {
    fn from(what: Waive) -> WaiverKind {
        match what {
            Waive::Group => WaiverKind::Group,
            Waive::Finding => WaiverKind::Finding,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct SkipArgs {
    pub migration: String,
    #[arg(long, value_name = "TOPIC:P", value_parser = partition)]
    pub partition: TopicPartition,
    /// Why it is given up; kept on record
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Skip also what can be read: it is lost to those who have not read it
    #[arg(long)]
    pub force: bool,
    /// Say what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[arg(long)]
    pub json: bool,
}

fn partition(text: &str) -> Result<TopicPartition, String> {
    let named = text.rsplit_once(':').filter(|(topic, _)| !topic.is_empty());
    let partition = named.and_then(|(topic, number)| Some((topic, number.parse().ok().filter(|n| *n >= 0)?)));
    let (topic, number) = partition.ok_or("TOPIC:P is needed, as in orders:0")?;
    Ok(TopicPartition::new(topic, number))
}

#[derive(Clone, Debug, Args)]
pub struct CutoverArgs {
    pub migration: String,
    /// Say what the next step would do
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Clone, Debug, Args)]
pub struct CanaryArgs {
    #[arg(long, value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    pub bootstrap: Vec<Address>,
    #[arg(long)]
    pub topic: String,
    /// Records a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// A property of librdkafka; may be given several times
    #[arg(short = 'X', value_name = "PROPERTY=VALUE", value_parser = property)]
    pub properties: Vec<(String, String)>,
    #[arg(long)]
    pub json: bool,
    /// Leave the topic, if the canary made it
    #[arg(long)]
    pub keep: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum OffsetsCommand {
    /// What one offset is to clients of the proxy, on the source and on the target
    Translate(TranslateArgs),
}

#[derive(Clone, Debug, Args)]
pub struct TranslateArgs {
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub topic: String,
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: i32,
    #[arg(long, allow_negative_numbers = true, value_parser = offset)]
    pub offset: i64,
    /// Whose offset it is: a client's of the proxy, or of a cluster's own brokers
    #[arg(long, value_enum, default_value = "virtual")]
    pub from: Terms,
    /// From the journal in a state directory instead of the control socket; it is only read, and its proxy may run
    #[arg(long, value_name = "DIR", conflicts_with = "certificate")]
    pub state: Option<PathBuf>,
    /// From a certificate instead, as `report --format json` wrote it
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
}

fn offset(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(offset) if offset < 0 => Err(NoPlace::Negative(offset).to_string()),
        Ok(offset) => Ok(offset),
        Err(e) => Err(e.to_string()),
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("PROPERTY=VALUE is needed".to_owned()),
    }
}
