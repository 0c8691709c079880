//! A message of any API and version, made from one description for all of them: a field that the version lacks is left
//! out, one that the description lacks has 0, "", no elements. A field of records is a list of [`batch`]es.

use bytes::BufMut;
use kafka_cutover::wire::schema::{Field, Kind, Message, Primitive};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::wire::made::Made;

/// The body of `message`; `what` is for whoever has misspelt a field.
pub(super) fn body(message: &Message, version: i16, value: &Value, what: &str) -> Vec<u8> {
    let mut writer = Writer { version, compact: message.is_flexible(version), what, out: vec![] };
    writer.structure(message.fields, value);
    writer.out
}

/// A batch of so many records of one producer: (id, epoch, first sequence), -1 for none.
pub(super) fn batch(base_offset: i64, leader_epoch: i32, producer: (i64, i16, i32), records: i32) -> Value {
    let (id, epoch, sequence) = producer;
    json!({ "base": base_offset, "leader_epoch": leader_epoch, "producer": [id, epoch, sequence], "records": records })
}

struct Writer<'a> {
    version: i16,
    compact: bool,
    what: &'a str,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn structure(&mut self, fields: &[Field], value: &Value) {
        for name in value.as_object().into_iter().flat_map(|o| o.keys()) {
            assert!(fields.iter().any(|f| f.name == name), "{} has no field {name} here", self.what);
        }
        let version = self.version;
        for field in fields.iter().filter(|f| f.tag.is_none() && f.is_in(version)) {
            self.field(field, value.get(field.name));
        }
        if !self.compact {
            return;
        }
        let there = |f: &&Field| f.tag.is_some() && f.is_in(self.version) && value.get(f.name).is_some();
        let tagged: Vec<&Field> = fields.iter().filter(there).collect();
        self.varint(tagged.len());
        for field in tagged {
            let mut content = Writer { out: vec![], ..*self };
            content.field(field, value.get(field.name));
            self.varint(field.tag.unwrap_or(0) as usize);
            self.varint(content.out.len());
            self.out.extend(content.out);
        }
    }

    fn field(&mut self, field: &Field, value: Option<&Value>) {
        let elements = |value: Option<&Value>| match value {
            None => Some(vec![]),
            Some(Value::Null) => None,
            Some(Value::Array(all)) => Some(all.clone()),
            Some(other) => panic!("{}: {} is no list: {other}", self.what, field.name),
        };
        match field.kind {
            Kind::One(Primitive::Bytes) if field.name == "records" => {
                let records = elements(value).map(|all| all.iter().flat_map(made).collect::<Vec<u8>>());
                self.length(records.as_ref().map(Vec::len), 4);
                self.out.extend(records.unwrap_or_default());
            }
            Kind::One(primitive) => self.primitive(primitive, value),
            Kind::Items(primitive) => {
                let all = elements(value);
                self.length(all.as_ref().map(Vec::len), 4);
                all.iter().flatten().for_each(|one| self.primitive(primitive, Some(one)));
            }
            Kind::Array(fields) => {
                let all = elements(value);
                self.length(all.as_ref().map(Vec::len), 4);
                all.iter().flatten().for_each(|one| self.structure(fields, one));
            }
            Kind::Record(fields) => self.structure(fields, value.unwrap_or(&Value::Null)),
            Kind::OptRecord(fields) => match value {
                None | Some(Value::Null) => self.out.put_i8(-1),
                Some(value) => {
                    self.out.put_i8(1);
                    self.structure(fields, value);
                }
            },
        }
    }

    fn primitive(&mut self, primitive: Primitive, value: Option<&Value>) {
        match primitive {
            Primitive::Bool => self.out.push(u8::from(value.and_then(Value::as_bool).unwrap_or(false))),
            Primitive::Fixed(16) => {
                let id = value.and_then(Value::as_str).map_or(Uuid::nil(), |id| Uuid::parse_str(id).expect("a UUID"));
                self.out.put_slice(id.as_bytes());
            }
            Primitive::Fixed(bytes) => match value {
                Some(Value::Number(n)) if n.is_f64() => self.out.put_f64(n.as_f64().unwrap_or_default()),
                Some(Value::Number(n)) => self.out.put_int(n.as_i64().expect("a number"), bytes),
                None => self.out.put_int(0, bytes),
                Some(other) => panic!("{}: {other} is no number", self.what),
            },
            Primitive::Text | Primitive::Bytes => {
                let text = match value {
                    None => Some(""),
                    Some(Value::Null) => None,
                    Some(Value::String(text)) => Some(text.as_str()),
                    Some(other) => panic!("{}: {other} is no text", self.what),
                };
                self.length(text.map(str::len), if primitive == Primitive::Text { 2 } else { 4 });
                self.out.extend(text.unwrap_or_default().bytes());
            }
        }
    }

    fn length(&mut self, length: Option<usize>, bytes: usize) {
        match self.compact {
            true => self.varint(length.map_or(0, |l| l + 1)),
            false => self.out.put_int(length.map_or(-1, |l| l as i64), bytes),
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

fn made(batch: &Value) -> Vec<u8> {
    let number = |value: &Value| value.as_i64().expect("a number of a batch");
    let producer = &batch["producer"];
    Made {
        base_offset: number(&batch["base"]),
        epoch: number(&batch["leader_epoch"]) as i32,
        count: number(&batch["records"]) as i32,
        producer: (number(&producer[0]), number(&producer[1]) as i16, number(&producer[2]) as i32),
        ..Made::default()
    }
    .v2()
}
