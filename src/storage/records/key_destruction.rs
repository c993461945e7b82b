//! Keys of deleted records that are still to be destroyed in the key database.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{RecordStore, StorageError, all_rows, column};
use crate::audit::OutboxBytes;
use crate::domain::id::{CollectionName, RecordId, SubjectId, TenantId};

/// A deleted record whose keys may still be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDestruction {
    pub tenant: TenantId,
    pub record: RecordId,
    pub collection: CollectionName,
    pub subject: Option<SubjectId>,
    /// The key database confirmed it once, long enough ago for the second time.
    pub was_confirmed: bool,
}

impl RecordStore {
    /// What is to be done now: records never confirmed, and those confirmed at least `settled` ago. At most `limit`; and
    /// whether there are others, perhaps only later. A row that does not read is in the service's log.
    pub async fn pending_destructions(
        &self,
        settled: Duration,
        limit: i64,
    ) -> Result<(Vec<PendingDestruction>, bool), StorageError> {
        const SQL: &str = "/* storage::records::pending_destructions */ \
            SELECT tenant_id, record_id, collection, subject_id, confirmed_at IS NOT NULL, \
                   confirmed_at IS NULL OR confirmed_at <= now() - make_interval(secs => $1) AS is_due \
            FROM key_destruction ORDER BY is_due DESC, requested_at LIMIT $2";
        let rows = self
            .database
            .run("records::pending_destructions", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[&settled.as_secs_f64(), &limit]).await?)
            })
            .await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            if column::<bool>(row, 5, "is due")? {
                // One that does not read was not written by this code, and must not hold back the others.
                match pending(row) {
                    Ok(pending) => due.push(pending),
                    Err(error) => tracing::error!(%error, "keys.not_destroyed"),
                }
            }
        }
        Ok((due, !rows.is_empty()))
    }

    /// Notes that the key database has confirmed the first pass for these records.
    pub async fn confirm_destructions(&self, records: &[&PendingDestruction]) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::confirm_destructions */ \
            UPDATE key_destruction SET confirmed_at = now() \
            FROM unnest($1::uuid[], $2::text[]) AS d (tenant_id, record_id) \
            WHERE key_destruction.tenant_id = d.tenant_id AND key_destruction.record_id = d.record_id \
              AND confirmed_at IS NULL";
        let (tenants, ids) = places(records);
        self.database
            .run("records::confirm_destructions", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                client.execute(&statement, &[&tenants, &ids]).await?;
                Ok(())
            })
            .await
    }

    /// Strikes records off the list, each with the entry that says that its keys are gone: all or nothing. [`StorageError::Stale`]
    /// when another instance has struck off one of them already.
    pub async fn finish_destructions(
        &self,
        records: &[&PendingDestruction],
        entries: &[OutboxBytes],
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::finish_destructions */ \
            WITH gone AS ( \
                DELETE FROM key_destruction USING unnest($1::uuid[], $2::text[], $3::uuid[], $4::bytea[]) \
                    AS d (tenant_id, record_id, entry_id, entry) \
                WHERE key_destruction.tenant_id = d.tenant_id AND key_destruction.record_id = d.record_id \
                RETURNING d.tenant_id, d.entry_id, d.entry) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT * FROM gone";
        // Owned, since a closure that borrows cannot be shown to be `Send` here.
        let (tenants, ids) = places(records);
        let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
        let entry_ids: Vec<Uuid> = entries.iter().map(|entry| *entry.entry_id().as_uuid()).collect();
        let bytes: Vec<Vec<u8>> = entries.iter().map(|entry| entry.bytes().to_vec()).collect();
        self.database
            .transaction("records::finish_destructions", async move |transaction| {
                let parameters: [&(dyn ToSql + Sync); 4] = [&tenants, &ids, &entry_ids, &bytes];
                all_rows(transaction.execute(SQL, &parameters).await?, ids.len())
            })
            .await
    }
}

fn places<'r>(records: &[&'r PendingDestruction]) -> (Vec<Uuid>, Vec<&'r str>) {
    records.iter().map(|pending| (*pending.tenant.as_uuid(), pending.record.as_str())).unzip()
}

fn pending(row: &tokio_postgres::Row) -> Result<PendingDestruction, StorageError> {
    let record = RecordId::parse(column(row, 1, "record id")?);
    let collection = CollectionName::parse(column(row, 2, "collection")?);
    Ok(PendingDestruction {
        tenant: TenantId::from_uuid(column(row, 0, "tenant")?),
        record: record.ok_or(StorageError::Malformed("record id"))?,
        collection: collection.ok_or(StorageError::Malformed("collection"))?,
        subject: column::<Option<Uuid>>(row, 3, "subject")?.map(SubjectId::from_uuid),
        was_confirmed: column(row, 4, "confirmed")?,
    })
}
