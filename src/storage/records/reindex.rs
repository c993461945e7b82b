//! Terms made anew, for records that were stored under another declaration of indexes. How far that has come is in the rows.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::batch::RECORD_ID;
use super::terms::{gone, spelled, stored_terms};
use super::{
    FoundRecord, MOST_BYTES, RecordStore, StorageError, column, found, is_left_out, one_row, version_columns,
};
use crate::audit::OutboxBytes;
use crate::crypto::index::IndexTerm;
use crate::domain::id::{CollectionName, RecordId, RecordVersion, TenantId};

const REINDEX: &str = concat!(
    "/* storage::records::reindex */ \
    WITH current AS MATERIALIZED ( \
        SELECT r.record_id, r.subject_id, r.indexed_as, r.terms, n.spelled::bytea[] AS new_terms \
        FROM (SELECT * FROM unnest($4::text[], $5::bigint[], $6::text[]) AS n (record_id, version, spelled) \
              ORDER BY record_id) AS n \
        CROSS JOIN LATERAL ( \
            SELECT * FROM record o \
            WHERE o.tenant_id = $1 AND o.collection = $2 AND o.record_id = n.record_id AND o.version = n.version \
              AND NOT o.deleted \
            FOR UPDATE) AS r), \
    active_subject AS MATERIALIZED ( \
        SELECT o.subject_id FROM (SELECT DISTINCT subject_id FROM current ORDER BY subject_id) AS o \
        CROSS JOIN LATERAL ( \
            SELECT FROM subject s WHERE s.tenant_id = $1 AND s.subject_id = o.subject_id AND s.state = 'active' \
            FOR KEY SHARE) AS s), \
    held AS MATERIALIZED ( \
        SELECT record_id, terms, new_terms FROM current \
        WHERE (subject_id IS NULL OR subject_id IN (SELECT subject_id FROM active_subject)) \
          AND indexed_as IS NOT DISTINCT FROM ( \
              SELECT seen.indexed_as FROM record seen \
              WHERE seen.tenant_id = $1 AND seen.collection = $2 AND seen.record_id = current.record_id)), \
    indexed AS ( \
        UPDATE record SET indexed_as = $3, terms = held.new_terms FROM held \
        WHERE record.tenant_id = $1 AND record.collection = $2 AND record.record_id = held.record_id), ",
    gone!("held", "held.record_id", "t.term <> ALL (held.new_terms)"),
    ", added AS ( \
        INSERT INTO index_term (tenant_id, collection, term, record_id) \
        SELECT $1, $2, t.term, held.record_id FROM held, unnest(held.new_terms) AS t (term) \
        ON CONFLICT DO NOTHING) \
    INSERT INTO audit_outbox (tenant_id, entry_id, entry) \
    SELECT $1, $7, $8 WHERE EXISTS (SELECT FROM held)"
);

/// A record and the terms of its version.
pub struct Reindexed {
    pub record: RecordId,
    pub version: RecordVersion,
    pub terms: Vec<IndexTerm>,
}

