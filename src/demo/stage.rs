//! Where the story plays: two embedded clusters, or the clusters of the user's own config.
//!
//! Either way the proxy is one of the demo's own, with a state directory, a socket, a name and topics that nobody else
//! has, so that a stage on real clusters disturbs nothing and can be swept when the play is over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use crate::audit::admin::Admin;
use crate::audit::canary::random_name;
use crate::config::{self, Cluster as At, Config, Listener, Migration, Pattern, Scheme, Secret};
use crate::embedded::{Cluster, ClusterSpec};
use crate::ids::Side;

use super::scratch::Scratch;

/// Partitions of the demo's topic.
pub const PARTITIONS: usize = 12;
/// Nodes of an embedded cluster.
const NODES: usize = 3;

pub struct Stage {
    pub config: Config,
    pub topic: String,
    pub group: String,
    admins: [Admin; 2],
    /// Bootstraps and client properties, by side.
    reach: [(String, Vec<(String, String)>); 2],
    // Dropped last: what plays on them has ended by then.
    _clusters: Vec<Cluster>,
    _scratch: Scratch,
}

impl Stage {
    /// Sets the stage: the topic lies on the source only, as before any migration.
    pub fn set(file: Option<&Path>, scheme: Scheme) -> Result<Self> {
        let scratch = Scratch::new()?;
        let topic = random_name();
        let (mut config, clusters) = match file {
            Some(file) => (users(file)?, Vec::new()),
            None => embedded()?,
        };
        config.name = topic.clone();
        config.control.socket = scratch.path().join("control.sock");
        config.state.dir = scratch.path().join("state");
        config.monitor.bind = None;
        let pattern = Pattern::new(&topic).context("the demo's topic as a pattern")?;
        let name = scheme.name().to_owned();
        config.migrations = vec![Migration { name, topics: vec![pattern], scheme, ..Migration::default() }];
        let reach = [reach(&config.source)?, reach(&config.target)?];
        let admin = |side: Side| {
            let (bootstrap, properties) = &reach[side.index()];
            Admin::new(bootstrap, properties)
        };
        let admins = [admin(Side::Source)?, admin(Side::Target)?];
        let stage = Self { config, group: topic.clone(), topic, admins, reach, _clusters: clusters, _scratch: scratch };
        match stage.admin(Side::Source).create(&stage.topic, PARTITIONS as i32) {
            Ok(()) => Ok(stage),
            Err(error) => {
                let _ = stage.sweep(); // the first error is the one to tell
                Err(error)
            }
        }
    }

    pub fn admin(&self, side: Side) -> &Admin {
        &self.admins[side.index()]
    }

    /// Straight to one cluster.
    pub fn bootstrap(&self, side: Side) -> &str {
        &self.reach[side.index()].0
    }

    /// Takes away what the play has left, on both clusters; goes on after a failure, and reports the first.
    pub fn sweep(&self) -> Result<()> {
        let marker = format!("__kafka_cutover.{}", self.config.name);
        let mut first = Ok(());
        for side in Side::BOTH {
            let admin = self.admin(side);
            for result in [admin.delete(&[&self.topic, &marker]), admin.delete_group(&self.group)] {
                first = first.and(result.with_context(|| format!("sweeping the {side}")));
            }
        }
        first
    }
}

/// The clusters and listeners of a config; everything else is the demo's.
fn users(file: &Path) -> Result<Config> {
    let config = config::load(file).map_err(|problems| anyhow!("{problems}"))?;
    if !config.listeners.iter().any(|l| l.tls.is_none()) {
        bail!("the demo's client speaks plaintext: give {} a listener without tls", file.display());
    }
    Ok(config)
}

fn embedded() -> Result<(Config, Vec<Cluster>)> {
    let start = |name: &str, node_id_base| {
        let spec = ClusterSpec { name: name.into(), nodes: NODES, node_id_base, ..ClusterSpec::default() };
        Cluster::start(spec).with_context(|| format!("the embedded {name}"))
    };
    let clusters = vec![start("source", 1_600_000_001)?, start("target", 1_600_000_101)?];
    let at = |cluster: &Cluster| -> Result<At> {
        Ok(At::at(cluster.bootstrap().iter().map(|a| a.parse()).collect::<Result<Vec<_>, _>>()?))
    };
    let config = Config {
        source: at(&clusters[0])?,
        target: at(&clusters[1])?,
        listeners: vec![Listener::at(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))],
        ..Config::default()
    };
    Ok((config, clusters))
}

/// How librdkafka reaches a cluster without the proxy: to make the topic, to read both logs, to sweep.
fn reach(cluster: &At) -> Result<(String, Vec<(String, String)>)> {
    let bootstrap = cluster.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if cluster.tls.is_some() {
        bail!("the demo's own client speaks no TLS, and {bootstrap} asks for it: use `canary` through a running proxy");
    }
    let mut properties = Vec::new();
    if let Some(sasl) = &cluster.sasl {
        let password = Secret::from_file(&sasl.password_file)
            .with_context(|| format!("cannot read {}", sasl.password_file.display()))?;
        let set = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanisms", &sasl.mechanism),
            ("sasl.username", &sasl.username),
            // librdkafka logs in with it; it is not printed.
            ("sasl.password", password.expose()),
        ];
        properties.extend(set.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
    Ok((bootstrap, properties))
}

/// An address that a listener was bound to, as a client on this machine reaches it.
pub fn local(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}
