//! Requests under an idempotency key: what is kept of one is keyed digests, for a day.

use super::{Error, Service};
use crate::crypto::request::key_mac;
use crate::crypto::{SealError, TenantKey};
use crate::domain::clock::Timestamp;
use crate::domain::context::OperationContext;
use crate::domain::id::{KeyId, TenantId};
use crate::domain::idempotency::IdempotencyKey;
use crate::storage::Claim;

/// How long a repeated request is known.
const KEY_LIFE_MICROS: i64 = 24 * 3_600 * 1_000_000;

impl Service {
    /// What is kept of a request that came with a key: who sent which, and the digest of what it asks for, which `digest`
    /// makes under a root of the tenant.
    pub(super) async fn claim_of(
        &self,
        context: &OperationContext,
        tenant: TenantId,
        key: &IdempotencyKey,
        digest: impl FnOnce(&TenantKey) -> Result<([u8; 32], KeyId), SealError>,
    ) -> Result<Claim, Error> {
        self.gate.pass_to_keys()?;
        let root = self.keys.request_root(tenant).await?;
        let refused = |_: SealError| Error::Internal("the digest of a request failed");
        let mut sender = vec![&*context.actor.identity.client];
        sender.extend(context.actor.person().into_iter().flat_map(|person| [&*person.issuer, &*person.id]));
        let key_mac = key_mac(&root, &sender, key.as_str()).map_err(refused)?;
        let (body_mac, root) = digest(&root).map_err(refused)?;
        Ok(Claim { key_mac, body_mac, root, expires_at: a_day_after(self.clock.now()) })
    }

    /// Removes idempotency keys that have expired; answers how many.
    pub async fn remove_expired_keys(&self) -> Result<u64, Error> {
        Ok(self.records.remove_expired_claims(self.clock.now()).await?)
    }
}

pub(super) fn a_day_after(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_micros().saturating_add(KEY_LIFE_MICROS))
}
