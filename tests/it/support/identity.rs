//! What answers to clients may say of who and where brokers are: nothing that is real (DESIGN.md section 2).
//!
//! An answer is looked at twice. Decoded: each field that holds a node, an address, a cluster, a topic id or a leader epoch has
//! to be a virtual one. Raw, without the payload of records: no identity of a real cluster in any form in which it could
//! stand there. Text, cluster ids and topic ids are too long to be there by chance. Four bytes are not (the low half of a
//! timestamp, a part of a UUID, the end of one field and the start of the next), so for these the answer decides that the
//! bytes are in: they are a leak if they are an int32 field of their own, or lie within bytes that the codec does not read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use kafka_cutover::ids::Side;
use kafka_cutover::wire::batch::batches;
use kafka_cutover::wire::{decode, frame};
use kafka_protocol::messages::{ApiKey, MetadataResponse, ResponseKind};
use regex::bytes::Regex;
use uuid::Uuid;

use super::leaves::{Field, Leaf, fields};

/// Answered in v0 whatever was asked, when the version is not spoken.
const UNSUPPORTED_VERSION: i16 = 35;

/// One cluster's, as it told them.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Native {
    /// Id, host and port of every broker that there was.
    pub brokers: BTreeSet<(i32, String, u16)>,
    pub cluster_id: Option<String>,
    pub topic_ids: BTreeSet<Uuid>,
}

impl Native {
    pub fn learn(&mut self, told: &MetadataResponse) {
        for broker in &told.brokers {
            let port = u16::try_from(broker.port).expect("a port");
            self.brokers.insert((broker.node_id.0, broker.host.to_string(), port));
        }
        self.cluster_id = told.cluster_id.as_ref().map(ToString::to_string).or(self.cluster_id.take());
        self.topic_ids.extend(told.topics.iter().map(|t| t.topic_id).filter(|id| !id.is_nil()));
    }
}

/// What an answer may say, and what not.
pub struct Identities {
    /// By side.
    native: [Native; 2],
    /// Where the virtual nodes are: the first has id 1.
    nodes: Vec<(String, u16)>,
    /// All that is real, in every form.
    forms: BTreeMap<Vec<u8>, Form>,
    search: Option<Regex>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Form {
    /// A host, a cluster id, a topic id: a leak wherever it stands.
    Long,
    /// A number in digits: a leak as a word.
    Digits,
    /// A number in four bytes.
    Int,
}

/// One answer to a client.
pub struct Answer {
    pub api_key: i16,
    pub version: i16,
    /// Without the length.
    pub frame: Bytes,
}

/// What came of it.
#[derive(Default, Debug)]
pub struct Seen {
    /// Field, bytes, why.
    pub leaks: Vec<String>,
    /// Topic ids that are neither side's, as far as is known.
    pub strange: Vec<(Uuid, String)>,
}

impl Identities {
    pub fn new(nodes: Vec<(String, u16)>) -> Self {
        Self { native: Default::default(), nodes, forms: BTreeMap::new(), search: None }
    }

    pub fn native(&self, side: Side) -> &Native {
        &self.native[side.index()]
    }

    pub fn learn(&mut self, native: [Native; 2]) {
        if self.native == native {
            return;
        }
        self.native = native;
        self.forms = self.all_forms();
        let literals: Vec<String> =
            self.forms.keys().map(|f| f.iter().map(|b| format!("\\x{b:02x}")).collect()).collect();
        let search = Regex::new(&format!("(?s-u){}", literals.join("|"))).expect("literals");
        self.search = (!literals.is_empty()).then_some(search);
    }

    fn all_forms(&self) -> BTreeMap<Vec<u8>, Form> {
        let mut forms = BTreeMap::new();
        for (id, host, port) in self.native.iter().flat_map(|n| &n.brokers) {
            forms.insert(format!("{host}:{port}").into_bytes(), Form::Long);
            // Where all have one host, only the ports tell them apart.
            if self.nodes.iter().all(|(ours, _)| ours != host) {
                forms.insert(host.clone().into_bytes(), Form::Long);
            }
            for number in [*id, i32::from(*port)] {
                forms.insert(number.to_string().into_bytes(), Form::Digits);
                forms.insert(number.to_be_bytes().to_vec(), Form::Int);
            }
        }
        let target = self.native(Side::Target);
        forms.extend(target.cluster_id.iter().map(|id| (id.clone().into_bytes(), Form::Long)));
        for id in target.topic_ids.difference(&self.native(Side::Source).topic_ids) {
            forms.insert(id.as_bytes().to_vec(), Form::Long);
            forms.insert(base64(*id).into_bytes(), Form::Long);
            forms.insert(id.to_string().into_bytes(), Form::Long);
        }
        forms
    }

