//! Kafka's own command-line tools, of one version: one after the other in one JVM, or one that goes on beside the others.
//! Whatever they say, none may show who the brokers are.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use kafka_cutover::ids::Side;

use super::rig::Rig;
use super::{PATIENCE, soon};

pub struct Tools {
    pub bootstrap: String,
    /// When, for what a failure says.
    pub phase: Cell<&'static str>,
    pub is_new: bool,
    hidden: Vec<String>,
    dir: PathBuf,
    side: Side,
    jvm: RefCell<Jvm>,
}

/// Ends with this.
struct Jvm {
    child: Child,
    commands: ChildStdin,
    answers: mpsc::Receiver<(i32, String)>,
}

impl Tools {
    /// Those of the side's version. `hidden`: what none of them may say.
    pub fn of(rig: &Rig, side: Side, bootstrap: &str, hidden: &[String]) -> Self {
        let mut java = tool(&rig.dir, side, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/Tools.java"));
        java.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = java.spawn().expect("the rig's script runs");
        let commands = child.stdin.take().expect("a pipe");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, answers) = mpsc::channel();
        std::thread::spawn(move || while answer(&mut stdout).is_some_and(|told| tell.send(told).is_ok()) {});
        Self {
            bootstrap: bootstrap.to_owned(),
            phase: Cell::new(""),
            is_new: rig.version(side).starts_with("4."),
            hidden: hidden.to_vec(),
            dir: rig.dir.clone(),
            side,
            jvm: RefCell::new(Jvm { child, commands, answers }),
        }
    }

    pub fn works(&self, class: &str, flags: &[&str], says: &str) {
        let (ok, said) = self.run(class, flags, "");
        assert!(ok && said.contains(says), "{} {class} {flags:?}: `{says}` expected:\n{said}", self.phase.get());
    }

    /// What brokers hear of in their own time.
    pub fn comes_to_say(&self, class: &str, flags: &[&str], says: &str) {
        let last = RefCell::default();
        let so = || {
            let (ok, said) = self.run(class, flags, "");
            let so = ok && said.contains(says);
            last.replace(said);
            so
        };
        let phase = self.phase.get();
        assert!(soon(so), "{phase} {class} {flags:?}: never `{says}`, but:\n{}", last.borrow());
    }

    pub fn refused(&self, class: &str, flags: &[&str], says: &str) {
        let (ok, said) = self.run(class, flags, "");
        let phase = self.phase.get();
        assert!(!ok && said.contains(says), "{phase} {class} {flags:?}: a refusal with `{says}` expected:\n{said}");
    }

    /// With all of its flags, and however it ends.
    pub fn says(&self, class: &str, flags: &[&str], says: &str) {
        let (_, said) = self.run_bare(class, flags, "");
        assert!(said.contains(says), "{} {class} {flags:?}: `{says}` expected:\n{said}", self.phase.get());
    }

    pub fn run(&self, class: &str, flags: &[&str], typed: &str) -> (bool, String) {
        self.run_bare(class, &[&["--bootstrap-server", &self.bootstrap], flags].concat(), typed)
    }

    /// Whether it ended well, and all that it said.
    pub fn run_bare(&self, class: &str, flags: &[&str], typed: &str) -> (bool, String) {
        let typed = typed.replace('\n', "\u{1e}");
        let line = [&[typed.as_str(), class], flags].concat().join("\u{1f}");
        let mut jvm = self.jvm.borrow_mut();
        writeln!(jvm.commands, "{line}").and_then(|()| jvm.commands.flush()).expect("the JVM runs");
        let answer = jvm.answers.recv_timeout(PATIENCE);
        let (status, said) = answer.unwrap_or_else(|e| panic!("{} {class} {flags:?}: {e}", self.phase.get()));
        self.shows_nobody(class, &said);
        (status == 0, said)
    }

    fn shows_nobody(&self, class: &str, said: &str) {
        for name in &self.hidden {
            assert!(!said.contains(name.as_str()), "{class} shows {name}:\n{said}");
        }
    }

    /// In a JVM of its own: for a tool that says what it has done when that ends.
    pub fn works_alone(&self, class: &str, flags: &[&str], says: &str) {
        let flags = [&["--bootstrap-server", &self.bootstrap], flags].concat();
        let said = Going::begin(&self.dir, self.side, class, &flags).end().join("\n");
        self.shows_nobody(class, &said);
        assert!(said.contains(says), "{} {class} {flags:?}: `{says}` expected:\n{said}", self.phase.get());
    }
}

impl Drop for Jvm {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The status, and what was said: as Tools.java writes them.
fn answer(from: &mut impl BufRead) -> Option<(i32, String)> {
    let mut head = String::new();
    from.read_line(&mut head).ok()?;
    let (status, length) = head.trim_end().split_once(' ')?;
    let mut said = vec![0; length.parse().ok()?];
    from.read_exact(&mut said).ok()?;
    Some((status.parse().ok()?, String::from_utf8_lossy(&said).into_owned()))
}

fn tool(dir: &Path, side: Side, class: &str) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/rig"));
    command.arg("tool").arg(dir).arg(side.to_string()).arg(class);
    command
}

/// A tool that goes on while others come and go.
pub struct Going {
    name: String,
    child: Child,
    heard: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Going {
    pub fn begin(dir: &Path, side: Side, class: &str, flags: &[&str]) -> Self {
        let mut command = tool(dir, side, class);
        command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the rig's script runs");
        let (tell, heard) = mpsc::channel();
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        for pipe in pipes {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let lines = BufReader::new(pipe).lines().map_while(Result::ok);
                lines.map(|line| tell.send(line)).all(|sent| sent.is_ok())
            });
        }
        Self { name: class.rsplit('.').next().unwrap_or(class).to_owned(), child, heard, said: Vec::new() }
    }

    /// Until it has said so many such lines since it began.
    pub fn wait(&mut self, lines: usize, fits: impl Fn(&str) -> bool) {
        while self.count(&fits) < lines {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(e) => panic!("{}: {e} before it had said {lines} such lines:\n{}", self.name, self.text()),
            }
        }
    }

    /// Lines that it has said up to now.
    pub fn count(&mut self, fits: impl Fn(&str) -> bool) -> usize {
        self.said.extend(self.heard.try_iter());
        self.said.iter().filter(|line| fits(line)).count()
    }

    /// SIGTERM, as an operator's Ctrl-C; all that it said.
    pub fn stop(mut self) -> Vec<String> {
        super::proxy::signal(self.child.id(), "TERM");
        self.end()
    }

    /// Until it ends by itself.
    pub fn end(&mut self) -> Vec<String> {
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(e) => panic!("{}: {e}, and it has not ended:\n{}", self.name, self.text()),
            }
        }
        drop(self.child.wait());
        self.said.clone()
    }

    /// Hears all that it has said and says, line by line, until `enough`.
    pub fn wait_for(&mut self, mut enough: impl FnMut(&str) -> bool) {
        let mut at = 0;
        self.count(|_| true);
        loop {
            if let Some(line) = self.said.get(at) {
                at += 1;
                if enough(line) {
                    return;
                }
            } else {
                self.wait(at + 1, |_| true);
            }
        }
    }

    pub fn no_more(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn type_in(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("it listens");
    }

    fn text(&self) -> String {
        self.said.join("\n")
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
