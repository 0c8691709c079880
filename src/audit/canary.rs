//! `kafka-cutover canary`: audit traffic through any bootstrap, one's own proxy or a bare cluster, and a verdict.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::CanaryArgs;

/// Runs, prints, and exits 0 only if nothing was wrong.
#[cfg(feature = "librdkafka")]
pub fn run(args: CanaryArgs) -> Result<ExitCode> {
    let outcome = canary(&args)?;
    outcome.print(args.json);
    Ok(if outcome.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(not(feature = "librdkafka"))]
pub fn run(_: CanaryArgs) -> Result<ExitCode> {
    anyhow::bail!("{}", super::NO_CLIENT)
}

/// Runs, and cleans up behind itself also when it fails.
#[cfg(feature = "librdkafka")]
pub fn canary(args: &CanaryArgs) -> Result<super::Outcome> {
    use super::admin::Admin;
    use super::traffic::Plan;
    use std::time::Duration;

    const PARTITIONS: usize = 3;

    let bootstrap = args.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let admin = Admin::new(&bootstrap, &args.properties)?;
    let topic = args.topic.clone();
    let group = random_name();
    let found = admin.partitions(&topic)?;
    let made = found.is_none();
    if made {
        admin.create(&topic, PARTITIONS as i32)?;
    }
    let plan = Plan {
        bootstrap,
        topic: topic.clone(),
        partitions: found.unwrap_or(PARTITIONS),
        producers: vec!["none", "lz4"],
        members: 2,
        group: group.clone(),
        rate: f64::from(args.rate),
        records: (f64::from(args.rate) * args.duration.as_secs_f64()).ceil() as u64,
        held_back: 0,
        properties: args.properties.clone(),
        shared_topic: !made,
        patience: Duration::from_secs(30),
    };
    let outcome = drive(&admin, plan);
    let cleaned = clean(&admin, &group, (made && !args.keep).then_some(topic.as_str()));
    let mut outcome = outcome?;
    if let Err(error) = cleaned {
        outcome.fail(format!("cleaning up: {error:#}"));
    }
    Ok(outcome)
}

#[cfg(feature = "librdkafka")]
fn drive(admin: &super::admin::Admin, plan: super::traffic::Plan) -> Result<super::Outcome> {
    if plan.shared_topic {
        admin.start_at_end(&plan.topic, &plan.group)?;
    }
    let traffic = super::traffic::Traffic::start(plan)?;
    let counters = traffic.counters.clone();
    let verdict = traffic.finish(|_| Ok(()))?;
    let pause = counters.pause_us.load(std::sync::atomic::Ordering::Relaxed);
    Ok(super::Outcome::new(&verdict, pause))
}

#[cfg(feature = "librdkafka")]
fn clean(admin: &super::admin::Admin, group: &str, topic: Option<&str>) -> Result<()> {
    admin.delete_group(group)?;
    topic.map_or(Ok(()), |topic| admin.delete(&[topic]))
}

/// A name nobody else has, that says whose it is.
pub fn random_name() -> String {
    format!("kafka-cutover-demo-{:08x}", rand::random::<u32>())
}
