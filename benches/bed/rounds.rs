//! Rounds, and what may be said after them. A box that others use drifts by half within minutes, so figures are
//! compared only with those right beside them: direct, relay, proxy, direct, proxy, relay, direct, …; a round whose two
//! direct runs differ too much says nothing and is dropped.

use anyhow::Result;

pub const WANTED: usize = 7;
const MOST: usize = 40;
/// How much the two direct runs around a round may differ.
const STEADY: f64 = 1.15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    Relay,
    Proxy,
}

/// One run of one way.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What is compared: seconds, of the whole run or at the median request.
    pub seconds: f64,
    /// CPU seconds of what stands in between.
    pub cpu: f64,
}

#[derive(Debug)]
pub struct Rounds {
    /// Direct, relay, proxy.
    kept: Vec<[Run; 3]>,
    dropped: usize,
}

impl Rounds {
    pub fn run(mut once: impl FnMut(Way) -> Result<Run>) -> Result<Self> {
        for way in [Way::Direct, Way::Relay, Way::Proxy] {
            once(way)?; // warm up
        }
        let mut rounds = Self { kept: Vec::new(), dropped: 0 };
        let mut before = once(Way::Direct)?;
        while rounds.kept.len() < WANTED && rounds.kept.len() + rounds.dropped < MOST {
            let (relay, proxy) = if (rounds.kept.len() + rounds.dropped).is_multiple_of(2) {
                let relay = once(Way::Relay)?;
                (relay, once(Way::Proxy)?)
            } else {
                let proxy = once(Way::Proxy)?;
                (once(Way::Relay)?, proxy)
            };
            let after = once(Way::Direct)?;
            let apart = before.seconds.max(after.seconds) / before.seconds.min(after.seconds);
            if apart <= STEADY {
                let direct = Run { seconds: f64::midpoint(before.seconds, after.seconds), cpu: 0.0 };
                rounds.kept.push([direct, relay, proxy]);
            } else {
                rounds.dropped += 1;
            }
            before = after;
        }
        Ok(rounds)
    }

    /// Median, least and most of what `ratio` makes of each round.
    pub fn spread(&self, ratio: impl Fn(&[Run; 3]) -> f64) -> Spread {
        let mut all: Vec<f64> = self.kept.iter().map(ratio).collect();
        all.sort_by(f64::total_cmp);
        let at = |i: usize| all.get(i).copied().unwrap_or(f64::NAN);
        Spread { median: at(all.len() / 2), least: at(0), most: at(all.len().saturating_sub(1)) }
    }

    /// CPU seconds of relay and proxy, all rounds together, for one run.
    pub fn cpu(&self) -> [f64; 2] {
        [1, 2].map(|i| self.kept.iter().map(|round| round[i].cpu).sum::<f64>() / self.kept.len() as f64)
    }

    pub fn said(&self) -> String {
        format!("{} of {}", self.kept.len(), self.kept.len() + self.dropped)
    }
}

pub struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.least, self.most)
    }
}
