//! Breaking the glass: opened by a person for themselves, listed and reviewed by somebody else. What is read under it is
//! decided as any other read, marked in its entry, and announced.

use serde_json::json;

use super::claim::{LOST, Opened, only_id};
use super::{Error, Part, Service};
use crate::audit::{Act, EntryDraft, OutboxEntry, Outcome, Withheld};
use crate::crypto::TenantKey;
use crate::crypto::digest::sha256_of_parts;
use crate::crypto::request::BodyMac;
use crate::domain::action::Action;
use crate::domain::break_glass::{BreakGlassReason, Reference, Verdict};
use crate::domain::clock::Timestamp;
use crate::domain::context::OperationContext;
use crate::domain::id::{BreakGlassId, SubjectId, uuid_v7};
use crate::domain::idempotency::IdempotencyKey;
use crate::domain::person::Person;
use crate::policy::SubjectPermit;
use crate::storage::{Claim, FoundBreakGlass, NewBreakGlass, StorageError};
use crate::telemetry::metrics;

/// Those that a list shows.
const MOST_LISTED: i64 = 500;

/// What somebody asks for.
pub struct BreakGlassRequest {
    pub reason: BreakGlassReason,
    pub reference: Reference,
    pub minutes: u32,
    pub subjects: Vec<SubjectId>,
}

impl Service {
    /// Whether the caller may break the glass, or look at what was broken; asked before the body is read.
    pub async fn authorise_break_glass(
        &self,
        context: &OperationContext,
        action: Action,
    ) -> Result<SubjectPermit, Error> {
        self.authorise_subject(context, action, None).await
    }

