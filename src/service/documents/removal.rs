//! Uploads whose time is over: their parts go in small steps, and then they are struck off, on record.

use tokio::sync::Notify;

use super::super::{Error, Part, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject};
use crate::storage::{ExpiredUpload, StorageError};

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
        self.gate.pass_without_keys()?;
        let mut removed = 0;
        for upload in &self.records.expired_uploads(UPLOADS).await? {
            if upload.was_completed {
                // The file belongs to its record; only the note about the upload goes.
                self.records.forget_completed_upload(upload.tenant, upload.file).await?;
            } else if !self.remove_upload(upload).await? {
                continue;
            }
            removed += 1;
        }
        Ok(removed)
    }

    /// Whether it is gone by this instance.
    async fn remove_upload(&self, upload: &ExpiredUpload) -> Result<bool, Error> {
        let (tenant, file) = (upload.tenant, upload.file);
        while self.records.remove_parts(tenant, file, PARTS).await? > 0 {}
        let entry = self.audit.outbox_entry(&removed_entry(upload));
        let entry = entry.map_err(|_| Error::Unavailable(Part::Randomness))?;
        match entry.commit_with(async |bytes| self.records.forget_upload(tenant, file, bytes).await).await {
            Ok(_) => Ok(true),
            // It was completed in its last moment, or another instance removes it.
            Err(StorageError::Stale) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn removed_entry(upload: &ExpiredUpload) -> EntryDraft {
    let object = RecordObject::new(upload.collection.clone()).id(upload.record.clone());
    EntryDraft::of_service(Act::DocumentUpload, Outcome::success_as("upload_removed"))
        .tenant(upload.tenant)
        .record(object)
}
