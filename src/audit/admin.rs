//! What a run needs besides producing and consuming: topics made and deleted, ends read, a whole log read back.
//! All through librdkafka, straight to whatever bootstrap is given.
#![expect(clippy::disallowed_methods, reason = "io: waits for an admin client")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::Message;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{positions, settings};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Admin {
    bootstrap: String,
    properties: Vec<(String, String)>,
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Admin {
    pub fn new(bootstrap: &str, properties: &[(String, String)]) -> Result<Self> {
        let client = settings(bootstrap, "kafka-cutover-admin", properties).create().context("an admin client")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { bootstrap: bootstrap.to_owned(), properties: properties.to_vec(), client, runtime })
    }

    /// How many partitions a topic has; `None` if there is no such topic.
    pub fn partitions(&self, topic: &str) -> Result<Option<usize>> {
        // All topics: asked for one by name, a broker may make it.
        let metadata = self
            .client
            .inner()
            .fetch_metadata(None, PATIENCE)
            .with_context(|| format!("no metadata from {}", self.bootstrap))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
        Ok(found.map(|t| t.partitions().len()).filter(|n| *n > 0))
    }

    /// Makes a topic with the cluster's default replication, and waits until its leaders are known.
    pub fn create(&self, topic: &str, partitions: i32) -> Result<()> {
        self.create_with(topic, partitions, &[])
    }

    /// The same, with some of its configs.
    pub fn create_with(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        let new = configs.iter().fold(new, |new, (name, value)| new.set(name, value));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let results = self.runtime.block_on(self.client.create_topics([&new], &options))?;
        for result in results {
            result.map_err(|(name, code)| anyhow!("creating {name} at {}: {code}", self.bootstrap))?;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.partitions(topic)? != usize::try_from(partitions).ok() {
            if Instant::now() > deadline {
                bail!("{topic} was created at {} and is not to be seen", self.bootstrap);
            }
        }
        Ok(())
    }

    /// Moves a partition's log start up to an offset.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<()> {
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(topic, partition, Offset::Offset(before))?;
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let done = self.runtime.block_on(self.client.delete_records(&all, &options))?;
        for element in done.elements() {
            element.error().with_context(|| format!("deleting records of {topic} at {}", self.bootstrap))?;
        }
        Ok(())
    }

    /// Deletes topics that may be gone already.
    pub fn delete(&self, topics: &[&str]) -> Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        for result in self.runtime.block_on(self.client.delete_topics(topics, &options))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {}
                Err((name, code)) => bail!("deleting {name} at {}: {code}", self.bootstrap),
            }
        }
        Ok(())
    }

    /// Forgets a group that may be gone already.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        for result in self.runtime.block_on(self.client.delete_groups(&[group], &options))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
                Err((name, code)) => bail!("deleting group {name} at {}: {code}", self.bootstrap),
            }
        }
        Ok(())
    }

    /// First and next offset of every partition.
    pub fn bounds(&self, topic: &str) -> Result<Vec<(i64, i64)>> {
        let partitions = self.partitions(topic)?.unwrap_or(0);
        (0..partitions as i32)
            .map(|p| Ok(self.client.inner().fetch_watermarks(topic, p, PATIENCE)?))
            .collect::<Result<_>>()
            .with_context(|| format!("the ends of {topic} at {}", self.bootstrap))
    }

    /// How many offsets a topic's partitions span; 0 if there is no such topic.
    pub fn records(&self, topic: &str) -> Result<u64> {
        Ok(self.bounds(topic)?.iter().map(|(low, high)| high.saturating_sub(*low).max(0) as u64).sum())
    }

    /// Reads a topic from start to end without a group: partition, offset, value.
    pub fn read(&self, topic: &str, mut each: impl FnMut(i32, i64, &[u8])) -> Result<()> {
        let bounds = self.bounds(topic)?;
        let mut left: Vec<bool> = bounds.iter().map(|(low, high)| low < high).collect();
        if !left.contains(&true) {
            return Ok(());
        }
        let mut config = settings(&self.bootstrap, "kafka-cutover-reader", &self.properties);
        config.set("group.id", "kafka-cutover-reader").set("enable.auto.commit", "false");
        // The end of a partition may be a marker, which is never delivered.
        config.set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create()?;
        let starts: Vec<i64> = bounds.iter().map(|(low, _)| *low).collect();
        consumer.assign(&positions(topic, &starts)?)?;
        let mut deadline = Instant::now() + PATIENCE;
        while left.contains(&true) {
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    deadline = Instant::now() + PATIENCE;
                    let (partition, offset) = (message.partition(), message.offset());
                    each(partition, offset, message.payload().unwrap_or_default());
                    let end = bounds.get(partition as usize).map_or(0, |b| b.1);
                    if let Some(left) = left.get_mut(partition as usize) {
                        *left &= offset + 1 < end;
                    }
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                    if let Some(left) = left.get_mut(partition as usize) {
                        *left = false;
                    }
                }
                Some(Err(error)) => {
                    return Err(error).with_context(|| format!("reading {topic} at {}", self.bootstrap));
                }
                None if Instant::now() > deadline => bail!("{topic} at {} cannot be read to its end", self.bootstrap),
                None => {}
            }
        }
        Ok(())
    }

    /// Has a group begin at the present end of a topic.
    pub fn start_at_end(&self, topic: &str, group: &str) -> Result<()> {
        let ends: Vec<i64> = self.bounds(topic)?.iter().map(|(_, high)| *high).collect();
        let mut config = settings(&self.bootstrap, "kafka-cutover-admin", &self.properties);
        config.set("group.id", group).set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create()?;
        consumer.commit(&positions(topic, &ends)?, CommitMode::Sync)?;
        Ok(())
    }
}
