//! Groups of KIP-848: who is in one, and leaving for others.

use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, GroupId, RequestKind, ResponseKind,
};

use super::groups::{Described, Member, NOT_THERE};
use super::{another_answer, text};
use crate::error::code;
use crate::upstream::admin::{Admin, AdminError};

/// The member epoch of a heartbeat that says good-bye for good, also for a static member.
const LEAVES: i32 = -1;
/// A member of the classic protocol in such a group, as `ConsumerGroupDescribe` (v1) has it.
const CLASSIC_MEMBER: i8 = 0;

/// Who is in such a group, as its coordinator describes it. One that is not there has the state `Dead` and no members.
pub async fn describe(admin: &Admin, address: &str, group: &str) -> Result<Described, AdminError> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(group))]);
    let request = RequestKind::ConsumerGroupDescribe(request);
    let ResponseKind::ConsumerGroupDescribe(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let what = || format!("who is in group {group}");
    let missing = || AdminError::Refused { side: admin.side, what: what(), code: code::UNKNOWN_SERVER_ERROR };
    let described = answer.groups.into_iter().next().ok_or_else(missing)?;
    match described.error_code {
        code::NONE => {}
        code::GROUP_ID_NOT_FOUND => return Ok(Described { state: NOT_THERE.to_owned(), ..Described::default() }),
        code => return Err(AdminError::Refused { side: admin.side, what: what(), code }),
    }
    let members = described.members.into_iter().map(|m| {
        let assigned = m.assignment.topic_partitions.iter().filter(|t| !t.partitions.is_empty());
        let topics: Vec<String> = assigned.map(|t| t.topic_name.to_string()).collect();
        let member = Member {
            instance_id: m.instance_id.map(|id| id.to_string()),
            client_id: m.client_id.to_string(),
            has_partitions: !topics.is_empty(),
            topics: topics.into_iter().chain(m.subscribed_topic_names.iter().map(|t| t.to_string())).collect(),
            is_classic: m.member_type == CLASSIC_MEMBER,
            epoch: m.member_epoch,
        };
        (m.member_id.to_string(), member)
    });
    Ok(Described { state: described.group_state.to_string(), members: members.collect() })
}

/// Takes members out of such a group, at its coordinator. Who is not there has left.
pub async fn leave(admin: &Admin, address: &str, group: &str, members: &[String]) -> Result<(), AdminError> {
    for member in members {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_member_id(text(member))
            .with_member_epoch(LEAVES);
        let request = RequestKind::ConsumerGroupHeartbeat(request);
        let ResponseKind::ConsumerGroupHeartbeat(answer) = admin.ask(address, &request).await? else {
            return Err(another_answer(admin, &request));
        };
        if !matches!(answer.error_code, code::NONE | code::UNKNOWN_MEMBER_ID | code::GROUP_ID_NOT_FOUND) {
            let what = format!("that members leave group {group}");
            return Err(AdminError::Refused { side: admin.side, what, code: answer.error_code });
        }
    }
    Ok(())
}
