//! A bare TCP relay: what any process in between costs that copies bytes and understands nothing. The bench starts
//! itself once more as one, since a thread of its own process would be cheaper to switch to.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};

/// The argument that makes a relay of the bench; where to follows.
pub const FLAG: &str = "--relay-to";
/// Large enough that system calls are not what is measured.
const BUFFER: usize = 256 * 1024;

pub struct Relay {
    child: Child,
    pub address: String,
}

impl Relay {
    pub fn start(to: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).args([FLAG, to]).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("its stdout is piped")?).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to be done about either.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Never returns but with an error.
pub fn relay(to: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (mut client, _) = listener.accept().await?;
            let mut broker = TcpStream::connect(to).await?;
            client.set_nodelay(true)?;
            broker.set_nodelay(true)?;
            tokio::spawn(async move {
                // An end by reset is an end.
                drop(tokio::io::copy_bidirectional_with_sizes(&mut client, &mut broker, BUFFER, BUFFER).await);
            });
        }
    })
}
