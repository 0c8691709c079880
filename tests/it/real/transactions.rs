//! Transactional producers of three libraries through the proxy: readers of committed records get each transaction whole and
//! nothing of an aborted one; and no switch is made under such a producer, which is named.

use std::collections::BTreeSet;

use kafka_cutover::audit::What;

use crate::support::crowd::Crowd;
use crate::support::proxy::{MIGRATION, Proxy};
use crate::support::rig::Rig;
use crate::support::unique;

const LIBRARIES: [&str; 3] = ["java", "confluent", "franz-go"];
const PARTITIONS: i32 = 3;

/// A record as both its writer and its readers see it.
type Place = (String, i64, u64);

#[test]
fn transactions_are_whole_and_stop_a_switch() {
    let rig = Rig::connect();
    let topic = unique("transactions");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    // One after the other: each id begins by itself.
    let id = |lib: &str| format!("{topic}-{lib}");
    for lib in LIBRARIES {
        crowd.member(lib, &format!("{lib}-reads"), &format!("{topic}-{lib}"), &["--isolation", "read_committed"]);
    }
    crowd.wait_for_groups(PARTITIONS as usize);
    for lib in LIBRARIES {
        crowd.producer(lib, &format!("{lib}-writes"), &["--rate", "100", "--transactional-id", &id(lib)]);
    }
    let part = if Rig::full() { 5_000 } else { 200 };
    crowd.wait_for_producers(part);

    proxy.prepare();
    let refused = proxy.command(&["switch", MIGRATION, "producers"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(LIBRARIES.iter().all(|lib| told.contains(&format!("{} (to {topic})", id(lib)))), "{told}");
    assert!(told.contains("moving transactional producers is not built yet"), "{told}");
    crowd.wait_for_producers(part / 4);
    crowd.stop_producers();
    crowd.wait_for_readers();

    let names: Vec<String> = LIBRARIES.iter().map(|lib| format!("{lib}-reads")).collect();
    crowd.stop(&names);
    let events = crowd.events();
    let (mut committed, mut sent) = (BTreeSet::new(), 0);
    for event in &events {
        match &event.what {
            What::Ack { id, partition, offset, .. } => {
                let place = (partition.clone(), offset.expect("every library tells"), *id);
                assert!(committed.insert(place), "committed twice: {event:?}");
            }
            What::Fail { .. } => panic!("{event:?}"),
            What::Done(tally) => sent += tally.sent.unwrap_or(0),
            _ => {}
        }
    }
    for name in &names {
        let mut received: BTreeSet<Place> = BTreeSet::new();
        for event in events.iter().filter(|e| e.client == *name) {
            if let What::Recv { partition, offset, value, .. } = &event.what {
                let id =
                    value.split(' ').nth(4).and_then(|id| u64::from_str_radix(id, 16).ok()).expect("a record of ours");
                assert!(received.insert((partition.clone(), *offset, id)), "received twice: {event:?}");
            }
        }
        let lost: Vec<&Place> = committed.difference(&received).take(5).collect();
        let aborted: Vec<&Place> = received.difference(&committed).take(5).collect();
        assert!(lost.is_empty() && aborted.is_empty(), "{name}: lost {lost:?}, not committed {aborted:?}");
    }
    // Every fourth was aborted.
    assert!(sent > committed.len() as u64 + part / 5, "{sent} sent, {} committed", committed.len());
    assert_eq!(crowd.complaints(), Vec::<String>::new());

    proxy.stop();
    let mut complaints = proxy.complaints();
    complaints.retain(|line| !line.contains("transactional"));
    assert_eq!(complaints, Vec::<String>::new());
}
