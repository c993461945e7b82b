//! Erasures that were approved, on their way to their end, as far as the data database has a part in it.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::erasures::{digest, root};
use super::{RecordStore, StorageError, column, instant, one_row, time};
use crate::audit::OutboxBytes;
use crate::crypto::erasure::ErasureAsked;
use crate::domain::break_glass::Reference;
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, ErasureId, KeyId, RecordId, SubjectId, TenantId};

/// An erasure that was approved and is not finished.
#[derive(Clone, Debug)]
pub struct PendingErasure {
    pub tenant: TenantId,
    pub id: ErasureId,
    pub subject: SubjectId,
    pub reference: Reference,
    pub approved_at: Timestamp,
    pub asked: ErasureAsked,
    pub approver_sha256: [u8; 32],
    /// [`ErasureAsked::approval_mac`], not to be trusted before it is compared; absent where a row was made without it.
    pub mac: Option<[u8; 32]>,
    pub root: KeyId,
    /// The key database confirmed it once, long enough ago for the second time.
    pub was_confirmed: bool,
}

/// What was approved and is not finished, as far as one statement reads it.
pub struct PendingErasures {
    /// Those whose next step is due. A row that does not read is an error of its own and does not hide the others.
    pub due: Vec<Result<PendingErasure, StorageError>>,
    /// Where the next statement begins, unless this one has read all.
    pub next: Option<PendingPlace>,
    /// Whether there are any, due or not.
    pub are_any: bool,
}

/// A place among what is not finished, in the order of approvals.
#[derive(Clone, Copy, Debug)]
pub struct PendingPlace(jiff::Timestamp, Uuid);

impl PendingPlace {
    pub const BEGIN: Self = Self(jiff::Timestamp::UNIX_EPOCH, Uuid::nil());
}

/// The next page of [`RecordStore::places_of_subject`] begins after this.
pub type RecordPlace = (CollectionName, RecordId);

impl RecordStore {
    /// What was approved and is not finished, of all tenants: at most `limit` after `after`, the oldest first. Due is what was
    /// not confirmed less than `settled` ago.
    pub async fn pending_erasures(
        &self,
        settled: Duration,
        PendingPlace(at, id): PendingPlace,
        limit: i64,
    ) -> Result<PendingErasures, StorageError> {
        const SQL: &str = "/* storage::records::pending_erasures */ \
            SELECT tenant_id, erasure_id, subject_id, reference, approved_at, confirmed_at IS NOT NULL, requester_sha256, \
                   lapses_at, approver_sha256, approval_mac, root_key_id, \
                   confirmed_at IS NULL OR confirmed_at <= now() - make_interval(secs => $1) AS is_due \
            FROM erasure WHERE approved_at IS NOT NULL AND erased_at IS NULL AND (approved_at, erasure_id) > ($2, $3) \
            ORDER BY approved_at, erasure_id LIMIT $4";
        let parameters: [&(dyn ToSql + Sync); 4] = [&settled.as_secs_f64(), &at, &id, &limit];
        let rows = self
            .database
            .run("records::pending_erasures", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            if column::<bool>(row, 11, "is due")? {
                due.push(pending(row));
            }
        }
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
        let next = match rows.last().filter(|_| is_full) {
            Some(row) => Some(PendingPlace(column(row, 4, "time")?, column(row, 1, "erasure id")?)),
            None => None,
        };
        Ok(PendingErasures { due, next, are_any: !rows.is_empty() })
    }

