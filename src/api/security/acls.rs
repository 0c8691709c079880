//! DescribeAcls (29) and CreateAcls (30), v1 to v3: read from the source, created on both. The topics that are the
//! proxy's own have none that clients see or make. If only the target has no authorizer, the source alone keeps them.

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse, RequestKind, ResponseKind};

use super::both::{Entries, Refusal};
use crate::error::code;
use crate::ids::Side;
use crate::store::identity::is_marker_topic;

/// Kafka's `ResourceType`.
pub(super) const ANY: i8 = 1;
pub(super) const TOPIC: i8 = 2;
pub(super) const OURS: &str = "the name is kafka-cutover's own";

/// An ACL of one of our own topics, be it for the name or for what begins with it.
pub(super) fn is_hidden(resource_type: i8, resource_name: &str) -> bool {
    resource_type == TOPIC && is_marker_topic(resource_name)
}

/// Of an answer to DescribeAcls.
pub fn hide(answer: &mut ResponseKind) {
    if let ResponseKind::DescribeAcls(answer) = answer {
        answer.resources.retain(|r| !is_hidden(r.resource_type, &r.resource_name));
    }
}

pub struct CreateAcls(pub CreateAclsRequest);

impl Entries for CreateAcls {
    fn count(&self) -> usize {
        self.0.creations.len()
    }

    fn refusal(&self, entry: usize) -> Option<Refusal> {
        let ours = |c: &AclCreation| is_hidden(c.resource_type, &c.resource_name);
        self.0.creations.get(entry).filter(|c| ours(c)).map(|_| Refusal::new(code::POLICY_VIOLATION, OURS))
    }

    fn request(&mut self, _: Side, entries: &[usize]) -> Option<RequestKind> {
        let creations = entries.iter().filter_map(|i| self.0.creations.get(*i).cloned()).collect();
        Some(RequestKind::CreateAcls(self.0.clone().with_creations(creations)))
    }

    fn said(&mut self, _: Side, _: &[usize], answer: ResponseKind) -> (i32, Vec<Result<(), Refusal>>) {
        let ResponseKind::CreateAcls(answer) = answer else { return (0, vec![]) };
        // In the order of the request.
        let said = answer.results.into_iter().map(|r| Refusal::said(r.error_code, r.error_message));
        (answer.throttle_time_ms, said.collect())
    }

    fn answer(&mut self, outcomes: Vec<Result<(), Refusal>>, throttle_time_ms: i32) -> ResponseKind {
        let result = |outcome: Result<(), Refusal>| match outcome {
            Ok(()) => AclCreationResult::default().with_error_message(None),
            Err(r) => AclCreationResult::default().with_error_code(r.error).with_error_message(r.message),
        };
        let results = outcomes.into_iter().map(result).collect();
        let answer = CreateAclsResponse::default().with_throttle_time_ms(throttle_time_ms).with_results(results);
        ResponseKind::CreateAcls(answer)
    }
}
