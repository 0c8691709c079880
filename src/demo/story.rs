//! The plot: producers and a consumer group run; in mid-stream the operator prepares and switches; everything that was
//! acknowledged is counted, at the readers and on both clusters.
#![expect(clippy::disallowed_methods, reason = "io: plays in real time, hears Ctrl-C")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::audit::Outcome;
use crate::audit::client::Counters;
use crate::audit::traffic::{Plan, Traffic};
use crate::cli::DemoArgs;
use crate::config::Scheme;
use crate::ids::Side;

use super::operator::Operator;
use super::progress::Progress;
use super::stage::{PARTITIONS, Stage, local};

/// Records per second; less for few records, so that a stream lasts [`AT_LEAST`] and has a middle.
const RATE: f64 = 20_000.0;
const AT_LEAST: f64 = 4.0;
/// When the operator acts, as a part of the stream.
const PREPARE_AT: f64 = 0.2;
const SWITCH_AT: f64 = 0.4;
/// What is left for after the switch, as a part of the stream.
const HELD_BACK: f64 = 0.4;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What happens in mid-stream.
pub trait Cutover {
    fn prepare(&self, migration: &str) -> Result<String>;
    fn switch(&self, migration: &str) -> Result<String>;
}

impl Cutover for Operator {
    fn prepare(&self, migration: &str) -> Result<String> {
        Ok(format!("prepared: {}", Operator::prepare(self, migration)?.done.join("; ")))
    }

    fn switch(&self, migration: &str) -> Result<String> {
        let outcome = self.switch_producers(migration)?;
        let held = outcome.hold_ms.map_or(String::new(), |ms| format!(" (produce held for {ms} ms)"));
        Ok(format!("producers switched to the target{held}: {}", outcome.done.join("; ")))
    }
}

/// Plays one scheme and sweeps the stage, also when the play fails.
pub fn play(args: &DemoArgs, scheme: Scheme) -> Result<Outcome> {
    let stage = Stage::set(args.config.as_deref(), scheme)?;
    let outcome = behind_the_proxy(&stage, scheme, args.records);
    if args.keep {
        eprintln!("kept: topic and group {}", stage.topic);
        return outcome;
    }
    let swept = stage.sweep();
    let mut outcome = outcome?;
    if let Err(error) = swept {
        outcome.fail(format!("{error:#}"));
    }
    Ok(outcome)
}

fn behind_the_proxy(stage: &Stage, scheme: Scheme, records: u64) -> Result<Outcome> {
    let plain = stage.config.listeners.iter().position(|l| l.tls.is_none()).unwrap_or(0);
    let operator = Operator::start(stage.config.clone())?;
    let outcome = match operator.listeners().get(plain) {
        Some(bound) => stream(stage, &local(*bound).to_string(), scheme, records, &operator),
        None => bail!("the proxy has no listener"),
    };
    operator.stop()?;
    let mut outcome = outcome?;
    // The play is about a cutover in mid-stream: both sides have a part, or there was none.
    if outcome.source_records == Some(0) || outcome.target_records == Some(0) {
        outcome.fail("the switch did not fall into the stream: one side has no records".to_owned());
    }
    Ok(outcome)
}

/// The stream itself, through whatever bootstrap, with whatever happens in its middle.
pub fn stream(stage: &Stage, bootstrap: &str, scheme: Scheme, records: u64, cutover: &dyn Cutover) -> Result<Outcome> {
    let rate = RATE.min(records as f64 / AT_LEAST);
    let plan = Plan {
        bootstrap: bootstrap.to_owned(),
        topic: stage.topic.clone(),
        partitions: PARTITIONS,
        producers: vec!["lz4", "none", "lz4"],
        members: 3,
        group: stage.group.clone(),
        rate,
        records,
        held_back: (records as f64 * HELD_BACK) as u64,
        properties: Vec::new(),
        shared_topic: false,
        patience: Duration::from_secs(30),
    };
    let interrupted = interrupts();
    let mut progress = Progress::new(records);
    progress.say(&format!("{scheme}: {records} records at {rate:.0} a second through {bootstrap}"));
    let mut traffic = Traffic::start(plan)?;
    let counters = traffic.counters.clone();
    let mut acts = [(PREPARE_AT, true), (SWITCH_AT, false)].into_iter().peekable();
    let mut failed = None;
    while traffic.is_producing() {
        if interrupted.load(Relaxed) {
            traffic.stop_producing();
            failed.get_or_insert_with(|| anyhow::anyhow!("interrupted"));
        }
        let (sent, received) = (counters.sent.load(Relaxed), counters.received.load(Relaxed));
        progress.at(sent, received);
        if let Some((_, prepare)) = acts.next_if(|(part, _)| sent as f64 >= records as f64 * part) {
            let act = if prepare { cutover.prepare(scheme.name()) } else { cutover.switch(scheme.name()) };
            match act {
                Ok(text) => {
                    progress.say(&text);
                    if acts.peek().is_none() {
                        traffic.release();
                    }
                }
                Err(error) => {
                    traffic.stop_producing();
                    failed = Some(error);
                    break;
                }
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    progress.say("the stream has ended: reading both clusters");
    let verdict = traffic.finish(|checker| {
        for side in Side::BOTH {
            let dump = |partition: i32, offset: i64, value: &[u8]| {
                checker.dump(side, &partition.to_string(), offset, value);
            };
            stage.admin(side).read(&stage.topic, dump).with_context(|| format!("reading the {side}"))?;
        }
        Ok(())
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let verdict = verdict?;
    if acts.peek().is_some() {
        bail!("the stream ended before the switch");
    }
    outcome(stage, scheme, &verdict, &counters)
}

fn outcome(
    stage: &Stage,
    scheme: Scheme,
    verdict: &crate::audit::Verdict,
    counters: &Arc<Counters>,
) -> Result<Outcome> {
    let mut outcome = Outcome::new(verdict, counters.pause_us.load(Relaxed));
    outcome.scheme = Some(scheme.name().to_owned());
    outcome.source_records = Some(stage.admin(Side::Source).records(&stage.topic)?);
    outcome.target_records = Some(stage.admin(Side::Target).records(&stage.topic)?);
    Ok(outcome)
}

/// Set at Ctrl-C: the play ends early and the stage is swept. A second Ctrl-C ends the process at once.
fn interrupts() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let listen = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            set.store(true, Relaxed);
            if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                std::process::exit(1);
            }
        }
    };
    // Without it Ctrl-C ends the process at once, and topics stay: no reason not to play.
    let _ = std::thread::Builder::new().name("interrupts".into()).spawn(listen);
    flag
}
