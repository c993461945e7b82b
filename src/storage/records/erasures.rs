//! Erasing a person, as far as the data database has a part in it: asked for and approved. From the approval on the subject is
//! not active, which every read asks and every write asks under a lock. What follows is `erasing`'s.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::{Claim, RecordStore, StorageError, column, idempotency, instant, one_row, time};
use crate::audit::OutboxBytes;
use crate::crypto::erasure::ErasureAsked;
use crate::domain::break_glass::Reference;
use crate::domain::clock::Timestamp;
use crate::domain::erasure::ErasureReason;
use crate::domain::id::{ErasureId, KeyId, SubjectId, TenantId};

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
    /// [`ErasureAsked::request_mac`], and the root that it was made under.
    pub mac: [u8; 32],
    pub root: KeyId,
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
    pub requested_at: Timestamp,
    pub asked: ErasureAsked,
    /// Not to be trusted before it is compared.
    pub mac: [u8; 32],
    pub root: KeyId,
    /// By which client, and when.
    pub approved: Option<(String, Timestamp)>,
    /// When, with the certificate.
    pub erased: Option<(Timestamp, String)>,
}

macro_rules! erasure_columns {
    () => {
        "e.erasure_id, e.reason, e.reference, e.requested_by, e.requester_sha256, e.requested_at, e.lapses_at, \
         e.approved_by, e.approved_at, e.erased_at, e.certificate, e.subject_id, e.request_mac, e.root_key_id"
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
                                 requested_at, lapses_at, request_mac, root_key_id) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
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
                let (person, mac, root) =
                    (new.by.person_sha256.as_slice(), new.mac.as_slice(), new.root.as_i64());
                let parameters: [&(dyn ToSql + Sync); 11] = [
                    tenant.as_uuid(),
                    new.id.as_uuid(),
                    new.subject.as_uuid(),
                    &reason,
                    &reference,
                    &new.by.client,
                    &person,
                    &now,
                    &lapses_at,
                    &mac,
                    &root,
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
        mac: [u8; 32],
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        const APPROVE: &str = "/* storage::records::approve_erasure */ \
            UPDATE erasure SET approved_by = $4, approver_sha256 = $5, approved_at = $6, approval_mac = $7 \
            WHERE tenant_id = $1 AND subject_id = $2 AND erasure_id = $3 AND approved_at IS NULL AND lapses_at > $6 \
              AND requester_sha256 <> $5";
        let entry = (*entry.entry_id().as_uuid(), entry.bytes().to_vec());
        let (by, now) = (by.clone(), instant(now)?);
        self.database
            .transaction("records::approve_erasure", async move |transaction| {
                lock_indexed(transaction, tenant, subject).await?;
                lock_unheld(transaction, tenant, subject).await?;
                let (person, mac) = (by.person_sha256.as_slice(), mac.as_slice());
                let parameters: [&(dyn ToSql + Sync); 7] =
                    [tenant.as_uuid(), subject.as_uuid(), id.as_uuid(), &by.client, &person, &now, &mac];
                one_row(transaction.execute(APPROVE, &parameters).await?)?;
                make_unavailable(transaction, tenant, subject).await?;
                put_entry(transaction, tenant, &entry).await
            })
            .await
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

/// Locks the subject's records whose terms are to go before the subject itself, as whoever writes one does.
async fn lock_indexed(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    subject: SubjectId,
) -> Result<(), StorageError> {
    const SQL: &str = "/* storage::records::lock_indexed */ \
        SELECT count(*) FROM ( \
            SELECT FROM record WHERE tenant_id = $1 AND subject_id = $2 AND terms <> '{}' \
            ORDER BY collection, record_id FOR UPDATE) AS locked";
    transaction.query_one(SQL, &[tenant.as_uuid(), subject.as_uuid()]).await?;
    Ok(())
}

/// From the commit on nothing of the subject opens and nothing is written for it. What can be found without a key of the
/// subject goes here, in statements of its own that see all that was written before the lock.
async fn make_unavailable(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    subject: SubjectId,
) -> Result<(), StorageError> {
    const SQL: &str = "/* storage::records::make_unavailable */ \
        UPDATE subject SET state = 'erasing', care_teams = NULL WHERE tenant_id = $1 AND subject_id = $2 AND state = 'active'";
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

pub(super) async fn put_entry(
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
    let approved = match column::<Option<String>>(row, 7, "approver")? {
        Some(by) => Some((by, time(row, 8)?)),
        None => None,
    };
    let erased = match column::<Option<String>>(row, 10, "certificate")? {
        Some(certificate) => Some((time(row, 9)?, certificate)),
        None => None,
    };
    let id = ErasureId::from_uuid(id);
    let asked = ErasureAsked {
        erasure: id,
        subject: SubjectId::from_uuid(column(row, 11, "subject")?),
        requester_sha256: digest(row, 4)?,
        lapses_at: time(row, 6)?,
    };
    Ok(Some(FoundErasure {
        id,
        reason: ErasureReason::parse(column(row, 1, "reason")?).ok_or(malformed("reason"))?,
        reference: Reference::parse(column(row, 2, "reference")?).ok_or(malformed("reference"))?,
        requested_by: column(row, 3, "client")?,
        requested_at: time(row, 5)?,
        asked,
        mac: digest(row, 12)?,
        root: root(row, 13)?,
        approved,
        erased,
    }))
}

pub(super) fn digest(row: &Row, index: usize) -> Result<[u8; 32], StorageError> {
    column::<&[u8]>(row, index, "digest")?.try_into().map_err(|_| StorageError::Malformed("digest"))
}

pub(super) fn root(row: &Row, index: usize) -> Result<KeyId, StorageError> {
    KeyId::new(column(row, index, "root")?).ok_or(StorageError::Malformed("root"))
}
