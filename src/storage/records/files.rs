//! Files of records in sealed parts, and the uploads that bring them. A part is a row; nothing here ever holds a file whole.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::replace::replace;
use super::{RecordStore, StorageError, Version, column, instant, one_row};
use crate::audit::OutboxBytes;
use crate::crypto::file::{FilePlace, SealedPart, StoredPart};
use crate::crypto::{HEADER_BYTES, SealedRecord};
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, FieldId, FileId, RecordId, RecordVersion, SubjectId, TenantId};

/// An upload as it stands.
pub struct FoundUpload {
    /// Parts that are stored, the label included.
    pub parts: u32,
    /// The version of the record that the file came in with, once it is whole.
    pub completed: Option<RecordVersion>,
    pub subject: Option<SubjectId>,
}

/// An upload that nobody finished, or that finished long ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredUpload {
    pub tenant: TenantId,
    pub file: FileId,
    pub collection: CollectionName,
    pub record: RecordId,
    pub field: FieldId,
    pub was_completed: bool,
}

/// The parts of one statement, by column.
struct PartColumns<'p> {
    numbers: Vec<i32>,
    headers: Vec<&'p [u8]>,
    sealed: Vec<&'p [u8]>,
}

impl<'p> PartColumns<'p> {
    fn of(parts: &'p [SealedPart]) -> Result<Self, StorageError> {
        let number = |part: &SealedPart| i32::try_from(part.number()).map_err(|_| too_many());
        Ok(Self {
            numbers: parts.iter().map(number).collect::<Result<_, _>>()?,
            headers: parts.iter().map(|part| part.header().as_slice()).collect(),
            sealed: parts.iter().map(SealedPart::bytes).collect(),
        })
    }
}

const fn too_many() -> StorageError {
    StorageError::Malformed("the number of a part")
}

/// A batch of parts onto an upload that holds exactly as many as the caller thinks. $1 tenant, $2 file, $3 held. Whether its time is
/// over is asked of the clock again by whoever had to wait for the row: parts are removed as soon as it is.
macro_rules! append {
    ($end:literal) => {
        concat!(
            "/* storage::records::append_parts */ \
    WITH active_subject AS ( \
        SELECT s.subject_id FROM upload u \
        JOIN record r ON r.tenant_id = u.tenant_id AND r.collection = u.collection AND r.record_id = u.record_id \
        JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
        WHERE u.tenant_id = $1 AND u.file_id = $2 AND s.state = 'active' FOR KEY SHARE OF s), \
    held AS ( \
        UPDATE upload SET parts = parts + cardinality($4::int[]) FROM record r \
        WHERE upload.tenant_id = $1 AND file_id = $2 AND parts = $3 AND completed_version IS NULL \
          AND upload.expires_at > clock_timestamp() AND r.tenant_id = $1 AND r.collection = upload.collection \
          AND r.record_id = upload.record_id AND NOT r.deleted AND (r.subject_id IS NULL OR EXISTS (SELECT FROM active_subject)) \
        RETURNING file_id), \
    stored AS ( \
        INSERT INTO file_part (tenant_id, file_id, part, header, sealed) \
        SELECT $1, $2, p.part, p.header, p.sealed \
        FROM held, unnest($4::int[], $5::bytea[], $6::bytea[]) AS p (part, header, sealed)) ",
            $end
        )
    };
}

const APPEND_WITH_ENTRY: &str =
    append!("INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $7, $8 FROM held");
const APPEND: &str = append!("SELECT 1 FROM held");

/// The last parts and the version of the record that has the file: both or neither. The upload is held, and looked at again by who
/// had to wait for that, since whoever removes its parts when its time is over does the same. Documents have no terms, and what
/// has some is as before.
const COMPLETE: &str = replace!(
    " AND EXISTS (SELECT 1 FROM upload u WHERE u.tenant_id = old.tenant_id AND u.file_id = $11 \
                  AND u.collection = old.collection AND u.record_id = old.record_id AND u.parts = $12 \
                  AND u.completed_version IS NULL AND u.expires_at > clock_timestamp() FOR NO KEY UPDATE)",
    "",
    ", completed AS ( \
        UPDATE upload SET parts = parts + cardinality($13::int[]), completed_version = $4 FROM current \
        WHERE upload.tenant_id = $1 AND upload.file_id = $11), \
    stored AS ( \
        INSERT INTO file_part (tenant_id, file_id, part, header, sealed) \
        SELECT $1, $11, p.part, p.header, p.sealed \
        FROM current, unnest($13::int[], $14::bytea[], $15::bytea[]) AS p (part, header, sealed))"
);

