//! JoinGroup (11), SyncGroup (14), Heartbeat (12), LeaveGroup (13): forwarded to the coordinator on the group's home, and
//! answered as it answers.
//!
//! While a group is on its way to another home (PROTOCOL.md section 6) its members' heartbeats still go to the old one, and a
//! good answer becomes REBALANCE_IN_PROGRESS; JoinGroups wait here, their sessions kept alive, and go to where the group is
//! at home when the move has ended. At a new home every member is a new one, so its id of before is not sent along, and the
//! MEMBER_ID_REQUIRED that a coordinator has for new members is dealt with here: clients take the id of the answer. Whatever
//! else comes with an id of before the move is answered here (rule 30).

use std::time::Duration;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, RequestKind, ResponseKind, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::groups::{enter, lost_code, note_error};
use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::groups::commits::UnderWay;
use crate::groups::moves::{Joining, Ticket};
use crate::upstream::Lane;

/// So long the members of a group that has moved wait for each other at the new home, and so long between two looks.
const TOGETHER_MOST: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// No JoinGroup waits here for longer: sarama gives up after 30 s. Its client comes back at once.
const HELD_MOST: Duration = Duration::from_secs(20);
/// From this version on members leave by the list.
const LEAVE_MANY: i16 = 3;

pub struct Membership {
    request: RequestKind,
    held: Option<Held>,
    /// The group has moved, and this is a member of it that comes to the new home.
    arriving: Option<Arriving>,
    /// When a JoinGroup has waited for long enough, over all attempts of a move.
    until: Option<Instant>,
    /// A JoinGroup or SyncGroup that is with the coordinator: the group does not move before its answer.
    under_way: Option<UnderWay>,
    /// The group has moved since the client got its id: what it gets now is the new home's to give.
    anew: bool,
    /// Members of before the move in a LeaveGroup: they have left already.
    former: Vec<MemberIdentity>,
}

/// A member at the new home: it is told of a generation when all that moved with it are in it.
struct Arriving {
    ticket: Ticket,
    until: Instant,
    /// Of a generation that may lack some of them.
    answer: Option<JoinGroupResponse>,
}

/// A JoinGroup that waits.
struct Held {
    ticket: Ticket,
    /// When its session at the old home is to be kept alive next, and how often.
    heartbeat_at: Instant,
    every: Duration,
}

impl Membership {
    pub fn new(request: RequestKind) -> Self {
        Self { request, held: None, arriving: None, until: None, under_way: None, anew: false, former: vec![] }
    }

    fn start(&mut self, cx: &Context<'_>) -> Step {
        match &self.request {
            RequestKind::JoinGroup(join) => {
                // Read before it is looked whether there is a move: one that ends in between is not missed.
                let ended = cx.shared.moves.ended();
                if let Some(ticket) = cx.shared.moves.hold(&join.group_id, joining(join)) {
                    // Three times within the session, as clients do.
                    let every = (millis(join.session_timeout_ms) / 3).max(Duration::from_secs(1));
                    self.until.get_or_insert(cx.now + HELD_MOST);
                    self.held = Some(Held { ticket, heartbeat_at: cx.now + every, every });
                    return self.wait(ended);
                }
                self.join(cx)
            }
            RequestKind::LeaveGroup(leave) => {
                self.former = former(cx, leave);
                let gone = &self.former;
                if let RequestKind::LeaveGroup(leave) = &mut self.request
                    && !gone.is_empty()
                {
                    if leave.members.len() == gone.len() || cx.version < LEAVE_MANY {
                        return Step::Answer(self.left(LeaveGroupResponse::default(), cx.version).into());
                    }
                    leave.members.retain(|m| !gone.contains(m));
                }
                self.ask(cx, self.request.clone())
            }
            other if is_former(cx, other) => Step::Answer(rejoin(other)),
            other => self.ask(cx, other.clone()),
        }
    }

