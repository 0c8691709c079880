//! A message of any API and version with nothing left at its default, written from the schema: two elements in every
//! array, every tagged field present, and an unknown one behind them.

use kafka_cutover::wire::schema::{Field, Kind, Message, Primitive};

/// A number that says how much follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) at: usize,
    pub(crate) bytes: usize,
    pub(crate) compact: bool,
}

#[derive(Default)]
pub(crate) struct Filled {
    pub(crate) body: Vec<u8>,
    pub(crate) marks: Vec<Mark>,
    next: u8,
}

pub(crate) fn filled(message: &Message, version: i16) -> Filled {
    let mut filled = Filled::default();
    filled.structure(message.fields, version, message.is_flexible(version));
    filled
}

impl Filled {
    fn value(&mut self) -> u8 {
        // Never 0, never above 100: neither a default nor a length that could be taken for one.
        self.next = self.next % 100 + 1;
        self.next
    }

    fn mark(&mut self, bytes: usize, compact: bool) {
        self.marks.push(Mark { at: self.body.len(), bytes, compact });
    }

    fn structure(&mut self, fields: &[Field], version: i16, compact: bool) {
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.field(field.kind, version, compact);
        }
        if !compact {
            return;
        }
        let mut tagged: Vec<_> = fields.iter().filter(|field| field.tag.is_some() && field.is_in(version)).collect();
        tagged.sort_by_key(|field| field.tag);
        self.mark(1, true);
        self.body.push(tagged.len() as u8 + 1);
        for field in tagged {
            let mut content = Filled { next: self.next, ..Filled::default() };
            content.field(field.kind, version, compact);
            self.next = content.next;
            self.body.push(field.tag.unwrap() as u8);
            self.mark(if content.body.len() < 0x80 { 1 } else { 2 }, true);
            self.varint(content.body.len());
            let at = self.body.len();
            self.marks.extend(content.marks.iter().map(|mark| Mark { at: mark.at + at, ..*mark }));
            self.body.extend(content.body);
        }
        self.body.extend([0x64, 3]); // unknown: tag 100 of 3 bytes
        let value = self.value();
        self.body.extend([value; 3]);
    }

    fn varint(&mut self, value: usize) {
        assert!(value < 0x4000);
        if value < 0x80 {
            self.body.push(value as u8);
        } else {
            self.body.extend([value as u8 | 0x80, (value >> 7) as u8]);
        }
    }

    fn count(&mut self, compact: bool) {
        self.mark(if compact { 1 } else { 4 }, compact);
        if compact { self.body.push(3) } else { self.body.extend(2i32.to_be_bytes()) }
    }

    fn field(&mut self, kind: Kind, version: i16, compact: bool) {
        match kind {
            Kind::One(primitive) => self.primitive(primitive, compact),
            Kind::Items(primitive) => {
                self.count(compact);
                (0..2).for_each(|_| self.primitive(primitive, compact));
            }
            Kind::Array(fields) => {
                self.count(compact);
                (0..2).for_each(|_| self.structure(fields, version, compact));
            }
            Kind::Record(fields) => self.structure(fields, version, compact),
            Kind::OptRecord(fields) => {
                self.body.push(1);
                self.structure(fields, version, compact);
            }
        }
    }

    fn primitive(&mut self, primitive: Primitive, compact: bool) {
        let value = self.value();
        match primitive {
            Primitive::Bool => self.body.push(1),
            Primitive::Fixed(size) => {
                self.body.extend(std::iter::repeat_n(0, size - 1));
                self.body.push(value);
            }
            Primitive::Text | Primitive::Bytes => {
                let text = format!("value-{value}");
                if compact {
                    self.mark(1, true);
                    self.body.push(text.len() as u8 + 1);
                } else if primitive == Primitive::Text {
                    self.mark(2, false);
                    self.body.extend((text.len() as i16).to_be_bytes());
                } else {
                    self.mark(4, false);
                    self.body.extend((text.len() as i32).to_be_bytes());
                }
                self.body.extend(text.bytes());
            }
        }
    }
}
