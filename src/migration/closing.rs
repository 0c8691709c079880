//! What `complete` asks of both clusters, and does there (DESIGN.md sections 6 and 9): where the side that is left ends, what lies
//! below the seams on it alone, and under the commit barrier of each group its positions, which from then on hold natively
//! on both sides.
#![expect(clippy::disallowed_methods, reason = "io: asks both clusters, waits between tries")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, sleep, timeout};

use super::complete::{Found, History};
use super::moving::{Act, BARRIER, PAUSE, is_still, no_group, patiently};
use super::watch::{self, Sealed};
use crate::clock;
use crate::error::{code, code_name, is_retriable};
use crate::groups::heard::Seat;
use crate::groups::moves::Protocol;
use crate::groups::position::{self, untouched};
use crate::groups::shadow;
use crate::ids::{CONSUMER, DEBUGGING_CONSUMER, EARLIEST, LATEST, Side, TopicName, TopicPartition, VOffset, Virtual};
use crate::offsets::{self, SpliceMap, trailer};
use crate::store::GroupPosition;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask::groups::{self, Committed, Described, Stored};
use crate::upstream::{ClusterView, ask, discovery};

/// Groups that are closed at a time.
const AT_ONCE: usize = 16;
/// `ListOffsetsRequest.MAX_TIMESTAMP` (KIP-734): the record with the highest timestamp.
const MAX_TIMESTAMP: i64 = -3;
const PER_COMMIT: usize = 2_000;
/// For what is under way to a group that is still, and for a group to become so.
const QUIET: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);

/// The ends and the history of the side that is to be left.
/// `copied`: from where to where the partitions lie on the other side, too.
pub async fn find(
    admin: &Admin,
    sealed: &BTreeMap<TopicPartition, Sealed>,
    copied: &BTreeMap<TopicPartition, (i64, i64)>,
) -> Result<Found, AdminError> {
    let view = discovery::look(admin, &[]).await?;
    let all: Vec<TopicPartition> = sealed.keys().cloned().collect();
    let epochs: Vec<(TopicPartition, i32)> =
        sealed.iter().filter(|(_, s)| s.epoch >= 0).map(|(tp, s)| (tp.clone(), s.epoch)).collect();
    let log_ends = ask::list_offsets(admin, &view, &all, LATEST, DEBUGGING_CONSUMER, 0).await?;
    // Not spoken by this side: its log's end is all that can be said.
    let epoch_ends = ask::epoch_ends(admin, &view, &epochs).await.unwrap_or_default();
    let starts = ask::list_offsets(admin, &view, &all, EARLIEST, CONSUMER, 0).await?;
    let mut found = Found::default();
    let mut left: BTreeMap<TopicName, i64> = BTreeMap::new();
    for (tp, sealed) in sealed {
        let of = |answers: &ask::Answers<ask::LogOffset>, what: &str| match answers.get(tp) {
            Some(Ok(at)) => Ok(at.offset),
            other => {
                let code = other.and_then(|o| o.err()).unwrap_or(code::UNKNOWN_SERVER_ERROR);
                Err(AdminError::Refused { side: admin.side, what: format!("{what} of {tp}"), code })
            }
        };
        let (end, start) = (of(&log_ends, "the end")?, of(&starts, "the start")?);
        let epoch_end = epoch_ends.get(tp).and_then(|found| found.ok().flatten());
        found.ends.insert(tp.clone(), watch::judge(*sealed, end, epoch_end));
        let (from, to) = copied.get(tp).copied().unwrap_or((sealed.end, sealed.end));
        let without_copy = (from.min(sealed.end) - start).max(0) + (sealed.end - to.max(start)).max(0);
        if without_copy > 0 {
            *left.entry(tp.topic.clone()).or_default() += without_copy;
        }
    }
    found.history = history(admin, &view, sealed, left).await?;
    Ok(found)
}

/// Of topics with something left below their seams: what retention would not have taken by now.
async fn history(
    admin: &Admin,
    view: &ClusterView,
    sealed: &BTreeMap<TopicPartition, Sealed>,
    left: BTreeMap<TopicName, i64>,
) -> Result<Vec<History>, AdminError> {
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<TopicName> = left.keys().cloned().collect();
    let configs = ask::describe_topic_configs(admin, view, &names).await?;
    let of_left: Vec<TopicPartition> = sealed.keys().filter(|tp| left.contains_key(&tp.topic)).cloned().collect();
    // A broker older than 3.0 does not say: then it counts as young.
    let youngest = ask::list_offsets(admin, view, &of_left, MAX_TIMESTAMP, CONSUMER, 0).await.unwrap_or_default();
    let now_ms = clock::now_ms();
    let mut found = Vec::new();
    for (topic, records) in left {
        let configs = configs.get(&topic).and_then(|c| c.as_ref().ok());
        let config = |name: &str| configs?.iter().find(|c| c.name == name)?.value.clone();
        let is_compacted = config("cleanup.policy").is_some_and(|p| p.split(',').any(|one| one.trim() == "compact"));
        let retention = config("retention.ms").and_then(|ms| ms.parse::<i64>().ok()).filter(|ms| *ms >= 0);
        let of_topic = || of_left.iter().filter(|tp| tp.topic == topic);
        let is_old = |tp: &TopicPartition| match (youngest.get(tp), retention) {
            (Some(Ok(at)), Some(retention)) => at.timestamp < now_ms.saturating_sub(retention),
            _ => false,
        };
        if is_compacted || !of_topic().all(is_old) {
            found.push(History { topic, records, is_compacted });
        }
    }
    Ok(found)
}

