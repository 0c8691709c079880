//! The upstream connections of one client connection: one per (side, broker, lane), opened at first need.
//! They are the client's own, so that order, back-pressure and identity stay per client.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::connection::{Connection, Limits, Lost, Outgoing};
use super::topology::Topology;
use crate::ids::{NodeId, Side};

/// A broker serves one request per connection at a time, so what may wait long has a connection of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// Produce, in order.
    Produce,
    /// One long poll at a time.
    Fetch,
    /// Reads of what lies there already.
    FetchAhead,
    /// Short reads: probes of a closed segment's tail.
    Probe,
    /// JoinGroup and SyncGroup.
    Rebalance,
    /// Everything that is answered at once.
    Ordinary,
}

/// Which broker of a side.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Node {
    Any,
    Id(NodeId),
}

pub struct Pool {
    topology: Arc<ArcSwap<Topology>>,
    connections: HashMap<(Side, NodeId, Lane), Connection>,
    limits: Limits,
    /// Which broker `Any` tries next: a dead one is not tried for ever.
    turn: usize,
    /// Those that did not answer in time what any could have.
    silent: HashSet<(Side, NodeId)>,
}

impl Pool {
    /// `turn`: another for each client, so that not all ask the same broker.
    pub fn new(topology: Arc<ArcSwap<Topology>>, limits: Limits, turn: usize) -> Self {
        Self { topology, connections: HashMap::new(), limits, turn, silent: HashSet::new() }
    }

    /// Sends the request, or completes it at once as not sent.
    pub fn send(&mut self, side: Side, node: Node, lane: Lane, request: Outgoing) {
        let node = match node {
            Node::Id(id) => Some(id),
            Node::Any => self.any(side, lane),
        };
        let Some(node) = node else {
            return request.completion.complete(Err(Lost::NotSent(format!("no broker of the {side} is known"))));
        };
        let key = (side, node, lane);
        let request = match self.connections.get(&key) {
            Some(open) => match open.send(request) {
                Ok(()) => return,
                Err(back) => *back,
            },
            None => request,
        };
        let topology = self.topology.load();
        let Some(broker) = topology.side(side).and_then(|c| c.brokers.get(&node)) else {
            let text = format!("the {side} has no broker {node}");
            return request.completion.complete(Err(Lost::NotSent(text)));
        };
        let connection = Connection::open(broker.address(), self.limits);
        if let Err(back) = connection.send(request) {
            return back.completion.complete(Err(Lost::NotSent("the connection ended at once".to_owned())));
        }
        self.connections.retain(|_, c| !c.is_closed());
        self.connections.insert(key, connection);
    }

    /// `Any` goes to this one only if there is no other.
    pub fn is_silent(&mut self, side: Side, node: NodeId) {
        self.silent.insert((side, node));
    }

    /// A broker that is connected already, else the next one in turn.
    pub fn any(&mut self, side: Side, lane: Lane) -> Option<NodeId> {
        let topology = self.topology.load();
        let brokers = &topology.side(side)?.brokers;
        if brokers.keys().all(|node| self.silent.contains(&(side, *node))) {
            self.silent.retain(|(s, _)| *s != side);
        }
        let silent = &self.silent;
        let may = |node: &NodeId| brokers.contains_key(node) && !silent.contains(&(side, *node));
        let open =
            self.connections.iter().find(|((s, node, l), c)| *s == side && *l == lane && !c.is_closed() && may(node));
        if let Some(((_, node, _), _)) = open {
            return Some(*node);
        }
        let mut nodes: Vec<NodeId> = brokers.keys().copied().filter(|node| may(node)).collect();
        nodes.sort_unstable();
        self.turn = self.turn.wrapping_add(1);
        nodes.get(self.turn % nodes.len().max(1)).copied()
    }
}