impl RecordStore {
    /// Stores a new upload with its label and its entry. [`StorageError::Stale`] when the record is gone or its subject is
    /// not active.
    pub async fn start_upload(
        &self,
        place: &FilePlace,
        label: &SealedPart,
        (started_at, expires_at): (Timestamp, Timestamp),
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::start_upload */ \
            WITH active_subject AS ( \
                SELECT s.holds FROM record r JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
                WHERE r.tenant_id = $1 AND r.collection = $3 AND r.record_id = $4 AND s.state = 'active' \
                FOR KEY SHARE OF s), \
            current AS ( \
                SELECT r.record_id FROM record r LEFT JOIN active_subject s ON true \
                WHERE r.tenant_id = $1 AND r.collection = $3 AND r.record_id = $4 AND NOT r.deleted \
                  AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
                  AND (r.subject_id IS NULL OR EXISTS (SELECT FROM active_subject))), \
            started AS ( \
                INSERT INTO upload (tenant_id, file_id, collection, record_id, field_id, parts, started_at, expires_at, \
                                    audit_entry_id) \
                SELECT $1, $2, $3, record_id, $5, 1, $6, $7, $8 FROM current), \
            stored AS ( \
                INSERT INTO file_part (tenant_id, file_id, part, header, sealed) SELECT $1, $2, 0, $9, $10 FROM current) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $8, $11 FROM current";
        let (started_at, expires_at) = (instant(started_at)?, instant(expires_at)?);
        let id = entry.entry_id();
        let affected = self
            .database
            .run("records::start_upload", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 11] = [
                    place.tenant.as_uuid(),
                    place.file.as_uuid(),
                    &place.collection.as_str(),
                    &place.record.as_str(),
                    &i64::from(place.field.0),
                    &started_at,
                    &expires_at,
                    id.as_uuid(),
                    &label.header().as_slice(),
                    &label.bytes(),
                    &entry.bytes(),
                ];
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }

