//! Groups move home in mid-stream: their members see one rebalance, read everything once, and stand where they stood.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use kafka_cutover::control::client::{Client, ClientError};
use kafka_cutover::control::protocol::{Outcome, SwitchBody, What};
use kafka_cutover::embedded::GroupState;
use kafka_cutover::ids::Side;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::BaseProducer;

use super::real_client;
use super::world::*;

const PARTITIONS: i32 = 6;
const PART: usize = 600;

pub(super) async fn switch(control: Client) -> Result<Outcome, ClientError> {
    let body = SwitchBody {
        what: What::Groups,
        to: Side::Target,
        force: false,
        hold_consumers: false,
        expect_step: None,
        dry_run: false,
    };
    control.switch(MIGRATION, &body).await
}

pub(super) async fn switch_groups(world: &World) -> Result<Outcome, ClientError> {
    soon("the groups move", switch(world.control())).await
}

/// What all members of a group were given, and what their library complained of.
#[derive(Default)]
struct Given {
    numbers: BTreeMap<usize, usize>,
    errors: Vec<String>,
}

struct Group {
    name: String,
    given: Arc<Mutex<Given>>,
    stop: Arc<AtomicBool>,
    members: Vec<JoinHandle<()>>,
}

impl Group {
    fn start(world: &World, name: &str, strategy: &str, is_static: bool) -> Self {
        let (given, stop) = (Arc::<Mutex<Given>>::default(), Arc::new(AtomicBool::new(false)));
        let members = (0..3).map(|i| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", world.address()).set("group.id", name);
            config.set("auto.offset.reset", "earliest").set("partition.assignment.strategy", strategy);
            config.set("heartbeat.interval.ms", "100").set("session.timeout.ms", "60000");
            if is_static {
                config.set("group.instance.id", format!("{name}-{i}"));
            }
            let consumer: BaseConsumer = config.create().expect("a consumer");
            consumer.subscribe(&["moved"]).unwrap();
            let (given, stop) = (given.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(message) = consumer.poll(Duration::from_millis(20)) else { continue };
                    let mut given = given.lock().unwrap();
                    match message {
                        Ok(message) => {
                            let number = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
                            *given.numbers.entry(number).or_default() += 1;
                        }
                        Err(error) => given.errors.push(error.to_string()),
                    }
                }
            })
        });
        let members = members.collect();
        Self { name: name.to_owned(), given, stop, members }
    }

    async fn until_given(&self, count: usize) {
        eventually(&format!("{} is given {count}", self.name), async || {
            self.given.lock().unwrap().numbers.len() >= count
        })
        .await;
    }

    fn stop(self) -> Given {
        self.stop.store(true, Ordering::Relaxed);
        self.members.into_iter().for_each(|member| member.join().expect("a member ends well"));
        std::mem::take(&mut *self.given.lock().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn groups_move_in_mid_stream_and_read_all_once() {
    let world = World::new(PARTITIONS);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", world.address()).set("enable.idempotence", "true").set("linger.ms", "1");
    let producer: Arc<BaseProducer> = Arc::new(config.create().expect("a producer"));
    let send = async |numbers: std::ops::Range<usize>| {
        let producer = producer.clone();
        tokio::task::spawn_blocking(move || real_client::send(&producer, PARTITIONS, numbers)).await.unwrap();
    };
    let groups = [("eager", "range", false), ("cooperative", "cooperative-sticky", false), ("static", "range", true)];
    let groups = groups.map(|(name, strategy, is_static)| Group::start(&world, name, strategy, is_static));
    send(0..PART).await;
    for group in &groups {
        group.until_given(PART).await;
    }
    world.cut_over().await;
    let (outcome, ()) = tokio::join!(switch_groups(&world), send(PART..2 * PART));
    let outcome = outcome.expect("all have moved");
    assert_eq!(outcome.step, "groups-switched");
    assert_eq!(outcome.done.len(), 3, "{:?}", outcome.done);
    send(2 * PART..3 * PART).await;
    for group in &groups {
        group.until_given(3 * PART).await;
        eventually("all members are at the new home", async || {
            let at_home = world.target.group(&group.name);
            at_home.is_some_and(|(state, _, members)| state == GroupState::Stable && members.len() == 3)
        })
        .await;
        let left = world.source.group(&group.name).expect("its shadow");
        assert_eq!((left.0, left.2), (GroupState::Empty, vec![]), "{}", group.name);
    }
    for group in groups {
        let name = group.name.clone();
        let given = group.stop();
        assert_eq!(given.errors, Vec::<String>::new(), "{name}");
        let twice: Vec<_> = given.numbers.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{name} was given again: {twice:?}");
        assert_eq!(given.numbers.len(), 3 * PART, "{name}");
        // The target alone can serve it from here on, in its own terms; the source's shadow stands at the source's end.
        for partition in 0..PARTITIONS {
            let end = world.target.log_end("moved", partition);
            assert_eq!(world.target.committed(&name, "moved", partition), end, "{name}, partition {partition}");
            eventually("the shadow follows", async || {
                world.source.committed(&name, "moved", partition) == world.source.log_end("moved", partition)
            })
            .await;
        }
    }
    // Each group is listed once, from its home.
    let listed = world.client().await.ask(&ListGroupsRequest::default(), 4).await;
    let mut names: Vec<String> = listed.groups.iter().map(|g| g.group_id.to_string()).collect();
    names.sort();
    assert_eq!(names, ["cooperative", "eager", "static"]);
    // Again: there is nothing left to do.
    let again = switch_groups(&world).await.expect("nothing is left");
    assert_eq!(again.done, ["no group of moved is at home on the source"]);
}

// --- by hand ---

pub(super) struct ByHand {
    pub(super) raw: Raw,
    pub(super) member: String,
    pub(super) generation: i32,
}

pub(super) fn join(group: &str, member: &str) -> JoinGroupRequest {
    rejoin(group, member, 60_000)
}

fn rejoin(group: &str, member: &str, rebalance_ms: i32) -> JoinGroupRequest {
    let subscription = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 5, b'm', b'o', b'v', b'e', b'd', 255, 255, 255, 255]);
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription);
    JoinGroupRequest::default()
        .with_group_id(text(group).into())
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(rebalance_ms)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

