//! Requests that were done under an `Idempotency-Key`, so that a repeated one is answered and not done again.

use tokio_postgres::Transaction;

use super::{RecordStore, StorageError, column, instant, time};
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, RecordId, TenantId};

/// Expired keys removed in one statement, so that none holds locks for long.
const SWEPT_ROWS: i64 = 1_000;

/// A key about to be used: stored with the data, or not at all.
#[derive(Clone, Debug)]
pub struct Claim {
    /// HMAC of the client and the key that it sent.
    pub key_mac: [u8; 32],
    /// HMAC of the operation and the canonical body.
    pub body_mac: [u8; 32],
    /// The tenant's root that both were made under.
    pub root: KeyId,
    pub expires_at: Timestamp,
}

/// What was done under a key.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub body_mac: [u8; 32],
    /// What was created, in the order of the request.
    pub records: Vec<RecordId>,
    pub at: Timestamp,
}

impl RecordStore {
    /// What was done under this key and has not expired.
    pub async fn claimed(
        &self,
        tenant: TenantId,
        key_mac: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Claimed>, StorageError> {
        const SQL: &str = "/* storage::records::claimed */ \
            SELECT body_mac, record_ids, created_at FROM idempotency_key \
            WHERE tenant_id = $1 AND key_mac = $2 AND expires_at > $3";
        let now = instant(now)?;
        let row = self
            .database
            .run("records::claimed", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_opt(&statement, &[tenant.as_uuid(), &key_mac.as_slice(), &now]).await?)
            })
            .await?;
        let Some(row) = row else { return Ok(None) };
        let body_mac: &[u8] = column(&row, 0, "body")?;
        let ids: Vec<&str> = column(&row, 1, "record ids")?;
        let records: Option<Vec<RecordId>> = ids.into_iter().map(RecordId::parse).collect();
        Ok(Some(Claimed {
            body_mac: body_mac.try_into().map_err(|_| StorageError::Malformed("body"))?,
            records: records.ok_or(StorageError::Malformed("record ids"))?,
            at: time(&row, 2)?,
        }))
    }

    /// Removes expired keys, in pieces; answers how many there were.
    pub async fn remove_expired_claims(&self, now: Timestamp) -> Result<u64, StorageError> {
        const SQL: &str = "/* storage::records::remove_expired_claims */ \
            DELETE FROM idempotency_key WHERE (tenant_id, key_mac) IN ( \
                SELECT tenant_id, key_mac FROM idempotency_key WHERE expires_at <= $1 \
                ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
        let now = instant(now)?;
        let mut removed = 0;
        loop {
            let rows = self
                .database
                .run("records::remove_expired_claims", async |client| {
                    let statement = client.prepare_cached(SQL).await?;
                    Ok(client.execute(&statement, &[&now, &SWEPT_ROWS]).await?)
                })
                .await?;
            removed += rows;
            if rows < SWEPT_ROWS.unsigned_abs() {
                return Ok(removed);
            }
        }
    }
}

/// Takes the key within the transaction that does the work. Whoever comes second waits for the first to commit, and then
/// is told [`StorageError::Claimed`]. An expired row is taken over.
pub(super) async fn take(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    claim: &Claim,
    records: &[String],
    now: jiff::Timestamp,
) -> Result<(), StorageError> {
    const SQL: &str = "/* storage::records::take_claim */ \
        INSERT INTO idempotency_key AS k \
            (tenant_id, key_mac, body_mac, root_key_id, record_ids, created_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) \
        ON CONFLICT (tenant_id, key_mac) DO UPDATE \
            SET body_mac = excluded.body_mac, root_key_id = excluded.root_key_id, \
                record_ids = excluded.record_ids, created_at = excluded.created_at, expires_at = excluded.expires_at \
            WHERE k.expires_at <= excluded.created_at";
    let expires_at = instant(claim.expires_at)?;
    let taken = transaction
        .execute(
            SQL,
            &[
                tenant.as_uuid(),
                &claim.key_mac.as_slice(),
                &claim.body_mac.as_slice(),
                &claim.root.as_i64(),
                &records,
                &now,
                &expires_at,
            ],
        )
        .await?;
    if taken == 1 { Ok(()) } else { Err(StorageError::Claimed) }
}
