//! Readers and the seam: who lags, who was away, who begins anew, who asks for a time, who keeps offsets of its own.
//! What each must get is known from the two clusters' own logs.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::crowd::{Crowd, LINGER};
use crate::support::proxy::Proxy;
use crate::support::rig::Rig;
use crate::support::whole_log::{Partition, WholeLog};
use crate::support::{eventually, unique};

const LIBRARIES: [&str; 3] = ["java", "confluent", "franz-go"];
const PARTITIONS: i32 = 4;
const ALL: &str = "0,1,2,3";

#[test]
fn every_reader_finds_its_place_across_the_seam() {
    let rig = Rig::connect();
    let topic = unique("readers");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    // Fast enough that nobody stands still for longer than his group waits for him.
    let (part, rate) = if Rig::full() { (20_000, "1000") } else { (1_000, "200") };

    // Two groups of each library begin: one will stand still, one will go away.
    let (lagging, leaving) = (LIBRARIES.map(|lib| format!("{lib}-lags")), LIBRARIES.map(|lib| format!("{lib}-leaves")));
    for (lib, names) in LIBRARIES.iter().zip(lagging.iter().zip(&leaving)) {
        // A client that is stopped sends no heartbeats; its group must wait for it. What it waits for is answered meanwhile.
        let mut patient = vec!["-X", "session.timeout.ms=180000"];
        if *lib == "java" {
            patient.extend(["-X", "request.timeout.ms=180000"]);
        }
        crowd.member(lib, names.0, &format!("{topic}-{}", names.0), &patient);
        crowd.member(lib, names.1, &format!("{topic}-{}", names.1), &["--commit", "sync"]);
    }
    crowd.wait_for_groups(PARTITIONS as usize);
    crowd.producer("confluent", "first", &["--rate", rate, "--idempotent", "true", "-X", LINGER]);
    crowd.producer("java", "second", &["--rate", rate, "--compression", "lz4"]);
    crowd.wait("every reader has begun", |tallies| {
        lagging.iter().chain(&leaving).all(|name| tallies.get(name).is_some_and(|t| t.received >= 100))
    });
    crowd.stop(&leaving);
    lagging.iter().for_each(|name| crowd.pause(name));

    crowd.wait_for_producers(part);
    let mut from_end = Vec::new();
    from_end.push(begin_at_the_end(&mut crowd, "before"));
    let before = now_ms();
    let sought = crowd.java_offsets(&format!("ts:{before}"));
    crowd.wait_for_producers(part);
    proxy.prepare();
    proxy.switch();
    let at_seam = crowd.java_offsets("latest");
    crowd.wait_for_producers(part);
    let after = now_ms();
    from_end.push(begin_at_the_end(&mut crowd, "after"));
    crowd.wait_for_producers(part);
    crowd.stop_producers();

    let log = WholeLog::read(&rig, &topic);
    for (number, partition) in log.0.iter().enumerate() {
        let seen =
            lagging.iter().map(|name| crowd.received(name).get(&(number as i32)).and_then(|o| o.last().copied()));
        for last in seen.flatten() {
            assert!(
                last + 1 < partition.seam,
                "partition {number} was read to {last}, the seam is at {}",
                partition.seam
            );
        }
        // Asked while both producers were writing: what was there then, is there now.
        let (asked, number) = (at_seam[&(number as i32)], number as i32);
        assert!(partition.seam <= asked && asked <= partition.end, "partition {number}: latest {asked}");
        let later = partition.at_time(before).expect("records after that moment");
        let told = sought[&number];
        assert!(told == -1 || told == later, "partition {number}: {told} for the time {before}, not {later}");
    }

    // Offsets, by Java's admin client: ends, and times on both sides of the seam.
    assert_eq!(crowd.java_offsets("earliest"), each(&log, |_| 0));
    assert_eq!(crowd.java_offsets("latest"), each(&log, |p| p.end));
    for time in [0, before, after] {
        assert_eq!(crowd.java_offsets(&format!("ts:{time}")), each(&log, |p| at_time(p, time)), "time {time}");
    }
    assert_eq!(crowd.java_offsets(&format!("ts:{}", now_ms() + 86_400_000)), each(&log, |_| -1));

    // Who began at the end, then, has all from there on.
    for (number, (least, names)) in from_end.iter().enumerate() {
        for name in names {
            let is_through = |seen: &BTreeMap<i32, Vec<i64>>| {
                log.0.iter().zip(0..).all(|(p, n)| seen.get(&n).and_then(|o| o.last()) == Some(&(p.end - 1)))
            };
            eventually(&format!("{name} is at the end"), || is_through(&crowd.received(name)));
            crowd.stop(&[name]);
            for (partition, offsets) in crowd.received(name) {
                let (first, log) = (offsets[0], &log.0[partition as usize]);
                let bounds = if number == 0 { least[&partition]..=log.seam } else { log.seam..=log.end };
                assert!(bounds.contains(&first) && least[&partition] <= first, "{name} began at {partition}:{first}");
                assert_eq!(offsets, (first..log.end).collect::<Vec<_>>(), "{name}, partition {partition}");
            }
        }
    }

    // They go on where they were; others begin.
    lagging.iter().for_each(|name| crowd.resume(name));
    for (lib, left) in LIBRARIES.iter().zip(&leaving) {
        crowd.member(lib, &format!("{left}-and-returns"), &format!("{topic}-{left}"), &["--commit", "sync"]);
        crowd.member(lib, &format!("{lib}-anew"), &format!("{topic}-{lib}-anew"), &[]);
    }
    crowd.wait_for_readers();
    for lib in LIBRARIES {
        let (returned, anew) = (format!("{lib}-leaves-and-returns"), format!("{lib}-anew"));
        crowd.stop(&[format!("{lib}-lags"), returned, anew]);
    }

    // Positions of their own: a time, or an offset that somebody has kept, before the seam and behind it.
    let one = &log.0[0];
    let (low, high) = (one.seam - 50, one.seam + 10);
    assert!(0 < low && high < one.end, "parts long enough: {low}, {high}, {}", one.end);
    for lib in LIBRARIES {
        let mut readers: Vec<(String, BTreeMap<i32, i64>)> = Vec::new();
        for (what, time) in [("before", before), ("after", after)] {
            let name = format!("{lib}-from-time-{what}");
            crowd.reader(lib, &name, false, &["--assign", ALL, "--from", &format!("ts:{time}"), "--commit", "none"]);
            readers.push((name, each(&log, |p| at_time(p, time))));
        }
        for offset in [low, high] {
            let name = format!("{lib}-from-offset-{offset}");
            crowd.reader(lib, &name, false, &["--assign", "0", "--from", &offset.to_string(), "--commit", "none"]);
            readers.push((name, BTreeMap::from([(0, offset)])));
        }
        for (name, starts) in &readers {
            let rest = |(p, start): (&i32, &i64)| (*p, (*start..log.0[*p as usize].end).collect());
            let expected: BTreeMap<i32, Vec<i64>> = starts.iter().map(rest).collect();
            let count: usize = expected.values().map(Vec::len).sum();
            crowd.wait(&format!("{name} has {count} records"), |t| {
                t.get(name).is_some_and(|t| t.received >= count as u64)
            });
            crowd.stop(&[name]);
            assert_eq!(crowd.received(name), expected, "{name}");
        }
    }

    let (verdict, _) = crowd.judge(&rig);
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}

/// Readers of each library that seek to the end, and where that was at the least. They have read something when this
/// returns.
fn begin_at_the_end(crowd: &mut Crowd, when: &str) -> (BTreeMap<i32, i64>, Vec<String>) {
    let least = crowd.java_offsets("latest");
    let names = LIBRARIES.map(|lib| format!("{lib}-from-end-{when}")).to_vec();
    for (lib, name) in LIBRARIES.iter().zip(&names) {
        crowd.reader(lib, name, false, &["--assign", ALL, "--from", "latest", "--commit", "none"]);
    }
    crowd.wait("who begins at the end has begun", |tallies| {
        names.iter().all(|name| tallies.get(name).is_some_and(|t| t.received > 0))
    });
    (least, names)
}

fn each(log: &WholeLog, of: impl Fn(&Partition) -> i64) -> BTreeMap<i32, i64> {
    (0..).zip(log.0.iter().map(of)).collect()
}

fn at_time(partition: &Partition, time: i64) -> i64 {
    partition.at_time(time).unwrap_or(-1)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}
