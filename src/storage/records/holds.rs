//! Legal holds: placed, looked at, released. That one is in force is counted on the subject's row, by the database itself;
//! `RecordStore::replace` looks at it under a lock before it ends a record, and whatever asks whether a record has expired
//! looks at it as well.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{Claim, RecordStore, StorageError, column, idempotency, instant, time};
use crate::audit::OutboxBytes;
use crate::domain::break_glass::Reference;
use crate::domain::clock::Timestamp;
use crate::domain::hold::HoldReason;
use crate::domain::id::{HoldId, SubjectId, TenantId};

/// A hold to be placed.
#[derive(Clone, Debug)]
pub struct NewHold {
    pub id: HoldId,
    pub subject: SubjectId,
    pub reason: HoldReason,
    pub reference: Reference,
    /// The client that places it.
    pub by: String,
}

/// A hold, in force or released.
pub struct FoundHold {
    pub id: HoldId,
    pub reason: HoldReason,
    pub reference: Reference,
    pub placed_by: String,
    pub placed_at: Timestamp,
    /// By which client, and when.
    pub released: Option<(String, Timestamp)>,
}

impl RecordStore {
    /// Places a hold with its entry, and the key that it was sent under: all or nothing, durable on return. When it was
    /// placed. [`StorageError::Stale`] when the subject is not there or not active, [`StorageError::Claimed`] when something
    /// was done under the key before.
    pub async fn place_hold(
        &self,
        tenant: TenantId,
        new: &NewHold,
        claim: Option<&Claim>,
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        // FOR UPDATE waits for whoever writes for the subject, and whoever ends one of its records waits for this.
        const SQL: &str = "/* storage::records::place_hold */ \
            WITH active AS ( \
                SELECT s.subject_id FROM subject s \
                WHERE s.tenant_id = $1 AND s.subject_id = $2 AND s.state = 'active' FOR UPDATE), \
            placed AS ( \
                INSERT INTO subject_hold (tenant_id, subject_id, hold_id, reason, reference, placed_by, placed_at) \
                SELECT $1, subject_id, $3, $4, $5, $6, $7 FROM active \
                RETURNING hold_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $8, $9 FROM placed";
        let (entry_id, bytes) = (*entry.entry_id().as_uuid(), entry.bytes().to_vec());
        let now = instant(now)?;
        // Owned, since a closure that borrows cannot be shown to be `Send` here.
        let (new, claim) = (new.clone(), claim.cloned());
        self.database
            .transaction("records::place_hold", async move |transaction| {
                if let Some(claim) = &claim {
                    idempotency::take(transaction, tenant, claim, &[new.id.to_string()], now).await?;
                }
                let (reason, reference) = (new.reason.as_str(), new.reference.as_str());
                let parameters: [&(dyn ToSql + Sync); 9] = [
                    tenant.as_uuid(),
                    new.subject.as_uuid(),
                    new.id.as_uuid(),
                    &reason,
                    &reference,
                    &new.by,
                    &now,
                    &entry_id,
                    &bytes,
                ];
                super::one_row(transaction.execute(SQL, &parameters).await?)
            })
            .await
    }

    /// The holds on an active subject, those in force first, then the newest, at most `limit`; `None` when there is no such
    /// subject.
    pub async fn holds(
        &self,
        tenant: TenantId,
        subject: SubjectId,
        limit: i64,
    ) -> Result<Option<Vec<FoundHold>>, StorageError> {
        // A subject without a hold is a row without one.
        const SQL: &str = "/* storage::records::holds */ \
            SELECT h.hold_id, h.reason, h.reference, h.placed_by, h.placed_at, h.released_by, h.released_at \
            FROM subject s LEFT JOIN subject_hold h ON h.tenant_id = s.tenant_id AND h.subject_id = s.subject_id \
            WHERE s.tenant_id = $1 AND s.subject_id = $2 AND s.state = 'active' \
            ORDER BY h.released_at IS NOT NULL, h.placed_at DESC, h.hold_id DESC LIMIT $3";
        let rows = self
            .database
            .run("records::holds", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), subject.as_uuid(), &limit]).await?)
            })
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(rows.iter().filter_map(|row| found(row).transpose()).collect::<Result<_, _>>()?))
    }

    /// One of an active subject's holds.
    pub async fn hold(
        &self,
        tenant: TenantId,
        subject: SubjectId,
        id: HoldId,
    ) -> Result<Option<FoundHold>, StorageError> {
        const SQL: &str = "/* storage::records::hold */ \
            SELECT h.hold_id, h.reason, h.reference, h.placed_by, h.placed_at, h.released_by, h.released_at \
            FROM subject_hold h JOIN subject s ON s.tenant_id = h.tenant_id AND s.subject_id = h.subject_id \
            WHERE h.tenant_id = $1 AND h.subject_id = $2 AND h.hold_id = $3 AND s.state = 'active'";
        let row = self
            .database
            .run("records::hold", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 3] =
                    [tenant.as_uuid(), subject.as_uuid(), id.as_uuid()];
                Ok(client.query_opt(&statement, &parameters).await?)
            })
            .await?;
        row.map_or(Ok(None), |row| found(&row))
    }

    /// Releases a hold with the entry: both or neither, durable on return. [`StorageError::Stale`] when it is not in force,
    /// or the subject is not active.
    pub async fn release_hold(
        &self,
        (tenant, subject): (TenantId, SubjectId),
        id: HoldId,
        by: &str,
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::release_hold */ \
            WITH active AS ( \
                SELECT s.subject_id FROM subject s \
                WHERE s.tenant_id = $1 AND s.subject_id = $2 AND s.state = 'active' FOR UPDATE), \
            released AS ( \
                UPDATE subject_hold h SET released_at = $4, released_by = $5 FROM active \
                WHERE h.tenant_id = $1 AND h.subject_id = active.subject_id AND h.hold_id = $3 AND h.released_at IS NULL \
                RETURNING h.hold_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $6, $7 FROM released";
        let (entry_id, now) = (*entry.entry_id().as_uuid(), instant(now)?);
        let parameters: [&(dyn ToSql + Sync); 7] =
            [tenant.as_uuid(), subject.as_uuid(), id.as_uuid(), &now, &by, &entry_id, &entry.bytes()];
        let affected = self
            .database
            .run("records::release_hold", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        super::one_row(affected)
    }
}

fn found(row: &Row) -> Result<Option<FoundHold>, StorageError> {
    let malformed = StorageError::Malformed;
    let Some(id) = column::<Option<uuid::Uuid>>(row, 0, "hold id")? else { return Ok(None) };
    let released = match column::<Option<String>>(row, 5, "who released it")? {
        Some(by) => Some((by, time(row, 6)?)),
        None => None,
    };
    Ok(Some(FoundHold {
        id: HoldId::from_uuid(id),
        reason: HoldReason::parse(column(row, 1, "reason")?).ok_or(malformed("reason"))?,
        reference: Reference::parse(column(row, 2, "reference")?).ok_or(malformed("reference"))?,
        placed_by: column(row, 3, "who placed it")?,
        placed_at: time(row, 4)?,
        released,
    }))
}
