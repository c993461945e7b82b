//! Which records a collection holds: ids, versions and times, never what was sealed.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{RecordStore, StorageError, column, time, version};
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, RecordId, RecordVersion, SubjectId, TenantId};
use crate::domain::relationship::Relationship;

/// A record as a list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecord {
    pub record: RecordId,
    pub version: RecordVersion,
    pub updated_at: Timestamp,
}

/// Whose records somebody may list: of people to whom they stand in one of these relationships. Broken glass is none of them.
pub struct ListedFor {
    /// The person themselves, where they have a record.
    pub subject: Option<SubjectId>,
    pub care_teams: Arc<[Arc<str>]>,
    pub relationships: Vec<Relationship>,
}

/// A relationship as [`THEIRS`] computes it.
fn kind_of(relationship: Relationship) -> i32 {
    i32::from(relationship.is_self) + 2 * i32::from(relationship.in_care_team)
}

/// To whom the person stands in some relationship: $1 tenant, $5 their own subject, $6 their care teams.
pub(super) const THEIRS: &str = "theirs AS MATERIALIZED ( \
    SELECT subject_id, CASE WHEN subject_id = $5 THEN 1 ELSE 0 END \
                       + CASE WHEN care_teams && $6 THEN 2 ELSE 0 END AS kind \
    FROM subject WHERE tenant_id = $1 AND state = 'active' AND (subject_id = $5 OR care_teams && $6))";

/// Of nobody but those to whom the relationship is one of $7.
const OF_THEIRS: &str = "r.subject_id IN (SELECT t.subject_id FROM theirs t WHERE t.kind = ANY ($7))";
/// Of everybody to whom nothing else is known.
const OF_OTHERS_TOO: &str =
    "NOT EXISTS (SELECT FROM theirs t WHERE t.subject_id = r.subject_id AND t.kind <> ALL ($7))";

impl ListedFor {
    /// Which records `r` are about somebody like that, where [`THEIRS`] stands before.
    pub(super) fn condition(&self) -> &'static str {
        if self.relationships.contains(&Relationship::NONE) { OF_OTHERS_TOO } else { OF_THEIRS }
    }

    /// $5 to $7.
    pub(super) fn parameters(&self) -> (Option<Uuid>, Vec<&str>, Vec<i32>) {
        let subject = self.subject.map(|id| *id.as_uuid());
        let teams = self.care_teams.iter().map(AsRef::as_ref).collect();
        (subject, teams, self.relationships.iter().copied().map(kind_of).collect())
    }
}

impl RecordStore {
    /// The records after `after` in the order of their ids, at most `limit`: without those that are deleted, expired,
    /// or whose subject is being erased. An index scan from the cursor on, whatever came before it.
    pub async fn list(
        &self,
        tenant: TenantId,
        collection: &CollectionName,
        after: Option<&RecordId>,
        limit: i64,
    ) -> Result<Vec<ListedRecord>, StorageError> {
        const SQL: &str = "/* storage::records::list */ \
            SELECT r.record_id, r.version, r.updated_at FROM record r \
            LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
            WHERE r.tenant_id = $1 AND r.collection = $2 AND r.record_id > $3 AND NOT r.deleted \
              AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
              AND (r.subject_id IS NULL OR s.state = 'active') \
            ORDER BY r.record_id LIMIT $4";
        let after = after.map_or("", RecordId::as_str);
        let rows = self
            .database
            .run("records::list", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [tenant.as_uuid(), &collection.as_str(), &after, &limit];
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        rows.iter().map(listed).collect()
    }

    /// The same of those records alone that are about somebody to whom a person stands as `listed_for` says. What it leaves
    /// out is not to be told from what is not there.
    pub async fn list_related(
        &self,
        (tenant, collection): (TenantId, &CollectionName),
        listed_for: &ListedFor,
        after: Option<&RecordId>,
        limit: i64,
    ) -> Result<Vec<ListedRecord>, StorageError> {
        let after = after.map_or("", RecordId::as_str);
        let (subject, teams, kinds) = listed_for.parameters();
        let sql = format!(
            "/* storage::records::list_related */ \
             WITH {THEIRS} SELECT r.record_id, r.version, r.updated_at FROM record r \
             LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
             WHERE r.tenant_id = $1 AND r.collection = $2 AND r.record_id > $3 AND NOT r.deleted \
               AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
               AND (r.subject_id IS NULL OR s.state = 'active') AND {} ORDER BY r.record_id LIMIT $4",
            listed_for.condition()
        );
        let name = collection.as_str();
        let parameters: [&(dyn ToSql + Sync); 7] =
            [tenant.as_uuid(), &name, &after, &limit, &subject, &teams, &kinds];
        let rows = self
            .database
            .run("records::list_related", async |client| {
                let statement = client.prepare_cached(&sql).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        rows.iter().map(listed).collect()
    }
}

fn listed(row: &Row) -> Result<ListedRecord, StorageError> {
    let record = RecordId::parse(column(row, 0, "record id")?);
    Ok(ListedRecord {
        record: record.ok_or(StorageError::Malformed("record id"))?,
        version: version(row, 1)?,
        updated_at: time(row, 2)?,
    })
}
