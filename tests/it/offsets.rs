//! The splice map against a reference model: every record of the virtual log written out, one by one.

use kafka_cutover::ids::{EARLIEST, LATEST, MAX_TIMESTAMP, NOffset, Native, Side, VOffset, Virtual};
use kafka_cutover::offsets::delete_records::{TO_HIGH_WATERMARK, deletions};
use kafka_cutover::offsets::list_offsets::{Answer, Found, Wanted};
use kafka_cutover::offsets::trailer::{attach, clean, detach};
use kafka_cutover::offsets::{
    Committed, MapError, SpliceMap, Tail, Verdict, Verdicts, commit, judge_probe, restore, shadow,
};
use proptest::collection::vec;
use proptest::prelude::*;

use Side::{Source, Target};

/// What happens to a partition.
#[derive(Clone, Debug)]
enum Act {
    /// Records with these timestamps reach the open side.
    Append(Vec<i64>),
    /// Records that have no place reach the other side, then the log switches to it.
    Seal { unmapped: Vec<i64> },
    /// Retention: the side's log start moves by this many records, if it has them.
    Retain(Side, usize),
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Source), Just(Target)]
}

fn acts(unmapped: impl Strategy<Value = Vec<i64>> + 'static) -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => vec(0i64..20, 0..4).prop_map(Act::Append),
        3 => unmapped.prop_map(|unmapped| Act::Seal { unmapped }),
        1 => (side(), 1usize..6).prop_map(|(s, n)| Act::Retain(s, n)),
    ];
    vec(act, 0..14)
}

/// The explicit log: no segment, no delta.
#[derive(Clone, Debug)]
struct Model {
    map: SpliceMap,
    /// (side, native offset) of each virtual record.
    log: Vec<(Side, i64)>,
    /// Timestamp of each native record, placed or not.
    native: [Vec<i64>; 2],
    log_start: [i64; 2],
    open: Side,
    /// Where a side's first part began in the virtual log.
    first: [Option<i64>; 2],
    /// Native end of the side's last closed part.
    closed: [Option<i64>; 2],
    seals: u32,
}

impl Model {
    fn new() -> Self {
        Model {
            map: SpliceMap::whole(Source),
            log: vec![],
            native: [vec![], vec![]],
            log_start: [0, 0],
            open: Source,
            first: [Some(0), None],
            closed: [None, None],
            seals: 0,
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Append(timestamps) => {
                for t in timestamps {
                    self.log.push((self.open, self.leo(self.open)));
                    self.native[self.open.index()].push(*t);
                }
            }
            Act::Seal { unmapped } => {
                let (old, new) = (self.open, self.open.other());
                self.native[new.index()].extend(unmapped);
                let (end, next) = (self.leo(old), self.leo(new));
                self.map =
                    self.map.sealed(Native(end), 7, (new, Native(next))).expect("a seal as the procedure makes it");
                self.closed[old.index()] = Some(end);
                self.first[new.index()].get_or_insert(self.end());
                self.open = new;
                self.seals += 1;
            }
            Act::Retain(side, n) => {
                let start = &mut self.log_start[side.index()];
                *start = (*start + *n as i64).min(self.native[side.index()].len() as i64);
            }
        }
    }

    fn leo(&self, side: Side) -> i64 {
        self.native[side.index()].len() as i64
    }

    fn end(&self) -> i64 {
        self.log.len() as i64
    }

    fn starts(&self) -> [Option<NOffset>; 2] {
        self.log_start.map(|s| Some(Native(s)))
    }

    /// The first record at or after `v` that retention has left.
    fn next_kept(&self, v: i64) -> i64 {
        let kept = |v: &i64| self.log[*v as usize].1 >= self.log_start[self.log[*v as usize].0.index()];
        (v..self.end()).find(kept).unwrap_or(self.end())
    }

