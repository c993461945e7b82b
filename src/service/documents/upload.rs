//! Uploads: a document arrives in pieces of any size, over any number of requests, and becomes part of its record with the
//! last one. What is stored on the way is whole chunks, sealed; a request that breaks off loses less than 64 KiB of what
//! it sent.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::super::create::names;
use super::super::open::key_owner;
use super::super::update::next_place;
use super::super::{Error, Part as DownPart, Service};
use super::{DocumentField, Permitted, bytes_of, last_part};
use crate::crypto::SubjectKey;
use crate::crypto::file::{
    CHUNK_BYTES, FilePlace, Part, SealedPart, StoredPart, headers_sha256, open_part, part_buffer, seal_part,
};
use crate::crypto::{PlainField, SealError};
use crate::domain::action::Action;
use crate::domain::clock::Timestamp;
use crate::domain::context::OperationContext;
use crate::domain::id::{FileId, RecordVersion, SubjectId, uuid_v7};
use crate::domain::value::{DocumentLabel, DocumentReference};
use crate::keys::KeyError;
use crate::storage::{FoundUpload, StorageError};

/// How long an upload may take.
const LIFE: Duration = Duration::from_hours(24);
/// Parts in one statement: half a megabyte.
const AT_ONCE: usize = 8;
/// Attempts at a new version while others change the record.
const ATTEMPTS: u32 = 8;

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadState {
    /// Bytes that are stored for good.
    pub received: u64,
    pub bytes: u64,
    /// The record's version that has the document, once it is whole.
    pub completed: Option<RecordVersion>,
}

