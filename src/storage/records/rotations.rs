//! Replacing tenant keys, as far as the data database has a part in it: asked for, begun, wrapped again, approved, destroyed. How
//! far the keys themselves have come is in the key database.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::erasures::put_entry;
use super::{Claim, RecordStore, StorageError, column, idempotency, instant, one_row, time};
use crate::audit::OutboxBytes;
use crate::domain::break_glass::Reference;
use crate::domain::class::DataClass;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, RotationId, TenantId};
use crate::domain::rotation::RotationReason;
use crate::storage::Succession;

/// A rotation to be asked for.
#[derive(Clone, Debug)]
pub struct NewRotation {
    pub id: RotationId,
    pub keys: Succession,
    pub reason: RotationReason,
    pub reference: Reference,
    /// The custodian who asks.
    pub by: String,
}

/// A rotation, however far it has come.
#[derive(Clone, Debug)]
pub struct FoundRotation {
    pub id: RotationId,
    pub keys: Succession,
    pub reason: RotationReason,
    pub reference: Reference,
    pub requested_by: String,
    pub requested_at: Timestamp,
    /// Since when the new key wraps what is new.
    pub began_at: Option<Timestamp>,
    /// Since when nothing is under the old key, and how many keys were wrapped again.
    pub rewrapped: Option<(Timestamp, u64)>,
    /// By which custodian, and when.
    pub approved: Option<(String, Timestamp)>,
    pub destroyed_at: Option<Timestamp>,
}

/// A rotation that is not at its end.
#[derive(Clone, Debug)]
pub struct OpenRotation {
    pub rotation: FoundRotation,
    /// It is the service's to go on with, and has not gone on for so long.
    pub is_stalled: bool,
}

macro_rules! rotation_columns {
    () => {
        "tenant_id, rotation_id, class, from_key, to_key, reason, reference, requested_by, requested_at, began_at, \
         rewrapped_at, rewrapped_keys, approved_by, approved_at, destroyed_at"
    };
}

impl RecordStore {
    /// Stores a request with its entry, and the key that it was sent under: all or nothing, durable on return.
    /// [`StorageError::Conflict`] while another one of the class is open, [`StorageError::Claimed`] when something was done
    /// under the key before.
    pub async fn request_rotation(
        &self,
        new: &NewRotation,
        claim: Option<&Claim>,
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::request_rotation */ \
            INSERT INTO key_rotation (tenant_id, rotation_id, class, from_key, to_key, reason, reference, requested_by, \
                                      requested_at, advanced_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)";
        let entry = (*entry.entry_id().as_uuid(), entry.bytes().to_vec());
        let now = instant(now)?;
        // Owned, since a closure that borrows cannot be shown to be `Send` here.
        let (new, claim) = (new.clone(), claim.cloned());
        self.database
            .transaction("records::request_rotation", async move |transaction| {
                let tenant = new.keys.tenant;
                if let Some(claim) = &claim {
                    idempotency::take(transaction, tenant, claim, &[new.id.to_string()], now).await?;
                }
                let (class, from, to) = place(&new.keys);
                let (reason, reference) = (new.reason.as_str(), new.reference.as_str());
                let parameters: [&(dyn ToSql + Sync); 9] = [
                    tenant.as_uuid(),
                    new.id.as_uuid(),
                    &class,
                    &from,
                    &to,
                    &reason,
                    &reference,
                    &new.by,
                    &now,
                ];
                one_row(transaction.execute(SQL, &parameters).await?)?;
                put_entry(transaction, tenant, &entry).await
            })
            .await
    }

