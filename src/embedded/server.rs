//! The sockets of a node: one request of a connection at a time, the next is read after the answer is written.

#![expect(clippy::disallowed_methods, reason = "io: accepts and serves connections, reads the clock")]

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestKind, ResponseKind};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::codec::{self, Incoming, MAX_FRAME};
use super::faults::{Effect, Point};
use super::{Call, Shared};
use super::{
    cluster_info, configs, fetch, group_admin, list_offsets, membership, metadata, offsets, produce, producer_ids,
    topics,
};

/// A listener whose port can be taken again at once, after its connections ended.
pub fn listen(ip: &str, port: u16) -> Result<StdListener> {
    let address = SocketAddr::new(ip.parse().with_context(|| format!("address {ip:?}"))?, port);
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

async fn serve(shared: &Shared, node: usize, mut socket: TcpStream, host: String) -> Result<()> {
    socket.set_nodelay(true)?;
    let bell = Arc::new(Notify::new());
    loop {
        let Some(frame) = read_frame(&mut socket).await? else { return Ok(()) };
        let incoming = codec::request(&shared.spec, frame)?;
        let Some(answer) = handle(shared, node, incoming, &host, &bell).await? else { continue };
        socket.write_all(&answer).await?;
    }
}

async fn read_frame(socket: &mut TcpStream) -> Result<Option<Bytes>> {
    let length = match socket.read_i32().await {
        Ok(length) => length,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        bail!("a frame of {length} bytes");
    }
    // Memory follows the bytes that are there, not the length that is claimed.
    let mut frame = BytesMut::with_capacity(length.min(64 * 1024));
    let mut body = socket.take(length as u64);
    while frame.len() < length {
        if body.read_buf(&mut frame).await? == 0 {
            bail!("the connection ended inside a frame");
        }
    }
    Ok(Some(frame.freeze()))
}

/// `Ok(None)`: nothing to answer. `Err`: the connection ends.
async fn handle(
    shared: &Shared,
    node: usize,
    incoming: Incoming,
    host: &str,
    bell: &Arc<Notify>,
) -> Result<Option<BytesMut>> {
    let Incoming { api, version, correlation_id, client_id, body } = incoming;
    shared.faults.saw(node, api as i16);
    let Some(body) = body else {
        let unsupported = metadata::unsupported_api_versions(&shared.spec);
        return Ok(Some(codec::response(correlation_id, 0, &unsupported.into())?));
    };
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
    let mut bytes = codec::response(correlation_id, version, &answer)?;
    if effect == Some(Effect::Garble) {
        bytes[8..].fill(0x7f);
    }
    Ok(Some(bytes))
}

async fn dispatch(call: &Call<'_>, body: RequestKind, refuse: Option<i16>) -> Result<Option<ResponseKind>> {
    Ok(Some(match body {
        RequestKind::Produce(r) => match produce::produce(call, r, refuse)? {
            Some(answer) => answer.into(),
            None => return Ok(None),
        },
        RequestKind::Fetch(r) => fetch::fetch(call, r).await.into(),
        RequestKind::ListOffsets(r) => list_offsets::list_offsets(call, r).into(),
        RequestKind::OffsetForLeaderEpoch(r) => list_offsets::offset_for_leader_epoch(call, r).into(),
        RequestKind::ApiVersions(_) => metadata::api_versions(&call.shared.spec, call.version).into(),
        RequestKind::Metadata(r) => metadata::metadata(call, r).into(),
        RequestKind::DescribeCluster(r) => cluster_info::describe_cluster(call, r).into(),
        RequestKind::FindCoordinator(r) => cluster_info::find_coordinator(call, r).into(),
        RequestKind::InitProducerId(r) => producer_ids::init_producer_id(call, r).into(),
        RequestKind::DescribeProducers(r) => producer_ids::describe_producers(call, r).into(),
        RequestKind::CreateTopics(r) => topics::create_topics(call, r).into(),
        RequestKind::DeleteTopics(r) => topics::delete_topics(call, r).into(),
        RequestKind::CreatePartitions(r) => topics::create_partitions(call, r).into(),
        RequestKind::DeleteRecords(r) => topics::delete_records(call, r).into(),
        RequestKind::DescribeConfigs(r) => configs::describe_configs(call, r).into(),
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

/// For faults by topic: the topics that a request names.
fn topics_of(shared: &Shared, body: &RequestKind) -> Vec<String> {
    match body {
        RequestKind::Produce(r) => {
            let state = shared.lock();
            r.topic_data.iter().filter_map(|t| produce::name_of(&state, t)).collect()
        }
        RequestKind::Fetch(r) => {
            let state = shared.lock();
            r.topics.iter().filter_map(|t| fetch::name_of(&state, t)).collect()
        }
        _ => Vec::new(),
    }
}

fn throttle(answer: &mut ResponseKind, ms: i32) {
    match answer {
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
