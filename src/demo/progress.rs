//! What a spectator sees on stderr: a bar on a terminal, plain lines elsewhere. Results go to stdout, not here.
#![expect(clippy::disallowed_methods, reason = "io: spaces its lines by the clock")]

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two plain lines.
const EVERY: Duration = Duration::from_secs(2);

pub struct Progress {
    bar: Option<ProgressBar>,
    next: Instant,
}

impl Progress {
    pub fn new(records: u64) -> Self {
        let style = "{bar:40} {pos}/{len} received  {msg}";
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(records).with_style(style)
        });
        Self { bar, next: Instant::now() }
    }

    /// Something has happened.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Where it stands.
    pub fn at(&mut self, sent: u64, received: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(received);
                bar.set_message(format!("{sent} sent"));
            }
            None if Instant::now() >= self.next => {
                self.next = Instant::now() + EVERY;
                eprintln!("{sent} sent, {received} received");
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
