#![expect(clippy::disallowed_methods, reason = "io: the journal file, its lock and its directory")]
//! The journal: one file in the state directory, appended and synced before anything acts on it.
//!
//! The directory is locked for as long as the journal lives: two proxies on one would send producers to both sides.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::event::Event;
use super::fold::{FoldError, State};
use super::format::{self, FormatError, Kind, Read, Record};

const FILE: &str = "journal";
const LOCK: &str = "lock";
/// A compaction that has not been renamed into place.
const UNFINISHED: &str = "journal.new";

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{dir} is in use by another kafka-cutover: stop it first, or give this one a state directory of its own")]
    Locked { dir: PathBuf },
    #[error("{dir} holds no journal: what is needed is the state.dir of the proxy's config")]
    NoJournal { dir: PathBuf },
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the journal {path} cannot be read: {source}")]
    Format { path: PathBuf, source: FormatError },
    #[error(
        "the journal {path} holds at byte {offset} what this version does not know ({source}): run the version that wrote it, or a newer one"
    )]
    Unreadable { path: PathBuf, offset: usize, source: serde_json::Error },
    #[error("the journal {path} contradicts itself at byte {offset}: {source}")]
    Contradiction { path: PathBuf, offset: usize, source: FoldError },
    #[error("not journalled: {0}")]
    Refused(#[from] FoldError),
    #[error(
        "it is not known whether the journal holds the last events ({0}): the process must stop, the next start decides"
    )]
    Unknown(io::Error),
    #[error("the journal takes nothing more after a failed write: the process must stop")]
    Poisoned,
}

/// What the journal needs of its file. Tests put one there that fails.
pub trait JournalFile: Send + std::fmt::Debug {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

impl JournalFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

#[derive(Debug)]
pub struct Journal {
    file: Box<dyn JournalFile>,
    /// `None`: over a file of a test.
    place: Option<Place>,
    poisoned: bool,
    /// Bytes of the file, and how many of them are its last snapshot.
    size: usize,
    snapshot: usize,
}

/// Below this a journal is read in no time.
const SMALL: usize = 1024 * 1024;

#[derive(Debug)]
struct Place {
    dir: PathBuf,
    /// Held, never read.
    lock: File,
}

impl Drop for Place {
    /// Closing the file would not do: a child that was forked and has not begun its program yet holds it, too.
    fn drop(&mut self) {
        drop(self.lock.unlock());
    }
}

impl Journal {
    /// Locks the directory, reads the journal, cuts what a crash left torn. A directory without one gets an empty one.
    pub fn open(dir: &Path) -> Result<(Journal, State), StoreError> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let lock = lock(dir)?;
        let unfinished = dir.join(UNFINISHED);
        match fs::remove_file(&unfinished) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &unfinished)(e)),
            _ => {}
        }
        let path = dir.join(FILE);
        let bytes = bytes_of(&path)?.unwrap_or_default();
        let (read, state) = add_up(&bytes, &path)?;
        let file = open_for_append(&path, read.whole).map_err(io_error("write", &path))?;
        sync_dir(dir).map_err(io_error("sync", dir))?;
        let place = Some(Place { dir: dir.to_owned(), lock });
        let snapshot = read.records.iter().rev().find(|r| r.kind == Kind::Snapshot).map_or(0, |r| r.payload.len());
        Ok((Journal { file: Box::new(file), place, poisoned: false, size: read.whole, snapshot }, state))
    }

    /// What the journal of a directory adds up to, without a lock and without a change: a proxy may be writing it. A torn tail is an
    /// append that is not finished, or never will be; what a compaction replaces is read to its end.
    pub fn look(dir: &Path) -> Result<State, StoreError> {
        let path = dir.join(FILE);
        let bytes = bytes_of(&path)?.ok_or_else(|| StoreError::NoJournal { dir: dir.to_owned() })?;
        Ok(add_up(&bytes, &path)?.1)
    }

    /// An empty journal over a file of one's own, without a directory: for tests.
    pub fn over(file: Box<dyn JournalFile>) -> Journal {
        Journal { file, place: None, poisoned: false, size: 0, snapshot: 0 }
    }

    /// One record, one write, one fdatasync: durable as a whole when this returns. An error leaves it open whether they are, and
    /// poisons the journal.
    pub fn append(&mut self, events: &[Event]) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        if events.is_empty() {
            return Ok(());
        }
        let payload = serde_json::to_vec(events).expect("events are plain data with string keys");
        let bytes = format::record(Kind::Events, &payload);
        let written = self.file.append(&bytes).and_then(|()| self.file.sync());
        self.size += bytes.len();
        written.map_err(|e| {
            self.poisoned = true;
            StoreError::Unknown(e)
        })
    }

    /// Most of it is events that a snapshot would take the place of.
    pub fn is_worth_compacting(&self) -> bool {
        !self.poisoned && self.size > SMALL && self.size > 2 * self.snapshot
    }

    /// Replaces the events by the state that they add up to, by rename: a crash leaves the old journal or the new one. Up to the
    /// rename a failure leaves the journal as it was.
    pub fn compact(&mut self, state: &State) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        let Some(Place { dir, .. }) = &self.place else { return Ok(()) };
        let (path, unfinished) = (dir.join(FILE), dir.join(UNFINISHED));
        let payload = serde_json::to_vec(state).expect("a state is plain data with string keys");
        let mut bytes = format::head().to_vec();
        bytes.extend(format::record(Kind::Snapshot, &payload));
        let write = || -> io::Result<File> {
            let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&unfinished)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            drop(file);
            OpenOptions::new().append(true).open(&unfinished)
        };
        let file = write().map_err(io_error("write", &unfinished))?;
        let renamed = fs::rename(&unfinished, &path).and_then(|()| sync_dir(dir));
        renamed.map_err(|e| {
            self.poisoned = true;
            StoreError::Unknown(e)
        })?;
        self.file = Box::new(file);
        (self.size, self.snapshot) = (bytes.len(), payload.len());
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let open = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    let file = open.map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(io_error("lock", &path)(e)),
    }
}

/// `None`: there is no such file.
fn bytes_of(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error("read", path)(e)),
    }
}

fn add_up<'a>(bytes: &'a [u8], path: &Path) -> Result<(Read<'a>, State), StoreError> {
    let read = format::read(bytes).map_err(|source| StoreError::Format { path: path.to_owned(), source })?;
    let state = fold(&read.records, path)?;
    Ok((read, state))
}

fn fold(records: &[Record<'_>], path: &Path) -> Result<State, StoreError> {
    let mut state = State::default();
    for Record { offset, kind, payload } in records {
        let unreadable = |source| StoreError::Unreadable { path: path.to_owned(), offset: *offset, source };
        match kind {
            Kind::Snapshot => state = serde_json::from_slice(payload).map_err(unreadable)?,
            Kind::Events => {
                let events: Vec<Event> = serde_json::from_slice(payload).map_err(unreadable)?;
                for event in &events {
                    state.apply(event).map_err(|source| StoreError::Contradiction {
                        path: path.to_owned(),
                        offset: *offset,
                        source,
                    })?;
                }
            }
        }
    }
    Ok(state)
}

/// The file, cut to its whole records, all of it durable.
fn open_for_append(path: &Path, whole: usize) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.set_len(whole as u64)?;
    if whole == 0 {
        file.write_all(&format::head())?;
    }
    file.sync_all()?;
    Ok(file)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}
