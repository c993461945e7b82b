//! Erasing a person, as far as the data database has a part in it: asked for, approved, confirmed, finished. From the approval
//! on the subject is not active, which every read asks and every write asks under a lock.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::{Claim, RecordStore, StorageError, column, idempotency, instant, one_row, time};
use crate::audit::OutboxBytes;
use crate::domain::break_glass::Reference;
use crate::domain::clock::Timestamp;
use crate::domain::erasure::ErasureReason;
use crate::domain::id::{CollectionName, ErasureId, RecordId, SubjectId, TenantId};

/// An erasure to be asked for.
#[derive(Clone, Debug)]
pub struct NewErasure {
    pub id: ErasureId,
    pub subject: SubjectId,
    pub reason: ErasureReason,
    pub reference: Reference,
    /// Who asks.
    pub by: ErasedBy,
    pub lapses_at: Timestamp,
}

/// Who asks for an erasure, or approves one: a client, and the person behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasedBy {
    pub client: String,
    pub person_sha256: [u8; 32],
}

/// An erasure, however far it has come.
pub struct FoundErasure {
    pub id: ErasureId,
    pub reason: ErasureReason,
    pub reference: Reference,
    pub requested_by: String,
    pub requester_sha256: [u8; 32],
    pub requested_at: Timestamp,
    pub lapses_at: Timestamp,
    /// By which client, and when.
    pub approved: Option<(String, Timestamp)>,
    /// When, with the certificate.
    pub erased: Option<(Timestamp, String)>,
}

/// An erasure that was approved and is not finished.
#[derive(Clone, Debug)]
pub struct PendingErasure {
    pub tenant: TenantId,
    pub id: ErasureId,
    pub subject: SubjectId,
    pub reference: Reference,
    pub approved_at: Timestamp,
    /// The key database confirmed it once, long enough ago for the second time.
    pub was_confirmed: bool,
}

/// The next page of [`RecordStore::places_of_subject`] begins after this.
pub type RecordPlace = (CollectionName, RecordId);

macro_rules! erasure_columns {
    () => {
        "e.erasure_id, e.reason, e.reference, e.requested_by, e.requester_sha256, e.requested_at, e.lapses_at, \
         e.approved_by, e.approved_at, e.erased_at, e.certificate"
    };
}

