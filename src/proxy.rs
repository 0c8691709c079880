//! The composition root: what runs on which thread, in which order it starts and stops. The only spawner of long-lived
//! tasks.
//!
//! One control thread (discovery, operator, monitor, control socket) and one thread per worker; a client connection and
//! its upstream connections stay on their worker. Workers listen only when it is known who this proxy is (`identity`).
#![expect(clippy::disallowed_methods, reason = "io: starts threads and runtimes, waits for signals")]

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use tokio::runtime::Builder;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::config::Config;
use crate::control::operator::Operator;
use crate::control::server::ControlSocket;
use crate::groups::shadow_writer;
use crate::ids::Side;
use crate::listener::{self, Limits};
use crate::migration::operate::Control;
use crate::migration::{identity, moving, pinned, readers, status, watch as sealed_sides};
use crate::mirror;
use crate::monitor::{self, ClusterHealth, Metrics, Readiness};
use crate::routing::{Shared, track};
use crate::store::identity::is_marker_topic;
use crate::store::{Event, State, Store, StoreError, decisions};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::discovery::{self, Wanted};
use crate::upstream::{ClusterView, Topology, pulse};
use crate::virtual_cluster::Nodes;

/// A running proxy. Dropping it stops it.
pub struct Running {
    /// Where each listener of the config really listens, in their order.
    pub listeners: Vec<SocketAddr>,
    pub monitor: Option<SocketAddr>,
    pub socket: PathBuf,
    stop: CancellationToken,
    control: Option<JoinHandle<anyhow::Result<()>>>,
}

struct Started {
    listeners: Vec<SocketAddr>,
    monitor: Option<SocketAddr>,
}

/// Starts a proxy; returns when it listens, or cannot. With an unreachable cluster and an empty journal that may take
/// as long as the cluster stays away.
pub fn start(config: Config) -> anyhow::Result<Running> {
    start_unless(config, || false)?.ok_or_else(stopped_early)
}

/// How often a start that takes its time looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// `None`: told to stop before it listened, and it has.
fn start_unless(config: Config, stopped: impl Fn() -> bool) -> anyhow::Result<Option<Running>> {
    let stop = CancellationToken::new();
    let socket = config.control.socket.clone();
    let (started, ready) = std_mpsc::channel();
    let token = stop.clone();
    let control = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, control(config, token, started))
    })?;
    loop {
        match ready.recv_timeout(LOOK) {
            Ok(Started { listeners, monitor }) => {
                return Ok(Some(Running { listeners, monitor, socket, stop, control: Some(control) }));
            }
            Err(std_mpsc::RecvTimeoutError::Timeout) if stopped() => stop.cancel(),
            Err(std_mpsc::RecvTimeoutError::Timeout) => {}
            Err(std_mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    match control.join() {
        Ok(Ok(())) if stop.is_cancelled() => Ok(None),
        Ok(Ok(())) => Err(stopped_early()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(anyhow!("the control thread ended in a panic")),
    }
}

fn stopped_early() -> anyhow::Error {
    anyhow!("the proxy was stopped before it listened")
}

/// `kafka-cutover run`: until a signal. A second signal ends at once.
pub fn run(config: Config) -> anyhow::Result<()> {
    let signals = watch_signals()?;
    // A start may wait for a cluster for as long as that is away.
    let Some(running) = start_unless(config, || signals.try_recv().is_ok())? else { return Ok(()) };
    for (listener, address) in running.listeners.iter().enumerate() {
        tracing::info!(listener, %address, "listening");
    }
    loop {
        match signals.recv_timeout(Duration::from_millis(200)) {
            Ok(()) | Err(std_mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std_mpsc::RecvTimeoutError::Timeout) if running.has_ended() => break,
            Err(std_mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
    running.stop()
}

fn watch_signals() -> anyhow::Result<std_mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (tell, told) = std_mpsc::channel();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || -> anyhow::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let mut asked = 0;
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                asked += 1;
                if asked > 1 || tell.send(()).is_err() {
                    std::process::exit(1);
                }
                tracing::info!("stopping: what is on its way is finished first; a second signal ends at once");
            }
        })
    })?;
    Ok(told)
}

