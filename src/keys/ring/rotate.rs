//! What a rotation asks of the ring: a new tenant key, and subject keys under it instead of the old one.
//!
//! Whoever has a subject key in memory goes on using it: it is the same key, and hangs on the tenant key that opened it until
//! that is destroyed, when it is opened anew.

use super::upstream::wrapped_new;
use super::{Inner, KeyRing};
use crate::crypto::{TenantKey, WrapPlace, unwrap_subject_key, wrap_subject_key};
use crate::domain::class::DataClass;
use crate::domain::id::{KeyId, TenantId};
use crate::keys::KeyError;
use crate::keys::place::{TenantKeyKind, TenantKeyPlace};
use crate::storage::{KeyPlace, OwnedKey, Rewrapped, StretchOfKeys, Succession, TenantKeyVersion};

/// So many are opened and wrapped before others get to run: a fraction of a millisecond.
const AT_A_STRETCH: usize = 32;

/// Some keys of a tenant, of which those that are under the old key are to be stored with another wrapping.
pub struct RewrapBatch {
    pub rewrapped: Vec<Rewrapped>,
    /// Those that the old key does not open.
    pub unopened: u64,
    /// Those that were wrapped again before.
    pub before: u64,
    /// The next batch begins after this; `None` when there was nothing any more.
    pub last: Option<KeyPlace>,
}

impl KeyRing {
    /// The tenant keys that wrap subject keys of a tenant, and how many each wraps; from the key database.
    pub async fn tenant_key_versions(&self, tenant: TenantId) -> Result<Vec<TenantKeyVersion>, KeyError> {
        Ok(self.inner.database.tenant_key_versions(tenant).await?)
    }

    /// The tenant key that is in force for a class, and the highest number that one has.
    pub async fn key_in_force(
        &self,
        tenant: TenantId,
        class: DataClass,
    ) -> Result<(Option<KeyId>, Option<KeyId>), KeyError> {
        Ok(self.inner.database.key_in_force(tenant, class).await?)
    }

    /// A new key, wrapped by Vault for the successor's place. It is nobody's until it is stored.
    pub async fn new_tenant_key(&self, keys: &Succession) -> Result<String, KeyError> {
        wrapped_new(&self.inner.transit, &*self.inner.random, &place(keys, keys.to)).await
    }

    /// The successor is in force: this instance uses it at once. Others hear of it when the key database refuses what they
    /// wrap with the old one, or within the soft life.
    pub async fn adopt_successor(&self, keys: &Succession) -> Result<(), KeyError> {
        self.inner.active.load((keys.tenant, TenantKeyKind::Seal(keys.class))).await.map(drop)
    }

    /// Whether any key needs the old key, as the key database has it.
    pub async fn is_needed(&self, keys: &Succession) -> Result<bool, KeyError> {
        Ok(self.inner.database.is_needed(keys).await?)
    }

    /// Goes through the next `limit` keys of the tenant after `after`, opens those that are under the old key, and wraps them by
    /// the successor. Each wrapping was opened again, and gave the same key.
    pub async fn rewrap(
        &self,
        keys: &Succession,
        after: Option<&KeyPlace>,
        limit: i64,
    ) -> Result<RewrapBatch, KeyError> {
        let StretchOfKeys { due, rewrapped: before, last } =
            self.inner.database.stretch_of_keys(keys, after, limit).await?;
        let mut batch = RewrapBatch { rewrapped: Vec::with_capacity(due.len()), unopened: 0, before, last };
        if due.is_empty() {
            return Ok(batch);
        }
        let from = self.inner.tenant_keys.get(place(keys, keys.from)).await?.value;
        let to = self.inner.tenant_keys.get(place(keys, keys.to)).await?.value;
        for (number, owned) in due.into_iter().enumerate() {
            if number % AT_A_STRETCH == 0 {
                tokio::task::yield_now().await;
            }
            match self.inner.rewrap_one(keys, (&from, &to), owned) {
                Ok(rewrapped) => batch.rewrapped.push(rewrapped),
                Err(KeyError::Unusable) => batch.unopened += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(batch)
    }

    /// The old key is destroyed: nothing hangs on it here any more.
    pub async fn drop_destroyed(&self, keys: &Succession) {
        // Not there, and with that out of memory; when the database does not answer, at the end of its life.
        drop(self.inner.tenant_keys.load(place(keys, keys.from)).await);
    }
}

impl Inner {
    fn rewrap_one(
        &self,
        keys: &Succession,
        (from, to): (&TenantKey, &TenantKey),
        found: OwnedKey,
    ) -> Result<Rewrapped, KeyError> {
        let OwnedKey { owner, key: found } = found;
        let place = WrapPlace { tenant: keys.tenant, owner: &owner, class: keys.class, key_id: found.key_id };
        let key = unwrap_subject_key(from, &place, &found.wrapped).inspect_err(
            |error| tracing::error!(tenant = %keys.tenant, error = %error, "keys.unwrap_failed"),
        )?;
        let new = wrap_subject_key(to, &place, &key, &*self.random)?;
        if !unwrap_subject_key(to, &place, &new)?.is_same(&key) {
            return Err(KeyError::Unusable);
        }
        Ok(Rewrapped { key_id: found.key_id, old: found.wrapped, new, owner })
    }
}

const fn place(keys: &Succession, key_id: KeyId) -> TenantKeyPlace {
    TenantKeyPlace { tenant: keys.tenant, kind: TenantKeyKind::Seal(keys.class), key_id }
}