    /// Native offset of the first record of a side at or after `v`, else the end of its part.
    fn native_at(&self, side: Side, v: i64) -> Option<i64> {
        let record = self.log[v as usize..].iter().find(|(s, _)| *s == side).map(|(_, n)| *n);
        let open = (side == self.open).then(|| self.leo(side));
        record.or(open).or(self.closed[side.index()])
    }

    /// One past the last record of a side before the native offset.
    fn meaning(&self, side: Side, native: i64) -> i64 {
        let before = |v: &i64| self.log[*v as usize].0 == side && self.log[*v as usize].1 < native;
        let last = (0..self.end()).rev().find(before).map(|v| v + 1);
        last.or(self.first[side.index()]).unwrap_or(0)
    }
}

fn run(acts: &[Act], mut check: impl FnMut(&Model)) {
    let mut model = Model::new();
    check(&model);
    for act in acts {
        model.act(act);
        check(&model);
    }
}

proptest! {
    #[test]
    fn translation_is_total_exact_and_monotone(acts in acts(vec(0i64..20, 0..3))) {
        run(&acts, |m| {
            let mut last = [-1, -1];
            for (v, (side, native)) in m.log.iter().enumerate() {
                let v = Virtual(v as i64);
                let place = m.map.locate(v);
                assert_eq!((place.side, place.native.0), (*side, *native));
                assert_eq!(place.at(), v);
                assert_eq!(place.delta, v.0 - native);
                assert!(place.end.is_none_or(|end| place.native < end));
                assert_eq!(place.virtual_end, place.end.map(|end| place.to_virtual(end)));
                // The segment's last record is the last one of an unbroken run of this side.
                if let Some(end) = place.virtual_end {
                    assert!(m.log[v.0 as usize..end.0 as usize].iter().all(|(s, _)| s == side));
                }
                assert_eq!(m.map.to_virtual(*side, Native(*native)), Some(v));
                assert!(*native > last[side.index()], "monotone per side");
                last[side.index()] = *native;
            }
            // What has no place is given none.
            for side in Side::BOTH {
                for native in 0..m.leo(side) {
                    let v = m.log.iter().position(|r| *r == (side, native)).map(|v| Virtual(v as i64));
                    assert_eq!(m.map.to_virtual(side, Native(native)), v);
                }
                assert_eq!(m.map.end_of(side), m.closed[side.index()].map(Native));
                assert_eq!(m.map.has_part(side), m.first[side.index()].is_some());
            }
            let end = m.map.locate(Virtual(m.end()));
            assert_eq!((end.side, end.native.0, end.end), (m.open, m.leo(m.open), None));
            assert_eq!((m.map.open_side(), m.map.seals()), (m.open, m.seals));
            assert_eq!(m.map.segments().len(), m.seals as usize);
        });
    }

    #[test]
    fn ends_and_holes(acts in acts(vec(0i64..20, 0..3)), dead in proptest::option::of(side())) {
        run(&acts, |m| {
            let leo = Side::BOTH.map(|s| Some(Native(m.leo(s))));
            assert_eq!(m.map.virtual_end(Native(m.leo(m.open))), Virtual(m.end()));
            assert_eq!(m.map.high_watermark(leo), Virtual(m.end()));
            assert_eq!(m.map.last_stable(leo), Virtual(m.end()));
            let start = m.next_kept(0);
            assert_eq!(m.map.virtual_log_start(m.starts()), Virtual(start));
            for v in start..=m.end() {
                let resumed = m.map.resume_at(m.map.locate(Virtual(v)), m.starts());
                assert_eq!(resumed.at(), Virtual(m.next_kept(v)));
                assert_eq!(resumed, m.map.locate(resumed.at()));
            }
            for v in 0..start {
                let place = m.map.locate(Virtual(v));
                assert_eq!(m.map.resume_at(place, m.starts()), place, "out of range, and its broker says so");
            }
            // A side that cannot be asked takes nothing away.
            if let Some(dead) = dead {
                let mut known = m.clone();
                known.log_start[dead.index()] = 0;
                let mut starts = m.starts();
                starts[dead.index()] = None;
                assert_eq!(m.map.virtual_log_start(starts), Virtual(known.next_kept(0)));
            }
        });
    }

    #[test]
    fn the_next_segment_starts_where_this_one_ends(acts in acts(vec(0i64..20, 0..3))) {
        run(&acts, |m| {
            for v in 0..m.end() {
                let place = m.map.locate(Virtual(v));
                let start = m.map.locate_in(place.segment);
                assert_eq!((start.segment, start.delta), (place.segment, place.delta));
                if let Some(end) = place.virtual_end {
                    let next = m.map.locate_in(place.segment + 1);
                    assert_eq!(next.at(), end);
                    assert_eq!(next, m.map.locate(end));
                }
            }
        });
    }

    #[test]
    fn a_commit_keeps_its_meaning_whatever_the_map_becomes(acts in acts(vec(0i64..20, 0..3))) {
        let mut made: Vec<(Side, i64, Committed)> = vec![];
        run(&acts, |m| {
            let read = |map: &SpliceMap, home, v, c: &Committed| {
                restore(map, home, c.native, c.trailer.then_some(Virtual(v)))
            };
            for (home, v, c) in &made {
                assert_eq!(read(&m.map, *home, *v, c), Virtual(*v), "{home} {v} {c:?} in {:?}", m.map);
            }
            for home in Side::BOTH {
                let mut last = Native(0);
                for v in 0..=m.end() {
                    let c = commit(&m.map, home, Virtual(v));
                    assert_eq!(shadow(&m.map, home, Virtual(v)), m.native_at(home, v).map(Native));
                    assert_eq!(c.native.0, m.native_at(home, v).unwrap_or(0));
                    // A trailer where, and only where, the number alone says something else.
                    let plain = m.map.has_part(home) && m.meaning(home, c.native.0) == v;
                    assert_eq!(c.trailer, !plain, "{home} {v} {c:?} in {:?}", m.map);
                    assert_eq!(read(&m.map, home, v, &c), Virtual(v));
                    assert!(c.native >= last, "monotone");
                    last = c.native;
                    made.push((home, v, c));
                }
            }
        });
    }

    #[test]
    fn dropping_takes_away_nothing_that_is_there(acts in acts(vec(0i64..20, 0..3)), cut in 0i64..30) {
        let mut made: Vec<(Side, i64, Committed)> = vec![];
        let mut dropping = SpliceMap::whole(Source);
        run(&acts, |m| {
            // One map that drops and grows by turns, beside the one that only grows.
            if m.map.seals() > dropping.seals() {
                let s = m.map.segments().last().expect("a seal closed one");
                let next = (m.open, m.map.native_tail_start());
                dropping = dropping.sealed(s.native_end(), s.end_epoch, next).expect("as in the whole map");
            }
            dropping = dropping.drop_below(Virtual(cut));
            assert_eq!(dropping.tail(), m.map.tail());
            assert!(dropping.start() <= Virtual(cut.min(m.map.tail_start().0)));
            assert!(dropping.segments().iter().all(|s| s.virtual_end() > Virtual(cut)));
            for v in dropping.start().0..=m.end() {
                let (whole, place) = (m.map.locate(Virtual(v)), dropping.locate(Virtual(v)));
                assert_eq!(place, whole, "numbers included");
                for home in Side::BOTH {
                    let c = commit(&dropping, home, Virtual(v));
                    assert_eq!(c.native, commit(&m.map, home, Virtual(v)).native);
                    made.push((home, v, c));
                }
            }
            for side in Side::BOTH {
                assert_eq!(dropping.end_of(side), m.map.end_of(side));
                assert_eq!(dropping.has_part(side), m.map.has_part(side));
            }
            for (home, v, c) in &made {
                let back = restore(&dropping, *home, c.native, c.trailer.then_some(Virtual(*v)));
                if Virtual(*v) >= dropping.start() || c.trailer {
                    assert_eq!(back, Virtual(*v));
                } else {
                    assert!(back <= dropping.start(), "what is gone is below the log start");
                }
            }
            let text = serde_json::to_string(&dropping).expect("plain data");
            assert_eq!(serde_json::from_str::<SpliceMap>(&text).expect("as written"), dropping);
        });
    }

    #[test]
    fn what_is_skipped_is_passed_over_and_keeps_its_places(acts in acts(vec(Just(-1i64), 0..3)), t in 0i64..20) {
        run(&acts, |m| {
            let mut skipping = m.clone();
            for s in m.map.closed_away() {
                let (side, from, to) = (s.side, s.virtual_start, s.virtual_end());
                skipping.map = skipping.map.skipping(side, from, to).expect("it is one of its segments");
            }
            let map = &skipping.map;
            let on_open = |v: &i64| m.log[*v as usize].0 == m.open;
            for v in 0..=m.end() {
                let next = (v..m.end()).find(on_open).unwrap_or(m.end());
                let place = map.locate(Virtual(v));
                assert_eq!((place.at(), place.side), (Virtual(next), m.open));
                for home in Side::BOTH {
                    let c = commit(&m.map, home, Virtual(v));
                    assert_eq!(commit(map, home, Virtual(v)), c);
                    assert_eq!(restore(map, home, c.native, c.trailer.then_some(Virtual(v))), Virtual(v));
                    assert_eq!(shadow(map, home, Virtual(v)), shadow(&m.map, home, Virtual(v)));
                }
                let asked = deletions(map, Some(Virtual(v)));
                assert_eq!(asked[m.open.other().index()], None, "the lost side is not asked");
            }
            let kept = |v: &i64| on_open(v) && m.next_kept(*v) == *v;
            let time = |v: i64| m.native[m.open.index()][m.log[v as usize].1 as usize];
            for wanted in [EARLIEST, LATEST, MAX_TIMESTAMP, t] {
                let sides = Wanted::of(wanted).expect("known").sides(map).collect::<Vec<_>>();
                assert_eq!(sides, [m.open]);
            }
            assert_eq!(ask(&skipping, EARLIEST), Some(((0..m.end()).find(kept).unwrap_or(m.end()), -1)));
            let since = (0..m.end()).find(|v| kept(v) && time(*v) >= t);
            assert_eq!(ask(&skipping, t), since.map(|v| (v, time(v))));
            let text = serde_json::to_string(map).expect("plain data");
            assert_eq!(serde_json::from_str::<SpliceMap>(&text).expect("as written"), *map);
        });
    }

    #[test]
    fn list_offsets_is_what_one_log_would_answer(acts in acts(vec(Just(-1i64), 0..3)), t in 0i64..20) {
        // Unmapped records are older than anything asked for, so they are never hit.
        run(&acts, |m| {
            let kept: Vec<(i64, i64)> = (0..m.end())
                .filter(|v| m.next_kept(*v) == *v)
                .map(|v| (v, m.native[m.log[v as usize].0.index()][m.log[v as usize].1 as usize]))
                .collect();
            let since = kept.iter().find(|(_, ts)| *ts >= t);
            assert_eq!(ask(m, t), since.map(|(v, ts)| (*v, *ts)));
            let max = kept.iter().max_by_key(|(v, ts)| (*ts, -*v));
            assert_eq!(ask(m, MAX_TIMESTAMP), max.map(|(v, ts)| (*v, *ts)));
            assert_eq!(ask(m, EARLIEST), Some((m.next_kept(0), -1)));
            assert_eq!(ask(m, LATEST), Some((m.end(), -1)));
        });
    }

    #[test]
    fn records_below_an_offset_are_deleted_and_none_other(acts in acts(vec(0i64..20, 0..3))) {
        run(&acts, |m| {
            for v in (0..=m.end()).map(Some).chain([None]) {
                let asked = deletions(&m.map, v.map(Virtual));
                assert!(asked.iter().any(Option::is_some), "somebody says where the log starts");
                let mut after = m.clone();
                for side in Side::BOTH {
                    let Some(native) = asked[side.index()] else { continue };
                    let native = if native.0 == TO_HIGH_WATERMARK { m.leo(side) } else { native.0 };
                    assert!(native <= m.leo(side), "a broker takes it");
                    assert!(side == m.open || Some(native) <= m.closed[side.index()], "no straggler goes");
                    let start = &mut after.log_start[side.index()];
                    *start = native.max(*start);
                }
                let v = v.unwrap_or(m.end());
                assert_eq!(after.next_kept(0), m.next_kept(v), "all below {v} are gone");
                for kept in v..m.end() {
                    assert_eq!(after.next_kept(kept), m.next_kept(kept), "nothing else is");
                }
                // What has nothing below v is left alone.
                for side in Side::BOTH {
                    let below = m.log[..v as usize].iter().any(|(s, _)| *s == side);
                    assert!(below || v == m.end() || asked.iter().flatten().count() == 1 || asked[side.index()].is_none());
                }
            }
        });
    }

    #[test]
    fn a_timestamp_in_an_unmapped_part_answers_the_next_mapped_offset(
        acts in acts(vec(0i64..20, 0..4)), t in 0i64..20,
    ) {
        run(&acts, |m| {
            let hit = |side: Side| {
                let n = (m.log_start[side.index()]..m.leo(side)).find(|n| m.native[side.index()][*n as usize] >= t)?;
                (0..m.end()).find(|v| m.log[*v as usize].0 == side && m.log[*v as usize].1 >= n)
            };
            let first = Side::BOTH.into_iter().filter_map(hit).min();
            let answer = ask(m, t).map(|(v, _)| v);
            // An open side without a record behind the unmapped hit answers where its next one will be.
            let unmapped_last = answer == Some(m.end()) && first.is_none();
            assert!(answer == first || unmapped_last, "{answer:?} {first:?}");
        });
    }

    #[test]
    fn nothing_that_a_peer_says_panics_or_wraps(
        acts in acts(vec(0i64..20, 0..3)), x in any::<i64>(), y in proptest::option::of(any::<i64>()), home in side(),
    ) {
        run(&acts, |m| {
            let (v, n, both) = (Virtual(x), Native(x), [y.map(Native), Some(Native(x))]);
            let place = m.map.locate(v);
            assert!(place.end.is_none_or(|end| place.native <= end));
            assert!(x < 0 || place.at() <= v.max(m.map.start()));
            let c = commit(&m.map, home, v);
            assert_eq!(restore(&m.map, home, c.native, c.trailer.then_some(v)), v);
            restore(&m.map, home, n, None);
            m.map.to_virtual(home, n);
            m.map.resume_at(place, both);
            m.map.drop_below(v);
            assert!(m.map.virtual_end(n) >= m.map.tail_start());
            assert!(m.map.high_watermark(both) >= m.map.tail_start());
            assert!(m.map.last_stable(both) >= Virtual(0));
            assert!(m.map.virtual_log_start(both) >= Virtual(0));
            if let Ok(sealed) = m.map.sealed(n, -1, (m.open.other(), Native(y.unwrap_or(x)))) {
                assert!(sealed.tail_start() >= m.map.tail_start());
                sealed.locate(v);
                commit(&sealed, home, v);
                sealed.sealed(Native(i64::MAX), 0, (m.open, Native(i64::MAX))).ok();
            }
        });
    }

    #[test]
    fn a_trailer_comes_off_as_it_went_on(metadata in ".{0,40}", v in 0i64.., max in 0usize..80) {
        let client = clean(&metadata);
        let attached = attach(&metadata, Virtual(v), max);
        let kept = if attached.client_part_dropped { "" } else { client };
        prop_assert_eq!(detach(&attached.metadata), (kept, Some(Virtual(v))));
        let trailer = attach("", Virtual(v), 0).metadata.len();
        let fits = client.is_empty() || client.len() + trailer <= max;
        prop_assert_eq!(attached.client_part_dropped, !fits);
        prop_assert!(attached.metadata.len() <= max || kept.is_empty());
    }
}