    /// An upload to this field of this record and its label, if it has not expired and the record is still there.
    pub async fn find_upload(
        &self,
        tenant: TenantId,
        (collection, record, field): (&CollectionName, &RecordId, FieldId),
        file: FileId,
    ) -> Result<Option<(FoundUpload, StoredPart)>, StorageError> {
        const SQL: &str = "/* storage::records::find_upload */ \
            SELECT u.parts, u.completed_version, r.subject_id, p.header, p.sealed \
            FROM upload u \
            JOIN record r ON r.tenant_id = u.tenant_id AND r.collection = u.collection AND r.record_id = u.record_id \
            LEFT JOIN subject s ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id \
            JOIN file_part p ON p.tenant_id = u.tenant_id AND p.file_id = u.file_id AND p.part = 0 \
            WHERE u.tenant_id = $1 AND u.file_id = $2 AND u.collection = $3 AND u.record_id = $4 AND u.field_id = $5 \
              AND u.expires_at > now() AND NOT r.deleted AND (r.expires_at IS NULL OR r.expires_at > now() OR s.holds > 0) \
              AND (r.subject_id IS NULL OR s.state = 'active')";
        let row = self
            .database
            .run("records::find_upload", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 5] = [
                    tenant.as_uuid(),
                    file.as_uuid(),
                    &collection.as_str(),
                    &record.as_str(),
                    &i64::from(field.0),
                ];
                Ok(client.query_opt(&statement, &parameters).await?)
            })
            .await?;
        let read = |row: tokio_postgres::Row| {
            let completed = column::<Option<i64>>(&row, 1, "version")?;
            let version = |number| u32::try_from(number).ok().and_then(RecordVersion::new);
            let upload = FoundUpload {
                parts: u32::try_from(column::<i32>(&row, 0, "parts")?).map_err(|_| too_many())?,
                completed: completed
                    .map(|number| version(number).ok_or(StorageError::Malformed("version")))
                    .transpose()?,
                subject: column::<Option<Uuid>>(&row, 2, "subject")?.map(SubjectId::from_uuid),
            };
            Ok((upload, stored_part(&row, 3)?))
        };
        row.map(read).transpose()
    }

    /// Stores parts after the first `held` of an upload, with the request's entry if this is its first batch: all or
    /// nothing. [`StorageError::Stale`] when the upload holds another number of parts, is complete or has expired.
    pub async fn append_parts(
        &self,
        tenant: TenantId,
        file: FileId,
        held: u32,
        parts: &[SealedPart],
        entry: Option<&OutboxBytes>,
    ) -> Result<(), StorageError> {
        let columns = PartColumns::of(parts)?;
        let held = i32::try_from(held).map_err(|_| too_many())?;
        let affected = self
            .database
            .run("records::append_parts", async |client| {
                let (numbers, headers, sealed) = (&columns.numbers, &columns.headers, &columns.sealed);
                let (tenant, file) = (tenant.as_uuid(), file.as_uuid());
                Ok(match entry {
                    None => {
                        let statement = client.prepare_cached(APPEND).await?;
                        client.execute(&statement, &[tenant, file, &held, numbers, headers, sealed]).await?
                    }
                    Some(entry) => {
                        let statement = client.prepare_cached(APPEND_WITH_ENTRY).await?;
                        let (id, bytes) = (entry.entry_id(), entry.bytes());
                        let parameters: [&(dyn ToSql + Sync); 8] =
                            [tenant, file, &held, numbers, headers, sealed, id.as_uuid(), &bytes];
                        client.execute(&statement, &parameters).await?
                    }
                })
            })
            .await?;
        one_row(affected)
    }

    /// Stores the last parts of an upload and, with them, the version of the record that refers to the file, as
    /// [`Self::replace`] does. [`StorageError::Stale`] also when the upload is not as the caller thinks.
    pub async fn complete_upload(
        &self,
        sealed: &SealedRecord,
        (file, held, parts): (FileId, u32, &[SealedPart]),
        entry: &OutboxBytes,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let version = Version::of(sealed, entry, now)?;
        let part_columns = PartColumns::of(parts)?;
        let held = i32::try_from(held).map_err(|_| too_many())?;
        let affected = self
            .database
            .run("records::complete_upload", async |client| {
                let statement = client.prepare_cached(COMPLETE).await?;
                let mut parameters = version.parameters().to_vec();
                let PartColumns { numbers, headers, sealed } = &part_columns;
                parameters.extend([file.as_uuid() as &(dyn ToSql + Sync), &held, numbers, headers, sealed]);
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }

    /// The headers of a file's parts, by number from 0. [`StorageError::Malformed`] if one is missing.
    pub async fn part_headers(
        &self,
        tenant: TenantId,
        file: FileId,
    ) -> Result<Vec<[u8; HEADER_BYTES]>, StorageError> {
        const SQL: &str = "/* storage::records::part_headers */ \
            SELECT part, header FROM file_part WHERE tenant_id = $1 AND file_id = $2 ORDER BY part";
        let rows = self
            .database
            .run("records::part_headers", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), file.as_uuid()]).await?)
            })
            .await?;
        let mut headers = Vec::with_capacity(rows.len());
        for (number, row) in (0_i32..).zip(&rows) {
            if column::<i32>(row, 0, "part")? != number {
                return Err(StorageError::Malformed("the parts of a file"));
            }
            headers.push(header(row, 1)?);
        }
        Ok(headers)
    }

    /// Up to `count` parts of a file in order, from number `first`; none once its record is deleted or its subject is being erased.
    pub async fn parts(
        &self,
        place: &FilePlace,
        (first, count): (u32, u32),
    ) -> Result<Vec<StoredPart>, StorageError> {
        const SQL: &str = "/* storage::records::parts */ \
            SELECT header, sealed FROM file_part \
            WHERE tenant_id = $1 AND file_id = $2 AND part >= $3 AND part < $4 \
              AND EXISTS (SELECT FROM record \
                          WHERE tenant_id = $1 AND collection = $6 AND record_id = $7 AND NOT deleted) \
              AND ($5::uuid IS NULL \
                   OR EXISTS (SELECT FROM subject WHERE tenant_id = $1 AND subject_id = $5 AND state = 'active')) \
            ORDER BY part";
        let subject: Option<Uuid> = place.subject.map(|id| *id.as_uuid());
        let (collection, record) = (place.collection.as_str(), place.record.as_str());
        let number = |number: u32| i32::try_from(number).map_err(|_| too_many());
        let (first, end) = (number(first)?, number(first.saturating_add(count))?);
        let rows = self
            .database
            .run("records::parts", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let (tenant, file) = (place.tenant.as_uuid(), place.file.as_uuid());
                let parameters: [&(dyn ToSql + Sync); 7] =
                    [tenant, file, &first, &end, &subject, &collection, &record];
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        rows.iter().map(|row| stored_part(row, 0)).collect()
    }

    /// Ends an upload that is under way, with its entry; its parts are removed later. [`StorageError::Stale`] when it is
    /// complete or gone.
    pub async fn cancel_upload(
        &self,
        tenant: TenantId,
        file: FileId,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::cancel_upload */ \
            WITH ended AS ( \
                UPDATE upload SET expires_at = now() \
                WHERE tenant_id = $1 AND file_id = $2 AND completed_version IS NULL AND expires_at > now() \
                RETURNING file_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $3, $4 FROM ended";
        let affected = self
            .database
            .run("records::cancel_upload", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let id = entry.entry_id();
                let (tenant, file) = (tenant.as_uuid(), file.as_uuid());
                Ok(client.execute(&statement, &[tenant, file, id.as_uuid(), &entry.bytes()]).await?)
            })
            .await?;
        one_row(affected)
    }

    /// Uploads whose time is over, at most `limit`.
    pub async fn expired_uploads(&self, limit: i64) -> Result<Vec<ExpiredUpload>, StorageError> {
        const SQL: &str = "/* storage::records::expired_uploads */ \
            SELECT tenant_id, file_id, collection, record_id, field_id, completed_version IS NOT NULL FROM upload \
            WHERE expires_at <= now() ORDER BY expires_at LIMIT $1";
        let rows = self
            .database
            .run("records::expired_uploads", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[&limit]).await?)
            })
            .await?;
        rows.iter().map(expired).collect()
    }

    /// Removes up to `limit` parts of an upload whose time is over and that never became part of a record; how many it removed.
    /// From the first of them on nothing goes on with it, whatever the clock says then.
    pub async fn remove_parts(
        &self,
        tenant: TenantId,
        file: FileId,
        limit: i64,
    ) -> Result<u64, StorageError> {
        const SQL: &str = "/* storage::records::remove_parts */ \
            WITH ended AS ( \
                UPDATE upload SET expires_at = '-infinity' \
                WHERE tenant_id = $1 AND file_id = $2 AND completed_version IS NULL AND expires_at <= now() \
                RETURNING file_id) \
            DELETE FROM file_part WHERE tenant_id = $1 AND file_id = (SELECT file_id FROM ended) AND part IN ( \
                SELECT part FROM file_part WHERE tenant_id = $1 AND file_id = $2 ORDER BY part DESC LIMIT $3)";
        self.database
            .run("records::remove_parts", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.execute(&statement, &[tenant.as_uuid(), file.as_uuid(), &limit]).await?)
            })
            .await
    }

    /// Forgets an upload that never became part of a record and has no parts any more, with the entry that says so.
    /// [`StorageError::Stale`] when it is not so, or another instance was faster.
    pub async fn forget_upload(
        &self,
        tenant: TenantId,
        file: FileId,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::forget_upload */ \
            WITH gone AS ( \
                DELETE FROM upload u \
                WHERE u.tenant_id = $1 AND u.file_id = $2 AND u.completed_version IS NULL AND u.expires_at <= now() \
                  AND NOT EXISTS (SELECT FROM file_part p WHERE p.tenant_id = $1 AND p.file_id = $2) \
                RETURNING u.file_id) \
            INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $3, $4 FROM gone";
        let affected = self
            .database
            .run("records::forget_upload", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let (id, bytes) = (entry.entry_id(), entry.bytes());
                let parameters: [&(dyn ToSql + Sync); 4] =
                    [tenant.as_uuid(), file.as_uuid(), id.as_uuid(), &bytes];
                Ok(client.execute(&statement, &parameters).await?)
            })
            .await?;
        one_row(affected)
    }

    /// Forgets an upload that became part of a record: its file belongs to that.
    pub async fn forget_completed_upload(&self, tenant: TenantId, file: FileId) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::records::forget_completed_upload */ \
            DELETE FROM upload WHERE tenant_id = $1 AND file_id = $2 AND completed_version IS NOT NULL";
        self.database
            .run("records::forget_completed_upload", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                client.execute(&statement, &[tenant.as_uuid(), file.as_uuid()]).await?;
                Ok(())
            })
            .await
    }
}

fn header(row: &tokio_postgres::Row, index: usize) -> Result<[u8; HEADER_BYTES], StorageError> {
    let bytes: &[u8] = column(row, index, "a part's header")?;
    bytes.try_into().map_err(|_| StorageError::Malformed("a part's header"))
}

fn stored_part(row: &tokio_postgres::Row, index: usize) -> Result<StoredPart, StorageError> {
    Ok(StoredPart { header: header(row, index)?, bytes: column(row, index + 1, "a part")? })
}

fn expired(row: &tokio_postgres::Row) -> Result<ExpiredUpload, StorageError> {
    let field = u32::try_from(column::<i64>(row, 4, "field")?);
    Ok(ExpiredUpload {
        tenant: TenantId::from_uuid(column(row, 0, "tenant")?),
        file: FileId::from_uuid(column(row, 1, "file")?),
        collection: CollectionName::parse(column(row, 2, "collection")?)
            .ok_or(StorageError::Malformed("collection"))?,
        record: RecordId::parse(column(row, 3, "record id")?).ok_or(StorageError::Malformed("record id"))?,
        field: FieldId(field.map_err(|_| StorageError::Malformed("field"))?),
        was_completed: column(row, 5, "completed")?,
    })
}
