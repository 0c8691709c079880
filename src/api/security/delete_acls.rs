//! DeleteAcls (31), v1 to v3: on both, the source first; the answer lists what the source had. A filter without a name
//! could take the ACLs of the proxy's own topics along: then both sides are looked at first, and if they have such, the
//! others are deleted one by one.

use std::collections::HashMap;

use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest, DescribeAclsResponse, RequestKind, ResponseKind,
};

use super::acls::{ANY, OURS, TOPIC, is_hidden};
use super::both::{Both, Entries, Refusal};
use crate::api::{Answers, Ask, Context, Input, Machine, Step, To};
use crate::error::code;
use crate::ids::Side;
use crate::store::identity::is_marker_topic;
use crate::upstream::Lane;

/// Filters of one request that name no topic: each is looked at on both sides. Tools send one.
const MOST_OPEN: usize = 100;

pub struct DeleteAcls {
    stage: Stage,
}

enum Stage {
    /// What the filters that are open match, per side.
    Look {
        request: DeleteAclsRequest,
        open: Vec<usize>,
    },
    Delete(Box<Both<Deletions>>),
}

/// The filters, and what stands for them.
struct Deletions {
    request: DeleteAclsRequest,
    refused: HashMap<usize, Refusal>,
    /// In place of a filter, by side.
    exact: [HashMap<usize, Vec<DeleteAclsFilter>>; 2],
    matched: Vec<Vec<DeleteAclsMatchingAcl>>,
}

impl DeleteAcls {
    pub fn new(request: DeleteAclsRequest) -> Self {
        let open = open_filters(&request).take(MOST_OPEN).collect();
        Self { stage: Stage::Look { request, open } }
    }

    fn delete(&mut self, cx: &Context<'_>, deletions: Deletions) -> Step {
        let mut both = Box::new(Both::new(deletions));
        let step = both.step(cx, Input::Start);
        self.stage = Stage::Delete(both);
        step
    }
}

impl Machine for DeleteAcls {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let (request, open) = match &mut self.stage {
            Stage::Delete(both) => return both.step(cx, input),
            Stage::Look { request, open } => (std::mem::take(request), std::mem::take(open)),
        };
        let Input::Answers(answers) = input else {
            if open.is_empty() {
                let deletions = Deletions::new(request);
                return self.delete(cx, deletions);
            }
            let look = |side| {
                move |filter: &DeleteAclsFilter| Ask {
                    side,
                    to: To::Controller,
                    lane: Lane::Ordinary,
                    request: RequestKind::DescribeAcls(describe(filter)),
                }
            };
            let filters = || open.iter().filter_map(|i| request.filters.get(*i));
            let asks = Side::BOTH.into_iter().flat_map(|side| filters().map(look(side))).collect();
            self.stage = Stage::Look { request, open };
            return Step::Ask(asks);
        };
        let deletions = Deletions::new(request).looked(&open, answers);
        self.delete(cx, deletions)
    }
}

impl Deletions {
    fn new(request: DeleteAclsRequest) -> Self {
        let ours = |f: &DeleteAclsFilter| {
            may_be_topics(f.resource_type_filter) && f.resource_name_filter.as_ref().is_some_and(|n| is_marker_topic(n))
        };
        let refused = (0..).zip(&request.filters).filter(|(_, f)| ours(f));
        let refused = refused.map(|(i, _)| (i, Refusal::new(code::POLICY_VIOLATION, OURS)));
        let beyond = open_filters(&request).skip(MOST_OPEN).map(|i| (i, too_many()));
        let refused = refused.chain(beyond).collect();
        let matched = request.filters.iter().map(|_| vec![]).collect();
        Self { request, refused, exact: Default::default(), matched }
    }

    /// What was seen before anything is deleted: nothing is, for a filter that could not be looked at.
    fn looked(mut self, open: &[usize], answers: Answers) -> Self {
        let asked = Side::BOTH.into_iter().flat_map(|side| open.iter().map(move |i| (side, *i)));
        for ((side, i), answer) in asked.zip(answers) {
            let seen = match answer {
                Ok(ResponseKind::DescribeAcls(seen)) => seen,
                _ => {
                    let text = format!("nothing was deleted: the {side} did not answer");
                    self.refused.entry(i).or_insert_with(|| Refusal::new(code::REQUEST_TIMED_OUT, text));
                    continue;
                }
            };
            match (side, seen.error_code) {
                (_, code::NONE) => {
                    if let Some(exact) = exact(seen) {
                        self.exact[side.index()].insert(i, exact);
                    }
                }
                // It says so again when it is asked to delete.
                (Side::Target, code::SECURITY_DISABLED) => {}
                (Side::Source, error) => {
                    self.refused.insert(i, Refusal { error, message: seen.error_message });
                }
                (Side::Target, error) => {
                    let why = Refusal { error, message: seen.error_message };
                    let text = format!("nothing was deleted: the target: {}", why.text());
                    self.refused.entry(i).or_insert_with(|| Refusal::new(error, text));
                }
            }
        }
        self
    }