    /// The rotations of a tenant, the newest first, at most `limit`.
    pub async fn rotations(&self, tenant: TenantId, limit: i64) -> Result<Vec<FoundRotation>, StorageError> {
        const SQL: &str = concat!(
            "/* storage::records::rotations */ SELECT ",
            rotation_columns!(),
            " FROM key_rotation WHERE tenant_id = $1 ORDER BY requested_at DESC, rotation_id DESC LIMIT $2"
        );
        let rows = self
            .database
            .run("records::rotations", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), &limit]).await?)
            })
            .await?;
        rows.iter().map(found).collect()
    }

    /// One rotation of a tenant.
    pub async fn rotation(
        &self,
        tenant: TenantId,
        id: RotationId,
    ) -> Result<Option<FoundRotation>, StorageError> {
        const SQL: &str = concat!(
            "/* storage::records::rotation */ SELECT ",
            rotation_columns!(),
            " FROM key_rotation WHERE tenant_id = $1 AND rotation_id = $2"
        );
        let row = self
            .database
            .run("records::rotation", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_opt(&statement, &[tenant.as_uuid(), id.as_uuid()]).await?)
            })
            .await?;
        row.map(|row| found(&row)).transpose()
    }

    /// Those that are not at their end, of all tenants, the oldest first. `stalled_after`: for how long one that is the
    /// service's to go on with may stand still.
    pub async fn open_rotations(&self, stalled_after: Duration) -> Result<Vec<OpenRotation>, StorageError> {
        const SQL: &str = concat!(
            "/* storage::records::open_rotations */ SELECT ",
            rotation_columns!(),
            ", (rewrapped_at IS NULL OR approved_at IS NOT NULL) \
               AND advanced_at <= now() - make_interval(secs => $1) \
             FROM key_rotation WHERE destroyed_at IS NULL ORDER BY requested_at"
        );
        let rows = self
            .database
            .run("records::open_rotations", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[&stalled_after.as_secs_f64()]).await?)
            })
            .await?;
        let read = |row: &Row| {
            Ok(OpenRotation { rotation: found(row)?, is_stalled: column(row, 15, "is stalled")? })
        };
        rows.iter().map(read).collect()
    }

    /// Notes that it has gone on.
    pub async fn advance_rotation(&self, tenant: TenantId, id: RotationId) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::advance_rotation */ \
            UPDATE key_rotation SET advanced_at = now() \
            WHERE tenant_id = $1 AND rotation_id = $2 AND destroyed_at IS NULL";
        self.database
            .run("records::advance_rotation", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                client.execute(&statement, &[tenant.as_uuid(), id.as_uuid()]).await?;
                Ok(())
            })
            .await
    }

    /// The new key is in force. With the entry that it was made, both or neither; [`StorageError::Stale`] when that is on
    /// record already.
    pub async fn begin_rotation(
        &self,
        tenant: TenantId,
        id: RotationId,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::begin_rotation */ \
            WITH gone_on AS ( \
                UPDATE key_rotation SET began_at = now(), advanced_at = now() \
                WHERE tenant_id = $1 AND rotation_id = $2 AND began_at IS NULL RETURNING tenant_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT tenant_id, $3, $4 FROM gone_on";
        self.go_on(("records::begin_rotation", SQL), tenant, id, entry).await
    }

    /// Nothing is under the old key any more. With the entry; [`StorageError::Stale`] when that is on record already.
    pub async fn rewrapped_rotation(
        &self,
        tenant: TenantId,
        id: RotationId,
        keys: u64,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::rewrapped_rotation */ \
            WITH gone_on AS ( \
                UPDATE key_rotation SET rewrapped_at = now(), rewrapped_keys = $5, advanced_at = now() \
                WHERE tenant_id = $1 AND rotation_id = $2 AND began_at IS NOT NULL AND rewrapped_at IS NULL \
                RETURNING tenant_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT tenant_id, $3, $4 FROM gone_on";
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        let entry_id = *entry.entry_id().as_uuid();
        let parameters: [&(dyn ToSql + Sync); 5] =
            [tenant.as_uuid(), id.as_uuid(), &entry_id, &entry.bytes(), &keys];
        let affected = self
            .database
            .run("records::rewrapped_rotation", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }

    /// Approves the end of the old key, with the entry, both or neither, durable on return. [`StorageError::Stale`] when it is
    /// not one that waits for somebody else's approval, or was wrapped again later than `rewrapped_by`.
    pub async fn approve_rotation(
        &self,
        (tenant, id): (TenantId, RotationId),
        by: &str,
        (now, rewrapped_by): (Timestamp, Timestamp),
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::approve_rotation */ \
            WITH approved AS ( \
                UPDATE key_rotation SET approved_by = $5, approved_at = $6, advanced_at = now() \
                WHERE tenant_id = $1 AND rotation_id = $2 AND rewrapped_at <= $7 AND approved_at IS NULL \
                  AND requested_by <> $5 RETURNING tenant_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT tenant_id, $3, $4 FROM approved";
        let (now, rewrapped_by) = (instant(now)?, instant(rewrapped_by)?);
        let entry_id = *entry.entry_id().as_uuid();
        let parameters: [&(dyn ToSql + Sync); 7] =
            [tenant.as_uuid(), id.as_uuid(), &entry_id, &entry.bytes(), &by, &now, &rewrapped_by];
        let affected = self
            .database
            .run("records::approve_rotation", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }

    /// The old key is gone. With the entry; [`StorageError::Stale`] when that is on record already.
    pub async fn finish_rotation(
        &self,
        tenant: TenantId,
        id: RotationId,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::finish_rotation */ \
            WITH gone_on AS ( \
                UPDATE key_rotation SET destroyed_at = now(), advanced_at = now() \
                WHERE tenant_id = $1 AND rotation_id = $2 AND approved_at IS NOT NULL AND destroyed_at IS NULL \
                RETURNING tenant_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT tenant_id, $3, $4 FROM gone_on";
        self.go_on(("records::finish_rotation", SQL), tenant, id, entry).await
    }

    async fn go_on(
        &self,
        (name, sql): (&'static str, &'static str),
        tenant: TenantId,
        id: RotationId,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        let entry_id = *entry.entry_id().as_uuid();
        let parameters: [&(dyn ToSql + Sync); 4] =
            [tenant.as_uuid(), id.as_uuid(), &entry_id, &entry.bytes()];
        let affected = self
            .database
            .run(name, async |client| {
                let statement = client.prepare_cached(sql).await?;
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }
}

const fn place(keys: &Succession) -> (&'static str, i64, i64) {
    (keys.class.as_str(), keys.from.as_i64(), keys.to.as_i64())
}

fn found(row: &Row) -> Result<FoundRotation, StorageError> {
    let malformed = StorageError::Malformed;
    let key = |index, name| KeyId::new(column(row, index, name)?).ok_or(malformed(name));
    let at = |index| {
        let at = column::<Option<jiff::Timestamp>>(row, index, "time")?;
        Ok::<_, StorageError>(at.map(|at| Timestamp::from_micros(at.as_microsecond())))
    };
    let rewrapped = match (at(10)?, column::<Option<i64>>(row, 11, "keys")?) {
        (Some(at), Some(keys)) => Some((at, keys.unsigned_abs())),
        _ => None,
    };
    let approved = match (column::<Option<String>>(row, 12, "approver")?, at(13)?) {
        (Some(by), Some(at)) => Some((by, at)),
        _ => None,
    };
    Ok(FoundRotation {
        id: RotationId::from_uuid(column::<Uuid>(row, 1, "rotation id")?),
        keys: Succession {
            tenant: TenantId::from_uuid(column::<Uuid>(row, 0, "tenant")?),
            class: DataClass::parse(column(row, 2, "class")?).ok_or(malformed("class"))?,
            from: key(3, "from key")?,
            to: key(4, "to key")?,
        },
        reason: RotationReason::parse(column(row, 5, "reason")?).ok_or(malformed("reason"))?,
        reference: Reference::parse(column(row, 6, "reference")?).ok_or(malformed("reference"))?,
        requested_by: column(row, 7, "client")?,
        requested_at: time(row, 8)?,
        began_at: at(9)?,
        rewrapped,
        approved,
        destroyed_at: at(14)?,
    })
}
