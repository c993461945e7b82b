//! All records of one person, a page at a time, whatever their collection.

use tokio_postgres::types::ToSql;

use super::{FoundRecord, MOST_BYTES, RecordStore, StorageError, column, found, version_columns};
use crate::domain::id::{CollectionName, RecordId, SubjectId, TenantId};

/// A record of a person; one that does not have the form it was stored with is an error of its own and does not hide the
/// others.
pub struct SubjectRecord {
    pub collection: CollectionName,
    pub record: RecordId,
    pub found: Result<FoundRecord, StorageError>,
}

/// Where [`RecordStore::records_of_subject`] has the record's id and collection, and how many there are; before them stands what
/// [`found`] reads.
const RECORD_ID: usize = 9;
const COLLECTION: usize = 10;
const COUNT: usize = 11;

impl RecordStore {
    /// The current versions of an active subject's records in these collections, after `after` in the order of collection and
    /// id, at most `limit` and about [`MOST_BYTES`], under the conditions of [`Self::find`]; and whether there are
    /// more.
    pub async fn records_of_subject(
        &self,
        tenant: TenantId,
        subject: SubjectId,
        collections: &[&str],
        after: Option<&(CollectionName, RecordId)>,
        limit: i64,
    ) -> Result<(Vec<SubjectRecord>, bool), StorageError> {
        // Their places first, by the index on the subject; the sealed values of those alone that are on the page.
        const SQL: &str = concat!(
            "/* storage::records::records_of_subject */ \
             WITH page AS MATERIALIZED ( \
                 SELECT p.collection, p.record_id, row_number() OVER pages AS place, \
                        sum(octet_length(p.sealed_values)) OVER pages - octet_length(p.sealed_values) AS before \
                 FROM record p \
                 JOIN subject s ON s.tenant_id = p.tenant_id AND s.subject_id = p.subject_id \
                 WHERE p.tenant_id = $1 AND p.subject_id = $2 AND s.state = 'active' AND NOT p.deleted \
                   AND (p.expires_at IS NULL OR p.expires_at > now() OR s.holds > 0) \
                   AND p.collection = ANY ($3) AND (p.collection, p.record_id) > ($4, $5) \
                 WINDOW pages AS (ORDER BY p.collection, p.record_id) \
                 ORDER BY p.collection, p.record_id LIMIT $6::bigint + 1) \
             SELECT ",
            version_columns!(),
            ", r.record_id, r.collection, (SELECT count(*) FROM page) FROM page \
             JOIN record r ON r.tenant_id = $1 AND r.collection = page.collection AND r.record_id = page.record_id \
             JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
             WHERE s.state = 'active' AND page.place <= $6 AND page.before < $7 \
             ORDER BY r.collection, r.record_id"
        );
        let (collection, record) =
            after.map_or(("", ""), |(collection, record)| (collection.as_str(), record.as_str()));
        let parameters: [&(dyn ToSql + Sync); 7] =
            [tenant.as_uuid(), subject.as_uuid(), &collections, &collection, &record, &limit, &MOST_BYTES];
        let rows = self
            .database
            .run("records::records_of_subject", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let read = |row: &tokio_postgres::Row| {
            let malformed = StorageError::Malformed;
            let record = RecordId::parse(column(row, RECORD_ID, "record id")?);
            let record = record.ok_or(malformed("record id"))?;
            let collection = CollectionName::parse(column(row, COLLECTION, "collection")?);
            let collection = collection.ok_or(malformed("collection"))?;
            let found = found(row, tenant, &collection, &record);
            Ok(SubjectRecord { collection, record, found })
        };
        let there_are = match rows.first() {
            Some(row) => column::<i64>(row, COUNT, "count")?,
            None => 0,
        };
        let are_more = i64::try_from(rows.len()).is_ok_and(|shown| shown < there_are);
        Ok((rows.iter().map(read).collect::<Result<Vec<_>, StorageError>>()?, are_more))
    }
}
