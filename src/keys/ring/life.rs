//! A cache whose entries have a soft and a hard life, for what only Vault or the key database can answer.
//!
//! - Younger than the soft life: served. Older: served, and refreshed in the background. Older than the hard life: gone.
//! - One load at a time for each key, in a task of its own: a caller that hangs up does not stop it for the others.
//! - Errors are never cached. One that may pass by itself leaves the entry to its hard life; any other removes it at
//!   once, and with it everything that holds its [`Lease`].
//!
//! Not here: what is loaded, and how many entries there may be (there are as many as tenants use in an hour).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::random::SharedRandom;
use crate::keys::KeyError;

/// Never loaded, or taken back.
const DEAD: i64 = i64::MIN;
/// A refresh that failed is tried again after one to two seconds.
const RETRY_MICROS: i64 = 1_000_000;

/// Where entries come from.
pub(super) trait Loader: Send + Sync + 'static {
    type Key: Copy + Eq + Hash + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    fn load(&self, key: Self::Key) -> impl Future<Output = Result<Self::Value, KeyError>> + Send;
}

/// How long entries may be used, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lives {
    pub soft_micros: i64,
    pub hard_micros: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    /// Usable, but a refresh is due.
    Stale,
    Dead,
}

/// When the entry of a key was last confirmed. Shared by everything that must not outlive it.
pub(super) struct Lease<K> {
    key: K,
    confirmed_at: AtomicI64,
    retry_at: AtomicI64,
}

impl<K: Copy> Lease<K> {
    pub fn new(key: K, at: Timestamp) -> Self {
        Self { key, confirmed_at: AtomicI64::new(at.as_micros()), retry_at: AtomicI64::new(DEAD) }
    }

    pub const fn key(&self) -> K {
        self.key
    }

    pub fn age(&self, now: Timestamp, lives: Lives) -> Age {
        let confirmed_at = self.confirmed_at.load(Ordering::Acquire);
        if confirmed_at == DEAD {
            return Age::Dead;
        }
        match now.as_micros().saturating_sub(confirmed_at) {
            // A clock that was set back says nothing about the age: ask again. By more than a life, and the entry may be
            // as old as that.
            age if age <= -lives.hard_micros => Age::Dead,
            ..0 => Age::Stale,
            age if age < lives.soft_micros => Age::Fresh,
            age if age < lives.hard_micros => Age::Stale,
            _ => Age::Dead,
        }
    }

    fn confirm(&self, at: Timestamp) {
        self.retry_at.store(DEAD, Ordering::Relaxed);
        self.confirmed_at.store(at.as_micros(), Ordering::Release);
    }

    fn end(&self) {
        self.confirmed_at.store(DEAD, Ordering::Release);
    }

    /// True for one caller per pause: the one that starts the refresh. Also after the clock was set back, when the last pause
    /// seems to be far from over.
    fn claims_refresh(&self, now: Timestamp, pause_micros: i64) -> bool {
        let due = self.retry_at.load(Ordering::Relaxed);
        let is_due = now.as_micros() >= due || due.saturating_sub(now.as_micros()) > 2 * RETRY_MICROS;
        is_due
            && self
                .retry_at
                .compare_exchange(
                    due,
                    now.as_micros().saturating_add(pause_micros),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }
}

/// A cached value and its lease.
#[derive(Clone)]
pub(super) struct Loaded<K, V> {
    pub value: V,
    pub lease: Arc<Lease<K>>,
}

type LoadedBy<L> = Loaded<<L as Loader>::Key, <L as Loader>::Value>;
type Outcome<L> = Result<LoadedBy<L>, KeyError>;
type Flight<L> = watch::Receiver<Option<Outcome<L>>>;

pub(super) struct LifeCache<L: Loader> {
    shared: Arc<Shared<L>>,
}

struct Shared<L: Loader> {
    loader: L,
    lives: Lives,
    clock: SharedClock,
    random: SharedRandom,
    entries: Mutex<HashMap<L::Key, LoadedBy<L>>>,
    flights: Mutex<HashMap<L::Key, Flight<L>>>,
}

impl<L: Loader> LifeCache<L> {
    pub fn new(loader: L, lives: Lives, clock: SharedClock, random: SharedRandom) -> Self {
        let entries = Mutex::new(HashMap::new());
        let flights = Mutex::new(HashMap::new());
        Self { shared: Arc::new(Shared { loader, lives, clock, random, entries, flights }) }
    }

