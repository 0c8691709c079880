//! Whether a cluster answers at all, without waiting for a client to find out: `/readyz` and `status` are asked when
//! nothing else is going on. One small question to the broker that answered last; if it has none, to all of them at
//! once.
#![expect(clippy::disallowed_methods, reason = "io: waits between two questions")]

use std::time::Duration;

use futures_util::future::{FutureExt as _, select_ok};

use super::admin::{Admin, AdminError, which_versions};
use super::topology::Broker;

/// Between two questions, and for an answer.
pub const EVERY: Duration = Duration::from_secs(2);

/// Asks for ever. `known`: the brokers as they are known now; `tell` hears of every outcome. The admin's patience is
/// how long one broker may take.
pub async fn watch(admin: Admin, known: impl Fn() -> Vec<Broker>, tell: impl Fn(Result<(), AdminError>)) {
    let mut last: Option<String> = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let answered = match &last {
            Some(address) => admin.ask(address, &which_versions()).await.is_ok(),
            None => false,
        };
        if answered {
            tell(Ok(()));
            continue;
        }
        let addresses: Vec<String> = known().iter().map(Broker::address).chain(admin.bootstrap()).collect();
        // A cluster that was replaced or upgraded speaks other versions.
        admin.forget_versions();
        if addresses.is_empty() {
            continue;
        }
        let asked = addresses.into_iter().map(|address| {
            let admin = &admin;
            async move { admin.ask(&address, &which_versions()).await.map(|_| address) }.boxed_local()
        });
        match select_ok(asked).await {
            Ok((address, _)) => {
                last = Some(address);
                tell(Ok(()));
            }
            Err(error) => {
                last = None;
                tell(Err(error));
            }
        }
    }
}
