//! The keys that this module uses. They can be made, named and used, but not read back, copied or printed.

use super::keyed_hash::tags_equal;
use crate::domain::id::KeyId;
use crate::domain::random::{NoRandomness, Random};
use crate::domain::secret::Key256;

/// K1: wraps the subject keys of one tenant and class. Comes from Vault by way of `keys`. Wiped on drop.
pub struct TenantKey {
    id: KeyId,
    secret: Key256,
}

impl TenantKey {
    /// `id` is the number under which `tenant_key` keeps it; it goes into the header of every key it wraps.
    pub fn new(id: KeyId, key: Key256) -> Self {
        Self { id, secret: key }
    }

    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn secret(&self) -> &Key256 {
        &self.secret
    }
}

/// K2: seals the values of one subject, or one record, and class. Made here, kept wrapped. Wiped on drop.
pub struct SubjectKey {
    id: KeyId,
    secret: Key256,
}

impl SubjectKey {
    /// A new key of 32 random bytes. It must be wrapped and committed before the first value is sealed with
    /// it.
    pub fn generate(id: KeyId, random: &dyn Random) -> Result<Self, NoRandomness> {
        Ok(Self { id, secret: Key256::filled(|bytes| random.fill(bytes))? })
    }

    /// The key that a wrap held.
    pub(super) fn unwrapped(id: KeyId, secret: Key256) -> Self {
        Self { id, secret }
    }

    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Compared in constant time.
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && tags_equal(self.secret.expose(), other.secret.expose())
    }

    pub(super) fn secret(&self) -> &Key256 {
        &self.secret
    }
}
