//! What a well-formed config may still get wrong: every problem, not the first one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;

use super::problem::Problem;
use super::schema::*;
use crate::ids::Side;

/// Empty if the config can be run.
pub fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    name(config, &mut found);
    for side in Side::BOTH {
        cluster(side, config.cluster(side), &mut found);
    }
    same_cluster(config, &mut found);
    listeners(&config.listeners, &mut found);
    paths(config, &mut found);
    limits(&config.limits, &mut found);
    durations(config, &mut found);
    mirror(&config.mirror, &mut found);
    migrations(&config.migrations, &mut found);
    found
}

fn say(found: &mut Vec<Problem>, key: impl Into<String>, message: impl Into<String>) {
    found.push(Problem::new(key, message));
}

fn not_yet(found: &mut Vec<Problem>, key: impl Into<String>, what: &str) {
    say(found, key, format!("{what} is not supported yet"));
}

/// Topic names: the marker topic carries the name.
fn name(config: &Config, found: &mut Vec<Problem>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if config.name.is_empty() || config.name.len() > 200 || !config.name.chars().all(plain) {
        say(found, "name", "must be 1 to 200 letters, digits, '.', '-' or '_'");
    }
    if config.default_side == Side::Target {
        not_yet(found, "default_side", "`target`");
    }
    if config.workers > 1024 {
        say(found, "workers", format!("{} threads are more than any machine has; the largest is 1024", config.workers));
    }
}

fn cluster(side: Side, cluster: &Cluster, found: &mut Vec<Problem>) {
    if cluster.bootstrap.is_empty() {
        say(found, format!("{side}.bootstrap"), "is required: HOST:PORT of one broker or more");
    }
    for (i, address) in cluster.bootstrap.iter().enumerate() {
        if address.port == 0 {
            say(found, format!("{side}.bootstrap[{i}]"), "port 0 cannot be connected to");
        }
    }
    if cluster.tls.is_some() {
        not_yet(found, format!("{side}.tls"), "TLS to a cluster");
    }
    if cluster.sasl.is_some() {
        not_yet(found, format!("{side}.sasl"), "SASL to a cluster");
    }
}

/// One cluster on both sides would be sealed against itself. The cluster ids are compared once both are reached.
fn same_cluster(config: &Config, found: &mut Vec<Problem>) {
    for (i, address) in config.target.bootstrap.iter().enumerate() {
        if config.source.bootstrap.contains(address) {
            say(found, format!("target.bootstrap[{i}]"), format!("{address} is a broker of the source too"));
        }
    }
    for (i, listener) in config.listeners.iter().enumerate() {
        for (side, address) in Side::BOTH.iter().flat_map(|s| config.cluster(*s).bootstrap.iter().map(move |a| (*s, a)))
        {
            if listener.advertise.0.contains(address) {
                let text = format!("{address} is in {side}.bootstrap: clients would go round the proxy");
                say(found, format!("listeners[{i}].advertise"), text);
            }
        }
    }
}

fn listeners(listeners: &[Listener], found: &mut Vec<Problem>) {
    if listeners.is_empty() {
        say(found, "listeners", "is required: at least one, with `bind` and `advertise`");
    }
    let mut bound = BTreeMap::new();
    let mut advertised = BTreeMap::new();
    for (i, listener) in listeners.iter().enumerate() {
        let key = |rest: &str| format!("listeners[{i}].{rest}");
        if listener.bind.port() != 0
            && let Some(first) = bound.insert(listener.bind, i)
        {
            say(found, key("bind"), format!("{} is bound by listeners[{first}] already", listener.bind));
        }
        if listener.bind.ip().is_unspecified() && listener.advertise.0.is_empty() {
            let text = format!("is required: clients cannot connect to {}", listener.bind.ip());
            say(found, key("advertise"), text);
        }
        for address in &listener.advertise.0 {
            if matches!(address.host.as_str(), "0.0.0.0" | "::") {
                say(found, key("advertise"), format!("clients cannot connect to {address}"));
            }
            // Clients key their connections by node: two nodes at one address would share what they must not.
            let whose = if address.port == 0 { Some(i) } else { None };
            if let Some(first) = advertised.insert((address.clone(), whose), i) {
                let text = format!(
                    "{address} is advertised by listeners[{first}] already; each virtual node needs a host:port of its own"
                );
                say(found, key("advertise"), text);
            }
        }
        if listener.tls.is_some() {
            not_yet(found, key("tls"), "TLS to clients");
        }
    }
}