    /// To where the group is at home now.
    fn join(&mut self, cx: &Context<'_>) -> Step {
        let mut request = self.request.clone();
        if let RequestKind::JoinGroup(join) = &mut request
            && cx.shared.homes.was_member(&join.group_id, &join.member_id)
        {
            join.member_id = StrBytes::default();
            self.anew = true;
        }
        self.ask(cx, request)
    }

    fn ask(&mut self, cx: &Context<'_>, request: RequestKind) -> Step {
        let Some((group, lane)) = group_of(&request) else { return Step::Close("no request of a member".to_owned()) };
        if lane == Lane::Rebalance && self.under_way.is_none() {
            match enter(cx, group) {
                Ok(entered) => self.under_way = Some(entered),
                Err(wait) => return wait.into(),
            }
        }
        let (home, group) = (cx.shared.homes.of(group), group.clone());
        Step::Ask(vec![Ask { lane, ..Ask::coordinator(home, &group, request) }])
    }

    fn wait(&self, ended: u64) -> Step {
        match (&self.held, self.until) {
            (Some(held), Some(until)) => {
                Step::AwaitMoveEnd { newer_than: ended, deadline: until.min(held.heartbeat_at) }
            }
            _ => Step::Close("nothing to wait for".to_owned()),
        }
    }

    /// A JoinGroup that waits was woken.
    fn woken(&mut self, cx: &Context<'_>) -> Step {
        let ended = cx.shared.moves.ended();
        if self.arriving.as_ref().is_some_and(|arriving| arriving.answer.is_some()) {
            return self.look_for_others(cx);
        }
        let (Some(held), RequestKind::JoinGroup(join)) = (&mut self.held, &self.request) else { return self.start(cx) };
        if held.ticket.is_gone() {
            // Its member has left meanwhile, or has sent another one.
            return Step::Answer(lost(&self.request, cx.version, code::UNKNOWN_MEMBER_ID));
        }
        if !held.ticket.is_waiting() {
            let held = self.held.take();
            if let Some(Held { ticket, .. }) = held.filter(|held| held.ticket.is_moved()) {
                self.arriving = Some(Arriving { ticket, until: cx.now + TOGETHER_MOST, answer: None });
                return self.join(cx);
            }
            // Another move may have begun by now.
            return self.start(cx);
        }
        if self.until.is_some_and(|until| cx.now >= until) {
            self.held = None;
            return Step::Answer(lost(&self.request, cx.version, code::NOT_COORDINATOR));
        }
        if cx.now >= held.heartbeat_at {
            held.heartbeat_at = cx.now + held.every;
            if let Some(heartbeat) = keep_alive(cx, join) {
                return self.ask(cx, heartbeat);
            }
        }
        self.wait(ended)
    }

    /// A member at the new home was woken: are all others in its generation now?
    fn look_for_others(&mut self, cx: &Context<'_>) -> Step {
        let Some(arriving) = &mut self.arriving else { return self.start(cx) };
        let Some(answer) = arriving.answer.take() else { return self.start(cx) };
        if arriving.ticket.all_have_arrived() || cx.now >= arriving.until {
            return Step::Answer(answer.into());
        }
        // A coordinator waits for members that it knows: once more, now that it may know the others.
        arriving.ticket.joins();
        let mut request = self.request.clone();
        if let RequestKind::JoinGroup(join) = &mut request {
            join.member_id = answer.member_id;
        }
        self.ask(cx, request)
    }

