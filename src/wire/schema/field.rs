//! The words that schemas are written in.

use std::ops::RangeInclusive;

/// One API: its request and its answer.
#[derive(Debug)]
pub struct Api {
    pub key: i16,
    pub name: &'static str,
    pub request: Message,
    pub response: Message,
}

impl Api {
    /// What the codec has of both: `kafka-protocol` reads some answers in newer versions than it reads the requests.
    pub fn versions(&self) -> RangeInclusive<i16> {
        let ((from, to), (answer_from, answer_to)) = (self.request.versions, self.response.versions);
        from.max(answer_from)..=to.min(answer_to)
    }
}

#[derive(Debug)]
pub struct Message {
    /// First and last.
    pub versions: (i16, i16),
    /// From this version on lengths are compact and every structure ends with tagged fields (KIP-482).
    pub flexible: i16,
    pub fields: &'static [Field],
}

/// No flexible version.
pub(super) const NEVER: i16 = i16::MAX;

#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub since: i16,
    pub until: i16,
    /// Stands among the tagged fields, not in line.
    pub tag: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    One(Primitive),
    /// An array of primitives.
    Items(Primitive),
    /// An array of structures.
    Array(&'static [Field]),
    Record(&'static [Field]),
    /// A byte that says whether a structure follows (1) or not.
    OptRecord(&'static [Field]),
}

/// Null or not is left to the decoder: it costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Primitive {
    Bool,
    /// A number or a UUID of so many bytes.
    Fixed(usize),
    Text,
    Bytes,
}

impl Field {
    const fn of(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, since: 0, until: i16::MAX, tag: None }
    }

    pub(super) const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    pub(super) const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    pub(super) const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    pub fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

pub(super) const INT8: Primitive = Primitive::Fixed(1);
pub(super) const INT32: Primitive = Primitive::Fixed(4);
pub(super) const INT64: Primitive = Primitive::Fixed(8);
pub(super) const STRING: Primitive = Primitive::Text;

pub(super) const fn boolean(name: &'static str) -> Field {
    Field::of(name, Kind::One(Primitive::Bool))
}

pub(super) const fn int8(name: &'static str) -> Field {
    Field::of(name, Kind::One(Primitive::Fixed(1)))
}

pub(super) const fn int16(name: &'static str) -> Field {
    Field::of(name, Kind::One(Primitive::Fixed(2)))
}

pub(super) const fn int32(name: &'static str) -> Field {
    Field::of(name, Kind::One(INT32))
}

pub(super) const fn int64(name: &'static str) -> Field {
    Field::of(name, Kind::One(INT64))
}

pub(super) const fn float64(name: &'static str) -> Field {
    Field::of(name, Kind::One(Primitive::Fixed(8)))
}

pub(super) const fn uuid(name: &'static str) -> Field {
    Field::of(name, Kind::One(Primitive::Fixed(16)))
}

pub(super) const fn string(name: &'static str) -> Field {
    Field::of(name, Kind::One(STRING))
}

pub(super) const fn bytes(name: &'static str) -> Field {
    Field::of(name, Kind::One(Primitive::Bytes))
}

pub(super) const fn items(name: &'static str, of: Primitive) -> Field {
    Field::of(name, Kind::Items(of))
}

pub(super) const fn array(name: &'static str, of: &'static [Field]) -> Field {
    Field::of(name, Kind::Array(of))
}

pub(super) const fn record(name: &'static str, of: &'static [Field]) -> Field {
    Field::of(name, Kind::Record(of))
}

pub(super) const fn opt_record(name: &'static str, of: &'static [Field]) -> Field {
    Field::of(name, Kind::OptRecord(of))
}
