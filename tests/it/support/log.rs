//! What a process says on stderr, heard line by line.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::PATIENCE;

#[derive(Default)]
pub struct Log {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    pub fn of(stderr: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let ours = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                ours.said.lock().unwrap().lines.push(line);
                ours.changed.notify_all();
            }
            ours.said.lock().unwrap().ended = true;
            ours.changed.notify_all();
        });
        log
    }

    /// Until a line fits (true), or there will be none.
    pub fn wait(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.find(0, Instant::now() + PATIENCE, fits).is_some()
    }

    /// The first line that fits, from the one numbered `from` on, and its number. None if it has not come by then.
    pub fn find(&self, from: usize, deadline: Instant, fits: impl Fn(&str) -> bool) -> Option<(usize, String)> {
        let mut said = self.said.lock().unwrap();
        let mut looked = from;
        loop {
            let new = said.lines.iter().enumerate().skip(looked);
            if let Some((number, line)) = new.into_iter().find(|(_, line)| fits(line)) {
                return Some((number, line.clone()));
            }
            looked = looked.max(said.lines.len());
            let left = deadline.saturating_duration_since(Instant::now());
            if said.ended || left.is_zero() {
                return None;
            }
            said = self.changed.wait_timeout(said, left).unwrap().0;
        }
    }

    pub fn ended(&self) -> bool {
        self.said.lock().unwrap().ended
    }

    pub fn lines(&self) -> Vec<String> {
        self.said.lock().unwrap().lines.clone()
    }

    /// Its end.
    pub fn text(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}
