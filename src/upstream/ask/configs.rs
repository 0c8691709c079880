//! DescribeConfigs and IncrementalAlterConfigs: what topics and brokers are set to.

use std::collections::HashMap;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest, RequestKind, ResponseKind};

use super::{another_answer, any_broker, text};
use crate::error::code;
use crate::ids::TopicName;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::topology::ClusterView;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// `ConfigSource.DYNAMIC_TOPIC_CONFIG`: set on the topic itself.
const SET_ON_THE_TOPIC: i8 = 1;
/// Topics in one request: an answer has some 30 configs for each.
const AT_ONCE: usize = 250;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    pub name: String,
    /// `None`: not set, or not shown.
    pub value: Option<String>,
    /// Not set on the topic: comes from the broker.
    pub is_default: bool,
    pub read_only: bool,
    pub is_sensitive: bool,
}

/// All configs of each topic. A topic that is not answered (gone, no right to see it) has its error code.
pub async fn describe_topic_configs(
    admin: &Admin,
    view: &ClusterView,
    names: &[TopicName],
) -> Result<HashMap<TopicName, Result<Vec<TopicConfig>, i16>>, AdminError> {
    let address = any_broker(admin, view)?;
    let mut found = HashMap::with_capacity(names.len());
    for some in names.chunks(AT_ONCE) {
        let resources = some.iter().map(|name| resource(TOPIC, name, None));
        let request = DescribeConfigsRequest::default().with_resources(resources.collect());
        let request = RequestKind::DescribeConfigs(request);
        let ResponseKind::DescribeConfigs(answer) = admin.ask(&address, &request).await? else {
            return Err(another_answer(admin, &request));
        };
        for result in answer.results {
            let configs = match result.error_code {
                code::NONE => Ok(result.configs.into_iter().map(topic_config).collect()),
                failed => Err(failed),
            };
            found.insert(TopicName::from(result.resource_name.as_str()), configs);
        }
    }
    Ok(found)
}

fn topic_config(config: DescribeConfigsResourceResult) -> TopicConfig {
    TopicConfig {
        name: config.name.to_string(),
        value: config.value.map(|v| v.to_string()),
        is_default: config.config_source != SET_ON_THE_TOPIC,
        read_only: config.read_only,
        is_sensitive: config.is_sensitive,
    }
}

/// One config of the cluster's brokers, as one of them has it. `None`: it does not say.
pub async fn describe_broker_config(
    admin: &Admin,
    view: &ClusterView,
    key: &str,
) -> Result<Option<String>, AdminError> {
    let Some((node, broker)) = view.brokers.iter().min_by_key(|(node, _)| **node) else { return Ok(None) };
    let resources = vec![resource(BROKER, &node.to_string(), Some(key))];
    let request = RequestKind::DescribeConfigs(DescribeConfigsRequest::default().with_resources(resources));
    let ResponseKind::DescribeConfigs(answer) = admin.ask(&broker.address(), &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let mut configs = answer.results.into_iter().filter(|r| r.error_code == code::NONE).flat_map(|r| r.configs);
    Ok(configs.find(|c| c.name.as_str() == key).and_then(|c| c.value).map(|v| v.to_string()))
}

fn resource(kind: i8, name: &str, key: Option<&str>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(key.map(|k| vec![text(k)]))
}

/// What a topic is to be set to: names with values; `None`: what it would be without. By the controller, those alone (KIP-339).
pub async fn alter_topic_configs(
    admin: &Admin,
    view: &ClusterView,
    topic: &TopicName,
    configs: &[(String, Option<String>)],
) -> Result<Result<(), (i16, String)>, AdminError> {
    let configs = configs.iter().map(|(name, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.as_deref().map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(configs.collect());
    let request =
        RequestKind::IncrementalAlterConfigs(IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    let ResponseKind::IncrementalAlterConfigs(answer) = admin.ask(&any_broker(admin, view)?, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let failed = answer.responses.into_iter().find(|r| r.error_code != code::NONE);
    Ok(match failed {
        Some(r) => Err((r.error_code, r.error_message.map_or_else(String::new, |m| m.to_string()))),
        None => Ok(()),
    })
}