impl Running {
    pub fn has_ended(&self) -> bool {
        self.control.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Takes no more work, finishes what is on its way, and returns when all threads have ended.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        match self.control.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) => Err(anyhow!("the control thread ended in a panic")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(control) = self.control.take() {
            drop(control.join());
        }
    }
}

async fn control(config: Config, stop: CancellationToken, started: std_mpsc::Sender<Started>) -> anyhow::Result<()> {
    let store = Arc::new(Store::open(&config.state.dir)?);
    identity::config_agrees(&config, &store.state())?;
    compact(&store)?;
    let metrics = Arc::new(Metrics::new());
    let (readiness, ready) = watch::channel(Readiness::starting());
    let (commands, asked) = mpsc::channel(16);
    let (events, _) = broadcast::channel(1024);
    let board = status::Board::new(config.clone());
    let (shown, decided) = (board.clone(), store.clone());
    let operator = Operator::new(commands, move || shown.status(), move || decided.state(), events.clone());
    let socket = ControlSocket::bind(&config.control.socket)
        .with_context(|| format!("control.socket {}", config.control.socket.display()))?;
    let tasks = TaskTracker::new();
    tasks.spawn_local(crate::control::server::serve(socket, operator.clone(), stop.clone()));
    let wound_down = CancellationToken::new();
    let mut monitor_at = None;
    if let Some(address) = config.monitor.bind {
        let listener = monitor::server::bind(address).await.with_context(|| format!("monitor.bind {address}"))?;
        monitor_at = Some(listener.local_addr()?);
        let shown = monitor::Monitor { metrics: metrics.clone(), readiness: ready, operator: operator.clone() };
        tasks.spawn_local(monitor::serve(listener, shown, wound_down.clone()));
    }

    let admin = |side: Side| Rc::new(Admin::of(&config, side).counting(metrics.clone()));
    let admins = Side::BOTH.map(admin);

    let fresh = store.state().identity.is_none();
    let first = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        first = identity::first_contact(&config, &store, &admins) => first?,
    };
    // From here on an address that leads elsewhere is no answer; before, it is a reason not to start.
    let admin = |side: Side| {
        let admin = admin(side);
        admin.expect(store.state().cluster_id(side));
        admin
    };
    for admin in &admins {
        admin.expect(store.state().cluster_id(admin.side));
    }
    let unasked = Side::BOTH.map(|side| first.views[side.index()].as_ref().is_none_or(|view| !view.reachable));
    let unsettled_until_ms = match fresh {
        true => 0,
        // An earlier process may have left produce on its way.
        false => clock::now_ms() + i64::try_from(config.seal.settle_time.as_millis()).unwrap_or(i64::MAX),
    };

    let (deadlines, deadlines_told) = mpsc::unbounded_channel();
    let (shadows, shadows_told) = mpsc::unbounded_channel();
    let (decisions, decided) = mpsc::unbounded_channel();
    let topology = Arc::new(ArcSwap::<Topology>::default());
    let shared = Shared::new(config.clone(), first.cluster, topology, deadlines, shadows, decisions, metrics.clone());
    shared.homes.restore(&store.state());
    shared.called.restore(&store.state());
    shared.transactional_homes.restore(&store.state());
    shared.transactions.restore(&store.state(), clock::now_ms());
    let shared = Arc::new(shared);
    let seen = first.views.clone().map(|view| view.filter(|v| v.reachable));
    for (side, view) in Side::BOTH.into_iter().zip(first.views) {
        publish(&shared, &store, side, view, unsettled_until_ms);
    }
    board.serve(shared.clone(), store.clone());

    let mut workers = Vec::new();
    let mut listening = Vec::new();
    let mut listeners = Vec::new();
    for listener in &config.listeners {
        let (bound, sockets) = listener::socket::bind(listener.bind, config.worker_threads())
            .with_context(|| format!("listeners: {} cannot be listened on", listener.bind))?;
        let advertised = listener.advertised(bound).into_iter().map(|a| (a.host, a.port));
        let nodes = Arc::new(Nodes::new(advertised));
        let limits = Limits::new(config.limits.connections, config.limits.connections_per_address);
        listeners.push(bound);
        listening.push((sockets, nodes, limits));
    }
    let mut per_worker: Vec<Vec<Listening>> = (0..config.worker_threads()).map(|_| Vec::new()).collect();
    for (sockets, nodes, limits) in listening {
        for (worker, socket) in per_worker.iter_mut().zip(sockets) {
            worker.push(Listening { socket, nodes: nodes.clone(), limits: limits.clone() });
        }
    }
    let mut syncs = Vec::new();
    for (i, listening) in per_worker.into_iter().enumerate() {
        let (sync, asked) = mpsc::unbounded_channel();
        syncs.push(sync);
        let shared = shared.clone();
        let thread = std::thread::Builder::new().name(format!("worker-{i}"));
        workers.push(thread.spawn(move || worker(shared, listening, asked))?);
    }

    // On a thread of its own: what it opens and packs is nobody else's to wait for.
    let (mirrored, journal, ends) = (shared.clone(), store.clone(), stop.clone());
    let mirror = std::thread::Builder::new().name("mirror".to_owned()).spawn(move || -> anyhow::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, mirror::run::run(mirrored, journal, ends));
        Ok(())
    })?;
    workers.push(mirror);

    for (side, seen) in Side::BOTH.into_iter().zip(seen) {
        let (for_wake, for_publish) = (shared.clone(), shared.clone());
        let (board_of_pulse, readiness_of_pulse) = (board.clone(), readiness.clone());
        let (store, board, readiness) = (store.clone(), board.clone(), readiness.clone());
        let wake = move || {
            let shared = for_wake.clone();
            async move { shared.refresh[side.index()].notified().await }
        };
        let hear = move |seen: Result<ClusterView, AdminError>| {
            let known = match seen {
                Ok(view) => {
                    let known = view.broker_list();
                    board.heard(side, None);
                    publish(&for_publish, &store, side, Some(view), unsettled_until_ms);
                    known
                }
                Err(error) => {
                    board.heard(side, Some(error.to_string()));
                    unreachable(&for_publish, side, &error);
                    for_publish.topology.load().side(side).map(|c| c.broker_list()).unwrap_or_default()
                }
            };
            show_readiness(&readiness, &for_publish, &board);
            known
        };
        let (every, for_sought) = (config.timeouts.metadata_max_age, shared.clone());
        let sought = move || for_sought.sought.now(side, tokio::time::Instant::now());
        let for_leaders = shared.clone();
        let leaders_are_old = move || for_leaders.take_old_leaders(side);
        let wanted = Wanted { wake, sought, leaders_are_old };
        let watch = discovery::watch(admins[side.index()].clone(), every, seen, wanted, hear);
        tasks.spawn_local(unless(stop.clone(), watch));
        tasks.spawn_local(unless(stop.clone(), pulse_of(shared.clone(), side, board_of_pulse, readiness_of_pulse)));
    }

    let finish = moving::finish(shared.clone(), store.clone(), Side::BOTH.map(admin));
    tasks.spawn_local(unless(stop.clone(), finish));

    // Connections of its own: a commit that waits for followers must not delay a seal's question.
    let no_clients = CancellationToken::new();
    let shadows = shadow_writer::run(shared.clone(), Side::BOTH.map(admin), shadows_told, no_clients.clone());
    tasks.spawn_local(shadows);

    let watched = sealed_sides::run(
        shared.clone(),
        Side::BOTH.map(|side| impatient(&config, &store.state(), side)),
        events.clone(),
    );
    tasks.spawn_local(unless(stop.clone(), watched));

    let readers = readers::run(shared.clone(), Side::BOTH.map(|side| impatient(&config, &store.state(), side)));
    tasks.spawn_local(unless(stop.clone(), readers));

    let journal = store.clone();
    let control = Control::new(shared.clone(), store.clone(), admins, syncs, deadlines_told, events);
    let fatal = control.fatal.clone();
    let acting = shared.clone();
    let act = move |event: &Event| {
        if let Event::TransactionalIdMoved(moved) = event {
            acting.transactional_homes.set(&moved.id, moved.home());
        }
    };
    tasks.spawn_local(unless(stop.clone(), decisions::run(store.clone(), decided, act, fatal.clone())));
    let (upkeep, holding, broken) = (metrics.clone(), shared.clone(), fatal.clone());
    tasks.spawn_local(unless(stop.clone(), async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.upkeep();
            // What a hold appends must not wait behind a compaction.
            if !is_holding(&holding) {
                let journal = journal.clone();
                if let Ok(Err(error)) = tokio::task::spawn_blocking(move || compact(&journal)).await {
                    tracing::error!(%error, "the journal cannot be written: the process ends");
                    broken.cancel();
                }
            }
            holding.partitions.load().forget_lost(clock::now_ms(), holding.config.seal.settle_time);
        }
    }));
    for side in Side::BOTH.into_iter().filter(|side| unasked[side.index()]) {
        let (asks, journal, fatal, name) = (admin(side), store.clone(), fatal.clone(), config.name.clone());
        tasks.spawn_local(unless(stop.clone(), async move {
            if let Err(refusal) = identity::late_contact(&asks, &journal, &name).await {
                tracing::error!(%side, %refusal, "a cluster that was away at the start: the process ends");
                fatal.cancel();
            }
        }));
    }
    tasks.spawn_local(unless(stop.clone(), control.run(asked)));
    // Whoever started us may be gone.
    drop(started.send(Started { listeners, monitor: monitor_at }));

    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = fatal.cancelled() => Err(anyhow!(
            "the journal in {} could not be written: whether the last event is durable is unknown, so nothing goes on; \
             mend the disk and start again, the journal decides",
            config.state.dir.display()
        )),
    };
    shared.winding_down.cancel();
    show_readiness(&readiness, &shared, &board);
    stop.cancel();
    tasks.close();
    for worker in workers {
        drop(tokio::task::spawn_blocking(move || worker.join()).await);
    }
    no_clients.cancel();
    // Until now it can be watched how the winding down goes.
    wound_down.cancel();
    // What still hangs then hangs on a peer.
    drop(tokio::time::timeout(config.timeouts.wind_down, tasks.wait()).await);
    outcome
}

