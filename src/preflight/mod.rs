//! What stands in a migration's way, found before anything is changed (DESIGN.md section 13). `facts` asks both clusters once;
//! each other file is one idea, pure: facts in, findings out.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

pub mod compacted;
pub mod components;
pub mod configs;
pub mod connections;
pub mod facts;
pub mod groups;
pub mod limits;
pub mod permissions;
pub mod reach;
pub mod selection;
pub mod target_topics;
pub mod transactions;
pub mod versions;
pub mod whose;
pub mod writers;

mod finding;
mod render;

pub use facts::Facts;
pub use finding::{Finding, Findings, Severity};
pub use render::table;
pub use writers::Seen;

use std::collections::HashSet;

use anyhow::Context;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::config::{Config, Migration};
use crate::ids::{Side, TopicName};
use crate::mirror::configs::held;
use crate::store::Journal;
use crate::upstream::admin::Admin;

/// What nothing here looks at: told with every preflight before a step, so that nobody takes silence for a yes.
pub const NOT_CHECKED: [&str; 3] = [
    "quotas of users, client ids and addresses",
    "that the ACLs of both clusters let the same principals do the same",
    "groups that read topics of several migrations",
];

/// Everything that is found, errors first. What cannot be asked is a finding too. `pinned`: topics of a switch, which
/// is about no others. `seen`: by a proxy that runs.
pub async fn run(
    config: &Config,
    source: &Admin,
    target: &Admin,
    migrations: &[&Migration],
    pinned: Option<&HashSet<TopicName>>,
    seen: &Seen,
) -> Vec<Finding> {
    let facts = facts::gather(config, [source, target], migrations, pinned, seen).await;
    judge(config, migrations, &facts)
}

/// The judgement alone.
pub fn judge(config: &Config, migrations: &[&Migration], facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    reach::find(facts, &mut found);
    whose::find(config, facts, &mut found);
    versions::find(facts, &mut found);
    permissions::find(facts, &mut found);
    limits::find(facts, &mut found);
    selection::find(config, migrations, facts, &mut found);
    target_topics::find(facts, &mut found);
    configs::find(facts, &mut found);
    compacted::find(migrations, facts, &mut found);
    transactions::find(facts, &mut found);
    components::find(config, migrations, facts, &mut found);
    groups::find(facts, &mut found);
    connections::find(facts, &mut found);
    found.sort_by_key(|f| f.severity);
    found
}

/// `kafka-cutover check`: all migrations of a config, on a runtime of its own.
pub fn check(config: &Config) -> anyhow::Result<Findings> {
    let runtime = Builder::new_current_thread().enable_all().build().context("runtime")?;
    let findings = LocalSet::new().block_on(&runtime, async {
        let [source, target] = Side::BOTH.map(|side| Admin::of(config, side));
        let migrations: Vec<&Migration> = config.migrations.iter().collect();
        // What a proxy copies, or has copied, by its journal if there is one.
        let held = Journal::look(&config.state.dir).map(|journal| held(&journal)).unwrap_or_default();
        run(config, &source, &target, &migrations, None, &Seen { held, ..Seen::default() }).await
    });
    Ok(Findings { findings })
}
