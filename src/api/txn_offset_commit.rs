//! TxnOffsetCommit (28), v0 to v5: positions that take effect with a transaction, at the group's coordinator, each in the
//! home's terms as OffsetCommit has it; the producer id native. An id and the groups that it carries are at home on the same
//! side: at a switch the group moves, then the id's next transaction begins there. v5 adds the group to the transaction by itself
//! (KIP-890), so that it may begin with this, too (`following`).

use std::time::Duration;

use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::{RequestKind, ResponseKind, TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::beginning::Protocol;
use super::following::{Following, Turn, is_behind};
use super::groups::{enter, lost_code, note_error};
use super::offset_commit::at_home;
use super::transactions::native;
use super::{Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::groups::commits::UnderWay;
use crate::ids::{NO_EPOCH, Side};
use crate::producers::homes::Claim;
use crate::store::Event;
use crate::virtual_cluster::versions::SECOND_PROTOCOL;
use crate::wire::refusal;

pub struct TxnOffsetCommit {
    request: TxnOffsetCommitRequest,
    following: Following,
    /// Neither the group nor the id moves before this has its answer.
    under_way: Option<UnderWay>,
    share: Option<Claim>,
    /// Until when it waits for its group to follow.
    until: Option<Instant>,
}

/// Clients send a heartbeat every three seconds, if they are not told otherwise.
const TOLD: Duration = Duration::from_secs(5);
/// Between two looks whether a member was told.
const LOOK: Duration = Duration::from_millis(50);

impl TxnOffsetCommit {
    pub fn new(request: TxnOffsetCommitRequest) -> Self {
        Self { request, following: Following::default(), under_way: None, share: None, until: None }
    }

    fn at_home(&self, cx: &Context<'_>) -> TxnOffsetCommitRequest {
        let mut request = self.request.clone();
        for topic in &mut request.topics {
            for partition in &mut topic.partitions {
                let TxnOffsetCommitRequestPartition { partition_index, committed_offset, committed_metadata, .. } =
                    &*partition;
                let metadata = committed_metadata.as_deref();
                let group = &self.request.group_id;
                let stored = at_home(cx, group, (&topic.name, *partition_index), *committed_offset, metadata);
                partition.committed_offset = stored.offset;
                partition.committed_metadata = stored.metadata.map(StrBytes::from_string);
                partition.committed_leader_epoch = NO_EPOCH;
            }
        }
        request
    }

    fn refused(&self, cx: &Context<'_>, error: i16) -> ResponseKind {
        let request = RequestKind::TxnOffsetCommit(self.request.clone());
        refusal(&request, cx.version, error, None).unwrap_or_else(|| TxnOffsetCommitResponse::default().into())
    }
}

impl TxnOffsetCommit {
    fn follow(&mut self, cx: &Context<'_>, turn: Turn) -> Step {
        match turn {
            Turn::Step(step) => step,
            Turn::Go => self.start(cx, true),
            Turn::Abort => Step::Answer(self.refused(cx, code::TRANSACTION_ABORTABLE)),
            // No client knows this word here; the other one means the same.
            Turn::Refused(code::CONCURRENT_TRANSACTIONS) => {
                Step::Answer(self.refused(cx, code::COORDINATOR_LOAD_IN_PROGRESS))
            }
            Turn::Refused(error) => Step::Answer(self.refused(cx, error)),
        }
    }

    fn start(&mut self, cx: &Context<'_>, has_followed: bool) -> Step {
        let (id, group) = (&self.request.transactional_id, &self.request.group_id);
        let named = (self.request.producer_id, self.request.producer_epoch);
        let (pid, epoch) = match native(cx, id, named, i16::MAX) {
            Ok(native) => native,
            Err(error) => return Step::Answer(self.refused(cx, error)),
        };
        // Before it is sent: its answer may be lost, and the transaction committed all the same. And whoever moves the group
        // takes the id along: that is known after a crash, too.
        if cx.shared.transactions.carries(id, group, cx.now_ms) && cx.shared.any_prepared() {
            let topics = cx.shared.transactions.topics_of(id);
            let (id, group) = (id.to_string(), group.to_string());
            return Step::Decide(Box::new(Event::TransactionCarries { id, group, topics }), None);
        }
        match enter(cx, group) {
            Ok(entered) => self.under_way = Some(entered),
            Err(wait) => return wait.into(),
        }
        let may_begin = cx.version >= SECOND_PROTOCOL;
        if may_begin && !has_followed && is_behind(cx, id, group) {
            // The way there takes as long as it takes, and the group may move meanwhile.
            self.under_way = None;
            let turn = self.following.start(cx, id, (named.0.0, named.1), Protocol::Second);
            return self.follow(cx, turn);
        }
        let side = cx.shared.transactional_homes.of(id);
        if cx.shared.homes.of(group) != side {
            self.under_way = None;
            if let Some(wait) = self.wait_for_group(cx) {
                return wait;
            }
            return Step::Answer(self.refused(cx, self.elsewhere(cx, side)));
        }
        if may_begin {
            self.share = cx.shared.transactional_homes.share(id);
            if self.share.is_none() {
                return Step::Answer(self.refused(cx, code::COORDINATOR_LOAD_IN_PROGRESS));
            }
        }
        let request = self.at_home(cx).with_producer_id(pid).with_producer_epoch(epoch);
        Step::Ask(vec![Ask::coordinator(side, group, RequestKind::TxnOffsetCommit(request))])
    }

    /// The id was ahead: it began while nobody knew of its group, which follows now. With a rebalance, for which a member must not
    /// wait here; but before it knows of it, it would only begin anew, again and again.
    fn wait_for_group(&mut self, cx: &Context<'_>) -> Option<Step> {
        let (group, member) = (&self.request.group_id, &self.request.member_id);
        if cx.shared.homes.has_moved(group) || !is_any_late(cx) || cx.shared.moves.was_told(group, member) {
            return None;
        }
        let until = *self.until.get_or_insert(cx.now + TOLD);
        let wait = Step::AwaitMoveEnd { newer_than: cx.shared.moves.ended(), deadline: until.min(cx.now + LOOK) };
        (cx.now < until).then_some(wait)
    }

    /// The group is at home on the other side than the transaction.
    fn elsewhere(&self, cx: &Context<'_>, side: Side) -> i16 {
        let (id, group) = (&self.request.transactional_id, &self.request.group_id);
        // It has left with a rebalance, and this is of before; or it is about to follow with one. What every client has for that.
        if cx.shared.homes.has_moved(group) || is_any_late(cx) {
            return code::ILLEGAL_GENERATION;
        }
        if cx.shared.alarms.is_first(format!("transactions of {} with group {}", id.as_str(), group.as_str())) {
            tracing::warn!(transactional_id = %id.as_str(), group = %group.as_str(), transaction = %side,
                "a transaction carries positions of a group that is at home on the other side: refused; run `switch groups`");
        }
        code::GROUP_AUTHORIZATION_FAILED
    }
}

/// Whether some migration waits for transactions, and for the groups of their producers.
fn is_any_late(cx: &Context<'_>) -> bool {
    cx.partitions.topics.values().any(|states| states.iter().any(|s| s.map.is_late()))
}

impl Machine for TxnOffsetCommit {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let answers = match input {
            input if self.following.is_under_way() => {
                let turn = self.following.step(cx, input);
                return self.follow(cx, turn);
            }
            Input::Answers(answers) => answers,
            Input::Start | Input::Woken => return self.start(cx, false),
        };
        self.share = None;
        let group = &self.request.group_id;
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let Some(Ok(ResponseKind::TxnOffsetCommit(answer))) = answer else {
            note_error(cx, group, error);
            return Step::Answer(self.refused(cx, error));
        };
        for partition in answer.topics.iter().flat_map(|t| &t.partitions) {
            note_error(cx, group, partition.error_code);
        }
        Step::Answer(answer.into())
    }
}
