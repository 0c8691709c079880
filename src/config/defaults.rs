//! What holds when a key is not given. `config/reference.yaml` shows the same values; a test compares.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;

use super::schema::*;
use crate::ids::Side;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where the proxy listens for operators, and where the command line looks for it.
pub const CONTROL_SOCKET: &str = "/run/kafka-cutover/control.sock";

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            source: Cluster::default(),
            target: Cluster::default(),
            listeners: Vec::new(),
            control: Control::default(),
            monitor: Monitor::default(),
            state: State::default(),
            default_side: Side::Source,
            limits: Limits::default(),
            workers: 0,
            timeouts: Timeouts::default(),
            seal: Seal::default(),
            mirror: MirrorLimits::default(),
            migrations: Vec::new(),
        }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self { bind: SocketAddr::new(LOOPBACK, 0), advertise: Advertise::default(), tls: None }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: CONTROL_SOCKET.into() }
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self { bind: Some(SocketAddr::new(LOOPBACK, 9644)) }
    }
}

impl Default for State {
    fn default() -> Self {
        Self { dir: "/var/lib/kafka-cutover".into() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: ByteSize::mib(100),
            connections: 10_000,
            connections_per_address: 2_000,
            in_flight_requests: 100,
            in_flight_bytes_per_connection: ByteSize::mib(200),
            in_flight_bytes: ByteSize::gib(1),
            read_ahead_bytes_per_connection: ByteSize::mib(16),
            read_ahead_bytes: ByteSize::mib(256),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(30),
            straggling_part: Duration::from_secs(2),
            client_idle: Duration::from_mins(10),
            client_frame: Duration::from_secs(30),
            upstream_idle: Duration::from_mins(1),
            metadata_max_age: Duration::from_secs(30),
            wind_down: Duration::from_secs(20),
        }
    }
}

impl Default for MirrorLimits {
    fn default() -> Self {
        Self { bytes_per_second: None, buffer: ByteSize::mib(64) }
    }
}

impl Default for Seal {
    fn default() -> Self {
        Self {
            hold_budget: Duration::from_secs(5),
            settle_time: Duration::from_secs(10),
            grace_time: Duration::from_secs(30),
            late_seam_max: Duration::from_secs(30),
        }
    }
}
