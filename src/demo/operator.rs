//! The proxy of a play, and the operator at its control socket: as in production, only in one process.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::config::Config;
use crate::control::client::Client;
use crate::control::protocol::{Outcome, StepBody, SwitchBody, What};
use crate::ids::Side;
use crate::proxy::{self, Running};

pub struct Operator {
    proxy: Running,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Operator {
    pub fn start(config: Config) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let proxy = proxy::start(config).context("starting the proxy")?;
        let client = Client::new(proxy.socket.clone());
        Ok(Self { proxy, client, runtime })
    }

    /// Where the listeners are bound, in the config's order.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.proxy.listeners
    }

    pub fn monitor(&self) -> Option<SocketAddr> {
        self.proxy.monitor
    }

    pub fn socket(&self) -> &PathBuf {
        &self.proxy.socket
    }

    pub fn prepare(&self, migration: &str) -> Result<Outcome> {
        let prepared = self.runtime.block_on(self.client.prepare(migration, &StepBody::default()));
        prepared.with_context(|| format!("preparing {migration}"))
    }

    pub fn switch_producers(&self, migration: &str) -> Result<Outcome> {
        let body = SwitchBody {
            what: What::Producers,
            to: Side::Target,
            force: false,
            hold_consumers: false,
            expect_step: None,
            dry_run: false,
        };
        let switched = self.runtime.block_on(self.client.switch(migration, &body));
        switched.with_context(|| format!("switching the producers of {migration}"))
    }

    pub fn stop(self) -> Result<()> {
        self.proxy.stop()
    }
}
