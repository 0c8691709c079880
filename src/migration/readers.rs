//! Looks how far groups are from the seam (DESIGN.md section 5, "drained"), after a seal every few seconds and when it
//! is asked to: lists the groups of their homes, reads what they have committed, proves by reads what lies between there
//! and the seam. On connections of its own; each broker for itself, so that a dead one hides no other's groups; and no
//! larger a part of the time than it may, however many groups there are.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters, waits between two looks")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};

use crate::error::{code, is_stale_topology};
use crate::groups::drained::{self, Closed, Drain, GroupDrain, Judged, PartitionDrain, Probed, Standing, Unheard};
use crate::groups::position;
use crate::groups::shadow_writer::released_seals;
use crate::ids::{CONSUMER, EARLIEST, NOffset, Native, NodeId, Side, TopicName, TopicPartition, VOffset, Virtual};
use crate::offsets::{Place, SpliceMap};
use crate::routing::{PartitionState, Shared};
use crate::upstream::ClusterView;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask;
use crate::upstream::ask::groups::{self, Committed};

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The pause behind a look is so many times as long as the look was, within limits.
const PAUSES: u32 = 4;
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// Groups, or tails of partitions, that are asked for at a time.
const AT_A_TIME: usize = 32;
/// Of one read. A broker answers one whole batch at least.
const BYTES: i32 = 64 * 1024;
/// Reads of one tail in one look, each behind the markers of the one before.
const MOST_READS: usize = 100;
/// Groups with a gauge of their own, and the bytes of the name of one.
const MOST_GAUGES: usize = 1_000;
const LONG: usize = 256;
/// Its leaders are the coordinators.
const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// For ever.
pub async fn run(shared: Arc<Shared>, admins: [Admin; 2]) {
    let mut routes = shared.routes_changed.subscribe();
    let mut readers =
        Readers { shared, admins, last: HashMap::new(), closed: RefCell::default(), gauges: BTreeSet::new() };
    loop {
        let (began, seals) = (Instant::now(), released_seals(&readers.shared.partitions.load()));
        readers.look().await;
        let pause = (began.elapsed() * PAUSES).clamp(LOOK_EVERY, AT_LEAST_EVERY);
        let wake = Instant::now() + pause;
        loop {
            tokio::select! {
                () = readers.shared.drains.wanted() => break,
                () = sleep_until(wake) => break,
                Ok(()) = routes.changed() => {
                    if released_seals(&readers.shared.partitions.load()) > seals {
                        break;
                    }
                }
            }
        }
    }
}

/// The topics that a seal has touched, each with its migration and its partitions.
type Sealed = HashMap<TopicName, (String, Arc<Vec<PartitionState>>)>;

/// A group, as far as it was read.
struct Read {
    id: String,
    home: Side,
    state: String,
    /// `None`: it was listed, and what it has committed was not told.
    positions: Option<Committed>,
}

struct Readers {
    shared: Arc<Shared>,
    admins: [Admin; 2],
    /// What the last look found, by migration.
    last: HashMap<String, Arc<Drain>>,
    closed: RefCell<HashMap<TopicPartition, Closed>>,
    /// Migrations and groups that have a gauge.
    gauges: BTreeSet<(String, String)>,
}

/// What holds during one look.
struct Look {
    shared: Arc<Shared>,
    /// A group that moves meanwhile is looked for on one side only.
    homes: RefCell<HashMap<String, Side>>,
    /// Leaders that did not answer: not asked again.
    silent: RefCell<HashSet<(Side, NodeId)>>,
    unheard: RefCell<Vec<Unheard>>,
}

impl Look {
    fn new(shared: &Arc<Shared>) -> Self {
        let (homes, silent, unheard) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { shared: shared.clone(), homes, silent, unheard }
    }

    fn home(&self, group: &str) -> Side {
        *self.homes.borrow_mut().entry(group.to_owned()).or_insert_with(|| self.shared.homes.of(group))
    }

    fn not_heard(&self, group: Option<&str>, what: String) {
        self.unheard.borrow_mut().push(Unheard { group: group.map(str::to_owned), what });
    }
}

impl Readers {
    async fn look(&mut self) {
        self.shared.drains.begin();
        let sealed = self.sealed();
        self.closed.borrow_mut().retain(|tp, _| sealed.contains_key(&tp.topic));
        if sealed.is_empty() {
            self.last = HashMap::new();
        } else {
            let look = Look::new(&self.shared);
            let mut read = self.read(&look).await;
            read.extend(self.read_missing(&look, &read).await);
            let found = self.positions(&sealed, &read);
            self.prove(&look, &sealed, &found).await;
            self.last = self.judge(&look, &sealed, &read, found);
        }
        self.shared.drains.end(self.last.clone());
        self.show();
    }