impl ByHand {
    pub(super) async fn heartbeat(&mut self, group: &str) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(text(group).into())
            .with_member_id(text(&self.member))
            .with_generation_id(self.generation);
        self.raw.ask(&request, 4).await.error_code
    }

    pub(super) async fn commit(&mut self, group: &str, offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic =
            OffsetCommitRequestTopic::default().with_name(text("moved").into()).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(text(group).into())
            .with_member_id(text(&self.member))
            .with_generation_id_or_member_epoch(self.generation)
            .with_topics(vec![topic]);
        self.raw.ask(&request, 8).await.topics[0].partitions[0].error_code
    }

    async fn leave(&mut self, group: &str) -> i16 {
        let gone = MemberIdentity::default().with_member_id(text(&self.member));
        let leave = LeaveGroupRequest::default().with_group_id(text(group).into()).with_members(vec![gone]);
        let left = self.raw.ask(&leave, 4).await;
        assert_eq!((left.error_code, left.members.len()), (0, 1));
        left.members[0].error_code
    }

    pub(super) async fn sync(&mut self, group: &str, joined: &JoinGroupResponse) {
        self.member = joined.member_id.to_string();
        self.generation = joined.generation_id;
        let assignment = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
        let of = |m: &kafka_protocol::messages::join_group_response::JoinGroupResponseMember| {
            SyncGroupRequestAssignment::default()
                .with_member_id(m.member_id.clone())
                .with_assignment(assignment.clone())
        };
        let request = SyncGroupRequest::default()
            .with_group_id(text(group).into())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(joined.members.iter().map(of).collect());
        assert_eq!(self.raw.ask(&request, 5).await.error_code, 0);
    }
}

/// One that has its id, and has not joined yet.
async fn newcomer(world: &World, group: &str) -> ByHand {
    let mut raw = world.client().await;
    let first = raw.ask(&join(group, ""), 9).await;
    assert_eq!(first.error_code, E::MemberIdRequired.code());
    ByHand { raw, member: first.member_id.to_string(), generation: 0 }
}

/// The only member of a group, in a stable generation.
pub(super) async fn alone(world: &World, group: &str) -> ByHand {
    let mut member = newcomer(world, group).await;
    let joined = member.raw.ask(&join(group, &member.member), 9).await;
    member.sync(group, &joined).await;
    member
}

/// Two members of one group, in a stable generation.
async fn two(world: &World, group: &str) -> [ByHand; 2] {
    let mut a = alone(world, group).await;
    let mut b = newcomer(world, group).await;
    b.raw.send(&join(group, &b.member), 9).await;
    until_told_to_rejoin(&mut a, group).await;
    a.raw.send(&join(group, &a.member), 9).await;
    let mut both = [a, b];
    let mut joined = Vec::new();
    for member in &mut both {
        let answer = soon("joined", member.raw.receive::<JoinGroupRequest>(9)).await.expect("an answer");
        assert_eq!(answer.error_code, 0);
        joined.push(answer);
    }
    // The leader's assignment first: the other's SyncGroup waits for it.
    for leads in [true, false] {
        for (member, answer) in both.iter_mut().zip(&joined).filter(|(_, a)| a.members.is_empty() != leads) {
            member.sync(group, answer).await;
        }
    }
    both
}

