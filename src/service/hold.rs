//! Legal holds on what is kept of a person: placed, shown, released. What they keep back is kept back where it would
//! happen: in the statement that ends a record, and in those that ask whether one has expired.

use serde_json::json;

use super::claim::only_id;
use super::create_many::count;
use super::{Error, Opened, Part, Service};
use crate::audit::{Act, EntryDraft, Outcome, Withheld};
use crate::crypto::TenantKey;
use crate::crypto::request::BodyMac;
use crate::domain::action::Action;
use crate::domain::break_glass::Reference;
use crate::domain::clock::Timestamp;
use crate::domain::context::OperationContext;
use crate::domain::hold::HoldReason;
use crate::domain::id::{HoldId, SubjectId, uuid_v7};
use crate::domain::idempotency::IdempotencyKey;
use crate::policy::SubjectPermit;
use crate::storage::{Claim, FoundHold, NewHold, StorageError};

/// Those that a list shows.
const MOST_LISTED: i64 = 500;

/// What somebody asks for.
pub struct HoldRequest {
    pub reason: HoldReason,
    pub reference: Reference,
}

impl Service {
    /// Whether the caller may place a hold on the subject; asked before the body is read. An id that no subject can have is
    /// `None`.
    pub async fn authorise_hold(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
    ) -> Result<SubjectPermit, Error> {
        self.authorise_subject(context, Action::Hold, subject).await
    }

