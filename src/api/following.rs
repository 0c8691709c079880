//! How a transactional id follows the groups whose positions it carries (DESIGN.md sections 6 and 7): both are at home on the same
//! side, so where a group has moved, its id goes there with its next transaction, if that begins with the group's positions.

use super::beginning::{Client, Protocol};
use super::crossing::{self, Crossing};
use super::{Context, Input, Step};
use crate::error::code;

#[derive(Default, Debug)]
pub(super) struct Following {
    crossing: Option<Box<Crossing>>,
}

/// What is next.
#[allow(clippy::large_enum_variant, reason = "moved once, never stored")]
pub(super) enum Turn {
    Step(Step),
    Go,
    /// Its transaction began before the group moved: as with any rebalance in its midst, it is to be aborted.
    Abort,
    Refused(i16),
}

/// Whether its group has moved and it has not.
pub(super) fn is_behind(cx: &Context<'_>, id: &str, group: &str) -> bool {
    let is_elsewhere = cx.shared.homes.of(group) != cx.shared.transactional_homes.of(id);
    is_elsewhere && cx.shared.homes.has_moved(group) && Crossing::is_offered(cx)
}

impl Following {
    pub(super) fn is_under_way(&self) -> bool {
        self.crossing.is_some()
    }

    /// Of an id that is behind.
    pub(super) fn start(&mut self, cx: &Context<'_>, id: &str, client: Client, protocol: Protocol) -> Turn {
        let may_cross = Crossing::is_possible(cx, id, protocol);
        match Crossing::new(cx, id, client).map(|crossing| crossing.staying(!may_cross)) {
            Ok(crossing) => {
                self.crossing = Some(Box::new(crossing));
                self.step(cx, Input::Start)
            }
            Err(error) => Turn::Refused(error),
        }
    }

    pub(super) fn step(&mut self, cx: &Context<'_>, input: Input) -> Turn {
        let Some(crossing) = &mut self.crossing else { return Turn::Go };
        let turn = crossing.step(cx, input);
        if let crossing::Turn::Step(step) = turn {
            return Turn::Step(step);
        }
        self.crossing = None;
        match turn {
            crossing::Turn::Ongoing | crossing::Turn::Stays | crossing::Turn::Refused(code::TRANSACTION_ABORTABLE) => {
                Turn::Abort
            }
            crossing::Turn::Refused(error) => Turn::Refused(error),
            crossing::Turn::Unknown | crossing::Turn::Done | crossing::Turn::Step(_) => Turn::Go,
        }
    }
}
