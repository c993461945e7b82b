//! Documents: files that belong to a field of a record. They come by uploads that can be resumed and go out as streams;
//! no file is ever whole in memory. The format of their parts is `crypto::file`.

mod download;
mod removal;
mod upload;

pub use download::{DocumentAnswer, DocumentStream};
pub(super) use removal::Ended;
pub use upload::{Append, UploadState};

use std::sync::Arc;

use super::{Error, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject};
use crate::crypto::file::{CHUNK_BYTES, FilePlace};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{FieldId, FileId, RecordId, SubjectId};
use crate::domain::value::FieldType;
use crate::policy::{Collection, Field, Permit, View};

/// Which field of which record a request is about, as its path says.
pub struct DocumentField<'r> {
    pub collection: &'r Arc<Collection>,
    pub record: RecordId,
    /// As it was sent.
    pub field: &'r str,
}

/// A document's field of a record that policy gives.
struct Permitted {
    permit: Permit,
    record: RecordId,
    field: Field,
}

impl Permitted {
    /// Names and classes for the log.
    fn object(&self) -> RecordObject {
        RecordObject::new(self.permit.collection().name().clone())
            .id(self.record.clone())
            .class(self.field.class)
            .fields(vec![self.field.name.clone()])
    }

    fn place(&self, subject: Option<SubjectId>, file: FileId) -> FilePlace {
        FilePlace {
            tenant: self.permit.tenant(),
            collection: self.permit.collection().name().clone(),
            record: self.record.clone(),
            subject,
            field: self.field.id,
            file,
        }
    }

    const fn field_id(&self) -> FieldId {
        self.field.id
    }
}

impl Service {
    /// Asks policy for a document's field, in plain. A field that holds no documents has none, for everybody.
    async fn permit_document(
        &self,
        context: &OperationContext,
        named: DocumentField<'_>,
        action: Action,
    ) -> Result<Permitted, Error> {
        let DocumentField { collection, record, field } = named;
        let permit = self.authorise(context, collection, action, Some(&record)).await?;
        let held = permit.collection().field(field);
        let Some(field) = held.filter(|field| field.field_type == FieldType::Document).cloned() else {
            return Err(self.note_no_document(context, &permit, &record).await);
        };
        if permit.view_of(field.id) != View::Plain {
            return Err(self.refuse_fields(context, &permit, Some(&record), vec![field.name]).await);
        }
        Ok(Permitted { permit, record, field })
    }

    async fn note_no_document(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: &RecordId,
    ) -> Error {
        self.note_failure(context, permit, Some(record), "document_not_found", Error::DocumentNotFound).await
    }

    /// The answer for a path whose record or upload cannot exist: policy and the log first, as for every other.
    pub async fn impossible_upload(&self, context: &OperationContext, named: DocumentField<'_>) -> Error {
        match self.permit_document(context, named, Action::Update).await {
            Ok(permitted) => self.note_no_upload(context, &permitted).await,
            Err(error) => error,
        }
    }

    async fn note_no_upload(&self, context: &OperationContext, permitted: &Permitted) -> Error {
        let code = "upload_not_found";
        self.note_failure(context, &permitted.permit, Some(&permitted.record), code, Error::UploadNotFound)
            .await
    }

    /// An entry about an upload under way; what became of it is its code.
    fn upload_entry(
        context: &OperationContext,
        permitted: &Permitted,
        subject: Option<SubjectId>,
        code: &'static str,
    ) -> EntryDraft {
        let draft = EntryDraft::of_request(context, Act::DocumentUpload, Outcome::success_as(code))
            .policies(permitted.permit.policies())
            .record(permitted.object());
        match subject {
            Some(subject) => draft.subject(subject),
            None => draft,
        }
    }

    /// An entry about an upload that was allowed and did not go on.
    async fn note_upload_failed(
        &self,
        context: &OperationContext,
        permitted: &Permitted,
        code: &'static str,
        error: Error,
    ) -> Error {
        let draft = EntryDraft::of_request(context, Act::DocumentUpload, Outcome::failed(code))
            .policies(permitted.permit.policies())
            .record(permitted.object());
        match self.put_on_record(draft).await {
            Ok(()) => error,
            Err(unavailable) => unavailable,
        }
    }
}

/// The number of a file's last part: the label is 0, the chunks are numbered from 1.
fn last_part(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.max(1).div_ceil(CHUNK_BYTES as u64)).ok()
}

/// Bytes of a file that its first `parts` parts hold, the label among them, while the last is not there.
fn bytes_of(parts: u32) -> u64 {
    u64::from(parts.saturating_sub(1)) * CHUNK_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted() {
        for (bytes, last) in [(1, 1), (65_535, 1), (65_536, 1), (65_537, 2), (104_857_600, 1_600)] {
            assert_eq!(last_part(bytes), Some(last), "{bytes}");
            // All but the last are whole, and the last holds something.
            assert!(bytes_of(last) < bytes && bytes <= bytes_of(last + 1));
        }
        assert_eq!(last_part(u64::MAX), None);
    }
}
