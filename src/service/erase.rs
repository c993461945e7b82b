//! Erasing a person: asked for by one, approved by another, shown with its certificate. What follows the approval is
//! `erasing`'s.

use serde_json::json;

use super::break_glass::digest;
use super::claim::only_id;
use super::create_many::count;
use super::{Error, Opened, Part, Service};
use crate::audit::{EntryDraft, Outcome, Withheld};
use crate::crypto::erasure::ErasureAsked;
use crate::crypto::keyed_hash::tags_equal;
use crate::crypto::request::BodyMac;
use crate::crypto::{SealError, TenantKey};
use crate::domain::action::Action;
use crate::domain::break_glass::Reference;
use crate::domain::clock::Timestamp;
use crate::domain::context::OperationContext;
use crate::domain::erasure::ErasureReason;
use crate::domain::id::{ErasureId, KeyOwner, SubjectId, uuid_v7};
use crate::domain::idempotency::IdempotencyKey;
use crate::policy::SubjectPermit;
use crate::storage::{Claim, ErasedBy, FoundErasure, NewErasure, StorageError};

/// How long a request waits for somebody who approves it.
const LAPSES_AFTER_SECONDS: i64 = 7 * 24 * 3_600;
/// Those that a list shows.
const MOST_LISTED: i64 = 500;

/// What somebody asks for.
pub struct ErasureRequest {
    pub reason: ErasureReason,
    pub reference: Reference,
}

impl Service {
    /// Whether the caller may ask for an erasure of the subject; asked before the body is read. An id that no subject can have
    /// is `None`.
    pub async fn authorise_erasure(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
    ) -> Result<SubjectPermit, Error> {
        self.authorise_subject(context, Action::Erase, subject).await
    }

