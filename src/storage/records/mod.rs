//! Records, their history and their subjects. Each use is one statement where it can be, so that it is one round trip and
//! atomic.

mod batch;
mod break_glass;
mod care_teams;
mod erasing;
mod erasures;
mod files;
mod finder;
mod history;
mod holds;
mod idempotency;
mod key_destruction;
mod list;
mod reindex;
mod replace;
mod rotations;
mod search;
mod subject_records;
mod terms;
mod writer;

pub use break_glass::{FoundBreakGlass, NewBreakGlass};
pub use care_teams::{Concerned, FoundCareTeam};
pub use erasing::{PendingErasure, PendingErasures, PendingPlace};
pub use erasures::{ErasedBy, FoundErasure, NewErasure};
pub use files::{ExpiredUpload, FoundUpload};
pub use history::FoundVersion;
pub use holds::{FoundHold, NewHold};
pub use idempotency::{Claim, Claimed};
pub use key_destruction::PendingDestruction;
pub use list::{ListedFor, ListedRecord};
pub use reindex::Reindexed;
pub use rotations::{FoundRotation, NewRotation, OpenRotation};
pub use search::{Candidate, TermsOf};
pub use subject_records::SubjectRecord;

use std::pin::Pin;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use self::finder::Finder;
use self::replace::{END, END_WITH_KEYS, REPLACE};
use self::terms::stored_terms;
use self::writer::{Way, Writer};
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
        version_columns!(of "r.sealed_values")
    };
    // Without the sealed values of those that come, in this order, after records which have so many bytes of them.
    (within $bytes:literal, $order:literal) => {
        version_columns!(of concat!(
            "CASE WHEN sum(octet_length(r.sealed_values)) OVER (", $order, " ROWS UNBOUNDED PRECEDING) \
             - octet_length(r.sealed_values) < ", $bytes, " THEN r.sealed_values END"
        ))
    };
    (of $sealed_values:expr) => {
        concat!(
            "r.version, r.subject_id, r.seal_headers, ", $sealed_values, ", r.created_at, r.updated_at, \
             s.lowest_phi_key, s.lowest_pii_key, s.lowest_chd_key"
        )
    };
}
use version_columns;

/// The sealed bytes of what one statement finds: where there are more, the record that reaches them is the last. Whatever is
/// asked for together, no more than that and what is made of it is in memory.
pub const MOST_BYTES: i64 = 8 << 20;

/// Whether it comes after [`MOST_BYTES`].
fn is_left_out(row: &Row) -> bool {
    row.try_get::<_, Option<&[u8]>>(3).is_ok_and(|sealed_values| sealed_values.is_none())
}

/// The record tables of the data database.
#[derive(Clone)]
pub struct RecordStore {
    database: Database,
    finder: Finder,
    writer: Writer,
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
    pub fn new(database: Database) -> Self {
        Self { finder: Finder::new(database.clone()), writer: Writer::new(database.clone()), database }
    }

    /// The current version of a record, unless it is deleted, expired, or its subject is being erased.
    pub async fn find(
        &self,
        tenant: TenantId,
        collection: &CollectionName,
        record: &RecordId,
    ) -> Result<Option<FoundRecord>, StorageError> {
        self.finder.find(tenant, collection, record).await
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
        let version = Version::of(sealed, entry, now)?;
        if version.subject.is_none() {
            let parameters = version.with_terms();
            return Box::pin(self.store_alone("records::insert", INSERT_WITHOUT_SUBJECT, &parameters)).await;
        }
        let way = Way::First(subject);
        let Some(version) = self.writer.store(way, version).await? else {
            return Ok(());
        };
        let statement = match subject {
            SubjectRow::New => INSERT_WITH_SUBJECT,
            SubjectRow::Existing => INSERT_FOR_SUBJECT,
        };
        // Boxed: most share a statement, and all would make room for it.
        Box::pin(self.store_alone("records::insert", statement, &version.with_terms())).await
    }

    /// Replaces version `sealed.version - 1` with `sealed`, keeping the old one in the history, with its audit entry:
    /// all or nothing, durable on return. [`StorageError::Stale`] when another version is current, the record is
    /// deleted, or its subject is no longer active; [`StorageError::Held`] when it would end and a hold is in force.
    pub async fn replace(
        &self,
        sealed: &SealedRecord,
        successor: Successor,
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let version = Version::of(sealed, entry, now)?;
        let version = match successor {
            Successor::Version => match self.writer.store(Way::Next, version).await? {
                Some(version) => version,
                None => return Ok(()),
            },
            Successor::End | Successor::EndWithKeys => version,
        };
        self.succeed(version, successor).await
    }

    /// One version behind another in a transaction of its own. Boxed, since whoever awaits it could not be shown to be `Send`.
    fn succeed(
        &self,
        version: Version,
        successor: Successor,
    ) -> Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send + '_>> {
        Box::pin(self.database.transaction("records::succeed", async move |transaction| {
            version.lock(transaction).await?;
            match successor {
                Successor::Version => version.replace(transaction).await,
                Successor::End => version.end(transaction, END).await,
                Successor::EndWithKeys => version.end(transaction, END_WITH_KEYS).await,
            }
        }))
    }

    /// One version in a statement of its own.
    async fn store_alone(
        &self,
        name: &'static str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), StorageError> {
        let affected = self
            .database
            .run(name, async |client| {
                let statement = client.prepare_cached(statement).await?;
                Ok(client.execute(&statement, parameters).await?)
            })
            .await?;
        one_row(affected)
    }
}

