//! The handle through which the control server asks the proxy, and the other ends of which the proxy holds.
#![allow(clippy::disallowed_methods, reason = "io: waits for the proxy's answer")]

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};

use super::protocol::{Command, Event, MigrationStatus, Outcome, Refusal, Report, Status, TranslateQuery, Translation};
use super::translate;
use crate::migration::certificate;
use crate::store::State;

/// Who is at the other end of the socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `None` if the kernel does not say.
    pub uid: Option<u32>,
}

/// A command on its way to the proxy, with where its answer goes. Who drops `answer` answers `unavailable`.
#[derive(Debug)]
pub struct Ask {
    pub command: Command,
    pub peer: Peer,
    pub answer: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// The proxy, as its operator reaches it.
#[derive(Clone)]
pub struct Operator {
    commands: mpsc::Sender<Ask>,
    status: Arc<dyn Fn() -> Status + Send + Sync>,
    decided: Arc<dyn Fn() -> Arc<State> + Send + Sync>,
    events: broadcast::Sender<Event>,
}

impl Operator {
    /// `decided` is what is in the journal.
    pub fn new(
        commands: mpsc::Sender<Ask>,
        status: impl Fn() -> Status + Send + Sync + 'static,
        decided: impl Fn() -> Arc<State> + Send + Sync + 'static,
        events: broadcast::Sender<Event>,
    ) -> Self {
        Self { commands, status: Arc::new(status), decided: Arc::new(decided), events }
    }

    pub fn status(&self) -> Status {
        (self.status)()
    }

    pub fn migration(&self, name: &str) -> Result<MigrationStatus, Refusal> {
        let status = self.status();
        let found = status.migrations.iter().find(|m| m.name == name).cloned();
        found.ok_or_else(|| Refusal::unknown_migration(name, status.migrations.iter().map(|m| m.name.as_str())))
    }

    pub fn translate(&self, asked: &TranslateQuery) -> Result<Translation, Refusal> {
        translate::answer(&(self.decided)(), asked)
    }

    /// The certificate, as far as it has come.
    pub fn report(&self, migration: &str) -> Result<Report, Refusal> {
        self.migration(migration)?;
        certificate::of(&(self.decided)(), migration).ok_or_else(|| {
            let message = format!("migration {migration} is not prepared: there is nothing to report");
            Refusal::new("not_prepared", message, format!("run `kafka-cutover prepare {migration}` first"))
        })
    }

    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Returns when the step is done or refused. A caller that goes away does not stop the step.
    pub async fn ask(&self, command: Command, peer: Peer) -> Result<Outcome, Refusal> {
        let gone = || Refusal::new("unavailable", "the proxy is winding down", "try again once it runs");
        let (answer, answered) = oneshot::channel();
        self.commands.send(Ask { command, peer, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
