//! What is stored beside what the log says of it: entries that have no number, writes whose version of a record is not there,
//! versions of records whose write is not in the log.
//!
//! Each call looks at a stretch and says where to go on. Nothing that is stored is read by PostgreSQL as if it had a form:
//! whoever changed it may have left anything.

use std::borrow::Cow;

use serde::Deserialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::pool::StorageError;
use super::sequence::SequenceStore;
use crate::audit::Act;

/// What a stretch had, and where the next one begins; `None` at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretch<T> {
    /// What does not fit.
    pub count: usize,
    pub next: Option<T>,
}

/// After which version of which record to go on: first the current ones, then the older ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordKey {
    is_older: bool,
    tenant: Uuid,
    collection: String,
    record: String,
    version: i64,
}

/// The members that are looked at.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    act: Cow<'a, str>,
    #[serde(borrow)]
    out: Out<'a>,
    obj: Vec<Write>,
}

#[derive(Deserialize)]
struct Out<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
}

/// What a write's entry says that it wrote.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Write {
    collection: String,
    record: String,
    version: i64,
}

const UNNUMBERED: &str = "/* storage::reconcile::unnumbered */
    SELECT p.entry_id, (p.xid < (SELECT scan_from FROM audit_head)
            OR p.xid >= pg_snapshot_xmax(pg_current_snapshot()) AND (SELECT seen::text <> '3:3:' FROM audit_head))
        AND (SELECT i.idx FROM audit_index i WHERE i.entry_id = p.entry_id) IS NULL
        OR p.is_write AND (SELECT e.seq FROM audit_entry e WHERE e.entry_id = p.entry_id) IS NOT NULL
    FROM ((SELECT entry_id, xid, false AS is_write FROM audit_entry WHERE entry_id > $1 ORDER BY entry_id LIMIT $2)
        UNION ALL
        (SELECT entry_id, xid, true FROM audit_outbox WHERE entry_id > $1 ORDER BY entry_id LIMIT $2)) AS p
    ORDER BY p.entry_id LIMIT $2";

const WRITES: &str = "/* storage::reconcile::writes_without_record */
    SELECT entry_id, tenant_id, entry FROM audit_outbox WHERE entry_id > $1 ORDER BY entry_id LIMIT $2";

const WITHOUT_RECORD: &str = "/* storage::reconcile::writes_without_record */
    SELECT count(*) FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[])
        AS w (entry, tenant, collection, record, version)
    WHERE NOT EXISTS (SELECT FROM record r WHERE r.tenant_id = w.tenant AND r.collection = w.collection
        AND r.record_id = w.record AND r.version = w.version AND r.audit_entry_id = w.entry)
    AND NOT EXISTS (SELECT FROM record_history r WHERE r.tenant_id = w.tenant AND r.collection = w.collection
        AND r.record_id = w.record AND r.version = w.version AND r.audit_entry_id = w.entry)";

const CURRENT: &str = "/* storage::reconcile::records_without_entry */
    SELECT r.tenant_id, r.collection, r.record_id, r.version,
        (SELECT o.entry FROM audit_outbox o WHERE o.tenant_id = r.tenant_id AND o.entry_id = r.audit_entry_id),
        EXISTS (SELECT FROM audit_pruned p WHERE r.audit_entry_id >= p.from_id AND r.audit_entry_id < p.until_id)
    FROM record r WHERE (r.tenant_id, r.collection, r.record_id) > ($1, $2, $3)
    ORDER BY r.tenant_id, r.collection, r.record_id LIMIT $4";

const OLDER: &str = "/* storage::reconcile::records_without_entry */
    SELECT r.tenant_id, r.collection, r.record_id, r.version,
        (SELECT o.entry FROM audit_outbox o WHERE o.tenant_id = r.tenant_id AND o.entry_id = r.audit_entry_id),
        EXISTS (SELECT FROM audit_pruned p WHERE r.audit_entry_id >= p.from_id AND r.audit_entry_id < p.until_id)
    FROM record_history r WHERE (r.tenant_id, r.collection, r.record_id, r.version) > ($1, $2, $3, $5)
    ORDER BY r.tenant_id, r.collection, r.record_id, r.version LIMIT $4";

impl SequenceStore {
    /// Entries that should have a number and have none, since they were put in around the service: with a transaction id of
    /// long ago, or one that was not given yet, or with the id of another entry.
    pub async fn unnumbered(&self, after: Uuid, most: u64) -> Result<Stretch<Uuid>, StorageError> {
        let limit = limit(most);
        let rows = self
            .database()
            .run("reconcile::unnumbered", async |client| {
                let statement = client.prepare_cached(UNNUMBERED).await?;
                Ok(client.query(&statement, &[&after, &limit]).await?)
            })
            .await?;
        let mut stretch = Stretch { count: 0, next: last_of(&rows, most)? };
        for row in &rows {
            stretch.count += usize::from(row.try_get::<_, bool>(1)?);
        }
        Ok(stretch)
    }

