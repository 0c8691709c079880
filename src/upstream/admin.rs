//! The control plane's client of one cluster: discovery, preflight, prepare, seal and markers ask through it.
//! Lives on the control thread; one connection per address, opened at first need.
#![allow(clippy::disallowed_methods, reason = "io: waits for answers, within a deadline")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::{Connection, Limits, Lost, Outgoing};
use super::topology::Broker;
use crate::config::Config;
use crate::ids::Side;
use crate::monitor::Metrics;
use crate::virtual_cluster::versions::{self, Range};
use crate::wire::chain::{Chain, ChainWriter};
use crate::wire::{WireError, decode, encode};

/// Why a question of ours got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("the {side} cannot be reached: {reason}")]
    Unreachable { side: Side, reason: String },
    #[error("the {side} does not speak {api} (key {key})")]
    Unsupported { side: Side, api: &'static str, key: i16 },
    #[error("the {side} answered {what} with {}", crate::error::code_name(*code))]
    Refused { side: Side, what: String, code: i16 },
    #[error("the {side} answered what cannot be read: {0}", side = .1)]
    Garbled(WireError, Side),
}

impl AdminError {
    /// The answer is another one a moment later: leaders move, coordinators load.
    pub fn is_passing(&self) -> bool {
        match self {
            AdminError::Unreachable { .. } => true,
            AdminError::Refused { code, .. } => crate::error::is_retriable(*code),
            _ => false,
        }
    }
}

pub struct Admin {
    pub side: Side,
    bootstrap: Vec<String>,
    limits: Limits,
    /// For one answer.
    patience: Duration,
    connections: RefCell<HashMap<String, Connection>>,
    versions: RefCell<HashMap<i16, Range>>,
    /// The address that has answered `ask_any` last, and is asked first.
    preferred: RefCell<Option<String>>,
    /// The id of the cluster that this is about, once it is known: who answers for another one is not listened to.
    cluster_id: RefCell<Option<String>>,
    /// Where its requests are counted.
    metrics: Option<Arc<Metrics>>,
}

impl Admin {
    /// As a config has it.
    pub fn of(config: &Config, side: Side) -> Self {
        let bootstrap = config.cluster(side).bootstrap.iter().map(ToString::to_string).collect();
        Self { limits: Limits::of(config), patience: config.timeouts.request, ..Self::new(side, bootstrap, 0) }
    }

