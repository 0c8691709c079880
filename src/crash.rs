//! Named places where a test may end the process at once, as a power cut would: no unwinding, nothing flushed.
//!
//! `crash_point!("seal.intent")` is nothing at all unless the feature `crash-points` is on, which only tests turn on.
//! With it, `KAFKA_CUTOVER_CRASH_AT=seal.intent` ends the process there, `seal.intent:3` the third time it is reached, and
//! `KAFKA_CUTOVER_NO_GATE=1` takes the sequence gate out.

/// In the order in which a seal comes by them. Tests iterate over these.
pub const SEAL: &[&str] = &[
    "seal.held",
    "seal.settled",
    "seal.read",
    "seal.intent",
    "seal.marker-one",
    "seal.marked",
    "seal.before-commit",
    "seal.committed",
    "seal.published",
    "seal.released",
];

/// In the order in which the move of a group comes by them; by the first one only if it speaks KIP-848.
pub const MOVE: &[&str] = &["move.called", "move.gathered", "move.copied", "move.journalled", "move.released"];

/// In the order in which the end of a migration comes by them.
pub const COMPLETE: &[&str] = &["complete.closed", "complete.journalled"];

/// In the order in which a transactional id comes by them on its way to the other side.
pub const CROSSING: &[&str] = &["crossing.initialised", "crossing.decided", "crossing.fenced"];

/// In the life of a mirror: a batch was entered in the ledger, is with the copy's leader, was stored; the ledgers' file was made small.
pub const MIRROR: &[&str] = &["mirror.entered", "mirror.sent", "mirror.stored", "mirror.shrunk"];

#[cfg(not(feature = "crash-points"))]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {};
}

/// A name that is in none of the lists does not compile.
#[cfg(feature = "crash-points")]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {{
        const { assert!($crate::crash::is_listed($name), "not listed in crash.rs") };
        $crate::crash::reached($name);
    }};
}

#[cfg(feature = "crash-points")]
pub use armed::{gate_is_out, is_listed, reached};

/// Whether the sequence gate is taken out, for the one test that shows what it is for.
#[cfg(not(feature = "crash-points"))]
pub const fn gate_is_out() -> bool {
    false
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    const VARIABLE: &str = "KAFKA_CUTOVER_CRASH_AT";
    const NO_GATE: &str = "KAFKA_CUTOVER_NO_GATE";

    /// `KAFKA_CUTOVER_NO_GATE=1`: every batch is forwarded, as a proxy without a sequence gate would do it.
    pub fn gate_is_out() -> bool {
        static OUT: OnceLock<bool> = OnceLock::new();
        *OUT.get_or_init(|| std::env::var_os(NO_GATE).is_some_and(|value| value == "1"))
    }

    struct Plan {
        name: String,
        /// The process ends when this comes to 0.
        left: AtomicU32,
    }

    pub fn reached(name: &str) {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        let plan = PLAN.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| read(&text)));
        if plan.as_ref().is_some_and(|p| p.name == name && p.left.fetch_sub(1, Ordering::Relaxed) == 1) {
            std::process::abort();
        }
    }

    /// A plan that can never be met would make a test pass that tests nothing.
    fn read(text: &str) -> Plan {
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        let times = times.parse().ok().filter(|&times| times > 0);
        match times {
            Some(times) if is_listed(name) => Plan { name: name.to_owned(), left: AtomicU32::new(times) },
            _ => {
                let points = [super::SEAL, super::MOVE, super::COMPLETE, super::CROSSING, super::MIRROR].concat();
                eprintln!("{VARIABLE}={text}: NAME or NAME:TIMES, NAME one of {points:?}");
                std::process::exit(2);
            }
        }
    }

    pub const fn is_listed(name: &str) -> bool {
        is_in(super::SEAL, name)
            || is_in(super::MOVE, name)
            || is_in(super::COMPLETE, name)
            || is_in(super::CROSSING, name)
            || is_in(super::MIRROR, name)
    }

    const fn is_in(list: &[&str], name: &str) -> bool {
        let mut i = 0;
        while i < list.len() {
            if equal(list[i].as_bytes(), name.as_bytes()) {
                return true;
            }
            i += 1;
        }
        false
    }

    /// `==` of strings, which a constant may not call yet.
    const fn equal(a: &[u8], b: &[u8]) -> bool {
        let mut i = 0;
        while i < a.len() && i < b.len() && a[i] == b[i] {
            i += 1;
        }
        i == a.len() && i == b.len()
    }
}
