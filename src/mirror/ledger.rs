//! The ledger of one mirrored partition: which offset of the origin is which of the copy, exactly. Pure.
//!
//! The copy has no gaps; the origin has one wherever a record is not copied: a transaction's marker, what was aborted, what
//! compaction took. So the ledger is a list of runs, contiguous on both sides, with the gap on the origin that follows each.
//! A run and its gap are two varints: two bytes where transactions are short, up to four for a run of a million records and a
//! gap of a hundred, one or two more where both are long. Every 64 of them there is a mark, from where a place is looked up.
//!
//! Compaction changes an origin that has been read: nobody can find out later which records were copied. So a run is entered and
//! written before its records are sent, and a mirror that begins anew cuts its ledger back to where the copy ends (`back_to`).

use thiserror::Error;

use super::checkpoint::{put_varint, varint};
use crate::ids::{NOffset, Native};

/// Runs between two marks.
const STEP: usize = 64;

/// Records that are contiguous on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub origin: NOffset,
    pub copy: NOffset,
    /// Records.
    pub length: i64,
}

impl Run {
    /// Exclusive.
    pub fn origin_end(&self) -> NOffset {
        Native(self.origin.0.saturating_add(self.length))
    }

    /// Exclusive.
    pub fn copy_end(&self) -> NOffset {
        Native(self.copy.0.saturating_add(self.length))
    }

