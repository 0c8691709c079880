//! A retry over the seam: the source has appended a batch, nobody was told, the seal follows, the client tries again.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_cutover::ids::Side;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use tokio::runtime::Runtime;

use crate::embedded::raw::{Plan, Raw, encode, idempotent, produce};
use crate::support::proxy::Proxy;
use crate::support::rig::Rig;
use crate::support::whole_log::WholeLog;
use crate::support::withheld::Withheld;
use crate::support::{PATIENCE, unique};

#[test]
fn a_retry_over_the_seam_is_stored_once() {
    let runtime = Runtime::new().expect("a runtime");
    let rig = Rig::connect();
    let (relay, _source) = runtime.block_on(Withheld::before_a_source(&rig, &[]));
    let rig = rig.with(Side::Source, &relay.address);
    cut_over_with_a_lost_answer(&runtime, &relay, &rig, true);
    // What the gate is for, shown by a proxy without it.
    if cfg!(feature = "crash-points") {
        cut_over_with_a_lost_answer(&runtime, &relay, &rig, false);
    }
}

fn cut_over_with_a_lost_answer(runtime: &Runtime, relay: &Withheld, rig: &Rig, gate: bool) {
    let topic = unique("lost-answer");
    rig.create(&topic, 1);
    let mut proxy = Proxy::new(rig, &[&topic]);
    if !gate {
        proxy.environment = vec![("KAFKA_CUTOVER_NO_GATE", "1")];
    }
    proxy.start();
    proxy.prepare();
    let pid = runtime.block_on(soon(producer(&proxy)));

    let first = batch(pid, 0);
    relay.lose();
    let answer = runtime.block_on(soon(async {
        let mut raw = Raw::connect(&proxy.bootstrap()).await;
        raw.send(&produce(&topic, 0, first.clone()), 9).await;
        raw.receive::<ProduceRequest>(9).await
    }));
    assert!(answer.is_none(), "the answer is lost, but came: {answer:?}");
    assert!(relay.has_kept(), "the connection ended before the source had answered");
    assert_eq!(stored(rig, &topic), (1, 0), "the source has appended");

    proxy.switch();
    let again = |batch: Bytes| {
        runtime.block_on(soon(async { Raw::connect(&proxy.bootstrap()).await.produce(&topic, 0, batch).await }))
    };
    assert_eq!(again(first).0, 0, "gate: {gate}: a success, as it was one");
    let copies = if gate { 0 } else { 1 };
    assert_eq!(stored(rig, &topic), (1, copies), "gate: {gate}");
    assert_eq!(again(batch(pid, 1)), (0, 1 + copies as i64), "gate: {gate}: and on it goes");
    assert_eq!(stored(rig, &topic), (1, copies + 1), "gate: {gate}");
    proxy.stop();
}

/// Records on the source and on the target.
fn stored(rig: &Rig, topic: &str) -> (usize, usize) {
    let log = WholeLog::read(rig, topic);
    (log.records(Side::Source), log.records(Side::Target))
}

/// One record, of today: real Kafka deletes what is older than its retention.
fn batch(pid: i64, sequence: i32) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    encode(Plan { timestamp: now as i64, ..idempotent(pid, 0, sequence, 1) })
}

/// A producer id, as the proxy gives it.
async fn producer(proxy: &Proxy) -> i64 {
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1_000);
    let mut raw = Raw::connect(&proxy.bootstrap()).await;
    loop {
        let answer = raw.ask(&request, 4).await;
        // What a broker says until the controller has given it its first block of ids.
        if answer.error_code != E::CoordinatorLoadInProgress.code() {
            assert_eq!(answer.error_code, 0);
            return answer.producer_id.0;
        }
    }
}

/// Ends a test that would wait for ever.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("an answer in time")
}
