//! Metadata of topics by name: what a look at the whole cluster does not tell: replicas, and why a topic is not shown.

use std::collections::HashMap;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, RequestKind, ResponseKind};

use super::{another_answer, text};
use crate::error::code;
use crate::ids::TopicName;
use crate::upstream::admin::{Admin, AdminError};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicDescribed {
    pub partitions: usize,
    /// The smallest of its partitions; 0 without a partition.
    pub replication_factor: usize,
}

/// As one broker knows them; no topic is made by asking. An error code for each topic that it does not show: unknown, or no right to
/// see it.
pub async fn describe_topics(
    admin: &Admin,
    address: &str,
    names: &[TopicName],
) -> Result<HashMap<TopicName, Result<TopicDescribed, i16>>, AdminError> {
    let topics = names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(text(name).into())));
    let request = MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(false);
    let request = RequestKind::Metadata(request);
    let ResponseKind::Metadata(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let mut found = HashMap::with_capacity(names.len());
    for topic in answer.topics {
        let Some(name) = topic.name else { continue };
        let described = match topic.error_code {
            // Partitions may lack a leader: the topic is there all the same.
            code::NONE | code::LEADER_NOT_AVAILABLE => Ok(TopicDescribed {
                partitions: topic.partitions.len(),
                replication_factor: topic.partitions.iter().map(|p| p.replica_nodes.len()).min().unwrap_or(0),
            }),
            failed => Err(failed),
        };
        found.insert(TopicName::from(name.as_str()), described);
    }
    Ok(found)
}
