//! Every key of the config. `config/reference.yaml` explains them; a test holds the two together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Address, Pattern};
use crate::ids::Side;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Tells proxies apart that share clusters; part of the name of the marker topic.
    pub name: String,
    pub source: Cluster,
    pub target: Cluster,
    pub listeners: Vec<Listener>,
    pub control: Control,
    pub monitor: Monitor,
    pub state: State,
    /// Where a topic of no migration lives.
    #[schemars(with = "String")]
    pub default_side: Side,
    pub limits: Limits,
    /// Threads that serve clients; 0 is one per core.
    pub workers: usize,
    pub timeouts: Timeouts,
    pub seal: Seal,
    pub mirror: MirrorLimits,
    pub migrations: Vec<Migration>,
}

/// How to reach one of the two clusters.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    pub bootstrap: Vec<Address>,
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
}

/// TLS towards a cluster.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub server_name: Option<String>,
}

/// SASL towards a cluster.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sasl {
    pub mechanism: String,
    pub username: String,
    pub password_file: PathBuf,
}

/// A port that clients connect to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    #[schemars(with = "String")]
    pub bind: SocketAddr,
    /// What clients are told; one virtual node per address. Empty: the bound address.
    pub advertise: Advertise,
    pub tls: Option<ListenerTls>,
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerTls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// One address or a list of them; a comma in text separates.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Advertise(pub Vec<Address>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    pub socket: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Monitor {
    /// `None`: no metrics, no health.
    #[schemars(with = "Option<String>")]
    pub bind: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    pub dir: PathBuf,
}

/// What one client, and all of them together, may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest request taken from a client and the largest answer taken from a broker.
    #[schemars(with = "String")]
    pub frame: ByteSize,
    /// Per listener.
    pub connections: usize,
    /// Per listener and client address.
    pub connections_per_address: usize,
    /// Unanswered requests of one connection; further ones are not read.
    pub in_flight_requests: usize,
    /// Bytes held for one connection, requests and answers; further requests are not read.
    #[schemars(with = "String")]
    pub in_flight_bytes_per_connection: ByteSize,
    /// Bytes held for all connections.
    #[schemars(with = "String")]
    pub in_flight_bytes: ByteSize,
    /// Bytes fetched for one consumer's connection before it asks for them; 0: none.
    #[schemars(with = "String")]
    pub read_ahead_bytes_per_connection: ByteSize,
    /// The same for all connections.
    #[schemars(with = "String")]
    pub read_ahead_bytes: ByteSize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Connecting to a broker.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect: Duration,
    /// A request of the proxy's own to a broker.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub request: Duration,
    /// How long one broker may keep the rest of an answer waiting.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub straggling_part: Duration,
    /// A client connection without a request is closed after this.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub client_idle: Duration,
    /// A request that has begun to arrive has to go on within this.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub client_frame: Duration,
    /// An upstream connection without a request is closed after this.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub upstream_idle: Duration,
    /// Brokers and leaders are looked up again after this.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub metadata_max_age: Duration,
    /// From SIGTERM to the end.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub wind_down: Duration,
}

/// DESIGN.md section 4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Seal {
    /// Produce is held no longer than this; then the hold is undone.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub hold_budget: Duration,
    /// Wait before a seal after a start or a connection lost with unknown batches.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub settle_time: Duration,
    /// So long after a seal `complete` looks for records that were written around the proxy.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub grace_time: Duration,
    /// A transaction that has been open for longer, and may stay so for longer still, stops a switch.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub late_seam_max: Duration,
}

/// What the mirrors of all migrations together may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MirrorLimits {
    /// Bytes a second read from the side that is copied; `None`: as fast as it goes.
    #[schemars(with = "Option<String>")]
    pub bytes_per_second: Option<ByteSize>,
    /// Bytes read and not yet stored in the copy.
    #[schemars(with = "String")]
    pub buffer: ByteSize,
}