pub(super) async fn until_told_to_rejoin(member: &mut ByHand, group: &str) {
    loop {
        match soon("a heartbeat", member.heartbeat(group)).await {
            0 => tokio::task::yield_now().await,
            code => return assert_eq!(code, E::RebalanceInProgress.code()),
        }
    }
}

pub(super) async fn position(world: &World, group: &str) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(text("moved").into()).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(text(group).into()).with_topics(Some(vec![topic]));
    let answer = world.client().await.ask(&request, 7).await;
    answer.topics[0].partitions[0].committed_offset
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_the_sources_part_is_kept_and_an_old_member_is_told_to_rejoin() {
    let world = World::new(1);
    let mut raw = world.client().await;
    for _ in 0..5 {
        assert_eq!(raw.produce("moved", 0, encode(ONE)).await.0, 0);
    }
    let mut member = alone(&world, "lagging").await;
    assert_eq!(member.commit("lagging", 2).await, 0);
    world.cut_over().await;
    let moving = tokio::spawn(switch(world.control()));
    // Until it joins again a member commits as before.
    until_told_to_rejoin(&mut member, "lagging").await;
    assert_eq!(member.commit("lagging", 3).await, 0);
    member.raw.send(&join("lagging", &member.member), 9).await;
    let outcome = soon("moved", moving).await.unwrap().expect("moved");
    assert!(outcome.done[0].contains("1 members, 1 positions"), "{:?}", outcome.done);
    let former = member.member.clone();
    let answer = soon("joined", member.raw.receive::<JoinGroupRequest>(9)).await.expect("an answer");
    assert_eq!(answer.error_code, 0);
    assert_ne!(former, answer.member_id.as_str(), "an id of the new home");
    assert_eq!(world.target.group("lagging").unwrap().2, [answer.member_id.to_string()]);
    assert_eq!(position(&world, "lagging").await, 3, "v itself, which the target's own offsets cannot say");
    // What still comes from before the move is answered here.
    let before = world.target.faults().seen(ApiKey::OffsetCommit);
    let mut old = ByHand { raw: world.client().await, member: former.clone(), generation: 1 };
    assert_eq!(old.heartbeat("lagging").await, E::RebalanceInProgress.code());
    assert_eq!(old.commit("lagging", 4).await, E::RebalanceInProgress.code());
    assert_eq!(world.target.faults().seen(ApiKey::OffsetCommit), before);
    assert_eq!(old.leave("lagging").await, 0);
    // An old id joins as a new member.
    old.raw.send(&join("lagging", &former), 9).await;
    eventually("a second member", async || world.target.group("lagging").unwrap().2.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_come_undoes_the_move() {
    let world = World::new(1);
    let mut raw = world.client().await;
    assert_eq!(raw.produce("moved", 0, encode(ONE)).await.0, 0);
    let [mut a, mut b] = two(&world, "stuck").await;
    assert_eq!(a.commit("stuck", 1).await, 0);
    world.cut_over().await;
    let moving = tokio::spawn(switch(world.control()));
    until_told_to_rejoin(&mut a, "stuck").await;
    a.raw.send(&rejoin("stuck", &a.member, 300), 9).await;
    let refusal = refused(soon("undone", moving).await.unwrap());
    assert_eq!(refusal.code, "groups_left");
    assert!(refusal.message.contains(&b.member), "{}", refusal.message);
    // Its JoinGroup goes to the old home, which rebalances as ever.
    assert_eq!(b.leave("stuck").await, 0);
    let answer = soon("joined", a.raw.receive::<JoinGroupRequest>(9)).await.expect("an answer");
    assert_eq!((answer.error_code, answer.member_id.as_str()), (0, a.member.as_str()));
    assert!(world.target.group("stuck").is_none_or(|(_, _, members)| members.is_empty()));
    assert_eq!(world.step().await, "producers-switched");
    assert_eq!(position(&world, "stuck").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_without_members_move_and_stay_moved() {
    let mut world = World::new(1);
    let mut raw = world.client().await;
    for _ in 0..4 {
        assert_eq!(raw.produce("moved", 0, encode(ONE)).await.0, 0);
    }
    let mut simple = ByHand { raw: world.client().await, member: String::new(), generation: -1 };
    assert_eq!(simple.commit("simple", 2).await, 0);
    let early = refused(switch_groups(&world).await);
    assert_eq!(early.code, "too_early");
    world.cut_over().await;
    switch_groups(&world).await.expect("moved");
    assert_eq!(position(&world, "simple").await, 2);
    assert_eq!(simple.commit("simple", 3).await, 0);
    assert_eq!(world.source.committed("simple", "moved", 0).map(|n| n >= 2), Some(true));
    world.restart().expect("the proxy starts again");
    assert_eq!(position(&world, "simple").await, 3, "the journal says where it is at home");
    eventually("the shadow follows", async || world.source.committed("simple", "moved", 0) == Some(3)).await;
}
