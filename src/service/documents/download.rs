//! Reading a document: the entry first, then the file in chunks, each opened as it is sent.

use std::sync::Arc;

use bytes::Bytes;

use super::super::limits::Charge;
use super::super::open::{key_owner, wanted};
use super::super::{Error, Service};
use super::{DocumentField, Permitted, last_part};
use crate::audit::{Act, Committer, EntryDraft, Outcome, Withheld};
use crate::crypto::file::{FilePlace, Part, StoredPart, headers_sha256, open_part};
use crate::crypto::{HEADER_BYTES, SubjectKey, header_key_id};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{KeyId, RecordVersion, SubjectId};
use crate::domain::secret::SecretBytes;
use crate::domain::value::DocumentReference;
use crate::keys::KeyError;
use crate::storage::{FoundRecord, RecordStore};

/// Parts that are fetched together: a quarter of a megabyte.
const AT_ONCE: u32 = 4;

/// A document on its way out.
pub struct DocumentAnswer {
    pub version: RecordVersion,
    pub media_type: String,
    pub bytes: u64,
    pub stream: DocumentStream,
}

/// The chunks of a document, in order. Each is opened when it is asked for, and only if it is one whose header the
/// record's own seal vouches for.
pub struct DocumentStream {
    records: RecordStore,
    place: FilePlace,
    headers: Vec<[u8; HEADER_BYTES]>,
    keys: Vec<Arc<SubjectKey>>,
    fetched: std::collections::VecDeque<StoredPart>,
    next: u32,
    last: u32,
    audit: Committer,
    /// The entry of a document that was not sent to its end because a part of it is not what was sealed.
    unreadable: EntryDraft,
}

/// Wiped when the last reference to it is gone.
struct Chunk(SecretBytes);

impl AsRef<[u8]> for Chunk {
    #[expect(clippy::disallowed_methods, reason = "what the receipt released goes to the socket")]
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl DocumentStream {
    /// The next chunk; `None` after the last. After an error there is nothing more: what was sent is then a beginning of
    /// the document and nothing else.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.next > self.last {
            return None;
        }
        let chunk = self.open_next().await;
        if let Err(error) = &chunk {
            self.next = u32::MAX;
            tracing::error!(
                tenant = %self.place.tenant,
                collection = self.place.collection.as_str(),
                record = self.place.record.as_str(),
                error = %error,
                "document.cut"
            );
            if matches!(error, Error::Tampered)
                && let Err(error) = self.audit.submit(vec![self.unreadable.clone()]).await
            {
                tracing::warn!(error = %error, "audit.commit_failed");
            }
        }
        Some(chunk.map(|value| Bytes::from_owner(Chunk(value))))
    }

    async fn open_next(&mut self) -> Result<SecretBytes, Error> {
        if self.fetched.is_empty() {
            self.fetched = self.records.parts(&self.place, (self.next, AT_ONCE)).await?.into();
        }
        let Some(stored) = self.fetched.pop_front() else { return Err(self.why_none().await?) };
        let vouched = usize::try_from(self.next).ok().and_then(|at| self.headers.get(at));
        if vouched != Some(&stored.header) {
            return Err(Error::Tampered);
        }
        let key = stored.key_id().and_then(|id| self.keys.iter().find(|key| key.id() == id));
        let part = if self.next == self.last { Part::Last(self.next) } else { Part::Chunk(self.next) };
        let opened = open_part(&self.place, part, stored, key.ok_or(Error::Tampered)?);
        self.next = self.next.saturating_add(1);
        opened.map_err(|_| Error::Tampered)
    }

    /// A record that was deleted, or whose person is being erased, is gone; one that is there lacks a part.
    async fn why_none(&self) -> Result<Error, Error> {
        let FilePlace { tenant, collection, record, .. } = &self.place;
        let found = self.records.find(*tenant, collection, record).await?;
        Ok(if found.is_some() { Error::Tampered } else { Error::NotFound })
    }
}

impl Service {
    /// A record's document, of its current version or an older one. The entry is durable before this returns, and the
    /// first chunks have opened.
    pub async fn read_document(
        &self,
        context: &OperationContext,
        named: DocumentField<'_>,
        version: Option<RecordVersion>,
    ) -> Result<DocumentAnswer, Error> {
        if version.is_some() {
            self.authorise(context, named.collection, Action::History, Some(&named.record)).await?;
        }
        let place = (named.collection.as_ref(), Action::Read);
        let permitted = self.permit_document(context, named, Action::Read).await?;
        let charge = self.charge_records(context, place, Some(&permitted.record), 1).await?;
        let revealed = self.reveal_document(context, &permitted, version, &charge).await;
        charge.settle(revealed)
    }

