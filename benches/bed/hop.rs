//! A bare TCP relay: what any process in between costs that copies bytes and understands nothing.

use std::sync::mpsc;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};

use crate::cpu::Meter;

const BUFFER: usize = 64 * 1024;

pub struct Relay {
    pub address: String,
    pub meter: Meter,
}

/// On a thread and a runtime of its own, until the process ends.
pub fn relay(to: String) -> Result<Relay> {
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new().name("relay".to_owned()).spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            tell.send(Relay { address: listener.local_addr()?.to_string(), meter: Meter::of_this_thread()? })?;
            loop {
                let (mut client, _) = listener.accept().await?;
                let mut broker = TcpStream::connect(&to).await?;
                client.set_nodelay(true)?;
                broker.set_nodelay(true)?;
                tokio::spawn(async move {
                    // An end by reset is an end.
                    drop(tokio::io::copy_bidirectional_with_sizes(&mut client, &mut broker, BUFFER, BUFFER).await);
                });
            }
        })
    })?;
    Ok(told.recv()?)
}
