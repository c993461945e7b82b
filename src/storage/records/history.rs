//! Older versions: which there are, and one of them whole.

use super::{FoundRecord, RecordStore, StorageError, column, found, time, version, version_columns};
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, EntryId, RecordId, RecordVersion, TenantId};

/// One version of a record, without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundVersion {
    pub version: RecordVersion,
    /// When it was stored.
    pub at: Timestamp,
    /// The entry of the audit log that was committed with it.
    pub entry: EntryId,
}

impl RecordStore {
    /// The versions of a record below `before`, newest first, at most `limit`; empty if the record is deleted, expired,
    /// or its subject is being erased.
    pub async fn versions(
        &self,
        tenant: TenantId,
        collection: &CollectionName,
        record: &RecordId,
        before: Option<RecordVersion>,
        limit: i64,
    ) -> Result<Vec<FoundVersion>, StorageError> {
        const SQL: &str = "/* storage::records::versions */ \
            WITH current AS ( \
                SELECT r.version, r.updated_at, r.audit_entry_id FROM record r \
                LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
                WHERE r.tenant_id = $1 AND r.collection = $2 AND r.record_id = $3 AND NOT r.deleted \
                  AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
                  AND (r.subject_id IS NULL OR s.state = 'active')) \
            SELECT version, updated_at, audit_entry_id FROM current WHERE version < $4 \
            UNION ALL \
            (SELECT h.version, h.updated_at, h.audit_entry_id FROM record_history h \
             WHERE h.tenant_id = $1 AND h.collection = $2 AND h.record_id = $3 AND h.version < $4 \
               AND EXISTS (SELECT FROM current) \
             ORDER BY h.version DESC LIMIT $5) \
            ORDER BY 1 DESC LIMIT $5";
        let before = before.map_or(i64::MAX, |version| i64::from(version.get()));
        let rows = self
            .database
            .run("records::versions", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                    [tenant.as_uuid(), &collection.as_str(), &record.as_str(), &before, &limit];
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let read = |row: &tokio_postgres::Row| {
            let entry = EntryId::from_uuid(column(row, 2, "entry")?);
            Ok(FoundVersion { version: version(row, 0)?, at: time(row, 1)?, entry })
        };
        rows.iter().map(read).collect()
    }

    /// One version of a record, old or current, under the same conditions as [`Self::find`].
    pub async fn find_version(
        &self,
        tenant: TenantId,
        collection: &CollectionName,
        record: &RecordId,
        wanted: RecordVersion,
    ) -> Result<Option<FoundRecord>, StorageError> {
        const SQL: &str = concat!(
            "/* storage::records::find_version */ \
             WITH current AS ( \
                 SELECT c.version FROM record c \
                 LEFT JOIN subject s ON s.tenant_id = c.tenant_id AND s.subject_id = c.subject_id \
                 WHERE c.tenant_id = $1 AND c.collection = $2 AND c.record_id = $3 AND NOT c.deleted \
                   AND (c.expires_at IS NULL OR c.expires_at > now() OR s.holds > 0)), \
             r AS ( \
                 SELECT version, subject_id, seal_headers, sealed_values, created_at, updated_at FROM record \
                 WHERE tenant_id = $1 AND collection = $2 AND record_id = $3 AND version = $4 \
                 UNION ALL \
                 SELECT version, subject_id, seal_headers, sealed_values, created_at, updated_at FROM record_history \
                 WHERE tenant_id = $1 AND collection = $2 AND record_id = $3 AND version = $4 AND NOT deleted) \
             SELECT ",
            version_columns!(),
            " FROM r LEFT JOIN subject s ON s.tenant_id = $1 AND s.subject_id = r.subject_id \
             WHERE EXISTS (SELECT FROM current) AND (r.subject_id IS NULL OR s.state = 'active') LIMIT 1"
        );
        let row = self
            .database
            .run("records::find_version", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let number = i64::from(wanted.get());
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [tenant.as_uuid(), &collection.as_str(), &record.as_str(), &number];
                Ok(client.query_opt(&statement, &parameters).await?)
            })
            .await?;
        row.map(|row| found(&row, tenant, collection, record)).transpose()
    }
}
