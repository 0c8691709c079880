//! One golden: what a client asks, where the migration stands, what brokers answer. The same description serves every
//! version of an API.

use std::ops::RangeInclusive;

use kafka_cutover::api::TABLE;
use kafka_cutover::ids::{NodeId, Side};
use kafka_protocol::messages::ApiKey;
use serde_json::Value;

use super::stands::{BEFORE, Stand, World};

#[derive(Clone)]
pub(super) struct Case {
    pub(super) key: ApiKey,
    pub(super) what: &'static str,
    pub(super) stand: Stand,
    pub(super) versions: RangeInclusive<i16>,
    pub(super) request: Value,
    /// `Value::Null`: the answer is lost.
    pub(super) broker: fn(&Asked) -> Value,
    /// What happens while the API's machine waits; without it, it waits in vain.
    pub(super) meanwhile: Option<fn(&World)>,
}

/// A request of ours, as the broker sees it that has to answer it.
pub(super) struct Asked {
    pub(super) key: ApiKey,
    pub(super) side: Side,
    /// `None`: any, the controller, a coordinator.
    pub(super) node: Option<NodeId>,
    /// The group or transactional id whose coordinator it is.
    pub(super) of: String,
    /// How many requests went before it.
    pub(super) number: usize,
}

impl Asked {
    pub(super) fn is_source(&self) -> bool {
        self.side == Side::Source
    }
}

/// All versions of the API, before the migration, nobody to be asked: the methods say otherwise.
pub(super) fn case(key: ApiKey, what: &'static str, request: Value) -> Case {
    let entry = TABLE.iter().find(|e| e.key == key).expect("an API of the table");
    Case {
        key,
        what,
        stand: BEFORE,
        versions: entry.versions.min..=entry.versions.max,
        request,
        broker: |_| panic!("no broker has anything to do with this"),
        meanwhile: None,
    }
}

impl Case {
    pub(super) fn when(self, stand: Stand) -> Self {
        Self { stand, ..self }
    }

    pub(super) fn from(self, version: i16) -> Self {
        let versions = version..=*self.versions.end();
        Self { versions, ..self }
    }

    pub(super) fn to(self, version: i16) -> Self {
        let versions = *self.versions.start()..=version;
        Self { versions, ..self }
    }

    pub(super) fn answered(self, broker: fn(&Asked) -> Value) -> Self {
        Self { broker, ..self }
    }

    pub(super) fn meanwhile(self, change: fn(&World)) -> Self {
        Self { meanwhile: Some(change), ..self }
    }
}
