//! The ends that a client is shown: high watermark, last stable offset, log start, all virtual.

use super::lanes::{Key, Lanes};
use super::{Gather, Wanted};
use crate::api::Context;
use crate::ids::{NONE, Side, VOffset, Virtual};
use crate::routing::PartitionState;
use crate::wire::fetch::PartitionFetched;

impl Gather {
    /// The ends of a partition that brings no records. One that equals the reader's position says "nothing more" to it
    /// (librdkafka: PARTITION_EOF), so that needs a broker's word to this client, not what others have heard.
    pub(super) fn untouched_ends(
        &self,
        state: &PartitionState,
        lanes: &Lanes,
        wanted: &Wanted,
        answer: &mut PartitionFetched,
    ) {
        let (high_watermark, last_stable) = visible_ends(state, None);
        let place = self.place(state, wanted.v);
        let is_end = lanes.is_at_end(&wanted.key, place.side, place.native);
        // In a hold everybody is shown the same end.
        let hidden = state.hidden_from().is_some();
        let believed = |end: VOffset| hidden || end > wanted.v || end == wanted.v && is_end;
        if believed(high_watermark) {
            answer.high_watermark = high_watermark.0;
            answer.last_stable_offset = if believed(last_stable) { last_stable.0 } else { NONE };
        }
        answer.log_start_offset = state.map.virtual_log_start(state.live.log_starts()).0;
    }
}

/// What a broker's answer says of them.
pub(super) fn hear_ends(cx: &Context<'_>, side: Side, part: &Key, answer: &PartitionFetched) {
    if let Some(state) = cx.partitions.get(&part.0, part.1) {
        let last_stable = answer.last_stable_offset.max(-1);
        state.live.heard(side, answer.high_watermark, last_stable, answer.log_start_offset);
    }
}

/// The virtual ends behind records that are delivered up to `next`.
pub(super) fn delivered_ends(state: &PartitionState, next: VOffset, answer: &mut PartitionFetched) {
    let (high_watermark, last_stable) = visible_ends(state, Some(next));
    answer.high_watermark = high_watermark.0;
    answer.last_stable_offset = last_stable.0;
    answer.log_start_offset = state.map.virtual_log_start(state.live.log_starts()).0;
}

/// High watermark and last stable offset, as brokers have told them; what is shown here counts as shown when a seal
/// freezes the end.
fn visible_ends(state: &PartitionState, delivered: Option<VOffset>) -> (VOffset, VOffset) {
    let live = &state.live;
    let heard = state.map.high_watermark(live.high_watermarks());
    let mut high_watermark = delivered.map_or(heard, |next| heard.max(next));
    let mut last_stable = state.map.last_stable(live.last_stables()).max(Virtual(0)).min(high_watermark);
    if let Some(end) = state.hidden_from() {
        high_watermark = high_watermark.min(end);
        last_stable = last_stable.min(end);
    }
    if !state.held {
        live.show(high_watermark);
    }
    (high_watermark, last_stable)
}
