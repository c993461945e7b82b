//! An issuer with what is known of its keys' freshness, and the way to ask for newer ones.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::file::Issuer;
use crate::domain::clock::Timestamp;

/// Unknown key ids have an issuer's keys fetched at most this often, so that strangers' tokens cannot make this service
/// hammer the provider. A rotation that is not announced is met by the first of them.
const ASK_PAUSE_MICROS: i64 = 10_000_000;
/// Longer than a fetch that is under way may take and the one that was asked for after it.
const PATIENCE: Duration = Duration::from_secs(9);

/// One issuer of the table in force.
pub struct Source {
    pub issuer: Issuer,
    pub(super) freshness: Arc<Freshness>,
}

/// Outlives the table where the next one has the same issuer with the same place for its keys.
pub(super) struct Freshness {
    /// When the keys were last seen to be the issuer's, or, before they ever were, when somebody began to look.
    seen_at: AtomicI64,
    is_failing: AtomicBool,
    asking: Mutex<Asking>,
    wanted: Notify,
    attempts: watch::Sender<u64>,
}

#[derive(Default)]
struct Asking {
    last: Option<Timestamp>,
    wish: Wish,
}

/// What becomes of what was asked for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    None,
    /// No fetch has begun since: one that is under way may bring what was there before.
    Asked,
    /// Whoever asks now waits for the one that has begun: there is none for a while that begins later.
    UnderWay,
}

impl Source {
    pub(super) fn new(issuer: Issuer, freshness: Option<Arc<Freshness>>, now: Timestamp) -> Self {
        let freshness = freshness.unwrap_or_else(|| Arc::new(Freshness::new(now)));
        Self { issuer, freshness }
    }

    /// How long to wait before the keys are fetched again, after a fetch that went well. A file is looked at every second.
    pub fn pause(&self) -> Duration {
        if self.issuer.keys.is_file() { Duration::from_secs(1) } else { self.issuer.refresh }
    }

    /// Resolves when somebody sent a token with a key id that is not in the set.
    pub async fn wanted(&self) {
        self.freshness.wanted.notified().await;
    }

    /// For how long the keys have not been seen to be the issuer's.
    pub fn age_seconds(&self, now: Timestamp) -> i64 {
        now.as_seconds()
            .saturating_sub(self.freshness.seen_at.load(Ordering::Relaxed).div_euclid(1_000_000))
            .max(0)
    }

    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        self.age_seconds(now) > self.issuer.stale_seconds
    }

    pub(super) fn is_failing(&self) -> bool {
        self.freshness.is_failing.load(Ordering::Relaxed)
    }

    /// Notes that the keys were seen to be the issuer's.
    pub(super) fn note_seen(&self, at: Timestamp) {
        self.freshness.seen_at.store(at.as_micros(), Ordering::Relaxed);
        self.freshness.is_failing.store(false, Ordering::Relaxed);
    }

    /// Notes that a fetch begins.
    pub(super) fn begin_attempt(&self) {
        let mut asking = self.freshness.asking();
        if asking.wish == Wish::Asked {
            asking.wish = Wish::UnderWay;
        }
    }

    /// Notes how a fetch ended, and lets those go on who wait for it.
    pub(super) fn note_attempt(&self, seen_at: Option<Timestamp>) {
        let freshness = &self.freshness;
        match seen_at {
            Some(at) => self.note_seen(at),
            None => freshness.is_failing.store(true, Ordering::Relaxed),
        }
        let mut asking = freshness.asking();
        if asking.wish != Wish::Asked {
            asking.wish = Wish::None;
            freshness.attempts.send_modify(|attempts| *attempts += 1);
        }
    }

    /// Has the keys fetched, unless that was asked for a moment ago, and waits until they were. Requests that come
    /// meanwhile wait for the same fetch.
    pub(super) async fn ask(&self, now: Timestamp) {
        let mut attempts = self.freshness.attempts.subscribe();
        if self.freshness.may_wait(now) {
            // Over time the caller decides by what is there; a fetch that hangs must not hang it.
            let _ = tokio::time::timeout(PATIENCE, attempts.changed()).await;
        }
    }
}

impl Freshness {
    fn new(now: Timestamp) -> Self {
        Self {
            seen_at: AtomicI64::new(now.as_micros()),
            is_failing: AtomicBool::new(false),
            asking: Mutex::default(),
            wanted: Notify::new(),
            attempts: watch::Sender::new(0),
        }
    }

    /// Whether a fetch is on its way now; begins one where the pause is over.
    fn may_wait(&self, now: Timestamp) -> bool {
        let mut asking = self.asking();
        if asking.wish != Wish::None {
            return true;
        }
        // A clock that was set back ends the pause.
        let since = |last: Timestamp| now.as_micros().saturating_sub(last.as_micros());
        if asking.last.is_some_and(|last| (0..ASK_PAUSE_MICROS).contains(&since(last))) {
            return false;
        }
        *asking = Asking { last: Some(now), wish: Wish::Asked };
        self.wanted.notify_one();
        true
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        // A panic elsewhere cannot leave it half changed.
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