/// `Err`: nobody knows what the journal's file is now, and nothing may be written to it any more.
fn compact(store: &Store) -> Result<(), StoreError> {
    if !store.is_worth_compacting() {
        return Ok(());
    }
    match store.compact() {
        Ok(()) => Ok(()),
        Err(error @ (StoreError::Unknown(_) | StoreError::Poisoned)) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "the journal was not compacted: it goes on as it is");
            Ok(())
        }
    }
}

fn is_holding(shared: &Shared) -> bool {
    shared.partitions.load().topics.values().any(|states| states.iter().any(|s| s.held))
}

/// For questions that are asked again soon anyway.
fn impatient(config: &Config, journal: &State, side: Side) -> Admin {
    let admin = Admin::of(config, side).with_patience(pulse::EVERY);
    admin.expect(journal.cluster_id(side));
    admin
}

/// A cluster that has stopped answering is known as such within seconds, also while no client asks for anything.
async fn pulse_of(shared: Arc<Shared>, side: Side, board: status::Board, readiness: watch::Sender<Readiness>) {
    let known = || shared.topology.load().side(side).map(|c| c.broker_list()).unwrap_or_default();
    let failures = Cell::new(0);
    let tell = |outcome: Result<(), AdminError>| match outcome {
        Ok(()) => {
            failures.set(0);
            if !shared.topology.load().reachable(side) {
                shared.refresh(side);
            }
        }
        // Discovery finds out at once where nobody listens; one that hangs would keep it waiting.
        Err(_) if failures.replace(failures.get() + 1) == 0 => shared.refresh(side),
        Err(error) => {
            board.heard(side, Some(error.to_string()));
            unreachable(&shared, side, &error);
            show_readiness(&readiness, &shared, &board);
        }
    };
    pulse::watch(Admin::of(&shared.config, side).with_patience(pulse::EVERY), known, tell).await;
}