    pub fn check(&self, answer: &Answer) -> Seen {
        let mut seen = Seen::default();
        let (decoded, version) = match decoded(answer) {
            Ok(decoded) => decoded,
            Err(why) => {
                seen.leaks.push(format!("{why}: {:02x?}", answer.frame));
                return seen;
            }
        };
        let (decoded, records) = without_records(decoded, &answer.frame, &mut seen.leaks);
        let all = fields(&decoded);
        for field in &all {
            if let Some(why) = self.is_wrong(field, &mut seen) {
                seen.leaks.push(format!("{} = {:?}: {why}", field.path, field.leaf));
            }
        }
        self.search(answer, version, &all, &records, &mut seen.leaks);
        seen
    }

    /// The positive side: what stands in a field that names somebody.
    fn is_wrong(&self, field: &Field, seen: &mut Seen) -> Option<&'static str> {
        let number = |allowed: bool| (!allowed).then_some("not a virtual one");
        // 0 is what the codec has where the version has no such field; no broker of a rig has it.
        let (name, ours) = (field.name(), 1..=self.nodes.len() as i64);
        match (&field.leaf, name) {
            (_, "unknown_tagged_fields") => Some("a field that the codec does not know"),
            _ if field.is_in("node_endpoints") => Some("leads past the proxy (KIP-951)"),
            (Leaf::Number(n), "leader_id") if field.is_in("current_leader") => number(*n == -1),
            (Leaf::Number(n), "preferred_read_replica" | "leader_epoch" | "committed_leader_epoch") => number(*n == -1),
            (Leaf::Number(n), "epoch" | "end_offset")
                if field.is_in("diverging_epoch") || field.is_in("snapshot_id") =>
            {
                number(*n == -1)
            }
            (Leaf::Number(n), "session_id") => number(*n == 0),
            (Leaf::Number(n), name) if NODES.contains(&name) => number(matches!(n, -1 | 0) || ours.contains(n)),
            (Leaf::Number(n), "port") => {
                number(matches!(n, -1 | 0) || self.nodes.iter().any(|(_, port)| i64::from(*port) == *n))
            }
            // Whom an ACL is about.
            (Leaf::Text(_), "host") if field.is_in("acls") || field.is_in("matching_acls") => None,
            (Leaf::Text(t), "host") => number(t.is_empty() || self.nodes.iter().any(|(host, _)| host == t)),
            (Leaf::Text(t), "rack") => number(t.is_empty()),
            (Leaf::Text(t), "cluster_id") => {
                let source = &self.native(Side::Source).cluster_id;
                number(source.is_none() || source.as_ref() == Some(t))
            }
            (Leaf::Id(id), _) if id.is_nil() || self.native(Side::Source).topic_ids.contains(id) => None,
            (Leaf::Id(id), _) if self.native(Side::Target).topic_ids.contains(id) => Some("the target's"),
            (Leaf::Id(id), _) => {
                seen.strange.push((*id, field.path.clone()));
                None
            }
            _ => None,
        }
    }

    /// The negative side: nothing real, whatever the field is called.
    fn search(&self, answer: &Answer, version: i16, all: &[Field], records: &[Range<usize>], leaks: &mut Vec<String>) {
        let Some(search) = &self.search else { return };
        let bytes = &answer.frame;
        let mut from = 0;
        for part in records.iter().cloned().chain(std::iter::once(bytes.len()..bytes.len())) {
            for hit in search.find_iter(&bytes[from..part.start]) {
                let at = from + hit.start()..from + hit.end();
                let leak = match self.forms[hit.as_bytes()] {
                    Form::Long => true,
                    Form::Digits => is_word(bytes, &at),
                    Form::Int => is_int_of_its_own(answer, version, all, &at),
                };
                if leak {
                    let around = at.start.saturating_sub(24)..(at.end + 24).min(bytes.len());
                    let text = String::from_utf8_lossy(&bytes[around.clone()]).into_owned();
                    let owner = owner(answer, version, all, at.start).map_or("", |n| all[n].path.as_str());
                    leaks.push(format!("{owner}: real at byte {}: {:02x?} in {text:?}", at.start, hit.as_bytes()));
                }
            }
            from = part.end;
        }
    }
}

/// Fields that hold node ids, in any answer.
const NODES: &[&str] = &[
    "node_id",
    "leader_id",
    "controller_id",
    "broker_id",
    "replica_id",
    "replica_nodes",
    "isr_nodes",
    "offline_replicas",
    "eligible_leader_replicas",
    "last_known_elr",
    "replicas",
    "adding_replicas",
    "removing_replicas",
];

