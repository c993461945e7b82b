//! Tenant keys as custodians see them: how old they are, replaced by one, the old key's end approved by another. What follows is
//! `rotating`'s.

use serde_json::{Value, json};

use super::claim::{LOST, only_id};
use super::create_many::count;
use super::{Error, Opened, Part, Service};
use crate::audit::{EntryDraft, KeyLevel, KeyObject, Outcome, Withheld};
use crate::crypto::TenantKey;
use crate::crypto::request::BodyMac;
use crate::domain::action::Action;
use crate::domain::break_glass::Reference;
use crate::domain::class::DataClass;
use crate::domain::clock::Timestamp;
use crate::domain::context::OperationContext;
use crate::domain::id::{KeyId, RotationId, uuid_v7};
use crate::domain::idempotency::IdempotencyKey;
use crate::domain::rotation::RotationReason;
use crate::policy::KeysPermit;
use crate::storage::{Claim, FoundRotation, NewRotation, StorageError, Succession, TenantKeyVersion};

/// Those that a list shows.
const MOST_LISTED: i64 = 500;
const DAY_SECONDS: i64 = 24 * 3_600;

/// What a custodian asks for.
pub struct RotationRequest {
    pub class: DataClass,
    pub reason: RotationReason,
    pub reference: Reference,
}

impl Service {
    /// The tenant keys of each class, how old they are and how many subject keys each wraps, with the rotation that is open. The
    /// entry is durable before this returns.
    pub async fn key_status(&self, context: &OperationContext) -> Result<Value, Error> {
        let permit = self.authorise_keys(context, Action::ReadKeys).await?;
        let versions = self.keys.tenant_key_versions(permit.tenant()).await?;
        let rotations = self.records.rotations(permit.tenant(), MOST_LISTED).await?;
        let now = self.clock.now();
        let classes: Vec<Value> = DataClass::ALL
            .into_iter()
            .map(|class| {
                let own = versions.iter().filter(|key| key.class == class);
                let keys: Vec<Value> = own.map(|key| render_key(key, now)).collect();
                let mut status = json!({ "class": class.as_str(), "keys": keys });
                let open = rotations.iter().find(|one| one.keys.class == class && one.destroyed_at.is_none());
                if let (Some(open), Some(members)) = (open, status.as_object_mut()) {
                    members.insert("rotation".to_owned(), self.render_rotation(open, &versions));
                }
                status
            })
            .collect();
        self.tell_of_keys(context, &permit, versions.len(), json!({ "classes": classes })).await
    }

    /// The rotations of the tenant, the newest first. The entry is durable before this returns.
    pub async fn rotations(&self, context: &OperationContext) -> Result<Value, Error> {
        let permit = self.authorise_keys(context, Action::ReadKeys).await?;
        let rotations = self.records.rotations(permit.tenant(), MOST_LISTED).await?;
        let versions = self.keys.tenant_key_versions(permit.tenant()).await?;
        let each: Vec<Value> = rotations.iter().map(|found| self.render_rotation(found, &versions)).collect();
        self.tell_of_keys(context, &permit, each.len(), json!({ "rotations": each })).await
    }

    /// One of them. An id that none can have is `None`.
    pub async fn rotation(&self, context: &OperationContext, id: Option<RotationId>) -> Result<Value, Error> {
        let permit = self.authorise_keys(context, Action::ReadKeys).await?;
        let found = self.found_rotation(context, &permit, id).await?;
        let versions = self.keys.tenant_key_versions(permit.tenant()).await?;
        self.tell_of_keys(context, &permit, 1, self.render_rotation(&found, &versions)).await
    }

    /// Whether the caller may have a key replaced; asked before the body is read.
    pub async fn authorise_rotation(&self, context: &OperationContext) -> Result<KeysPermit, Error> {
        self.authorise_keys(context, Action::Rotate).await
    }