impl Service {
    /// Begins an upload. On return its label and its entry are durable.
    pub async fn start_upload(
        &self,
        context: &OperationContext,
        named: DocumentField<'_>,
        label: DocumentLabel,
        most_bytes: u64,
    ) -> Result<FileId, Error> {
        let permitted = self.permit_document(context, named, Action::Update).await?;
        if label.bytes() > most_bytes {
            return Err(Error::DocumentTooLarge);
        }
        let found = self.current(context, &permitted.permit, &permitted.record, None).await?;
        let subject = found.stored.place.subject;
        let key = self.document_key(context, &permitted, subject).await?;
        let file = FileId::from_uuid(uuid_v7(self.clock(), self.random())?);
        let place = permitted.place(subject, file);
        let mut text = part_buffer();
        text.extend_from_slice(&label.to_canonical());
        let sealed = self.seal_part(&place, Part::Label, text, &key)?;
        let draft = Self::upload_entry(context, &permitted, subject, "upload_started");
        let entry = self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(DownPart::Randomness))?;
        let now = self.clock.now();
        let life = i64::try_from(LIFE.as_micros()).unwrap_or(i64::MAX);
        let until = Timestamp::from_micros(now.as_micros().saturating_add(life));
        let stored = entry
            .commit_with(async |bytes| self.records.start_upload(&place, &sealed, (now, until), bytes).await);
        match stored.await {
            Ok(_) => Ok(file),
            // The record went between the look and the write.
            Err(StorageError::Stale) => {
                let (permit, record) = (&permitted.permit, &permitted.record);
                Err(self.note_unopened(context, permit, record, Error::NotFound).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How far an upload has come; on record, since it says that the record is there.
    pub async fn upload_state(
        &self,
        context: &OperationContext,
        named: DocumentField<'_>,
        file: FileId,
    ) -> Result<UploadState, Error> {
        let permitted = self.permit_document(context, named, Action::Update).await?;
        let (found, label) = self.find_upload(context, &permitted, file).await?;
        let draft = Self::upload_entry(context, &permitted, found.subject, "upload_asked");
        self.put_on_record(draft).await?;
        Ok(state(&found, &label))
    }

    /// Ends an upload that is under way; what it has stored is removed.
    pub async fn cancel_upload(
        &self,
        context: &OperationContext,
        named: DocumentField<'_>,
        file: FileId,
    ) -> Result<(), Error> {
        let permitted = self.permit_document(context, named, Action::Update).await?;
        let (found, _) = self.find_upload(context, &permitted, file).await?;
        let draft = Self::upload_entry(context, &permitted, found.subject, "upload_cancelled");
        let entry = self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(DownPart::Randomness))?;
        let tenant = permitted.permit.tenant();
        match entry.commit_with(async |bytes| self.records.cancel_upload(tenant, file, bytes).await).await {
            Ok(_) => {
                self.uploads_ended.asked();
                Ok(())
            }
            // It is whole: it belongs to the record, whose new version removes it from sight.
            Err(StorageError::Stale) => Err(self.note_no_upload(context, &permitted).await),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on with an upload at `offset`. [`Error::UploadOffset`] when that is not where it stands.
    pub async fn append_upload<'s>(
        &'s self,
        context: &'s OperationContext,
        named: DocumentField<'_>,
        file: FileId,
        offset: u64,
    ) -> Result<Append<'s>, Error> {
        let permitted = self.permit_document(context, named, Action::Update).await?;
        let (found, label) = self.find_upload(context, &permitted, file).await?;
        if found.completed.is_some() || state(&found, &label).received != offset {
            return Err(self.note_offset(context, &permitted).await);
        }
        let key = self.document_key(context, &permitted, found.subject).await?;
        let last = last_part(label.bytes()).ok_or(Error::Tampered)?;
        let place = permitted.place(found.subject, file);
        Ok(Append {
            service: self,
            context,
            permitted,
            place,
            label,
            key,
            held: found.parts,
            last,
            buffer: part_buffer(),
            batch: Vec::with_capacity(AT_ONCE),
            is_on_record: false,
        })
    }

    async fn note_offset(&self, context: &OperationContext, permitted: &Permitted) -> Error {
        self.note_upload_failed(context, permitted, "upload_offset", Error::UploadOffset).await
    }

    async fn find_upload(
        &self,
        context: &OperationContext,
        permitted: &Permitted,
        file: FileId,
    ) -> Result<(FoundUpload, DocumentLabel), Error> {
        let permit = &permitted.permit;
        let at = (permit.collection().name(), &permitted.record, permitted.field_id());
        let Some((found, stored)) = self.records.find_upload(permit.tenant(), at, file).await? else {
            return Err(self.note_no_upload(context, permitted).await);
        };
        let place = permitted.place(found.subject, file);
        match self.open_label(permitted, &place, stored).await {
            Err(error) => Err(self.note_unopened(context, permit, &permitted.record, error).await),
            Ok(label) => Ok((found, label)),
        }
    }

    async fn open_label(
        &self,
        permitted: &Permitted,
        place: &FilePlace,
        stored: StoredPart,
    ) -> Result<DocumentLabel, Error> {
        let id = stored.key_id().ok_or(Error::Tampered)?;
        let key = self.part_key(permitted, place.subject, id).await?;
        let opened = open_part(place, Part::Label, stored, &key).map_err(|_| Error::Tampered)?;
        #[expect(clippy::disallowed_methods, reason = "reads the label of an upload")]
        let text = opened.expose();
        DocumentLabel::from_canonical(text).ok_or(Error::Tampered)
    }

    async fn document_key(
        &self,
        context: &OperationContext,
        permitted: &Permitted,
        subject: Option<SubjectId>,
    ) -> Result<Arc<SubjectKey>, Error> {
        let permit = &permitted.permit;
        let owner = key_owner(permit.collection(), &permitted.record, subject)?;
        match self.keys.sealing_key(permit.tenant(), &owner, permitted.field.class).await {
            Ok(key) => Ok(key),
            Err(KeyError::Erased) => {
                let error = self.without_key(permit, &permitted.record).await;
                Err(self.note_unopened(context, permit, &permitted.record, error).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn seal_part(
        &self,
        place: &FilePlace,
        part: Part,
        plaintext: Zeroizing<Vec<u8>>,
        key: &SubjectKey,
    ) -> Result<SealedPart, Error> {
        seal_part(place, part, plaintext, key, self.random()).map_err(|error| match error {
            SealError::NoRandomness => Error::Unavailable(DownPart::Randomness),
            _ => Error::Internal("sealing refused a part of a document"),
        })
    }
}

fn state(found: &FoundUpload, label: &DocumentLabel) -> UploadState {
    let bytes = label.bytes();
    let received = if found.completed.is_some() { bytes } else { bytes_of(found.parts) };
    UploadState { received, bytes, completed: found.completed }
}

/// One request's worth of an upload. It takes pieces of any size and stores whole chunks as they fill; dropped, it
/// leaves what was stored.
pub struct Append<'s> {
    service: &'s Service,
    context: &'s OperationContext,
    permitted: Permitted,
    place: FilePlace,
    label: DocumentLabel,
    key: Arc<SubjectKey>,
    /// Parts that are durable.
    held: u32,
    last: u32,
    buffer: Zeroizing<Vec<u8>>,
    batch: Vec<SealedPart>,
    is_on_record: bool,
}

impl Append<'_> {
    /// Takes the next bytes. [`Error::DocumentTooLarge`] when they are more than the upload announced; all that came
    /// before stays.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.buffer.len() == self.room() {
                if self.number() == self.last {
                    return Err(Error::DocumentTooLarge);
                }
                self.seal_chunk(Part::Chunk(self.number()))?;
                if self.batch.len() == AT_ONCE {
                    self.store().await?;
                }
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.room() - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Stores what came: with the last byte, the document becomes part of the record. When the request ended as the client
    /// meant it to and nothing could be kept, [`Error::UploadTooLittle`].
    pub async fn finish(mut self, is_clean: bool) -> Result<UploadState, Error> {
        let bytes = self.label.bytes();
        if self.buffer.len() == self.room() {
            if self.number() == self.last {
                self.seal_chunk(Part::Last(self.last))?;
                let version = self.complete().await?;
                return Ok(UploadState { received: bytes, bytes, completed: Some(version) });
            }
            self.seal_chunk(Part::Chunk(self.number()))?;
        }
        if !self.batch.is_empty() {
            self.store().await?;
        } else if !self.is_on_record {
            let (code, error) = if is_clean {
                ("upload_too_little", Error::UploadTooLittle)
            } else {
                ("body_incomplete", Error::BodyIncomplete)
            };
            return Err(self.service.note_upload_failed(self.context, &self.permitted, code, error).await);
        }
        Ok(UploadState { received: bytes_of(self.held), bytes, completed: None })
    }

    /// The part that the buffer is filled for.
    fn number(&self) -> u32 {
        self.held.saturating_add(u32::try_from(self.batch.len()).unwrap_or(u32::MAX))
    }

    /// How many bytes that part takes.
    fn room(&self) -> usize {
        if self.number() < self.last {
            return CHUNK_BYTES;
        }
        let rest = self.label.bytes().saturating_sub(bytes_of(self.last));
        usize::try_from(rest).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)
    }

    fn seal_chunk(&mut self, part: Part) -> Result<(), Error> {
        let plaintext = std::mem::replace(&mut self.buffer, part_buffer());
        let sealed = self.service.seal_part(&self.place, part, plaintext, &self.key)?;
        self.batch.push(sealed);
        Ok(())
    }

    /// Makes the batch durable; the first of a request together with its entry.
    async fn store(&mut self) -> Result<(), Error> {
        let service = self.service;
        let (tenant, file, held) = (self.place.tenant, self.place.file, self.held);
        let batch = std::mem::take(&mut self.batch);
        let stored = if self.is_on_record {
            service.records.append_parts(tenant, file, held, &batch, None).await
        } else {
            let draft =
                Service::upload_entry(self.context, &self.permitted, self.place.subject, "upload_received");
            let entry = service.audit.outbox_entry(&draft);
            let entry = entry.map_err(|_| Error::Unavailable(DownPart::Randomness))?;
            let records = &service.records;
            entry
                .commit_with(async |bytes| {
                    records.append_parts(tenant, file, held, &batch, Some(bytes)).await
                })
                .await
                .map(drop)
        };
        match stored {
            Ok(()) => {
                self.held = held.saturating_add(u32::try_from(batch.len()).unwrap_or(u32::MAX));
                self.is_on_record = true;
                Ok(())
            }
            // Another request is going on with the same upload.
            Err(StorageError::Stale | StorageError::Conflict) => {
                Err(service.note_offset(self.context, &self.permitted).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The last parts and the record's new version, together. Whatever else of the record changes meanwhile stays: the
    /// upload replaces one field.
    async fn complete(&mut self) -> Result<RecordVersion, Error> {
        let (service, context) = (self.service, self.context);
        let headers_sha256 = self.headers_sha256().await?;
        // Bringing it may have taken minutes.
        self.permitted = self.permitted_now().await?;
        let permit = &self.permitted.permit;
        for _ in 0..ATTEMPTS {
            let found = service.current(context, permit, &self.permitted.record, None).await?;
            let fields = vec![self.field(headers_sha256)?];
            let place = next_place(found.stored.place.clone())?;
            let fields = service.with_kept(context, permit, &found, fields, &[]).await?;
            let keys = match service.resealing_keys(permit, &place, &fields).await {
                Ok(keys) => keys,
                Err(error) => return Err(service.note_unopened(context, permit, &place.record, error).await),
            };
            let sealed = service.seal(place, &fields, &keys)?;
            drop(fields);
            let written = names(permit.collection(), [self.permitted.field_id()].into_iter());
            let entry = service.outbox_entry(context, permit, &sealed, written)?;
            let (at, parts) = (service.clock.now(), (self.place.file, self.held, self.batch.as_slice()));
            let stored = entry
                .commit_with(async |bytes| service.records.complete_upload(&sealed, parts, bytes, at).await);
            match stored.await {
                Ok(_) => return Ok(sealed.place().version),
                Err(StorageError::Stale) if self.is_where_it_was().await? => {}
                Err(StorageError::Stale | StorageError::Conflict) => {
                    return Err(service.note_offset(context, &self.permitted).await);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(service.note_stale(context, permit, &self.permitted.record).await)
    }

    /// What policy says at the end.
    async fn permitted_now(&self) -> Result<Permitted, Error> {
        let Permitted { permit, record, field } = &self.permitted;
        let named = DocumentField {
            collection: permit.collection(),
            record: record.clone(),
            field: field.name.as_str(),
        };
        self.service.permit_document(self.context, named, Action::Update).await
    }

    /// Whether the upload still stands where this request found it, so that it was the record that changed. An error when its
    /// time is over.
    async fn is_where_it_was(&self) -> Result<bool, Error> {
        let (found, _) = self.service.find_upload(self.context, &self.permitted, self.place.file).await?;
        Ok(found.completed.is_none() && found.parts == self.held)
    }

    async fn headers_sha256(&self) -> Result<[u8; 32], Error> {
        let records = &self.service.records;
        let stored = records.part_headers(self.place.tenant, self.place.file).await?;
        if u32::try_from(stored.len()) != Ok(self.held) {
            return Err(self.service.note_offset(self.context, &self.permitted).await);
        }
        Ok(headers_sha256(stored.iter().chain(self.batch.iter().map(SealedPart::header))))
    }

    fn field(&self, headers_sha256: [u8; 32]) -> Result<PlainField, Error> {
        let label = DocumentLabel::from_canonical(&self.label.to_canonical());
        let label = label.ok_or(Error::Internal("a label does not read as it was written"))?;
        let reference = DocumentReference { file: self.place.file, headers_sha256, label };
        let field = &self.permitted.field;
        Ok(PlainField {
            id: field.id,
            type_id: field.field_type.type_id(),
            class: field.class,
            value: reference.to_canonical(),
        })
    }
}