impl RecordStore {
    /// Those who have records, one after the other.
    pub async fn tenant_after(&self, last: Option<TenantId>) -> Result<Option<TenantId>, StorageError> {
        const SQL: &str = "/* storage::records::tenant_after */ \
            SELECT tenant_id FROM record WHERE tenant_id > $1 ORDER BY tenant_id LIMIT 1";
        let last = last.map_or(Uuid::nil(), |tenant| *tenant.as_uuid());
        let row = self
            .database
            .run("records::tenant_after", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_opt(&statement, &[&last]).await?)
            })
            .await?;
        row.map(|row| column(&row, 0, "tenant").map(TenantId::from_uuid)).transpose()
    }

    /// Records after `after`, in the order of their ids, at most `limit`, whose terms were made otherwise than `state` says, or with `None` at all;
    /// under the conditions of [`Self::find`] and with no more than [`MOST_BYTES`]. Reads through the collection: ask [`Self::has_unindexed`] first.
    pub async fn unindexed(
        &self,
        (tenant, collection): (TenantId, &CollectionName),
        state: Option<i64>,
        after: Option<&RecordId>,
        limit: i64,
    ) -> Result<Vec<(RecordId, Result<FoundRecord, StorageError>)>, StorageError> {
        const SQL: &str = concat!(
            "/* storage::records::unindexed */ SELECT ",
            version_columns!(within "$6", "ORDER BY r.record_id"),
            ", r.record_id FROM record r \
             LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
             WHERE r.tenant_id = $1 AND r.collection = $2 AND r.record_id > $4 AND NOT r.deleted \
               AND r.indexed_as IS DISTINCT FROM $3 AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
               AND (r.subject_id IS NULL OR s.state = 'active') \
             ORDER BY r.record_id LIMIT $5"
        );
        let (name, after) = (collection.as_str(), after.map_or("", RecordId::as_str));
        let rows = self
            .database
            .run("records::unindexed", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 6] =
                    [tenant.as_uuid(), &name, &state, &after, &limit, &MOST_BYTES];
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let read = |row: &tokio_postgres::Row| {
            let record = RecordId::parse(column(row, RECORD_ID, "record id").ok()?)?;
            let found = found(row, tenant, collection, &record);
            Some((record, found))
        };
        Ok(rows.iter().take_while(|row| !is_left_out(row)).filter_map(read).collect())
    }

    /// Records after `after`, in the order of their ids, at most `limit`, that have terms of any declaration, with their versions,
    /// under the conditions of [`Self::unindexed`].
    pub async fn with_terms(
        &self,
        (tenant, collection): (TenantId, &CollectionName),
        after: Option<&RecordId>,
        limit: i64,
    ) -> Result<Vec<(RecordId, RecordVersion)>, StorageError> {
        const SQL: &str = "/* storage::records::with_terms */ SELECT r.record_id, r.version FROM record r \
            LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
            WHERE r.tenant_id = $1 AND r.collection = $2 AND r.record_id > $3 AND NOT r.deleted \
              AND r.indexed_as IS NOT NULL AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
              AND (r.subject_id IS NULL OR s.state = 'active') \
            ORDER BY r.record_id LIMIT $4";
        let (name, after) = (collection.as_str(), after.map_or("", RecordId::as_str));
        let rows = self
            .database
            .run("records::with_terms", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), &name, &after, &limit]).await?)
            })
            .await?;
        let read = |row: &tokio_postgres::Row| {
            let record = RecordId::parse(row.try_get(0).ok()?)?;
            let version: i64 = row.try_get(1).ok()?;
            Some((record, RecordVersion::new(u32::try_from(version).ok()?)?))
        };
        // A row whose id or version does not read is nobody's.
        Ok(rows.iter().filter_map(read).collect())
    }

    /// Puts these terms in the place of what the records had, with the entry that says so: all or nothing. A record that has
    /// another version by now is left as it is: whoever stored that has seen to its terms; so is one whose subject is being erased,
    /// and one whose terms somebody else has made since: of those this statement sees none, and would leave them.
    /// [`StorageError::Stale`] when that is so of all of them: there is no entry then.
    pub async fn reindex(
        &self,
        (tenant, collection): (TenantId, &CollectionName),
        state: Option<i64>,
        records: &[Reindexed],
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        let ids: Vec<&str> = records.iter().map(|each| each.record.as_str()).collect();
        let versions: Vec<i64> = records.iter().map(|each| i64::from(each.version.get())).collect();
        let spell = |each: &Reindexed| Ok(spelled(&stored_terms(&each.terms)?));
        let terms = records.iter().map(spell).collect::<Result<Vec<_>, StorageError>>()?;
        let (name, id, bytes) = (collection.as_str(), *entry.entry_id().as_uuid(), entry.bytes());
        let parameters: [&(dyn ToSql + Sync); 8] =
            [tenant.as_uuid(), &name, &state, &ids, &versions, &terms, &id, &bytes];
        let affected = self
            .database
            .run("records::reindex", async |client| {
                let statement = client.prepare_cached(REINDEX).await?;
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }
}
