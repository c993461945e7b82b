//! Create many: records of one collection in one transaction, all or none; and any create under an idempotency key.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::authorise::act_of;
use super::claim::a_day_after;
use super::create::Draft;
use super::judge::NewPermits;
use super::{Created, Error, Part, Service, Written};
use crate::audit::{Act, EntryDraft, OutboxEntry, Outcome, RecordObject};
use crate::crypto::keyed_hash::tags_equal;
use crate::crypto::request::BodyMac;
use crate::crypto::{SealedRecord, TenantKey};
use crate::domain::context::OperationContext;
use crate::domain::id::{RecordId, SubjectId, uuid_v7};
use crate::domain::idempotency::IdempotencyKey;
use crate::policy::{Collection, ParseMode, Permit, Prospect, SubjectRule};
use crate::storage::{Claim, Claimed, StorageError, SubjectRow};

/// Records of one request at most.
pub const MOST_RECORDS: usize = 500;
/// Records of one request whose keys are looked up or made at the same time: as many as there are connections.
const KEYS_AT_ONCE: usize = 16;

/// A record of a batch as it was sent.
pub struct NewItem<'a> {
    pub subject: Option<SubjectId>,
    pub fields: &'a RawValue,
}

/// Which request the records came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Together {
    /// A single create, under a key.
    One,
    /// A batch, which has an entry for itself.
    Batch,
}

impl Together {
    /// In the digest of the body: the same records sent in another way are another request.
    const fn word(self) -> &'static str {
        match self {
            Self::One => "create",
            Self::Batch => "create_many",
        }
    }
}

impl Service {
    /// How many records one request may hold: each leaves an entry, and the request one more.
    pub(super) fn most_records(&self) -> usize {
        MOST_RECORDS.min(self.audit.largest_request().saturating_sub(1))
    }

