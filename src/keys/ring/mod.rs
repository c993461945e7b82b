//! The keys in memory. Vault is asked only for tenant keys that are not here; subject keys are opened locally.
//!
//! A subject key is served only while the tenant key that opened it is within its hard life and has not been refused
//! since: withdrawing a key in Vault closes everything under it within the soft life. Eviction, purge and the sweep
//! drop the last reference of a key, which wipes it.
//!
//! There is no local fallback: without Vault and past the hard life, the answer is [`KeyError::Unavailable`].
//!
//! Not here: whether an owner may still be read (`service`, from the data database), when keys are rotated (`service::rotating`).

mod held;
mod life;
mod rotate;
mod upstream;

pub use rotate::RewrapBatch;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use self::held::{Held, HeldKeys, NEVER};
use self::life::{Age, LifeCache, Lives, Loaded};
use self::upstream::{FindActive, OpenTenantKey};
use super::KeyError;
use super::place::{TenantKeyKind, TenantKeyPlace};
use super::transit::Transit;
use crate::config::CacheConfig;
use crate::crypto::{SubjectKey, TenantKey, WrapPlace, unwrap_subject_key, wrap_subject_key};
use crate::domain::class::DataClass;
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::id::{KeyId, KeyOwner, RecordId, TenantId};
use crate::domain::random::SharedRandom;
use crate::storage::key_store::{FoundSubjectKey, KeyDatabase, NewSubjectKey};
use crate::storage::{StorageError, Weakness};
use crate::telemetry::metrics;

/// A tenant key may be replaced while a subject key is being made; that this happens three times means it does not.
const ATTEMPTS: u32 = 3;
const SWEEP: Duration = Duration::from_secs(30);

/// The key ring. Cheap to clone; its background work ends with the last clone.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
    _sweeper: Arc<Sweeper>,
}

struct Inner {
    database: KeyDatabase,
    tenant_keys: LifeCache<OpenTenantKey>,
    active: LifeCache<FindActive>,
    held: HeldKeys,
    transit: Transit,
    clock: SharedClock,
    random: SharedRandom,
}

/// One subject key.
struct Slot {
    place: (TenantId, KeyOwner),
    class: DataClass,
    id: KeyId,
}

impl Slot {
    fn new(tenant: TenantId, owner: &KeyOwner, class: DataClass, id: KeyId) -> Self {
        Self { place: (tenant, owner.clone()), class, id }
    }

    /// The tenant key that wraps it.
    const fn tenant_key(&self, key_id: KeyId) -> TenantKeyPlace {
        TenantKeyPlace { tenant: self.place.0, kind: TenantKeyKind::Seal(self.class), key_id }
    }

    fn wrap_place(&self) -> WrapPlace<'_> {
        let (tenant, owner) = &self.place;
        WrapPlace { tenant: *tenant, owner, class: self.class, key_id: self.id }
    }
}