/// Asks the sides that want asking what brokers would answer, and combines.
fn ask(m: &Model, timestamp: i64) -> Option<(i64, i64)> {
    let wanted = Wanted::of(timestamp).expect("a timestamp with a meaning");
    let mut found = [None, None];
    for side in wanted.sides(&m.map) {
        let native = &m.native[side.index()];
        let kept = || (m.log_start[side.index()]..m.leo(side)).map(|n| (n, native[n as usize]));
        let hit = match wanted {
            Wanted::Earliest => Some((m.log_start[side.index()], -1)),
            Wanted::Latest => Some((m.leo(side), -1)),
            Wanted::MaxTimestamp => kept().max_by_key(|(n, t)| (*t, -*n)).filter(|(_, t)| *t >= 0),
            Wanted::Since(ts) => kept().find(|(_, t)| *t >= ts),
        };
        found[side.index()] = hit.map(|(n, timestamp)| Found { offset: Native(n), timestamp });
    }
    wanted.combine(&m.map, found).map(|Answer { offset, timestamp }| (offset.0, timestamp))
}

fn v(at: i64) -> VOffset {
    Virtual(at)
}

/// source [0, 10) · target [5, 8) at 10 · source [12, ..) at 13
fn rolled_back() -> SpliceMap {
    let cut_over = SpliceMap::whole(Source).sealed(Native(10), 3, (Target, Native(5))).expect("a seal");
    cut_over.sealed(Native(8), 1, (Source, Native(12))).expect("a second seal")
}