    /// Opens it for the person behind the caller and nobody else. Durable on return, on every instance; under a key that was
    /// used before, the answer is that of the first time, and nothing is opened.
    pub async fn open_break_glass(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        request: BreakGlassRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<Opened, Error> {
        let BreakGlassRequest { reason, reference, minutes, mut subjects } = request;
        subjects.sort_unstable();
        subjects.dedup();
        let bounds = self.policy.load().policy_set().limits().break_glass();
        let is_small =
            (1..=bounds.most_subjects).contains(&u32::try_from(subjects.len()).unwrap_or(u32::MAX));
        if !is_small || !(1..=bounds.most_minutes).contains(&minutes) {
            return Err(Error::BreakGlassBounds);
        }
        // Whoever it is must be known: policy asks for the person, and without one there is nobody to open it for.
        let person = context.actor.person().ok_or(Error::Internal("glass was broken by nobody"))?;
        let id = BreakGlassId::from_uuid(uuid_v7(self.clock(), self.random())?);
        let client = context.actor.identity.client.to_string();
        let new =
            NewBreakGlass { id, client, person_sha256: digest(person), reason, reference, minutes, subjects };
        let claim = match key {
            Some(key) => Some(self.claim_glass(context, permit, key, &new).await?),
            None => None,
        };
        if let Some(claim) = &claim
            && let Some(opened) = self.opened_before(context, permit, claim, minutes).await?
        {
            return Ok(opened);
        }
        let (entries, now) = (self.opening_entries(context, permit, &new)?, self.clock.now());
        let stored = OutboxEntry::commit_all_with(entries, async |bytes| {
            self.records.open_break_glass(permit.tenant(), &new, claim.as_ref(), bytes, now).await
        });
        match (stored.await, &claim) {
            (Ok((ends_at, _)), _) => {
                metrics::break_glass_opened();
                let (tenant, reason) = (permit.tenant(), reason.as_str());
                tracing::warn!(%tenant, %id, reason, minutes, subjects = new.subjects.len(), "break_glass.opened");
                Ok(Opened { answer: opened(id, ends_at), is_repeated: false })
            }
            // The same request was faster.
            (Err(StorageError::Claimed), Some(claim)) => {
                let opened = self.opened_before(context, permit, claim, minutes).await?;
                opened.ok_or(Error::Internal("a request was done and is not known"))
            }
            (Err(StorageError::Stale), _) => {
                let draft = entry(context, permit, Act::BreakGlassOpen, Outcome::failed("subject_unknown"));
                self.put_on_record(draft).await?;
                Err(Error::SubjectUnknown)
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    async fn claim_glass(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        key: &IdempotencyKey,
        new: &NewBreakGlass,
    ) -> Result<Claim, Error> {
        let minutes = new.minutes.to_be_bytes();
        let mut words: Vec<&[u8]> =
            vec![new.reason.as_str().as_bytes(), new.reference.as_str().as_bytes(), &minutes];
        words.extend(new.subjects.iter().map(|subject| subject.as_uuid().as_bytes().as_slice()));
        let digest = |root: &TenantKey| BodyMac::of_words(root, "open_break_glass", &words);
        self.claim_of(context, permit.tenant(), key, digest).await
    }

    /// The answer of the first time, if the request is that of the first time. That it was told again is on record.
    async fn opened_before(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        claim: &Claim,
        minutes: u32,
    ) -> Result<Option<Opened>, Error> {
        let draft = |outcome| entry(context, permit, Act::BreakGlassOpen, outcome);
        let Some(done) = self.done_before(permit.tenant(), claim, draft).await? else { return Ok(None) };
        let id = only_id(&done, BreakGlassId::parse)?;
        let found = self.records.break_glass(permit.tenant(), id).await?.ok_or(LOST)?;
        // As it was told then: a review may have ended it since.
        let ends_at = found.opened_at.plus_seconds(i64::from(minutes) * 60);
        self.tell_again(opened(id, ends_at), draft(Outcome::success_as("repeated")).break_glass(id)).await
    }

    fn opening_entries(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        new: &NewBreakGlass,
    ) -> Result<Vec<OutboxEntry>, Error> {
        let each = new.subjects.iter().map(|subject| {
            let outcome = Outcome::success_as(new.reason.as_str());
            let draft =
                entry(context, permit, Act::BreakGlassOpen, outcome).subject(*subject).break_glass(new.id);
            self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(Part::Randomness))
        });
        each.collect()
    }

    /// What waits for its review in the caller's tenant, the oldest first.
    pub async fn list_break_glass(&self, context: &OperationContext) -> Result<serde_json::Value, Error> {
        let permit = self.authorise_break_glass(context, Action::ReviewBreakGlass).await?;
        let found = self.records.unreviewed_break_glass(permit.tenant(), MOST_LISTED).await?;
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let draft = entry(context, &permit, Act::BreakGlassList, Outcome::SUCCESS).count(count);
        let answer = Withheld::new(json!({ "unreviewed": found.iter().map(render).collect::<Vec<_>>() }));
        let receipt = self.commit(draft).await?;
        Ok(answer.release(&receipt))
    }

    /// Reviews what somebody else opened, which ends it. An id that none can have is `None`.
    pub async fn review_break_glass(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        id: Option<BreakGlassId>,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let found = match id {
            Some(id) => self.records.break_glass(permit.tenant(), id).await?,
            None => None,
        };
        let draft = |outcome| entry(context, permit, Act::BreakGlassReview, outcome);
        let Some(found) = found else {
            self.put_on_record(draft(Outcome::failed("record_not_found"))).await?;
            return Err(Error::NotFound);
        };
        let draft = |outcome| draft(outcome).break_glass(found.id);
        if is_by(context, &found) {
            self.put_on_record(draft(Outcome::refused("review_own"))).await?;
            return Err(Error::ReviewOwn);
        }
        let done = async || {
            self.put_on_record(draft(Outcome::failed("reviewed_already"))).await?;
            Err(Error::ReviewedAlready)
        };
        if found.is_reviewed {
            return done().await;
        }
        let outbox = self.audit.outbox_entry(&draft(Outcome::success_as(verdict.as_str())));
        let outbox = outbox.map_err(|_| Error::Unavailable(Part::Randomness))?;
        let (tenant, id) = (permit.tenant(), found.id);
        let stored = outbox
            .commit_with(async |bytes| self.records.review_break_glass(tenant, id, verdict, bytes).await);
        match stored.await {
            Ok(_) => {
                tracing::info!(%tenant, %id, verdict = verdict.as_str(), "break_glass.reviewed");
                Ok(())
            }
            Err(StorageError::Stale) => done().await,
            Err(error) => Err(error.into()),
        }
    }

    /// Counts what has waited for its review for too long, in all tenants.
    pub async fn count_overdue_reviews(&self) -> Result<u64, Error> {
        let hours = self.policy.load().policy_set().limits().break_glass().review_within_hours;
        let overdue = self.records.overdue_break_glass(hours).await?;
        metrics::break_glass_overdue(overdue);
        Ok(overdue)
    }
}

/// Something is about to be seen that is seen under broken glass only: from here on every entry of the request says so.
pub(super) fn note_break_glass(context: &OperationContext, id: BreakGlassId) {
    // It is the same for all that one request does.
    let _ = context.break_glass.set(id);
    announce_break_glass(context, id);
}

/// Of a request about many records, whose entries say so each for itself.
pub(super) fn announce_break_glass(context: &OperationContext, id: BreakGlassId) {
    metrics::break_glass_used();
    let tenant = context.actor.identity.tenant;
    tracing::warn!(%tenant, %id, request = %context.request.id, "break_glass.used");
}

/// Of the person, as the database keeps it.
pub(super) fn digest(person: &Person) -> [u8; 32] {
    let length = |text: &str| (text.len() as u64).to_be_bytes();
    let (issuer, id) = (length(&person.issuer), length(&person.id));
    sha256_of_parts([&issuer, person.issuer.as_bytes(), &id, person.id.as_bytes()])
}

/// Whether the caller is who opened it, and with that the only one who could use it: that person, or their client without
/// anybody.
fn is_by(context: &OperationContext, found: &FoundBreakGlass) -> bool {
    match context.actor.person() {
        Some(person) => digest(person) == found.person_sha256,
        None => *context.actor.identity.client == *found.client,
    }
}

fn entry(context: &OperationContext, permit: &SubjectPermit, act: Act, outcome: Outcome) -> EntryDraft {
    EntryDraft::of_request(context, act, outcome).policies(permit.policies())
}

fn opened(id: BreakGlassId, ends_at: Timestamp) -> serde_json::Value {
    json!({ "id": id.to_string(), "ends_at": ends_at.to_rfc3339() })
}

fn render(found: &FoundBreakGlass) -> serde_json::Value {
    json!({
        "id": found.id.to_string(),
        "client": found.client,
        "reason": found.reason.as_str(),
        "reference": found.reference,
        "opened_at": found.opened_at.to_rfc3339(),
        "ends_at": found.ends_at.to_rfc3339(),
        "subjects": found.subjects.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
