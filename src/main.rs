//! The binary: reads the command line, sets up logging, hands over, and turns what comes back into an exit code.
//! 0 done; 1 refused or failed; 2 usage or config.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use kafka_cutover::cli::{Cli, Command, LogFormat, OffsetsCommand};
use kafka_cutover::config::{self, Config};
use kafka_cutover::control::{Client, commands};
use kafka_cutover::{audit, demo, preflight, proxy};
use tracing_subscriber::EnvFilter;

/// What ends the program, by exit code.
enum End {
    Failed(String),
    Config(String),
}

impl From<anyhow::Error> for End {
    fn from(e: anyhow::Error) -> Self {
        Self::Failed(format!("{e:#}"))
    }
}

impl From<commands::Failed> for End {
    fn from(e: commands::Failed) -> Self {
        Self::Failed(e.to_string())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match log(&cli).and_then(|()| dispatch(cli)) {
        Ok(code) => code,
        Err(End::Failed(why)) => {
            eprintln!("kafka-cutover: {why}");
            ExitCode::from(1)
        }
        Err(End::Config(why)) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, End> {
    let client = || Client::new(cli.socket.clone().unwrap_or_else(default_socket));
    let done: Result<(), End> = match &cli.command {
        Command::Run(args) => Ok(proxy::run(load(&args.config, cli.socket.as_deref())?)?),
        Command::Check(args) => check(&load(&args.config, cli.socket.as_deref())?, args.json),
        Command::Demo(args) => return Ok(demo::run(args.clone())?),
        Command::Sandbox(args) => Ok(demo::sandbox(args, cli.socket.as_deref())?),
        Command::Canary(args) => return Ok(audit::canary::run(args.clone())?),
        Command::Status(args) => block_on(commands::status(&client(), args)),
        Command::Prepare(args) => block_on(commands::prepare(&client(), args)),
        Command::Switch(args) => block_on(commands::switch(&client(), args)),
        Command::Complete(args) => block_on(commands::complete(&client(), args)),
        Command::Report(args) => block_on(commands::report(&client(), args)),
        Command::Abort(args) => block_on(commands::abort(&client(), args)),
        Command::Waive(args) => block_on(commands::waive(&client(), args)),
        Command::Skip(args) => block_on(commands::skip(&client(), args)),
        Command::Cutover(args) => block_on(commands::cutover(&client(), args)),
        Command::Offsets(OffsetsCommand::Translate(args)) => block_on(commands::translate(&client(), args)),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "kafka-cutover", &mut std::io::stdout());
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Findings go to stdout; an error among them is exit code 1.
fn check(config: &Config, json: bool) -> Result<(), End> {
    let found = preflight::check(config)?;
    if json {
        println!("{}", serde_json::to_string(&found).context("findings")?);
    } else {
        print!("{}", preflight::table(&found, std::io::IsTerminal::is_terminal(&std::io::stdout())));
    }
    match found.errors() {
        0 => Ok(()),
        n => Err(End::Failed(format!("{n} of the findings must be mended first"))),
    }
}

/// The config as it was written, with `--socket` over it.
fn load(path: &Path, socket: Option<&Path>) -> Result<Config, End> {
    let mut config = config::load(path).map_err(|problems| End::Config(problems.to_string()))?;
    if let Some(socket) = socket {
        config.control.socket = socket.to_owned();
    }
    Ok(config)
}

/// The sandbox's socket lies in the current folder; a proxy's where its config puts it by default.
fn default_socket() -> PathBuf {
    let here = PathBuf::from("./kafka-cutover.sock");
    if here.exists() { here } else { config::defaults::CONTROL_SOCKET.into() }
}

fn block_on(call: impl Future<Output = Result<(), commands::Failed>>) -> Result<(), End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    Ok(runtime.block_on(call)?)
}

/// `run` and `sandbox` tell what they do; other commands have a voice of their own and log only what goes wrong. What
/// librdkafka says is counted by who drives it.
fn default_level(command: &Command) -> &'static str {
    match command {
        Command::Run(_) | Command::Sandbox(_) => "info,rdkafka=off,librdkafka=off",
        _ => "warn,rdkafka=off,librdkafka=off",
    }
}

fn log(cli: &Cli) -> Result<(), End> {
    let filter = match std::env::var("KAFKA_CUTOVER_LOG") {
        Ok(text) => EnvFilter::try_new(&text).map_err(|e| End::Config(format!("KAFKA_CUTOVER_LOG: {e}")))?,
        Err(_) => EnvFilter::new(default_level(&cli.command)),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Human => subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}
