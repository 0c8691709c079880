//! YAML as a tree that knows its lines, so that every mistake of a type can be reported at once and at its place:
//! a value is read from the tree; at an error the branch is noted, cut off, and the reading begins again.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::problem::{Place, Problem};

/// A value and where it stands.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

/// Scalars stay as they were written: what they are is for the key to say.
#[derive(Clone, Debug, Default)]
pub enum Value {
    #[default]
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// An element whose mistake is noted; the others keep their index.
    Gone,
}

/// One step from a node to a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// `listeners[0].advertise`
pub fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key.as_str()]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

impl Node {
    /// Every environment value and every YAML document begins here.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let raw: Spanned<Raw> = serde_saphyr::from_str(text).map_err(|e| {
            let place = e.location().map_or(Place::Nowhere, place);
            Problem { key: String::new(), message: e.without_snippet().to_string(), place }
        })?;
        Ok(Self::from_raw(raw, text))
    }

    fn from_raw(raw: Spanned<Raw>, text: &str) -> Self {
        let at = raw.referenced;
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => Value::Text(text),
            Raw::Plain(shown) => Value::Text(as_written(raw.defined, text).unwrap_or(shown)),
            Raw::List(list) => Value::List(list.into_iter().map(|n| Self::from_raw(n, text)).collect()),
            Raw::Map(map) => Value::Map(map.into_iter().map(|(k, n)| (k, Self::from_raw(n, text))).collect()),
        };
        Self { value, place: place(at) }
    }

    /// The value at a path, made if it is not there; what is in the way of it is replaced.
    pub fn at_or_made(&mut self, path: &[Step]) -> Option<&mut Node> {
        let Some((step, rest)) = path.split_first() else { return Some(self) };
        let child = match step {
            Step::Index(index) => {
                if !matches!(self.value, Value::List(_)) {
                    self.value = Value::List(Vec::new());
                }
                let Value::List(list) = &mut self.value else { return None };
                if *index == list.len() {
                    list.push(Node::default());
                }
                list.get_mut(*index)?
            }
            Step::Key(key) => {
                if !matches!(self.value, Value::Map(_)) {
                    self.value = Value::Map(Vec::new());
                }
                let Value::Map(map) = &mut self.value else { return None };
                let index = map.iter().position(|(k, _)| k == key).unwrap_or_else(|| {
                    map.push((key.clone(), Node::default()));
                    map.len() - 1
                });
                &mut map.get_mut(index)?.1
            }
        };
        child.at_or_made(rest)
    }

    /// Where the value of a path as in [`path_text`] stands, or the nearest thing above it that is there.
    pub fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = Place::Nowhere;
        for part in path.split(['.', '[', ']']).filter(|p| !p.is_empty()) {
            let child = match &node.value {
                Value::Map(map) => map.iter().find(|(k, _)| k == part).map(|(_, n)| n),
                Value::List(list) => part.parse().ok().and_then(|i: usize| list.get(i)),
                _ => None,
            };
            let Some(child) = child else { break };
            node = child;
            place = node.place.clone();
        }
        place
    }

    fn cut(&mut self, path: &[Step]) {
        match (path, &mut self.value) {
            ([Step::Key(key)], Value::Map(map)) => map.retain(|(k, _)| k != key),
            ([Step::Key(key), rest @ ..], Value::Map(map)) => {
                map.iter_mut().filter(|(k, _)| k == key).for_each(|(_, n)| n.cut(rest));
            }
            ([Step::Index(index)], Value::List(list)) => {
                if let Some(node) = list.get_mut(*index) {
                    node.value = Value::Gone;
                }
            }
            ([Step::Index(index), rest @ ..], Value::List(list)) => {
                if let Some(node) = list.get_mut(*index) {
                    node.cut(rest);
                }
            }
            _ => {}
        }
    }

    /// The tree as a `T`, and everything that kept it from being one. `T` must have a default for each of its keys.
    pub fn read<T: DeserializeOwned + Default>(mut self) -> (T, Vec<Problem>) {
        let mut problems = Vec::new();
        loop {
            let mut error = match T::deserialize(At(&self)) {
                Ok(value) => return (value, problems),
                Err(error) => error,
            };
            error.path.reverse();
            let again = problems.last().is_some_and(|p: &Problem| p.key == path_text(&error.path));
            if again || error.path.is_empty() {
                if !again {
                    problems.push(Problem { key: String::new(), message: error.message, place: error.place });
                }
                return (T::default(), problems);
            }
            self.cut(&error.path);
            problems.push(Problem { key: path_text(&error.path), message: error.message, place: error.place });
        }
    }
}

/// `007`, `1e3` and `no` may be names: the text counts, not what YAML makes of it. Found by line and column, since the
/// parser's own offset counts comments in bytes and the rest in characters.
fn as_written(at: Location, text: &str) -> Option<String> {
    let Place::Line { line, column } = place(at) else { return None };
    let line = text.lines().nth(line.checked_sub(1)?)?;
    let written: String = line.chars().skip(column.checked_sub(1)?).take(at.span().len()).collect();
    let written = written.trim();
    (!written.is_empty()).then(|| written.to_owned())
}

