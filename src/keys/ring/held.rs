//! Opened subject keys: one bounded cache, an entry for each owner with the keys of all classes and versions that are in
//! memory. A person's keys are asked for together, and one entry takes half of what two would.
//!
//! An entry is replaced as a whole, never changed. Of two that add a key to it in the same moment one may be lost,
//! which costs whoever asks for that key next a round trip and nothing else.
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
use crate::keys::place::{TenantKeyKind, TenantKeyPlace};

/// An opened subject key and what its life hangs on. As small as it can be: there are hundreds of thousands.
#[derive(Clone)]
pub(super) struct Held {
    pub key: Arc<SubjectKey>,
    /// Of the tenant key that opened it, which is of the same class.
    pub lease: Arc<Lease<TenantKeyPlace>>,
    /// When it was read that this is the version that seals, or [`NEVER`].
    pub seals_at: Timestamp,
}

pub(super) const NEVER: Timestamp = Timestamp::from_micros(i64::MIN);

impl Held {
    fn kind(&self) -> TenantKeyKind {
        self.lease.key().kind
    }

    fn is(&self, kind: TenantKeyKind, id: KeyId) -> bool {
        self.kind() == kind && self.key.id() == id
    }
}

type Place = (TenantId, KeyOwner);

/// The cache. A few hundred bytes for each owner (`benches/README.md`).
pub(super) struct HeldKeys {
    cache: Cache<Place, Arc<[Held]>>,
    /// Whose keys are destroyed, and when that was told here: one that was being read meanwhile is not taken in behind it.
    forgotten: Mutex<HashMap<Place, Timestamp>>,
    lives: Lives,
}

impl HeldKeys {
    pub fn new(owners: usize, lives: Lives) -> Self {
        let cache = Cache::new(owners);
        // Room for all of them at once: what is not touched is not resident, and what is outgrown could not be given
        // back, since memory is locked.
        cache.reserve(owners);
        Self { cache, forgotten: Mutex::default(), lives }
    }

    /// How many owners' keys are in memory.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// A key and how old what it hangs on is, unless it is past its life.
    pub fn get(&self, slot: &Slot, now: Timestamp) -> Option<(Held, Age)> {
        let keys = self.cache.get(&slot.place)?;
        let kind = TenantKeyKind::Seal(slot.class);
        let held = keys.iter().find(|held| held.is(kind, slot.id))?;
        match held.lease.age(now, self.lives) {
            Age::Dead => {
                // With all others of this owner: those that are not past their lives are read again when they are asked for.
                self.cache.remove(&slot.place);
                None
            }
            age => Some((held.clone(), age)),
        }
    }

    /// The version of a class that seals, as far as that was read within the soft life.
    pub fn sealing(&self, place: &Place, class: DataClass, now: Timestamp) -> Option<KeyId> {
        let keys = self.cache.get(place)?;
        let kind = TenantKeyKind::Seal(class);
        let seals = keys.iter().find(|held| held.kind() == kind && held.seals_at != NEVER)?;
        let age = now.as_micros().saturating_sub(seals.seals_at.as_micros());
        (0..self.lives.soft_micros).contains(&age).then(|| seals.key.id())
    }

    /// Adds or replaces a key.
    pub fn put(&self, place: Place, mut new: Held, now: Timestamp) {
        // Held until the key is in, so that whoever forgets it finds it.
        let forgotten = self.forgotten();
        if !forgotten.is_empty() && forgotten.contains_key(&place) {
            return;
        }
        let old = self.cache.peek(&place);
        let old = old.as_deref().unwrap_or_default();
        let kind = new.kind();
        if new.seals_at == NEVER {
            let same = old.iter().find(|held| held.is(kind, new.key.id()));
            new.seals_at = same.map_or(NEVER, |held| held.seals_at);
        }
        let is_kept =
            |held: &&Held| !held.is(kind, new.key.id()) && held.lease.age(now, self.lives) != Age::Dead;
        let others = old.iter().filter(is_kept).cloned().map(|mut held| {
            // Of a class one version seals.
            if held.kind() == kind && new.seals_at != NEVER {
                held.seals_at = NEVER;
            }
            held
        });
        let keys = others.chain([new.clone()]).collect();
        self.cache.insert(place, keys);
    }

    /// For good: an owner whose keys were destroyed gets no others.
    pub fn forget(&self, tenant: TenantId, owner: &KeyOwner, now: Timestamp) {
        let place = (tenant, owner.clone());
        self.forgotten().insert(place.clone(), now);
        self.cache.remove(&place);
    }

