//! Records, their history and their subjects. Each use is one statement, so that it is one round trip and atomic.

mod batch;
mod files;
mod history;
mod idempotency;
mod key_destruction;
mod list;

pub use files::{ExpiredUpload, FoundUpload};
pub use history::FoundVersion;
pub use idempotency::{Claim, Claimed};
pub use key_destruction::PendingDestruction;
pub use list::ListedRecord;

use tokio_postgres::Row;
use uuid::Uuid;

use super::fitness::Weakness;
use super::pool::{Database, StorageError};
use super::sealed_columns::{decode_fields, decode_seals, encode_fields, encode_seals};
use crate::audit::OutboxBytes;
use crate::crypto::{SealPlace, SealedRecord, StoredRecord};
use crate::domain::class::DataClass;
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, KeyId, RecordId, RecordVersion, SubjectId, TenantId};

/// What [`found`] reads, of a version `r` and its subject `s`.
macro_rules! version_columns {
    () => {
        "r.version, r.subject_id, r.seal_headers, r.sealed_values, r.created_at, r.updated_at, \
         s.lowest_phi_key, s.lowest_pii_key, s.lowest_chd_key"
    };
}
use version_columns;

/// The record tables of the data database.
#[derive(Clone)]
pub struct RecordStore {
    database: Database,
}

/// A current version as stored: sealed, and not to be trusted before it opens.
pub struct FoundRecord {
    pub stored: StoredRecord,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    lowest_keys: [i64; 3],
}

impl FoundRecord {
    /// Whether a key of this number may still open a value of this class (erasure and rotation raise the floor).
    pub fn is_usable(&self, class: DataClass, id: KeyId) -> bool {
        let [phi, pii, chd] = self.lowest_keys;
        let lowest = match class {
            DataClass::Phi => phi,
            DataClass::Pii => pii,
            DataClass::Chd => chd,
        };
        id.as_i64() >= lowest
    }
}

/// Whether a new record brings its subject with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectRow {
    /// The record makes its subject.
    New,
    /// The subject must be there and active; its row is locked against erasure until the commit.
    Existing,
}

/// What the version that replaces another one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// A version like any other.
    Version,
    /// The record's end.
    End,
    /// The record's end, with a note that the keys of the record are to be destroyed.
    EndWithKeys,
}

impl RecordStore {
    pub const fn new(database: Database) -> Self {
        Self { database }
    }

