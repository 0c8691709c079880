//! Who this proxy is, before it serves (DESIGN.md section 4, "the worst accident"): the journal, both clusters and their
//! markers must agree. With an empty journal both clusters are asked first, however long that takes.
#![expect(clippy::disallowed_methods, reason = "io: waits between attempts")]

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::future::join_all;
use uuid::Uuid;

use super::marker;
use crate::config::{Config, Mirror};
use crate::ids::Side;
use crate::preflight::{facts, versions};
use crate::store::identity::{IdentityRefusal, MarkerSeen, judge, judge_clusters};
use crate::store::{ApiVersions, Event, Identity, State, Store};
use crate::upstream::admin::Admin;
use crate::upstream::topology::PartitionView;
use crate::upstream::{ClusterView, TopicView, discovery};
use crate::virtual_cluster::versions::served_at_least;
use crate::virtual_cluster::{Range, Versions, VirtualCluster};

const AGAIN: Duration = Duration::from_millis(500);

/// What is known once the proxy may serve.
pub struct Contact {
    pub cluster: VirtualCluster,
    pub views: [Option<ClusterView>; 2],
}

/// A config that contradicts the journal is refused, naming both values.
pub fn config_agrees(config: &Config, state: &State) -> anyhow::Result<()> {
    for (name, known) in &state.migrations {
        let Some(migration) = config.migration(name) else {
            // Its topics stay where the journal says that they are.
            if known.completed.is_some() {
                continue;
            }
            bail!(
                "migrations: the journal in {} has migration `{name}` at step `{}`, the config has none of that name: \
                 put it back, under way it can be neither removed nor renamed \
                 (before its first switch, `abort` ends it)",
                config.state.dir.display(),
                known.step
            );
        };
        if migration.scheme.name() != known.scheme {
            bail!(
                "migrations: `{name}` has scheme `{}` in the config and `{}` in the journal: a migration under way keeps its scheme",
                migration.scheme.name(),
                known.scheme
            );
        }
        let is_copied = known.topics.iter().any(|topic| topic.mirror.is_some());
        if is_copied && known.completed.is_none() && migration.mirror != Mirror::Forward {
            bail!(
                "migrations: `{name}` has `mirror: {}` in the config and is mirrored forward by the journal: a migration under way \
                 keeps its mirror (before its first switch, `abort` ends it)",
                if migration.mirror == Mirror::None { "none" } else { "reverse" }
            );
        }
    }
    Ok(())
}