    /// Places a hold: from the answer on no record of the subject is deleted and none expires, on no instance, until it is
    /// released. `{"id","placed_at"}`, durable on return; under a key that was used before, the answer is that of the first
    /// time, and nothing is placed.
    pub async fn place_hold(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        subject: Option<SubjectId>,
        request: HoldRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<Opened, Error> {
        let Some(subject) = subject else { return Err(self.no_such_hold(context, permit, None).await) };
        let HoldRequest { reason, reference } = request;
        let id = HoldId::from_uuid(uuid_v7(self.clock(), self.random())?);
        let by = context.actor.identity.client.to_string();
        let new = NewHold { id, subject, reason, reference, by };
        let claim = match key {
            Some(key) => Some(self.claim_hold(context, permit, key, &new).await?),
            None => None,
        };
        if let Some(claim) = &claim
            && let Some(placed) = self.placed_before(context, permit, claim, &new).await?
        {
            return Ok(placed);
        }
        let draft = about(context, permit, subject, Outcome::success_as(reason.as_str()));
        let entry = self.audit.outbox_entry(&draft.subject_hold(id, new.reference.clone()));
        let entry = entry.map_err(|_| Error::Unavailable(Part::Randomness))?;
        let now = self.clock.now();
        let stored = entry.commit_with(async |bytes| {
            self.records.place_hold(permit.tenant(), &new, claim.as_ref(), bytes, now).await
        });
        match (stored.await, &claim) {
            (Ok(_), _) => {
                let (tenant, reason) = (permit.tenant(), reason.as_str());
                tracing::info!(%tenant, %id, reason, "hold.placed");
                Ok(Opened { answer: placed(id, now), is_repeated: false })
            }
            // The same request was faster.
            (Err(StorageError::Claimed), Some(claim)) => {
                let placed = self.placed_before(context, permit, claim, &new).await?;
                placed.ok_or(Error::Internal("a request was done and is not known"))
            }
            (Err(StorageError::Stale), _) => Err(self.no_such_hold(context, permit, Some(subject)).await),
            (Err(error), _) => Err(error.into()),
        }
    }

    async fn claim_hold(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        key: &IdempotencyKey,
        new: &NewHold,
    ) -> Result<Claim, Error> {
        let (reason, reference) = (new.reason.as_str().as_bytes(), new.reference.as_str().as_bytes());
        let words: [&[u8]; 3] = [new.subject.as_uuid().as_bytes(), reason, reference];
        let digest = |root: &TenantKey| BodyMac::of_words(root, "place_hold", &words);
        self.claim_of(context, permit.tenant(), key, digest).await
    }

    /// The answer of the first time, if the request is that of the first time. That it was told again is on record.
    async fn placed_before(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        claim: &Claim,
        new: &NewHold,
    ) -> Result<Option<Opened>, Error> {
        let draft = |outcome| about(context, permit, new.subject, outcome);
        let Some(done) = self.done_before(permit.tenant(), claim, draft).await? else { return Ok(None) };
        let id = only_id(&done, HoldId::parse)?;
        let draft = draft(Outcome::success_as("repeated")).subject_hold(id, new.reference.clone());
        self.tell_again(placed(id, done.at), draft).await
    }

    /// The holds on a subject, those in force first. The entry is durable before this returns.
    pub async fn holds(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
    ) -> Result<serde_json::Value, Error> {
        let permit = self.authorise_subject(context, Action::ReadHold, subject).await?;
        let found = match subject {
            Some(subject) => self.records.holds(permit.tenant(), subject, MOST_LISTED).await?,
            None => None,
        };
        let (Some(subject), Some(found)) = (subject, found) else {
            return Err(self.no_such_hold(context, &permit, subject).await);
        };
        let draft = about(context, &permit, subject, Outcome::SUCCESS).count(count(found.len()));
        let answer = Withheld::new(json!({ "holds": found.iter().map(render).collect::<Vec<_>>() }));
        let receipt = self.commit(draft).await?;
        Ok(answer.release(&receipt))
    }

    /// Releases a hold. Durable on return. Ids that none can have are `None`.
    pub async fn release_hold(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
        id: Option<HoldId>,
    ) -> Result<(), Error> {
        let permit = self.authorise_subject(context, Action::Hold, subject).await?;
        let permit = &permit;
        let found = match (subject, id) {
            (Some(subject), Some(id)) => self.records.hold(permit.tenant(), subject, id).await?,
            _ => None,
        };
        let (Some(subject), Some(found)) = (subject, found) else {
            return Err(self.no_such_hold(context, permit, subject).await);
        };
        let FoundHold { id, reference, .. } = found;
        let draft = |outcome| release(context, permit, subject, outcome).subject_hold(id, reference.clone());
        let done = async || {
            self.put_on_record(draft(Outcome::failed("hold_released"))).await?;
            Err(Error::HoldReleased)
        };
        if found.released.is_some() {
            return done().await;
        }
        let entry = self.audit.outbox_entry(&draft(Outcome::SUCCESS));
        let entry = entry.map_err(|_| Error::Unavailable(Part::Randomness))?;
        let (tenant, by, now) = (permit.tenant(), &*context.actor.identity.client, self.clock.now());
        let stored = entry.commit_with(async |bytes| {
            self.records.release_hold((tenant, subject), id, by, bytes, now).await
        });
        match stored.await {
            Ok(_) => {
                tracing::info!(%tenant, %id, "hold.released");
                Ok(())
            }
            // Somebody was faster.
            Err(StorageError::Stale) => done().await,
            Err(error) => Err(error.into()),
        }
    }

    async fn no_such_hold(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        subject: Option<SubjectId>,
    ) -> Error {
        let act = super::authorise::act_of(permit.action());
        let draft = EntryDraft::of_request(context, act, Outcome::failed("record_not_found"));
        let draft = subject.into_iter().fold(draft.policies(permit.policies()), EntryDraft::subject);
        match self.put_on_record(draft).await {
            Ok(()) => Error::NotFound,
            Err(error) => error,
        }
    }
}

fn about(
    context: &OperationContext,
    permit: &SubjectPermit,
    subject: SubjectId,
    outcome: Outcome,
) -> EntryDraft {
    let act = super::authorise::act_of(permit.action());
    EntryDraft::of_request(context, act, outcome).policies(permit.policies()).subject(subject)
}

fn release(
    context: &OperationContext,
    permit: &SubjectPermit,
    subject: SubjectId,
    outcome: Outcome,
) -> EntryDraft {
    EntryDraft::of_request(context, Act::HoldRelease, outcome).policies(permit.policies()).subject(subject)
}

fn placed(id: HoldId, at: Timestamp) -> serde_json::Value {
    json!({ "id": id.to_string(), "placed_at": at.to_rfc3339() })
}

fn render(found: &FoundHold) -> serde_json::Value {
    let mut hold = json!({
        "id": found.id.to_string(),
        "reason": found.reason.as_str(),
        "reference": found.reference.as_str(),
        "placed_by": found.placed_by,
        "placed_at": found.placed_at.to_rfc3339(),
    });
    if let (Some((by, at)), Some(members)) = (&found.released, hold.as_object_mut()) {
        members.insert("released_by".to_owned(), json!(by));
        members.insert("released_at".to_owned(), json!(at.to_rfc3339()));
    }
    hold
}
