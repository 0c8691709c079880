//! Every field of a decoded message with its name, whichever API it is of: read from the message's `Debug` text, which all of
//! the codec's types have, and with the names that Kafka's schemas give. A list per API would leave out the next API.

use std::fmt::{Debug, Write};

use uuid::Uuid;

#[derive(Clone, PartialEq, Debug)]
pub enum Leaf {
    Text(String),
    Bytes(Vec<u8>),
    Number(i64),
    Id(Uuid),
    /// `true`, `None`, a fraction.
    Word(String),
}

/// `responses[0].partitions[2].high_watermark`, and what stands there.
#[derive(Clone, PartialEq, Debug)]
pub struct Field {
    pub path: String,
    pub leaf: Leaf,
}

impl Field {
    /// The last name on the path: that of the field, or of the list that this is an element of.
    pub fn name(&self) -> &str {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        last.split('[').next().unwrap_or_default()
    }

    /// Whether it lies below a field of this name.
    pub fn is_in(&self, name: &str) -> bool {
        self.path.split('.').any(|part| part.split('[').next() == Some(name))
    }
}

/// In the order in which the message has them.
pub fn fields(message: &impl Debug) -> Vec<Field> {
    let mut text = String::new();
    write!(text, "{message:?}").expect("a String takes everything");
    let mut reader = Reader { rest: &text, path: String::new(), found: Vec::new() };
    reader.value();
    assert!(reader.rest.is_empty(), "no end of the message: {}", reader.rest);
    reader.found
}

struct Reader<'a> {
    rest: &'a str,
    path: String,
    found: Vec<Field>,
}

impl<'a> Reader<'a> {
    fn value(&mut self) {
        if self.rest.starts_with('"') {
            let text = self.literal();
            self.leaf(Leaf::Text(String::from_utf8(text).expect("text")));
        } else if self.rest.starts_with("b\"") {
            self.rest = &self.rest[1..];
            let bytes = self.literal();
            self.leaf(Leaf::Bytes(bytes));
        } else if self.take("[") {
            let mut at = 0;
            while !self.take("]") {
                self.below(&format!("[{at}]"), Self::value);
                self.take(", ");
                at += 1;
            }
        } else if self.take("{") {
            while !self.take("}") {
                let key = self.word();
                assert!(self.take(": "), "a map: {}", self.rest);
                self.below(&format!("[{key}]"), Self::value);
                self.take(", ");
            }
        } else {
            let word = self.word();
            if self.take("(") {
                // A newtype, or `Some`.
                self.value();
                assert!(self.take(")"), "one value: {}", self.rest);
            } else if self.take(" { ") {
                while !self.take(" }") {
                    let name = self.word();
                    assert!(self.take(": "), "a field: {}", self.rest);
                    self.below(&format!(".{name}"), Self::value);
                    self.take(", ");
                }
            } else if let Ok(id) = Uuid::try_parse(word)
                && word.len() == 36
            {
                self.leaf(Leaf::Id(id));
            } else if let Ok(number) = word.parse() {
                self.leaf(Leaf::Number(number));
            } else {
                assert!(!word.is_empty(), "a value: {}", self.rest);
                self.leaf(Leaf::Word(word.to_owned()));
            }
        }
    }

    fn leaf(&mut self, leaf: Leaf) {
        self.found.push(Field { path: self.path.trim_start_matches('.').to_owned(), leaf });
    }

    fn below(&mut self, part: &str, read: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(part);
        read(self);
        self.path.truncate(length);
    }

    fn take(&mut self, what: &str) -> bool {
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_-.+".contains(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// What stands between quotes, as `str` and `Bytes` write it.
    fn literal(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[1 + at + 1..];
                    return bytes;
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => bytes.push(b'\n'),
                    Some('r') => bytes.push(b'\r'),
                    Some('t') => bytes.push(b'\t'),
                    Some('0') => bytes.push(0),
                    Some('x') => {
                        let digits: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                        bytes.push(u8::from_str_radix(&digits, 16).expect("two digits"));
                    }
                    Some('u') => {
                        let digits: String = chars.by_ref().map(|(_, c)| c).skip(1).take_while(|c| *c != '}').collect();
                        let code = u32::from_str_radix(&digits, 16).expect("a code point");
                        let c = char::from_u32(code).expect("a character");
                        bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
                    }
                    escaped => bytes.extend(escaped.expect("an escaped character").to_string().bytes()),
                },
                c => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        panic!("a literal without an end: {}", self.rest);
    }
}