fn show_readiness(readiness: &watch::Sender<Readiness>, shared: &Shared, board: &status::Board) {
    readiness.send_if_modified(|now| {
        let next = is_ready(shared, board);
        let changed = *now != next;
        *now = next;
        changed
    });
}

async fn unless(stop: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = task => {}
    }
}

/// A side was looked at: first the partitions, then the topology, so that nothing is routed untracked.
fn publish(shared: &Shared, store: &Store, side: Side, view: Option<ClusterView>, unsettled_until_ms: i64) {
    let Some(mut view) = view else { return };
    let state = store.state();
    shared.set_prepared(&state);
    view.topics.retain(|name, _| !is_marker_topic(name));
    view.hidden = view.names.extract_if(|_, name| is_marker_topic(name)).map(|(id, _)| id).collect();
    if let Some(earlier) = shared.topology.load().side(side) {
        view.keep_newer(earlier);
    }
    for anew in pinned::stop_made_anew(&mut view, side, &state) {
        if !shared.alarms.is_first(format!("{side} {} made anew as {}", anew.topic, anew.id)) {
            continue;
        }
        let what_to_do = match anew.sealed {
            false => "prepare the migration again, or abort it",
            true => "its records of before are gone, and what clients know of it is no longer true",
        };
        tracing::error!(%side, topic = %anew.topic, migration = %anew.migration, what_to_do,
            "the topic was deleted and made anew since it was prepared: its partitions stop here");
    }
    if side == Side::Source {
        let (config, now) = (&shared.config, shared.partitions.load());
        if let Some(next) = track::track(config, &state, &now, &view, unsettled_until_ms, clock::now_ms()) {
            shared.publish_partitions(next);
        }
    }
    let mut topology = Topology::clone(&shared.topology.load());
    view.generation = topology.generation(side) + 1;
    shared.metrics.cluster_reachable.of(side).set(if view.reachable { 1.0 } else { 0.0 });
    topology.sides[side.index()] = Some(Arc::new(view));
    shared.topology.store(Arc::new(topology));
    shared.topology_changed.send_modify(|n| *n += 1);
}