pub async fn first_contact(config: &Config, store: &Store, admins: &[Rc<Admin>; 2]) -> anyhow::Result<Contact> {
    let mut said = String::new();
    loop {
        let state = store.state();
        let mut views = [None, None];
        let mut markers: [Option<MarkerSeen>; 2] = [None, None];
        let mut trouble = Vec::new();
        for side in Side::BOTH {
            match ask(&admins[side.index()], &config.name).await {
                Ok((view, marker)) => {
                    views[side.index()] = Some(view);
                    markers[side.index()] = Some(marker);
                }
                Err(error) => trouble.push(error.to_string()),
            }
        }
        let found = [0, 1].map(|i| views[i].as_ref().map(|v: &ClusterView| v.cluster_id.as_str()));
        judge_clusters(&state, found)?;
        if let [Some(source), Some(target)] = found
            && source == target
            && !source.is_empty()
        {
            bail!(
                "source and target are the same cluster ({source}): correct `source.bootstrap` or `target.bootstrap`"
            );
        }
        match judge(&state, &config.name, &markers) {
            Ok(()) => {}
            Err(refusal) if refusal.is_wait() => trouble.push(refusal.to_string()),
            Err(refusal) => return Err(anyhow!(refusal)),
        }
        let all = views.iter().all(Option::is_some);
        let enough = all || state.identity.is_some() && views.iter().any(Option::is_some);
        if enough {
            let state = if state.identity.is_some() { state } else { introduce(config, store, &views, admins).await? };
            let cluster = believed(&state)?;
            if views[Side::Source.index()].is_none() {
                views[Side::Source.index()] = Some(remembered(&state));
            }
            return Ok(Contact { cluster, views });
        }
        let trouble = trouble.join("; ");
        if trouble != said {
            tracing::warn!(%trouble, "waiting for the clusters");
            said = trouble;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn ask(admin: &Admin, name: &str) -> Result<(ClusterView, MarkerSeen), crate::upstream::admin::AdminError> {
    let view = discovery::look(admin, &[]).await?;
    let marker = marker::read(admin, name).await?;
    Ok((view, marker))
}

/// A cluster that was not to be asked when the proxy began to serve, once it is: its marker may know of a seal that the
/// journal has forgotten.
pub async fn late_contact(admin: &Admin, store: &Store, name: &str) -> Result<(), IdentityRefusal> {
    let marker = loop {
        match ask(admin, name).await {
            Ok((_, marker)) => break marker,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    };
    let mut markers = [None, None];
    markers[admin.side.index()] = Some(marker);
    judge(&store.state(), name, &markers)
}

/// The first start: identity and versions are journalled, and never change by themselves.
async fn introduce(
    config: &Config,
    store: &Store,
    views: &[Option<ClusterView>; 2],
    admins: &[Rc<Admin>; 2],
) -> anyhow::Result<Arc<State>> {
    let id = |side: Side| views[side.index()].as_ref().map(|v| v.cluster_id.clone());
    let mut ranges: [HashMap<i16, Range>; 2] = Default::default();
    for (i, view) in views.iter().enumerate() {
        ranges[i] = spoken_by_all(&admins[i], view.as_ref()).await;
    }
    let [source, target] = &ranges;
    let versions = Versions::intersection(source, target);
    let identity = Identity {
        journal: Uuid::new_v4(),
        name: config.name.clone(),
        source_cluster_id: id(Side::Source).unwrap_or_default(),
        target_cluster_id: id(Side::Target),
    };
    let ranges = versions.ranges.iter().map(|(key, r)| (*key, r.min, r.max)).collect();
    let versions = ApiVersions { ranges, ..ApiVersions::default() };
    store.append(&[Event::Identity(identity), Event::ApiVersions(versions)]).context("the first events of the journal")
}

/// In the middle of a rolling upgrade brokers differ, and what is told to clients holds for all of them and for ever.
async fn spoken_by_all(admin: &Admin, view: Option<&ClusterView>) -> HashMap<i16, Range> {
    let brokers = view.map(ClusterView::broker_list).unwrap_or_default();
    let asked = join_all(brokers.iter().map(|broker| facts::broker_versions(admin, broker))).await;
    let mut all: Option<HashMap<i16, Range>> = None;
    for (broker, answer) in brokers.iter().zip(asked) {
        match answer {
            Ok(spoken) => all = Some(all.map_or(spoken.clone(), |others| versions::all_of(&others, &spoken))),
            Err(error) => tracing::warn!(side = %admin.side, broker = %broker.address(), %error,
                "a broker did not say which versions it speaks: what the others speak is offered to clients"),
        }
    }
    all.unwrap_or_else(|| served_at_least(admin.versions()))
}

fn believed(state: &State) -> anyhow::Result<VirtualCluster> {
    let (Some(identity), Some(versions)) = (&state.identity, &state.api_versions) else {
        bail!("the journal has an identity without API versions: restore it from a backup");
    };
    let ranges = versions.ranges.iter().map(|(key, min, max)| (*key, Range { min: *min, max: *max }));
    let cluster_id = identity.source_cluster_id.clone();
    Ok(VirtualCluster { cluster_id, versions: Versions { ranges: ranges.collect() } })
}

/// The source as the journal remembers it, while it cannot be asked: what has moved on is still there for clients.
fn remembered(state: &State) -> ClusterView {
    let mut view = ClusterView { reachable: false, controller: -1, ..ClusterView::default() };
    for topic in state.migrations.values().flat_map(|m| &m.topics) {
        // It was led once: clients are told of a leader, and wait for it.
        let partition = PartitionView { leader: -1, epoch: 1 };
        let partitions = vec![partition; topic.partitions.len()];
        view.names.insert(topic.source_id, topic.name.clone());
        let topic_view = TopicView { id: topic.source_id, internal: false, partitions };
        view.topics.insert(topic.name.clone(), Arc::new(topic_view));
    }
    view
}
