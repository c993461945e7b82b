//! Where tenant keys come from when they are not in memory: the row from the key database, the key from Vault.

use std::sync::Arc;

use super::life::Loader;
use crate::crypto::TenantKey;
use crate::domain::id::{KeyId, TenantId};
use crate::domain::random::{Random, SharedRandom};
use crate::domain::secret::Key256;
use crate::keys::KeyError;
use crate::keys::place::{TenantKeyKind, TenantKeyPlace};
use crate::keys::transit::Transit;
use crate::storage::key_store::{FoundTenantKey, KeyDatabase};

/// Opens one tenant key, in Vault.
pub(super) struct OpenTenantKey {
    pub database: KeyDatabase,
    pub transit: Transit,
}

impl Loader for OpenTenantKey {
    type Key = TenantKeyPlace;
    type Value = Arc<TenantKey>;

    async fn load(&self, place: TenantKeyPlace) -> Result<Arc<TenantKey>, KeyError> {
        let TenantKeyPlace { tenant, kind, key_id } = place;
        let row = self.database.tenant_key(tenant, kind.class(), kind.purpose(), key_id).await?;
        let wrapped = row.ok_or(KeyError::Missing)?.wrapped;
        let key = self.transit.decrypt(&place, &wrapped).await?;
        Ok(Arc::new(TenantKey::new(key_id, key)))
    }
}

/// Finds out which tenant key is active, and makes the first one of a tenant.
pub(super) struct FindActive {
    pub database: KeyDatabase,
    pub transit: Transit,
    pub random: SharedRandom,
}

impl Loader for FindActive {
    type Key = (TenantId, TenantKeyKind);
    type Value = KeyId;

    async fn load(&self, (tenant, kind): Self::Key) -> Result<KeyId, KeyError> {
        let state = self.database.tenant_key_state(tenant, kind.class(), kind.purpose()).await?;
        if let Some(active) = state.active {
            return Ok(active);
        }
        let next = match state.highest {
            None => KeyId::FIRST,
            Some(highest) => KeyId::from_u64(highest.as_u64() + 1).ok_or(KeyError::Unusable)?,
        };
        self.make(TenantKeyPlace { tenant, kind, key_id: next }).await?;
        // Whoever came first has won, on this instance or another.
        let state = self.database.tenant_key_state(tenant, kind.class(), kind.purpose()).await?;
        state.active.ok_or(KeyError::Unavailable)
    }
}

/// A new key for this place, wrapped by Vault: nobody has it but whoever unwraps it.
pub(super) async fn wrapped_new(
    transit: &Transit,
    random: &dyn Random,
    place: &TenantKeyPlace,
) -> Result<String, KeyError> {
    let key = Key256::filled(|bytes| random.fill(bytes))?;
    Ok(transit.encrypt(place, &key).await?)
}

impl FindActive {
    async fn make(&self, place: TenantKeyPlace) -> Result<(), KeyError> {
        let wrapped = wrapped_new(&self.transit, &*self.random, &place).await?;
        let row = FoundTenantKey { key_id: place.key_id, wrapped };
        Ok(self
            .database
            .insert_tenant_key(place.tenant, place.kind.class(), place.kind.purpose(), &row)
            .await?)
    }
}
