//! DescribeClientQuotas (48) and AlterClientQuotas (49), v0 to v1: read from the source, altered on both. Brokers answer
//! for each entity, in an order of their own.

use std::collections::HashMap;

use kafka_protocol::messages::alter_client_quotas_request::EntryData as Entry;
use kafka_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use super::both::{Entries, Refusal};
use crate::ids::Side;

pub struct AlterClientQuotas(pub AlterClientQuotasRequest);

/// A user, client id or address, or several of them together; without a name the default.
type Entity = Vec<(StrBytes, Option<StrBytes>)>;

fn entity(parts: impl Iterator<Item = (StrBytes, Option<StrBytes>)>) -> Entity {
    let mut entity: Entity = parts.collect();
    entity.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    entity
}

fn asked(entry: &Entry) -> Entity {
    entity(entry.entity.iter().map(|e| (e.entity_type.clone(), e.entity_name.clone())))
}

fn answered(entry: &EntryData) -> Entity {
    entity(entry.entity.iter().map(|e| (e.entity_type.clone(), e.entity_name.clone())))
}

impl Entries for AlterClientQuotas {
    fn count(&self) -> usize {
        self.0.entries.len()
    }

    fn refusal(&self, _: usize) -> Option<Refusal> {
        None
    }

    fn request(&mut self, _: Side, entries: &[usize]) -> Option<RequestKind> {
        let entries = entries.iter().filter_map(|i| self.0.entries.get(*i).cloned()).collect();
        let validate_only = self.0.validate_only;
        let request = AlterClientQuotasRequest::default().with_entries(entries).with_validate_only(validate_only);
        Some(RequestKind::AlterClientQuotas(request))
    }

    fn said(&mut self, _: Side, entries: &[usize], answer: ResponseKind) -> (i32, Vec<Result<(), Refusal>>) {
        let ResponseKind::AlterClientQuotas(answer) = answer else { return (0, vec![]) };
        let said: HashMap<Entity, Result<(), Refusal>> =
            answer.entries.into_iter().map(|e| (answered(&e), Refusal::said(e.error_code, e.error_message))).collect();
        let of = |i: &usize| self.0.entries.get(*i).and_then(|e| said.get(&asked(e)).cloned());
        let said = entries.iter().map(|i| of(i).unwrap_or_else(|| Err(Refusal::unanswered())));
        (answer.throttle_time_ms, said.collect())
    }

    fn validates_only(&self) -> bool {
        self.0.validate_only
    }

    fn answer(&mut self, outcomes: Vec<Result<(), Refusal>>, throttle_time_ms: i32) -> ResponseKind {
        let entries = self.0.entries.iter().zip(outcomes).map(|(entry, outcome)| {
            let part = |(entity_type, entity_name)| {
                EntityData::default().with_entity_type(entity_type).with_entity_name(entity_name)
            };
            let named = entry.entity.iter().map(|e| part((e.entity_type.clone(), e.entity_name.clone())));
            let refusal = outcome.err();
            EntryData::default()
                .with_error_code(refusal.as_ref().map_or(0, |r| r.error))
                .with_error_message(refusal.and_then(|r| r.message))
                .with_entity(named.collect())
        });
        let entries = entries.collect();
        let answer = AlterClientQuotasResponse::default().with_throttle_time_ms(throttle_time_ms).with_entries(entries);
        ResponseKind::AlterClientQuotas(answer)
    }
}