    /// The current version of a record, unless it is deleted, expired, or its subject is being erased.
    pub async fn find(
        &self,
        tenant: TenantId,
        collection: &CollectionName,
        record: &RecordId,
    ) -> Result<Option<FoundRecord>, StorageError> {
        const SQL: &str = concat!(
            "/* storage::records::find */ SELECT ",
            version_columns!(),
            " FROM record r \
             LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
             WHERE r.tenant_id = $1 AND r.collection = $2 AND r.record_id = $3 AND NOT r.deleted \
               AND (r.expires_at IS NULL OR r.expires_at > now()) \
               AND (r.subject_id IS NULL OR s.state = 'active')"
        );
        let row = self
            .database
            .run("records::find", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                    [tenant.as_uuid(), &collection.as_str(), &record.as_str()];
                Ok(client.query_opt(&statement, &parameters).await?)
            })
            .await?;
        row.map(|row| found(&row, tenant, collection, record)).transpose()
    }

    /// Tells the metrics how full the pool is.
    pub fn report(&self) {
        self.database.report("data");
    }

    /// What is wrong with the data database; see [`Database::weaknesses`].
    pub async fn weaknesses(&self, now: Timestamp) -> Result<Vec<Weakness>, StorageError> {
        self.database.weaknesses("data", now).await
    }

    /// Whether the data database answers.
    pub async fn ping(&self) -> Result<(), StorageError> {
        self.database.ping("records::ping").await
    }

    /// Whether the subject is there and active.
    pub async fn subject_is_active(
        &self,
        tenant: TenantId,
        subject: SubjectId,
    ) -> Result<bool, StorageError> {
        const SQL: &str = "/* storage::records::subject_is_active */ \
            SELECT 1 FROM subject WHERE tenant_id = $1 AND subject_id = $2 AND state = 'active'";
        self.database
            .run("records::subject_is_active", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_opt(&statement, &[tenant.as_uuid(), subject.as_uuid()]).await?.is_some())
            })
            .await
    }

    /// Stores version 1 of a record, its subject if new, and its audit entry: all or nothing, durable on return.
    /// [`StorageError::Stale`] when an existing subject is missing or not active.
    pub async fn insert(
        &self,
        sealed: &SealedRecord,
        subject: SubjectRow,
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let columns = Columns::of(sealed, now)?;
        let place = sealed.place();
        let statement = match (place.subject.is_some(), subject) {
            (true, SubjectRow::New) => INSERT_WITH_SUBJECT,
            (true, SubjectRow::Existing) => INSERT_FOR_SUBJECT,
            (false, _) => INSERT_WITHOUT_SUBJECT,
        };
        let affected = self
            .database
            .run("records::insert", async |client| {
                let statement = client.prepare_cached(statement).await?;
                let subject_id = place.subject.map(|id| *id.as_uuid());
                Ok(client
                    .execute(
                        &statement,
                        &[
                            place.tenant.as_uuid(),
                            &place.collection.as_str(),
                            &place.record.as_str(),
                            &i64::from(place.version.get()),
                            &subject_id,
                            &columns.headers,
                            &columns.values,
                            &columns.now,
                            entry.entry_id().as_uuid(),
                            &entry.bytes(),
                        ],
                    )
                    .await?)
            })
            .await?;
        one_row(affected)
    }

    /// Replaces version `sealed.version - 1` with `sealed`, keeping the old one in the history, with its audit entry:
    /// all or nothing, durable on return. [`StorageError::Stale`] when another version is current, the record is
    /// deleted, or its subject is no longer active.
    pub async fn replace(
        &self,
        sealed: &SealedRecord,
        successor: Successor,
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let columns = Columns::of(sealed, now)?;
        let place = sealed.place();
        let deleted = successor != Successor::Version;
        let statement = if successor == Successor::EndWithKeys { END_WITH_KEYS } else { REPLACE };
        let affected = self
            .database
            .run("records::replace", async |client| {
                let statement = client.prepare_cached(statement).await?;
                Ok(client
                    .execute(
                        &statement,
                        &[
                            place.tenant.as_uuid(),
                            &place.collection.as_str(),
                            &place.record.as_str(),
                            &i64::from(place.version.get()),
                            &deleted,
                            &columns.headers,
                            &columns.values,
                            &columns.now,
                            entry.entry_id().as_uuid(),
                            &entry.bytes(),
                        ],
                    )
                    .await?)
            })
            .await?;
        one_row(affected)
    }
}

const INSERT_WITH_SUBJECT: &str = "/* storage::records::insert */ \
    WITH new_subject AS (INSERT INTO subject (tenant_id, subject_id) VALUES ($1, $5)), \
    new_record AS ( \
        INSERT INTO record (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                            sealed_values, created_at, updated_at, audit_entry_id) \
        VALUES ($1, $2, $3, $4, $5, false, $6, $7, $8, $8, $9)) \
    INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $9, $10)";

const INSERT_FOR_SUBJECT: &str = "/* storage::records::insert */ \
    WITH active_subject AS ( \
        SELECT subject_id FROM subject \
        WHERE tenant_id = $1 AND subject_id = $5 AND state = 'active' FOR KEY SHARE), \
    new_record AS ( \
        INSERT INTO record (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                            sealed_values, created_at, updated_at, audit_entry_id) \
        SELECT $1, $2, $3, $4, subject_id, false, $6, $7, $8, $8, $9 FROM active_subject \
        RETURNING record_id) \
    INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $9, $10 FROM new_record";

const INSERT_WITHOUT_SUBJECT: &str = "/* storage::records::insert */ \
    WITH new_record AS ( \
        INSERT INTO record (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                            sealed_values, created_at, updated_at, audit_entry_id) \
        VALUES ($1, $2, $3, $4, $5, false, $6, $7, $8, $8, $9)) \
    INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $9, $10)";

