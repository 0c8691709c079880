//! The sockets of a node: one request of a connection at a time, the next is read after the answer is written.

#![expect(clippy::disallowed_methods, reason = "io: accepts and serves connections, reads the clock")]

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{RequestKind, ResponseKind};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::codec::{self, Answer, Body, Incoming, MAX_FRAME};
use super::faults::{Effect, Point};
use super::{Call, Shared};
use super::{
    cluster_info, configs, fetch, group_admin, list_offsets, log_dirs, membership, metadata, offsets, produce,
    producer_ids, topics, transactions,
};
use crate::wire::{self, Chain, FrameReader};

/// A listener whose port can be taken again at once, after its connections ended.
pub fn listen(ip: Ipv4Addr, port: u16) -> Result<StdListener> {
    let address = SocketAddr::from((ip, port));
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address)).with_context(|| format!("listening on {address}"))?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

pub async fn accept(
    shared: Arc<Shared>,
    node: usize,
    listener: StdListener,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(node, %error, "no listener"),
    };
    loop {
        let socket = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, peer)) = socket else { continue };
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            let serving = serve(&shared, node, socket, peer.ip().to_string());
            tokio::select! {
                () = stop.cancelled() => {}
                // A client that goes is no event here; a request that is refused shows in the client.
                ended = serving => if let Err(error) = ended { tracing::debug!(node, %peer, %error, "connection ended") },
            }
        });
    }
}

async fn serve(shared: &Shared, node: usize, socket: TcpStream, host: String) -> Result<()> {
    socket.set_nodelay(true)?;
    let (reader, mut writer) = socket.into_split();
    let mut frames = FrameReader::new(reader, MAX_FRAME);
    let bell = Arc::new(Notify::new());
    while let Some(frame) = frames.next().await? {
        let incoming = codec::request(&shared.spec, frame)?;
        let Some(answer) = handle(shared, node, incoming, &host, &bell).await? else { continue };
        wire::write_chains(&mut writer, &mut VecDeque::from([answer])).await?;
    }
    Ok(())
}

/// `Ok(None)`: nothing to answer. `Err`: the connection ends.
async fn handle(
    shared: &Shared,
    node: usize,
    incoming: Incoming,
    host: &str,
    bell: &Arc<Notify>,
) -> Result<Option<Chain>> {
    let Incoming { api, version, correlation_id, client_id, body } = incoming;
    shared.faults.saw(node, api as i16);
    if matches!(body, Body::UnknownApiVersions) {
        let unsupported = metadata::unsupported_api_versions(&shared.spec);
        return Ok(Some(codec::response(api, correlation_id, 0, &unsupported.into())?));
    }
    let topics = if shared.faults.watches(api as i16) { topics_of(shared, &body) } else { Vec::new() };
    let effect = shared.faults.take(api as i16, &topics);
    if effect == Some(Effect::DropBefore) {
        bail!("fault: dropped before {api:?}");
    }
    shared.faults.pass(Point::Process, api as i16, &topics).await;
    let now = Instant::now();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let call = Call { shared, node, version, client_id, client_host: format!("/{host}"), now, now_ms, bell };
    let refuse = if let Some(Effect::Refuse(code)) = effect { Some(code) } else { None };
    let answer = dispatch(&call, body, refuse).await?;
    shared.changed.notify_waiters();
    shared.faults.pass(Point::Answer, api as i16, &topics).await;
    if effect == Some(Effect::DropAfter) {
        bail!("fault: dropped after {api:?}");
    }
    let Some(mut answer) = answer else { return Ok(None) };
    throttle(&mut answer, shared.faults.throttle_ms());
    let chain = codec::response(api, correlation_id, version, &answer)?;
    Ok(Some(if effect == Some(Effect::Garble) { garbled(&chain) } else { chain }))
}