/// A named set of topics with one scheme.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Migration {
    pub name: String,
    /// Whole-match regular expressions.
    pub topics: Vec<Pattern>,
    pub scheme: Scheme,
    pub mirror: Mirror,
    #[schemars(with = "String")]
    pub mirror_from: MirrorFrom,
    /// The default is `alarm` for now: `include` is not built yet.
    pub stragglers: Stragglers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    #[default]
    ProducersFirst,
    DualConsume,
    ConsumersFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mirror {
    #[default]
    None,
    Forward,
    Reverse,
}

/// Which records of before `prepare` are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum MirrorFrom {
    #[default]
    Earliest,
    /// None.
    Latest,
    /// Those from this moment on: milliseconds since 1970.
    Timestamp(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stragglers {
    Include,
    #[default]
    Alarm,
}

impl Config {
    pub fn cluster(&self, side: Side) -> &Cluster {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// The migrations that match a topic; more than one is an error of `check` and `prepare`.
    pub fn migrations_of<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Migration> {
        self.migrations.iter().filter(move |m| m.matches(topic))
    }

    pub fn migration(&self, name: &str) -> Option<&Migration> {
        self.migrations.iter().find(|m| m.name == name)
    }

    /// `workers`, or the number of cores.
    pub fn worker_threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }
}

impl Cluster {
    pub fn at(bootstrap: impl IntoIterator<Item = Address>) -> Self {
        Self { bootstrap: bootstrap.into_iter().collect(), ..Self::default() }
    }
}

impl Listener {
    /// Plaintext, advertised as bound.
    pub fn at(bind: SocketAddr) -> Self {
        Self { bind, ..Self::default() }
    }

    /// What clients are told, once the port is known: one virtual node each, in this order.
    pub fn advertised(&self, bound: SocketAddr) -> Vec<Address> {
        if self.advertise.0.is_empty() {
            return vec![bound.into()];
        }
        let port = |a: &Address| if a.port == 0 { bound.port() } else { a.port };
        self.advertise.0.iter().map(|a| Address::new(a.host.clone(), port(a))).collect()
    }
}

impl Migration {
    /// Kafka's own topics never match.
    pub fn matches(&self, topic: &str) -> bool {
        !topic.starts_with("__") && self.topics.iter().any(|p| p.matches(topic))
    }
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Scheme::ProducersFirst => "producers-first",
            Scheme::DualConsume => "dual-consume",
            Scheme::ConsumersFirst => "consumers-first",
        }
    }
}

impl std::fmt::Display for MirrorFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MirrorFrom::Earliest => f.write_str("earliest"),
            MirrorFrom::Latest => f.write_str("latest"),
            MirrorFrom::Timestamp(ms) => {
                let since = Duration::from_millis(u64::try_from(*ms).unwrap_or(0));
                write!(f, "{}", humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since))
            }
        }
    }
}

impl Serialize for MirrorFrom {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MirrorFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "earliest" => return Ok(MirrorFrom::Earliest),
            "latest" => return Ok(MirrorFrom::Latest),
            _ => {}
        }
        let time = humantime::parse_rfc3339_weak(&text).ok();
        let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let ms = since.and_then(|since| i64::try_from(since.as_millis()).ok());
        ms.map(MirrorFrom::Timestamp).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is none of earliest, latest and a time like 2026-01-31T12:00:00Z"
            ))
        })
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Advertise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> serde::de::Visitor<'de> for OneOrMore {
            type Value = Advertise;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("HOST:PORT or a list of them")
            }

            fn visit_unit<E>(self) -> Result<Advertise, E> {
                Ok(Advertise::default())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Advertise, E> {
                text.split(',').map(str::parse).collect::<Result<_, _>>().map(Advertise).map_err(E::custom)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Advertise, A::Error> {
                let mut list = Vec::new();
                while let Some(address) = seq.next_element()? {
                    list.push(address);
                }
                Ok(Advertise(list))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}