/// The terms of a first version; of which record stands in `$of`.
macro_rules! first_terms {
    ($of:literal) => {
        concat!(
            ", new_terms AS ( \
        INSERT INTO index_term (tenant_id, collection, term, record_id) \
        SELECT $1, $2, t.term, $3 FROM ",
            $of,
            "unnest($12::bytea[]) AS t (term) ON CONFLICT DO NOTHING) "
        )
    };
}

const INSERT_WITH_SUBJECT: &str = concat!(
    "/* storage::records::insert */ \
    WITH new_subject AS (INSERT INTO subject (tenant_id, subject_id) VALUES ($1, $5)), \
    new_record AS ( \
        INSERT INTO record (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                            sealed_values, created_at, updated_at, audit_entry_id, indexed_as, terms) \
        VALUES ($1, $2, $3, $4, $5, false, $6, $7, $8, $8, $9, $11, $12))",
    first_terms!(""),
    "INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $9, $10)"
);

const INSERT_FOR_SUBJECT: &str = concat!(
    "/* storage::records::insert */ \
    WITH active_subject AS ( \
        SELECT subject_id FROM subject \
        WHERE tenant_id = $1 AND subject_id = $5 AND state = 'active' FOR KEY SHARE), \
    new_record AS ( \
        INSERT INTO record (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                            sealed_values, created_at, updated_at, audit_entry_id, indexed_as, terms) \
        SELECT $1, $2, $3, $4, subject_id, false, $6, $7, $8, $8, $9, $11, $12 FROM active_subject \
        RETURNING record_id)",
    first_terms!("new_record, "),
    "INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $9, $10 FROM new_record"
);

const INSERT_WITHOUT_SUBJECT: &str = concat!(
    "/* storage::records::insert */ \
    WITH new_record AS ( \
        INSERT INTO record (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                            sealed_values, created_at, updated_at, audit_entry_id, indexed_as, terms) \
        VALUES ($1, $2, $3, $4, $5, false, $6, $7, $8, $8, $9, $11, $12))",
    first_terms!(""),
    "INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $9, $10)"
);

/// The columns of a version and of its audit entry.
struct Version {
    tenant: Uuid,
    collection: String,
    record: String,
    number: i64,
    subject: Option<Uuid>,
    headers: Vec<u8>,
    values: Vec<u8>,
    now: jiff::Timestamp,
    entry_id: Uuid,
    entry: Vec<u8>,
    indexed_as: Option<i64>,
    terms: Vec<Vec<u8>>,
}

impl Version {
    fn of(sealed: &SealedRecord, entry: &OutboxBytes, now: Timestamp) -> Result<Self, StorageError> {
        let place = sealed.place();
        Ok(Self {
            tenant: *place.tenant.as_uuid(),
            collection: place.collection.as_str().to_owned(),
            record: place.record.as_str().to_owned(),
            number: i64::from(place.version.get()),
            subject: place.subject.map(|id| *id.as_uuid()),
            headers: encode_seals(sealed.seals()),
            values: encode_fields(sealed.fields())?,
            now: instant(now)?,
            entry_id: *entry.entry_id().as_uuid(),
            entry: entry.bytes().to_vec(),
            indexed_as: sealed.index_state(),
            terms: stored_terms(sealed.terms())?,
        })
    }

    /// In the place of the version before it.
    async fn replace(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        one_row(transaction.execute(REPLACE, &self.with_terms()).await?)
    }

    /// As the record's end.
    async fn end(&self, transaction: &Transaction<'_>, statement: &str) -> Result<(), StorageError> {
        let row = transaction.query_one(statement, &self.parameters()).await?;
        match (column(&row, 0, "ended")?, column(&row, 1, "held")?) {
            (_, true) => Err(StorageError::Held),
            (true, false) => Ok(()),
            (false, false) => Err(StorageError::Stale),
        }
    }

    /// Locks the record, so that the statement behind this one sees what others have done before it: one that waited for the
    /// lock itself would not see the terms that were made meanwhile, and would leave them.
    async fn lock(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::lock */ \
            SELECT 1 FROM record WHERE tenant_id = $1 AND collection = $2 AND record_id = $3 FOR UPDATE";
        transaction.execute(SQL, &[&self.tenant, &self.collection, &self.record]).await?;
        Ok(())
    }

    /// $1 to $12 of the statements that store its terms as well.
    fn with_terms(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut parameters = self.parameters().to_vec();
        parameters.extend([&self.indexed_as as &(dyn ToSql + Sync), &self.terms]);
        parameters
    }

    /// $1 to $10 of every statement that stores one version.
    fn parameters(&self) -> [&(dyn ToSql + Sync); 10] {
        [
            &self.tenant,
            &self.collection,
            &self.record,
            &self.number,
            &self.subject,
            &self.headers,
            &self.values,
            &self.now,
            &self.entry_id,
            &self.entry,
        ]
    }
}

fn instant(at: Timestamp) -> Result<jiff::Timestamp, StorageError> {
    jiff::Timestamp::from_microsecond(at.as_micros()).map_err(|_| StorageError::Malformed("the clock"))
}

fn one_row(affected: u64) -> Result<(), StorageError> {
    all_rows(affected, 1)
}

fn all_rows(affected: u64, wanted: usize) -> Result<(), StorageError> {
    if usize::try_from(affected) == Ok(wanted) { Ok(()) } else { Err(StorageError::Stale) }
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