/// A group that is at home on the side that stays.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub group: String,
    /// Where the last look saw it. `None`: wherever it stands.
    pub seen: Option<BTreeMap<TopicPartition, Option<VOffset>>>,
}

/// What a group has committed at the end.
pub struct Closed {
    pub group: String,
    pub home: Side,
    pub positions: Vec<GroupPosition>,
}

/// All of these groups; why not, of those that were not.
pub async fn close(act: &Act<'_>, groups: Vec<Wanted>) -> (Vec<Closed>, Vec<String>) {
    let closing = stream::iter(groups).map(|wanted| async {
        let positions = act.close(&wanted).await;
        (wanted.group, positions)
    });
    let mut closing = std::pin::pin!(closing.buffer_unordered(AT_ONCE));
    let (mut closed, mut failed) = (Vec::new(), Vec::new());
    while let Some((group, outcome)) = closing.next().await {
        match outcome {
            Ok(positions) => closed.push(Closed { group, home: act.to, positions }),
            Err(why) => failed.push(format!("group {group}: {why}")),
        }
    }
    closed.sort_by(|a, b| a.group.cmp(&b.group));
    failed.sort();
    (closed, failed)
}

/// Why one attempt did not do.
enum NotClosed {
    /// Another one may.
    Again(String),
    Never(String),
}

impl From<AdminError> for NotClosed {
    fn from(e: AdminError) -> Self {
        Self::Never(e.to_string())
    }
}

