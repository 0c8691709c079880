//! Group requests of one client, in the order in which they came: a broker serves a connection's requests one after
//! another, so a client may send a commit and JoinGroup behind it. Here they take two connections, and either may have
//! to look for its coordinator first.
#![allow(clippy::disallowed_methods, reason = "io: waits for what came before")]

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::upstream::Lane;

#[derive(Default)]
pub struct Order {
    underway: RefCell<Vec<Underway>>,
    next: RefCell<u64>,
    moved: Notify,
}

struct Underway {
    number: u64,
    group: String,
    lane: Lane,
    sent: bool,
}

/// A request's place, until its answer.
pub struct Place {
    order: Rc<Order>,
    number: u64,
}

impl Order {
    pub fn enter(self: &Rc<Self>, group: &str, lane: Lane) -> Place {
        let number = *self.next.borrow();
        *self.next.borrow_mut() = number.wrapping_add(1);
        self.underway.borrow_mut().push(Underway { number, group: group.to_owned(), lane, sent: false });
        Place { order: self.clone(), number }
    }
}

impl Place {
    /// Until what came before it for its group is sent, or answered if it takes another connection and this one is a
    /// JoinGroup or SyncGroup. From then on this one counts as sent.
    pub async fn turn(&self) {
        loop {
            let moved = self.order.moved.notified();
            if self.is_next() {
                break;
            }
            moved.await;
        }
        if let Some(own) = self.order.underway.borrow_mut().iter_mut().find(|u| u.number == self.number) {
            own.sent = true;
        }
        self.order.moved.notify_waiters();
    }

    fn is_next(&self) -> bool {
        let underway = self.order.underway.borrow();
        // In the order of their numbers: what is in front came before.
        let before = underway.iter().take_while(|u| u.number != self.number);
        let Some(own) = underway.iter().find(|u| u.number == self.number) else { return true };
        let mut before = before.filter(|u| u.group == own.group);
        before.all(|u| if u.lane == own.lane { u.sent } else { own.lane != Lane::Rebalance })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.order.underway.borrow_mut().retain(|u| u.number != self.number);
        self.order.moved.notify_waiters();
    }
}
