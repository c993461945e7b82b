//! Broken glass: opened, looked at, reviewed. Whether it counts for a record is asked with the record (`care_teams`).

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Claim, RecordStore, StorageError, column, idempotency, instant, one_row, time};
use crate::audit::OutboxBytes;
use crate::domain::break_glass::{BreakGlassReason, Reference, Verdict};
use crate::domain::clock::Timestamp;
use crate::domain::id::{BreakGlassId, SubjectId, TenantId};

/// Glass to be broken.
#[derive(Clone, Debug)]
pub struct NewBreakGlass {
    pub id: BreakGlassId,
    pub client: String,
    pub person_sha256: [u8; 32],
    pub reason: BreakGlassReason,
    pub reference: Reference,
    pub minutes: u32,
    /// Each once.
    pub subjects: Vec<SubjectId>,
}

/// Glass that was broken.
pub struct FoundBreakGlass {
    pub id: BreakGlassId,
    pub client: String,
    pub person_sha256: [u8; 32],
    pub reason: BreakGlassReason,
    pub reference: String,
    pub opened_at: Timestamp,
    pub ends_at: Timestamp,
    pub is_reviewed: bool,
    pub subjects: Vec<SubjectId>,
}

const FOUND: &str = "SELECT b.break_glass_id, b.client, b.person_sha256, b.reason, b.reference, b.opened_at, b.ends_at, \
     b.reviewed_at IS NOT NULL, array_agg(s.subject_id ORDER BY s.subject_id) \
     FROM break_glass b JOIN break_glass_subject s \
       ON s.tenant_id = b.tenant_id AND s.break_glass_id = b.break_glass_id \
     WHERE b.tenant_id = $1";

impl RecordStore {
    /// Stores it with the entries, one for each subject, and the key that it was sent under: all or nothing, durable on
    /// return. When it ends. [`StorageError::Stale`] when a subject is not there or not active, [`StorageError::Claimed`]
    /// when something was done under the key before.
    pub async fn open_break_glass(
        &self,
        tenant: TenantId,
        new: &NewBreakGlass,
        claim: Option<&Claim>,
        entries: &[OutboxBytes],
        now: Timestamp,
    ) -> Result<Timestamp, StorageError> {
        const SQL: &str = "/* storage::records::open_break_glass */ \
            WITH active AS ( \
                SELECT n.subject_id FROM unnest($8::uuid[]) AS n (subject_id) \
                CROSS JOIN LATERAL ( \
                    SELECT FROM subject s \
                    WHERE s.tenant_id = $1 AND s.subject_id = n.subject_id AND s.state = 'active' FOR KEY SHARE) AS s), \
            opened AS ( \
                INSERT INTO break_glass (tenant_id, break_glass_id, client, person_sha256, reason, reference, opened_at, \
                                         ends_at) \
                SELECT $1, $2, $3, $4, $5, $6, now(), now() + make_interval(mins => $7) \
                WHERE (SELECT count(*) FROM active) = cardinality($8::uuid[]) \
                RETURNING break_glass_id, ends_at), \
            concerned AS ( \
                INSERT INTO break_glass_subject (tenant_id, subject_id, break_glass_id) \
                SELECT $1, active.subject_id, opened.break_glass_id FROM active, opened), \
            entries AS ( \
                INSERT INTO audit_outbox (tenant_id, entry_id, entry) \
                SELECT $1, e.id, e.bytes FROM opened, unnest($9::uuid[], $10::bytea[]) AS e (id, bytes)) \
            SELECT ends_at FROM opened";
        let subjects: Vec<Uuid> = new.subjects.iter().map(|id| *id.as_uuid()).collect();
        let ids: Vec<Uuid> = entries.iter().map(|entry| *entry.entry_id().as_uuid()).collect();
        let bytes: Vec<Vec<u8>> = entries.iter().map(|entry| entry.bytes().to_vec()).collect();
        let minutes = i32::try_from(new.minutes).map_err(|_| StorageError::Malformed("minutes"))?;
        let now = instant(now)?;
        // Owned, since a closure that borrows cannot be shown to be `Send` here.
        let (new, claim) = (new.clone(), claim.cloned());
        self.database
            .transaction("records::open_break_glass", async move |transaction| {
                if let Some(claim) = &claim {
                    idempotency::take(transaction, tenant, claim, &[new.id.to_string()], now).await?;
                }
                let (digest, reason) = (new.person_sha256.as_slice(), new.reason.as_str());
                let reference = new.reference.as_str();
                let parameters: [&(dyn ToSql + Sync); 10] = [
                    tenant.as_uuid(),
                    new.id.as_uuid(),
                    &new.client,
                    &digest,
                    &reason,
                    &reference,
                    &minutes,
                    &subjects,
                    &ids,
                    &bytes,
                ];
                let row = transaction.query_opt(SQL, &parameters).await?;
                row.map_or(Err(StorageError::Stale), |row| time(&row, 0))
            })
            .await
    }