    /// How many, of all tenants, were approved so many seconds ago and have not come to their end.
    pub async fn overdue_erasures(&self, seconds: u32) -> Result<u64, StorageError> {
        const SQL: &str = "/* storage::records::overdue_erasures */ \
            SELECT count(*) FROM erasure \
            WHERE approved_at <= now() - make_interval(secs => $1) AND approved_at IS NOT NULL AND erased_at IS NULL";
        let row = self
            .database
            .run("records::overdue_erasures", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_one(&statement, &[&f64::from(seconds)]).await?)
            })
            .await?;
        Ok(column::<i64>(&row, 0, "count")?.unsigned_abs())
    }

    /// Where the records of a subject are, deleted and expired ones too, after `after`, at most `limit`.
    pub async fn places_of_subject(
        &self,
        tenant: TenantId,
        subject: SubjectId,
        after: Option<&RecordPlace>,
        limit: i64,
    ) -> Result<Vec<RecordPlace>, StorageError> {
        const SQL: &str = "/* storage::records::places_of_subject */ \
            WITH theirs AS MATERIALIZED ( \
                SELECT collection, record_id FROM record \
                WHERE tenant_id = $1 AND subject_id = $2 AND (collection, record_id) > ($3, $4)) \
            SELECT collection, record_id FROM theirs ORDER BY collection, record_id LIMIT $5";
        let (collection, record) =
            after.map_or(("", ""), |(collection, record)| (collection.as_str(), record.as_str()));
        let parameters: [&(dyn ToSql + Sync); 5] =
            [tenant.as_uuid(), subject.as_uuid(), &collection, &record, &limit];
        let rows = self
            .database
            .run("records::places_of_subject", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let read = |row: &Row| {
            let collection = CollectionName::parse(column(row, 0, "collection")?);
            let record = RecordId::parse(column(row, 1, "record id")?);
            let malformed = StorageError::Malformed;
            Ok((collection.ok_or(malformed("collection"))?, record.ok_or(malformed("record id"))?))
        };
        rows.iter().map(read).collect()
    }

    /// Notes that the key database has confirmed the first pass.
    pub async fn confirm_erasure(&self, tenant: TenantId, id: ErasureId) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::confirm_erasure */ \
            UPDATE erasure SET confirmed_at = now() \
            WHERE tenant_id = $1 AND erasure_id = $2 AND approved_at IS NOT NULL AND confirmed_at IS NULL";
        self.database
            .run("records::confirm_erasure", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                client.execute(&statement, &[tenant.as_uuid(), id.as_uuid()]).await?;
                Ok(())
            })
            .await
    }

    /// Finishes an erasure: the subject is erased, with the certificate and the entry, all or nothing, durable on return.
    /// [`StorageError::Stale`] when another instance was faster.
    pub async fn finish_erasure(
        &self,
        pending: &PendingErasure,
        erased_at: Timestamp,
        certificate: &str,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::finish_erasure */ \
            WITH finished AS ( \
                UPDATE erasure SET erased_at = $4, certificate = $5 \
                WHERE tenant_id = $1 AND erasure_id = $3 AND subject_id = $2 AND confirmed_at IS NOT NULL \
                  AND erased_at IS NULL \
                RETURNING subject_id), \
            erased AS ( \
                UPDATE subject s SET state = 'erased' FROM finished \
                WHERE s.tenant_id = $1 AND s.subject_id = finished.subject_id AND s.state = 'erasing' \
                RETURNING s.subject_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $6, $7 FROM erased";
        let (entry_id, erased_at) = (*entry.entry_id().as_uuid(), instant(erased_at)?);
        let parameters: [&(dyn ToSql + Sync); 7] = [
            pending.tenant.as_uuid(),
            pending.subject.as_uuid(),
            pending.id.as_uuid(),
            &erased_at,
            &certificate,
            &entry_id,
            &entry.bytes(),
        ];
        let affected = self
            .database
            .run("records::finish_erasure", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }
}

fn pending(row: &Row) -> Result<PendingErasure, StorageError> {
    let reference = Reference::parse(column(row, 3, "reference")?);
    let (id, subject) = (column(row, 1, "erasure id")?, column(row, 2, "subject")?);
    let (id, subject) = (ErasureId::from_uuid(id), SubjectId::from_uuid(subject));
    let (requester_sha256, lapses_at) = (digest(row, 6)?, time(row, 7)?);
    let mac = match column::<Option<&[u8]>>(row, 9, "mac")? {
        Some(_) => Some(digest(row, 9)?),
        None => None,
    };
    Ok(PendingErasure {
        tenant: TenantId::from_uuid(column(row, 0, "tenant")?),
        id,
        subject,
        reference: reference.ok_or(StorageError::Malformed("reference"))?,
        approved_at: time(row, 4)?,
        asked: ErasureAsked { erasure: id, subject, requester_sha256, lapses_at },
        approver_sha256: digest(row, 8)?,
        mac,
        root: root(row, 10)?,
        was_confirmed: column(row, 5, "confirmed")?,
    })
}
