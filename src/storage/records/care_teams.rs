//! Care teams of subjects, and whose record a record is. Decides nothing: `service` compares with the person who asks.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{RecordStore, StorageError, column, one_row, version};
use crate::audit::OutboxBytes;
use crate::domain::care_team::CareTeams;
use crate::domain::id::{BreakGlassId, CollectionName, RecordId, RecordVersion, SubjectId, TenantId};

/// Whose record one is, and who looks after them.
pub struct Concerned {
    /// `None` where a record is about nobody.
    pub subject: Option<SubjectId>,
    pub teams: CareTeams,
    /// What the person who was asked about broke for them, and has not ended.
    pub break_glass: Option<BreakGlassId>,
}

/// Who looks after a subject, as of a version.
pub struct FoundCareTeam {
    pub version: RecordVersion,
    pub teams: CareTeams,
}

impl RecordStore {
    /// Whom records are about, those that there are under the conditions of [`Self::find`]; and, where `person_sha256` is
    /// given, whether that person broke the glass for them. One statement, however many they are.
    pub async fn concerned(
        &self,
        tenant: TenantId,
        collection: &CollectionName,
        records: &[&RecordId],
        person_sha256: Option<&[u8; 32]>,
    ) -> Result<HashMap<RecordId, Concerned>, StorageError> {
        const SQL: &str = "/* storage::records::concerned */ \
            SELECT r.record_id, r.subject_id, s.care_teams, \
                   (SELECT b.break_glass_id FROM break_glass_subject g \
                    JOIN break_glass b ON b.tenant_id = g.tenant_id AND b.break_glass_id = g.break_glass_id \
                    WHERE g.tenant_id = r.tenant_id AND g.subject_id = r.subject_id AND b.person_sha256 = $4 \
                      AND b.ends_at > now() \
                    ORDER BY b.ends_at DESC LIMIT 1) \
            FROM unnest($3::text[]) AS n (record_id) \
            CROSS JOIN LATERAL (SELECT * FROM record o \
                                WHERE o.tenant_id = $1 AND o.collection = $2 AND o.record_id = n.record_id \
                                LIMIT 1) AS r \
            LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
            WHERE NOT r.deleted \
              AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
              AND (r.subject_id IS NULL OR s.state = 'active')";
        let person = person_sha256.map(<[u8; 32]>::as_slice);
        let ids: Vec<&str> = records.iter().map(|record| record.as_str()).collect();
        let parameters: [&(dyn ToSql + Sync); 4] = [tenant.as_uuid(), &collection.as_str(), &ids, &person];
        let rows = self
            .database
            .run("records::concerned", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let read = |row: &Row| {
            let record = RecordId::parse(column(row, 0, "record id")?);
            let subject: Option<Uuid> = column(row, 1, "subject")?;
            let break_glass: Option<Uuid> = column(row, 3, "break-glass id")?;
            let concerned = Concerned {
                subject: subject.map(SubjectId::from_uuid),
                teams: teams(row, 2)?,
                break_glass: break_glass.map(BreakGlassId::from_uuid),
            };
            Ok((record.ok_or(StorageError::Malformed("record id"))?, concerned))
        };
        rows.iter().map(read).collect()
    }

    /// Who looks after each of the subjects that are there and active; one statement.
    pub async fn care_teams(
        &self,
        tenant: TenantId,
        subjects: &[SubjectId],
    ) -> Result<HashMap<SubjectId, CareTeams>, StorageError> {
        const SQL: &str = "/* storage::records::care_teams */ \
            SELECT n.subject_id, s.care_teams FROM unnest($2::uuid[]) AS n (subject_id) \
            CROSS JOIN LATERAL (SELECT * FROM subject o \
                                WHERE o.tenant_id = $1 AND o.subject_id = n.subject_id LIMIT 1) AS s \
            WHERE s.state = 'active'";
        let ids: Vec<Uuid> = subjects.iter().map(|id| *id.as_uuid()).collect();
        let rows = self
            .database
            .run("records::care_teams", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), &ids]).await?)
            })
            .await?;
        let read = |row: &Row| Ok((SubjectId::from_uuid(column(row, 0, "subject")?), teams(row, 1)?));
        rows.iter().map(read).collect()
    }

    /// Who looks after an active subject; `None` when there is no such subject.
    pub async fn care_team(
        &self,
        tenant: TenantId,
        subject: SubjectId,
    ) -> Result<Option<FoundCareTeam>, StorageError> {
        const SQL: &str = "/* storage::records::care_team */ \
            SELECT care_teams, care_team_version FROM subject \
            WHERE tenant_id = $1 AND subject_id = $2 AND state = 'active'";
        let row = self
            .database
            .run("records::care_team", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_opt(&statement, &[tenant.as_uuid(), subject.as_uuid()]).await?)
            })
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(FoundCareTeam { version: version(&row, 1)?, teams: teams(&row, 0)? }))
    }

    /// Stores the teams as version `expected + 1` with the entry: both or neither, durable on return.
    /// [`StorageError::Stale`] when another version is current or the subject is not active.
    pub async fn replace_care_team(
        &self,
        (tenant, subject): (TenantId, SubjectId),
        expected: RecordVersion,
        teams: &CareTeams,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::replace_care_team */ \
            WITH changed AS ( \
                UPDATE subject SET care_teams = $4, care_team_version = care_team_version + 1 \
                WHERE tenant_id = $1 AND subject_id = $2 AND care_team_version = $3 AND state = 'active' \
                RETURNING subject_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $5, $6 FROM changed";
        let names = (!teams.names().is_empty()).then(|| teams.names());
        let expected = i64::from(expected.get());
        let (id, bytes) = (*entry.entry_id().as_uuid(), entry.bytes());
        let parameters: [&(dyn ToSql + Sync); 6] =
            [tenant.as_uuid(), subject.as_uuid(), &expected, &names, &id, &bytes];
        let affected = self
            .database
            .run("records::replace_care_team", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }
}

pub(super) fn teams(row: &Row, index: usize) -> Result<CareTeams, StorageError> {
    let names: Option<Vec<String>> = column(row, index, "care teams")?;
    CareTeams::parse(names.unwrap_or_default()).ok_or(StorageError::Malformed("care teams"))
}