fn place(at: Location) -> Place {
    if at == Location::UNKNOWN {
        return Place::Nowhere;
    }
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Place::Line { line: count(at.line()), column: count(at.column()) }
}

/// What the YAML library hands over.
enum Raw {
    Null,
    /// Quoted, or nothing but text.
    Text(String),
    /// It took a plain scalar for a number or a truth value.
    Plain(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(String, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;

        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("YAML")
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Text(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
                let mut list = Vec::new();
                while let Some(node) = seq.next_element()? {
                    list.push(node);
                }
                Ok(Raw::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Raw::Map(map))
            }
        }

        deserializer.deserialize_any(RawVisitor)
    }
}

/// An error on its way out: its path is gathered from the leaf to the root.
#[derive(Debug)]
struct ReadError {
    message: String,
    path: Vec<Step>,
    place: Place,
}

impl ReadError {
    fn within(mut self, step: Step, node: &Node) -> Self {
        if self.place == Place::Nowhere {
            self.place = node.place.clone();
        }
        self.path.push(step);
        self
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), path: Vec::new(), place: Place::Nowhere }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let _ = field;
        Self::custom(format!("unknown key; known here: {}", expected.join(", ")))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("`{variant}` is none of: {}", expected.join(", ")))
    }
}

/// Reads a typed value from a node.
struct At<'a>(&'a Node);

impl At<'_> {
    fn text(&self, wanted: &dyn fmt::Display) -> Result<&str, ReadError> {
        match &self.0.value {
            Value::Text(text) => Ok(text),
            Value::Null | Value::Gone => Err(de::Error::custom(format!("expected {wanted}, found nothing"))),
            Value::List(_) => Err(de::Error::custom(format!("expected {wanted}, found a list"))),
            Value::Map(_) => Err(de::Error::custom(format!("expected {wanted}, found a map"))),
        }
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty, $wanted:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            let text = self.text(&$wanted)?;
            let value: $type = text.trim().parse().map_err(|_| <ReadError as de::Error>::custom(
                format!("expected {}, found `{text}`", $wanted)))?;
            visitor.$visit(value)
        })*
    };
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.value {
            Value::Null | Value::Gone => visitor.visit_unit(),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    parsed! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_u8 visit_u8 u8, "a whole number";
        deserialize_u16 visit_u16 u16, "a whole number";
        deserialize_u32 visit_u32 u32, "a whole number";
        deserialize_u64 visit_u64 u64, "a whole number";
        deserialize_i8 visit_i8 i8, "a whole number";
        deserialize_i16 visit_i16 i16, "a whole number";
        deserialize_i32 visit_i32 i32, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_f32 visit_f32 f32, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.text(&"text")?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0.value {
            Value::Null | Value::Gone => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let split: Vec<Node>;
        let list: &[Node] = match &self.0.value {
            Value::Null | Value::Gone => &[],
            Value::List(list) => list,
            // The environment has no lists: commas separate.
            Value::Text(text) if matches!(self.0.place, Place::Env(_)) => {
                let node = |t: &str| Node { value: Value::Text(t.trim().to_owned()), place: self.0.place.clone() };
                split = text.split(',').map(node).collect();
                &split
            }
            Value::Text(_) => return Err(de::Error::custom("expected a list, found text")),
            Value::Map(_) => return Err(de::Error::custom("expected a list, found a map")),
        };
        visitor.visit_seq(Elements { list, next: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let map: &[(String, Node)] = match &self.0.value {
            Value::Null | Value::Gone => &[],
            Value::Map(map) => map,
            Value::Text(_) => return Err(de::Error::custom("expected keys and values, found text")),
            Value::List(_) => return Err(de::Error::custom("expected keys and values, found a list")),
        };
        visitor.visit_map(Entries { map, next: 0 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let text = self.text(&format!("one of {}", variants.join(", ")))?;
        visitor.visit_enum(text.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Elements<'a> {
    list: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let left = self.list.iter().enumerate().skip(self.next);
        let Some((index, node)) = left.into_iter().find(|(_, n)| !matches!(n.value, Value::Gone)) else {
            return Ok(None);
        };
        self.next = index + 1;
        seed.deserialize(At(node)).map(Some).map_err(|e| e.within(Step::Index(index), node))
    }
}

struct Entries<'a> {
    map: &'a [(String, Node)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((key, node)) = self.map.get(self.next) else { return Ok(None) };
        let text: de::value::StrDeserializer<'_, ReadError> = key.as_str().into_deserializer();
        seed.deserialize(text).map(Some).map_err(|e| e.within(Step::Key(key.clone()), node))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ReadError> {
        let Some((key, node)) = self.map.get(self.next) else {
            return Err(de::Error::custom("a value without a key"));
        };
        self.next += 1;
        seed.deserialize(At(node)).map_err(|e| e.within(Step::Key(key.clone()), node))
    }
}