#[test]
fn before_any_migration_virtual_is_native() {
    let map = SpliceMap::whole(Source);
    assert_eq!(map.tail(), Tail::One { side: Source, start: Native(0) });
    for at in [0, 1, i64::MAX] {
        assert_eq!(map.locate(v(at)).native, Native(at));
        assert_eq!(commit(&map, Source, v(at)), Committed { native: Native(at), trailer: false });
    }
    assert_eq!(commit(&map, Target, v(0)), Committed { native: Native(0), trailer: true }, "a home without a part");
    assert_eq!(shadow(&map, Target, v(4)), None);
}

#[test]
fn a_seam_belongs_to_the_later_segment() {
    let map = rolled_back();
    assert_eq!((map.locate(v(9)).side, map.locate(v(9)).native), (Source, Native(9)));
    assert_eq!((map.locate(v(10)).side, map.locate(v(10)).native), (Target, Native(5)));
    assert_eq!((map.locate(v(13)).side, map.locate(v(13)).native), (Source, Native(12)));
    assert_eq!((map.locate(v(-3)).segment, map.locate(v(-3)).native), (0, Native(0)));
    assert_eq!(map.to_virtual(Source, Native(11)), None, "a straggler that nobody included");
    assert_eq!(map.to_virtual(Target, Native(4)), None);
    assert_eq!(map.segments()[0].end_epoch, 3);
}

