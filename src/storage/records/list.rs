//! Which records a collection holds: ids, versions and times, never what was sealed.

use super::{RecordStore, StorageError, column, time, version};
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, RecordId, RecordVersion, TenantId};

/// A record as a list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecord {
    pub record: RecordId,
    pub version: RecordVersion,
    pub updated_at: Timestamp,
}

impl RecordStore {
    /// The records after `after` in the order of their ids, at most `limit`: without those that are deleted, expired,
    /// or whose subject is being erased. An index scan from the cursor on, whatever came before it.
    pub async fn list(
        &self,
        tenant: TenantId,
        collection: &CollectionName,
        after: Option<&RecordId>,
        limit: i64,
    ) -> Result<Vec<ListedRecord>, StorageError> {
        const SQL: &str = "/* storage::records::list */ \
            SELECT r.record_id, r.version, r.updated_at FROM record r \
            LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
            WHERE r.tenant_id = $1 AND r.collection = $2 AND r.record_id > $3 AND NOT r.deleted \
              AND (r.expires_at IS NULL OR r.expires_at > now()) \
              AND (r.subject_id IS NULL OR s.state = 'active') \
            ORDER BY r.record_id LIMIT $4";
        let after = after.map_or("", RecordId::as_str);
        let rows = self
            .database
            .run("records::list", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [tenant.as_uuid(), &collection.as_str(), &after, &limit];
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let read = |row: &tokio_postgres::Row| {
            let record = RecordId::parse(column(row, 0, "record id")?);
            Ok(ListedRecord {
                record: record.ok_or(StorageError::Malformed("record id"))?,
                version: version(row, 1)?,
                updated_at: time(row, 2)?,
            })
        };
        rows.iter().map(read).collect()
    }
}