/// The statement that replaces a version, with what more it needs and what more it does.
macro_rules! replace {
    ($guard:literal, $more:literal) => {
        concat!(
            "/* storage::records::replace */ \
    WITH old AS ( \
        SELECT r.* FROM record r \
        WHERE r.tenant_id = $1 AND r.collection = $2 AND r.record_id = $3 AND r.version = $4::bigint - 1 AND NOT r.deleted \
        FOR UPDATE), \
    active_subject AS ( \
        SELECT s.subject_id FROM subject s JOIN old ON s.tenant_id = old.tenant_id AND s.subject_id = old.subject_id \
        WHERE s.state = 'active' FOR KEY SHARE OF s), \
    current AS ( \
        SELECT old.* FROM old \
        WHERE (old.subject_id IS NULL OR EXISTS (SELECT 1 FROM active_subject))",
            $guard,
            "), \
    kept AS ( \
        INSERT INTO record_history (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                                    sealed_values, created_at, updated_at, expires_at, audit_entry_id) \
        SELECT tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, sealed_values, created_at, \
               updated_at, expires_at, audit_entry_id FROM current), \
    replaced AS ( \
        UPDATE record SET version = $4, deleted = $5, seal_headers = $6, sealed_values = $7, updated_at = $8, \
                          audit_entry_id = $9 \
        FROM current \
        WHERE record.tenant_id = current.tenant_id AND record.collection = current.collection \
          AND record.record_id = current.record_id \
        RETURNING record.record_id)",
            $more,
            " INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $9, $10 FROM replaced"
        )
    };
}
use replace;

const REPLACE: &str = replace!("", "");

const END_WITH_KEYS: &str = replace!(
    "",
    ", destruction AS ( \
        INSERT INTO key_destruction (tenant_id, record_id, collection, subject_id, requested_at) \
        SELECT tenant_id, record_id, collection, subject_id, $8 FROM current)"
);

/// The columns of a version.
struct Columns {
    headers: Vec<u8>,
    values: Vec<u8>,
    now: jiff::Timestamp,
}

impl Columns {
    fn of(sealed: &SealedRecord, now: Timestamp) -> Result<Self, StorageError> {
        Ok(Self {
            headers: encode_seals(sealed.seals()),
            values: encode_fields(sealed.fields())?,
            now: instant(now)?,
        })
    }
}

fn instant(at: Timestamp) -> Result<jiff::Timestamp, StorageError> {
    jiff::Timestamp::from_microsecond(at.as_micros()).map_err(|_| StorageError::Malformed("the clock"))
}

fn one_row(affected: u64) -> Result<(), StorageError> {
    if affected == 1 { Ok(()) } else { Err(StorageError::Stale) }
}

fn found(
    row: &Row,
    tenant: TenantId,
    collection: &CollectionName,
    record: &RecordId,
) -> Result<FoundRecord, StorageError> {
    let version = version(row, 0)?;
    let subject = column::<Option<Uuid>>(row, 1, "subject")?.map(SubjectId::from_uuid);
    let seals = decode_seals(column(row, 2, "seal headers")?)?;
    let fields = decode_fields(column(row, 3, "sealed values")?)?;
    let place =
        SealPlace { tenant, collection: collection.clone(), record: record.clone(), version, subject };
    let lowest = |index| column::<Option<i64>>(row, index, "lowest key").map(|floor| floor.unwrap_or(1));
    Ok(FoundRecord {
        stored: StoredRecord { place, seals, fields },
        created_at: time(row, 4)?,
        updated_at: time(row, 5)?,
        lowest_keys: [lowest(6)?, lowest(7)?, lowest(8)?],
    })
}

fn version(row: &Row, index: usize) -> Result<RecordVersion, StorageError> {
    let number = u32::try_from(column::<i64>(row, index, "version")?).ok();
    number.and_then(RecordVersion::new).ok_or(StorageError::Malformed("version"))
}

fn time(row: &Row, index: usize) -> Result<Timestamp, StorageError> {
    column::<jiff::Timestamp>(row, index, "time").map(|at| Timestamp::from_micros(at.as_microsecond()))
}

/// A column that does not convert was not written by this code: that is a malformed row, not a lost connection.
fn column<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    index: usize,
    name: &'static str,
) -> Result<T, StorageError> {
    row.try_get(index).map_err(|_| StorageError::Malformed(name))
}