#[test]
fn the_boundary_rule_of_commits() {
    let map = rolled_back();
    let plain = |native| Committed { native: Native(native), trailer: false };
    let carried = |native| Committed { native: Native(native), trailer: true };
    // The end of the source's first part, and the start of its second one, meet in native 12.
    assert_eq!(commit(&map, Source, v(9)), plain(9));
    assert_eq!(commit(&map, Source, v(10)), plain(12));
    assert_eq!(commit(&map, Source, v(11)), carried(12));
    assert_eq!(commit(&map, Source, v(13)), carried(12));
    assert_eq!(commit(&map, Source, v(14)), plain(13));
    // On the target: before, in and behind its part.
    assert_eq!(commit(&map, Target, v(3)), carried(5));
    assert_eq!(commit(&map, Target, v(10)), plain(5));
    assert_eq!(commit(&map, Target, v(13)), plain(8));
    assert_eq!(commit(&map, Target, v(20)), carried(8));
    // Made before any seal: 10 is the end, and stays it.
    assert_eq!(restore(&map, Source, Native(10), None), v(10));
    assert_eq!(shadow(&map, Target, v(3)), Some(Native(5)));
}

#[test]
fn a_seal_that_cannot_be_is_refused() {
    let map = rolled_back();
    let refused = |end, next| map.sealed(Native(end), 0, next).expect_err("not a seal");
    assert_eq!(refused(11, (Target, Native(8))), MapError::EndBelowStart { end: Native(11), start: Native(12) });
    assert_eq!(refused(12, (Source, Native(12))), MapError::SameSide(Source));
    let below = MapError::NextBelowEnd { side: Target, next: Native(7), last: Native(8) };
    assert_eq!(refused(12, (Target, Native(7))), below);
    assert_eq!(refused(i64::MAX, (Target, Native(8))), MapError::Overflow);
    assert!(SpliceMap::whole(Source).sealed(Native(0), 0, (Target, Native(-1))).is_err());
}

