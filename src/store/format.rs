//! The bytes of the journal file. Pure.
//!
//! ```text
//! head    "KCUTJRNL"  format version u16
//! record  length u32  crc32c u32  version u8  kind u8  payload
//! ```
//! Big endian. `length` counts what follows the checksum; the checksum covers the length and what follows it. One append is one record
//! (a JSON array of events), so that an append is there whole or not at all, whatever order a disk writes its blocks in.

use thiserror::Error;

pub const MAGIC: &[u8; 8] = b"KCUTJRNL";
pub const FORMAT: u16 = 1;
/// Raised when a record's meaning changes in a way that an older version would misread.
pub const RECORD_VERSION: u8 = 1;

const HEAD: usize = 10;
/// Length and checksum.
const PREFIX: usize = 8;
/// Version and kind.
const LABEL: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A JSON array of events.
    Events,
    /// A JSON state that replaces all that came before.
    Snapshot,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// In the file.
    pub offset: usize,
    pub kind: Kind,
    pub payload: &'a [u8],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read<'a> {
    pub records: Vec<Record<'a>>,
    /// Where the last whole record ends; what lies behind is torn. 0: not even the head is whole.
    pub whole: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FormatError {
    #[error("it does not begin like a journal")]
    NotAJournal,
    #[error("its format is {0}, this version reads {FORMAT}: run the version that wrote it, or a newer one")]
    NewerFormat(u16),
    #[error(
        "the record at byte {offset} is damaged, and there is a whole one behind it at byte {next}: restore the file from a backup"
    )]
    Damaged { offset: usize, next: usize },
    #[error(
        "the record at byte {offset} (version {version}, kind {kind}) is newer than this version: run the version that wrote it, or a newer one"
    )]
    NewerRecord { offset: usize, version: u8, kind: u8 },
}

pub fn head() -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..].copy_from_slice(&FORMAT.to_be_bytes());
    head
}

pub fn record(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let length =
        u32::try_from(LABEL + payload.len()).expect("a record is built from events in memory, far below 4 GiB");
    let kind = match kind {
        Kind::Events => 1,
        Kind::Snapshot => 2,
    };
    let mut bytes = Vec::with_capacity(PREFIX + LABEL + payload.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[RECORD_VERSION, kind]);
    bytes.extend_from_slice(payload);
    let sum = checksum(length, &bytes[PREFIX..]);
    bytes[4..PREFIX].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Reads a journal's bytes. Torn is only what no append has finished: a bad record with nothing whole behind it. A bad one in the
/// middle is damage, and cutting there would forget decisions that have acted.
pub fn read(bytes: &[u8]) -> Result<Read<'_>, FormatError> {
    if bytes.len() < HEAD && head().starts_with(bytes) {
        return Ok(Read { records: Vec::new(), whole: 0 });
    }
    let Some(version) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk::<2>()) else {
        return Err(FormatError::NotAJournal);
    };
    match u16::from_be_bytes(*version) {
        FORMAT => {}
        newer => return Err(FormatError::NewerFormat(newer)),
    }
    let mut records = Vec::new();
    let mut at = HEAD;
    while at < bytes.len() {
        let Some(body) = body_at(bytes, at) else {
            let next = (at + 1..bytes.len()).find(|next| body_at(bytes, *next).is_some());
            return match next {
                Some(next) => Err(FormatError::Damaged { offset: at, next }),
                None => Ok(Read { records, whole: at }),
            };
        };
        let (kind, payload) = match *body {
            [RECORD_VERSION, 1, ref payload @ ..] => (Kind::Events, payload),
            [RECORD_VERSION, 2, ref payload @ ..] => (Kind::Snapshot, payload),
            [version, kind, ..] => return Err(FormatError::NewerRecord { offset: at, version, kind }),
            _ => return Err(FormatError::NewerRecord { offset: at, version: 0, kind: 0 }),
        };
        records.push(Record { offset: at, kind, payload });
        at += PREFIX + body.len();
    }
    Ok(Read { records, whole: at })
}

/// What a whole record at `at` holds behind its checksum.
fn body_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let length = u32::from_be_bytes(*rest.first_chunk()?);
    let sum = u32::from_be_bytes(*rest.get(4..)?.first_chunk()?);
    let size = usize::try_from(length).ok().filter(|size| *size >= LABEL)?;
    let body = rest.get(PREFIX..)?.get(..size)?;
    (checksum(length, body) == sum).then_some(body)
}

fn checksum(length: u32, body: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&length.to_be_bytes());
    digest.update(body);
    digest.finalize() as u32
}