    pub fn len(&self) -> usize {
        lock(&self.shared.entries).len()
    }

    /// The entry, from memory where its life allows. Cancelling the caller cancels only the waiting.
    pub async fn get(&self, key: L::Key) -> Outcome<L> {
        let now = self.shared.clock.now();
        let entry = lock(&self.shared.entries).get(&key).cloned();
        if let Some(entry) = entry {
            match entry.lease.age(now, self.shared.lives) {
                Age::Fresh => return Ok(entry),
                Age::Stale => {
                    self.refresh(&entry.lease, now);
                    return Ok(entry);
                }
                Age::Dead => {}
            }
        }
        self.load(key).await
    }

    /// Loads anew whatever is cached: for a caller who found the cached answer to be outdated.
    pub async fn load(&self, key: L::Key) -> Outcome<L> {
        let mut flight = self.fly(key);
        let landed = flight.wait_for(Option::is_some).await;
        // A sender that is gone without an outcome is a loader that panicked.
        landed.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(KeyError::Unavailable))
    }

    /// Starts a refresh, unless one is under way or failed a moment ago. Does not wait.
    pub fn refresh(&self, lease: &Lease<L::Key>, now: Timestamp) {
        if lease.claims_refresh(now, self.shared.pause_micros()) {
            drop(self.fly(lease.key()));
        }
    }

    /// Drops what is past its hard life, so that an idle key does not stay in memory.
    pub fn sweep(&self) {
        let now = self.shared.clock.now();
        lock(&self.shared.entries).retain(|_, entry| entry.lease.age(now, self.shared.lives) != Age::Dead);
    }

    fn fly(&self, key: L::Key) -> Flight<L> {
        let mut flights = lock(&self.shared.flights);
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (land, flight) = watch::channel(None);
        flights.insert(key, flight.clone());
        drop(flights);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let landing = Landing { shared: &shared, key };
            let started = shared.clock.now();
            let outcome = shared.settle(key, started, shared.loader.load(key).await);
            // Settled before the flight is gone: whoever comes in between finds the entry.
            drop(landing);
            land.send_replace(Some(outcome));
        });
        flight
    }
}

impl<L: Loader> Shared<L> {
    fn settle(&self, key: L::Key, started: Timestamp, loaded: Result<L::Value, KeyError>) -> Outcome<L> {
        let mut entries = lock(&self.entries);
        match loaded {
            Ok(value) => {
                let lease = match entries.get(&key) {
                    Some(entry) => {
                        entry.lease.confirm(started);
                        Arc::clone(&entry.lease)
                    }
                    None => Arc::new(Lease::new(key, started)),
                };
                let entry = Loaded { value, lease };
                entries.insert(key, entry.clone());
                Ok(entry)
            }
            Err(error) => {
                if !error.is_ridden_out()
                    && let Some(entry) = entries.remove(&key)
                {
                    entry.lease.end();
                }
                tracing::warn!(error = %error, "keys.load_failed");
                Err(error)
            }
        }
    }

    fn pause_micros(&self) -> i64 {
        let mut bytes = [0_u8; 4];
        // Without randomness there is no jitter: it is a courtesy to Vault, not a guard.
        let _ = self.random.fill(&mut bytes);
        RETRY_MICROS + i64::from(u32::from_le_bytes(bytes)) * RETRY_MICROS / i64::from(u32::MAX)
    }
}

/// Takes the flight off the list, also when the loader panics.
struct Landing<'a, L: Loader> {
    shared: &'a Shared<L>,
    key: L::Key,
}

impl<L: Loader> Drop for Landing<'_, L> {
    fn drop(&mut self) {
        lock(&self.shared.flights).remove(&self.key);
    }
}

/// Nothing under these locks can be left half done, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
