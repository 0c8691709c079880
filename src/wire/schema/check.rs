//! The counting pass. It reads every byte of a message, allocates nothing, and goes no deeper than the schema.

use super::super::cursor::Cursor;
use super::super::error::WireError;
use super::{Field, Kind, Message, Primitive};

impl Message {
    pub fn has(&self, version: i16) -> bool {
        (self.versions.0..=self.versions.1).contains(&version)
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }

    /// Whether `cursor` is at one message of this version, which [`has`](Self::has) the schema; it is left behind it.
    pub fn check(&self, version: i16, cursor: &mut Cursor) -> Result<(), WireError> {
        Walk { version, compact: self.is_flexible(version) }.structure(self.fields, cursor)
    }
}

#[derive(Clone, Copy)]
struct Walk {
    version: i16,
    compact: bool,
}

impl Walk {
    fn in_line(self, fields: &'static [Field]) -> impl Iterator<Item = &'static Field> {
        fields.iter().filter(move |field| field.tag.is_none() && field.is_in(self.version))
    }

    fn structure(self, fields: &'static [Field], cursor: &mut Cursor) -> Result<(), WireError> {
        for field in self.in_line(fields) {
            self.field(field.kind, cursor)?;
        }
        cursor.tags(self.compact, |tag, content| {
            match fields.iter().find(|field| field.tag == Some(tag) && field.is_in(self.version)) {
                Some(field) => self.field(field.kind, content).map(|()| true),
                None => Ok(false),
            }
        })
    }

    fn field(self, kind: Kind, cursor: &mut Cursor) -> Result<(), WireError> {
        match kind {
            Kind::One(primitive) => self.primitive(primitive, cursor),
            Kind::Items(primitive) => {
                for _ in 0..cursor.opt_count(self.compact, self.least_primitive(primitive))?.unwrap_or(0) {
                    self.primitive(primitive, cursor)?;
                }
                Ok(())
            }
            Kind::Array(fields) => {
                for _ in 0..cursor.opt_count(self.compact, self.least(fields))?.unwrap_or(0) {
                    self.structure(fields, cursor)?;
                }
                Ok(())
            }
            Kind::Record(fields) => self.structure(fields, cursor),
            Kind::OptRecord(fields) => match cursor.i8()? {
                1 => self.structure(fields, cursor),
                _ => Ok(()),
            },
        }
    }

    fn primitive(self, primitive: Primitive, cursor: &mut Cursor) -> Result<(), WireError> {
        match primitive {
            Primitive::Bool => cursor.skip(1),
            Primitive::Fixed(size) => cursor.skip(size),
            Primitive::Text => cursor.text_len(self.compact).and_then(|len| cursor.skip(len.unwrap_or(0))),
            Primitive::Bytes => cursor.bytes_len(self.compact).and_then(|len| cursor.skip(len.unwrap_or(0))),
        }
    }

    /// The least bytes that a structure takes.
    fn least(self, fields: &'static [Field]) -> usize {
        let fields: usize = self.in_line(fields).map(|field| self.least_field(field.kind)).sum();
        fields + usize::from(self.compact)
    }

    fn least_field(self, kind: Kind) -> usize {
        match kind {
            Kind::One(primitive) => self.least_primitive(primitive),
            Kind::Items(_) | Kind::Array(_) if self.compact => 1,
            Kind::Items(_) | Kind::Array(_) => 4,
            Kind::Record(fields) => self.least(fields),
            Kind::OptRecord(_) => 1,
        }
    }

    fn least_primitive(self, primitive: Primitive) -> usize {
        match primitive {
            Primitive::Bool => 1,
            Primitive::Fixed(size) => size,
            Primitive::Text | Primitive::Bytes if self.compact => 1,
            Primitive::Text => 2,
            Primitive::Bytes => 4,
        }
    }
}
