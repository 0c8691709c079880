//! When a fetch is answered: `min_bytes` and `max_wait` over all brokers together.

use std::time::Duration;

use tokio::time::Instant;

use super::lanes::{Asked, LaneKey, LaneKind, Lanes};
use super::{Gather, Route, Wanted};
use crate::api::Context;
use crate::error::code;

/// What else is on its way from brokers that have more is waited for this long.
const OTHERS: Duration = Duration::from_millis(5);
/// An answer without records comes this soon while the client has records of other partitions in hand, of which there
/// are more: with one virtual node it cannot ask for those meanwhile. A read that is under way is waited for, `MARGIN`.
const TURN: Duration = Duration::from_millis(10);
/// A read that is under way when the client's time is over, or its turn, may take this much longer.
const MARGIN: Duration = Duration::from_millis(100);
/// The same if there is something to answer with already.
const SHORT_MARGIN: Duration = Duration::from_millis(50);

impl Gather {
    /// `None`: it is time to answer; else the moment to look again, if nothing arrives before.
    pub(super) fn verdict(&mut self, cx: &Context<'_>, lanes: &Lanes) -> Option<Instant> {
        let failed = |w: &Wanted| w.got.as_ref().is_some_and(|got| got.answer.error_code != code::NONE);
        if self.wanted.is_empty() || self.wanted.iter().any(failed) {
            return None;
        }
        let least = usize::try_from(self.request.min_bytes).unwrap_or(0);
        if self.has_enough() {
            let until = *self.enough_since.get_or_insert(cx.now) + OTHERS;
            let until = until.min(self.deadline);
            return (cx.now < until && !self.is_full() && self.comes_at_once(cx, lanes)).then_some(until);
        }
        let all = |has: fn(&Wanted) -> bool| self.wanted.iter().all(has);
        if least == 0 && all(|w| w.got.is_some() || w.answered) || self.bytes > 0 && all(|w| w.got.is_some()) {
            return None; // nobody is asked for more
        }
        let mut until = self.deadline;
        if lanes.works_on_others(&self.places, cx.now) {
            let reads = lanes.reads_any(&self.places, cx.now, MARGIN);
            until = until.min(self.since + if reads { MARGIN } else { TURN });
            if cx.now >= until {
                return None;
            }
        }
        if cx.now >= until {
            // The deadline is for waiting for more, not for the reading itself: long polls end with it, and what they bring
            // then would have to wait for the whole of the next fetch.
            let late = until + if self.bytes == 0 { MARGIN } else { SHORT_MARGIN };
            return (cx.now < late && self.is_unread(cx, lanes)).then_some(late);
        }
        let open = self.wanted.iter().filter(|w| w.got.is_none());
        let retry = open.flat_map(|w| [w.not_before, w.caught_up_until]).flatten();
        Some(retry.filter(|at| *at > cx.now).min().map_or(until, |at| at.min(until)))
    }

    /// Is there a partition with more that a broker is answering for right now?
    fn comes_at_once(&self, cx: &Context<'_>, lanes: &Lanes) -> bool {
        self.wanted.iter().filter(|w| w.got.is_none()).any(|w| match self.route(cx, lanes, w) {
            Route::To(key, place) if lanes.is_behind(&w.key, place.side, place.native) => {
                let ahead = LaneKey { kind: LaneKind::Ahead, ..key };
                [ahead, key].iter().any(|lane| lanes.asked(lane, &w.key, place.native).is_some())
            }
            _ => false,
        })
    }

    /// Has a partition been asked for without any broker's word on it yet, which is due by now? A broker that is overdue is
    /// waited for no more.
    fn is_unread(&self, cx: &Context<'_>, lanes: &Lanes) -> bool {
        self.wanted.iter().filter(|w| w.got.is_none()).any(|w| match self.route(cx, lanes, w) {
            Route::To(key, place) => {
                let fresh = |a: &Asked| !w.answered && self.bytes == 0 && cx.now < a.sent + MARGIN;
                let latest = if w.answered { self.deadline } else { self.deadline + MARGIN };
                let due = |a: &Asked| a.until <= latest && cx.now < a.until + MARGIN;
                [LaneKind::Ahead, LaneKind::Standing, LaneKind::Probe].iter().any(|kind| {
                    let lane = LaneKey { kind: *kind, ..key };
                    lanes.asked(&lane, &w.key, place.native).is_some_and(|a| fresh(a) || due(a))
                })
            }
            _ => false,
        })
    }
}
