//! The mirror's thread: which partitions have a lane now, and what all of them share.
#![expect(clippy::disallowed_methods, reason = "io: starts the lanes, looks at them now and then")]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::checkpoint::Key;
use super::configs;
use super::driver::{Works, drive};
use super::intake::Intake;
use super::lane::Lane;
use super::ledger::Ledger;
use super::mirrors::Mirrored;
use super::outlet::Outlet;
use super::stop::Stop;
use super::trim;
use super::wanted::{Wanted, wanted};
use crate::ids::{Side, TopicName, TopicPartition};
use crate::routing::Shared;
use crate::store::Store;
use crate::upstream::Pool;
use crate::upstream::admin::Admin;
use crate::upstream::connection::Limits;

/// Between two looks at how the lanes stand, for metrics and the log; and where origins begin.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After topics could not be set as they are to be.
const AGAIN: Duration = Duration::from_secs(5);
const TRIM_EVERY: Duration = Duration::from_secs(5);

/// Until it is stopped.
pub async fn run(shared: Arc<Shared>, store: Arc<Store>, stop: CancellationToken) {
    let (book, ledgers, unreadable) = match Book::open(&shared.config.state.dir) {
        Ok((book, ledgers)) => (book, ledgers, None),
        Err(error) => {
            tracing::error!(dir = %shared.config.state.dir.display(), %error, "the mirror's ledgers cannot be read: it stands still");
            (Book::nowhere(), BTreeMap::new(), Some(error.to_string()))
        }
    };
    let pool = Rc::new(RefCell::new(Pool::new(shared.topology.clone(), Limits::of(&shared.config), 0)));
    let admin = |side: Side| {
        let admin = Admin::of(&shared.config, side).counting(shared.metrics.clone());
        admin.expect(store.state().cluster_id(side));
        admin
    };
    let works = Rc::new(Works {
        shared: shared.clone(),
        intake: Rc::new(Intake::new(shared.clone(), pool.clone())),
        outlet: Rc::new(Outlet::new(shared.clone(), pool)),
        book: Rc::new(book),
        admins: Side::BOTH.map(admin),
    });
    let mut lanes = Lanes { works: works.clone(), store: store.clone(), ledgers, unreadable, running: HashMap::new() };
    let holding = shared.clone();
    let whole = || shared.mirrors.every().iter().map(|m| (m.key(), m.lane().ledger().clone())).collect();
    let trim = async {
        loop {
            tokio::time::sleep(TRIM_EVERY).await;
            let seams = wanted(&store.state()).into_iter().map(|wanted| (wanted.key(), wanted.seam)).collect();
            trim::trim(&shared, &works.admins, shared.mirrors.every(), &seams).await;
        }
    };
    let may_shrink = || !holding.partitions.load().topics.values().any(|states| states.iter().any(|s| s.held));
    tokio::select! {
        () = stop.cancelled() => {}
        () = async {
            works.book.write(whole, may_shrink).await;
            // It has failed, and the lanes say so.
            std::future::pending().await
        } => {}
        () = lanes.run() => {}
        () = trim => {}
    }
}

struct Lanes {
    works: Rc<Works>,
    store: Arc<Store>,
    /// As they were written by an earlier process.
    ledgers: BTreeMap<Key, Ledger>,
    /// Why they could not be read.
    unreadable: Option<String>,
    running: HashMap<TopicPartition, (Key, CancellationToken)>,
}

impl Lanes {
    async fn run(&mut self) {
        let mut changed = self.works.shared.mirrors.wanted();
        let mut said: HashMap<Key, &'static str> = HashMap::new();
        loop {
            let wish = *changed.borrow_and_update();
            let wanted = wanted(&self.store.state());
            self.end(&wanted);
            let not_set = configs::set(&self.works.admins, &self.works.shared, &self.store.state()).await;
            wanted.into_iter().for_each(|wanted| self.begin(wanted, &not_set));
            self.works.shared.mirrors.looked(wish);
            let again = Instant::now() + AGAIN;
            loop {
                self.show(&mut said);
                match tokio::time::timeout(LOOK_EVERY, changed.changed()).await {
                    Ok(_) => break,
                    // What they are to be set to is tried again.
                    Err(_) if !not_set.is_empty() && Instant::now() > again => break,
                    Err(_) => {}
                }
            }
        }
    }

    /// Lanes of what is not wanted, or not open, any more.
    fn end(&mut self, wanted: &[Wanted]) {
        let is_open = |key: &Key| wanted.iter().any(|wanted| wanted.is_open && wanted.key() == *key);
        self.running.retain(|_, (key, stop)| {
            let stays = is_open(key);
            if !stays {
                stop.cancel();
            }
            stays
        });
        self.works.shared.mirrors.keep(|mirrored| wanted.iter().any(|wanted| wanted.key() == mirrored.key()));
    }

    fn begin(&mut self, wanted: Wanted, not_set: &BTreeMap<TopicName, String>) {
        let key = wanted.key();
        let mirrors = &self.works.shared.mirrors;
        if mirrors.of(&key.partition).is_none_or(|known| known.key() != key) {
            let (origin, copy) = wanted.start;
            let written = self.ledgers.remove(&key);
            let is_new = written.is_none();
            let mut ledger = written.unwrap_or_else(|| Ledger::new(origin, copy));
            if let Some(seam) = wanted.seam {
                // What was entered behind it was never sent.
                ledger.back_to(seam);
            }
            let limit = usize::try_from(self.works.shared.config.limits.frame.as_u64()).unwrap_or(usize::MAX);
            let mut lane = Lane::new(wanted.route.clone(), ledger, is_new, limit);
            if let Some(why) = &self.unreadable {
                lane.stop(Stop::no_ledger(&wanted.route, why));
            }
            mirrors.put(Arc::new(Mirrored::new(wanted.migration.clone(), wanted.topic_ids, lane)));
        }
        if !wanted.is_open || self.running.contains_key(&key.partition) {
            return;
        }
        let Some(mirrored) = mirrors.of(&key.partition) else { return };
        if let Some(why) = not_set.get(&key.partition.topic) {
            return mirrored.lane().stop(Stop::not_set(&wanted.route, why));
        }
        mirrored.lane().try_again();
        let stop = CancellationToken::new();
        tokio::task::spawn_local(drive(self.works.clone(), mirrored, stop.clone()));
        self.running.insert(key.partition.clone(), (key, stop));
    }

    /// For metrics; each stop is said once.
    fn show(&self, said: &mut HashMap<Key, &'static str>) {
        let now = Instant::now();
        let mut of: BTreeMap<String, (i64, Duration, usize)> = BTreeMap::new();
        for mirrored in self.works.shared.mirrors.every() {
            let standing = mirrored.standing(now);
            let (lag, behind, stopped) = of.entry(mirrored.migration.clone()).or_default();
            if self.running.contains_key(&mirrored.route.partition) {
                *lag += standing.lag.unwrap_or(0);
                *behind = (*behind).max(standing.behind.unwrap_or_default());
                *stopped += usize::from(standing.stopped.is_some());
            }
            match standing.stopped {
                None => drop(said.remove(&mirrored.key())),
                Some(stop) if said.insert(mirrored.key(), stop.code) == Some(stop.code) => {}
                Some(stop) => {
                    tracing::error!(migration = %mirrored.migration, partition = %mirrored.route.partition,
                        code = stop.code, what_to_do = %stop.what_to_do, "the mirror stands still: {}", stop.message);
                }
            }
        }
        for (migration, (lag, behind, stopped)) in of {
            self.works.shared.metrics.mirror(&migration, lag, behind, stopped);
        }
    }
}