async fn dispatch(call: &Call<'_>, body: Body, refuse: Option<i16>) -> Result<Option<Answer>> {
    let body = match body {
        Body::Produce(r) => return Ok(produce::produce(call, r, refuse)?.map(Answer::from)),
        Body::Fetch(r) => return Ok(Some(fetch::fetch(call, r).await)),
        Body::Other(body) => body,
        Body::UnknownApiVersions => return Ok(None),
    };
    Ok(Some(match body {
        RequestKind::ListOffsets(r) => list_offsets::list_offsets(call, r).into(),
        RequestKind::OffsetForLeaderEpoch(r) => list_offsets::offset_for_leader_epoch(call, r).into(),
        RequestKind::ApiVersions(_) => metadata::api_versions(call).into(),
        RequestKind::Metadata(r) => metadata::metadata(call, r).into(),
        RequestKind::DescribeCluster(r) => cluster_info::describe_cluster(call, r).into(),
        RequestKind::FindCoordinator(r) => cluster_info::find_coordinator(call, r).into(),
        RequestKind::InitProducerId(r) => producer_ids::init_producer_id(call, r).into(),
        RequestKind::DescribeProducers(r) => producer_ids::describe_producers(call, r).into(),
        RequestKind::AddPartitionsToTxn(r) => transactions::add_partitions_to_txn(call, r).into(),
        RequestKind::AddOffsetsToTxn(r) => transactions::add_offsets_to_txn(call, r).into(),
        RequestKind::EndTxn(r) => transactions::end_txn(call, r).into(),
        RequestKind::TxnOffsetCommit(r) => transactions::txn_offset_commit(call, r).into(),
        RequestKind::DescribeTransactions(r) => transactions::describe_transactions(call, r).into(),
        RequestKind::ListTransactions(r) => transactions::list_transactions(call, r).into(),
        RequestKind::DescribeAcls(_) | RequestKind::CreateAcls(_) | RequestKind::DeleteAcls(_) => {
            let error = E::SecurityDisabled.code();
            let refused = wire::refusal(&body, call.version, error, Some("No Authorizer is configured."));
            Answer::Other(Box::new(refused.context("a refusal")?))
        }
        RequestKind::CreateTopics(r) => topics::create_topics(call, r).into(),
        RequestKind::DeleteTopics(r) => topics::delete_topics(call, r).into(),
        RequestKind::CreatePartitions(r) => topics::create_partitions(call, r).into(),
        RequestKind::DeleteRecords(r) => topics::delete_records(call, r).into(),
        RequestKind::DescribeConfigs(r) => configs::describe_configs(call, r).into(),
        RequestKind::DescribeLogDirs(r) => log_dirs::describe_log_dirs(call, r).into(),
        RequestKind::AlterConfigs(r) => configs::alter_configs(call, r).into(),
        RequestKind::IncrementalAlterConfigs(r) => configs::incremental_alter_configs(call, r).into(),
        RequestKind::JoinGroup(r) => membership::join_group(call, r).await.into(),
        RequestKind::SyncGroup(r) => membership::sync_group(call, r).await.into(),
        RequestKind::Heartbeat(r) => membership::heartbeat(call, r).into(),
        RequestKind::LeaveGroup(r) => membership::leave_group(call, r).into(),
        RequestKind::OffsetCommit(r) => offsets::offset_commit(call, r).into(),
        RequestKind::OffsetFetch(r) => offsets::offset_fetch(call, r).into(),
        RequestKind::OffsetDelete(r) => offsets::offset_delete(call, r).into(),
        RequestKind::DescribeGroups(r) => group_admin::describe_groups(call, r).into(),
        RequestKind::ListGroups(r) => group_admin::list_groups(call, r).into(),
        RequestKind::DeleteGroups(r) => group_admin::delete_groups(call, r).into(),
        other => bail!("no answer to {other:?}"), // `codec::SPOKEN` has let through what is not listed above
    }))
}

/// Length and correlation id stay.
fn garbled(answer: &Chain) -> Chain {
    let mut bytes = answer.to_bytes().to_vec();
    bytes.iter_mut().skip(8).for_each(|b| *b = 0x7f);
    Bytes::from(bytes).into()
}

/// For faults by topic: the topics that a request names.
fn topics_of(shared: &Shared, body: &Body) -> Vec<String> {
    let state = shared.lock();
    match body {
        Body::Produce(r) => r.topics.iter().filter_map(|t| state.name_of(&t.name, t.id)).collect(),
        Body::Fetch(r) => r.topics.iter().filter_map(|t| state.name_of(&t.name, t.id)).collect(),
        _ => Vec::new(),
    }
}

fn throttle(answer: &mut Answer, ms: i32) {
    let answer = match answer {
        Answer::Fetch(r) => return r.throttle_time_ms = ms,
        Answer::Other(answer) => answer,
    };
    match answer.as_mut() {
        ResponseKind::Produce(r) => r.throttle_time_ms = ms,
        ResponseKind::Fetch(r) => r.throttle_time_ms = ms,
        ResponseKind::Metadata(r) => r.throttle_time_ms = ms,
        ResponseKind::ListOffsets(r) => r.throttle_time_ms = ms,
        ResponseKind::OffsetCommit(r) => r.throttle_time_ms = ms,
        ResponseKind::OffsetFetch(r) => r.throttle_time_ms = ms,
        ResponseKind::JoinGroup(r) => r.throttle_time_ms = ms,
        ResponseKind::Heartbeat(r) => r.throttle_time_ms = ms,
        _ => {}
    }
}

/// Sessions and rebalances that end by time.
pub async fn group_deadlines(shared: Arc<Shared>) {
    loop {
        let next = {
            let now = Instant::now();
            let mut state = shared.lock();
            state.groups.values_mut().filter_map(|g| g.expire(now)).min()
        };
        shared.changed.notify_waiters();
        let changed = shared.deadlines.notified();
        match next {
            Some(next) => drop(tokio::time::timeout_at(next, changed).await),
            None => changed.await,
        }
    }
}
