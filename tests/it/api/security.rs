//! ACLs, quotas and credentials: read from the source, written to both, and what one side's refusal looks like.

use kafka_cutover::api::{Ask, Input, Step, To, Unanswered};
use kafka_cutover::error::code;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_client_quotas_response as altered;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse, CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, RequestKind, ResponseKind,
};

use super::world::{Running, World, lost, not_sent, shows_nobody, text};

const TOPIC: i8 = 2;
const LITERAL: i8 = 3;
const OWN: &str = "__kafka_cutover.default";
const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
const UNACCEPTABLE_CREDENTIAL: i16 = 93;

type Reply = Result<ResponseKind, Unanswered>;

/// The one thing that is asked, of a side's controller.
fn one(mut asks: Vec<Ask>, side: Side) -> RequestKind {
    assert_eq!((asks.len(), asks[0].side, &asks[0].to), (1, side, &To::Controller));
    asks.remove(0).request
}

/// The source is asked, then the target; what they were sent, and the answer.
fn both(machine: &mut Running<'_>, source: Reply, target: Reply) -> ([RequestKind; 2], ResponseKind) {
    let first = one(machine.asks(), Side::Source);
    let second = one(machine.asks_after(Input::Answers(vec![source])), Side::Target);
    ([first, second], machine.answer(vec![target]))
}

