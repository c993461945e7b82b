//! Requests under an idempotency key: what is kept of one is keyed digests, for a day.

use super::{Error, Service};
use crate::audit::{EntryDraft, Outcome, Withheld};
use crate::crypto::keyed_hash::tags_equal;
use crate::crypto::request::key_mac;
use crate::crypto::{SealError, TenantKey};
use crate::domain::clock::Timestamp;
use crate::domain::context::OperationContext;
use crate::domain::id::{KeyId, TenantId};
use crate::domain::idempotency::IdempotencyKey;
use crate::storage::{Claim, Claimed};

/// How long a repeated request is known.
const KEY_LIFE_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// What was opened, placed or asked for.
pub struct Opened {
    /// Its id, and when it ends, was placed or lapses.
    pub answer: serde_json::Value,
    /// Answered from an earlier request under the same idempotency key.
    pub is_repeated: bool,
}

/// What was done under a key is told by its id.
pub(super) const LOST: Error = Error::Internal("what was done under a key is not there");

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
        let root = self.keys.request_root(tenant).await?;
        let refused = |_: SealError| Error::Internal("the digest of a request failed");
        let mut sender = vec![&*context.actor.identity.client];
        sender.extend(context.actor.person().into_iter().flat_map(|person| [&*person.issuer, &*person.id]));
        let key_mac = key_mac(&root, &sender, key.as_str()).map_err(refused)?;
        let (body_mac, root) = digest(&root).map_err(refused)?;
        Ok(Claim { key_mac, body_mac, root, expires_at: a_day_after(self.clock.now()) })
    }

    /// What was done under the claim's key, if the request was this one. That another was sent under it is on record, as `draft`
    /// has it.
    pub(super) async fn done_before(
        &self,
        tenant: TenantId,
        claim: &Claim,
        draft: impl FnOnce(Outcome) -> EntryDraft,
    ) -> Result<Option<Claimed>, Error> {
        let done = self.records.claimed(tenant, &claim.key_mac, self.clock.now()).await?;
        let Some(done) = done else { return Ok(None) };
        if tags_equal(&claim.body_mac, &done.body_mac) {
            return Ok(Some(done));
        }
        self.put_on_record(draft(Outcome::failed("idempotency_key_reused"))).await?;
        Err(Error::KeyReused)
    }

    /// The answer of the first time. That it is told again is on record.
    pub(super) async fn tell_again(
        &self,
        answer: serde_json::Value,
        draft: EntryDraft,
    ) -> Result<Option<Opened>, Error> {
        let answer = Withheld::new(answer);
        let receipt = self.commit(draft).await?;
        Ok(Some(Opened { answer: answer.release(&receipt), is_repeated: true }))
    }

    /// Removes idempotency keys that have expired; answers how many.
    pub async fn remove_expired_keys(&self) -> Result<u64, Error> {
        Ok(self.records.remove_expired_claims(self.clock.now()).await?)
    }
}

/// The id of the one thing that was done.
pub(super) fn only_id<T>(done: &Claimed, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    done.records.first().and_then(|id| parse(id.as_str())).ok_or(LOST)
}

pub(super) fn a_day_after(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_micros().saturating_add(KEY_LIFE_MICROS))
}