fn unreachable(shared: &Shared, side: Side, error: &AdminError) {
    shared.metrics.cluster_reachable.of(side).set(0.0);
    let mut topology = Topology::clone(&shared.topology.load());
    let Some(view) = topology.side(side) else { return };
    if view.reachable {
        tracing::warn!(%side, %error, "a cluster cannot be reached: its clients wait, and it is tried again");
        let view = ClusterView { reachable: false, generation: view.generation + 1, ..ClusterView::clone(view) };
        topology.sides[side.index()] = Some(Arc::new(view));
        shared.topology.store(Arc::new(topology));
        shared.topology_changed.send_modify(|n| *n += 1);
    }
}

fn is_ready(shared: &Shared, board: &status::Board) -> Readiness {
    let topology = shared.topology.load();
    let open = status::open_sides(shared);
    let health = |side: Side| ClusterHealth {
        reachable: topology.reachable(side),
        needed: open[side.index()],
        error: board.error(side),
    };
    let serving = Readiness::serving(health(Side::Source), health(Side::Target));
    // Also when a side is looked at meanwhile.
    if shared.winding_down.is_cancelled() { serving.winding_down() } else { serving }
}

struct Listening {
    socket: std::net::TcpListener,
    nodes: Arc<Nodes>,
    limits: Arc<Limits>,
}

/// One worker thread, until it has wound down.
fn worker(
    shared: Arc<Shared>,
    listening: Vec<Listening>,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let clients = TaskTracker::new();
        for Listening { socket, nodes, limits } in listening {
            let listener = tokio::net::TcpListener::from_std(socket)?;
            let accepting = listener::accept(listener, shared.clone(), nodes, limits, clients.clone());
            clients.spawn_local(accepting);
        }
        // Whoever runs here now has read the snapshots afresh: nothing awaits between reading one and acting on it.
        let syncs = tokio::task::spawn_local(async move {
            while let Some(done) = asked.recv().await {
                // Who asked may have given up.
                done.send(()).ok();
            }
        });
        shared.winding_down.cancelled().await;
        clients.close();
        drop(tokio::time::timeout(shared.config.timeouts.wind_down, clients.wait()).await);
        syncs.abort();
        Ok(())
    })
}