    fn sealed(&self) -> Sealed {
        let partitions = self.shared.partitions.load();
        let topics = partitions
            .topics
            .iter()
            .filter(|(_, states)| states.iter().any(|s| s.map.has_seam() && s.map.left().is_none()));
        let named = topics
            .filter_map(|(topic, states)| Some((topic.clone(), (self.shared.prepared_by(topic)?, states.clone()))));
        named.collect()
    }

    /// The groups that any broker coordinates, of each side those that are at home there.
    async fn read(&self, look: &Look) -> Vec<Read> {
        let [source, target] = &self.admins;
        let (mut all, other) = join(self.read_side(look, source), self.read_side(look, target)).await;
        all.extend(other);
        all
    }

    async fn read_side(&self, look: &Look, admin: &Admin) -> Vec<Read> {
        let Some(view) = self.shared.topology.load().side(admin.side).cloned() else {
            look.not_heard(None, format!("the {} has not been asked which groups there are", admin.side));
            return vec![];
        };
        let offsets = view.topics.get(OFFSETS_TOPIC);
        if offsets.is_some_and(|t| t.partitions.iter().any(|p| p.leader < 0)) {
            look.not_heard(None, format!("some groups of the {} have no coordinator at the moment", admin.side));
        }
        let brokers = view.brokers.values().map(|b| self.read_broker(look, admin, b.address()));
        join_all(brokers).await.into_iter().flatten().collect()
    }

    /// Who lists a group coordinates it.
    async fn read_broker(&self, look: &Look, admin: &Admin, address: String) -> Vec<Read> {
        let listed = match groups::coordinated_by(admin, &address).await {
            Ok(listed) => listed,
            Err(error) => {
                look.not_heard(None, format!("which groups {address} coordinates is not known: {error}"));
                self.shared.refresh(admin.side);
                return vec![];
            }
        };
        let here = listed.into_iter().filter(|(id, _)| look.home(id) == admin.side);
        let here: Vec<(String, String)> = here.map(|(id, listed)| (id, listed.state)).collect();
        let (mut read, mut silent) = (Vec::with_capacity(here.len()), false);
        for some in here.chunks(AT_A_TIME) {
            let asked = some.iter().map(|(id, _)| async {
                if silent { None } else { Some(groups::committed(admin, &address, id, false).await) }
            });
            let answers = join_all(asked).await;
            for ((id, state), answer) in some.iter().zip(answers) {
                silent |= matches!(answer, Some(Err(AdminError::Unreachable { .. })));
                let positions = match answer {
                    Some(Ok(positions)) => Some(positions),
                    // Deleted since it was listed.
                    Some(Err(AdminError::Refused { code: code::GROUP_ID_NOT_FOUND, .. })) => continue,
                    Some(Err(error)) => {
                        tracing::debug!(group = id, %error, "what a group has committed is not known");
                        None
                    }
                    None => None,
                };
                read.push(Read { id: id.clone(), home: admin.side, state: state.clone(), positions });
            }
        }
        read
    }

    /// Groups that were there and are not listed now: gone, or their coordinator is. What they have committed says it.
    async fn read_missing(&self, look: &Look, read: &[Read]) -> Vec<Read> {
        let listed: HashSet<&str> = read.iter().map(|r| r.id.as_str()).collect();
        let missing = self.last.values().flat_map(|d| &d.groups).filter(|g| !listed.contains(g.id.as_str()));
        let missing: BTreeMap<&str, &GroupDrain> = missing.map(|g| (g.id.as_str(), g)).collect();
        let missing: Vec<&GroupDrain> = missing.into_values().collect();
        let (mut found, mut silent) = (Vec::new(), [false; 2]);
        for some in missing.chunks(AT_A_TIME) {
            let asked = some.iter().map(|group| async {
                let side = look.home(&group.id);
                if silent[side.index()] {
                    return (side, None);
                }
                (side, Some(self.ask_coordinator(side, &group.id).await))
            });
            let answers = join_all(asked).await;
            for (group, (home, answer)) in some.iter().zip(answers) {
                silent[home.index()] |= matches!(answer, Some(Err(AdminError::Unreachable { .. })));
                let positions = match answer {
                    Some(Err(AdminError::Refused { code: code::GROUP_ID_NOT_FOUND, .. })) => continue,
                    Some(Ok(positions)) if positions.is_empty() => continue,
                    Some(Ok(positions)) => Some(positions),
                    Some(Err(_)) | None => None,
                };
                found.push(Read { id: group.id.clone(), home, state: group.state.clone(), positions });
            }
        }
        found
    }