    async fn reveal_document(
        &self,
        context: &OperationContext,
        permitted: &Permitted,
        version: Option<RecordVersion>,
        charge: &Charge,
    ) -> Result<DocumentAnswer, Error> {
        let (permit, record) = (&permitted.permit, &permitted.record);
        let found = self.find_or_note(context, permit, record, version).await?;
        let place = &found.stored.place;
        let draft = |outcome| {
            let draft = EntryDraft::of_request(context, Act::DocumentRead, outcome)
                .policies(permit.policies())
                .record(permitted.object().version(place.version));
            match place.subject {
                Some(subject) => draft.subject(subject),
                None => draft,
            }
        };
        let unreadable = draft(Outcome::failed("record_unreadable"));
        let (reference, stream) =
            match self.withheld_document(permitted, &found, unreadable.clone(), charge).await {
                Ok(Some(document)) => document,
                Ok(None) => return Err(self.note_no_document(context, permit, record).await),
                Err(Error::Tampered) => {
                    self.commit(unreadable).await?;
                    return Err(Error::Tampered);
                }
                Err(error) => return Err(self.note_unopened(context, permit, record, error).await),
            };
        let receipt = self.commit(draft(Outcome::SUCCESS)).await?;
        Ok(DocumentAnswer {
            version: place.version,
            media_type: reference.label.media_type().to_owned(),
            bytes: reference.label.bytes(),
            stream: stream.release(&receipt),
        })
    }

    /// What the record refers to, checked as a whole before a byte of it is opened: every part is there, and is the one
    /// that was sealed into the record.
    async fn withheld_document(
        &self,
        permitted: &Permitted,
        found: &FoundRecord,
        unreadable: EntryDraft,
        _charge: &Charge,
    ) -> Result<Option<(DocumentReference, Withheld<DocumentStream>)>, Error> {
        let permit = &permitted.permit;
        let opened = self.open_stored(permit, found, &[wanted(&permitted.field)]).await?;
        let Some(value) = opened.iter().find(|opened| opened.id == permitted.field_id()) else {
            return Ok(None);
        };
        #[expect(clippy::disallowed_methods, reason = "follows the reference to the file")]
        let reference = DocumentReference::from_canonical(value.value.expose()).ok_or(Error::Tampered)?;
        let headers = self.records.part_headers(permit.tenant(), reference.file).await?;
        let last = last_part(reference.label.bytes()).ok_or(Error::Tampered)?;
        let is_whole = u32::try_from(headers.len()) == Ok(last.saturating_add(1));
        if !is_whole {
            return Err(self.without_key(permit, &permitted.record).await);
        }
        if headers_sha256(&headers) != reference.headers_sha256 {
            return Err(Error::Tampered);
        }
        let subject = found.stored.place.subject;
        let mut ids: Vec<KeyId> =
            headers.iter().map(header_key_id).collect::<Option<_>>().ok_or(Error::Tampered)?;
        ids.sort_unstable();
        ids.dedup();
        let mut keys = Vec::with_capacity(ids.len());
        for id in ids {
            if !found.is_usable(permitted.field.class, id) {
                return Err(Error::Tampered);
            }
            keys.push(self.part_key(permitted, subject, id).await?);
        }
        let stream = DocumentStream {
            records: self.records.clone(),
            place: permitted.place(subject, reference.file),
            headers,
            keys,
            fetched: std::collections::VecDeque::new(),
            next: 1,
            last,
            audit: self.audit.clone(),
            unreadable,
        };
        Ok(Some((reference, Withheld::new(stream))))
    }

    /// The key that a part's header names.
    pub(super) async fn part_key(
        &self,
        permitted: &Permitted,
        subject: Option<SubjectId>,
        id: KeyId,
    ) -> Result<Arc<SubjectKey>, Error> {
        let permit = &permitted.permit;
        let owner = key_owner(permit.collection(), &permitted.record, subject)?;
        match self.keys.subject_key(permit.tenant(), &owner, permitted.field.class, id).await {
            Ok(key) => Ok(key),
            Err(KeyError::Missing) => Err(self.without_key(permit, &permitted.record).await),
            Err(KeyError::TooOld | KeyError::Unusable) => Err(Error::Tampered),
            Err(error) => Err(error.into()),
        }
    }
}
