//! The open connections, so that they can be told to end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Counters;
use super::handshake::Guest;
use super::pace::Pace;
use crate::domain::actor::CertificateFacts;
use crate::domain::clock::Timestamp;

/// What a connection is told. Only ever more urgent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    #[default]
    Stay,
    /// Finish what is under way, take nothing new.
    Leave,
    /// End, whatever is under way.
    Cut,
}

/// One open connection.
pub(super) struct Open {
    pub facts: Arc<CertificateFacts>,
    pub chain: Vec<CertificateDer<'static>>,
    pub peer: SocketAddr,
    pub opened: Instant,
    pub is_stranger: bool,
    pub pace: Arc<Pace>,
    orders: watch::Sender<Order>,
    answered: AtomicBool,
    warned: AtomicBool,
    generation: AtomicU64,
    verified_at_micros: AtomicI64,
}

impl Open {
    pub fn order(&self, order: Order) {
        self.orders.send_if_modified(|current| {
            let is_more = order > *current;
            *current = order.max(*current);
            is_more
        });
    }

    pub fn ordered(&self) -> Order {
        *self.orders.borrow()
    }

    pub fn orders(&self) -> watch::Receiver<Order> {
        self.orders.subscribe()
    }

    /// A request was answered. A stranger has then heard all there is to hear.
    pub fn note_answer(&self) {
        if self.is_stranger {
            self.answered.store(true, Ordering::Relaxed);
            self.order(Order::Leave);
        }
    }

    pub fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether it was warned before; from now on it is.
    pub fn warn(&self) -> bool {
        self.warned.swap(true, Ordering::Relaxed)
    }

    /// The verifier that passed the chain last, and when. Only the sweep writes them.
    pub fn verified(&self) -> (u64, Timestamp) {
        let at = Timestamp::from_micros(self.verified_at_micros.load(Ordering::Relaxed));
        (self.generation.load(Ordering::Relaxed), at)
    }

    pub fn note_verified(&self, generation: u64, at: Timestamp) {
        self.generation.store(generation, Ordering::Relaxed);
        self.verified_at_micros.store(at.as_micros(), Ordering::Relaxed);
    }
}

/// All open connections of one door.
pub(super) struct Registry {
    inner: Mutex<Inner>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Inner {
    open: HashMap<u64, Arc<Open>>,
    next: u64,
    /// What whoever enters is told: once the door is closed, those whose handshake had begun before.
    standing: Order,
}

impl Registry {
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { inner: Mutex::default(), counters }
    }

    /// Registers a connection until the returned entry is dropped.
    pub fn enter(self: &Arc<Self>, guest: &mut Guest, peer: SocketAddr) -> Entry {
        let mut inner = self.lock();
        let open = Arc::new(Open {
            facts: Arc::clone(&guest.facts),
            chain: std::mem::take(&mut guest.chain),
            peer,
            opened: Instant::now(),
            is_stranger: guest.is_stranger,
            pace: Arc::clone(guest.stream.get_ref().0.pace()),
            orders: watch::Sender::new(inner.standing),
            answered: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            generation: AtomicU64::new(guest.generation),
            verified_at_micros: AtomicI64::new(guest.verified_at.as_micros()),
        });
        let id = inner.next;
        inner.next += 1;
        inner.open.insert(id, Arc::clone(&open));
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        Entry { registry: Arc::clone(self), id, open }
    }

    pub fn all(&self) -> Vec<Arc<Open>> {
        self.lock().open.values().cloned().collect()
    }

    /// Asks everybody to leave, and whoever still enters.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.standing = Order::Leave;
        inner.open.values().for_each(|open| open.order(Order::Leave));
    }

    /// Cuts every connection and says how many there were.
    pub fn cut_all(&self) -> usize {
        let mut inner = self.lock();
        inner.standing = Order::Cut;
        inner.open.values().for_each(|open| open.order(Order::Cut));
        inner.open.len()
    }

    /// Nothing here can be left half done by a panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the registry.
pub(super) struct Entry {
    registry: Arc<Registry>,
    id: u64,
    pub open: Arc<Open>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.lock().open.remove(&self.id);
        self.registry.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}
