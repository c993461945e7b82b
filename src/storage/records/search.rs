//! Finding records by terms of blind indexes. What is found is only what may be it: `service` opens it and looks.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::batch::RECORD_ID;
use super::care_teams::teams;
use super::list::{ListedFor, THEIRS};
use super::terms::stored_terms;
use super::{
    FoundRecord, MOST_BYTES, RecordStore, StorageError, column, found, is_left_out, version_columns,
};
use crate::crypto::index::IndexTerm;
use crate::domain::care_team::CareTeams;
use crate::domain::id::{CollectionName, RecordId, TenantId};

/// One condition: terms of one index of one field, of which a record must have one.
pub struct TermsOf(Vec<IndexTerm>);

impl TermsOf {
    /// `None` without any.
    pub fn new(terms: Vec<IndexTerm>) -> Option<Self> {
        (!terms.is_empty()).then_some(Self(terms))
    }
}

/// A record that has a term of every condition.
pub struct Candidate {
    pub record: RecordId,
    pub found: Result<FoundRecord, StorageError>,
    /// Of the person that it is about.
    pub teams: CareTeams,
}

/// The first condition is walked along, in the order of the records' ids; the others are looked up for each. With one term
/// that walk is a stretch of the index; of several terms all that are found are sorted.
fn statement(conditions: &[TermsOf], listed_for: Option<&ListedFor>) -> String {
    let mut required = Vec::with_capacity(conditions.len());
    for (place, condition) in conditions.iter().enumerate() {
        let terms = 9 + place;
        let which = if condition.0.len() == 1 {
            format!("t.term = (${terms}::bytea[])[1]")
        } else {
            format!("t.term = ANY (${terms}::bytea[])")
        };
        let is_it = format!("t.tenant_id = $1 AND t.collection = $2 AND {which}");
        required.push(match place {
            0 => is_it,
            _ => format!("EXISTS (SELECT FROM index_term t WHERE {is_it} AND t.record_id = r.record_id)"),
        });
    }
    let required = required.join(" AND ");
    let (theirs, of_theirs) = match listed_for {
        Some(listed_for) => (format!(", {THEIRS}"), listed_for.condition()),
        None => (String::new(), "true"),
    };
    // Every parameter has its type, also where the statement does not need it.
    format!(
        "/* storage::records::search */ \
         WITH asked AS (SELECT $5::uuid, $6::text[], $7::int[]){theirs} \
         SELECT {}, r.record_id, s.care_teams FROM index_term t \
         JOIN record r ON r.tenant_id = t.tenant_id AND r.collection = t.collection AND r.record_id = t.record_id \
         LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
         WHERE {required} AND t.record_id > $3 AND NOT r.deleted \
           AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
           AND (r.subject_id IS NULL OR s.state = 'active') AND {of_theirs} \
         ORDER BY t.record_id LIMIT $4",
        version_columns!(within "$8", "ORDER BY t.record_id")
    )
}

impl RecordStore {
    /// Records after `after`, in the order of their ids, at most `limit` and about [`MOST_BYTES`], that have a term of every
    /// condition, under the conditions of [`Self::find`]; with `listed_for` of those people alone. And whether those are all.
    pub async fn search(
        &self,
        (tenant, collection): (TenantId, &CollectionName),
        conditions: &[TermsOf],
        listed_for: Option<&ListedFor>,
        after: Option<&RecordId>,
        limit: i64,
    ) -> Result<(Vec<Candidate>, bool), StorageError> {
        let sql = statement(conditions, listed_for);
        let (name, after) = (collection.as_str(), after.map_or("", RecordId::as_str));
        let (subject, care_teams, kinds) = listed_for.map(ListedFor::parameters).unwrap_or_default();
        let sought = conditions.iter().map(|each| stored_terms(&each.0)).collect::<Result<Vec<_>, _>>()?;
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![tenant.as_uuid(), &name, &after, &limit, &subject, &care_teams, &kinds, &MOST_BYTES];
        parameters.extend(sought.iter().map(|terms| terms as &(dyn ToSql + Sync)));
        let rows = self
            .database
            .run("records::search", async |client| {
                let statement = client.prepare_cached(&sql).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        // A row whose id does not read is nobody's.
        let read = |row: &Row| {
            let record = RecordId::parse(column(row, RECORD_ID, "record id").ok()?)?;
            let found = found(row, tenant, collection, &record);
            let (teams, found) = match (teams(row, RECORD_ID + 1), found) {
                (Ok(teams), found) => (teams, found),
                (Err(malformed), _) => (CareTeams::default(), Err(malformed)),
            };
            Some(Candidate { record, found, teams })
        };
        let brought = rows.iter().take_while(|row| !is_left_out(row)).count();
        let are_all = brought == rows.len() && i64::try_from(brought).is_ok_and(|brought| brought < limit);
        Ok((rows.iter().take(brought).filter_map(read).collect(), are_all))
    }

    /// Whether there are records, of those that can be found at all, whose terms were made otherwise than `state` says, or not
    /// at all: a search does not find them. With `None`, whether any have terms.
    pub async fn has_unindexed(
        &self,
        tenant: TenantId,
        collection: &CollectionName,
        state: Option<i64>,
    ) -> Result<bool, StorageError> {
        // The least and the greatest are at the ends of an index, which is of these expressions, and those without any at the
        // greater.
        let [least, greatest] = ["ASC", "DESC"].map(|direction| {
            format!(
                "coalesce((SELECT r.indexed_as IS DISTINCT FROM $3 FROM record r \
                 LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
                 WHERE r.tenant_id::text = $1::uuid::text AND r.collection || '' = $2 AND NOT r.deleted \
                   AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
                   AND (r.subject_id IS NULL OR s.state = 'active') \
                 ORDER BY r.tenant_id::text {direction}, r.collection || '' {direction}, r.indexed_as {direction} LIMIT 1), \
                 false)"
            )
        });
        let sql = format!("/* storage::records::has_unindexed */ SELECT {least} OR {greatest}");
        let name = collection.as_str();
        let row = self
            .database
            .run("records::has_unindexed", async |client| {
                let statement = client.prepare_cached(&sql).await?;
                Ok(client.query_one(&statement, &[tenant.as_uuid(), &name, &state]).await?)
            })
            .await?;
        column(&row, 0, "an answer")
    }
}
