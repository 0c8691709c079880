//! CPU seconds of a process: from `schedstat` where the kernel has it, else from `stat`, which is as
//! true and comes in steps of 10 ms (so it is added up over all rounds before it is divided).

use std::fs;
use std::path::{Path, PathBuf};

/// `USER_HZ` is 100 wherever Linux runs.
const TICK: f64 = 0.01;

/// Since its start; threads that have ended count only where `stat` is read.
pub fn seconds(pid: u32) -> f64 {
    let home = PathBuf::from(format!("/proc/{pid}"));
    let tasks = fs::read_dir(home.join("task")).into_iter().flatten().flatten();
    let precise: Option<Vec<f64>> = tasks.map(|task| precise(&task.path())).collect();
    precise.filter(|all| !all.is_empty()).map_or_else(|| ticks(&home), |all| all.iter().sum())
}

fn precise(home: &Path) -> Option<f64> {
    let nanos: f64 = fs::read_to_string(home.join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
    Some(nanos / 1e9)
}

/// Fields 14 and 15, user and system; counted from behind the name, which may hold anything.
fn ticks(home: &Path) -> f64 {
    let stat = fs::read_to_string(home.join("stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * TICK
}