/// (error, message) of every entry.
fn told(answer: &ResponseKind) -> Vec<(i16, String)> {
    let message = |m: &Option<kafka_protocol::protocol::StrBytes>| m.as_ref().map_or(String::new(), |m| m.to_string());
    match answer {
        ResponseKind::CreateAcls(a) => a.results.iter().map(|r| (r.error_code, message(&r.error_message))).collect(),
        ResponseKind::DeleteAcls(a) => {
            a.filter_results.iter().map(|r| (r.error_code, message(&r.error_message))).collect()
        }
        ResponseKind::AlterClientQuotas(a) => {
            a.entries.iter().map(|r| (r.error_code, message(&r.error_message))).collect()
        }
        ResponseKind::AlterUserScramCredentials(a) => {
            a.results.iter().map(|r| (r.error_code, message(&r.error_message))).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn errors(answer: &ResponseKind) -> Vec<i16> {
    told(answer).into_iter().map(|(error, _)| error).collect()
}

// ---------------------------------------------------------------------------------------------- ACLs

fn acl(topic: &str) -> AclCreation {
    AclCreation::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_resource_pattern_type(LITERAL)
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(3)
        .with_permission_type(3)
}

fn creations(topics: &[&str]) -> CreateAclsRequest {
    CreateAclsRequest::default().with_creations(topics.iter().map(|t| acl(t)).collect())
}

fn created(results: &[(i16, &str)]) -> Reply {
    let result = |(error, message): &(i16, &str)| {
        let message = Some(text(message)).filter(|m| !m.is_empty());
        AclCreationResult::default().with_error_code(*error).with_error_message(message)
    };
    Ok(CreateAclsResponse::default().with_results(results.iter().map(result).collect()).into())
}

fn matching(topic: &str) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_pattern_type(LITERAL)
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(3)
        .with_permission_type(3)
}

fn deleted(matched: &[&[&str]]) -> Reply {
    let result = |topics: &&[&str]| {
        DeleteAclsFilterResult::default().with_matching_acls(topics.iter().map(|t| matching(t)).collect())
    };
    Ok(DeleteAclsResponse::default().with_filter_results(matched.iter().map(result).collect()).into())
}

fn described(topics: &[&str]) -> DescribeAclsResponse {
    let alice = AclDescription::default()
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(3)
        .with_permission_type(3);
    let resource = |topic: &&str| {
        DescribeAclsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_pattern_type(LITERAL)
            .with_acls(vec![alice.clone()])
    };
    DescribeAclsResponse::default().with_resources(topics.iter().map(resource).collect())
}

fn filter(resource_type: i8, topic: Option<&str>) -> DeleteAclsFilter {
    DeleteAclsFilter::default()
        .with_resource_type_filter(resource_type)
        .with_resource_name_filter(topic.map(text))
        .with_pattern_type_filter(LITERAL)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1)
}

fn exact(topic: &str) -> DeleteAclsFilter {
    filter(TOPIC, Some(topic))
        .with_principal_filter(Some(text("User:alice")))
        .with_host_filter(Some(text("*")))
        .with_operation(3)
        .with_permission_type(3)
}

fn filters(filters: Vec<DeleteAclsFilter>) -> DeleteAclsRequest {
    DeleteAclsRequest::default().with_filters(filters)
}

fn no_authorizer() -> Reply {
    created(&[(code::SECURITY_DISABLED, "No Authorizer is configured.")])
}

#[test]
fn acls_are_created_on_the_source_and_then_on_the_target() {
    for version in 1..=3 {
        let world = World::sealed();
        let request = creations(&["plain", OWN, "orders"]);
        let mut machine = world.machine(version, request);
        let ok = || created(&[(0, ""), (0, "")]);
        let (sent, answer) = both(&mut machine, ok(), ok());
        for sent in sent {
            assert_eq!(sent, creations(&["plain", "orders"]).into(), "our own topics are nobody's");
        }
        assert_eq!(errors(&answer), [0, code::POLICY_VIOLATION, 0], "v{version}");
    }
}

#[test]
fn what_the_source_refuses_does_not_reach_the_target() {
    let world = World::new();
    let mut machine = world.machine(3, creations(&["plain", "orders"]));
    machine.asks();
    let source = created(&[(code::INVALID_REQUEST, "no"), (0, "")]);
    let sent = one(machine.asks_after(Input::Answers(vec![source])), Side::Target);
    assert_eq!(sent, creations(&["orders"]).into());
    let answer = machine.answer(vec![created(&[(0, "")])]);
    assert_eq!(told(&answer), [(code::INVALID_REQUEST, "no".to_owned()), (0, String::new())]);

    let mut machine = world.machine(3, creations(&["plain"]));
    machine.asks();
    let answer = machine.answer(vec![no_authorizer()]);
    assert_eq!(errors(&answer), [code::SECURITY_DISABLED], "and nobody else is asked");
}

#[test]
fn an_entry_that_only_the_source_has_names_the_side_that_lacks_it() {
    let world = World::new();
    let mut machine = world.machine(3, creations(&["plain", "orders"]));
    let target = created(&[(0, ""), (CLUSTER_AUTHORIZATION_FAILED, "not yours")]);
    let (_, answer) = both(&mut machine, created(&[(0, ""), (0, "")]), target);
    let text = "the source has taken it; the target: not yours".to_owned();
    assert_eq!(told(&answer), [(0, String::new()), (CLUSTER_AUTHORIZATION_FAILED, text)]);

    let mut machine = world.machine(3, creations(&["plain"]));
    let (_, answer) = both(&mut machine, created(&[(0, "")]), lost());
    let told = told(&answer);
    assert_eq!(told[0].0, code::REQUEST_TIMED_OUT);
    assert!(told[0].1.contains("the source has taken it; the target"), "{told:?}");
    assert_eq!(errors(&answer).len(), 1);
}

#[test]
fn a_source_that_does_not_answer_leaves_the_target_alone() {
    let world = World::new();
    let mut machine = world.machine(3, creations(&["plain"]));
    machine.asks();
    let answer = machine.answer(vec![lost()]);
    let told = told(&answer);
    assert_eq!(told[0].0, code::REQUEST_TIMED_OUT);
    assert!(told[0].1.starts_with("the source: "), "{told:?}");
}

#[test]
fn another_controller_is_looked_for_once() {
    let world = World::new();
    let scram = || AlterUserScramCredentialsRequest::default().with_deletions(vec![removal("alice")]);
    for none in [not_sent(), scrammed(&[("alice", code::NOT_CONTROLLER)])] {
        let mut machine = world.machine(0, scram());
        machine.asks();
        let step = machine.step(Input::Answers(vec![none.clone()]));
        let Step::AwaitTopology { side: Side::Source, newer_than: 5, .. } = step else { panic!("no look") };
        assert!(world.was_refreshed(Side::Source));
        one(machine.asks_after(Input::Woken), Side::Source);
        let target = one(machine.asks_after(Input::Answers(vec![scrammed(&[("alice", 0)])])), Side::Target);
        assert_eq!(target, scram().into());
        let Step::AwaitTopology { side: Side::Target, .. } = machine.step(Input::Answers(vec![none.clone()])) else {
            panic!("no look")
        };
        one(machine.asks_after(Input::Woken), Side::Target);
        let answer = machine.answer(vec![none]);
        assert_eq!(errors(&answer), [code::NOT_CONTROLLER]);
    }
}

#[test]
fn a_target_without_an_authorizer_is_named_in_the_log_and_not_to_clients() {
    let world = World::new();
    for _ in 0..2 {
        let mut machine = world.machine(3, creations(&["plain"]));
        let (_, answer) = both(&mut machine, created(&[(0, "")]), no_authorizer());
        assert_eq!(errors(&answer), [0]);
    }
    assert!(!world.shared.alarms.is_first("the target has no authorizer".to_owned()), "said, and once");
}

#[test]
fn acls_of_our_own_topics_are_not_described() {
    for version in 1..=3 {
        let world = World::new();
        let request = DescribeAclsRequest::default().with_resource_type_filter(1).with_resource_name_filter(None);
        let mut machine = world.machine(version, request.clone());
        assert_eq!(one(machine.asks(), Side::Source), request.into());
        let answer = machine.answer(vec![Ok(described(&["plain", OWN, "orders"]).into())]);
        assert_eq!(answer, described(&["plain", "orders"]).into(), "v{version}");
    }
}

#[test]
fn a_read_that_is_lost_is_read_elsewhere() {
    let world = World::new();
    let requests: [(RequestKind, ResponseKind); 3] = [
        (DescribeAclsRequest::default().into(), DescribeAclsResponse::default().into()),
        (DescribeClientQuotasRequest::default().into(), DescribeClientQuotasResponse::default().into()),
        (DescribeUserScramCredentialsRequest::default().into(), DescribeUserScramCredentialsResponse::default().into()),
    ];
    for (request, ok) in requests {
        let version = if matches!(request, RequestKind::DescribeAcls(_)) { 3 } else { 0 };
        let mut machine = world.machine(version, request.clone());
        machine.asks();
        let asks = machine.asks_after(Input::Answers(vec![not_sent()]));
        assert_eq!((asks[0].side, &asks[0].to, &asks[0].request), (Side::Source, &To::Any, &request));
        assert_eq!(machine.answer(vec![Ok(ok.clone())]), ok);

        let mut machine = world.machine(version, request.clone());
        machine.asks();
        machine.asks_after(Input::Answers(vec![lost()]));
        let answer = machine.answer(vec![lost()]);
        let error = match &answer {
            ResponseKind::DescribeAcls(a) => a.error_code,
            ResponseKind::DescribeClientQuotas(a) => a.error_code,
            ResponseKind::DescribeUserScramCredentials(a) => a.error_code,
            other => panic!("{other:?}"),
        };
        assert_eq!(error, code::REQUEST_TIMED_OUT, "{answer:?}");
    }
}

#[test]
fn acls_are_deleted_on_both_and_the_sources_are_listed() {
    for version in 1..=3 {
        let world = World::new();
        let request = filters(vec![filter(TOPIC, Some("plain")), filter(TOPIC, Some(OWN)), filter(3, None)]);
        let mut machine = world.machine(version, request);
        let (sent, answer) = both(&mut machine, deleted(&[&["plain"], &[]]), deleted(&[&[], &[]]));
        for sent in sent {
            assert_eq!(sent, filters(vec![filter(TOPIC, Some("plain")), filter(3, None)]).into());
        }
        let ResponseKind::DeleteAcls(answer) = answer else { panic!("another API") };
        let told: Vec<_> = answer.filter_results.iter().map(|r| (r.error_code, r.matching_acls.len())).collect();
        assert_eq!(told, [(0, 1), (code::POLICY_VIOLATION, 0), (0, 0)], "v{version}");
        assert_eq!(answer.filter_results[0].matching_acls, [matching("plain")]);
    }
}

/// Looks at both sides for the one open filter; then the source is asked to delete.
fn looks(machine: &mut Running<'_>, source: &[&str], target: &[&str]) -> RequestKind {
    let asks = machine.asks();
    assert_eq!(
        asks.iter().map(|a| (a.side, a.to.clone())).collect::<Vec<_>>(),
        Side::BOTH.map(|s| (s, To::Controller))
    );
    assert!(asks.iter().all(|a| matches!(&a.request, RequestKind::DescribeAcls(_))), "{asks:?}");
    let seen = vec![Ok(described(source).into()), Ok(described(target).into())];
    one(machine.asks_after(Input::Answers(seen)), Side::Source)
}

#[test]
fn a_filter_for_everything_leaves_ours_alone() {
    let world = World::new();
    let everything = || filter(1, None);
    let mut machine = world.machine(3, filters(vec![everything(), filter(TOPIC, Some("more"))]));
    let sent = looks(&mut machine, &["plain", OWN, "orders"], &["plain"]);
    assert_eq!(sent, filters(vec![exact("plain"), exact("orders"), filter(TOPIC, Some("more"))]).into());
    let source = deleted(&[&["plain"], &["orders"], &["more"]]);
    let sent = one(machine.asks_after(Input::Answers(vec![source])), Side::Target);
    assert_eq!(sent, filters(vec![everything(), filter(TOPIC, Some("more"))]).into(), "it has none of ours");
    let ResponseKind::DeleteAcls(answer) = machine.answer(vec![deleted(&[&["plain"], &[]])]) else { panic!("another") };
    let told: Vec<_> = answer.filter_results.iter().map(|r| (r.error_code, r.matching_acls.len())).collect();
    assert_eq!(told, [(0, 2), (0, 1)]);
}

#[test]
fn a_side_that_has_nothing_but_ours_is_not_asked() {
    let world = World::new();
    let mut machine = world.machine(3, filters(vec![filter(TOPIC, None)]));
    let sent = looks(&mut machine, &["plain"], &[OWN]);
    assert_eq!(sent, filters(vec![filter(TOPIC, None)]).into());
    assert_eq!(errors(&machine.answer(vec![deleted(&[&["plain"]])])), [0]);
}

#[test]
fn nothing_is_deleted_by_a_filter_that_could_not_be_looked_at() {
    let world = World::new();
    let refused = |error: i16| Ok(DescribeAclsResponse::default().with_error_code(error).into());
    let seen = || Ok(described(&["plain"]).into());
    let cases: [(Vec<Reply>, i16, &str); 4] = [
        (vec![lost(), seen()], code::REQUEST_TIMED_OUT, "nothing was deleted: the source"),
        (vec![seen(), lost()], code::REQUEST_TIMED_OUT, "nothing was deleted: the target"),
        (vec![seen(), refused(31)], CLUSTER_AUTHORIZATION_FAILED, "nothing was deleted: the target"),
        (vec![refused(code::SECURITY_DISABLED), seen()], code::SECURITY_DISABLED, ""),
    ];
    for (seen, error, begins) in cases {
        let mut machine = world.machine(3, filters(vec![filter(TOPIC, None)]));
        machine.asks();
        let told = told(&machine.answer(seen));
        assert_eq!(told[0].0, error);
        assert!(told[0].1.starts_with(begins), "{told:?}");
    }
}

#[test]
fn a_request_looks_at_few_filters_only() {
    let world = World::new();
    let many: Vec<_> = (0..150).map(|_| filter(TOPIC, None)).chain([filter(TOPIC, Some("plain"))]).collect();
    let mut machine = world.machine(3, filters(many));
    let asks = machine.asks();
    assert_eq!(asks.len(), 200, "a hundred on each side");
    let seen = asks.iter().map(|_| Ok(described(&["plain"]).into())).collect();
    let RequestKind::DeleteAcls(source) = one(machine.asks_after(Input::Answers(seen)), Side::Source) else {
        panic!("another API")
    };
    assert_eq!(source.filters.len(), 101, "and that with a name is not one of them");
    let nothing: Vec<&[&str]> = vec![&[]; 101];
    let target = machine.asks_after(Input::Answers(vec![deleted(&nothing)]));
    assert_eq!(target.len(), 1);
    let told = told(&machine.answer(vec![deleted(&nothing)]));
    let refused: Vec<_> = (0..).zip(&told).filter(|(_, (error, _))| *error != 0).map(|(i, _)| i).collect();
    assert_eq!(refused, (100..150).collect::<Vec<_>>());
    assert_eq!(told[100].0, code::INVALID_REQUEST);
}

#[test]
fn an_acl_that_stays_on_the_target_is_not_deleted() {
    let world = World::new();
    let mut machine = world.machine(3, filters(vec![filter(TOPIC, Some("plain"))]));
    let stays = matching("plain").with_error_code(code::UNKNOWN_SERVER_ERROR).with_error_message(Some(text("disk")));
    let result = DeleteAclsFilterResult::default().with_matching_acls(vec![stays]);
    let target = Ok(DeleteAclsResponse::default().with_filter_results(vec![result]).into());
    let (_, answer) = both(&mut machine, deleted(&[&["plain"]]), target);
    assert_eq!(told(&answer), [(-1, "the source has taken it; the target: disk".to_owned())]);
}

// ---------------------------------------------------------------------------------------------- quotas

fn quota(user: &str, client: Option<&str>) -> EntryData {
    let named = |of: &str, name: Option<&str>| {
        EntityData::default().with_entity_type(text(of)).with_entity_name(name.map(text))
    };
    EntryData::default()
        .with_entity(vec![named("user", Some(user)), named("client-id", client)])
        .with_ops(vec![OpData::default().with_key(text("producer_byte_rate")).with_value(1024.5)])
}

fn quotas(entries: Vec<EntryData>, validate_only: bool) -> AlterClientQuotasRequest {
    AlterClientQuotasRequest::default().with_entries(entries).with_validate_only(validate_only)
}

/// As brokers answer: the parts of an entity in an order of their own.
fn quoted(entries: &[(&str, Option<&str>, i16)]) -> Reply {
    let entry = |(user, client, error): &(&str, Option<&str>, i16)| {
        let named = |of: &str, name: Option<&str>| {
            altered::EntityData::default().with_entity_type(text(of)).with_entity_name(name.map(text))
        };
        altered::EntryData::default()
            .with_entity(vec![named("client-id", *client), named("user", Some(user))])
            .with_error_code(*error)
    };
    Ok(AlterClientQuotasResponse::default().with_entries(entries.iter().map(entry).collect()).into())
}

#[test]
fn quotas_are_altered_on_both_whatever_the_order_of_the_answers() {
    for version in 0..=1 {
        let world = World::new();
        let all = || vec![quota("alice", None), quota("bob", Some("shop")), quota("alice", Some("shop"))];
        let mut machine = world.machine(version, quotas(all(), false));
        let source =
            quoted(&[("alice", Some("shop"), 0), ("bob", Some("shop"), code::INVALID_REQUEST), ("alice", None, 0)]);
        let target = quoted(&[("alice", Some("shop"), CLUSTER_AUTHORIZATION_FAILED), ("alice", None, 0)]);
        let (sent, answer) = both(&mut machine, source, target);
        assert_eq!(sent[0], quotas(all(), false).into());
        assert_eq!(sent[1], quotas(vec![quota("alice", None), quota("alice", Some("shop"))], false).into());
        assert_eq!(errors(&answer), [0, code::INVALID_REQUEST, CLUSTER_AUTHORIZATION_FAILED], "v{version}");
        let ResponseKind::AlterClientQuotas(answer) = answer else { panic!("another API") };
        let name = |i: usize, part: usize| answer.entries[i].entity[part].entity_name.clone();
        assert_eq!((name(0, 0), name(0, 1), name(1, 0)), (Some(text("alice")), None, Some(text("bob"))));
    }
}

#[test]
fn a_validation_changes_nothing_on_either_side() {
    let world = World::new();
    let mut machine = world.machine(1, quotas(vec![quota("alice", None)], true));
    let target = quoted(&[("alice", None, code::INVALID_REQUEST)]);
    let (sent, answer) = both(&mut machine, quoted(&[("alice", None, 0)]), target);
    for sent in sent {
        assert_eq!(sent, quotas(vec![quota("alice", None)], true).into());
    }
    let (error, message) = told(&answer).remove(0);
    assert_eq!(error, code::INVALID_REQUEST);
    assert!(message.starts_with("the source would take it; the target: "), "{message}");
}

#[test]
fn an_entity_that_is_not_answered_is_an_error() {
    let world = World::new();
    let mut machine = world.machine(1, quotas(vec![quota("alice", None)], false));
    machine.asks();
    assert_eq!(errors(&machine.answer(vec![quoted(&[])])), [code::UNKNOWN_SERVER_ERROR]);
}

// ---------------------------------------------------------------------------------------------- credentials

fn removal(user: &str) -> ScramCredentialDeletion {
    ScramCredentialDeletion::default().with_name(text(user)).with_mechanism(1)
}

fn upsertion(user: &str) -> ScramCredentialUpsertion {
    ScramCredentialUpsertion::default()
        .with_name(text(user))
        .with_mechanism(2)
        .with_iterations(4096)
        .with_salt(b"salt".as_slice().into())
        .with_salted_password(b"hush".as_slice().into())
}

fn scrammed(results: &[(&str, i16)]) -> Reply {
    let result = |(user, error): &(&str, i16)| {
        AlterUserScramCredentialsResult::default().with_user(text(user)).with_error_code(*error)
    };
    Ok(AlterUserScramCredentialsResponse::default().with_results(results.iter().map(result).collect()).into())
}

fn scram(removed: &[&str], upserted: &[&str]) -> AlterUserScramCredentialsRequest {
    AlterUserScramCredentialsRequest::default()
        .with_deletions(removed.iter().map(|u| removal(u)).collect())
        .with_upsertions(upserted.iter().map(|u| upsertion(u)).collect())
}

#[test]
fn credentials_are_altered_on_both_user_by_user() {
    let world = World::new();
    let mut machine = world.machine(0, scram(&["alice"], &["bob", "carol"]));
    let source = scrammed(&[("carol", 0), ("bob", UNACCEPTABLE_CREDENTIAL), ("alice", 0)]);
    let (sent, answer) = both(&mut machine, source, scrammed(&[("alice", 0), ("carol", 0)]));
    assert_eq!(sent, [scram(&["alice"], &["bob", "carol"]).into(), scram(&["alice"], &["carol"]).into()]);
    let ResponseKind::AlterUserScramCredentials(answer) = answer else { panic!("another API") };
    let told: Vec<_> = answer.results.iter().map(|r| (r.user.as_str(), r.error_code)).collect();
    assert_eq!(told, [("alice", 0), ("bob", UNACCEPTABLE_CREDENTIAL), ("carol", 0)]);
}

#[test]
fn a_credential_that_is_to_go_may_be_on_one_side_alone() {
    let world = World::new();
    let (gone, ok) = (scrammed(&[("alice", code::RESOURCE_NOT_FOUND)]), scrammed(&[("alice", 0)]));
    // It was never on the target; an earlier try reached the source alone; it is nowhere.
    let cases = [(&ok, &gone, 0), (&gone, &ok, 0), (&gone, &gone, code::RESOURCE_NOT_FOUND)];
    for (source, target, error) in cases {
        let mut machine = world.machine(0, scram(&["alice"], &[]));
        let (_, answer) = both(&mut machine, source.clone(), target.clone());
        assert_eq!(errors(&answer), [error]);
    }
    // Two of a user's: which of them the target has nobody knows.
    let mut machine = world.machine(0, scram(&["alice", "alice"], &[]));
    let (_, answer) = both(&mut machine, ok, gone.clone());
    assert_eq!(errors(&answer), [code::RESOURCE_NOT_FOUND]);
    let mut machine = world.machine(0, scram(&["alice", "alice"], &[]));
    machine.asks();
    assert_eq!(errors(&machine.answer(vec![gone])), [code::RESOURCE_NOT_FOUND]);
}

#[test]
fn no_text_holds_a_credential() {
    let world = World::new();
    let mut machine = world.machine(0, scram(&[], &["bob"]));
    let (_, answer) = both(&mut machine, scrammed(&[("bob", 0)]), lost());
    shows_nobody(&answer, 0);
    let shown = format!("{answer:?}");
    assert!(!shown.contains("hush") && !shown.contains("salt"), "{shown}");
}
