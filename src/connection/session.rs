//! What belongs to one client connection, on its one thread.
#![expect(clippy::disallowed_methods, reason = "io: reads the clock")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::RequestKind;
use tokio::time::Instant;

use super::order::Order as GroupOrder;
use crate::api::Context;
use crate::clock;
use crate::ids::{NodeId, Side};
use crate::producers::Order;
use crate::routing::Shared;
use crate::upstream::Pool;
use crate::upstream::connection::{ANSWER_PATIENCE, Limits};
use crate::virtual_cluster::Nodes;

/// How long a broker may take for what it only looks up.
const READ_PATIENCE: Duration = Duration::from_secs(10);

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
    /// Brokers that read no more produce of this client until then: it is over its quota (KIP-219).
    throttled: RefCell<HashMap<(Side, NodeId), Instant>>,
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
        let (order, group_order, throttled) = (RefCell::default(), Rc::default(), RefCell::default());
        let broken = Cell::new(false);
        Rc::new(Self {
            shared,
            nodes,
            peer,
            client,
            order,
            pool,
            fetch,
            group_order,
            rebalance_patience,
            throttled,
            broken,
        })
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
            // One broker of many that must not be waited for longer than the client waits for all (30 s in Java).
            RequestKind::ListGroups(_)
            | RequestKind::ListTransactions(_)
            | RequestKind::DescribeTransactions(_)
            | RequestKind::DescribeProducers(_)
            | RequestKind::DescribeLogDirs(_)
            | RequestKind::DescribeConfigs(_)
            | RequestKind::DescribeAcls(_)
            | RequestKind::DescribeClientQuotas(_)
            | RequestKind::DescribeUserScramCredentials(_) => READ_PATIENCE,
            _ => ANSWER_PATIENCE,
        }
    }

    /// A broker has answered a produce request with this `throttle_time_ms`.
    pub fn throttle(&self, side: Side, node: NodeId, ms: i32) {
        if let Ok(ms @ 1..) = u64::try_from(ms) {
            self.throttled.borrow_mut().insert((side, node), Instant::now() + Duration::from_millis(ms));
        }
    }

    /// Its connection is gone, and a new one is read.
    pub fn no_longer_throttled(&self, side: Side, node: NodeId) {
        self.throttled.borrow_mut().remove(&(side, node));
    }

    /// Until when these brokers read no produce, if any of them does not now.
    pub fn throttled_until(&self, brokers: impl Iterator<Item = (Side, NodeId)>) -> Option<Instant> {
        let mut throttled = self.throttled.borrow_mut();
        if throttled.is_empty() {
            return None;
        }
        let now = Instant::now();
        throttled.retain(|_, until| *until > now);
        brokers.filter_map(|broker| throttled.get(&broker)).max().copied()
    }

    pub fn break_off(&self) {
        self.broken.set(true);
    }

    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }
}
