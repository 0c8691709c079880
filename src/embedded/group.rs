//! A classic consumer group as its coordinator keeps it: Kafka's `ClassicGroup` and the state changes around it. Pure but for
//! the channels on which parked JoinGroups and SyncGroups wait.
//! Left out: a longer initial delay when more members come in it, expiry of groups and offsets.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::JoinGroupResponse;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GroupState {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

pub struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    session_ends: Instant,
    /// The order of joining decides who leads.
    order: u64,
    synced: bool,
    joining: Option<oneshot::Sender<JoinGroupResponse>>,
    syncing: Option<oneshot::Sender<Result<Bytes, E>>>,
}

impl Member {
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, m)| m.clone()).unwrap_or_default()
    }
}

/// By topic and partition.
pub type Positions = Vec<((String, i32), Committed)>;

pub struct Committed {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

/// What a JoinGroup says, whoever sends it.
pub struct Joining {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    pub protocols: Vec<(String, Bytes)>,
    /// v4+: a new dynamic member gets its id first and joins with it then.
    pub requires_member_id: bool,
    /// v9+: a leader that came back is told not to assign.
    pub skips_assignment: bool,
    pub initial_delay: Duration,
}

pub enum Reply<T> {
    Now(T),
    Later(oneshot::Receiver<T>),
}

#[derive(Default)]
pub struct Group {
    pub state: GroupState,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: BTreeMap<String, Member>,
    pub offsets: BTreeMap<(String, i32), Committed>,
    /// By producer id: positions that its transaction commits.
    pub in_transactions: BTreeMap<i64, Positions>,
    statics: HashMap<String, String>,
    /// Ids given out (MEMBER_ID_REQUIRED) that have not joined yet.
    pending: HashMap<String, Instant>,
    rebalance_ends: Option<Instant>,
    sync_ends: Option<Instant>,
    /// The first rebalance of an empty group waits its time, however many have joined.
    initial: bool,
    joined: u64,
}

fn refused(error: E, member_id: &str) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_member_id(StrBytes::from_string(member_id.to_owned()))
}

impl Group {
    pub fn join(&mut self, join: Joining, now: Instant) -> Reply<JoinGroupResponse> {
        let id = join.member_id.clone();
        if !self.supports(&join) {
            return Reply::Now(refused(E::InconsistentGroupProtocol, &id));
        }
        if id.is_empty() {
            return self.join_new(join, now);
        }
        if let Some(instance) = &join.instance_id {
            match self.statics.get(instance) {
                Some(current) if *current != id => return Reply::Now(refused(E::FencedInstanceId, &id)),
                Some(_) => {}
                None => return Reply::Now(refused(E::UnknownMemberId, &id)),
            }
        }
        if self.pending.remove(&id).is_some() {
            return self.admit(id, join, now);
        }
        let Some(member) = self.members.get(&id) else {
            return Reply::Now(refused(E::UnknownMemberId, &id));
        };
        let same = member.protocols == join.protocols;
        let leads = self.leader.as_deref() == Some(id.as_str());
        match self.state {
            GroupState::CompletingRebalance if same => Reply::Now(self.current(&id, false)),
            GroupState::Stable if same && !leads => Reply::Now(self.current(&id, false)),
            GroupState::Empty => Reply::Now(refused(E::UnknownMemberId, &id)),
            _ => {
                let answer = self.park(&id, join, now);
                self.prepare_rebalance(now, Duration::ZERO);
                self.maybe_complete(now);
                Reply::Later(answer)
            }
        }
    }

    fn join_new(&mut self, join: Joining, now: Instant) -> Reply<JoinGroupResponse> {
        let prefix = join.instance_id.as_deref().unwrap_or(&join.client_id);
        let id = format!("{prefix}-{}", Uuid::new_v4());
        if let Some(old) = join.instance_id.as_ref().and_then(|i| self.statics.get(i).cloned()) {
            return self.replace_static(&old, id, join, now);
        }
        if join.instance_id.is_none() && join.requires_member_id {
            self.pending.insert(id.clone(), now + join.session_timeout);
            return Reply::Now(refused(E::MemberIdRequired, &id));
        }
        self.admit(id, join, now)
    }