fn paths(config: &Config, found: &mut Vec<Problem>) {
    if config.state.dir.as_os_str().is_empty() {
        say(found, "state.dir", "must not be empty");
    }
    let socket = config.control.socket.as_os_str();
    if socket.is_empty() {
        say(found, "control.socket", "must not be empty");
    }
    // sockaddr_un holds 108 bytes with the zero at the end.
    if socket.len() > 107 {
        say(found, "control.socket", format!("has {} bytes; the path of a Unix socket has at most 107", socket.len()));
    }
}

fn limits(limits: &Limits, found: &mut Vec<Problem>) {
    let frame = limits.frame.as_u64();
    if !(1024..=i32::MAX as u64).contains(&frame) {
        say(found, "limits.frame", "must lie between 1KiB and 2GiB, the largest a Kafka frame can be");
    }
    if limits.in_flight_bytes_per_connection < limits.frame {
        let text = format!("must hold one frame at least (limits.frame is {})", limits.frame);
        say(found, "limits.in_flight_bytes_per_connection", text);
    }
    if limits.in_flight_bytes < limits.in_flight_bytes_per_connection {
        say(found, "limits.in_flight_bytes", "must be at least limits.in_flight_bytes_per_connection");
    }
    for (key, value) in [
        ("connections", limits.connections),
        ("connections_per_address", limits.connections_per_address),
        ("in_flight_requests", limits.in_flight_requests),
    ] {
        if value == 0 {
            say(found, format!("limits.{key}"), "must be at least 1");
        }
    }
}

fn durations(config: &Config, found: &mut Vec<Problem>) {
    let (t, s) = (&config.timeouts, &config.seal);
    for (key, value) in [
        ("timeouts.connect", t.connect),
        ("timeouts.request", t.request),
        ("timeouts.straggling_part", t.straggling_part),
        ("timeouts.client_idle", t.client_idle),
        ("timeouts.client_frame", t.client_frame),
        ("timeouts.upstream_idle", t.upstream_idle),
        ("timeouts.metadata_max_age", t.metadata_max_age),
    ] {
        if value < Duration::from_millis(10) {
            say(found, key, "must be at least 10ms");
        }
    }
    // DESIGN.md section 4: never under 300 ms; clients give up after 30 s.
    if !(Duration::from_millis(300)..=Duration::from_secs(30)).contains(&s.hold_budget) {
        say(found, "seal.hold_budget", "must lie between 300ms and 30s");
    }
}

/// Less would be no room for one answer.
const LEAST_BUFFER: ByteSize = ByteSize::mib(1);

fn mirror(mirror: &MirrorLimits, found: &mut Vec<Problem>) {
    if mirror.buffer < LEAST_BUFFER {
        say(found, "mirror.buffer", format!("must be at least {LEAST_BUFFER}"));
    }
    if mirror.bytes_per_second.is_some_and(|rate| rate.as_u64() == 0) {
        say(found, "mirror.bytes_per_second", "must be more than 0; leave it out for as fast as it goes");
    }
}

fn migrations(migrations: &[Migration], found: &mut Vec<Problem>) {
    let mut names = BTreeMap::new();
    let mut patterns = BTreeMap::new();
    for (i, migration) in migrations.iter().enumerate() {
        let key = |rest: &str| format!("migrations[{i}].{rest}");
        // A name is a part of the control socket's paths.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if migration.name.is_empty() || !migration.name.chars().all(plain) {
            say(found, key("name"), "is required: letters, digits, '.', '-' or '_'");
        } else if let Some(first) = names.insert(migration.name.as_str(), i) {
            say(found, key("name"), format!("`{}` is the name of migrations[{first}] already", migration.name));
        }
        if migration.topics.is_empty() {
            say(found, key("topics"), "is required: names or regular expressions");
        }
        for (j, pattern) in migration.topics.iter().enumerate() {
            let at = key(&format!("topics[{j}]"));
            if pattern.as_str().starts_with("__") {
                say(found, at, format!("`{pattern}` matches nothing: Kafka's own topics (`__*`) never migrate"));
            } else if let Some(first) = patterns.insert(pattern.as_str(), i) {
                say(found, at, format!("`{pattern}` is in migrations[{first}] already; a topic has one migration"));
            }
        }
        if migration.scheme != Scheme::ProducersFirst {
            not_yet(found, key("scheme"), &format!("`{}`", migration.scheme));
        }
        if migration.mirror == Mirror::Reverse {
            not_yet(found, key("mirror"), "`reverse`");
        }
        if migration.mirror == Mirror::None && migration.mirror_from != MirrorFrom::Earliest {
            say(found, key("mirror_from"), "means nothing without `mirror: forward`");
        }
        if migration.stragglers == Stragglers::Include {
            not_yet(found, key("stragglers"), "`include` (only `alarm` is)");
        }
    }
}
