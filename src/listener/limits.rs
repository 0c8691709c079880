//! How many connections a listener takes, in all and per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
pub struct Limits {
    all: usize,
    per_address: usize,
    open: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// A place taken; dropping it gives it back.
#[derive(Debug)]
pub struct Seat {
    limits: Arc<Limits>,
    address: IpAddr,
}

impl Limits {
    pub fn new(all: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { all, per_address, open: Mutex::default() })
    }

    /// `Err` says which limit was reached.
    pub fn seat(self: &Arc<Self>, address: IpAddr) -> Result<Seat, &'static str> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.0 >= self.all {
            return Err("connections");
        }
        let here = open.1.entry(address).or_default();
        if *here >= self.per_address {
            return Err("connections_per_address");
        }
        *here += 1;
        open.0 += 1;
        Ok(Seat { limits: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.0 = open.0.saturating_sub(1);
        if let Some(here) = open.1.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.1.remove(&self.address);
            }
        }
    }
}
