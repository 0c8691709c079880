//! Producers of the past: whoever uses a transactional id with what it was given before is fenced once the id has crossed, through
//! the proxy and straight at the source, by the brokers themselves.

use kafka_cutover::ids::Side;
use tokio::runtime::Runtime;

use super::transactions::Pair;
use crate::embedded::raw::Raw;
use crate::support::crowd::Crowd;
use crate::support::proxy::Proxy;
use crate::support::whole_log::WholeLog;
use crate::support::{PATIENCE, eventually, unique};
use crate::system::transactions::Producer;

const CONCURRENT_TRANSACTIONS: i16 = 51;
const PRODUCER_FENCED: i16 = 90;
const INVALID_PRODUCER_EPOCH: i16 = 47;

/// The driver's own producers: one straight at the source, one through the proxy before its heir, and the heir.
#[test]
fn an_old_producer_is_fenced_once_its_id_has_crossed() {
    for begin in [Pair::first, Pair::second] {
        clients_of_the_past(&begin());
    }
}

fn clients_of_the_past(pair: &Pair) {
    let (rig, topic) = (&pair.rig, unique("zombies"));
    rig.create(&topic, 1);
    let mut proxy = Proxy::new(rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    let flags = ["--rate", "50", "--transactional-id", &topic];
    let further = |crowd: &Crowd, name: &str| {
        let goal = crowd.acked(name) + 20;
        crowd.wait(&format!("{name} goes on"), |t| t.get(name).is_some_and(|t| t.acked >= goal));
    };
    crowd.producer_at((rig.bootstrap(Side::Source), &topic), "java", "beside", &flags);
    further(&crowd, "beside");
    crowd.pause("beside");
    crowd.producer("java", "old", &flags);
    further(&crowd, "old");
    proxy.prepare();
    proxy.switch();
    further(&crowd, "old");
    eventually("the seam has its place", || proxy.migration().late_seam.is_none());
    further(&crowd, "old");
    crowd.pause("old");
    crowd.producer("java", "heir", &flags);
    further(&crowd, "heir");
    for name in ["beside", "old"] {
        crowd.resume(name);
        assert_eq!(crowd.wait_for_end(name).code(), Some(1), "{name}: an error that it gave up on");
        let said = crowd.complaints_of(name);
        // By the coordinator, or by a leader that it writes to.
        let is_fenced = |line: &&String| line.contains("ProducerFenced") || line.contains("with an old epoch");
        assert!(said.iter().any(|line| is_fenced(&line)), "{name}: {said:?}");
    }
    further(&crowd, "heir");
    crowd.stop(&["heir"]);
    assert_eq!(crowd.complaints_of("heir"), Vec::<String>::new());
    let sides = [Side::Source, Side::Target].map(|side| WholeLog::read(rig, &topic).records(side));
    assert!(sides.iter().all(|records| *records > 0), "{sides:?}");
    proxy.stop();
}

/// The very same producer, number and epoch, straight at the source: nobody but the crossing has fenced it.
#[test]
fn nobody_goes_on_at_the_source_with_what_has_crossed() {
    let pair = Pair::second();
    let (rig, topic) = (&pair.rig, unique("twins"));
    rig.create(&topic, 1);
    let mut proxy = Proxy::new(rig, &[&topic]);
    proxy.start();
    let runtime = Runtime::new().expect("a runtime");
    let topic: &'static str = Box::leak(topic.into_boxed_str());
    let id: &'static str = "twin";
    let mut tx = runtime.block_on(soon(async {
        let raw = Raw::connect(&proxy.bootstrap()).await;
        let mut tx = Producer { raw, id, pid: -1, epoch: -1, sequence: 0 };
        // A new cluster has no coordinators yet.
        while tx.initialise().await != 0 {}
        write(&mut tx, topic).await;
        tx
    }));
    proxy.prepare();
    proxy.switch();
    runtime.block_on(soon(async {
        // One node, which coordinates everything.
        let mut twin = tx.twin(Raw::connect(rig.bootstrap(Side::Source)).await);
        write(&mut tx, topic).await;
        assert_eq!(twin.add(&[(topic, 0)]).await, [PRODUCER_FENCED]);
        assert_eq!(twin.end(true).await, PRODUCER_FENCED);
        assert_eq!(twin.produce(topic, 0, 1).await.0, INVALID_PRODUCER_EPOCH);
        write(&mut tx, topic).await;
    }));
    assert_eq!(WholeLog::read(rig, topic).records(Side::Source), 1);
    proxy.stop();
}

/// A transaction of one record, as soon as the markers of the last one are written.
async fn write(tx: &mut Producer, topic: &str) {
    loop {
        match tx.add(&[(topic, 0)]).await[..] {
            [0] => break,
            [CONCURRENT_TRANSACTIONS] => {}
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(tx.produce(topic, 0, 1).await.0, 0);
    assert_eq!(tx.end(true).await, 0);
}

/// Ends a test that would wait for ever.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("an answer in time")
}