    /// One of the tenant's, reviewed or not.
    pub async fn break_glass(
        &self,
        tenant: TenantId,
        id: BreakGlassId,
    ) -> Result<Option<FoundBreakGlass>, StorageError> {
        let sql = format!(
            "/* storage::records::break_glass */ {FOUND} AND b.break_glass_id = $2 GROUP BY b.tenant_id, b.break_glass_id"
        );
        let row = self
            .database
            .run("records::break_glass", async |client| {
                let statement = client.prepare_cached(&sql).await?;
                Ok(client.query_opt(&statement, &[tenant.as_uuid(), id.as_uuid()]).await?)
            })
            .await?;
        row.as_ref().map(found).transpose()
    }

    /// Those of the tenant that nobody has reviewed, the oldest first, at most `limit`.
    pub async fn unreviewed_break_glass(
        &self,
        tenant: TenantId,
        limit: i64,
    ) -> Result<Vec<FoundBreakGlass>, StorageError> {
        let sql = format!(
            "/* storage::records::unreviewed_break_glass */ {FOUND} AND b.reviewed_at IS NULL \
             GROUP BY b.tenant_id, b.break_glass_id ORDER BY b.opened_at, b.break_glass_id LIMIT $2"
        );
        let rows = self
            .database
            .run("records::unreviewed_break_glass", async |client| {
                let statement = client.prepare_cached(&sql).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), &limit]).await?)
            })
            .await?;
        rows.iter().map(found).collect()
    }

    /// Puts the verdict to it, which ends it if it has not ended, with the entry: both or neither, durable on return.
    /// [`StorageError::Stale`] when it was reviewed before.
    pub async fn review_break_glass(
        &self,
        tenant: TenantId,
        id: BreakGlassId,
        verdict: Verdict,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::review_break_glass */ \
            WITH reviewed AS ( \
                UPDATE break_glass SET reviewed_at = now(), verdict = $3, ends_at = LEAST(ends_at, now()) \
                WHERE tenant_id = $1 AND break_glass_id = $2 AND reviewed_at IS NULL RETURNING break_glass_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $4, $5 FROM reviewed";
        let (entry_id, bytes, verdict) = (*entry.entry_id().as_uuid(), entry.bytes(), verdict.as_str());
        let parameters: [&(dyn ToSql + Sync); 5] =
            [tenant.as_uuid(), id.as_uuid(), &verdict, &entry_id, &bytes];
        let affected = self
            .database
            .run("records::review_break_glass", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }

    /// How many of all tenants were opened so many hours ago and still wait for their review.
    pub async fn overdue_break_glass(&self, hours: u32) -> Result<u64, StorageError> {
        const SQL: &str = "/* storage::records::overdue_break_glass */ \
            SELECT count(*) FROM break_glass WHERE reviewed_at IS NULL AND opened_at <= now() - make_interval(hours => $1)";
        let hours = i32::try_from(hours).map_err(|_| StorageError::Malformed("hours"))?;
        let row = self
            .database
            .run("records::overdue_break_glass", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_one(&statement, &[&hours]).await?)
            })
            .await?;
        Ok(column::<i64>(&row, 0, "count")?.unsigned_abs())
    }
}

fn found(row: &Row) -> Result<FoundBreakGlass, StorageError> {
    let malformed = StorageError::Malformed;
    let digest: &[u8] = column(row, 2, "person")?;
    let subjects: Vec<Uuid> = column(row, 8, "subjects")?;
    Ok(FoundBreakGlass {
        id: BreakGlassId::from_uuid(column(row, 0, "break-glass id")?),
        client: column(row, 1, "client")?,
        person_sha256: digest.try_into().map_err(|_| malformed("person"))?,
        reason: BreakGlassReason::parse(column(row, 3, "reason")?).ok_or(malformed("reason"))?,
        reference: column(row, 4, "reference")?,
        opened_at: time(row, 5)?,
        ends_at: time(row, 6)?,
        is_reviewed: column(row, 7, "review")?,
        subjects: subjects.into_iter().map(SubjectId::from_uuid).collect(),
    })
}
