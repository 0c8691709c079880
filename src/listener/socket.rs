//! Listening sockets: one per worker on the same port (SO_REUSEPORT), after one without, so that a second proxy on the
//! port fails instead of taking half of the clients.
#![allow(clippy::disallowed_methods, reason = "io: binds sockets")]

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 1024;

/// One socket per worker, all on the address that the first was given.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let alone = listen(address, false)?;
    let bound = alone.local_addr()?;
    drop(alone);
    let sockets = (0..workers.max(1)).map(|_| listen(bound, true)).collect::<io::Result<Vec<_>>>()?;
    Ok((bound, sockets))
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