    /// Asks for an erasure, which changes nothing before somebody else approves it: `{"id","lapses_at"}`, durable on return;
    /// under a key that was used before, the answer is that of the first time.
    pub async fn request_erasure(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        subject: Option<SubjectId>,
        request: ErasureRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<Opened, Error> {
        let Some(subject) = subject else { return Err(self.no_such_erasure(context, permit, None).await) };
        let now = self.clock.now();
        let new = self.new_erasure(context, permit, (subject, request), now).await?;
        let (id, reason, lapses_at) = (new.id, new.reason, new.lapses_at);
        let claim = match key {
            Some(key) => Some(self.claim_erasure(context, permit, key, &new).await?),
            None => None,
        };
        if let Some(claim) = &claim
            && let Some(asked) = self.asked_before(context, permit, claim, &new).await?
        {
            return Ok(asked);
        }
        let draft = about(context, permit, subject, Outcome::success_as(reason.as_str()));
        let entry = self.audit.outbox_entry(&draft.erasure(id, new.reference.clone()));
        let entry = entry.map_err(|_| Error::Unavailable(Part::Randomness))?;
        let stored = entry.commit_with(async |bytes| {
            self.records.request_erasure(permit.tenant(), &new, claim.as_ref(), bytes, now).await
        });
        match (stored.await, &claim) {
            (Ok(_), _) => {
                tracing::warn!(tenant = %permit.tenant(), %id, reason = reason.as_str(), "erasure.requested");
                Ok(Opened { answer: asked(id, lapses_at), is_repeated: false })
            }
            // The same request was faster.
            (Err(StorageError::Claimed), Some(claim)) => {
                let asked = self.asked_before(context, permit, claim, &new).await?;
                asked.ok_or(Error::Internal("a request was done and is not known"))
            }
            (Err(StorageError::Stale), _) => Err(self.no_such_erasure(context, permit, Some(subject)).await),
            (Err(StorageError::Held), _) => {
                self.put_on_record(about(context, permit, subject, Outcome::failed("subject_held"))).await?;
                Err(Error::SubjectHeld)
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// A request that can be told from a row that somebody else has put in.
    async fn new_erasure(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        (subject, ErasureRequest { reason, reference }): (SubjectId, ErasureRequest),
        now: Timestamp,
    ) -> Result<NewErasure, Error> {
        let by = who(context)?;
        let id = ErasureId::from_uuid(uuid_v7(self.clock(), self.random())?);
        let lapses_at = now.plus_seconds(LAPSES_AFTER_SECONDS);
        let asked = ErasureAsked { erasure: id, subject, requester_sha256: by.person_sha256, lapses_at };
        let root = self.keys.request_root(permit.tenant()).await?;
        let mac = asked.request_mac(&root).map_err(no_digest)?;
        Ok(NewErasure { id, subject, reason, reference, by, lapses_at, mac, root: root.id() })
    }

    /// The digest of an approval by this person, of a request that is as somebody has asked.
    async fn approval_mac(
        &self,
        permit: &SubjectPermit,
        found: &FoundErasure,
        by: &ErasedBy,
    ) -> Result<[u8; 32], Error> {
        let root = self.keys.request_root_of(permit.tenant(), found.root).await?;
        if !tags_equal(&found.asked.request_mac(&root).map_err(no_digest)?, &found.mac) {
            return Err(Error::Tampered);
        }
        found.asked.approval_mac(&root, &by.person_sha256).map_err(no_digest)
    }

    async fn claim_erasure(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        key: &IdempotencyKey,
        new: &NewErasure,
    ) -> Result<Claim, Error> {
        let (reason, reference) = (new.reason.as_str().as_bytes(), new.reference.as_str().as_bytes());
        let words: [&[u8]; 3] = [new.subject.as_uuid().as_bytes(), reason, reference];
        let digest = |root: &TenantKey| BodyMac::of_words(root, "request_erasure", &words);
        self.claim_of(context, permit.tenant(), key, digest).await
    }

    /// The answer of the first time, if the request is that of the first time. That it was told again is on record.
    async fn asked_before(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        claim: &Claim,
        new: &NewErasure,
    ) -> Result<Option<Opened>, Error> {
        let draft = |outcome| about(context, permit, new.subject, outcome);
        let Some(done) = self.done_before(permit.tenant(), claim, draft).await? else { return Ok(None) };
        let id = only_id(&done, ErasureId::parse)?;
        let draft = draft(Outcome::success_as("repeated")).erasure(id, new.reference.clone());
        self.tell_again(asked(id, done.at.plus_seconds(LAPSES_AFTER_SECONDS)), draft).await
    }

    /// Approves what somebody else asked for. On return nothing of the subject opens any more and nothing is written for it,
    /// on any instance; the keys follow. Ids that none can have are `None`.
    pub async fn approve_erasure(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
        id: Option<ErasureId>,
    ) -> Result<(), Error> {
        let permit = self.authorise_subject(context, Action::Approve, subject).await?;
        let permit = &permit;
        let found = match (subject, id) {
            (Some(subject), Some(id)) => self.records.erasure(permit.tenant(), subject, id).await?,
            _ => None,
        };
        let (Some(subject), Some(found)) = (subject, found) else {
            return Err(self.no_such_erasure(context, permit, subject).await);
        };
        let by = who(context)?;
        let draft =
            |outcome| about(context, permit, subject, outcome).erasure(found.id, found.reference.clone());
        let now = self.clock.now();
        if let Some((outcome, error)) = refusal(&found, &by, now) {
            self.put_on_record(draft(outcome)).await?;
            return Err(error);
        }
        let mac = match self.approval_mac(permit, &found, &by).await {
            Err(Error::Tampered) => {
                tracing::error!(tenant = %permit.tenant(), id = %found.id, "erasure.not_asked_for");
                self.put_on_record(draft(Outcome::failed("record_unreadable"))).await?;
                return Err(Error::Tampered);
            }
            mac => mac?,
        };
        let entry = self.audit.outbox_entry(&draft(Outcome::SUCCESS));
        let entry = entry.map_err(|_| Error::Unavailable(Part::Randomness))?;
        let (of, id) = ((permit.tenant(), subject), found.id);
        let stored =
            entry.commit_with(async |bytes| self.records.approve_erasure(of, id, &by, mac, bytes, now).await);
        let (code, error) = match stored.await {
            Ok(_) => {
                self.keys.forget(permit.tenant(), &KeyOwner::Subject(subject));
                self.erasing.asked();
                tracing::warn!(tenant = %permit.tenant(), %id, "erasure.approved");
                return Ok(());
            }
            Err(StorageError::Held) => ("subject_held", Error::SubjectHeld),
            // Somebody was faster, with this erasure or with another of the same person.
            Err(StorageError::Stale) => ("approved_already", Error::ApprovedAlready),
            Err(error) => return Err(error.into()),
        };
        self.put_on_record(draft(Outcome::failed(code))).await?;
        Err(error)
    }

    /// The erasures of a subject, the newest first, with the certificate of the one that is finished. The entry is durable
    /// before this returns.
    pub async fn erasures(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
    ) -> Result<serde_json::Value, Error> {
        let permit = self.authorise_subject(context, Action::ReadErasure, subject).await?;
        let found = match subject {
            Some(subject) => self.records.erasures(permit.tenant(), subject, MOST_LISTED).await?,
            None => None,
        };
        let (Some(subject), Some(found)) = (subject, found) else {
            return Err(self.no_such_erasure(context, &permit, subject).await);
        };
        let draft = about(context, &permit, subject, Outcome::SUCCESS).count(count(found.len()));
        let now = self.clock.now();
        let each: Vec<serde_json::Value> = found.iter().map(|found| render(found, now)).collect();
        let answer = Withheld::new(json!({ "erasures": each }));
        let receipt = self.commit(draft).await?;
        Ok(answer.release(&receipt))
    }

    async fn no_such_erasure(
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

/// Whoever it is must be known, and known for a role: policy asks for both. A client by itself is not told apart from whoever uses
/// it, and whose token brings no role is anybody: one person can have the tokens of two.
fn who(context: &OperationContext) -> Result<ErasedBy, Error> {
    let person = context.actor.person().filter(|_| !context.actor.person_roles().is_empty());
    let person = person.ok_or(Error::Internal("an erasure by nobody"))?;
    Ok(ErasedBy { client: context.actor.identity.client.to_string(), person_sha256: digest(person) })
}

pub(super) fn no_digest(_: SealError) -> Error {
    Error::Internal("the digest of an erasure failed")
}

/// Why it does not wait for this person's approval, if so; the database decides again, under a lock.
fn refusal(found: &FoundErasure, by: &ErasedBy, now: Timestamp) -> Option<(Outcome, Error)> {
    if found.asked.requester_sha256 == by.person_sha256 {
        Some((Outcome::refused("approve_own"), Error::ApproveOwn))
    } else if found.approved.is_some() {
        Some((Outcome::failed("approved_already"), Error::ApprovedAlready))
    } else if found.asked.lapses_at <= now {
        Some((Outcome::failed("erasure_lapsed"), Error::ErasureLapsed))
    } else {
        None
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

fn asked(id: ErasureId, lapses_at: Timestamp) -> serde_json::Value {
    json!({ "id": id.to_string(), "lapses_at": lapses_at.to_rfc3339() })
}

fn render(found: &FoundErasure, now: Timestamp) -> serde_json::Value {
    let state = match (&found.approved, &found.erased) {
        (_, Some(_)) => "erased",
        (Some(_), None) => "erasing",
        (None, None) if found.asked.lapses_at <= now => "lapsed",
        (None, None) => "requested",
    };
    let mut erasure = json!({
        "id": found.id.to_string(),
        "state": state,
        "reason": found.reason.as_str(),
        "reference": found.reference.as_str(),
        "requested_by": found.requested_by,
        "requested_at": found.requested_at.to_rfc3339(),
        "lapses_at": found.asked.lapses_at.to_rfc3339(),
    });
    let Some(members) = erasure.as_object_mut() else { return erasure };
    if let Some((by, at)) = &found.approved {
        members.insert("approved_by".to_owned(), json!(by));
        members.insert("approved_at".to_owned(), json!(at.to_rfc3339()));
    }
    if let Some((at, certificate)) = &found.erased {
        members.insert("erased_at".to_owned(), json!(at.to_rfc3339()));
        members.insert("certificate".to_owned(), json!(certificate));
    }
    erasure
}
