//! DescribeConfigs v1-4, AlterConfigs v0-2, IncrementalAlterConfigs v0-1, for topics; of a broker only what it was started with.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::create_topics_response::CreatableTopicConfigs;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, alter_configs_response,
    incremental_alter_configs_response,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::state::State;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
// `DescribeConfigsResponse.ConfigSource` and `ConfigType`
const DYNAMIC_TOPIC: i8 = 1;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const DOUBLE: i8 = 6;
const LIST: i8 = 7;

/// Name, type, default and the broker's name for it, as Kafka 4.x has them.
const DEFAULTS: &[(&str, i8, &str, &str)] = &[
    ("cleanup.policy", LIST, "delete", "log.cleanup.policy"),
    ("compression.gzip.level", INT, "-1", "compression.gzip.level"),
    ("compression.lz4.level", INT, "9", "compression.lz4.level"),
    ("compression.type", STRING, "producer", "compression.type"),
    ("compression.zstd.level", INT, "3", "compression.zstd.level"),
    ("delete.retention.ms", LONG, "86400000", "log.cleaner.delete.retention.ms"),
    ("file.delete.delay.ms", LONG, "60000", "log.segment.delete.delay.ms"),
    ("flush.messages", LONG, "9223372036854775807", "log.flush.interval.messages"),
    ("flush.ms", LONG, "9223372036854775807", "log.flush.interval.ms"),
    ("follower.replication.throttled.replicas", LIST, "", ""),
    ("index.interval.bytes", INT, "4096", "log.index.interval.bytes"),
    ("leader.replication.throttled.replicas", LIST, "", ""),
    ("local.retention.bytes", LONG, "-2", "log.local.retention.bytes"),
    ("local.retention.ms", LONG, "-2", "log.local.retention.ms"),
    ("max.compaction.lag.ms", LONG, "9223372036854775807", "log.cleaner.max.compaction.lag.ms"),
    ("max.message.bytes", INT, "1048588", "message.max.bytes"),
    ("message.timestamp.after.max.ms", LONG, "3600000", "log.message.timestamp.after.max.ms"),
    ("message.timestamp.before.max.ms", LONG, "9223372036854775807", "log.message.timestamp.before.max.ms"),
    ("message.timestamp.type", STRING, "CreateTime", "log.message.timestamp.type"),
    ("min.cleanable.dirty.ratio", DOUBLE, "0.5", "log.cleaner.min.cleanable.ratio"),
    ("min.compaction.lag.ms", LONG, "0", "log.cleaner.min.compaction.lag.ms"),
    ("min.insync.replicas", INT, "1", "min.insync.replicas"),
    ("preallocate", BOOLEAN, "false", "log.preallocate"),
    ("remote.storage.enable", BOOLEAN, "false", ""),
    ("retention.bytes", LONG, "-1", "log.retention.bytes"),
    ("retention.ms", LONG, "604800000", "log.retention.ms"),
    ("segment.bytes", INT, "1073741824", "log.segment.bytes"),
    ("segment.index.bytes", INT, "10485760", "log.index.size.max.bytes"),
    ("segment.jitter.ms", LONG, "0", "log.roll.jitter.ms"),
    ("segment.ms", LONG, "604800000", "log.roll.ms"),
    ("unclean.leader.election.enable", BOOLEAN, "false", "unclean.leader.election.enable"),
];

pub fn default_of(name: &str) -> &'static str {
    DEFAULTS.iter().find(|d| d.0 == name).map_or("", |d| d.2)
}

/// Why Kafka would not take this value; `None` if it would.
pub fn refuse(name: &str, value: &str) -> Option<String> {
    let Some(&(_, kind, ..)) = DEFAULTS.iter().find(|d| d.0 == name) else {
        return Some(format!("Unknown topic config name: {name}"));
    };
    let one_of = |allowed: &[&str]| value.split(',').all(|v| allowed.contains(&v.trim()));
    let fits = match (name, kind) {
        ("cleanup.policy", _) => one_of(&["delete", "compact"]),
        ("compression.type", _) => one_of(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        ("message.timestamp.type", _) => one_of(&["CreateTime", "LogAppendTime"]),
        ("min.insync.replicas", _) => value.parse::<i32>().is_ok_and(|n| n >= 1),
        ("max.message.bytes", _) => value.parse::<i32>().is_ok_and(|n| n >= 0),
        (_, INT) => value.parse::<i32>().is_ok(),
        (_, LONG) => value.parse::<i64>().is_ok(),
        (_, DOUBLE) => value.parse::<f64>().is_ok(),
        (_, BOOLEAN) => matches!(value, "true" | "false"),
        _ => true,
    };
    (!fits).then(|| format!("Invalid value {value} for configuration {name}"))
}

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// What CreateTopics v5+ shows of a new topic.
pub fn as_created(set: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let shown = |&(name, _, default, _): &(&'static str, i8, &'static str, &'static str)| {
        let own = set.get(name);
        CreatableTopicConfigs::default()
            .with_name(name.into())
            .with_value(Some(text(own.map_or(default, String::as_str))))
            .with_config_source(if own.is_some() { DYNAMIC_TOPIC } else { DEFAULT })
    };
    DEFAULTS.iter().map(shown).collect()
}

pub fn describe_configs(call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let state = call.shared.lock();
    let describe = |resource: &DescribeConfigsResource| {
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match shown(call, &state, resource, request.include_synonyms) {
            Ok(mut configs) => {
                // Null and empty both mean all (`ConfigHelper`).
                if let Some(wanted) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
                    configs.retain(|c| wanted.contains(&c.name));
                }
                if call.version < 3 {
                    configs.iter_mut().for_each(|c| c.config_type = 0);
                }
                answer.with_configs(configs)
            }
            Err(error) => answer.with_error_code(error.code()).with_error_message(Some(text(&error.to_string()))),
        }
    };
    DescribeConfigsResponse::default().with_results(request.resources.iter().map(describe).collect())
}