    fn admit(&mut self, id: String, join: Joining, now: Instant) -> Reply<JoinGroupResponse> {
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.protocol_type.get_or_insert_with(|| join.protocol_type.clone());
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        let delay = join.initial_delay;
        self.joined += 1;
        self.members.insert(
            id.clone(),
            Member {
                instance_id: join.instance_id.clone(),
                client_id: join.client_id.clone(),
                client_host: join.client_host.clone(),
                protocols: Vec::new(),
                assignment: Bytes::new(),
                session_timeout: join.session_timeout,
                rebalance_timeout: join.rebalance_timeout,
                session_ends: now + join.session_timeout,
                order: self.joined,
                synced: false,
                joining: None,
                syncing: None,
            },
        );
        self.leader.get_or_insert_with(|| id.clone());
        let answer = self.park(&id, join, now);
        self.prepare_rebalance(now, delay);
        self.maybe_complete(now);
        Reply::Later(answer)
    }

    /// A static member that comes back without its id takes the place of its former self (KIP-345).
    fn replace_static(&mut self, old: &str, id: String, join: Joining, now: Instant) -> Reply<JoinGroupResponse> {
        let Some(mut member) = self.members.remove(old) else { return self.admit(id, join, now) };
        if let Some(waiting) = member.joining.take() {
            let _ = waiting.send(refused(E::FencedInstanceId, old)); // its connection may have gone
        }
        if let Some(waiting) = member.syncing.take() {
            let _ = waiting.send(Err(E::FencedInstanceId)); // the same
        }
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        let was_leader = self.leader.as_deref() == Some(old);
        if was_leader {
            self.leader = Some(id.clone());
        }
        let skips = join.skips_assignment;
        let protocol = self.protocol.clone();
        let chosen = protocol.as_deref().map(|p| member.metadata(p));
        member.client_id.clone_from(&join.client_id);
        member.client_host.clone_from(&join.client_host);
        self.members.insert(id.clone(), member);
        let mut answer = self.park(&id, join, now);
        let unchanged = self.state == GroupState::Stable
            && self.choose_protocol() == protocol
            && protocol.as_deref().map(|p| self.members[&id].metadata(p)) == chosen;
        if !unchanged {
            self.prepare_rebalance(now, Duration::ZERO);
            self.maybe_complete(now);
            return Reply::Later(answer);
        }
        answer.close();
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = None;
        }
        let mut current = self.current(&id, skips && was_leader);
        if was_leader && !skips {
            // It must not assign: it is told that its former self leads.
            current.leader = StrBytes::from_string(old.to_owned());
            current.members.clear();
        }
        Reply::Now(current)
    }

    fn supports(&self, join: &Joining) -> bool {
        if self.members.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let everybody_knows = |name: &String| self.members.values().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| everybody_knows(name))
    }

    fn park(&mut self, id: &str, join: Joining, now: Instant) -> oneshot::Receiver<JoinGroupResponse> {
        let (answer, wait) = oneshot::channel();
        if let Some(member) = self.members.get_mut(id) {
            member.protocols = join.protocols;
            member.session_timeout = join.session_timeout;
            member.rebalance_timeout = join.rebalance_timeout;
            member.session_ends = now + join.session_timeout;
            member.joining = Some(answer);
        }
        wait
    }

    /// The generation as it is, for a member that has nothing new to say.
    fn current(&self, id: &str, skip_assignment: bool) -> JoinGroupResponse {
        let text = |s: &str| StrBytes::from_string(s.to_owned());
        let leader = self.leader.as_deref().unwrap_or_default();
        let mut response = JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_leader(text(leader))
            .with_skip_assignment(skip_assignment)
            .with_member_id(text(id));
        if leader == id {
            let protocol = self.protocol.as_deref().unwrap_or_default();
            let member = |(id, m): (&String, &Member)| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(id))
                    .with_group_instance_id(m.instance_id.as_deref().map(text))
                    .with_metadata(m.metadata(protocol))
            };
            response.members = self.members.iter().map(member).collect();
        }
        response
    }

    fn prepare_rebalance(&mut self, now: Instant, initial_delay: Duration) {
        if self.state == GroupState::PreparingRebalance {
            return;
        }
        for member in self.members.values_mut() {
            member.synced = false;
            if let Some(waiting) = member.syncing.take() {
                let _ = waiting.send(Err(E::RebalanceInProgress)); // its connection may have gone
            }
        }
        self.initial = self.state == GroupState::Empty;
        self.state = GroupState::PreparingRebalance;
        self.sync_ends = None;
        let patience = if self.initial { initial_delay } else { self.rebalance_timeout() };
        self.rebalance_ends = Some(now + patience);
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|m| m.rebalance_timeout).max().unwrap_or_default()
    }

    fn maybe_complete(&mut self, now: Instant) {
        let everybody = self.members.values().all(|m| m.joining.is_some()) && self.pending.is_empty();
        if self.state == GroupState::PreparingRebalance && !self.initial && everybody {
            self.complete_join(now);
        }
    }

    /// The next generation begins, without the dynamic members that did not rejoin.
    fn complete_join(&mut self, now: Instant) {
        self.initial = false;
        let late = |m: &Member| m.joining.is_none() && m.instance_id.is_none();
        self.members.retain(|_, m| !late(m));
        let joined = |m: &Member| m.joining.is_some();
        let leader_joined = self.leader.as_ref().and_then(|l| self.members.get(l)).is_some_and(joined);
        if !leader_joined {
            let next = self.members.iter().filter(|(_, m)| joined(m)).min_by_key(|(_, m)| m.order);
            match next.map(|(id, _)| id.clone()) {
                Some(id) => self.leader = Some(id),
                None if self.members.is_empty() => self.leader = None,
                // Only static members, none of them back: another round.
                None => return self.rebalance_ends = Some(now + self.rebalance_timeout()),
            }
        }
        self.rebalance_ends = None;
        self.generation += 1;
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            self.protocol = None;
            return;
        }
        self.protocol = self.choose_protocol();
        self.state = GroupState::CompletingRebalance;
        self.sync_ends = Some(now + self.rebalance_timeout());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.current(&id, false);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.synced = false;
            member.session_ends = now + member.session_timeout;
            if let Some(waiting) = member.joining.take() {
                let _ = waiting.send(answer); // its connection may have gone
            }
        }
    }

    /// Each member votes for the first of its protocols that all know.
    fn choose_protocol(&self) -> Option<String> {
        let known_by_all = |name: &String| self.members.values().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        let mut votes: BTreeMap<&String, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known_by_all(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|&(_, n)| n).map(|(name, _)| name.clone())
    }

    /// `validateMember` and the generation, as Heartbeat, SyncGroup and OffsetCommit check them.
    pub fn check(&self, id: &str, instance: Option<&str>, generation: i32) -> Result<(), E> {
        self.check_member(id, instance)?;
        if generation == self.generation { Ok(()) } else { Err(E::IllegalGeneration) }
    }

    fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), E> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(E::UnknownMemberId),
                Some(current) if current != id => return Err(E::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(E::UnknownMemberId) }
    }

    /// The member is alive.
    pub fn touch(&mut self, id: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(id) {
            member.session_ends = now + member.session_timeout;
        }
    }

    pub fn heartbeat(&mut self, id: &str, instance: Option<&str>, generation: i32, now: Instant) -> Result<(), E> {
        self.check(id, instance, generation)?;
        self.touch(id, now);
        if self.state == GroupState::PreparingRebalance { Err(E::RebalanceInProgress) } else { Ok(()) }
    }

    pub fn sync(
        &mut self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        assignments: impl Iterator<Item = (String, Bytes)>,
        now: Instant,
    ) -> Reply<Result<Bytes, E>> {
        if let Err(error) = self.check(id, instance, generation) {
            return Reply::Now(Err(error));
        }
        self.touch(id, now);
        match self.state {
            GroupState::Empty => return Reply::Now(Err(E::UnknownMemberId)),
            GroupState::PreparingRebalance => return Reply::Now(Err(E::RebalanceInProgress)),
            GroupState::CompletingRebalance | GroupState::Stable => {}
        }
        let leads = self.leader.as_deref() == Some(id);
        let Some(member) = self.members.get_mut(id) else { return Reply::Now(Err(E::UnknownMemberId)) };
        member.synced = true;
        if self.state == GroupState::Stable {
            return Reply::Now(Ok(member.assignment.clone()));
        }
        let (answer, wait) = oneshot::channel();
        member.syncing = Some(answer);
        if leads {
            let mut assignments: HashMap<String, Bytes> = assignments.collect();
            self.state = GroupState::Stable;
            for (id, member) in &mut self.members {
                member.assignment = assignments.remove(id).unwrap_or_default();
                if let Some(waiting) = member.syncing.take() {
                    member.session_ends = now + member.session_timeout;
                    let _ = waiting.send(Ok(member.assignment.clone())); // its connection may have gone
                }
            }
        }
        Reply::Later(wait)
    }

    /// LeaveGroup of one member: by its id, or by its instance id.
    pub fn leave(&mut self, id: &str, instance: Option<&str>, now: Instant) -> Result<(), E> {
        let id = match instance {
            None if self.pending.remove(id).is_some() => {
                self.maybe_complete(now);
                return Ok(());
            }
            Some(instance) if id.is_empty() => self.statics.get(instance).cloned().ok_or(E::UnknownMemberId)?,
            _ => id.to_owned(),
        };
        self.check_member(&id, instance)?;
        self.remove(&id, now);
        Ok(())
    }

    fn remove(&mut self, id: &str, now: Instant) {
        let Some(mut member) = self.members.remove(id) else { return };
        if let Some(instance) = &member.instance_id {
            self.statics.remove(instance);
        }
        if let Some(waiting) = member.joining.take() {
            let _ = waiting.send(refused(E::UnknownMemberId, id)); // its connection may have gone
        }
        if let Some(waiting) = member.syncing.take() {
            let _ = waiting.send(Err(E::UnknownMemberId)); // the same
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.iter().min_by_key(|(_, m)| m.order).map(|(id, _)| id.clone());
        }
        if self.state != GroupState::Empty {
            self.prepare_rebalance(now, Duration::ZERO);
            self.maybe_complete(now);
        }
    }

    /// Does what is due, and says when to come back.
    pub fn expire(&mut self, now: Instant) -> Option<Instant> {
        let silent = |m: &Member| m.joining.is_none() && m.syncing.is_none() && m.session_ends <= now;
        let unsynced = self.sync_ends.is_some_and(|at| at <= now);
        if unsynced {
            self.sync_ends = None;
        }
        let gone = |m: &Member| silent(m) || (unsynced && !m.synced);
        let gone: Vec<String> = self.members.iter().filter(|(_, m)| gone(m)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id, now);
        }
        let pending = self.pending.len();
        self.pending.retain(|_, ends| *ends > now);
        if self.pending.len() != pending {
            self.maybe_complete(now);
        }
        if self.rebalance_ends.is_some_and(|at| at <= now) {
            self.complete_join(now);
        }
        let sessions = self.members.values().filter(|m| m.joining.is_none() && m.syncing.is_none());
        let sessions = sessions.map(|m| m.session_ends);
        sessions.chain(self.pending.values().copied()).chain(self.rebalance_ends).chain(self.sync_ends).min()
    }
}
