//! What belongs to one client connection, on its one thread.
#![expect(clippy::disallowed_methods, reason = "io: reads the clock")]

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::RequestKind;
use tokio::time::Instant;

use super::order::Order as GroupOrder;
use crate::api::Context;
use crate::clock;
use crate::producers::Order;
use crate::routing::Shared;
use crate::upstream::Pool;
use crate::upstream::connection::{ANSWER_PATIENCE, Limits};
use crate::virtual_cluster::Nodes;

pub struct Session {
    pub shared: Arc<Shared>,
    pub nodes: Arc<Nodes>,
    pub peer: SocketAddr,
    pub client: u64,
    /// Of what it has produced.
    pub order: RefCell<Order>,
    pub pool: RefCell<Pool>,
    pub fetch: super::fetch::Standing,
    pub group_order: Rc<GroupOrder>,
    /// How long a member's JoinGroup and SyncGroup may take: as it says itself in the first.
    rebalance_patience: Cell<Duration>,
    /// Set when an outcome was lost: the client has to find out by a closed connection, as a broker would have it.
    broken: Cell<bool>,
}

impl Session {
    pub fn new(shared: Arc<Shared>, nodes: Arc<Nodes>, peer: SocketAddr) -> Rc<Self> {
        let client = shared.next_client();
        let turn = usize::try_from(client).unwrap_or(0);
        let pool = RefCell::new(Pool::new(shared.topology.clone(), Limits::of(&shared.config), turn));
        let rebalance_patience = Cell::new(ANSWER_PATIENCE);
        let fetch = super::fetch::Standing::new(&shared);
        let (order, group_order, broken) = (RefCell::default(), Rc::default(), Cell::new(false));
        Rc::new(Self { shared, nodes, peer, client, order, pool, fetch, group_order, rebalance_patience, broken })
    }

    /// The snapshots of this moment.
    pub fn context(&self, version: i16) -> Context<'_> {
        Context {
            shared: &self.shared,
            topology: self.shared.topology.load_full(),
            partitions: self.shared.partitions.load_full(),
            nodes: &self.nodes,
            version,
            now: Instant::now(),
            now_ms: clock::now_ms(),
        }
    }

    /// How long the answer to a request of the client may take.
    pub fn patience(&self, request: &RequestKind) -> Duration {
        /// A broker waits for the members to the end of their time, then answers.
        const MORE: Duration = Duration::from_secs(30);
        match request {
            RequestKind::JoinGroup(join) => {
                // v0 has one time for both.
                let ms =
                    if join.rebalance_timeout_ms >= 0 { join.rebalance_timeout_ms } else { join.session_timeout_ms };
                let patience = Duration::from_millis(u64::try_from(ms).unwrap_or(0)) + MORE;
                self.rebalance_patience.set(patience.max(ANSWER_PATIENCE));
                self.rebalance_patience.get()
            }
            RequestKind::SyncGroup(_) => self.rebalance_patience.get(),
            _ => ANSWER_PATIENCE,
        }
    }

    pub fn break_off(&self) {
        self.broken.set(true);
    }

    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }
}