impl RecordStore {
    /// Stores a request with its entry, and the key that it was sent under: all or nothing, durable on return.
    /// [`StorageError::Stale`] when the subject is not there or not active, [`StorageError::Held`] when a hold is in force,
    /// [`StorageError::Claimed`] when something was done under the key before.
    pub async fn request_erasure(
        &self,
        tenant: TenantId,
        new: &NewErasure,
        claim: Option<&Claim>,
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::request_erasure */ \
            INSERT INTO erasure (tenant_id, erasure_id, subject_id, reason, reference, requested_by, requester_sha256, \
                                 requested_at, lapses_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let entry = (*entry.entry_id().as_uuid(), entry.bytes().to_vec());
        let (now, lapses_at) = (instant(now)?, instant(new.lapses_at)?);
        // Owned, since a closure that borrows cannot be shown to be `Send` here.
        let (new, claim) = (new.clone(), claim.cloned());
        self.database
            .transaction("records::request_erasure", async move |transaction| {
                if let Some(claim) = &claim {
                    idempotency::take(transaction, tenant, claim, &[new.id.to_string()], now).await?;
                }
                lock_unheld(transaction, tenant, new.subject).await?;
                let (reason, reference) = (new.reason.as_str(), new.reference.as_str());
                let person = new.by.person_sha256.as_slice();
                let parameters: [&(dyn ToSql + Sync); 9] = [
                    tenant.as_uuid(),
                    new.id.as_uuid(),
                    new.subject.as_uuid(),
                    &reason,
                    &reference,
                    &new.by.client,
                    &person,
                    &now,
                    &lapses_at,
                ];
                one_row(transaction.execute(SQL, &parameters).await?)?;
                put_entry(transaction, tenant, &entry).await
            })
            .await
    }

    /// The erasures of a subject, whatever its state, the newest first, at most `limit`; `None` when there never was one.
    pub async fn erasures(
        &self,
        tenant: TenantId,
        subject: SubjectId,
        limit: i64,
    ) -> Result<Option<Vec<FoundErasure>>, StorageError> {
        // A subject without an erasure is a row without one.
        const SQL: &str = concat!(
            "/* storage::records::erasures */ SELECT ",
            erasure_columns!(),
            " FROM subject s \
             LEFT JOIN erasure e ON e.tenant_id = s.tenant_id AND e.subject_id = s.subject_id \
             WHERE s.tenant_id = $1 AND s.subject_id = $2 \
             ORDER BY e.requested_at DESC, e.erasure_id DESC LIMIT $3"
        );
        let rows = self
            .database
            .run("records::erasures", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), subject.as_uuid(), &limit]).await?)
            })
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(rows.iter().filter_map(|row| found(row).transpose()).collect::<Result<_, _>>()?))
    }

    /// One erasure of a subject.
    pub async fn erasure(
        &self,
        tenant: TenantId,
        subject: SubjectId,
        id: ErasureId,
    ) -> Result<Option<FoundErasure>, StorageError> {
        const SQL: &str = concat!(
            "/* storage::records::erasure */ SELECT ",
            erasure_columns!(),
            " FROM erasure e WHERE e.tenant_id = $1 AND e.erasure_id = $3 AND e.subject_id = $2"
        );
        let row = self
            .database
            .run("records::erasure", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 3] =
                    [tenant.as_uuid(), subject.as_uuid(), id.as_uuid()];
                Ok(client.query_opt(&statement, &parameters).await?)
            })
            .await?;
        row.map_or(Ok(None), |row| found(&row))
    }

    /// Approves an erasure and begins it: from this commit on the subject is not active. With the entry, all or nothing,
    /// durable on return. [`StorageError::Stale`] when the subject is not active, or the erasure is not one that waits for
    /// somebody else's approval; [`StorageError::Held`] when a hold is in force.
    pub async fn approve_erasure(
        &self,
        (tenant, subject): (TenantId, SubjectId),
        id: ErasureId,
        by: &ErasedBy,
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        const APPROVE: &str = "/* storage::records::approve_erasure */ \
            UPDATE erasure SET approved_by = $4, approver_sha256 = $5, approved_at = $6 \
            WHERE tenant_id = $1 AND subject_id = $2 AND erasure_id = $3 AND approved_at IS NULL AND lapses_at > $6 \
              AND requester_sha256 <> $5";
        let entry = (*entry.entry_id().as_uuid(), entry.bytes().to_vec());
        let (by, now) = (by.clone(), instant(now)?);
        self.database
            .transaction("records::approve_erasure", async move |transaction| {
                lock_unheld(transaction, tenant, subject).await?;
                let person = by.person_sha256.as_slice();
                let parameters: [&(dyn ToSql + Sync); 6] =
                    [tenant.as_uuid(), subject.as_uuid(), id.as_uuid(), &by.client, &person, &now];
                one_row(transaction.execute(APPROVE, &parameters).await?)?;
                make_unavailable(transaction, tenant, subject).await?;
                put_entry(transaction, tenant, &entry).await
            })
            .await
    }

    /// What was approved and is not finished, of all tenants: at most `limit`, the oldest first. Those that were confirmed
    /// less than `settled` ago are left out.
    pub async fn pending_erasures(
        &self,
        settled: Duration,
        limit: i64,
    ) -> Result<(Vec<PendingErasure>, bool), StorageError> {
        const SQL: &str = "/* storage::records::pending_erasures */ \
            SELECT tenant_id, erasure_id, subject_id, reference, approved_at, confirmed_at IS NOT NULL, \
                   confirmed_at IS NULL OR confirmed_at <= now() - make_interval(secs => $1) AS is_due \
            FROM erasure WHERE approved_at IS NOT NULL AND erased_at IS NULL \
            ORDER BY is_due DESC, approved_at LIMIT $2";
        let rows = self
            .database
            .run("records::pending_erasures", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[&settled.as_secs_f64(), &limit]).await?)
            })
            .await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            if column::<bool>(row, 6, "is due")? {
                due.push(pending(row)?);
            }
        }
        Ok((due, !rows.is_empty()))
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