    /// Copy minus origin.
    pub fn delta(&self) -> i64 {
        self.copy.0.saturating_sub(self.origin.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LedgerError {
    #[error("offset {at} of the origin is not behind {covered}, up to where the mirror has come")]
    Backwards { at: i64, covered: i64 },
    #[error("offsets of the ledger are at their end")]
    Overflow,
    #[error("the ledger cannot be read: {0}")]
    Garbled(&'static str),
}

/// Where a run begins, and its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    origin: i64,
    copy: i64,
    at: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// Closed runs, each with the gap that follows it.
    pub(super) closed: Vec<u8>,
    marks: Vec<Mark>,
    /// Closed runs since the last mark.
    since: usize,
    /// The last run, which may grow; of no record yet at the beginning.
    open: Run,
    /// Where the copy begins, whatever was forgotten since.
    begin: i64,
    /// Up to here, exclusive, every record of the origin is copied or known not to be.
    covered: i64,
}

impl Ledger {
    /// Of a mirror that begins with this offset of the origin, which will be this one of the copy.
    pub fn new(origin: NOffset, copy: NOffset) -> Self {
        let open = Run { origin, copy, length: 0 };
        let first = Mark { origin: origin.0, copy: copy.0, at: 0 };
        Self { closed: vec![], marks: vec![first], since: 0, open, begin: copy.0, covered: origin.0 }
    }

    /// Up to here, exclusive, the origin is mirrored.
    pub fn covered(&self) -> NOffset {
        Native(self.covered)
    }

    /// Where the next record goes.
    pub fn copy_end(&self) -> NOffset {
        self.open.copy_end()
    }

    /// The first offset of the origin that is known here, and of the copy.
    pub fn start(&self) -> (NOffset, NOffset) {
        let first = self.marks.first().map_or((self.open.origin.0, self.open.copy.0), |m| (m.origin, m.copy));
        (Native(first.0), Native(first.1))
    }

    /// Records that were copied, also those that were forgotten since.
    pub fn records(&self) -> i64 {
        self.copy_end().0.saturating_sub(self.begin)
    }

    /// Bytes that it takes in memory.
    pub fn size(&self) -> usize {
        self.closed.capacity() + self.marks.capacity() * size_of::<Mark>() + size_of::<Self>()
    }

    /// So many records from this offset of the origin on have been copied, behind the last ones.
    pub fn copied(&mut self, origin: NOffset, count: i64) -> Result<(), LedgerError> {
        let ends = [origin, self.copy_end()].map(|at| at.0.checked_add(count).filter(|_| count >= 0));
        let [Some(end), Some(_)] = ends else { return Err(LedgerError::Overflow) };
        self.skipped(origin)?;
        if count == 0 {
            return Ok(());
        }
        if origin != self.open.origin_end() {
            self.close(origin);
        }
        self.open.length += count;
        self.covered = end;
        Ok(())
    }

    /// What lies before this offset of the origin and was not copied never will be.
    pub fn skipped(&mut self, to: NOffset) -> Result<(), LedgerError> {
        if to.0 < self.covered {
            return Err(LedgerError::Backwards { at: to.0, covered: self.covered });
        }
        self.covered = to.0;
        Ok(())
    }

    /// The open run ends, and the next one begins at this offset of the origin.
    fn close(&mut self, next: NOffset) {
        let copy = self.open.copy_end();
        if self.open.length > 0 {
            put_varint(&mut self.closed, self.open.length);
            put_varint(&mut self.closed, next.0 - self.open.origin_end().0);
            self.since += 1;
        } else if let Some(mark) = self.marks.last_mut().filter(|mark| mark.at == self.closed.len()) {
            // The first run begins later than was thought.
            mark.origin = next.0;
        }
        self.open = Run { origin: next, copy, length: 0 };
        if self.since == STEP {
            self.marks.push(Mark { origin: next.0, copy: copy.0, at: self.closed.len() });
            self.since = 0;
        }
    }

    /// All runs from the one on that this mark begins.
    fn from(&self, mark: usize) -> Runs<'_> {
        let mark = self.marks.get(mark).copied().unwrap_or(Mark {
            origin: self.open.origin.0,
            copy: self.open.copy.0,
            at: self.closed.len(),
        });
        let rest = self.closed.get(mark.at..).unwrap_or_default();
        Runs { rest, origin: mark.origin, copy: mark.copy, open: Some(self.open) }
    }

    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.from(0)
    }

    /// The run in which this offset of the origin lies, or the first one behind it. `None`: not mirrored yet.
    pub fn run_of_origin(&self, at: NOffset) -> Option<Run> {
        if at.0 >= self.covered {
            return None;
        }
        let mark = self.marks.partition_point(|mark| mark.origin <= at.0).saturating_sub(1);
        self.from(mark).find(|run| at < run.origin_end())
    }

    /// The run in which this offset of the copy lies; for one before its start the first. `None`: behind its end.
    pub fn run_of_copy(&self, at: NOffset) -> Option<Run> {
        let mark = self.marks.partition_point(|mark| mark.copy <= at.0).saturating_sub(1);
        self.from(mark).find(|run| at < run.copy_end())
    }

    /// Where the copy of this record lies, or of the first behind it that has one. `None`: not mirrored yet.
    pub fn to_copy(&self, at: NOffset) -> Option<NOffset> {
        if at.0 >= self.covered {
            return None;
        }
        match self.run_of_origin(at) {
            Some(run) => Some(Native(run.copy.0 + (at.0 - run.origin.0).max(0))),
            // Nothing behind it was copied, up to where the mirror has come.
            None => Some(self.copy_end()),
        }
    }

    /// Which record this is the copy of. `None`: behind the copy's end.
    pub fn to_origin(&self, at: NOffset) -> Option<NOffset> {
        let run = self.run_of_copy(at)?;
        Some(Native(run.origin.0 + (at.0 - run.copy.0).max(0)))
    }

    /// Forgets what lies before this offset of the origin, as far as whole steps go: its log starts there now.
    pub fn drop_below(&mut self, at: NOffset) {
        let kept = self.marks.partition_point(|mark| mark.origin <= at.0).saturating_sub(1);
        let Some(cut) = self.marks.get(kept).map(|mark| mark.at).filter(|cut| *cut > 0) else { return };
        self.closed.drain(..cut.min(self.closed.len()));
        self.marks.drain(..kept);
        self.marks.iter_mut().for_each(|mark| mark.at -= cut);
    }

    /// As it was when the copy ended there: what was entered behind that was never stored. The origin is read again from behind the
    /// last record that was.
    pub fn back_to(&mut self, copy_end: NOffset) {
        if copy_end >= self.copy_end() {
            return;
        }
        let (origin, copy) = self.start();
        let mut kept = Self { begin: self.begin, ..Self::new(origin, copy) };
        for run in self.runs().take_while(|run| run.copy < copy_end) {
            let length = run.length.min(copy_end.0 - run.copy.0);
            // In the order in which they were entered before.
            let entered = kept.copied(run.origin, length);
            debug_assert!(entered.is_ok());
        }
        *self = kept;
    }

    /// What of it is written beside the closed runs: the open one, where the copy begins, and up to where the origin is covered.
    pub(super) fn head(&self) -> [i64; 5] {
        [self.begin, self.open.origin.0, self.open.copy.0, self.open.length, self.covered]
    }

    /// Anew from what was written of it.
    pub(super) fn restored(closed: Vec<u8>, head: [i64; 5]) -> Result<Self, LedgerError> {
        const UNFIT: LedgerError = LedgerError::Garbled("its last run does not follow from those before");
        let [begin, origin, copy, length, covered] = head;
        let open = Run { origin: Native(origin), copy: Native(copy), length };
        let (mut origins, mut copies) = (0i64, 0i64);
        let mut ends = vec![];
        let mut rest = &closed[..];
        while !rest.is_empty() {
            let (length, gap) = pair(&mut rest)?;
            origins = length.checked_add(gap).and_then(|run| origins.checked_add(run)).ok_or(UNFIT)?;
            copies = copies.checked_add(length).ok_or(UNFIT)?;
            ends.push((origins, copies, closed.len() - rest.len()));
        }
        let start = [(open.origin.0, origins), (open.copy.0, copies)].map(|(end, before)| end.checked_sub(before));
        let [Some(origin @ 0..), Some(copy @ 0..)] = start else { return Err(UNFIT) };
        let end = open.origin.0.checked_add(open.length).filter(|_| open.length >= 0);
        let ends_fit = end.is_some_and(|end| end <= covered) && open.copy.0.checked_add(open.length).is_some();
        if !ends_fit || begin > copy {
            return Err(UNFIT);
        }
        let since = ends.len() % STEP;
        let marks = ends.chunks_exact(STEP).filter_map(|step| step.last());
        let marks = marks.map(|(origins, copies, at)| Mark { origin: origin + origins, copy: copy + copies, at: *at });
        let marks = [Mark { origin, copy, at: 0 }].into_iter().chain(marks).collect();
        Ok(Self { closed, marks, since, open, begin, covered })
    }
}

fn pair(rest: &mut &[u8]) -> Result<(i64, i64), LedgerError> {
    let one = |rest: &mut &[u8]| varint(rest).filter(|n| *n > 0);
    match (one(rest), one(rest)) {
        (Some(length), Some(gap)) => Ok((length, gap)),
        _ => Err(LedgerError::Garbled("a run or a gap of it is none")),
    }
}

struct Runs<'a> {
    rest: &'a [u8],
    origin: i64,
    copy: i64,
    open: Option<Run>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        match pair(&mut self.rest) {
            Ok((length, gap)) => {
                let run = Run { origin: Native(self.origin), copy: Native(self.copy), length };
                self.origin += length + gap;
                self.copy += length;
                Some(run)
            }
            Err(_) => self.open.take().filter(|run| run.length > 0),
        }
    }
}