    /// Has the key of a class replaced: `{"id","class","from","to"}`, durable on return; the service goes on with it by itself.
    /// Under an idempotency key that was used before, the answer is that of the first time.
    pub async fn request_rotation(
        &self,
        context: &OperationContext,
        permit: &KeysPermit,
        request: RotationRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<Opened, Error> {
        let claim = match key {
            Some(key) => Some(self.claim_rotation(context, permit, key, &request).await?),
            None => None,
        };
        if let Some(claim) = &claim
            && let Some(asked) = self.rotated_before(context, permit, claim).await?
        {
            return Ok(asked);
        }
        let Some((from, to)) = self.succession(permit, request.class).await? else {
            self.put_on_record(about(context, permit, Outcome::failed("nothing_to_rotate"))).await?;
            return Err(Error::NothingToRotate);
        };
        let keys = Succession { tenant: permit.tenant(), class: request.class, from, to };
        let id = RotationId::from_uuid(uuid_v7(self.clock(), self.random())?);
        let RotationRequest { reason, reference, .. } = request;
        let new = NewRotation { id, keys, reason, reference, by: context.actor.identity.client.to_string() };
        let draft = about(context, permit, Outcome::success_as(reason.as_str()));
        let entry = self.audit.outbox_entry(&of_rotation(draft, &keys, id, &new.reference));
        let entry = entry.map_err(|_| Error::Unavailable(Part::Randomness))?;
        let now = self.clock.now();
        let stored = entry
            .commit_with(async |bytes| self.records.request_rotation(&new, claim.as_ref(), bytes, now).await);
        match (stored.await, &claim) {
            (Ok(_), _) => {
                self.rotating.asked();
                tracing::warn!(tenant = %keys.tenant, %id, class = keys.class.as_str(), "rotation.requested");
                Ok(Opened { answer: asked(id, &keys), is_repeated: false })
            }
            // The same request was faster.
            (Err(StorageError::Claimed), Some(claim)) => {
                let asked = self.rotated_before(context, permit, claim).await?;
                asked.ok_or(Error::Internal("a request was done and is not known"))
            }
            (Err(StorageError::Conflict), _) => {
                self.put_on_record(about(context, permit, Outcome::failed("rotation_open"))).await?;
                Err(Error::RotationOpen)
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Approves that the old key of a rotation, which somebody else had replaced, is destroyed. An id that none can have is
    /// `None`.
    pub async fn approve_rotation(
        &self,
        context: &OperationContext,
        id: Option<RotationId>,
    ) -> Result<(), Error> {
        let permit = self.authorise_keys(context, Action::ApproveDestruction).await?;
        let found = self.found_rotation(context, &permit, id).await?;
        let draft =
            |outcome| of_rotation(about(context, &permit, outcome), &found.keys, found.id, &found.reference);
        let (by, now) = (&*context.actor.identity.client, self.clock.now());
        let rewrapped_by = now.plus_seconds(-i64::from(self.rotated_key_backup_days) * DAY_SECONDS);
        let mut refused = refusal(&found, by, rewrapped_by);
        // Whatever is on record: nothing may need it now.
        if refused.is_none() && self.keys.is_needed(&found.keys).await? {
            refused = Some((Outcome::failed("key_in_use"), Error::KeyInUse));
        }
        if let Some((outcome, error)) = refused {
            self.put_on_record(draft(outcome)).await?;
            return Err(error);
        }
        let entry = self.audit.outbox_entry(&draft(Outcome::SUCCESS));
        let entry = entry.map_err(|_| Error::Unavailable(Part::Randomness))?;
        let (of, times) = ((permit.tenant(), found.id), (now, rewrapped_by));
        let stored =
            entry.commit_with(async |bytes| self.records.approve_rotation(of, by, times, bytes).await);
        match stored.await {
            Ok(_) => {
                self.rotating.asked();
                tracing::warn!(tenant = %permit.tenant(), id = %found.id, "rotation.approved");
                Ok(())
            }
            // Somebody was faster.
            Err(StorageError::Stale) => {
                self.put_on_record(draft(Outcome::failed("approved_already"))).await?;
                Err(Error::ApprovedAlready)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The key in force, and the number of the next; `None` where there is none to be replaced.
    async fn succession(
        &self,
        permit: &KeysPermit,
        class: DataClass,
    ) -> Result<Option<(KeyId, KeyId)>, Error> {
        let (active, highest) = self.keys.key_in_force(permit.tenant(), class).await?;
        let Some((active, highest)) = active.zip(highest) else { return Ok(None) };
        let next = KeyId::from_u64(highest.as_u64().saturating_add(1));
        Ok(Some((active, next.ok_or(Error::Internal("keys have no numbers left"))?)))
    }

    async fn claim_rotation(
        &self,
        context: &OperationContext,
        permit: &KeysPermit,
        key: &IdempotencyKey,
        request: &RotationRequest,
    ) -> Result<Claim, Error> {
        let RotationRequest { class, reason, reference } = request;
        let words = [class.as_str(), reason.as_str(), reference.as_str()].map(str::as_bytes);
        let digest = |root: &TenantKey| BodyMac::of_words(root, "request_rotation", &words);
        self.claim_of(context, permit.tenant(), key, digest).await
    }

    /// The answer of the first time, if the request is that of the first time. That it was told again is on record.
    async fn rotated_before(
        &self,
        context: &OperationContext,
        permit: &KeysPermit,
        claim: &Claim,
    ) -> Result<Option<Opened>, Error> {
        let draft = |outcome| about(context, permit, outcome);
        let Some(done) = self.done_before(permit.tenant(), claim, draft).await? else { return Ok(None) };
        let id = only_id(&done, RotationId::parse)?;
        let found = self.records.rotation(permit.tenant(), id).await?.ok_or(LOST)?;
        let draft = draft(Outcome::success_as("repeated"));
        let draft = of_rotation(draft, &found.keys, found.id, &found.reference);
        self.tell_again(asked(found.id, &found.keys), draft).await
    }

    async fn found_rotation(
        &self,
        context: &OperationContext,
        permit: &KeysPermit,
        id: Option<RotationId>,
    ) -> Result<FoundRotation, Error> {
        let found = match id {
            Some(id) => self.records.rotation(permit.tenant(), id).await?,
            None => None,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        self.put_on_record(about(context, permit, Outcome::failed("record_not_found"))).await?;
        Err(Error::NotFound)
    }

    async fn tell_of_keys(
        &self,
        context: &OperationContext,
        permit: &KeysPermit,
        shown: usize,
        answer: Value,
    ) -> Result<Value, Error> {
        let answer = Withheld::new(answer);
        let receipt = self.commit(about(context, permit, Outcome::SUCCESS).count(count(shown))).await?;
        Ok(answer.release(&receipt))
    }

    fn render_rotation(&self, found: &FoundRotation, versions: &[TenantKeyVersion]) -> Value {
        let keys = &found.keys;
        let of = |id: KeyId| versions.iter().find(|key| key.class == keys.class && key.key_id == id);
        let rewrapped = found
            .rewrapped
            .map_or_else(|| of(keys.to).map_or(0, |key| key.rewrapped), |(_, rewrapped)| rewrapped);
        let mut rotation = json!({
            "id": found.id.to_string(),
            "class": keys.class.as_str(),
            "from": keys.from.as_u64(),
            "to": keys.to.as_u64(),
            "state": state(found),
            "reason": found.reason.as_str(),
            "reference": found.reference.as_str(),
            "requested_by": found.requested_by,
            "requested_at": found.requested_at.to_rfc3339(),
            "rewrapped": rewrapped,
            "left": of(keys.from).map_or(0, |key| key.wraps),
        });
        let Some(members) = rotation.as_object_mut() else { return rotation };
        let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
        if let Some(at) = found.began_at {
            put("began_at", json!(at.to_rfc3339()));
        }
        if let Some((at, _)) = found.rewrapped {
            let from = at.plus_seconds(i64::from(self.rotated_key_backup_days) * DAY_SECONDS);
            put("rewrapped_at", json!(at.to_rfc3339()));
            put("destroyable_from", json!(from.to_rfc3339()));
        }
        if let Some((by, at)) = &found.approved {
            put("approved_by", json!(by));
            put("approved_at", json!(at.to_rfc3339()));
        }
        if let Some(at) = found.destroyed_at {
            put("destroyed_at", json!(at.to_rfc3339()));
        }
        rotation
    }
}

/// Why the old key's end does not wait for this custodian's approval, if so; the database decides again.
fn refusal(found: &FoundRotation, by: &str, rewrapped_by: Timestamp) -> Option<(Outcome, Error)> {
    if found.requested_by == by {
        Some((Outcome::refused("approve_own"), Error::ApproveOwn))
    } else if found.approved.is_some() {
        Some((Outcome::failed("approved_already"), Error::ApprovedAlready))
    } else if found.rewrapped.is_none() {
        Some((Outcome::failed("key_in_use"), Error::KeyInUse))
    } else if found.rewrapped.is_some_and(|(at, _)| at > rewrapped_by) {
        Some((Outcome::failed("key_too_young"), Error::KeyTooYoung))
    } else {
        None
    }
}

const fn state(found: &FoundRotation) -> &'static str {
    match found {
        FoundRotation { destroyed_at: Some(_), .. } => "destroyed",
        FoundRotation { approved: Some(_), .. } => "destroying",
        FoundRotation { rewrapped: Some(_), .. } => "rewrapped",
        FoundRotation { began_at: Some(_), .. } => "rewrapping",
        _ => "requested",
    }
}

fn about(context: &OperationContext, permit: &KeysPermit, outcome: Outcome) -> EntryDraft {
    let act = super::authorise::act_of(permit.action());
    EntryDraft::of_request(context, act, outcome).policies(permit.policies())
}

fn of_rotation(draft: EntryDraft, keys: &Succession, id: RotationId, reference: &Reference) -> EntryDraft {
    let key = |id| KeyObject::new(KeyLevel::Tenant, keys.class, id);
    draft.key(key(keys.from)).key(key(keys.to)).rotation(id, reference.clone())
}

fn asked(id: RotationId, keys: &Succession) -> Value {
    let Succession { class, from, to, .. } = keys;
    json!({ "id": id.to_string(), "class": class.as_str(), "from": from.as_u64(), "to": to.as_u64() })
}

fn render_key(key: &TenantKeyVersion, now: Timestamp) -> Value {
    let (state, since) = if key.is_active {
        ("active", key.created_at)
    } else {
        ("retiring", key.retired_at.unwrap_or(key.created_at))
    };
    let age = now.as_seconds().saturating_sub(key.created_at.as_seconds()).max(0);
    json!({
        "id": key.key_id.as_u64(),
        "state": state,
        "since": since.to_rfc3339(),
        "created_at": key.created_at.to_rfc3339(),
        "age_days": age / DAY_SECONDS,
        "wraps": key.wraps,
    })
}
