//! Many records at once: found in one statement, stored in one transaction.

use std::collections::HashMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::terms::{spelled, stored_terms};
use super::{
    Claim, FoundRecord, MOST_BYTES, RecordStore, StorageError, SubjectRow, all_rows, column, found,
    idempotency,
};
use super::{encode_fields, encode_seals, instant, is_left_out, version_columns};
use crate::audit::OutboxBytes;
use crate::crypto::SealedRecord;
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, RecordId, SubjectId, TenantId};

impl RecordStore {
    /// The current versions of those of `records` that there are, under the conditions of [`Self::find`]. One that does
    /// not have the form it was stored with is an error of its own and does not hide the others.
    /// [`StorageError::TooMuch`]: they have more than [`MOST_BYTES`].
    pub async fn find_many(
        &self,
        tenant: TenantId,
        collection: &CollectionName,
        records: &[RecordId],
    ) -> Result<HashMap<RecordId, Result<FoundRecord, StorageError>>, StorageError> {
        let ids: Vec<&str> = records.iter().map(RecordId::as_str).collect();
        let rows = self
            .database
            .run("records::find_many", async |client| {
                let statement = client.prepare_cached(FIND_MANY).await?;
                let parameters: [&(dyn ToSql + Sync); 4] =
                    [tenant.as_uuid(), &collection.as_str(), &ids, &MOST_BYTES];
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        if rows.iter().any(is_left_out) {
            return Err(StorageError::TooMuch);
        }
        let read = |row: &Row| {
            let record = RecordId::parse(column(row, RECORD_ID, "record id")?)
                .ok_or(StorageError::Malformed("record id"))?;
            let version = found(row, tenant, collection, &record);
            Ok((record, version))
        };
        rows.iter().map(read).collect()
    }

    /// Those of `subjects` that are there and active.
    pub async fn active_subjects(
        &self,
        tenant: TenantId,
        subjects: &[SubjectId],
    ) -> Result<Vec<SubjectId>, StorageError> {
        const SQL: &str = "/* storage::records::active_subjects */ \
            SELECT n.subject_id FROM unnest($2::uuid[]) AS n (subject_id) \
            CROSS JOIN LATERAL (SELECT * FROM subject o \
                                WHERE o.tenant_id = $1 AND o.subject_id = n.subject_id LIMIT 1) AS s \
            WHERE s.state = 'active'";
        let ids: Vec<Uuid> = subjects.iter().map(|id| *id.as_uuid()).collect();
        let rows = self
            .database
            .run("records::active_subjects", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), &ids]).await?)
            })
            .await?;
        rows.iter().map(|row| column(row, 0, "subject").map(SubjectId::from_uuid)).collect()
    }

    /// Stores first versions of records of one tenant and collection with their subjects if new, the entries of the
    /// request (first those of the records, in their order), and the key that they were sent under: all or nothing,
    /// durable on return. [`StorageError::Stale`] when an existing subject is missing or not active,
    /// [`StorageError::Claimed`] when something was done under the key before.
    pub async fn insert_together(
        &self,
        records: &[SealedRecord],
        subject: SubjectRow,
        claim: Option<&Claim>,
        entries: &[OutboxBytes],
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let Some(first) = records.first() else { return Ok(()) };
        let (tenant, collection) = (first.place().tenant, first.place().collection.clone());
        // Owned, since a closure that borrows cannot be shown to be `Send` here.
        let (columns, claim) = (Columns::of(records, entries, now)?, claim.cloned());
        self.database
            .transaction("records::insert_together", async move |transaction| {
                if let Some(claim) = &claim {
                    idempotency::take(transaction, tenant, claim, &columns.records, columns.now).await?;
                }
                columns.insert_subjects(transaction, tenant, subject).await?;
                columns.insert_records(transaction, tenant, collection.as_str()).await?;
                columns.insert_terms(transaction, tenant, collection.as_str()).await?;
                columns.insert_entries(transaction, tenant).await
            })
            .await
    }
}

/// Where [`find`] has the record's id; before it stands what [`found`] reads.
pub(super) const RECORD_ID: usize = 9;

/// The current versions of those of `ids` that there are, unless they are deleted, expired, or their subject is being
/// erased. One look-up by the whole key for each, here as wherever several are asked for: `record_id = ANY`, or a join, was a
/// filter behind the key's first two columns, which is the whole collection, wherever the statement was planned while there
/// were few records.
macro_rules! find {
    ($columns:expr) => {
        concat!(
            "/* storage::records::find */ SELECT ",
            $columns,
            ", r.record_id FROM unnest($3::text[]) AS n (record_id) \
             CROSS JOIN LATERAL (SELECT * FROM record o \
                                 WHERE o.tenant_id = $1 AND o.collection = $2 AND o.record_id = n.record_id LIMIT 1) AS r \
             LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
             WHERE NOT r.deleted \
               AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
               AND (r.subject_id IS NULL OR s.state = 'active')"
        )
    };
}

/// Of those who ask for one each.
pub(super) const FIND: &str = find!(version_columns!());

const FIND_MANY: &str = find!(version_columns!(within "$4", ""));

const OUTBOX: &str = "/* storage::records::insert_together */ \
    INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, * FROM unnest($2::uuid[], $3::bytea[])";