    /// With the config's defaults, and answers of `frame` bytes at most.
    pub fn new(side: Side, bootstrap: Vec<String>, frame: usize) -> Self {
        let defaults = Config::default();
        Self {
            side,
            bootstrap,
            limits: Limits { frame, ..Limits::of(&defaults) },
            patience: defaults.timeouts.request,
            connections: RefCell::default(),
            versions: RefCell::default(),
            preferred: RefCell::default(),
            cluster_id: RefCell::default(),
            metrics: None,
        }
    }

    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Waits no longer than this for one answer.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The addresses of the config.
    pub fn bootstrap(&self) -> impl Iterator<Item = String> + '_ {
        self.bootstrap.iter().cloned()
    }

    /// What the cluster's brokers speak, after the first contact.
    pub fn versions(&self) -> HashMap<i16, Range> {
        self.versions.borrow().clone()
    }

    /// From now on only brokers of this cluster are believed.
    pub fn expect(&self, cluster_id: Option<String>) {
        *self.cluster_id.borrow_mut() = cluster_id;
    }

    pub fn expected(&self) -> Option<String> {
        self.cluster_id.borrow().clone()
    }

    /// The addresses to ask, in this order: known brokers, the one that has answered last in front, bootstrap addresses last.
    pub fn addresses(&self, known: &[Broker]) -> Vec<String> {
        let mut addresses: Vec<String> = known.iter().map(Broker::address).collect();
        let preferred = self.preferred.borrow();
        if let Some(first) = addresses.iter().position(|a| Some(a) == preferred.as_ref()) {
            addresses.rotate_left(first);
        }
        addresses.extend(self.bootstrap.iter().cloned());
        addresses
    }

    /// It has answered.
    pub fn prefer(&self, address: &str) {
        *self.preferred.borrow_mut() = Some(address.to_owned());
    }

    /// Whoever asks there next begins anew: what was asked has no answer in time.
    pub fn hang_up(&self, address: &str) {
        self.connections.borrow_mut().remove(address);
    }

    /// Asks any broker that answers: the same one as long as it does, bootstrap addresses last.
    pub async fn ask_any(&self, known: &[Broker], request: &RequestKind) -> Result<ResponseKind, AdminError> {
        let mut last = "no address is known".to_owned();
        for address in self.addresses(known) {
            match self.ask(&address, request).await {
                Err(AdminError::Unreachable { reason, .. }) => last = reason,
                other => {
                    self.prefer(&address);
                    return other;
                }
            }
        }
        Err(AdminError::Unreachable { side: self.side, reason: last })
    }

    /// Asks one broker, in the highest version that it and we speak.
    pub async fn ask(&self, address: &str, request: &RequestKind) -> Result<ResponseKind, AdminError> {
        let (key, name) = versions::key_of(request);
        if self.versions.borrow().is_empty() {
            self.learn_versions(address).await?;
        }
        let unsupported = AdminError::Unsupported { side: self.side, api: name, key };
        let theirs = self.versions.borrow().get(&key).copied();
        let version = theirs.and_then(|r| r.intersect(versions::codec(key)?)).ok_or(unsupported)?.max;
        self.ask_version(address, request, key, version).await
    }

    async fn ask_version(
        &self,
        address: &str,
        request: &RequestKind,
        key: i16,
        version: i16,
    ) -> Result<ResponseKind, AdminError> {
        let mut body = ChainWriter::new();
        encode::request(request, version, &mut body);
        let body = body.finish().map_err(|e| AdminError::Garbled(e, self.side))?;
        let answer = self.exchange(address, key, version, body).await?;
        decode::response(key, version, answer).map_err(|e| AdminError::Garbled(e, self.side))
    }

    /// One request with an encoded body to one address.
    pub async fn exchange(&self, address: &str, key: i16, version: i16, body: Chain) -> Result<Bytes, AdminError> {
        let (done, answer) = oneshot::channel::<Result<Bytes, Lost>>();
        let outgoing = Outgoing {
            api_key: key,
            version,
            client_id: Some(StrBytes::from_static_str("kafka-cutover")),
            body,
            answered: true,
            patience: self.patience,
            completion: Box::new(move |outcome| drop(done.send(outcome))),
        };
        if let Some(metrics) = &self.metrics {
            metrics.upstream(key, self.side);
        }
        self.send(address, outgoing);
        let unreachable = |reason: String| AdminError::Unreachable { side: self.side, reason };
        match timeout(self.patience, answer).await {
            Ok(Ok(Ok(bytes))) => Ok(bytes),
            Ok(Ok(Err(lost))) => Err(unreachable(lost.to_string())),
            Ok(Err(_)) => Err(unreachable(format!("{address}: the connection ended"))),
            Err(_) => {
                // Whatever hangs there must not hang the next question too.
                self.hang_up(address);
                Err(unreachable(format!("{address}: no answer in {} s", self.patience.as_secs())))
            }
        }
    }

    fn send(&self, address: &str, mut outgoing: Outgoing) {
        let mut connections = self.connections.borrow_mut();
        if let Some(open) = connections.get(address) {
            match open.send(outgoing) {
                Ok(()) => return,
                Err(back) => outgoing = *back,
            }
        }
        let connection = Connection::open(address.to_owned(), self.limits);
        if let Err(back) = connection.send(outgoing) {
            return back.completion.complete(Err(Lost::NotSent("the connection ended at once".to_owned())));
        }
        connections.insert(address.to_owned(), connection);
    }

    async fn learn_versions(&self, address: &str) -> Result<(), AdminError> {
        let request = which_versions();
        let answer = self.ask_version(address, &request, 18, 0).await?;
        let ResponseKind::ApiVersions(answer) = answer else { return Ok(()) };
        let ranges = answer.api_keys.iter().map(|k| (k.api_key, Range { min: k.min_version, max: k.max_version }));
        *self.versions.borrow_mut() = ranges.collect();
        Ok(())
    }

    /// Forgets what the brokers speak, so that an upgraded cluster is asked again.
    pub fn forget_versions(&self) {
        self.versions.borrow_mut().clear();
    }
}

/// ApiVersions in any version: from the third on a broker refuses one that does not say whose software it is (KIP-511).
pub fn which_versions() -> RequestKind {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("kafka-cutover"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    RequestKind::ApiVersions(request)
}