    /// Writes on record whose version is neither the record's nor in its history: it was hidden or rolled back.
    pub async fn writes_without_record(&self, after: Uuid, most: u64) -> Result<Stretch<Uuid>, StorageError> {
        let limit = limit(most);
        let rows = self
            .database()
            .run("reconcile::writes_without_record", async |client| {
                let statement = client.prepare_cached(WRITES).await?;
                Ok(client.query(&statement, &[&after, &limit]).await?)
            })
            .await?;
        let (mut entries, mut tenants) = (Vec::<Uuid>::new(), Vec::<Uuid>::new());
        let (mut collections, mut records, mut versions) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let Some(write) = written(row.try_get(2)?) else { continue };
            entries.push(row.try_get(0)?);
            tenants.push(row.try_get(1)?);
            collections.push(write.collection);
            records.push(write.record);
            versions.push(write.version);
        }
        let missing: i64 = self
            .database()
            .run("reconcile::writes_without_record", async |client| {
                let statement = client.prepare_cached(WITHOUT_RECORD).await?;
                let row = client
                    .query_one(&statement, &[&entries, &tenants, &collections, &records, &versions])
                    .await?;
                Ok(row.try_get(0)?)
            })
            .await?;
        Ok(Stretch { count: usize::try_from(missing).unwrap_or(0), next: last_of(&rows, most)? })
    }

    /// Versions of records whose entry is not there, or speaks of another version. One whose month was pruned is in the files
    /// only, and nothing is said of its version here.
    pub async fn records_without_entry(
        &self,
        after: &RecordKey,
        most: u64,
    ) -> Result<Stretch<RecordKey>, StorageError> {
        let limit = limit(most);
        let RecordKey { is_older, tenant, collection, record, version } = after;
        let rows = self
            .database()
            .run("reconcile::records_without_entry", async |client| {
                if *is_older {
                    let statement = client.prepare_cached(OLDER).await?;
                    Ok(client.query(&statement, &[tenant, collection, record, &limit, version]).await?)
                } else {
                    let statement = client.prepare_cached(CURRENT).await?;
                    Ok(client.query(&statement, &[tenant, collection, record, &limit]).await?)
                }
            })
            .await?;
        let mut stretch = Stretch::default();
        for row in &rows {
            let key = key_of(row, *is_older)?;
            let fits = match row.try_get::<_, Option<&[u8]>>(4)? {
                None => row.try_get(5)?,
                Some(entry) => written(entry).is_some_and(|write| {
                    (&write.collection, &write.record, write.version)
                        == (&key.collection, &key.record, key.version)
                }),
            };
            stretch.count += usize::from(!fits);
            stretch.next = Some(key);
        }
        if u64::try_from(rows.len()).unwrap_or(0) < most {
            stretch.next = (!is_older).then(|| RecordKey { is_older: true, ..RecordKey::default() });
        }
        Ok(stretch)
    }
}

/// The version that an entry says was written; `None` where it speaks of something else, or was changed beyond reading.
fn written(entry: &[u8]) -> Option<Write> {
    let Entry { act, out, obj } = serde_json::from_slice(entry).ok()?;
    let is_write = matches!(Act::parse(&act)?, Act::RecordCreate | Act::RecordUpdate | Act::RecordDelete);
    obj.into_iter().next().filter(|_| is_write && out.status == "success")
}

fn key_of(row: &Row, is_older: bool) -> Result<RecordKey, StorageError> {
    Ok(RecordKey {
        is_older,
        tenant: row.try_get(0)?,
        collection: row.try_get(1)?,
        record: row.try_get(2)?,
        version: row.try_get(3)?,
    })
}

fn last_of(rows: &[Row], most: u64) -> Result<Option<Uuid>, StorageError> {
    let is_all = u64::try_from(rows.len()).unwrap_or(0) < most;
    Ok(rows.last().filter(|_| !is_all).map(|row| row.try_get(0)).transpose()?)
}

fn limit(most: u64) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_that_was_done_names_a_version() {
        let entry = |act: &str, status: &str| {
            let text = format!(
                "{{\"act\":\"{act}\",\"out\":{{\"status\":\"{status}\"}},\
                 \"obj\":[{{\"collection\":\"patients\",\"record\":\"r\",\"version\":3}}]}}"
            );
            written(text.as_bytes())
        };
        let write = Write { collection: "patients".into(), record: "r".into(), version: 3 };
        assert_eq!(entry("record.update", "success"), Some(write));
        assert_eq!(entry("record.update", "refused"), None);
        assert_eq!(entry("record.read", "success"), None);
        assert_eq!(written(b"no json"), None);
    }
}