    /// Stores records, all or none; what is answered is as for [`Self::create`], in the order of `items`. Where policy asks
    /// for a relationship, it must be there to each of those that they are about.
    pub async fn create_many(
        &self,
        context: &OperationContext,
        (collection, prospect): (&Arc<Collection>, Prospect),
        items: &[NewItem<'_>],
        key: Option<&IdempotencyKey>,
    ) -> Result<Created, Error> {
        if !(1..=self.most_records()).contains(&items.len()) {
            return Err(Error::BatchSize);
        }
        let subjects: Vec<Option<SubjectId>> = items.iter().map(|item| item.subject).collect();
        let permits = &self.judge_new(context, collection, prospect, &subjects).await?;
        let drafts = self.drafts(context, permits, items).await?;
        match self.store_together(context, permits, drafts, key, Together::Batch).await {
            Err(Error::SubjectUnknown) => {
                let (code, permit) = ("subject_unknown", permits.any()?);
                Err(self.note_failure(context, permit, None, code, Error::SubjectUnknown).await)
            }
            other => other,
        }
    }

    /// Every fault of every record at once, so that the caller need not find them one by one.
    async fn drafts(
        &self,
        context: &OperationContext,
        permits: &NewPermits,
        items: &[NewItem<'_>],
    ) -> Result<Vec<Draft>, Error> {
        let collection = permits.any()?.collection();
        let (mut parsed, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
        for (place, item) in items.iter().enumerate() {
            match collection.parse_fields(item.fields, ParseMode::Create) {
                Ok(fields) => parsed.push((item.subject, fields)),
                Err(found) => faults.push((place, found)),
            }
        }
        if !faults.is_empty() {
            return Err(Error::InvalidRecords(faults));
        }
        let mut drafts = Vec::with_capacity(parsed.len());
        for (place, (subject, fields)) in parsed.into_iter().enumerate() {
            self.check_writable(context, permits.of(place)?, None, &fields).await?;
            drafts.push(Draft::of(collection, subject, fields)?);
        }
        Ok(drafts)
    }

    /// Stores the drafts with their entries, and the key if there is one, in one transaction.
    pub(super) async fn store_together(
        &self,
        context: &OperationContext,
        permits: &NewPermits,
        drafts: Vec<Draft>,
        key: Option<&IdempotencyKey>,
        together: Together,
    ) -> Result<Created, Error> {
        let permit = permits.any()?;
        let claim = match key {
            Some(key) => Some(self.claim(context, permit, key, &drafts, together).await?),
            None => None,
        };
        if let Some(claim) = &claim
            && let Some(done) =
                self.records.claimed(permit.tenant(), &claim.key_mac, self.clock.now()).await?
        {
            return self.answer_again(context, permit, claim, &done, &drafts, together).await;
        }
        let row = self.look_at_subjects(permit, &drafts).await?;
        let sealed = self.seal_all(permit, row, &drafts).await?;
        let at = self.clock.now();
        let claim = claim.map(|claim| Claim { expires_at: a_day_after(at), ..claim });
        let entries = self.entries(context, permits, &sealed, &drafts, together)?;
        let stored = OutboxEntry::commit_all_with(entries, async |bytes| {
            self.records.insert_together(&sealed, row, claim.as_ref(), bytes, at).await
        });
        match (stored.await, &claim) {
            (Ok(((), receipt)), _) => {
                let written = sealed.iter().map(|each| Written::confirmed(each.place(), at, &receipt));
                Ok(Created { records: written.collect(), is_repeated: false })
            }
            // The same request at the same time: the other one was first.
            (Err(StorageError::Claimed), Some(claim)) => {
                let done = self.records.claimed(permit.tenant(), &claim.key_mac, at).await?;
                let done = done.ok_or(Error::Unavailable(Part::Data))?;
                self.answer_again(context, permit, claim, &done, &drafts, together).await
            }
            (Err(StorageError::Stale), _) => Err(Error::SubjectUnknown),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// What is kept of the request: keyed digests, of the values as they would be sealed.
    async fn claim(
        &self,
        context: &OperationContext,
        permit: &Permit,
        key: &IdempotencyKey,
        drafts: &[Draft],
        together: Together,
    ) -> Result<Claim, Error> {
        let digest = |root: &TenantKey| {
            let mut body = BodyMac::begin(root, together.word(), permit.collection().name())?;
            for draft in drafts {
                body.record(draft.subject, &draft.fields);
            }
            Ok(body.finish())
        };
        self.claim_of(context, permit.tenant(), key, digest).await
    }

    /// The answer of the first time, if the body is that of the first time. The caller was authorised again, and that it
    /// was told again is on record.
    async fn answer_again(
        &self,
        context: &OperationContext,
        permit: &Permit,
        claim: &Claim,
        done: &Claimed,
        drafts: &[Draft],
        together: Together,
    ) -> Result<Created, Error> {
        if !tags_equal(&claim.body_mac, &done.body_mac) || done.records.len() != drafts.len() {
            let code = "idempotency_key_reused";
            return Err(self.note_failure(context, permit, None, code, Error::KeyReused).await);
        }
        let act = match together {
            Together::One => act_of(permit.action()),
            Together::Batch => Act::RecordBatch,
        };
        let name = permit.collection().name();
        let object = RecordObject::new(name.clone());
        let entry =
            EntryDraft::of_request(context, act, Outcome::success_as("repeated")).policies(permit.policies());
        let entry = match (together, done.records.first()) {
            (Together::One, Some(record)) => entry.record(object.id(record.clone())),
            _ => entry.record(object).count(count(done.records.len())),
        };
        let receipt = self.commit(entry).await?;
        let records = done.records.iter().zip(drafts).map(|(record, draft)| {
            let subject = subject_again(permit, record, draft)?;
            Ok(Written::again(name, record, subject, done.at, &receipt))
        });
        Ok(Created { records: records.collect::<Result<_, Error>>()?, is_repeated: true })
    }

    /// Whether the records bring their subjects; if not, all that are named must be there, asked before keys are made.
    async fn look_at_subjects(&self, permit: &Permit, drafts: &[Draft]) -> Result<SubjectRow, Error> {
        if permit.collection().subject() == SubjectRule::OwnsSubject {
            return Ok(SubjectRow::New);
        }
        let mut named: Vec<SubjectId> = drafts.iter().filter_map(|draft| draft.subject).collect();
        named.sort_unstable();
        named.dedup();
        let active = self.records.active_subjects(permit.tenant(), &named).await?;
        if active.len() == named.len() { Ok(SubjectRow::Existing) } else { Err(Error::SubjectUnknown) }
    }

    async fn seal_all(
        &self,
        permit: &Permit,
        row: SubjectRow,
        drafts: &[Draft],
    ) -> Result<Vec<SealedRecord>, Error> {
        let ids: Vec<Uuid> =
            drafts.iter().map(|_| uuid_v7(self.clock(), self.random())).collect::<Result<_, _>>()?;
        let mut sealings = Vec::with_capacity(drafts.len());
        for (id, draft) in ids.into_iter().zip(drafts) {
            let subject = draft.subject.unwrap_or_else(|| SubjectId::from_uuid(id));
            sealings.push(self.seal_new(permit, id, subject, row, &draft.fields));
        }
        stream::iter(sealings).buffered(KEYS_AT_ONCE).try_collect().await
    }

    /// One entry for each record, and one for a batch.
    fn entries(
        &self,
        context: &OperationContext,
        permits: &NewPermits,
        sealed: &[SealedRecord],
        drafts: &[Draft],
        together: Together,
    ) -> Result<Vec<OutboxEntry>, Error> {
        let permit = permits.any()?;
        let each = sealed.iter().zip(drafts).enumerate();
        let mut entries = each
            .map(|(place, (sealed, draft))| {
                self.outbox_entry(context, permits.of(place)?, sealed, draft.written.clone())
            })
            .collect::<Result<Vec<_>, _>>()?;
        if together == Together::Batch {
            let draft = EntryDraft::of_request(context, Act::RecordBatch, Outcome::SUCCESS)
                .policies(permit.policies())
                .record(RecordObject::new(permit.collection().name().clone()))
                .count(count(sealed.len()));
            let entry = self.audit.outbox_entry(&draft);
            entries.push(entry.map_err(|_| Error::Unavailable(Part::Randomness))?);
        }
        Ok(entries)
    }
}

pub(super) fn count(records: usize) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX)
}

/// The subject that the first answer named: the record's own id, or the one that was sent both times.
fn subject_again(permit: &Permit, record: &RecordId, draft: &Draft) -> Result<SubjectId, Error> {
    match permit.collection().subject() {
        SubjectRule::OwnsSubject => SubjectId::parse(record.as_str()),
        SubjectRule::RefersToSubject => draft.subject,
    }
    .ok_or(Error::Internal("a record that owns its subject has another id"))
}