    fn hear(&mut self, cx: &Context<'_>, answers: Answers) -> Step {
        let answer = answers.into_iter().next();
        let Some((group, _)) = group_of(&self.request) else { return Step::Close("no request of a member".to_owned()) };
        if let (Some(_), RequestKind::JoinGroup(join)) = (&self.held, &self.request) {
            // Its session, which is kept alive.
            if let Some(Ok(ResponseKind::Heartbeat(answer))) = &answer {
                note_error(cx, group, answer.error_code);
                disturb(cx, group, &join.member_id, answer.error_code);
            }
            return self.woken(cx);
        }
        let error = lost_code(answer.as_ref());
        let answer = answer.and_then(Result::ok).unwrap_or_else(|| lost(&self.request, cx.version, error));
        note_error(cx, group, error_of(&answer));
        Step::Answer(match (&self.request, answer) {
            (RequestKind::JoinGroup(join), ResponseKind::JoinGroup(answer)) => {
                if self.anew && answer.error_code == code::MEMBER_ID_REQUIRED {
                    let mut join = join.clone();
                    join.member_id = answer.member_id;
                    return self.ask(cx, join.into());
                }
                if let Some(arriving) = self.arriving.as_mut().filter(|_| answer.error_code == code::NONE) {
                    let complete = arriving.ticket.arrives(answer.generation_id);
                    if !complete && cx.now < arriving.until {
                        arriving.answer = Some(answer);
                        return Step::AwaitMoveEnd {
                            newer_than: cx.shared.moves.ended(),
                            deadline: cx.now + LOOK_AGAIN,
                        };
                    }
                }
                answer.into()
            }
            // The group has moved while it was asked.
            (request, answer) if error_of(&answer) != code::NONE && is_former(cx, request) => rejoin(request),
            (RequestKind::Heartbeat(beat), ResponseKind::Heartbeat(answer)) => heartbeat(cx, beat, answer).into(),
            (RequestKind::LeaveGroup(leave), ResponseKind::LeaveGroup(answer)) => {
                if answer.error_code == code::NONE {
                    cx.shared.moves.left(&leave.group_id, &gone(leave, &answer, cx.version));
                }
                self.left(answer, cx.version).into()
            }
            (_, answer) => answer,
        })
    }

    /// With those of before the move, who have left already.
    fn left(&self, mut answer: LeaveGroupResponse, version: i16) -> LeaveGroupResponse {
        if version >= LEAVE_MANY {
            answer.members.extend(self.former.iter().map(|m| {
                let member = MemberResponse::default().with_member_id(m.member_id.clone());
                member.with_group_instance_id(m.group_instance_id.clone())
            }));
        }
        answer
    }
}

impl Machine for Membership {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Start => self.start(cx),
            Input::Woken => self.woken(cx),
            Input::Answers(answers) => self.hear(cx, answers),
        }
    }
}

fn joining(join: &JoinGroupRequest) -> Joining {
    // v0 has one time for both.
    let ms = if join.rebalance_timeout_ms >= 0 { join.rebalance_timeout_ms } else { join.session_timeout_ms };
    Joining {
        member_id: join.member_id.to_string(),
        instance_id: join.group_instance_id.as_ref().map(ToString::to_string),
        rebalance_timeout: millis(ms),
    }
}

/// What keeps the session of a member alive whose JoinGroup waits. `None`: it has none, or its generation is not known.
fn keep_alive(cx: &Context<'_>, join: &JoinGroupRequest) -> Option<RequestKind> {
    let generation = cx.shared.moves.generation(&join.group_id).filter(|_| !join.member_id.is_empty())?;
    let heartbeat = HeartbeatRequest::default()
        .with_group_id(join.group_id.clone())
        .with_member_id(join.member_id.clone())
        .with_generation_id(generation)
        .with_group_instance_id(join.group_instance_id.clone());
    Some(heartbeat.into())
}

/// What the old home says of a member while its group is on its way: any error means that it has begun something itself.
fn disturb(cx: &Context<'_>, group: &str, member: &str, error: i16) {
    let why = match error {
        code::REBALANCE_IN_PROGRESS => "the old home has begun a rebalance of its own".to_owned(),
        code::UNKNOWN_MEMBER_ID | code::ILLEGAL_GENERATION => format!("the old home has dropped member {member}"),
        _ => return,
    };
    cx.shared.moves.disturb(group, why);
}

fn heartbeat(cx: &Context<'_>, beat: &HeartbeatRequest, mut answer: HeartbeatResponse) -> HeartbeatResponse {
    let group = beat.group_id.as_str();
    if answer.error_code == code::NONE {
        cx.shared.heard.beat(group, &beat.member_id, beat.generation_id);
    }
    if !cx.shared.moves.is_moving(group) {
        return answer;
    }
    if answer.error_code == code::NONE {
        cx.shared.moves.heard(group, &beat.member_id, beat.generation_id);
        answer.error_code = code::REBALANCE_IN_PROGRESS;
    } else {
        disturb(cx, group, &beat.member_id, answer.error_code);
    }
    answer
}

