//! `kafka-cutover canary`: audit traffic through any bootstrap, one's own proxy or a bare cluster, and a verdict.

use std::time::Duration;

use anyhow::Result;

#[derive(clap::Args, Clone, Debug)]
pub struct CanaryArgs {
    /// Where to connect, as HOST:PORT[,HOST:PORT]
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: String,
    /// Topic to use, made if missing; without it one named kafka-cutover-demo-… is made
    #[arg(long, value_name = "T")]
    pub topic: Option<String>,
    /// Records per second
    #[arg(long, default_value_t = 1000.0, value_parser = rate)]
    pub rate: f64,
    /// How long to produce, as in 30s
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// A librdkafka property for every client; may be given several times
    #[arg(short = 'X', value_name = "PROPERTY=VALUE", value_parser = property)]
    pub properties: Vec<(String, String)>,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Leave the topic that was made
    #[arg(long)]
    pub keep: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e7 => Ok(rate),
        _ => Err("a rate lies between 0 and 10,000,000 records per second".to_owned()),
    }
}

/// `name=value`, as `-X` takes it.
pub fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a property is NAME=VALUE".to_owned()),
    }
}

/// Runs and prints; `false` if anything was wrong.
#[cfg(feature = "librdkafka")]
pub fn run(args: CanaryArgs) -> Result<bool> {
    let json = args.json;
    let outcome = canary(args)?;
    outcome.print(json);
    Ok(outcome.ok())
}

#[cfg(not(feature = "librdkafka"))]
pub fn run(_: CanaryArgs) -> Result<bool> {
    anyhow::bail!("{}", super::NO_CLIENT)
}

/// Runs, and cleans up behind itself also when it fails.
#[cfg(feature = "librdkafka")]
pub fn canary(args: CanaryArgs) -> Result<super::Outcome> {
    use super::admin::Admin;
    use super::traffic::Plan;

    const PARTITIONS: usize = 3;

    let admin = Admin::new(&args.bootstrap, &args.properties)?;
    let topic = args.topic.clone().unwrap_or_else(random_name);
    let group = random_name();
    let found = admin.partitions(&topic)?;
    let made = found.is_none();
    if made {
        admin.create(&topic, PARTITIONS as i32)?;
    }
    let plan = Plan {
        bootstrap: args.bootstrap,
        topic: topic.clone(),
        partitions: found.unwrap_or(PARTITIONS),
        producers: vec!["none", "lz4"],
        members: 2,
        group: group.clone(),
        rate: args.rate,
        records: (args.rate * args.duration.as_secs_f64()).ceil() as u64,
        properties: args.properties,
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
