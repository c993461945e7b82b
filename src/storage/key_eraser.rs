//! The end of a subject's keys in the key database, as the role that can do this and nothing else. Nothing here can read a
//! key.

use super::fitness::Weakness;
use super::pool::{Database, StorageError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{RecordId, SubjectId, TenantId};

/// Needs the role `strongroom_key_eraser`.
#[derive(Clone)]
pub struct KeyEraser {
    database: Database,
}

impl KeyEraser {
    pub const fn new(database: Database) -> Self {
        Self { database }
    }

    /// What is wrong with the key database as this role sees it.
    pub async fn weaknesses(&self, now: Timestamp) -> Result<Vec<Weakness>, StorageError> {
        self.database.weaknesses("key_eraser", now).await
    }

    /// Buries a subject, and those of these records of theirs that have keys of their own, and deletes all these keys;
    /// durable on return. An insert that began earlier may still bring a key in: call again once the key database's
    /// statement timeout has passed twice.
    pub async fn destroy_subject_keys(
        &self,
        tenant: TenantId,
        subject: SubjectId,
        records: &[RecordId],
    ) -> Result<(), StorageError> {
        const SQL: &str =
            "/* storage::key_eraser::destroy_subject_keys */ SELECT destroy_subject_keys($1, $2, $3)";
        let owners: Vec<&str> = records.iter().map(RecordId::as_str).collect();
        self.database
            .run("key_eraser::destroy_subject_keys", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                client.execute(&statement, &[tenant.as_uuid(), &subject.to_string(), &owners]).await?;
                Ok(())
            })
            .await
    }
}
