//! Everything the nodes of a cluster share: topics, leaders, producer ids, groups. One lock, never held across an `await`.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::error::ResponseError as E;
use uuid::Uuid;

use super::ClusterSpec;
use super::configs;
use super::group::Group;
use super::log::{Log, Rules};
use super::transactions::TransactionalId;

pub struct Node {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub alive: bool,
}

pub struct Partition {
    pub log: Log,
    /// Index of the leading node; `None` while no replica is alive.
    pub leader: Option<usize>,
    pub epoch: i32,
    pub replicas: Vec<usize>,
    pub in_sync: Vec<usize>,
}

pub struct Topic {
    pub id: Uuid,
    /// Only what was set; `configs::DEFAULTS` has the rest.
    pub configs: BTreeMap<String, String>,
    pub partitions: Vec<Partition>,
}

impl Topic {
    pub fn config(&self, name: &str) -> &str {
        self.configs.get(name).map_or_else(|| configs::default_of(name), String::as_str)
    }
    pub fn number(&self, name: &str) -> i64 {
        self.config(name).parse().unwrap_or(-1)
    }
    pub fn rules(&self, strict_first_sequence: bool) -> Rules {
        Rules {
            max_message_bytes: usize::try_from(self.number("max.message.bytes")).unwrap_or(usize::MAX),
            log_append_time: self.config("message.timestamp.type") == "LogAppendTime",
            timestamp_after_max_ms: self.number("message.timestamp.after.max.ms"),
            strict_first_sequence,
        }
    }
}

#[derive(Default)]
pub struct State {
    pub nodes: Vec<Node>,
    pub topics: BTreeMap<String, Topic>,
    pub topic_names: HashMap<Uuid, String>,
    pub groups: BTreeMap<String, Group>,
    pub transactional_ids: BTreeMap<String, TransactionalId>,
    next_producer_id: i64,
    /// The next topic's first leader, so that topics of one partition spread too.
    next_leader: usize,
}

impl State {
    pub fn allocate_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }

    /// The topic that a request means: by id if it gives one.
    pub fn name_of(&self, name: &str, id: Uuid) -> Option<String> {
        if id.is_nil() { Some(name.to_owned()) } else { self.topic_names.get(&id).cloned() }
    }

    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: usize,
        replication: usize,
        configs: BTreeMap<String, String>,
    ) -> Result<Uuid, E> {
        if self.topics.contains_key(name) {
            return Err(E::TopicAlreadyExists);
        }
        let first = self.next_leader;
        self.next_leader += 1;
        let replicas_of = |i: usize| (0..replication).map(|r| (first + i + r) % self.nodes.len()).collect();
        let partitions = (0..partitions).map(|i| self.new_partition(replicas_of(i))).collect();
        let id = Uuid::new_v4();
        self.topic_names.insert(id, name.to_owned());
        self.topics.insert(name.to_owned(), Topic { id, configs, partitions });
        Ok(id)
    }

    pub fn new_partition(&self, replicas: Vec<usize>) -> Partition {
        let in_sync: Vec<usize> =
            replicas.iter().copied().filter(|&r| self.nodes.get(r).is_some_and(|n| n.alive)).collect();
        Partition { log: Log::default(), leader: in_sync.first().copied(), epoch: 0, replicas, in_sync }
    }

    pub fn delete_topic(&mut self, name: &str) -> Option<Topic> {
        let mut topic = self.topics.remove(name)?;
        self.topic_names.remove(&topic.id);
        for partition in &mut topic.partitions {
            partition.log.wake();
        }
        Some(topic)
    }

    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    pub fn partition_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    /// `Partition.getLocalLog`: the epoch is compared before the leadership, and only a replica knows an epoch.
    pub fn led(&mut self, node: usize, topic: &str, partition: i32, epoch: i32) -> Result<&mut Partition, E> {
        let found = self.partition_mut(topic, partition).ok_or(E::UnknownTopicOrPartition)?;
        if found.replicas.contains(&node) && epoch >= 0 {
            if epoch < found.epoch {
                return Err(E::FencedLeaderEpoch);
            }
            if epoch > found.epoch {
                return Err(E::UnknownLeaderEpoch);
            }
        }
        if found.leader == Some(node) { Ok(found) } else { Err(E::NotLeaderOrFollower) }
    }

    pub fn move_leader(&mut self, topic: &str, partition: i32, node: usize) {
        let Some(found) = self.partition_mut(topic, partition) else { return };
        if !found.replicas.contains(&node) {
            found.replicas.push(node);
        }
        if !found.in_sync.contains(&node) {
            found.in_sync.push(node);
        }
        lead(found, Some(node));
    }

    pub fn node_stopped(&mut self, node: usize) {
        self.nodes[node].alive = false;
        for partition in self.topics.values_mut().flat_map(|t| &mut t.partitions) {
            if partition.in_sync.len() > 1 {
                partition.in_sync.retain(|&r| r != node);
            }
            if partition.leader == Some(node) {
                let heir = partition.in_sync.iter().copied().find(|&r| r != node);
                lead(partition, heir);
            }
        }
    }

    pub fn node_started(&mut self, node: usize) {
        self.nodes[node].alive = true;
        for partition in self.topics.values_mut().flat_map(|t| &mut t.partitions) {
            if !partition.replicas.contains(&node) {
                continue;
            }
            if partition.leader.is_none() && partition.in_sync.contains(&node) {
                lead(partition, Some(node));
            }
            if partition.leader.is_some() && !partition.in_sync.contains(&node) {
                partition.in_sync.push(node);
            }
        }
    }

    /// Groups and transactional ids are spread by hash; those of a node that is down go to the next one.
    pub fn coordinator(&self, key: &str) -> Option<usize> {
        let nodes = self.nodes.len();
        let hash = key.bytes().fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(b)));
        (0..nodes).map(|i| (hash + i) % nodes).find(|&i| self.nodes[i].alive)
    }

    /// The replicas of a topic that is made without a number of them.
    pub fn default_replication(&self, spec: &ClusterSpec) -> usize {
        spec.default_replication.min(self.nodes.len()).max(1)
    }
}

/// A partition without a leader counts an epoch too, as the controller does.
fn lead(partition: &mut Partition, leader: Option<usize>) {
    partition.leader = leader;
    partition.epoch += 1;
    partition.log.begin_epoch(partition.epoch);
}

/// `Topic.validate` of Kafka.
pub fn is_legal_topic_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !name.is_empty() && name != "." && name != ".." && name.len() <= 249 && name.bytes().all(legal)
}