    /// Drops what is past its hard life even if nobody asks for it.
    pub fn sweep(&self, now: Timestamp) {
        let age = |told: &Timestamp| now.as_micros().saturating_sub(told.as_micros());
        // No request is under way for that long.
        self.forgotten().retain(|_, told| age(told) < self.lives.hard_micros);
        let is_dead = |held: &Held| held.lease.age(now, self.lives) == Age::Dead;
        self.cache.retain(|_, keys| !keys.iter().any(is_dead));
    }

    /// Nothing under this lock can be left half done by a panic.
    fn forgotten(&self) -> MutexGuard<'_, HashMap<Place, Timestamp>> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::SubjectId;
    use crate::domain::random::SystemRandom;

    const NOW: Timestamp = Timestamp::from_micros(10_000_000);
    const LIVES: Lives = Lives { soft_micros: 1_000_000, hard_micros: 5_000_000 };

    fn held(class: DataClass, id: i64, confirmed_at: Timestamp, seals_at: Option<Timestamp>) -> Held {
        let id = KeyId::new(id).unwrap();
        let key = Arc::new(SubjectKey::generate(id, &SystemRandom::default()).unwrap());
        let (tenant, _) = owner();
        let opener = TenantKeyPlace { tenant, kind: TenantKeyKind::Seal(class), key_id: KeyId::FIRST };
        let lease = Arc::new(Lease::new(opener, confirmed_at));
        Held { key, lease, seals_at: seals_at.unwrap_or(NEVER) }
    }

    fn owner() -> Place {
        (
            TenantId::from_uuid(uuid::Uuid::from_u128(1)),
            KeyOwner::Subject(SubjectId::from_uuid(uuid::Uuid::from_u128(2))),
        )
    }

    fn has(keys: &HeldKeys, class: DataClass, id: i64) -> bool {
        let (tenant, owner) = owner();
        keys.get(&Slot::new(tenant, &owner, class, KeyId::new(id).unwrap()), NOW).is_some()
    }

    #[test]
    fn an_owner_has_one_entry_for_all_classes_and_versions() {
        let keys = HeldKeys::new(8, LIVES);
        for (class, id) in
            [(DataClass::Phi, 1), (DataClass::Pii, 1), (DataClass::Phi, 2), (DataClass::Phi, 2)]
        {
            keys.put(owner(), held(class, id, NOW, None), NOW);
        }
        assert_eq!(keys.len(), 1);
        assert!(
            has(&keys, DataClass::Phi, 1) && has(&keys, DataClass::Phi, 2) && has(&keys, DataClass::Pii, 1)
        );
        assert!(!has(&keys, DataClass::Pii, 2) && !has(&keys, DataClass::Chd, 1));
    }

    #[test]
    fn of_a_class_one_version_seals() {
        let keys = HeldKeys::new(8, LIVES);
        let seals = |class| keys.sealing(&owner(), class, NOW).map(KeyId::as_u64);
        keys.put(owner(), held(DataClass::Phi, 1, NOW, Some(NOW)), NOW);
        keys.put(owner(), held(DataClass::Pii, 7, NOW, Some(NOW)), NOW);
        assert_eq!((seals(DataClass::Phi), seals(DataClass::Pii)), (Some(1), Some(7)));
        keys.put(owner(), held(DataClass::Phi, 2, NOW, Some(NOW)), NOW);
        assert_eq!((seals(DataClass::Phi), seals(DataClass::Pii)), (Some(2), Some(7)));
        // That either was opened to be read says nothing about which seals.
        keys.put(owner(), held(DataClass::Phi, 1, NOW, None), NOW);
        keys.put(owner(), held(DataClass::Phi, 2, NOW, None), NOW);
        assert_eq!(seals(DataClass::Phi), Some(2));
        let later = Timestamp::from_micros(NOW.as_micros() + LIVES.soft_micros);
        assert_eq!(keys.sealing(&owner(), DataClass::Phi, later), None);
    }

    #[test]
    fn what_is_past_its_life_is_gone_and_what_is_destroyed_stays_out() {
        let keys = HeldKeys::new(8, LIVES);
        let long_ago = Timestamp::from_micros(NOW.as_micros() - LIVES.hard_micros);
        keys.put(owner(), held(DataClass::Phi, 1, long_ago, None), NOW);
        keys.put(owner(), held(DataClass::Phi, 2, NOW, None), NOW);
        assert!(!has(&keys, DataClass::Phi, 1) && has(&keys, DataClass::Phi, 2));
        let (tenant, whose) = owner();
        keys.forget(tenant, &whose, NOW);
        assert!(!has(&keys, DataClass::Phi, 2));
        keys.put(owner(), held(DataClass::Phi, 2, NOW, None), NOW);
        assert_eq!(keys.len(), 0);
    }
}