impl Act<'_> {
    /// Under its commit barrier, which is open again in any case.
    async fn close(&self, wanted: &Wanted) -> Result<Vec<GroupPosition>, String> {
        let (group, until) = (wanted.group.as_str(), Instant::now() + LONGEST);
        let mut last = "it rebalances".to_owned();
        while Instant::now() < until {
            match self.try_to_close(wanted).await {
                Ok(positions) => return Ok(positions),
                Err(NotClosed::Never(why)) => return Err(why),
                Err(NotClosed::Again(why)) => last = why,
            }
            tracing::debug!(group, why = last, "the group is closed later");
            sleep(PAUSE).await;
        }
        Err(format!("{last}, for {} s: try again", LONGEST.as_secs()))
    }

    async fn try_to_close(&self, wanted: &Wanted) -> Result<Vec<GroupPosition>, NotClosed> {
        let group = wanted.group.as_str();
        let (protocol, described) = self.at(self.to, group).await?;
        if !is_still(&described) {
            return Err(NotClosed::Again(format!("it is {}", described.state)));
        }
        let seat = self.seat(group, protocol, &described).await?;
        self.shared.commits.close(group);
        // In a rebalance that has just begun some members wait at the coordinator for others, which wait here.
        let done = match self.quiet(group, QUIET).await {
            true => self.natively(wanted, seat.as_ref()).await,
            false => Err(NotClosed::Again("a commit or a rebalance of it does not end".to_owned())),
        };
        self.shared.commits.open(group);
        self.shared.moves.wake();
        done
    }

    /// In whose name its positions can be rewritten, if some are to be.
    async fn seat(&self, group: &str, protocol: Protocol, described: &Described) -> Result<Option<Seat>, NotClosed> {
        let Some((id, member)) = described.members.iter().next() else { return Ok(None) };
        if protocol == Protocol::Consumer {
            return Ok(Some(Seat { member_id: id.clone(), generation: member.epoch }));
        }
        let stored = self.committed(self.to, group, false).await?;
        if !stored.iter().any(|(tp, at)| self.plain(tp, at).is_some()) {
            return Ok(None);
        }
        match timeout(LONGEST, self.shared.heard.of(group)).await {
            Ok(seat) => Ok(Some(seat)),
            Err(_) => {
                let why =
                    format!("none of its members was heard in {} s: do they go through the proxy?", LONGEST.as_secs());
                Err(NotClosed::Never(why))
            }
        }
    }

    /// The authority without trailers, the shadow in its own terms, both read back.
    async fn natively(&self, wanted: &Wanted, seat: Option<&Seat>) -> Result<Vec<GroupPosition>, NotClosed> {
        let (group, home, other) = (wanted.group.as_str(), self.to, self.to.other());
        let stored = self.committed(home, group, true).await.or_else(no_group)?;
        if let Some(tp) = stored.iter().find_map(|(tp, at)| self.has_gone_back(wanted, tp, at).then_some(tp)) {
            let why = format!("it has gone back to before the seam of {tp} since it was looked at: try again");
            return Err(NotClosed::Never(why));
        }
        let plain: Vec<(TopicPartition, Stored)> =
            stored.iter().filter_map(|(tp, at)| Some((tp.clone(), self.plain(tp, at)?))).collect();
        for some in plain.chunks(PER_COMMIT) {
            // It may have begun a rebalance, or the member has left.
            self.commit(home, group, seat, some).await.map_err(NotClosed::Again)?;
        }
        let authority = match plain.is_empty() {
            true => stored,
            false => self.committed(home, group, true).await?,
        };
        let not_there = |side: Side, tp: &TopicPartition| {
            NotClosed::Again(format!("the {side} does not answer what was committed there for {tp}"))
        };
        if let Some((tp, _)) = plain.iter().find(|(tp, wanted)| authority.get(tp) != Some(wanted)) {
            return Err(not_there(home, tp));
        }
        let shadows = self.shadows(&authority);
        for some in shadows.chunks(PER_COMMIT) {
            self.commit(other, group, None, some).await.map_err(NotClosed::Never)?;
        }
        let there = match shadows.is_empty() {
            true => Committed::new(),
            false => self.committed(other, group, false).await?,
        };
        if let Some((tp, _)) = shadows.iter().find(|(tp, wanted)| there.get(tp) != Some(wanted)) {
            return Err(not_there(other, tp));
        }
        Ok(self.record(&authority, &there))
    }

    /// A position before the seam, where the last look has not seen it.
    fn has_gone_back(&self, wanted: &Wanted, tp: &TopicPartition, at: &Stored) -> bool {
        let (Some(seen), true) = (&wanted.seen, self.topics.contains(&tp.topic)) else { return false };
        let Some(map) = self.map(tp) else { return false };
        let v = Virtual(position::shown(Some(&map), self.to, at.offset, at.metadata.as_deref()).offset);
        v < map.tail_start() && seen.get(tp).copied().flatten() != Some(v)
    }

    fn map(&self, tp: &TopicPartition) -> Option<SpliceMap> {
        self.shared.partitions.load().get(&tp.topic, tp.partition).map(|state| state.map.clone())
    }

    /// A position of one of the topics that carries a trailer, as it is without.
    fn plain(&self, tp: &TopicPartition, at: &Stored) -> Option<Stored> {
        let (_, written) = trailer::detach(at.metadata.as_deref()?);
        let (v, map) = (written?, self.topics.contains(&tp.topic).then(|| self.map(tp)).flatten()?);
        let native = offsets::shadow(&map, self.to, v)?;
        let metadata = Some(trailer::clean(at.metadata.as_deref()?).to_owned());
        Some(Stored { offset: native.0, metadata })
    }

    async fn commit(
        &self,
        side: Side,
        group: &str,
        seat: Option<&Seat>,
        positions: &[(TopicPartition, Stored)],
    ) -> Result<(), String> {
        let until = Instant::now() + BARRIER;
        loop {
            let answers = patiently(async || {
                let address = self.coordinator(side, group).await?;
                groups::commit(self.admin(side), &address, group, seat, positions).await
            });
            let answers = answers.await.map_err(|e| e.to_string())?;
            let Some((tp, code)) = answers.iter().find_map(|(tp, a)| Some((tp, *a.as_ref().err()?))) else {
                return Ok(());
            };
            if !is_retriable(code) || Instant::now() > until {
                return Err(format!("the {side} refuses its position of {tp}: {}", code_name(code)));
            }
            sleep(PAUSE).await;
        }
    }

    /// What the other side is to have of it.
    fn shadows(&self, authority: &Committed) -> Vec<(TopicPartition, Stored)> {
        let one = |(tp, at): (&TopicPartition, &Stored)| {
            let map = self.map(tp);
            if !shadow::is_owed(map.as_ref(), self.to) {
                return None;
            }
            let map = map.unwrap_or_else(untouched);
            let shown = position::shown(Some(&map), self.to, at.offset, at.metadata.as_deref());
            let v = (shown.offset >= 0).then_some(Virtual(shown.offset))?;
            Some((tp.clone(), shadow::position(&map, self.to.other(), v, shown.metadata.as_deref())?))
        };
        authority.iter().filter_map(one).collect()
    }

    /// Of the migration's topics.
    fn record(&self, authority: &Committed, there: &Committed) -> Vec<GroupPosition> {
        let topics: &BTreeSet<TopicName> = &self.topics;
        let ours = authority.iter().filter(|(tp, _)| topics.contains(&tp.topic));
        let mut positions: Vec<GroupPosition> = ours
            .map(|(tp, at)| {
                let shown = position::shown(self.map(tp).as_ref(), self.to, at.offset, at.metadata.as_deref());
                let on = |side: Side| if side == self.to { Some(at.offset) } else { there.get(tp).map(|s| s.offset) };
                GroupPosition {
                    topic: tp.topic.clone(),
                    partition: tp.partition,
                    at: Virtual(shown.offset),
                    source: on(Side::Source),
                    target: on(Side::Target),
                }
            })
            .collect();
        positions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        positions
    }
}
