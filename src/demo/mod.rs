//! The story: live traffic over a cutover, judged. And the sandbox: the same stage, left to the user.
//!
//! `stage` is where it plays (embedded clusters, or those of a config), `operator` the proxy and its control socket,
//! `story` the plot, `progress` what a spectator sees.

#[cfg(feature = "librdkafka")]
pub mod operator;
#[cfg(feature = "librdkafka")]
mod progress;
pub mod sandbox;
mod scratch;
#[cfg(feature = "librdkafka")]
pub mod stage;
#[cfg(feature = "librdkafka")]
pub mod story;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{DemoArgs, DemoScheme};
use crate::config::Scheme;

pub use sandbox::sandbox;

/// One play per scheme.
pub fn schemes(asked: DemoScheme) -> &'static [Scheme] {
    match asked {
        DemoScheme::ProducersFirst | DemoScheme::All => &[Scheme::ProducersFirst],
    }
}

/// Plays, prints, and exits 0 only if every scheme was ok.
#[cfg(feature = "librdkafka")]
pub fn run(args: DemoArgs) -> Result<ExitCode> {
    let mut ok = true;
    for scheme in schemes(args.scheme) {
        let outcome = story::play(&args, *scheme)?;
        outcome.print(args.json);
        ok &= outcome.ok();
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(not(feature = "librdkafka"))]
pub fn run(_: DemoArgs) -> Result<ExitCode> {
    anyhow::bail!("{}", crate::audit::NO_CLIENT)
}