    async fn ask_coordinator(&self, side: Side, group: &str) -> Result<Committed, AdminError> {
        let admin = &self.admins[side.index()];
        let known = self.shared.topology.load().side(side).map(|c| c.broker_list()).unwrap_or_default();
        let address = groups::coordinator(admin, &known, group).await?;
        groups::committed(admin, &address, group, false).await
    }

    /// Of each group, by migration: the partitions of the topics on which it has a position. By group as in `read`.
    fn positions(&self, sealed: &Sealed, read: &[Read]) -> Vec<BTreeMap<String, Positions>> {
        let of_one = |group: &Read| {
            let mut all: BTreeMap<String, Positions> = BTreeMap::new();
            let Some(stored) = &group.positions else { return all };
            let topics: BTreeSet<&TopicName> = stored.keys().map(|tp| &tp.topic).collect();
            for topic in topics {
                let Some((migration, states)) = sealed.get(topic) else { continue };
                let positions = all.entry(migration.clone()).or_default();
                for (partition, state) in (0..).zip(states.iter()).filter(|(_, s)| s.map.has_seam()) {
                    let tp = TopicPartition::new(topic.clone(), partition);
                    let at = stored
                        .get(&tp)
                        .map(|s| position::shown(Some(&state.map), group.home, s.offset, s.metadata.as_deref()).offset);
                    positions.push((tp, at.map(Virtual)));
                }
            }
            all
        };
        read.iter().map(of_one).collect()
    }

    /// Reads the tails that nothing is known of.
    async fn prove(&self, look: &Look, sealed: &Sealed, found: &[BTreeMap<String, Positions>]) {
        let mut wanted: BTreeMap<&TopicPartition, BTreeSet<Option<VOffset>>> = BTreeMap::new();
        for (tp, at) in found.iter().flat_map(BTreeMap::values).flatten() {
            wanted.entry(tp).or_default().insert(*at);
        }
        let proofs = wanted
            .into_iter()
            .filter_map(|(tp, positions)| Some(self.prove_one(look, tp, map_of(sealed, tp)?, positions)));
        stream::iter(proofs).for_each_concurrent(AT_A_TIME, |proof| proof).await;
    }

    async fn prove_one(&self, look: &Look, tp: &TopicPartition, map: &SpliceMap, positions: BTreeSet<Option<VOffset>>) {
        let mut closed = self.closed.borrow_mut().remove(tp).unwrap_or_default();
        closed.forget_records();
        // The highest first: what a read finds there is below the seam for all the others too.
        let mut positions = positions.into_iter().rev();
        let mut position = positions.next();
        while let Some(at) = position {
            match drained::judge(map, at, &closed) {
                Judged::Is(_) => position = positions.next(),
                Judged::Asks(place) if self.probe(look, tp, place, &mut closed).await => {}
                Judged::Asks(_) => break,
            }
        }
        self.closed.borrow_mut().insert(tp.clone(), closed);
    }

    /// One tail. Whether something is known now that was not.
    async fn probe(&self, look: &Look, tp: &TopicPartition, place: Place, closed: &mut Closed) -> bool {
        let (side, Some(end)) = (place.side, place.end) else { return false };
        let Some(view) = self.shared.topology.load().side(side).cloned() else { return false };
        let leader = view.topics.get(&tp.topic).and_then(|t| t.partitions.get(usize::try_from(tp.partition).ok()?));
        let leader = (side, leader.map_or(-1, |p| p.leader));
        let mut at = place;
        for _ in 0..MOST_READS {
            if look.silent.borrow().contains(&leader) {
                return false;
            }
            match self.read_on(&view, tp, &at, end, closed).await {
                Ok(Some(Probed::Nothing)) => {
                    closed.prove(&place);
                    return true;
                }
                Ok(Some(Probed::Record(first))) => {
                    closed.found(&place, first);
                    return true;
                }
                Ok(Some(Probed::GoOn(next))) => at.native = next,
                Ok(Some(Probed::NotYet)) => return false,
                // Where the log begins has been told.
                Ok(None) => return true,
                Err(error) => {
                    tracing::debug!(%side, partition = %tp, %error, "the tail of a sealed side was not read");
                    if matches!(error, AdminError::Unreachable { .. }) {
                        look.silent.borrow_mut().insert(leader);
                    }
                    return false;
                }
            }
        }
        false
    }