const RECORDS: &str = "/* storage::records::insert_together */ \
    INSERT INTO record (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, sealed_values, \
                        created_at, updated_at, audit_entry_id, indexed_as, terms) \
    SELECT $1, $2, record_id, version, subject_id, false, headers, sealed, $3, $3, entry_id, indexed_as, spelled::bytea[] \
    FROM unnest($4::text[], $5::bigint[], $6::uuid[], $7::bytea[], $8::bytea[], $9::uuid[], $10::bigint[], $11::text[]) \
         AS n (record_id, version, subject_id, headers, sealed, entry_id, indexed_as, spelled)";

const TERMS: &str = "/* storage::records::insert_together */ \
    INSERT INTO index_term (tenant_id, collection, term, record_id) \
    SELECT $1, $2, term, record_id FROM unnest($3::text[], $4::bytea[]) AS n (record_id, term)";

const NEW_SUBJECTS: &str = "/* storage::records::insert_together */ \
    INSERT INTO subject (tenant_id, subject_id) SELECT $1, unnest($2::uuid[])";

// In the order in which they are given, which is one for all, so that two batches about the same people do not wait for
// each other.
const LOCK_SUBJECTS: &str = "/* storage::records::insert_together */ \
    SELECT n.subject_id FROM unnest($2::uuid[]) AS n (subject_id) \
    CROSS JOIN LATERAL (SELECT FROM subject o \
                        WHERE o.tenant_id = $1 AND o.subject_id = n.subject_id AND o.state = 'active' \
                        FOR KEY SHARE) AS s";

/// A batch, column by column.
struct Columns {
    records: Vec<String>,
    versions: Vec<i64>,
    subjects: Vec<Option<Uuid>>,
    headers: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
    entry_ids: Vec<Uuid>,
    entries: Vec<Vec<u8>>,
    indexed_as: Vec<Option<i64>>,
    terms: Vec<Vec<Vec<u8>>>,
    now: jiff::Timestamp,
}

impl Columns {
    fn of(records: &[SealedRecord], entries: &[OutboxBytes], now: Timestamp) -> Result<Self, StorageError> {
        let places = || records.iter().map(SealedRecord::place);
        Ok(Self {
            records: places().map(|place| place.record.as_str().to_owned()).collect(),
            versions: places().map(|place| i64::from(place.version.get())).collect(),
            subjects: places().map(|place| place.subject.map(|id| *id.as_uuid())).collect(),
            headers: records.iter().map(|sealed| encode_seals(sealed.seals())).collect(),
            values: records.iter().map(|sealed| encode_fields(sealed.fields())).collect::<Result<_, _>>()?,
            entry_ids: entries.iter().map(|entry| *entry.entry_id().as_uuid()).collect(),
            entries: entries.iter().map(|entry| entry.bytes().to_vec()).collect(),
            indexed_as: records.iter().map(SealedRecord::index_state).collect(),
            terms: records.iter().map(|sealed| stored_terms(sealed.terms())).collect::<Result<_, _>>()?,
            now: instant(now)?,
        })
    }

    async fn insert_subjects(
        &self,
        transaction: &Transaction<'_>,
        tenant: TenantId,
        row: SubjectRow,
    ) -> Result<(), StorageError> {
        let mut subjects: Vec<Uuid> = self.subjects.iter().copied().flatten().collect();
        subjects.sort_unstable();
        subjects.dedup();
        if subjects.is_empty() {
            return Ok(());
        }
        let parameters: [&(dyn ToSql + Sync); 2] = [tenant.as_uuid(), &subjects];
        match row {
            SubjectRow::New => {
                all_rows(transaction.execute(NEW_SUBJECTS, &parameters).await?, subjects.len())
            }
            SubjectRow::Existing => {
                let locked = transaction.query(LOCK_SUBJECTS, &parameters).await?;
                if locked.len() == subjects.len() { Ok(()) } else { Err(StorageError::Stale) }
            }
        }
    }

    async fn insert_records(
        &self,
        transaction: &Transaction<'_>,
        tenant: TenantId,
        collection: &str,
    ) -> Result<(), StorageError> {
        let own_entries =
            self.entry_ids.get(..self.records.len()).ok_or(StorageError::Malformed("entries"))?;
        let terms: Vec<String> = self.terms.iter().map(|terms| spelled(terms)).collect();
        let parameters: [&(dyn ToSql + Sync); 11] = [
            tenant.as_uuid(),
            &collection,
            &self.now,
            &self.records,
            &self.versions,
            &self.subjects,
            &self.headers,
            &self.values,
            &own_entries,
            &self.indexed_as,
            &terms,
        ];
        all_rows(transaction.execute(RECORDS, &parameters).await?, self.records.len())
    }

    async fn insert_terms(
        &self,
        transaction: &Transaction<'_>,
        tenant: TenantId,
        collection: &str,
    ) -> Result<(), StorageError> {
        let (of, terms): (Vec<&str>, Vec<&[u8]>) = self
            .records
            .iter()
            .zip(&self.terms)
            .flat_map(|(record, terms)| terms.iter().map(|term| (record.as_str(), term.as_slice())))
            .unzip();
        if terms.is_empty() {
            return Ok(());
        }
        let parameters: [&(dyn ToSql + Sync); 4] = [tenant.as_uuid(), &collection, &of, &terms];
        transaction.execute(TERMS, &parameters).await?;
        Ok(())
    }

    async fn insert_entries(
        &self,
        transaction: &Transaction<'_>,
        tenant: TenantId,
    ) -> Result<(), StorageError> {
        let parameters: [&(dyn ToSql + Sync); 3] = [tenant.as_uuid(), &self.entry_ids, &self.entries];
        all_rows(transaction.execute(OUTBOX, &parameters).await?, self.entries.len())
    }
}
