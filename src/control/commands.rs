//! What each command of the command line does with the control socket.
#![expect(clippy::disallowed_methods, reason = "io: waits between two looks at the status, prints")]

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use thiserror::Error;

use super::client::{Client, ClientError};
use super::protocol::{
    MigrationStatus, NEXT_COMPLETE, NEXT_PREPARE, NEXT_SWITCH_CONSUMERS, NEXT_SWITCH_GROUPS, NEXT_SWITCH_PRODUCERS,
    Outcome, Refusal, SkipBody, StepBody, SwitchBody, TranslateQuery, WaiveBody, What,
};
use super::{render, report, translate};
use crate::cli::{
    AbortArgs, CompleteArgs, CutoverArgs, PrepareArgs, ReportArgs, ReportFormat, SkipArgs, StatusArgs, SwitchArgs,
    TranslateArgs, WaiveArgs,
};
use crate::ids::Side;
use crate::migration::certificate;
use crate::store::Journal;

/// Refused or failed: exit code 1, one line.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Failed(pub String);

impl From<ClientError> for Failed {
    fn from(e: ClientError) -> Self {
        match e {
            ClientError::Refused(refusal) => Self(render::refusal(&refusal)),
            other => Self(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(e: std::io::Error) -> Self {
        Self(format!("standard output: {e}"))
    }
}

pub async fn status(client: &Client, args: &StatusArgs) -> Result<(), Failed> {
    loop {
        let mut status = client.status().await?;
        if let Some(name) = &args.migration
            && !status.migrations.iter().any(|m| m.name == *name)
        {
            let known = status.migrations.iter().map(|m| m.name.as_str());
            return Err(ClientError::from(Refusal::unknown_migration(name, known)).into());
        }
        if args.json {
            status.migrations.retain(|m| args.migration.as_ref().is_none_or(|name| m.name == *name));
            json(&status)?;
        } else {
            let terminal = std::io::stdout().is_terminal();
            // Home and clear, so that the table stays in its place.
            let clear = if args.watch && terminal { "\x1b[H\x1b[2J" } else { "" };
            out(&format!("{clear}{}", render::status(&status, args.migration.as_deref(), terminal)))?;
        }
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

pub async fn prepare(client: &Client, args: &PrepareArgs) -> Result<(), Failed> {
    let body = StepBody { expect_step: None, dry_run: args.dry_run };
    let outcome = with_spinner("preparing", client.prepare(&args.migration, &body)).await?;
    tell(&outcome, args.json)
}

pub async fn complete(client: &Client, args: &CompleteArgs) -> Result<(), Failed> {
    let body = StepBody { expect_step: None, dry_run: args.dry_run };
    let outcome = with_spinner("completing", client.complete(&args.migration, &body)).await?;
    tell(&outcome, args.json)
}

/// From the running proxy, or with `--state` from the journal that it writes or wrote: the same certificate.
pub async fn report(client: &Client, args: &ReportArgs) -> Result<(), Failed> {
    let certificate = match &args.state {
        None => client.report(&args.migration).await.map_err(or_its_journal)?,
        Some(dir) => {
            let state = Journal::look(dir).map_err(|e| Failed(e.to_string()))?;
            let known = state.migrations.keys().map(String::as_str);
            let unknown = || ClientError::from(Refusal::unknown_migration(&args.migration, known));
            certificate::of(&state, &args.migration).ok_or_else(unknown)?
        }
    };
    match args.format {
        ReportFormat::Json => json(&certificate),
        ReportFormat::Text => out(&report::text(&certificate)),
        ReportFormat::Html => out(&report::html(&certificate)),
    }
}

pub async fn abort(client: &Client, args: &AbortArgs) -> Result<(), Failed> {
    let body = StepBody { expect_step: None, dry_run: args.dry_run };
    let outcome = with_spinner("aborting", client.abort(&args.migration, &body)).await?;
    tell(&outcome, args.json)
}

pub async fn waive(client: &Client, args: &WaiveArgs) -> Result<(), Failed> {
    let (kind, name, why) = (args.what.into(), args.name.clone(), args.why.clone());
    let body = WaiveBody { kind, name, why, expect_step: None, dry_run: args.dry_run };
    let outcome = with_spinner("waiving", client.waive(&args.migration, &body)).await?;
    tell(&outcome, args.json)
}

pub async fn skip(client: &Client, args: &SkipArgs) -> Result<(), Failed> {
    let SkipArgs { partition, why, force, dry_run, .. } = args.clone();
    let (topic, partition) = (partition.topic.to_string(), partition.partition);
    let body = SkipBody { topic, partition, why, force, expect_step: None, dry_run };
    let outcome = with_spinner("skipping", client.skip(&args.migration, &body)).await?;
    tell(&outcome, args.json)
}

pub async fn switch(client: &Client, args: &SwitchArgs) -> Result<(), Failed> {
    let SwitchArgs { what, to, force, hold_consumers, dry_run, .. } = *args;
    let body = SwitchBody { what, to: to.into(), force, hold_consumers, expect_step: None, dry_run };
    let outcome = with_spinner(args.what.step(), client.switch(&args.migration, &body)).await?;
    tell(&outcome, args.json)
}

/// One call per step, each with the step that was seen: a lost terminal stops at the next one, and two that run at
/// once do not run a step twice.
pub async fn cutover(client: &Client, args: &CutoverArgs) -> Result<(), Failed> {
    if args.dry_run {
        return rehearse(client, &args.migration).await;
    }
    let mut confirmed = args.yes;
    let mut last = None;
    loop {
        let now = client.migration(&args.migration).await?;
        if last.as_ref() == Some(&(now.step.clone(), now.next.clone())) {
            return Err(Failed(format!("{}: still at step `{}` after it was run", now.name, now.step)));
        }
        let Some(next) = now.next.as_deref() else {
            return out(&format!("{}: at step `{}`, nothing is left to do\n", now.name, now.step));
        };
        if !matches!(next, NEXT_PREPARE | NEXT_COMPLETE) && moves(next).is_none() {
            let text = format!("{}: at step `{}`; next is `{next}`, which is not built yet\n", now.name, now.step);
            return out(&text);
        }
        // What a mirror is behind it makes up for; whatever else is in the way is for the operator.
        let now = if is_behind(&now) { mirrored(client, &args.migration).await? } else { now };
        let Some(next) = now.next.as_deref() else { continue };
        guard(&now, next)?;
        if !confirmed {
            confirm(&now, next)?;
            confirmed = true;
        }
        let outcome = step(client, &now, next).await?;
        out(&render::outcome(&outcome))?;
        last = Some((now.step, now.next));
    }
}

/// All that its next step waits for is its mirror, which goes on.
fn is_behind(now: &MigrationStatus) -> bool {
    let goes_on = now.mirror.as_ref().is_some_and(|mirror| mirror.stopped.is_empty());
    goes_on && !now.guard.ok && now.next.as_deref() == Some(NEXT_SWITCH_PRODUCERS)
}

/// Until the mirror has caught up, or something else is in the way.
async fn mirrored(client: &Client, name: &str) -> Result<MigrationStatus, Failed> {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    loop {
        let now = client.migration(name).await?;
        let Some(mirror) = now.mirror.as_ref().filter(|_| is_behind(&now)) else {
            bar.finish_and_clear();
            return Ok(now);
        };
        bar.set_message(format!("mirroring: {} records copied, {} offsets to go", mirror.records, mirror.lag));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn rehearse(client: &Client, name: &str) -> Result<(), Failed> {
    let now = client.migration(name).await?;
    let outcome = match now.next.as_deref() {
        Some(NEXT_PREPARE) => {
            client.prepare(name, &StepBody { dry_run: true, expect_step: Some(now.step.clone()) }).await?
        }
        Some(NEXT_COMPLETE) => {
            client.complete(name, &StepBody { dry_run: true, expect_step: Some(now.step.clone()) }).await?
        }
        next => match next.and_then(moves) {
            Some(what) => client.switch(name, &to_target(&now, what, true)).await?,
            None => {
                let next = next.unwrap_or("nothing");
                return out(&format!("{name}: at step `{}`; next is {next}: nothing to run\n", now.step));
            }
        },
    };
    out(&render::outcome(&outcome))
}

async fn step(client: &Client, now: &MigrationStatus, next: &str) -> Result<Outcome, Failed> {
    let name = &now.name;
    let body = StepBody { dry_run: false, expect_step: Some(now.step.clone()) };
    let outcome = match moves(next) {
        Some(what) => with_spinner(next, client.switch(name, &to_target(now, what, false))).await?,
        None if next == NEXT_COMPLETE => with_spinner("completing", client.complete(name, &body)).await?,
        None => with_spinner("preparing", client.prepare(name, &body)).await?,
    };
    Ok(outcome)
}

/// What this step switches, if it is a switch.
fn moves(next: &str) -> Option<What> {
    match next {
        NEXT_SWITCH_PRODUCERS => Some(What::Producers),
        NEXT_SWITCH_CONSUMERS => Some(What::Consumers),
        NEXT_SWITCH_GROUPS => Some(What::Groups),
        _ => None,
    }
}

fn to_target(now: &MigrationStatus, what: What, dry_run: bool) -> SwitchBody {
    let expect_step = Some(now.step.clone());
    SwitchBody { what, to: Side::Target, force: false, hold_consumers: false, expect_step, dry_run }
}

fn guard(now: &MigrationStatus, next: &str) -> Result<(), Failed> {
    if now.guard.ok {
        return Ok(());
    }
    let reason = now.guard.reason.as_deref().unwrap_or("no reason given");
    Err(Failed(format!("{}: `{next}` may not run yet: {reason}; run `cutover` again once it may", now.name)))
}

fn confirm(now: &MigrationStatus, next: &str) -> Result<(), Failed> {
    if !std::io::stdin().is_terminal() {
        return Err(Failed("this is no terminal to ask at: give --yes to go on without".to_owned()));
    }
    let question = format!("cut over {} ({} topics), beginning with `{next}`? [y/N] ", now.name, now.topics.len());
    std::io::stderr().write_all(question.as_bytes())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failed("not confirmed".to_owned())) }
}

/// From the running proxy, with `--state` from the journal that it writes or wrote, or from a certificate: the same answer.
pub async fn translate(client: &Client, args: &TranslateArgs) -> Result<(), Failed> {
    let TranslateArgs { topic, partition, offset, from, .. } = args.clone();
    let asked = TranslateQuery { topic, partition, offset, from };
    let translation = match (&args.certificate, &args.state) {
        (Some(file), _) => {
            let of_file = |e: &dyn std::fmt::Display| Failed(format!("{}: {e}", file.display()));
            let text = std::fs::read(file).map_err(|e| of_file(&e))?;
            let certificate = serde_json::from_slice(&text).map_err(|e| of_file(&e))?;
            translate::by_certificate(&certificate, &asked).map_err(ClientError::from)?
        }
        (None, None) => client.translate(&asked).await.map_err(or_its_journal)?,
        (None, Some(dir)) => {
            let state = Journal::look(dir).map_err(|e| Failed(e.to_string()))?;
            translate::answer(&state, &asked).map_err(ClientError::from)?
        }
    };
    if args.json { json(&translation) } else { out(&render::translation(&translation)) }
}

/// Where no proxy answers there may still be what it has written.
fn or_its_journal(e: ClientError) -> Failed {
    let is_unreachable = matches!(e, ClientError::Unreachable { .. });
    let Failed(why) = e.into();
    Failed(if is_unreachable { format!("{why}; --state DIR asks a proxy's journal instead") } else { why })
}

/// Progress goes to stderr; where that is no terminal the bar is silent.
async fn with_spinner<T>(what: &str, call: impl Future<Output = T>) -> T {
    let bar = ProgressBar::new_spinner();
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    let done = call.await;
    bar.finish_and_clear();
    done
}

fn tell(outcome: &Outcome, as_json: bool) -> Result<(), Failed> {
    if as_json { json(outcome) } else { out(&render::outcome(outcome)) }
}

fn json(value: &impl Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string(value).map_err(|e| Failed(e.to_string()))?;
    out(&format!("{text}\n"))
}

fn out(text: &str) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}
