//! The ledgers' file: read at the start, appended to before anything is sent, made small now and then. Appends of many lanes are
//! one write and one sync.
#![expect(clippy::disallowed_methods, reason = "io: the ledgers' file")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::sync::{Notify, watch};

use super::checkpoint::{self, File, Key};
use super::ledger::Ledger;

const NAME: &str = "mirror";
/// A new one that has not been renamed.
const UNFINISHED: &str = "mirror.new";

/// Lives on the mirror's thread.
pub struct Book {
    dir: PathBuf,
    file: RefCell<Option<fs::File>>,
    said: RefCell<File>,
    /// Not written yet.
    pending: RefCell<Vec<u8>>,
    /// Number of the append that `pending` will be, and of the last one that is durable; `Err`: nothing more will be.
    number: Cell<u64>,
    durable: watch::Sender<Result<u64, String>>,
    begun: Notify,
}

impl Book {
    /// What is written, and the book to go on with. A directory without a file has no ledger.
    pub fn open(dir: &Path) -> io::Result<(Self, BTreeMap<Key, Ledger>)> {
        let path = dir.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
            Err(error) => return Err(error),
        };
        let (ledgers, said, file) = match bytes.is_empty() {
            true => (BTreeMap::new(), File::default(), None),
            false => {
                let (ledgers, said, good) = checkpoint::read(&bytes).map_err(io::Error::other)?;
                let file = OpenOptions::new().append(true).open(&path)?;
                file.set_len(good as u64)?;
                (ledgers, said, Some(file))
            }
        };
        let book = Self {
            dir: dir.to_owned(),
            file: RefCell::new(file),
            said: RefCell::new(said),
            pending: RefCell::default(),
            number: Cell::new(1),
            durable: watch::Sender::new(Ok(0)),
            begun: Notify::new(),
        };
        Ok((book, ledgers))
    }

    /// One that never writes: the file could not be read.
    pub fn nowhere() -> Self {
        Self {
            dir: PathBuf::new(),
            file: RefCell::default(),
            said: RefCell::default(),
            pending: RefCell::default(),
            number: Cell::new(1),
            durable: watch::Sender::new(Err("they could not be read at the start".to_owned())),
            begun: Notify::new(),
        }
    }

    /// What is new in a ledger, with the next append: the number of that one. In the order of these calls.
    pub fn add(&self, key: &Key, ledger: &Ledger) -> u64 {
        let bytes = self.said.borrow_mut().add(key, ledger);
        if bytes.is_empty() {
            return 0;
        }
        self.pending.borrow_mut().extend(bytes);
        self.begun.notify_one();
        self.number.get()
    }

    /// Until this append is durable. `Err`: why it will not be.
    pub async fn durable(&self, number: u64) -> Result<(), String> {
        let mut durable = self.durable.subscribe();
        let done = durable.wait_for(|done| done.as_ref().map_or(true, |last| *last >= number)).await;
        match done.map(|done| done.clone()) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(why)) => Err(why),
            Err(_) => Err("the mirror has ended".to_owned()),
        }
    }

    /// Writes what is to be written, for ever. `whole`: every ledger that counts. `may_shrink`: nobody waits for a hold now.
    pub async fn write(&self, whole: impl Fn() -> Vec<(Key, Ledger)>, may_shrink: impl Fn() -> bool) {
        loop {
            self.begun.notified().await;
            let number = self.number.replace(self.number.get() + 1);
            let pending = std::mem::take(&mut *self.pending.borrow_mut());
            let is_first = self.file.borrow().is_none();
            let is_anew = is_first || self.said.borrow().is_worth_writing_anew() && may_shrink();
            let done = match is_anew {
                // Whatever was pending is in it.
                true => {
                    let ledgers = whole();
                    let (said, bytes) = File::whole(ledgers.iter().map(|(key, ledger)| (key, ledger)));
                    *self.said.borrow_mut() = said;
                    let dir = self.dir.clone();
                    tokio::task::spawn_blocking(move || replace(&dir, &bytes)).await
                }
                false => {
                    let file = self.file.borrow_mut().take();
                    tokio::task::spawn_blocking(move || append(file, &pending)).await
                }
            };
            match done {
                Ok(Ok(file)) => {
                    *self.file.borrow_mut() = Some(file);
                    drop(self.durable.send_replace(Ok(number)));
                }
                Ok(Err(error)) => return self.fail(&error.to_string()),
                Err(error) => return self.fail(&error.to_string()),
            }
        }
    }

    /// Nobody knows what the file holds.
    fn fail(&self, why: &str) {
        tracing::error!(dir = %self.dir.display(), why, "the mirror's ledgers cannot be written: the mirror stands still");
        drop(self.durable.send_replace(Err(why.to_owned())));
    }
}

fn append(file: Option<fs::File>, bytes: &[u8]) -> io::Result<fs::File> {
    let mut file = file.ok_or_else(|| io::Error::other("it is not open"))?;
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(file)
}

fn replace(dir: &Path, bytes: &[u8]) -> io::Result<fs::File> {
    let (path, unfinished) = (dir.join(NAME), dir.join(UNFINISHED));
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    crate::crash_point!("mirror.shrunk");
    fs::File::open(dir)?.sync_all()?;
    OpenOptions::new().append(true).open(&path)
}