fn shown(
    call: &Call,
    state: &State,
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, E> {
    match resource.resource_type {
        TOPIC => {
            let topic = state.topics.get(resource.resource_name.as_str()).ok_or(E::UnknownTopicOrPartition)?;
            Ok(DEFAULTS.iter().map(|d| topic_config(d, topic.configs.get(d.0), synonyms)).collect())
        }
        BROKER if resource.resource_name.as_str() == state.nodes[call.node].id.to_string() => {
            let spec = &call.shared.spec;
            let auto_create = spec.auto_create.is_some().to_string();
            let own = [
                ("auto.create.topics.enable", BOOLEAN, auto_create),
                ("default.replication.factor", INT, state.default_replication(spec).to_string()),
                ("num.partitions", INT, spec.default_partitions.to_string()),
                ("offset.metadata.max.bytes", INT, super::offsets::MAX_METADATA.to_string()),
            ];
            let one = |(name, kind, value): (&'static str, i8, String)| {
                DescribeConfigsResourceResult::default()
                    .with_name(name.into())
                    .with_value(Some(text(&value)))
                    .with_read_only(true)
                    .with_config_source(STATIC_BROKER)
                    .with_config_type(kind)
            };
            let set = spec.broker_configs.iter().map(|(name, value)| (*name, STRING, value.clone()));
            Ok(own.into_iter().chain(set).map(one).collect())
        }
        _ => Err(E::InvalidRequest),
    }
}

fn topic_config(
    &(name, kind, default, broker_name): &(&'static str, i8, &'static str, &'static str),
    own: Option<&String>,
    with_synonyms: bool,
) -> DescribeConfigsResourceResult {
    let synonym = |name: &'static str, value: &str, source: i8| {
        DescribeConfigsSynonym::default().with_name(name.into()).with_value(Some(text(value))).with_source(source)
    };
    let mut synonyms = Vec::new();
    if with_synonyms {
        synonyms.extend(own.map(|value| synonym(name, value, DYNAMIC_TOPIC)));
        if !broker_name.is_empty() {
            synonyms.push(synonym(broker_name, default, DEFAULT));
        }
    }
    DescribeConfigsResourceResult::default()
        .with_name(name.into())
        .with_value(Some(text(own.map_or(default, String::as_str))))
        .with_config_source(if own.is_some() { DYNAMIC_TOPIC } else { DEFAULT })
        .with_config_type(kind)
        .with_synonyms(synonyms)
}

/// `ConfigAdminManager`'s operations
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change<'a> = (&'a str, i8, Option<&'a str>);

/// `replace`: what is not named goes back to its default (AlterConfigs).
fn alter(
    state: &mut State,
    kind: i8,
    topic: &str,
    changes: &[Change<'_>],
    replace: bool,
    validate_only: bool,
) -> Result<(), (E, String)> {
    if kind != TOPIC {
        return Err((E::InvalidRequest, "Only topics have configs that change here.".into()));
    }
    let found = state.topics.get_mut(topic).ok_or((E::UnknownTopicOrPartition, String::new()))?;
    let mut configs = if replace { BTreeMap::new() } else { found.configs.clone() };
    for &(name, operation, value) in changes {
        let before = configs.get(name).map_or_else(|| default_of(name), String::as_str);
        let mut items: Vec<&str> = before.split(',').filter(|v| !v.is_empty()).collect();
        let value = value.unwrap_or_default();
        let after = match operation {
            SET => value.to_owned(),
            DELETE => {
                configs.remove(name);
                continue;
            }
            APPEND => {
                let new: Vec<_> = value.split(',').filter(|v| !items.contains(v)).collect();
                items.extend(new);
                items.join(",")
            }
            SUBTRACT => {
                items.retain(|v| !value.split(',').any(|gone| gone == *v));
                items.join(",")
            }
            _ => return Err((E::InvalidRequest, format!("Unknown operation {operation}"))),
        };
        if let Some(why) = refuse(name, &after) {
            return Err((E::InvalidConfig, why));
        }
        configs.insert(name.to_owned(), after);
    }
    if !validate_only {
        found.configs = configs;
    }
    Ok(())
}

pub fn alter_configs(call: &Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut state = call.shared.lock();
    let mut response = AlterConfigsResponse::default();
    for resource in request.resources {
        let changes: Vec<Change> =
            resource.configs.iter().map(|c| (c.name.as_str(), SET, c.value.as_deref())).collect();
        let name = &resource.resource_name;
        let done = alter(&mut state, resource.resource_type, name, &changes, true, request.validate_only);
        let mut answer = alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(name.clone());
        if let Err((error, why)) = done {
            answer.error_code = error.code();
            answer.error_message = Some(StrBytes::from_string(why));
        }
        response.responses.push(answer);
    }
    response
}

pub fn incremental_alter_configs(
    call: &Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut state = call.shared.lock();
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in request.resources {
        let changes: Vec<Change> =
            resource.configs.iter().map(|c| (c.name.as_str(), c.config_operation, c.value.as_deref())).collect();
        let name = &resource.resource_name;
        let done = alter(&mut state, resource.resource_type, name, &changes, false, request.validate_only);
        let mut answer = incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(name.clone());
        if let Err((error, why)) = done {
            answer.error_code = error.code();
            answer.error_message = Some(StrBytes::from_string(why));
        }
        response.responses.push(answer);
    }
    response
}