#[test]
fn an_empty_segment_never_wins() {
    let map = SpliceMap::whole(Source).sealed(Native(0), -1, (Target, Native(3))).expect("an empty source");
    let map = map.sealed(Native(3), -1, (Source, Native(0))).expect("and nothing on the target");
    assert_eq!((map.seals(), map.segments().len()), (2, 2));
    let place = map.locate(v(0));
    assert_eq!((place.side, place.native, place.segment, place.end), (Source, Native(0), 2, None));
    assert_eq!(map.locate_in(0), place);
    assert_eq!(map.end_of(Target), Some(Native(3)));
}

#[test]
fn an_open_transaction_in_a_closed_segment_stops_committed_readers() {
    let map = rolled_back();
    let lso = |source, target| map.last_stable([Some(Native(source)), Some(Native(target))]);
    assert_eq!(lso(15, 8), v(16));
    assert_eq!(lso(15, 6), v(11));
    assert_eq!(lso(4, 6), v(4));
    assert_eq!(lso(15, 2), v(10), "below the part: its start");
    assert_eq!(map.last_stable([Some(Native(15)), None]), v(16));
    assert_eq!(map.high_watermark([None, Some(Native(8))]), v(13), "unknown: the seam");
    assert_eq!(map.high_watermark([Some(Native(2)), None]), v(13), "lagging: the seam");
}

