//! A message as a reviewer reads it, byte by byte from the schema and without the proxy's decoders: what does not stand
//! in the text is not in the message.

use kafka_cutover::wire::schema::{Field, Kind, Message, Primitive};
use uuid::Uuid;

use crate::wire::made::crc32c;

/// Columns.
const WIDTH: usize = 140;

/// Ids and what they stand for.
pub(super) type Names = &'static [(&'static str, &'static str)];

/// All of `bytes` is one message, or this panics. Every line begins with `indent`.
pub(super) fn lines(message: &Message, version: i16, bytes: &[u8], names: Names, indent: &str) -> String {
    let mut reader = Reader { version, compact: message.is_flexible(version), rest: bytes, names };
    let Node::Map(fields) = reader.structure(message.fields) else { unreachable!("a structure is a map") };
    assert!(reader.rest.is_empty(), "{} bytes behind the message", reader.rest.len());
    let mut out = String::new();
    fields.iter().for_each(|(name, node)| node.write(name, indent, &mut out));
    out
}

enum Node {
    Leaf(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn on_one_line(&self) -> String {
        match self {
            Node::Leaf(text) => text.clone(),
            Node::List(all) => format!("[{}]", all.iter().map(Node::on_one_line).collect::<Vec<_>>().join(", ")),
            Node::Map(all) => {
                let fields: Vec<String> = all.iter().map(|(name, n)| format!("{name}: {}", n.on_one_line())).collect();
                format!("{{{}}}", fields.join(", "))
            }
        }
    }

    fn write(&self, name: &str, indent: &str, out: &mut String) {
        let line = format!("{indent}{name}: {}\n", self.on_one_line());
        if line.len() <= WIDTH || matches!(self, Node::Leaf(_)) {
            return out.push_str(&line);
        }
        out.push_str(&format!("{indent}{name}:\n"));
        match self {
            Node::List(all) => all.iter().for_each(|one| one.write_item(&format!("{indent}  "), out)),
            Node::Map(all) => all.iter().for_each(|(name, one)| one.write(name, &format!("{indent}  "), out)),
            Node::Leaf(_) => {}
        }
    }

    fn write_item(&self, indent: &str, out: &mut String) {
        let line = format!("{indent}- {}\n", self.on_one_line());
        let Node::Map(all) = self else { return out.push_str(&line) };
        if line.len() <= WIDTH {
            return out.push_str(&line);
        }
        for (i, (name, one)) in all.iter().enumerate() {
            let mut field = String::new();
            one.write(name, &format!("{indent}  "), &mut field);
            if i == 0 {
                field.replace_range(indent.len()..indent.len() + 2, "- ");
            }
            out.push_str(&field);
        }
    }
}

struct Reader<'a> {
    version: i16,
    compact: bool,
    rest: &'a [u8],
    names: Names,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> i64 {
        let taken = self.take(bytes);
        let sign = if taken[0] & 0x80 == 0 { 0i64 } else { -1 };
        taken.iter().fold(sign, |n, byte| n << 8 | i64::from(*byte))
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }

    fn length(&mut self, bytes: usize) -> Option<usize> {
        match self.compact {
            true => self.varint().checked_sub(1),
            false => usize::try_from(self.number(bytes)).ok(),
        }
    }

    fn structure(&mut self, fields: &[Field]) -> Node {
        let mut all = vec![];
        let version = self.version;
        for field in fields.iter().filter(|f| f.tag.is_none() && f.is_in(version)) {
            all.push((field.name.to_owned(), self.field(field)));
        }
        for _ in 0..if self.compact { self.varint() } else { 0 } {
            let (tag, length) = (self.varint(), self.varint());
            let content = self.take(length);
            match fields.iter().find(|f| f.tag == Some(tag as u32) && f.is_in(self.version)) {
                Some(field) => {
                    let mut reader = Reader { rest: content, ..*self };
                    all.push((field.name.to_owned(), reader.field(field)));
                    assert!(reader.rest.is_empty(), "tag {tag} is longer than its field");
                }
                None => all.push((format!("unknown_tag_{tag}"), Node::Leaf(format!("{length} bytes")))),
            }
        }
        Node::Map(all)
    }

    fn field(&mut self, field: &Field) -> Node {
        match field.kind {
            Kind::One(Primitive::Bytes) if field.name == "records" => match self.length(4) {
                Some(length) => batches(self.take(length)),
                None => null(),
            },
            // The only floating numbers of the protocol are values of quotas.
            Kind::One(Primitive::Fixed(8)) if field.name == "value" => {
                Node::Leaf(f64::from_bits(self.number(8) as u64).to_string())
            }
            Kind::One(primitive) => self.primitive(primitive),
            Kind::Items(primitive) => match self.length(4) {
                Some(count) => Node::List((0..count).map(|_| self.primitive(primitive)).collect()),
                None => null(),
            },
            Kind::Array(fields) => match self.length(4) {
                Some(count) => Node::List((0..count).map(|_| self.structure(fields)).collect()),
                None => null(),
            },
            Kind::Record(fields) => self.structure(fields),
            Kind::OptRecord(fields) => match self.number(1) {
                1 => self.structure(fields),
                _ => null(),
            },
        }
    }

    fn primitive(&mut self, primitive: Primitive) -> Node {
        Node::Leaf(match primitive {
            Primitive::Bool => (self.number(1) != 0).to_string(),
            Primitive::Fixed(16) => {
                let id = Uuid::from_slice(self.take(16)).expect("16 bytes").to_string();
                self.names.iter().find(|(known, _)| *known == id).map_or(id, |(_, name)| (*name).to_owned())
            }
            Primitive::Fixed(bytes) => self.number(bytes).to_string(),
            Primitive::Text | Primitive::Bytes => match self.length(if primitive == Primitive::Text { 2 } else { 4 }) {
                Some(length) => format!("{:?}", String::from_utf8_lossy(self.take(length))),
                None => "null".to_owned(),
            },
        })
    }
}

fn null() -> Node {
    Node::Leaf("null".to_owned())
}

/// The heads of record batches, and whether their checksums hold.
fn batches(mut bytes: &[u8]) -> Node {
    let number = |bytes: &[u8], at: usize, length: usize| {
        let mut reader = Reader { version: 0, compact: false, rest: &bytes[at..], names: &[] };
        reader.number(length)
    };
    let mut all = vec![];
    while !bytes.is_empty() {
        let size = 12 + number(bytes, 8, 4) as usize;
        let batch = &bytes[..size];
        assert_eq!(batch[16], 2, "a batch of the current format");
        let crc = number(batch, 17, 4) as u32;
        let said = |name: &str, text: String| (name.to_owned(), Node::Leaf(text));
        let (id, epoch, sequence) = (number(batch, 43, 8), number(batch, 51, 2), number(batch, 53, 4));
        all.push(Node::Map(vec![
            said("base_offset", number(batch, 0, 8).to_string()),
            said("leader_epoch", number(batch, 12, 4).to_string()),
            said("crc", format!("{crc:08x} {}", if crc32c(&batch[21..]) == crc { "right" } else { "WRONG" })),
            said("producer_id", id.to_string()),
            said("epoch", epoch.to_string()),
            said("sequence", sequence.to_string()),
            said("records", number(batch, 57, 4).to_string()),
        ]));
        bytes = &bytes[size..];
    }
    Node::List(all)
}
