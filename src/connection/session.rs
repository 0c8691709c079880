//! What belongs to one client connection, on its one thread.
#![expect(clippy::disallowed_methods, reason = "io: reads the clock")]

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::api::Context;
use crate::clock;
use crate::producers::Order;
use crate::routing::Shared;
use crate::upstream::Pool;
use crate::upstream::connection::Limits;
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
    /// Set when an outcome was lost: the client has to find out by a closed connection, as a broker would have it.
    broken: Cell<bool>,
}

impl Session {
    pub fn new(shared: Arc<Shared>, nodes: Arc<Nodes>, peer: SocketAddr) -> Rc<Self> {
        let pool = RefCell::new(Pool::new(shared.topology.clone(), Limits::of(&shared.config)));
        let client = shared.next_client();
        Rc::new(Self {
            shared,
            nodes,
            peer,
            client,
            order: RefCell::default(),
            pool,
            fetch: Default::default(),
            broken: Cell::new(false),
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

    pub fn break_off(&self) {
        self.broken.set(true);
    }

    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }
}
