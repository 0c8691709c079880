//! What the two clusters look like now: brokers, topics, leaders. An immutable snapshot; `discovery` replaces it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use crate::ids::{NodeId, Side, TopicName};

/// Both clusters. A side that was never reached is `None`.
#[derive(Clone, Default, Debug)]
pub struct Topology {
    pub sides: [Option<Arc<ClusterView>>; 2],
}

/// One cluster, as its own Metadata tells it.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    pub cluster_id: String,
    /// The address of the broker that told all this.
    pub told_by: String,
    pub controller: NodeId,
    pub brokers: HashMap<NodeId, Broker>,
    pub topics: HashMap<TopicName, Arc<TopicView>>,
    pub names: HashMap<Uuid, TopicName>,
    /// Ids of topics that clients do not see.
    pub hidden: HashSet<Uuid>,
    /// Grows by one with every refresh of this side.
    pub generation: u64,
    /// When the look at it began: what came to be before then is in it.
    pub began: Option<Instant>,
    /// False while the last refresh failed: what is here is old.
    pub reachable: bool,
    /// Its brokers create topics that clients ask for.
    pub creates_topics: bool,
    /// The longest metadata of a commit that its brokers take, if they say so.
    pub commit_metadata: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicView {
    pub id: Uuid,
    pub internal: bool,
    /// Ordered by partition index, without gaps.
    pub partitions: Vec<PartitionView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// -1: no leader now.
    pub leader: NodeId,
    /// The real epoch, sent along upstream, never shown downstream.
    pub epoch: i32,
}

impl Topology {
    pub fn side(&self, side: Side) -> Option<&Arc<ClusterView>> {
        self.sides[side.index()].as_ref()
    }

    pub fn topic(&self, side: Side, name: &str) -> Option<&Arc<TopicView>> {
        self.side(side)?.topics.get(name)
    }

    /// The leader of a partition, if the side has one now.
    pub fn leader(&self, side: Side, topic: &str, partition: i32) -> Option<PartitionView> {
        let view = self.topic(side, topic)?;
        let partition = view.partitions.get(usize::try_from(partition).ok()?)?;
        (partition.leader >= 0).then_some(*partition)
    }

    /// What another side calls the topic of this id.
    pub fn same_topic(&self, of: Side, id: Uuid, on: Side) -> Option<Uuid> {
        if of == on {
            return Some(id);
        }
        let name = self.side(of)?.names.get(&id)?;
        Some(self.topic(on, name)?.id).filter(|id| !id.is_nil())
    }

    pub fn generation(&self, side: Side) -> u64 {
        self.side(side).map_or(0, |c| c.generation)
    }

    pub fn reachable(&self, side: Side) -> bool {
        self.side(side).is_some_and(|c| c.reachable)
    }
}

impl Broker {
    /// `host:port`, IPv6 in brackets.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl ClusterView {
    /// Takes from an earlier look what is newer there: a broker that lags behind its cluster, or is cut off from its
    /// controllers, still names leaders of the past. While a topic lives, a leader epoch only grows, and so does the
    /// number of its partitions.
    pub fn keep_newer(&mut self, earlier: &ClusterView) {
        for (name, view) in &mut self.topics {
            let Some(before) = earlier.topics.get(name).filter(|t| t.id == view.id && !t.id.is_nil()) else { continue };
            let newer = |(now, then): (&PartitionView, &PartitionView)| then.epoch > now.epoch;
            let known = view.partitions.len();
            if before.partitions.len() > known || view.partitions.iter().zip(&before.partitions).any(newer) {
                let view = Arc::make_mut(view);
                for (now, then) in view.partitions.iter_mut().zip(&before.partitions) {
                    if then.epoch > now.epoch {
                        *now = *then;
                    }
                }
                view.partitions.extend(before.partitions.iter().skip(known).copied());
            }
        }
    }

    pub fn add_topic(&mut self, name: TopicName, view: Arc<TopicView>) {
        if !view.id.is_nil() {
            self.names.insert(view.id, name.clone());
        }
        self.topics.insert(name, view);
    }

    pub fn broker_list(&self) -> Vec<Broker> {
        let mut list: Vec<(NodeId, Broker)> = self.brokers.iter().map(|(id, b)| (*id, b.clone())).collect();
        list.sort_by_key(|(id, _)| *id);
        list.into_iter().map(|(_, b)| b).collect()
    }
}