#[test]
fn a_transaction_outside_the_virtual_log_stops_nobody() {
    let map = SpliceMap::whole(Source).sealed(Native(4), -1, (Target, Native(3))).expect("a seal");
    let map = map.sealed(Native(3), -1, (Source, Native(4))).expect("nothing came to the target");
    assert_eq!(map.last_stable([Some(Native(9)), Some(Native(1))]), v(9), "the target's part is empty");
}

#[test]
fn holes_are_passed_and_the_first_segment_is_the_broker_s_to_judge() {
    let map = rolled_back();
    let resume = |at, starts: [i64; 2]| map.resume_at(map.locate(v(at)), starts.map(|s| Some(Native(s))));
    assert_eq!(resume(4, [7, 5]), map.locate(v(4)), "below the virtual log start: OFFSET_OUT_OF_RANGE");
    assert_eq!(resume(4, [11, 5]), map.locate(v(4)));
    assert_eq!(resume(10, [0, 7]), map.locate(v(12)));
    assert_eq!(resume(10, [0, 8]), map.locate(v(13)), "nothing left of this segment");
    assert_eq!(
        resume(11, [14, 9]),
        map.locate(v(11)),
        "nothing is left before the last one: below the virtual log start"
    );
    assert_eq!(resume(12, [0, 7]), map.locate(v(12)));
}

