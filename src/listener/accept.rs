//! Accepts clients on one worker, each on a task of its own that stays there.
#![expect(clippy::disallowed_methods, reason = "io: accepts, and spawns a task per client")]

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::limits::Limits;
use crate::connection::Session;
use crate::connection::driver::{self, End};
use crate::monitor::metrics::RejectReason;
use crate::routing::Shared;
use crate::virtual_cluster::Nodes;

/// Accepting fails when file descriptors run out: wait for some to come back.
const BREATHER: Duration = Duration::from_millis(50);

/// Until the proxy winds down.
pub async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    nodes: Arc<Nodes>,
    limits: Arc<Limits>,
    clients: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = shared.winding_down.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a client cannot be accepted");
                tokio::time::sleep(BREATHER).await;
                continue;
            }
        };
        let seat = match limits.seat(peer.ip()) {
            Ok(seat) => seat,
            Err(limit) => {
                shared.metrics.rejected(RejectReason::Limit);
                tracing::warn!(%peer, limit, "refused: the limit is reached (see `limits` in the config)");
                continue;
            }
        };
        // A refused option costs latency, not correctness.
        drop(stream.set_nodelay(true));
        let (shared, nodes) = (shared.clone(), nodes.clone());
        clients.spawn_local(async move {
            serve(stream, Session::new(shared, nodes, peer)).await;
            drop(seat);
        });
    }
}

async fn serve(stream: TcpStream, session: std::rc::Rc<Session>) {
    let metrics = session.shared.metrics.clone();
    metrics.connection(true);
    let (peer, client) = (session.peer, session.client);
    let end = driver::serve(stream, session).await;
    metrics.connection(false);
    match end {
        End::Client => tracing::debug!(%peer, client, "client gone"),
        End::Rejected(kind, reason) => {
            metrics.rejected(kind);
            tracing::warn!(%peer, client, %reason, "connection closed");
        }
        End::Broken(reason) => tracing::info!(%peer, client, %reason, "connection closed"),
    }
}