/// Locks an active subject against everybody who writes for it; what follows sees all that they have written.
async fn lock_unheld(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    subject: SubjectId,
) -> Result<(), StorageError> {
    const SQL: &str = "/* storage::records::lock_unheld */ \
        SELECT holds > 0 FROM subject WHERE tenant_id = $1 AND subject_id = $2 AND state = 'active' FOR UPDATE";
    let row = transaction.query_opt(SQL, &[tenant.as_uuid(), subject.as_uuid()]).await?;
    match row.map(|row| column(&row, 0, "held")).transpose()? {
        Some(false) => Ok(()),
        Some(true) => Err(StorageError::Held),
        None => Err(StorageError::Stale),
    }
}

/// From the commit on nothing of the subject opens and nothing is written for it. What can be found without a key of the
/// subject goes here, in statements of its own that see all that was written before the lock.
async fn make_unavailable(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    subject: SubjectId,
) -> Result<(), StorageError> {
    const SQL: &str = "/* storage::records::make_unavailable */ \
        UPDATE subject SET state = 'erasing' WHERE tenant_id = $1 AND subject_id = $2 AND state = 'active'";
    const TERMS: &str = "/* storage::records::make_unavailable */ \
        DELETE FROM index_term i USING record r, unnest(r.terms) AS t (term) \
        WHERE r.tenant_id = $1 AND r.subject_id = $2 AND i.tenant_id = $1 AND i.collection = r.collection \
          AND i.term = t.term AND i.record_id = r.record_id";
    const NO_TERMS: &str = "/* storage::records::make_unavailable */ \
        UPDATE record SET terms = '{}' WHERE tenant_id = $1 AND subject_id = $2 AND terms <> '{}'";
    let parameters: [&(dyn ToSql + Sync); 2] = [tenant.as_uuid(), subject.as_uuid()];
    one_row(transaction.execute(SQL, &parameters).await?)?;
    transaction.execute(TERMS, &parameters).await?;
    transaction.execute(NO_TERMS, &parameters).await?;
    Ok(())
}

async fn put_entry(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    (id, bytes): &(Uuid, Vec<u8>),
) -> Result<(), StorageError> {
    const SQL: &str = "/* storage::records::put_entry */ \
        INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $2, $3)";
    one_row(transaction.execute(SQL, &[tenant.as_uuid(), id, bytes]).await?)
}

fn found(row: &Row) -> Result<Option<FoundErasure>, StorageError> {
    let malformed = StorageError::Malformed;
    let Some(id) = column::<Option<Uuid>>(row, 0, "erasure id")? else { return Ok(None) };
    let requester: &[u8] = column(row, 4, "requester")?;
    let approved = match column::<Option<String>>(row, 7, "approver")? {
        Some(by) => Some((by, time(row, 8)?)),
        None => None,
    };
    let erased = match column::<Option<String>>(row, 10, "certificate")? {
        Some(certificate) => Some((time(row, 9)?, certificate)),
        None => None,
    };
    Ok(Some(FoundErasure {
        id: ErasureId::from_uuid(id),
        reason: ErasureReason::parse(column(row, 1, "reason")?).ok_or(malformed("reason"))?,
        reference: Reference::parse(column(row, 2, "reference")?).ok_or(malformed("reference"))?,
        requested_by: column(row, 3, "client")?,
        requester_sha256: requester.try_into().map_err(|_| malformed("requester"))?,
        requested_at: time(row, 5)?,
        lapses_at: time(row, 6)?,
        approved,
        erased,
    }))
}

fn pending(row: &Row) -> Result<PendingErasure, StorageError> {
    let reference = Reference::parse(column(row, 3, "reference")?);
    Ok(PendingErasure {
        tenant: TenantId::from_uuid(column(row, 0, "tenant")?),
        id: ErasureId::from_uuid(column(row, 1, "erasure id")?),
        subject: SubjectId::from_uuid(column(row, 2, "subject")?),
        reference: reference.ok_or(StorageError::Malformed("reference"))?,
        approved_at: time(row, 4)?,
        was_confirmed: column(row, 5, "confirmed")?,
    })
}