    /// What a side is sent for an entry.
    fn filters(&self, side: Side, entry: usize) -> &[DeleteAclsFilter] {
        let whole = || self.request.filters.get(entry..=entry).unwrap_or_default();
        self.exact[side.index()].get(&entry).map_or_else(whole, Vec::as_slice)
    }
}

impl Entries for Deletions {
    fn count(&self) -> usize {
        self.request.filters.len()
    }

    fn refusal(&self, entry: usize) -> Option<Refusal> {
        self.refused.get(&entry).cloned()
    }

    fn request(&mut self, side: Side, entries: &[usize]) -> Option<RequestKind> {
        let filters: Vec<_> = entries.iter().flat_map(|i| self.filters(side, *i).iter().cloned()).collect();
        let request = DeleteAclsRequest::default();
        (!filters.is_empty()).then(|| RequestKind::DeleteAcls(request.with_filters(filters)))
    }

    fn said(&mut self, side: Side, entries: &[usize], answer: ResponseKind) -> (i32, Vec<Result<(), Refusal>>) {
        let ResponseKind::DeleteAcls(answer) = answer else { return (0, vec![]) };
        let mut results = answer.filter_results.into_iter();
        let mut said = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut outcome = Ok(());
            for _ in 0..self.filters(side, *entry).len() {
                let Some(result) = results.next() else {
                    outcome = Err(Refusal::unanswered());
                    break;
                };
                outcome = outcome.and(Refusal::said(result.error_code, result.error_message));
                for matching in result.matching_acls {
                    if side == Side::Target {
                        // One that stays where the clients will be is not deleted.
                        let stays = Refusal::said(matching.error_code, matching.error_message);
                        outcome = outcome.and(stays);
                    } else if let Some(matched) = self.matched.get_mut(*entry) {
                        matched.push(matching);
                    }
                }
            }
            said.push(outcome);
        }
        (answer.throttle_time_ms, said)
    }

    fn answer(&mut self, outcomes: Vec<Result<(), Refusal>>, throttle_time_ms: i32) -> ResponseKind {
        let matched = std::mem::take(&mut self.matched);
        let result = |(outcome, matched): (Result<(), Refusal>, Vec<DeleteAclsMatchingAcl>)| match outcome {
            Ok(()) => DeleteAclsFilterResult::default().with_error_message(None).with_matching_acls(matched),
            Err(r) => DeleteAclsFilterResult::default().with_error_code(r.error).with_error_message(r.message),
        };
        let results = outcomes.into_iter().zip(matched).map(result).collect();
        let answer = DeleteAclsResponse::default().with_throttle_time_ms(throttle_time_ms).with_filter_results(results);
        ResponseKind::DeleteAcls(answer)
    }
}

fn may_be_topics(resource_type: i8) -> bool {
    resource_type == ANY || resource_type == TOPIC
}

/// It may match topics of any name.
fn is_open(filter: &DeleteAclsFilter) -> bool {
    may_be_topics(filter.resource_type_filter) && filter.resource_name_filter.is_none()
}

fn open_filters(request: &DeleteAclsRequest) -> impl Iterator<Item = usize> {
    (0..).zip(&request.filters).filter(|(_, f)| is_open(f)).map(|(i, _)| i)
}

fn too_many() -> Refusal {
    let text = format!(
        "nothing was deleted for it: a request may have {MOST_OPEN} filters that name no topic; send several requests"
    );
    Refusal::new(code::INVALID_REQUEST, text)
}

fn describe(filter: &DeleteAclsFilter) -> DescribeAclsRequest {
    DescribeAclsRequest::default()
        .with_resource_type_filter(filter.resource_type_filter)
        .with_resource_name_filter(filter.resource_name_filter.clone())
        .with_pattern_type_filter(filter.pattern_type_filter)
        .with_principal_filter(filter.principal_filter.clone())
        .with_host_filter(filter.host_filter.clone())
        .with_operation(filter.operation)
        .with_permission_type(filter.permission_type)
}

/// What was matched one by one, without ours; `None`: none of it is ours.
fn exact(seen: DescribeAclsResponse) -> Option<Vec<DeleteAclsFilter>> {
    let hidden = |r: &DescribeAclsResource| is_hidden(r.resource_type, &r.resource_name);
    if !seen.resources.iter().any(hidden) {
        return None;
    }
    let one = |r: &DescribeAclsResource, acl: &AclDescription| {
        DeleteAclsFilter::default()
            .with_resource_type_filter(r.resource_type)
            .with_resource_name_filter(Some(r.resource_name.clone()))
            .with_pattern_type_filter(r.pattern_type)
            .with_principal_filter(Some(acl.principal.clone()))
            .with_host_filter(Some(acl.host.clone()))
            .with_operation(acl.operation)
            .with_permission_type(acl.permission_type)
    };
    let shown = seen.resources.iter().filter(|r| !hidden(r));
    Some(shown.flat_map(|r| r.acls.iter().map(move |acl| one(r, acl))).collect())
}
