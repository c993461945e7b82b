//! Opened subject keys: one bounded cache, an entry for each owner and class with all versions that are in memory.
//!
//! An entry is replaced as a whole, never changed. Of two that add a version to it in the same moment one may be lost,
//! which costs whoever asks for that version next a round trip and nothing else.
//!
//! Not here: where keys come from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;

use super::Slot;
use super::life::{Age, Lease, Lives};
use crate::crypto::SubjectKey;
use crate::domain::class::DataClass;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, KeyOwner, TenantId};

/// An opened subject key and what its life hangs on.
#[derive(Clone)]
pub(super) struct Held {
    pub key: Arc<SubjectKey>,
    /// The tenant key that opened it.
    pub opener: KeyId,
    pub lease: Arc<Lease>,
}

/// What is in memory for one owner and class.
struct Versions {
    held: Box<[Held]>,
    /// Which version seals, and when that was read.
    sealing: Option<(KeyId, Timestamp)>,
}

type Place = (TenantId, KeyOwner, DataClass);

/// The cache. A few hundred bytes for each owner and class (`benches/README.md`).
pub(super) struct HeldKeys {
    cache: Cache<Place, Arc<Versions>>,
    /// Whose keys are destroyed, and when that was told here: one that was being read meanwhile is not taken in behind it.
    forgotten: Mutex<HashMap<(TenantId, KeyOwner), Timestamp>>,
    lives: Lives,
}

impl HeldKeys {
    pub fn new(entries: usize, lives: Lives) -> Self {
        let cache = Cache::new(entries);
        // Room for all of them at once: what is not touched is not resident, and what is outgrown could not be given
        // back, since memory is locked.
        cache.reserve(entries);
        Self { cache, forgotten: Mutex::default(), lives }
    }

    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// A key and how old what it hangs on is, unless it is past its life.
    pub fn get(&self, slot: &Slot, now: Timestamp) -> Option<(Held, Age)> {
        let versions = self.cache.get(&slot.place)?;
        let held = versions.held.iter().find(|held| held.key.id() == slot.id)?;
        match held.lease.age(now, self.lives) {
            Age::Dead => {
                // With whatever else hangs on it: other versions are read again when they are asked for.
                self.cache.remove(&slot.place);
                None
            }
            age => Some((held.clone(), age)),
        }
    }

    /// The version that seals, as far as that was read within the soft life.
    pub fn sealing(&self, place: &Place, now: Timestamp) -> Option<KeyId> {
        let (id, read_at) = self.cache.get(place)?.sealing?;
        let age = now.as_micros().saturating_sub(read_at.as_micros());
        (0..self.lives.soft_micros).contains(&age).then_some(id)
    }

    /// Adds or replaces a key. `seals_at`: when it was read that this is the version that seals, if it was.
    pub fn put(&self, place: Place, new: Held, seals_at: Option<Timestamp>, now: Timestamp) {
        let (tenant, owner, _) = &place;
        // Held until the key is in, so that whoever forgets it finds it.
        let forgotten = self.forgotten();
        if !forgotten.is_empty() && forgotten.contains_key(&(*tenant, owner.clone())) {
            return;
        }
        let sealing = seals_at.map(|at| (new.key.id(), at));
        let versions = match self.cache.peek(&place) {
            None => Versions { held: Box::new([new]), sealing },
            Some(old) => Versions {
                sealing: sealing.or(old.sealing),
                held: old.others(new.key.id(), now, self.lives).chain([new]).collect(),
            },
        };
        self.cache.insert(place, Arc::new(versions));
    }

    /// For good: an owner whose keys were destroyed gets no others.
    pub fn forget(&self, tenant: TenantId, owner: &KeyOwner, now: Timestamp) {
        self.forgotten().insert((tenant, owner.clone()), now);
        for class in DataClass::ALL {
            self.cache.remove(&(tenant, owner.clone(), class));
        }
    }

    /// Drops what is past its hard life even if nobody asks for it.
    pub fn sweep(&self, now: Timestamp) {
        let age = |told: &Timestamp| now.as_micros().saturating_sub(told.as_micros());
        // No request is under way for that long.
        self.forgotten().retain(|_, told| age(told) < self.lives.hard_micros);
        let is_dead = |held: &Held| held.lease.age(now, self.lives) == Age::Dead;
        self.cache.retain(|_, versions| !versions.held.iter().any(is_dead));
    }

    /// Nothing under this lock can be left half done by a panic.
    fn forgotten(&self) -> MutexGuard<'_, HashMap<(TenantId, KeyOwner), Timestamp>> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Versions {
    fn others(&self, id: KeyId, now: Timestamp, lives: Lives) -> impl Iterator<Item = Held> {
        let is_kept = move |held: &&Held| held.key.id() != id && held.lease.age(now, lives) != Age::Dead;
        self.held.iter().filter(is_kept).cloned()
    }
}
