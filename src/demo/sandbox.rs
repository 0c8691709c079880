//! `kafka-cutover sandbox`: two embedded clusters behind the proxy, until Ctrl-C. It needs no client library.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::cli::SandboxArgs;
use crate::config::{Address, Cluster as At, Config, Listener, Migration, Pattern, Scheme};
use crate::embedded::{Cluster, ClusterSpec};
use crate::proxy::{self, Running};

use super::scratch::Scratch;

/// Where its control socket is, unless `--socket` says otherwise.
pub const SOCKET: &str = "./kafka-cutover.sock";
/// Topics that are there from the start, with their partitions.
const TOPICS: [(&str, i32); 2] = [("pf-orders", 6), ("pf-payments", 3)];

/// A playground, for as long as it lives.
pub struct Sandbox {
    pub proxy: Running,
    pub source: Cluster,
    pub target: Cluster,
    _scratch: Scratch,
}

impl Sandbox {
    pub fn start(args: &SandboxArgs, socket: Option<&Path>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let cluster = |name: &str, node_id_base, auto_create| {
            let nodes = usize::from(args.nodes);
            let spec = ClusterSpec { name: name.into(), nodes, node_id_base, auto_create, ..ClusterSpec::default() };
            Cluster::start(spec).with_context(|| format!("the embedded {name}"))
        };
        // As most installations have it: a topic that a client names is made, on the source.
        let source = cluster("source", 1_600_000_001, Some(3))?;
        let target = cluster("target", 1_600_000_101, None)?;
        for (topic, partitions) in TOPICS {
            source.create_topic(topic, partitions, &[])?;
        }
        let config = config(args, socket, &scratch, &source, &target)?;
        let proxy = proxy::start(config).context("starting the proxy")?;
        Ok(Self { proxy, source, target, _scratch: scratch })
    }

    /// How to reach everything.
    pub fn guide(&self) -> String {
        let bootstrap = self.proxy.listeners.first().map(ToString::to_string).unwrap_or_default();
        let socket = self.proxy.socket.display();
        let migration = Scheme::ProducersFirst;
        let named = if self.proxy.socket == Path::new(SOCKET) { String::new() } else { format!("--socket {socket} ") };
        let topics = TOPICS.map(|(topic, partitions)| format!("{topic} ({partitions} partitions)")).join(", ");
        let monitor = match self.proxy.monitor {
            Some(at) => format!("http://{at}/metrics  http://{at}/readyz"),
            None => "off".to_owned(),
        };
        format!(
            "\
bootstrap.servers   {bootstrap}
topics              {topics}; any other pf-… is made when it is named
migration           {migration}: topics pf-…
control socket      {socket}
monitor             {monitor}
source, directly    {}
target, directly    {}

produce and consume through the proxy:
  kcat -b {bootstrap} -t pf-orders -P
  kcat -b {bootstrap} -G readers pf-orders

move the producers, in another terminal:
  kafka-cutover {named}status
  kafka-cutover {named}prepare {migration}
  kafka-cutover {named}switch {migration} producers

Ctrl-C ends it; nothing is kept.",
            self.source.bootstrap().join(","),
            self.target.bootstrap().join(","),
        )
    }

    pub fn stop(self) -> Result<()> {
        self.proxy.stop()
    }
}

/// Runs until Ctrl-C.
pub fn sandbox(args: &SandboxArgs, socket: Option<&Path>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sandbox = Sandbox::start(args, socket)?;
    println!("{}", sandbox.guide());
    let interrupted = runtime.block_on(tokio::signal::ctrl_c());
    sandbox.stop()?;
    interrupted.context("waiting for Ctrl-C")
}

fn config(
    args: &SandboxArgs,
    socket: Option<&Path>,
    scratch: &Scratch,
    source: &Cluster,
    target: &Cluster,
) -> Result<Config> {
    let at = |cluster: &Cluster| -> Result<At> {
        Ok(At::at(cluster.bootstrap().iter().map(|a| a.parse()).collect::<Result<Vec<_>, _>>()?))
    };
    let mut config = Config {
        name: "sandbox".to_owned(),
        source: at(source)?,
        target: at(target)?,
        listeners: vec![Listener::at(resolve(&args.listen)?)],
        migrations: vec![Migration {
            name: Scheme::ProducersFirst.name().to_owned(),
            topics: vec![Pattern::new("pf-.*").context("the sandbox's pattern")?],
            scheme: Scheme::ProducersFirst,
            ..Migration::default()
        }],
        ..Config::default()
    };
    config.control.socket = socket.map_or_else(|| PathBuf::from(SOCKET), Path::to_path_buf);
    config.state.dir = scratch.path().join("state");
    // A port of its own: a proxy of the user's may have the usual one.
    config.monitor.bind = Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    Ok(config)
}

fn resolve(listen: &Address) -> Result<SocketAddr> {
    let found = (listen.host.as_str(), listen.port).to_socket_addrs();
    let first = found.with_context(|| format!("looking up {listen}"))?.next();
    first.ok_or_else(|| anyhow!("{listen} has no address"))
}