/// What a client of before the move is told: join again. Unlike UNKNOWN_MEMBER_ID it costs it no assignment before it could
/// commit.
fn rejoin(request: &RequestKind) -> ResponseKind {
    match request {
        RequestKind::SyncGroup(_) => SyncGroupResponse::default().with_error_code(code::REBALANCE_IN_PROGRESS).into(),
        _ => HeartbeatResponse::default().with_error_code(code::REBALANCE_IN_PROGRESS).into(),
    }
}

fn is_former(cx: &Context<'_>, request: &RequestKind) -> bool {
    match request {
        RequestKind::SyncGroup(r) => cx.shared.homes.was_member(&r.group_id, &r.member_id),
        RequestKind::Heartbeat(r) => cx.shared.homes.was_member(&r.group_id, &r.member_id),
        _ => false,
    }
}

/// Who has left by this request, as every version has it.
fn gone(leave: &LeaveGroupRequest, answer: &LeaveGroupResponse, version: i16) -> Vec<(String, Option<String>)> {
    if version < LEAVE_MANY {
        return vec![(leave.member_id.to_string(), None)];
    }
    let left = answer.members.iter().filter(|m| m.error_code == code::NONE);
    left.map(|m| (m.member_id.to_string(), m.group_instance_id.as_ref().map(ToString::to_string))).collect()
}

fn former(cx: &Context<'_>, leave: &LeaveGroupRequest) -> Vec<MemberIdentity> {
    let was_member = |id: &StrBytes| cx.shared.homes.was_member(&leave.group_id, id);
    if cx.version < LEAVE_MANY {
        let one = MemberIdentity::default().with_member_id(leave.member_id.clone());
        return if was_member(&leave.member_id) { vec![one] } else { vec![] };
    }
    leave.members.iter().filter(|m| was_member(&m.member_id)).cloned().collect()
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// The one group of a member's request, and the connection it takes: joins wait for the other members.
fn group_of(request: &RequestKind) -> Option<(&GroupId, Lane)> {
    match request {
        RequestKind::JoinGroup(r) => Some((&r.group_id, Lane::Rebalance)),
        RequestKind::SyncGroup(r) => Some((&r.group_id, Lane::Rebalance)),
        RequestKind::Heartbeat(r) => Some((&r.group_id, Lane::Ordinary)),
        RequestKind::LeaveGroup(r) => Some((&r.group_id, Lane::Ordinary)),
        _ => None,
    }
}

fn error_of(answer: &ResponseKind) -> i16 {
    match answer {
        ResponseKind::JoinGroup(a) => a.error_code,
        ResponseKind::SyncGroup(a) => a.error_code,
        ResponseKind::Heartbeat(a) => a.error_code,
        ResponseKind::LeaveGroup(a) => a.error_code,
        _ => code::NONE,
    }
}

/// The answer to a member whose coordinator was lost.
fn lost(request: &RequestKind, version: i16, error: i16) -> ResponseKind {
    match request {
        RequestKind::JoinGroup(r) => ResponseKind::JoinGroup(
            JoinGroupResponse::default()
                .with_error_code(error)
                .with_generation_id(-1)
                // Not nullable before v7.
                .with_protocol_name((version < 7).then(StrBytes::default))
                .with_member_id(r.member_id.clone()),
        ),
        RequestKind::SyncGroup(_) => ResponseKind::SyncGroup(SyncGroupResponse::default().with_error_code(error)),
        RequestKind::LeaveGroup(_) => ResponseKind::LeaveGroup(LeaveGroupResponse::default().with_error_code(error)),
        _ => ResponseKind::Heartbeat(HeartbeatResponse::default().with_error_code(error)),
    }
}