/// By the codec, wholly, and in which version.
fn decoded(answer: &Answer) -> Result<(ResponseKind, i16), String> {
    let key = ApiKey::try_from(answer.api_key).map_err(|_| format!("an answer to API key {}", answer.api_key))?;
    let whole = |version| {
        let mut body = answer.frame.clone();
        frame::response_head(&mut body, answer.api_key, version).map_err(|e| format!("its head: {e}"))?;
        // Counts are believed only when the schema has found the message whole: a byte may have been changed to see what it is.
        if !matches!(key, ApiKey::Produce | ApiKey::Fetch) {
            return decode::response(answer.api_key, version, body).map_err(|e| format!("does not decode: {e}"));
        }
        let decoded = ResponseKind::decode(key, &mut body, version).map_err(|e| format!("does not decode: {e:#}"))?;
        if body.is_empty() { Ok(decoded) } else { Err(format!("{} bytes behind it", body.len())) }
    };
    let first = whole(answer.version);
    if key == ApiKey::ApiVersions
        && first.is_err()
        && let Ok(ResponseKind::ApiVersions(told)) = whole(0)
        && told.error_code == UNSUPPORTED_VERSION
    {
        return Ok((ResponseKind::ApiVersions(told), 0));
    }
    first.map(|decoded| (decoded, answer.version))
}

/// Their places in the frame; in them, batches without a leader epoch.
fn without_records(decoded: ResponseKind, frame: &Bytes, leaks: &mut Vec<String>) -> (ResponseKind, Vec<Range<usize>>) {
    let ResponseKind::Fetch(mut fetched) = decoded else { return (decoded, Vec::new()) };
    let mut places = Vec::new();
    for partition in fetched.responses.iter_mut().flat_map(|t| &mut t.partitions) {
        let Some(records) = partition.records.as_mut().map(std::mem::take).filter(|r| !r.is_empty()) else { continue };
        // The codec's bytes are a slice of the frame's.
        let start = records.as_ptr() as usize - frame.as_ptr() as usize;
        places.push(start..start + records.len());
        let epochs = batches(&records).map(|batch| batch.map(|(_, head)| head.partition_leader_epoch));
        for epoch in epochs.filter(|epoch| *epoch != Ok(-1)) {
            leaks.push(format!("partition {}: a batch with the leader epoch {epoch:?}", partition.partition_index));
        }
    }
    (ResponseKind::Fetch(fetched), places)
}

fn is_word(bytes: &[u8], at: &Range<usize>) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    !is_part(at.start.checked_sub(1).and_then(|before| bytes.get(before))) && !is_part(bytes.get(at.end))
}

fn is_int_of_its_own(answer: &Answer, version: i16, all: &[Field], at: &Range<usize>) -> bool {
    let owners: Vec<Option<usize>> = at.clone().map(|byte| owner(answer, version, all, byte)).collect();
    let Some(field) = owners[0].filter(|_| owners.iter().all(|o| *o == owners[0])) else { return false };
    match &all[field].leaf {
        // In an int64 it is a time or a position.
        Leaf::Number(_) => {
            let next = [at.start.wrapping_sub(1), at.end].map(|byte| owner(answer, version, all, byte));
            // How many a producer has written to a partition, since it began.
            !next.contains(&Some(field)) && all[field].name() != "last_sequence"
        }
        Leaf::Bytes(_) => true,
        Leaf::Text(_) | Leaf::Id(_) | Leaf::Word(_) => false,
    }
}

/// The field that a byte of the frame belongs to: the one that is another when the byte is. None for lengths and heads.
fn owner(answer: &Answer, version: i16, all: &[Field], byte: usize) -> Option<usize> {
    let mut other = answer.frame.to_vec();
    *other.get_mut(byte)? ^= 1;
    let other = Answer { frame: other.into(), version, ..*answer };
    let (decoded, _) = decoded(&other).ok()?;
    let (decoded, _) = without_records(decoded, &other.frame, &mut Vec::new());
    let changed = fields(&decoded);
    let mut differs = (0..all.len()).filter(|n| changed.get(*n) != Some(&all[*n]));
    let found = differs.next()?;
    (changed.len() == all.len() && differs.next().is_none() && changed[found].path == all[found].path).then_some(found)
}

/// As Kafka writes a UUID.
pub fn base64(id: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 128 bits and 4 of padding are 22 letters of 6 bits.
    let sextet = |n: u32| match 122_u32.checked_sub(6 * n) {
        Some(shift) => (id.as_u128() >> shift) as usize & 63,
        None => (id.as_u128() << 4) as usize & 63,
    };
    (0..22).map(|n| char::from(ALPHABET[sextet(n)])).collect()
}
