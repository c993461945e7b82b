//! Uploads whose time is over: their parts go in small steps, and then they are struck off, on record.

use tokio::sync::Notify;

use super::super::{Error, Part, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject};
use crate::storage::ExpiredUpload;

/// Uploads in one round, and parts (64 KiB each) in one statement.
const UPLOADS: i64 = 16;
const PARTS: i64 = 32;

/// Wakes the worker when an upload was cancelled.
#[derive(Debug, Default)]
pub(in crate::service) struct Ended(Notify);

impl Ended {
    pub fn asked(&self) {
        self.0.notify_one();
    }
}

impl Service {
    /// Returns when an upload was cancelled.
    pub async fn upload_ended(&self) {
        self.uploads_ended.0.notified().await;
    }

    /// Removes some of the uploads whose time is over; how many.
    pub async fn remove_uploads(&self) -> Result<usize, Error> {
        let expired = self.records.expired_uploads(UPLOADS).await?;
        for upload in &expired {
            if upload.was_completed {
                // The file belongs to its record; only the note about the upload goes.
                self.records.forget_upload(upload.tenant, upload.file, None).await?;
                continue;
            }
            while self.records.remove_parts(upload.tenant, upload.file, PARTS).await? > 0 {}
            let entry = self.audit.outbox_entry(&removed_entry(upload));
            let entry = entry.map_err(|_| Error::Unavailable(Part::Randomness))?;
            let (tenant, file) = (upload.tenant, upload.file);
            entry
                .commit_with(async |bytes| self.records.forget_upload(tenant, file, Some(bytes)).await)
                .await?;
        }
        Ok(expired.len())
    }
}

fn removed_entry(upload: &ExpiredUpload) -> EntryDraft {
    let object = RecordObject::new(upload.collection.clone()).id(upload.record.clone());
    EntryDraft::of_service(Act::DocumentUpload, Outcome::success_as("upload_removed"))
        .tenant(upload.tenant)
        .record(object)
}