impl KeyRing {
    /// An empty ring. Must run within a tokio runtime; asks neither the database nor Vault.
    pub fn open(
        database: KeyDatabase,
        transit: Transit,
        config: &CacheConfig,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Self {
        let lives = Lives {
            soft_micros: micros(config.soft_life_seconds),
            hard_micros: micros(config.hard_life_seconds),
        };
        let open = OpenTenantKey { database: database.clone(), transit: transit.clone() };
        let find =
            FindActive { database: database.clone(), transit: transit.clone(), random: Arc::clone(&random) };
        let inner = Arc::new(Inner {
            database,
            tenant_keys: LifeCache::new(open, lives, Arc::clone(&clock), Arc::clone(&random)),
            active: LifeCache::new(find, lives, Arc::clone(&clock), Arc::clone(&random)),
            held: HeldKeys::new(config.subject_keys_owners, lives),
            transit,
            clock,
            random,
        });
        let pause = SWEEP.min(Duration::from_secs(config.hard_life_seconds.max(1)));
        let sweeper = Arc::new(Sweeper::start(&inner, pause));
        Self { inner, _sweeper: sweeper }
    }

    /// Tells the metrics how many keys are in memory, and how full the pool is.
    pub fn report(&self) {
        metrics::keys_in_memory(self.inner.tenant_keys.len(), self.inner.held.len());
        self.inner.database.report();
    }

    /// What is wrong with the key database.
    pub async fn weaknesses(&self, now: Timestamp) -> Result<Vec<Weakness>, StorageError> {
        self.inner.database.weaknesses(now).await
    }

    /// Whether the key database answers.
    pub async fn ping(&self) -> Result<(), KeyError> {
        Ok(self.inner.database.ping().await?)
    }

    /// The key that a stored seal names, for opening; see [`Self::subject_keys`].
    pub async fn subject_key(
        &self,
        tenant: TenantId,
        owner: &KeyOwner,
        class: DataClass,
        id: KeyId,
    ) -> Result<Arc<SubjectKey>, KeyError> {
        self.subject_keys(tenant, owner, &[(class, id)]).await?.pop().ok_or(KeyError::Missing)
    }

    /// The keys that stored seals name, for opening. From memory in well under a microsecond; otherwise one round trip to
    /// the key database for all that are not there, and one to Vault when the tenant key is not in memory either.
    pub async fn subject_keys(
        &self,
        tenant: TenantId,
        owner: &KeyOwner,
        named: &[(DataClass, KeyId)],
    ) -> Result<Vec<Arc<SubjectKey>>, KeyError> {
        let cached =
            |(class, id): &(DataClass, KeyId)| self.inner.cached(&Slot::new(tenant, owner, *class, *id));
        let keys: Vec<_> = named.iter().map(cached).collect();
        if keys.iter().all(Option::is_some) {
            return Ok(keys.into_iter().flatten().collect());
        }
        // Boxed: most reads have their keys in memory, and all would make room for it.
        Box::pin(self.bring_subject_keys(tenant, owner, named, keys)).await
    }

    async fn bring_subject_keys(
        &self,
        tenant: TenantId,
        owner: &KeyOwner,
        named: &[(DataClass, KeyId)],
        mut keys: Vec<Option<Arc<SubjectKey>>>,
    ) -> Result<Vec<Arc<SubjectKey>>, KeyError> {
        let slot = |(class, id): &(DataClass, KeyId)| Slot::new(tenant, owner, *class, *id);
        let missing: Vec<_> =
            keys.iter().zip(named).filter(|(key, _)| key.is_none()).map(|(_, each)| *each).collect();
        let wanted = missing.iter().map(|(class, id)| (owner.clone(), *class, *id)).collect();
        let rows = self.inner.database.subject_keys(tenant, wanted).await?;
        let places = keys.iter_mut().filter(|key| key.is_none());
        for (place, (each, row)) in places.zip(missing.iter().zip(rows)) {
            let row = row?.ok_or(KeyError::Missing)?;
            *place = Some(self.inner.open_row(slot(each), row, None).await?);
        }
        keys.into_iter().map(|key| key.ok_or(KeyError::Missing)).collect()
    }

    /// Brings keys that stored seals name into memory, in one round trip for all that are not there. What cannot be
    /// brought is left out: whoever then asks for it with [`Self::subject_key`] hears why.
    pub async fn warm(
        &self,
        tenant: TenantId,
        wanted: &[(KeyOwner, DataClass, KeyId)],
    ) -> Result<(), KeyError> {
        let slot = |(owner, class, id): &(KeyOwner, DataClass, KeyId)| Slot::new(tenant, owner, *class, *id);
        let mut missing: Vec<_> =
            wanted.iter().filter(|each| self.inner.cached(&slot(each)).is_none()).cloned().collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let rows = self.inner.database.subject_keys(tenant, missing.clone()).await?;
        for (place, row) in missing.iter().zip(rows).filter_map(|(place, row)| Some((place, row.ok()??))) {
            if let Err(error) = self.inner.open_row(slot(place), row, None).await
                && matches!(error, KeyError::Unavailable | KeyError::Denied)
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Buries records and deletes their keys in the key database, durable on return, and drops them from memory. Once more
    /// after [`Self::settling_time`], since a key that was being made meanwhile may have come in behind the first time.
    /// [`KeyError::Denied`] when one of them is no record's key; then nothing was destroyed.
    pub async fn destroy_record_keys(&self, records: &[(TenantId, RecordId)]) -> Result<(), KeyError> {
        self.inner.database.destroy_record_keys(records).await.map_err(|error| match error {
            StorageError::Refused { .. } => KeyError::Denied,
            error => error.into(),
        })?;
        for (tenant, record) in records {
            self.forget(*tenant, &KeyOwner::Record(record.clone()));
        }
        Ok(())
    }

    /// After this long, no statement that began before a tombstone was committed is running any more.
    pub fn settling_time(&self) -> Duration {
        self.inner.database.statement_timeout() * 2
    }

    /// Drops an owner's keys from this instance's memory.
    pub fn forget(&self, tenant: TenantId, owner: &KeyOwner) {
        self.inner.held.forget(tenant, owner, self.inner.clock.now());
    }

    /// The root of the tenant's request digests, made if there is none. From memory after the first time.
    pub async fn request_root(&self, tenant: TenantId) -> Result<Arc<TenantKey>, KeyError> {
        self.root(tenant, TenantKeyKind::Requests).await
    }

    /// The root of this number: of digests that were made under it, whichever is in use by now.
    pub async fn request_root_of(&self, tenant: TenantId, key_id: KeyId) -> Result<Arc<TenantKey>, KeyError> {
        let place = TenantKeyPlace { tenant, kind: TenantKeyKind::Requests, key_id };
        Ok(self.inner.tenant_keys.get(place).await?.value)
    }

    /// The root of the terms that the tenant's records are found by, likewise.
    pub async fn index_root(&self, tenant: TenantId) -> Result<Arc<TenantKey>, KeyError> {
        self.root(tenant, TenantKeyKind::Terms).await
    }

    async fn root(&self, tenant: TenantId, kind: TenantKeyKind) -> Result<Arc<TenantKey>, KeyError> {
        let key_id = self.inner.active.get((tenant, kind)).await?.value;
        Ok(self.inner.tenant_keys.get(TenantKeyPlace { tenant, kind, key_id }).await?.value)
    }

    /// Whether the active keys of an owner for all of `classes` are in memory.
    pub fn holds_sealing_keys(&self, tenant: TenantId, owner: &KeyOwner, classes: &[DataClass]) -> bool {
        let is_held = |class: &DataClass| {
            let slot = self.inner.sealing_slot(tenant, owner, *class);
            slot.is_some_and(|slot| self.inner.find_cached(&slot).is_some())
        };
        classes.iter().all(is_held)
    }

    /// The active key of an owner for one class; see [`Self::sealing_keys`].
    pub async fn sealing_key(
        &self,
        tenant: TenantId,
        owner: &KeyOwner,
        class: DataClass,
    ) -> Result<Arc<SubjectKey>, KeyError> {
        self.sealing_keys(tenant, owner, &[class], false).await?.pop().ok_or(KeyError::Unusable)
    }

    /// The active keys of an owner, in the order of `classes`. Those that do not exist are made, and are committed in
    /// the key database before this returns. `owner_is_new` skips the look-up; a claim that turns out wrong costs a
    /// round trip and nothing else. [`KeyError::Erased`] for an owner with a tombstone.
    pub async fn sealing_keys(
        &self,
        tenant: TenantId,
        owner: &KeyOwner,
        classes: &[DataClass],
        owner_is_new: bool,
    ) -> Result<Vec<Arc<SubjectKey>>, KeyError> {
        let mut found = Found::new(classes);
        if !owner_is_new {
            found.fill(|class| self.inner.cached_sealing(tenant, owner, class));
        }
        if found.missing().is_empty() {
            return found.all();
        }
        // Boxed: most writes have their keys in memory, and all would make room for it.
        Box::pin(self.bring_sealing_keys(tenant, owner, found, owner_is_new)).await
    }

    async fn bring_sealing_keys(
        &self,
        tenant: TenantId,
        owner: &KeyOwner,
        mut found: Found,
        owner_is_new: bool,
    ) -> Result<Vec<Arc<SubjectKey>>, KeyError> {
        if !owner_is_new {
            self.inner.look_up(tenant, owner, &mut found).await?;
        }
        for _ in 0..ATTEMPTS {
            if found.missing().is_empty() {
                break;
            }
            self.inner.make(tenant, owner, &mut found).await?;
        }
        found.all()
    }
}

/// The keys of a request, filled in from several sources.
struct Found(Vec<(DataClass, Option<Arc<SubjectKey>>)>);

impl Found {
    fn new(classes: &[DataClass]) -> Self {
        Self(classes.iter().map(|class| (*class, None)).collect())
    }

    fn missing(&self) -> Vec<DataClass> {
        self.0.iter().filter(|(_, key)| key.is_none()).map(|(class, _)| *class).collect()
    }

    fn fill(&mut self, key_of: impl Fn(DataClass) -> Option<Arc<SubjectKey>>) {
        for (class, key) in self.0.iter_mut().filter(|(_, key)| key.is_none()) {
            *key = key_of(*class);
        }
    }

    fn put(&mut self, class: DataClass, key: &Arc<SubjectKey>) {
        self.fill(|wanted| (wanted == class).then(|| Arc::clone(key)));
    }

    fn all(self) -> Result<Vec<Arc<SubjectKey>>, KeyError> {
        self.0.into_iter().map(|(_, key)| key.ok_or(KeyError::Unusable)).collect()
    }
}

impl Inner {
    fn cached(&self, slot: &Slot) -> Option<Arc<SubjectKey>> {
        let key = self.find_cached(slot);
        metrics::key_cache(key.is_some());
        key
    }

    fn find_cached(&self, slot: &Slot) -> Option<Arc<SubjectKey>> {
        let now = self.clock.now();
        let (held, age) = self.held.get(slot, now)?;
        if age == Age::Stale {
            self.tenant_keys.refresh(&held.lease, now);
        }
        Some(held.key)
    }

    fn cached_sealing(
        &self,
        tenant: TenantId,
        owner: &KeyOwner,
        class: DataClass,
    ) -> Option<Arc<SubjectKey>> {
        self.cached(&self.sealing_slot(tenant, owner, class)?)
    }

    /// Which key seals, as far as that was read lately.
    fn sealing_slot(&self, tenant: TenantId, owner: &KeyOwner, class: DataClass) -> Option<Slot> {
        let place = (tenant, owner.clone());
        let id = self.held.sealing(&place, class, self.clock.now())?;
        Some(Slot { place, class, id })
    }

    async fn look_up(&self, tenant: TenantId, owner: &KeyOwner, found: &mut Found) -> Result<(), KeyError> {
        let missing = found.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let read_at = self.clock.now();
        for row in self.database.active_subject_keys(tenant, owner, &missing).await? {
            let class = row.class;
            let slot = Slot::new(tenant, owner, class, row.key_id);
            let key = self.open_row(slot, row, Some(read_at)).await?;
            found.put(class, &key);
        }
        Ok(())
    }

    /// Unwraps a key and holds it. `seals_at`: when it was read that it is the one that seals, if it was.
    async fn open_row(
        &self,
        slot: Slot,
        row: FoundSubjectKey,
        seals_at: Option<Timestamp>,
    ) -> Result<Arc<SubjectKey>, KeyError> {
        let opener = self.tenant_keys.get(slot.tenant_key(row.tenant_key_id)).await?;
        let key = unwrap_subject_key(&opener.value, &slot.wrap_place(), &row.wrapped).inspect_err(
            |error| tracing::error!(tenant = %slot.place.0, error = %error, "keys.unwrap_failed"),
        )?;
        let key = Arc::new(key);
        let held = Held { key: Arc::clone(&key), lease: opener.lease, seals_at: seals_at.unwrap_or(NEVER) };
        self.held.put(slot.place, held, self.clock.now());
        Ok(key)
    }

    /// Makes the missing keys. Leaves missing what another instance made first or what the tenant key, replaced in
    /// this moment, could not be used for; the caller tries again.
    async fn make(&self, tenant: TenantId, owner: &KeyOwner, found: &mut Found) -> Result<(), KeyError> {
        let mut rows = Vec::new();
        let mut made = Vec::new();
        for class in found.missing() {
            let (row, key, opener) = self.draft(tenant, owner, class).await?;
            made.push((class, key, opener));
            rows.push(row);
        }
        let read_at = self.clock.now();
        let committed = self.database.insert_subject_keys(tenant, rows).await?;
        for ((class, key, opener), is_in) in made.into_iter().zip(committed) {
            if is_in {
                found.put(class, &key);
                let held = Held { key, lease: opener.lease, seals_at: read_at };
                self.held.put((tenant, owner.clone()), held, read_at);
            }
        }
        if found.missing().is_empty() { Ok(()) } else { self.make_good(tenant, owner, found).await }
    }

    /// Why some keys were not inserted: they exist by now, the owner is erased, or the tenant key is outdated.
    async fn make_good(&self, tenant: TenantId, owner: &KeyOwner, found: &mut Found) -> Result<(), KeyError> {
        self.look_up(tenant, owner, found).await?;
        let missing = found.missing();
        if !missing.is_empty() && self.database.is_buried(tenant, owner).await? {
            return Err(KeyError::Erased);
        }
        for class in missing {
            self.active.load((tenant, TenantKeyKind::Seal(class))).await?;
        }
        Ok(())
    }

    async fn draft(
        &self,
        tenant: TenantId,
        owner: &KeyOwner,
        class: DataClass,
    ) -> Result<(NewSubjectKey, Arc<SubjectKey>, Loaded<TenantKeyPlace, Arc<TenantKey>>), KeyError> {
        let kind = TenantKeyKind::Seal(class);
        let tenant_key_id = self.active.get((tenant, kind)).await?.value;
        let opener = self.tenant_keys.get(TenantKeyPlace { tenant, kind, key_id: tenant_key_id }).await?;
        let key_id = KeyId::FIRST;
        let key = SubjectKey::generate(key_id, &*self.random)?;
        let place = WrapPlace { tenant, owner, class, key_id };
        let wrapped = wrap_subject_key(&opener.value, &place, &key, &*self.random)?;
        let row = NewSubjectKey { owner: owner.clone(), class, key_id, tenant_key_id, wrapped };
        Ok((row, Arc::new(key), opener))
    }

    /// Wipes what is past its hard life even if nobody asks for it.
    fn sweep(&self) {
        self.tenant_keys.sweep();
        self.active.sweep();
        self.held.sweep(self.clock.now());
    }
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// Sweeps until the last clone of the ring is gone.
struct Sweeper(AbortHandle);

impl Sweeper {
    fn start(inner: &Arc<Inner>, pause: Duration) -> Self {
        let inner = Arc::downgrade(inner);
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(pause);
            loop {
                tick.tick().await;
                let Some(inner) = inner.upgrade() else { return };
                inner.sweep();
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}
