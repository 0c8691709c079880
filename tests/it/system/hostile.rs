//! Clients that mean harm, and clients that are many: what is wrong ends its own connection and nobody else's.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::BufMut;
use kafka_cutover::api::TABLE;
use kafka_cutover::embedded::batch::Header;
use kafka_cutover::wire::schema::APIS;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, FindCoordinatorRequest, InitProducerIdRequest, ListGroupsRequest, MetadataRequest,
    ProduceRequest, RequestHeader,
};
use kafka_protocol::protocol::Encodable;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::world::*;
use crate::golden::runs;
use crate::wire::filled::{Mark, filled};

/// Resident memory may grow by this while everybody lies about sizes; other tests of this process run meanwhile.
const ROOM_KIB: usize = 1 << 20;

/// A header of any version, then the body.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let header_version = ApiKey::try_from(key).map_or(1, |k| k.request_header_version(version));
    let header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(text("hostile")));
    let mut out = bytes::BytesMut::new();
    out.put_i32(0);
    header.encode(&mut out, header_version).unwrap();
    out.put_slice(body);
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.to_vec()
}

/// What the proxy says to these bytes until it ends the connection.
async fn answer_and_end(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.expect("it accepts");
    let mut answer = Vec::new();
    // It may have ended before all of it was written.
    if socket.write_all(bytes).await.is_ok() {
        let _ = soon("the connection ends", socket.read_to_end(&mut answer)).await;
    }
    answer
}