#[test]
fn exhausted_needs_every_part_of_the_proof() {
    let place = rolled_back().locate(v(4));
    let judge = |hw, lso, committed, first: Option<i64>| {
        judge_probe(&place, Native(10), Native(hw), Native(lso), committed, first.map(Native))
    };
    assert_eq!(judge(10, 10, true, None), Verdict::Exhausted);
    assert_eq!(judge(12, 12, false, Some(11)), Verdict::Exhausted, "a straggler is not the segment's");
    assert_eq!(judge(12, 12, false, Some(10)), Verdict::Exhausted);
    assert_eq!(judge(12, 12, false, Some(9)), Verdict::NotYet);
    assert_eq!(judge(9, 9, false, None), Verdict::NotYet, "the high watermark has not come up");
    assert_eq!(judge(10, 9, true, None), Verdict::NotYet, "an open transaction");
    assert_eq!(judge(10, 9, false, None), Verdict::Exhausted);
}

#[test]
fn verdicts_are_kept_per_segment_and_isolation() {
    let mut verdicts = Verdicts::default();
    verdicts.prove(1, Native(8), false);
    assert!(verdicts.is_exhausted(1, Native(8), false) && verdicts.is_exhausted(1, Native(9), false));
    assert!(!verdicts.is_exhausted(1, Native(7), false));
    assert!(!verdicts.is_exhausted(1, Native(8), true), "LSO was not proven");
    assert!(!verdicts.is_exhausted(0, Native(8), false));
    verdicts.prove(1, Native(5), true);
    verdicts.prove(1, Native(7), true);
    assert!(verdicts.is_exhausted(1, Native(5), true) && verdicts.is_exhausted(1, Native(5), false));
}

#[test]
fn trailers() {
    let whole = attach("client", v(42), 4096);
    assert_eq!((whole.metadata.as_str(), whole.client_part_dropped), ("client\u{1}kc1:42", false));
    assert_eq!(attach("client", v(42), 13).metadata, "client\u{1}kc1:42");
    let short = attach("client", v(42), 12);
    assert_eq!((short.metadata.as_str(), short.client_part_dropped), ("\u{1}kc1:42", true));
    // A copy of somebody's raw metadata does not bring its old position along.
    assert_eq!(attach("a\u{1}kc1:7\u{1}kc1:8", v(42), 4096).metadata, "a\u{1}kc1:42");
    for foreign in ["", "text", "\u{1}kc1:", "\u{1}kc1:007", "\u{1}kc1:+5", "\u{1}kc2:5", "\u{1}kc1:5 ", "kc1:5"] {
        assert_eq!(detach(foreign), (foreign, None));
        assert_eq!(clean(foreign), foreign);
    }
    assert_eq!(detach("\u{1}kc1:99999999999999999999"), ("\u{1}kc1:99999999999999999999", None));
}

#[test]
fn whom_list_offsets_asks() {
    let asked = |map: &SpliceMap, t| Wanted::of(t).expect("known").sides(map).collect::<Vec<_>>();
    let whole = SpliceMap::whole(Source);
    for t in [EARLIEST, LATEST, MAX_TIMESTAMP, 5] {
        assert_eq!(asked(&whole, t), [Source], "nothing changes before the first seal");
    }
    assert_eq!(asked(&rolled_back(), LATEST), [Source]);
    assert_eq!(asked(&rolled_back(), 5), [Source, Target]);
    let empty = whole.sealed(Native(0), -1, (Target, Native(0))).expect("a seal");
    assert_eq!(asked(&empty, EARLIEST), [Target], "a part without a record is not worth a question");
    assert_eq!(Wanted::of(-4), None);
}