    /// One read. `None`: the log begins behind the place, and `closed` knows where.
    async fn read_on(
        &self,
        view: &ClusterView,
        tp: &TopicPartition,
        at: &Place,
        end: NOffset,
        closed: &mut Closed,
    ) -> Result<Option<Probed>, AdminError> {
        let admin = &self.admins[at.side.index()];
        let answer = ask::fetch_raw(admin, view, tp, at.native.0, BYTES, true).await?;
        match answer.error_code {
            code::NONE => {}
            code::OFFSET_OUT_OF_RANGE => {
                let starts = ask::list_offsets(admin, view, std::slice::from_ref(tp), EARLIEST, CONSUMER, 0).await?;
                let start = starts.get(tp).and_then(|found| found.ok()).map_or(at.native, |found| Native(found.offset));
                if start <= at.native {
                    return Ok(Some(Probed::NotYet));
                }
                closed.begins(at.side, start);
                return Ok(None);
            }
            code => {
                if is_stale_topology(code) {
                    self.shared.refresh(at.side);
                }
                let what = format!("a read of {tp} at {}", at.native);
                return Err(AdminError::Refused { side: at.side, what, code });
            }
        }
        let (high_watermark, last_stable) = (answer.high_watermark, answer.last_stable_offset);
        Ok(Some(drained::probed(at, end, high_watermark, last_stable, &answer.records.into_bytes())))
    }

    fn judge(
        &self,
        look: &Look,
        sealed: &Sealed,
        read: &[Read],
        found: Vec<BTreeMap<String, Positions>>,
    ) -> HashMap<String, Arc<Drain>> {
        let migrations: BTreeSet<&String> = sealed.values().map(|(migration, _)| migration).collect();
        let mut drains: HashMap<String, Drain> =
            migrations.into_iter().map(|m| (m.clone(), Drain::default())).collect();
        let closed = self.closed.borrow();
        let standing = |(partition, position): (TopicPartition, Option<VOffset>)| {
            let judged = map_of(sealed, &partition).zip(closed.get(&partition));
            let standing = match judged.map(|(map, closed)| drained::judge(map, position, closed)) {
                Some(Judged::Is(standing)) => standing,
                Some(Judged::Asks(_)) | None => Standing::Unknown,
            };
            PartitionDrain { partition, position, standing }
        };
        for (group, found) in read.iter().zip(found) {
            if group.positions.is_none() {
                self.as_it_was(look, group, &mut drains);
            }
            for (migration, positions) in found {
                let partitions = positions.into_iter().map(standing).collect();
                let (id, state) = (group.id.clone(), group.state.clone());
                let drain = drains.entry(migration).or_default();
                drain.groups.push(GroupDrain { id, home: group.home, state, partitions });
            }
        }
        let unheard = look.unheard.borrow();
        let finished = drains.into_iter().map(|(migration, mut drain)| {
            drain.groups.sort_by(|a, b| a.id.cmp(&b.id));
            drain.unheard.extend(unheard.iter().cloned());
            (migration, Arc::new(drain))
        });
        finished.collect()
    }

    /// A group that did not say what it has committed: what is known of it is what it was seen to read.
    fn as_it_was(&self, look: &Look, group: &Read, drains: &mut HashMap<String, Drain>) {
        let mut known = false;
        for (migration, last) in &self.last {
            let before = last.groups.iter().find(|g| g.id == group.id);
            if let (Some(before), Some(drain)) = (before, drains.get_mut(migration)) {
                known = true;
                drain.groups.push(GroupDrain { home: group.home, state: group.state.clone(), ..before.unknown() });
            }
        }
        if !known {
            look.not_heard(Some(&group.id), format!("what group {} has committed is not known", group.id));
        }
    }

    /// The gauges.
    fn show(&mut self) {
        let mut shown = BTreeSet::new();
        for (migration, drain) in &self.last {
            for group in drain.groups.iter().filter(|g| g.id.len() <= LONG) {
                let key = (migration.clone(), group.id.clone());
                if !self.gauges.contains(&key) && self.gauges.len() >= MOST_GAUGES {
                    continue;
                }
                let behind = group.behind().map_or(f64::NAN, |left| left as f64);
                self.shared.metrics.group_lag(migration, &group.id).set(behind);
                self.gauges.insert(key.clone());
                shown.insert(key);
            }
        }
        // A gauge cannot be taken back.
        for (migration, group) in self.gauges.difference(&shown) {
            self.shared.metrics.group_lag(migration, group).set(f64::NAN);
        }
    }
}

/// Partitions of the topics that a group reads, each with its position, if it has one.
type Positions = Vec<(TopicPartition, Option<VOffset>)>;

fn map_of<'a>(sealed: &'a Sealed, tp: &TopicPartition) -> Option<&'a SpliceMap> {
    let (_, states) = sealed.get(&tp.topic)?;
    Some(&states.get(usize::try_from(tp.partition).ok()?)?.map)
}