async fn works(raw: &mut Raw) {
    let topics = soon("an answer", raw.ask(&MetadataRequest::default().with_topics(None), 9)).await.topics;
    assert!(topics.iter().any(|t| t.name.as_ref().is_some_and(|n| n.as_str() == "moved")));
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_ends_its_connection_only() {
    let world = World::new(1);
    let mut good = world.client().await;
    let before = resident_kib();
    let table: [(&str, Vec<u8>); 10] = [
        ("a web client", b"GET / HTTP/1.1\r\nhost: kafka\r\n\r\n".to_vec()),
        ("TLS on a plaintext port", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("no length", vec![0; 64]),
        ("a negative length", (-1i32).to_be_bytes().to_vec()),
        ("the least length", i32::MIN.to_be_bytes().to_vec()),
        ("the greatest length", i32::MAX.to_be_bytes().to_vec()),
        ("one byte more than is allowed", (100 * 1024 * 1024 + 1i32).to_be_bytes().to_vec()),
        ("shorter than a head", vec![0, 0, 0, 3, 0, 3, 0]),
        ("an unknown key", frame(999, 0, &[])),
        ("a negative key", frame(-1, 0, &[])),
    ];
    for (what, bytes) in table {
        assert_eq!(answer_and_end(&world.address(), &bytes).await, b"", "{what}");
        works(&mut good).await;
    }
    // Noise of the length that it says it has; some of it may even be a request.
    let mut random = 2_463_534_242u32;
    for length in 0..300 {
        let mut bytes = i32::to_be_bytes(length).to_vec();
        for _ in 0..length {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            bytes.push(random as u8);
        }
        // An API of the table, so that more than the head is looked at.
        if let (0, Some(key)) = (length % 2, bytes.get_mut(4..8)) {
            key.copy_from_slice(&[0, (random % 25) as u8, 0, (random >> 8) as u8 % 8]);
        }
        let mut socket = TcpStream::connect(world.address()).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        // Whatever it says: it ends.
        let _ = soon("the connection ends", socket.read_to_end(&mut Vec::new())).await;
    }
    works(&mut good).await;
    // OffsetForLeaderEpoch is Kafka's and is not offered; nor are versions beyond the table.
    for (key, version) in [(23, 0), (3, 99), (3, -1), (0, 2), (0, 99), (1, 3), (1, 99), (27, 0)] {
        assert_eq!(answer_and_end(&world.address(), &frame(key, version, &[0; 64])).await, b"", "{key} v{version}");
        works(&mut good).await;
    }
    for (reason, least) in [("not_kafka", 2), ("too_large", 2), ("unknown_api", 3), ("unsupported_version", 6)] {
        let line = format!("kafka_cutover_rejected_frames_total{{reason=\"{reason}\"}}");
        assert!(metric(&world, &line).await >= least, "{reason}");
    }
    // A future ApiVersions is answered with version 0 (KIP-511).
    good.send_header(18, 99).await;
    assert_eq!(good.receive::<ApiVersionsRequest>(0).await.unwrap().error_code, 35);
    works(&mut good).await;
    assert!(resident_kib() < before + ROOM_KIB);
}

/// The newest of an API, some of whose bytes are missing (`golden::cut` has every cut of every version, without a
/// connection).
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_cut_short_ends_its_connection_only() {
    const CUTS: usize = 8;
    let world = World::new(1);
    let mut good = world.client().await;
    let offered = good.ask(&ApiVersionsRequest::default(), 3).await.api_keys;
    let newest: HashMap<i16, i16> = offered.iter().map(|k| (k.api_key, k.max_version)).collect();
    let requests = runs().iter().map(|run| &run.request).filter(|f| newest.get(&f.key) == Some(&f.version));
    let mut seen = HashSet::new();
    for frame in requests.filter(|f| seen.insert(f.key)) {
        for cut in 0..CUTS {
            let end = frame.bytes.len() * cut / CUTS + frame.bytes.len() / CUTS - 1;
            let bytes = [&(end as i32).to_be_bytes()[..], &frame.bytes[..end]].concat();
            let answer = answer_and_end(&world.address(), &bytes).await;
            assert_eq!(answer, b"", "API key {} v{} cut at {end}", frame.key, frame.version);
        }
    }
    assert!(seen.len() > 20, "{} APIs", seen.len());
    works(&mut good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_holds_up_nobody() {
    let world = World::new(1);
    let mut halves = Vec::new();
    let whole = frame(3, 9, &[0; 40]);
    let huge = [&(90 * 1024 * 1024i32).to_be_bytes()[..], &[0, 3, 0, 9]].concat();
    let before = resident_kib();
    for bytes in [&whole[..2], &whole[..4], &whole[..20], &huge] {
        for _ in 0..8 {
            let mut socket = TcpStream::connect(world.address()).await.unwrap();
            socket.write_all(bytes).await.unwrap();
            halves.push(socket);
        }
    }
    let mut good = world.client().await;
    for i in 0..20 {
        works(&mut good).await;
        append(&mut good, 0, 1_000 + i, i).await;
    }
    assert!(resident_kib() < before + ROOM_KIB, "a length is no reason to allocate");
    drop(halves);
    eventually("they are forgotten", async || {
        world.page("/metrics").await.1.lines().any(|l| l == "kafka_cutover_connections 1")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_as_many_groups_as_it_may_name_stops_no_worker() {
    let world = World::with(1, |config| config.workers = 1);
    let mut good = world.client().await;
    // DescribeGroups v0: names without a letter. Work that grows with the square of them takes many minutes.
    let mut body = 200_000i32.to_be_bytes().to_vec();
    body.resize(4 + 2 * 200_000, 0);
    let mut socket = TcpStream::connect(world.address()).await.unwrap();
    socket.write_all(&frame(15, 0, &body)).await.unwrap();
    // The first of them is on its way: the worker is in the midst of it.
    soon("the first is asked for", world.source.faults().wait_until_seen(ApiKey::DescribeGroups, 1)).await;
    works(&mut good).await;
    assert!(world.source.faults().seen(ApiKey::DescribeGroups) < 200_000, "not all of them at once");
}

async fn metric(world: &World, line: &str) -> usize {
    world.metric(line).await as usize
}

async fn held_bytes(world: &World) -> usize {
    metric(world, "kafka_cutover_held_bytes").await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_behind_one_that_waits_are_few_and_counted() {
    const LIMIT: usize = 1 << 20;
    let world = World::with(5_000, |config| config.limits.in_flight_bytes = bytesize::ByteSize::b(LIMIT as u64));
    let mut one = world.client().await;
    let all = MetadataRequest::default().with_topics(None);
    let answer = one.ask(&all, 9).await;
    let each = answer.compute_size(9).unwrap();
    // Nothing comes: until it is sent home this fetch keeps all answers behind it.
    one.send(&fetch(&[(0, 0)], PATIENT, 1 << 20), 12).await;
    for _ in 0..40 {
        one.send(&all, 9).await;
    }
    eventually("the limit is reached by answers", async || held_bytes(&world).await >= LIMIT).await;
    let held = held_bytes(&world).await;
    assert!(held < LIMIT + 2 * each, "{held} bytes, of which an answer has {each}");
    // The one in front is answered, then the others, all of them.
    let mut other = world.client().await;
    let answered = async {
        for _ in 0..=40 {
            soon("an answer", one.frame()).await.expect("an answer");
        }
    };
    world.source.append_directly("moved", 0, encode(ONE));
    answered.await;
    eventually("all is given back", async || held_bytes(&world).await == 0).await;
    works(&mut other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_request_that_waits_only_some_are_begun() {
    let world = World::new(1);
    let mut one = world.client().await;
    one.send(&fetch(&[(0, 0)], PATIENT, 1 << 20), 12).await;
    for _ in 0..60 {
        one.send(&ListGroupsRequest::default(), 0).await;
    }
    eventually("all have come", async || {
        metric(&world, "kafka_cutover_requests_total{api=\"ListGroups\"}").await == 60
    })
    .await;
    // Counted when it is begun, before anything else happens on the worker.
    let begun = "kafka_cutover_upstream_requests_total{api=\"ListGroups\",side=\"source\"}";
    assert!(metric(&world, begun).await < 16);
    world.source.append_directly("moved", 0, encode(ONE));
    for _ in 0..=60 {
        soon("an answer", one.frame()).await.expect("an answer");
    }
    assert_eq!(metric(&world, begun).await, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_weighs_decoded_is_counted() {
    let world = World::new(1);
    let mut one = world.client().await;
    one.send(&fetch(&[(0, 0)], PATIENT, 1 << 20), 12).await;
    let keys = vec![text(""); 200_000];
    one.send(&FindCoordinatorRequest::default().with_coordinator_keys(keys), 4).await;
    eventually("its elements are counted", async || held_bytes(&world).await > 200 * 200_000).await;
    drop(one);
    eventually("all is given back", async || held_bytes(&world).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_frames_are_counted_and_end() {
    const LIMIT: usize = 8 << 20;
    let mut world = World::stopped(1, |config| {
        config.limits.in_flight_bytes = bytesize::ByteSize::b(LIMIT as u64);
        config.timeouts.client_frame = Duration::from_secs(1);
    });
    world.start().unwrap();
    let mut good = world.client().await;
    works(&mut good).await;
    let four = [&(5i32 << 20).to_be_bytes()[..], &vec![0; 4 << 20]].concat();
    let mut silent = JoinSet::new();
    for _ in 0..10 {
        let (address, bytes) = (world.address(), four.clone());
        silent.spawn(async move { answer_and_end(&address, &bytes).await });
    }
    eventually("they are counted", async || held_bytes(&world).await >= LIMIT).await;
    assert!(held_bytes(&world).await < 3 * LIMIT, "what there is no room for stays in the socket");
    while let Some(end) = soon("a silent one ends", silent.join_next()).await {
        assert_eq!(end.unwrap(), b"");
    }
    append(&mut good, 0, 1_000, 0).await;
    eventually("all is given back", async || held_bytes(&world).await == 0).await;
}

/// Requests of Produce and Fetch up to the count of their topics; their codecs are our own.
fn data_path(key: i16, version: i16) -> (Vec<u8>, Mark) {
    let mut body = Vec::new();
    let compact = version >= if key == 0 { 9 } else { 12 };
    match key {
        0 => {
            if compact {
                body.put_u8(0)
            } else {
                body.put_i16(-1)
            }
            body.put_i16(-1);
            body.put_i32(1_000);
        }
        _ => {
            if version < 15 {
                body.put_i32(-1);
            }
            body.put_i32(0);
            body.put_i32(1);
            body.put_i32(1 << 20);
            body.put_i8(0);
            if version >= 7 {
                body.put_i32(0);
                body.put_i32(-1);
            }
        }
    }
    let mark = Mark { at: body.len(), bytes: if compact { 1 } else { 4 }, compact };
    body.extend([0; 4]);
    (body, mark)
}

/// Every count or length of a request of this API and version says 2^31-1, one at a time.
fn lies(key: i16, version: i16) -> Vec<Vec<u8>> {
    let (body, marks) = match APIS.iter().find(|api| api.key == key) {
        Some(api) => {
            let whole = filled(&api.request, version);
            (whole.body, whole.marks)
        }
        None => {
            let (body, mark) = data_path(key, version);
            (body, vec![mark])
        }
    };
    let lie = |mark: &Mark| {
        let most: &[u8] = match (mark.compact, mark.bytes) {
            // The number in a compact field is one more than the count.
            (true, _) => &[0x80, 0x80, 0x80, 0x80, 0x08],
            (false, 2) => &[0x7f, 0xff],
            (false, _) => &[0x7f, 0xff, 0xff, 0xff],
        };
        let mut body = body.clone();
        body.splice(mark.at..mark.at + mark.bytes, most.iter().copied());
        frame(key, version, &body)
    };
    marks.iter().map(lie).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_billion_elements_of_every_api_and_version() {
    let world = World::new(1);
    let mut good = world.client().await;
    let offered = good.ask(&ApiVersionsRequest::default(), 3).await.api_keys;
    let offered: HashMap<i16, RangeInclusive<i16>> =
        offered.iter().map(|k| (k.api_key, k.min_version..=k.max_version)).collect();
    let before = resident_kib();
    let mut frames = 0;
    for entry in TABLE {
        let key = entry.key as i16;
        // What the embedded clusters do not speak is not offered; the wire's own tests have it.
        let Some(versions) = offered.get(&key).cloned() else { continue };
        for version in versions.filter(|v| key != 0 || *v >= 3) {
            for bytes in lies(key, version) {
                assert_eq!(answer_and_end(&world.address(), &bytes).await, b"", "{} v{version}", entry.name);
                frames += 1;
            }
        }
        works(&mut good).await;
    }
    assert!(frames > 300, "{frames} frames");
    assert!(resident_kib() < before + ROOM_KIB, "nothing is allocated from a count");
    append(&mut good, 0, 1_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_connections_and_two_hundred_busy_ones_over_a_seal() {
    const IDLE: usize = 1_000;
    const BUSY: i64 = 200;
    const EACH: i32 = 12;
    const PARTITIONS: i32 = 8;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(8_192, |most| most.min(8_192));
    if limit.current.is_some_and(|now| now < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).expect("room for the connections");
    }
    let world = World::new(PARTITIONS);
    world.prepare().await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(world.client().await);
    }
    let mut busy = JoinSet::new();
    let (half, halfway) = tokio::sync::mpsc::channel::<()>(BUSY as usize);
    let (sealed, seam) = tokio::sync::watch::channel(false);
    for partition in (0..PARTITIONS).cycle().take(BUSY as usize) {
        let (address, half, mut seam) = (world.address(), half.clone(), seam.clone());
        busy.spawn(async move {
            let mut raw = Raw::connect(&address).await;
            let request =
                InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1_000);
            let pid = raw.ask(&request, 4).await.producer_id.0;
            for sequence in 0..EACH {
                if sequence == EACH - 1 {
                    // However fast the others were: everybody's last record comes after the seam.
                    seam.wait_for(|sealed| *sealed).await.unwrap();
                }
                let request =
                    produce("moved", partition, encode(idempotent(pid, 0, sequence, 1))).with_timeout_ms(60_000);
                let done = raw.ask::<ProduceRequest>(&request, 9).await;
                assert_eq!(done.responses[0].partition_responses[0].error_code, 0);
                if sequence == EACH / 2 {
                    half.send(()).await.unwrap();
                }
            }
        });
    }
    drop(half);
    let mut halfway = halfway;
    soon("somebody is halfway", halfway.recv()).await;
    let switch = world.begin_switch();
    for _ in 1..BUSY {
        soon("all are halfway", halfway.recv()).await.expect("one more is halfway");
    }
    soon("the switch", switch).await.unwrap().expect("switched");
    sealed.send(true).unwrap();
    soon("all are done", async {
        while let Some(done) = busy.join_next().await {
            done.expect("no error reaches a client");
        }
    })
    .await;
    let mut all = HashMap::<i64, Vec<i32>>::new();
    for partition in 0..PARTITIONS {
        for side in [&world.source, &world.target] {
            for Header { producer_id, base_sequence, .. } in side.log("moved", partition).into_iter().map(|b| b.header)
            {
                all.entry(producer_id & ((1 << 44) - 1)).or_default().push(base_sequence);
            }
        }
    }
    assert_eq!(all.len(), BUSY as usize);
    assert!(all.values().all(|sequences| *sequences == (0..EACH).collect::<Vec<_>>()), "all, once, in order");
    let moved: i64 = (0..PARTITIONS).map(|p| world.stored(p).1).sum();
    assert!(moved > 0, "some of it after the seam");
    for raw in &mut idle {
        works(raw).await;
    }
}
