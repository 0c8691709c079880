//! Which position does it mean: the splice map and every translation through it (DESIGN.md sections 3 and 6).
//! Pure: no clock, no IO; judged by a reference model in `tests/it/offsets.rs`.
//!
//! * `map`: the ordered list of segments that make up a partition's virtual log; where a virtual offset lies.
//! * `ends`: log start, high watermark, last stable offset, holes: what a partition's ends are in virtual terms.
//! * `exhausted`: when a reader may pass the end of a closed segment.
//! * `commit`, `trailer`: a committed offset on its home and back, through any later growth of the map.
//! * `translated`: one offset in everybody's terms, for readers that keep theirs outside Kafka.
//! * `list_offsets`: whom to ask for a position by time, and how the answers combine.
//! * `delete_records`: up to where each side's log is to be deleted.

pub mod commit;
pub mod delete_records;
pub mod ends;
pub mod exhausted;
pub mod list_offsets;
pub mod map;
pub mod trailer;
pub mod translated;

pub use commit::{Committed, commit, restore, shadow};
pub use exhausted::{Verdict, Verdicts, judge_probe};
pub use map::{MapError, Place, Segment, SpliceMap, Tail};
pub use translated::{NoPlace, Position, Translated, translate};
