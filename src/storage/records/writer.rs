//! Storing versions: whoever stores records of one collection while others do shares their statement and its commit.
//!
//! The shared statement stores what it can store at once and passes over the rest: a record or subject that is locked or
//! not as it should be. Whoever was passed over, nothing of theirs is stored, and their own statement is run alone, which
//! waits where it must and says why it cannot. So a batch decides nothing; it is the cheap way for those in nobody's way.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::terms::{gone, spelled};
use super::{StorageError, SubjectRow, Version, column};
use crate::storage::lanes::{self, Batched, Lanes};
use crate::storage::pool::Database;

/// While one lane waits for its commit to be durable, the other collects.
const LANES: usize = 2;

/// How a version comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The first version of a record.
    First(SubjectRow),
    /// In the place of the version before it.
    Next,
}

/// Stores versions, one at a time for whoever asks, many at a time for the database.
#[derive(Clone)]
pub(super) struct Writer {
    lanes: Lanes<Write>,
    patience: Duration,
}

struct Write {
    database: Database,
}

struct Job {
    way: Way,
    version: Version,
    reply: oneshot::Sender<Result<Stored, StorageError>>,
}

/// What the shared statement did for one of those who share it.
enum Stored {
    Durably,
    /// Nothing of this version is stored.
    PassedOver(Box<Version>),
}

impl Writer {
    pub fn new(database: Database) -> Self {
        let patience = database.timeout() * 2;
        Self { lanes: Lanes::new(Write { database }, LANES), patience }
    }

    /// Stores a version with its audit entry; durable on return. `Some` gives it back: it was passed over and is to be
    /// stored alone. An error leaves open whether it is stored.
    pub async fn store(&self, way: Way, version: Version) -> Result<Option<Version>, StorageError> {
        let (reply, told) = oneshot::channel();
        self.lanes.put(Job { way, version, reply });
        match lanes::answer(told, self.patience).await? {
            Stored::Durably => Ok(None),
            Stored::PassedOver(version) => Ok(Some(*version)),
        }
    }
}

impl Batched for Write {
    type Job = Job;

    fn is_wanted(&self, job: &Job) -> bool {
        !job.reply.is_closed()
    }

    /// Each record once in a statement: of two next versions of one record, the second fails on the first.
    fn joins(&self, taken: &[Job], job: &Job) -> bool {
        let new = &job.version;
        // All that are taken agree with the first.
        let is_alike = taken.first().is_some_and(|first| {
            first.way == job.way
                && first.version.tenant == new.tenant
                && first.version.collection == new.collection
        });
        is_alike && taken.iter().all(|other| other.version.record != new.record)
    }

    async fn run(&self, jobs: Vec<Job>) {
        let stored = self.store(&jobs).await;
        for job in jobs {
            let answer = match &stored {
                Ok(records) if records.contains(&job.version.record) => Ok(Stored::Durably),
                Ok(_) => Ok(Stored::PassedOver(Box::new(job.version))),
                // The statement is refused for one of them; which one, it shows alone.
                Err(StorageError::Conflict | StorageError::Refused { .. }) => {
                    Ok(Stored::PassedOver(Box::new(job.version)))
                }
                Err(error) => Err(error.clone()),
            };
            // A caller that hung up does not want to know.
            let _ = job.reply.send(answer);
        }
    }
}

impl Write {
    /// The ids of the records that are stored.
    async fn store(&self, jobs: &[Job]) -> Result<Vec<String>, StorageError> {
        let Some(Job { way, version: first, .. }) = jobs.first() else { return Ok(Vec::new()) };
        let (name, sql) = match way {
            Way::First(SubjectRow::New) => ("records::insert", INSERT_WITH_SUBJECTS),
            Way::First(SubjectRow::Existing) => ("records::insert", INSERT_FOR_SUBJECTS),
            Way::Next => ("records::replace", REPLACE),
        };
        let columns = Columns::of(jobs);
        let rows = self
            .database
            .run(name, async |client| {
                let statement = client.prepare_cached(sql).await?;
                let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&first.tenant, &first.collection];
                parameters.extend(columns.parameters());
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        rows.iter().map(|row| column(row, 0, "record id")).collect()
    }
}

/// The arrays of an `unnest`.
struct Columns<'j> {
    records: Vec<&'j str>,
    versions: Vec<i64>,
    subjects: Vec<Option<Uuid>>,
    headers: Vec<&'j [u8]>,
    values: Vec<&'j [u8]>,
    times: Vec<jiff::Timestamp>,
    entry_ids: Vec<Uuid>,
    entries: Vec<&'j [u8]>,
    indexed_as: Vec<Option<i64>>,
    terms: Vec<String>,
}

impl<'j> Columns<'j> {
    fn of(jobs: &'j [Job]) -> Self {
        let each = || jobs.iter().map(|job| &job.version);
        Self {
            records: each().map(|version| version.record.as_str()).collect(),
            versions: each().map(|version| version.number).collect(),
            subjects: each().map(|version| version.subject).collect(),
            headers: each().map(|version| version.headers.as_slice()).collect(),
            values: each().map(|version| version.values.as_slice()).collect(),
            times: each().map(|version| version.now).collect(),
            entry_ids: each().map(|version| version.entry_id).collect(),
            entries: each().map(|version| version.entry.as_slice()).collect(),
            indexed_as: each().map(|version| version.indexed_as).collect(),
            terms: each().map(|version| spelled(&version.terms)).collect(),
        }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 10] {
        [
            &self.records,
            &self.versions,
            &self.subjects,
            &self.headers,
            &self.values,
            &self.times,
            &self.entry_ids,
            &self.entries,
            &self.indexed_as,
            &self.terms,
        ]
    }
}

/// What the shared statements have in common: the versions they are given, and the terms and entries of those that were stored.
/// No `ON CONFLICT` for terms: it costs more than the term (`benches/README.md`), and what is refused is stored alone.
macro_rules! shared {
    ($name:literal, $body:literal, $terms:literal) => {
        shared!($name, $body, "", $terms)
    };
    ($name:literal, $body:literal, $gone:expr, $terms:literal) => {
        concat!(
            "/* storage::records::",
            $name,
            " */ WITH n AS MATERIALIZED ( \
                SELECT n.*, spelled::bytea[] AS terms \
                FROM unnest($3::text[], $4::bigint[], $5::uuid[], $6::bytea[], $7::bytea[], \
                            $8::timestamptz[], $9::uuid[], $10::bytea[], $11::bigint[], $12::text[]) \
                    AS n (record_id, version, subject_id, headers, sealed, at, entry_id, entry, indexed_as, spelled)), ",
            $body,
            $gone,
            ", found_by AS ( \
                INSERT INTO index_term (tenant_id, collection, term, record_id) ",
            $terms,
            "), \
            logged AS ( \
                INSERT INTO audit_outbox (tenant_id, entry_id, entry) \
                SELECT $1, n.entry_id, n.entry FROM n JOIN stored ON stored.record_id = n.record_id) \
            SELECT record_id FROM stored"
        )
    };
}

const INSERT_WITH_SUBJECTS: &str = shared!(
    "insert",
    "new_subject AS (INSERT INTO subject (tenant_id, subject_id) SELECT $1, subject_id FROM n), \
    stored AS ( \
        INSERT INTO record (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                            sealed_values, created_at, updated_at, audit_entry_id, indexed_as, terms) \
        SELECT $1, $2, record_id, version, subject_id, false, headers, sealed, at, at, entry_id, indexed_as, terms FROM n \
        RETURNING record_id, terms)",
    "SELECT $1, $2, unnest(terms), record_id FROM stored"
);

const INSERT_FOR_SUBJECTS: &str = shared!(
    "insert",
    "active AS MATERIALIZED ( \
        SELECT n.* FROM n CROSS JOIN LATERAL ( \
            SELECT FROM subject s \
            WHERE s.tenant_id = $1 AND s.subject_id = n.subject_id AND s.state = 'active' \
            FOR KEY SHARE SKIP LOCKED) AS s), \
    stored AS ( \
        INSERT INTO record (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                            sealed_values, created_at, updated_at, audit_entry_id, indexed_as, terms) \
        SELECT $1, $2, record_id, version, subject_id, false, headers, sealed, at, at, entry_id, indexed_as, terms \
        FROM active \
        RETURNING record_id, terms)",
    "SELECT $1, $2, unnest(terms), record_id FROM stored"
);

/// A record whose terms were made anew between this statement's snapshot and its lock is passed over: of these terms it sees
/// none, and would leave them.
const REPLACE: &str = shared!(
    "replace",
    "old AS MATERIALIZED ( \
        SELECT r.*, n.headers, n.sealed, n.at, n.entry_id, n.indexed_as AS new_indexed_as, n.terms AS new_terms \
        FROM n CROSS JOIN LATERAL ( \
            SELECT * FROM record o \
            WHERE o.tenant_id = $1 AND o.collection = $2 AND o.record_id = n.record_id AND o.version = n.version - 1 \
              AND NOT o.deleted AND o.subject_id IS NOT DISTINCT FROM n.subject_id \
            FOR UPDATE SKIP LOCKED) AS r), \
    active AS MATERIALIZED ( \
        SELECT old.record_id FROM old CROSS JOIN LATERAL ( \
            SELECT FROM subject s \
            WHERE s.tenant_id = $1 AND s.subject_id = old.subject_id AND s.state = 'active' \
            FOR KEY SHARE SKIP LOCKED) AS s), \
    current AS MATERIALIZED ( \
        SELECT old.* FROM old \
        WHERE (old.subject_id IS NULL OR old.record_id IN (SELECT record_id FROM active)) \
          AND old.indexed_as IS NOT DISTINCT FROM ( \
              SELECT seen.indexed_as FROM record seen \
              WHERE seen.tenant_id = $1 AND seen.collection = $2 AND seen.record_id = old.record_id)), \
    kept AS ( \
        INSERT INTO record_history (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                                    sealed_values, created_at, updated_at, expires_at, audit_entry_id) \
        SELECT tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, sealed_values, created_at, \
               updated_at, expires_at, audit_entry_id FROM current), \
    stored AS ( \
        UPDATE record SET version = current.version + 1, deleted = false, seal_headers = current.headers, \
                          sealed_values = current.sealed, updated_at = current.at, audit_entry_id = current.entry_id, \
                          indexed_as = current.new_indexed_as, terms = current.new_terms \
        FROM current \
        WHERE record.tenant_id = current.tenant_id AND record.collection = current.collection \
          AND record.record_id = current.record_id \
        RETURNING record.record_id), ",
    gone!("current", "current.record_id", "t.term <> ALL (current.new_terms)"),
    // No join either.
    "SELECT $1, $2, t.term, current.record_id FROM current, unnest(current.new_terms) AS t (term) \
     WHERE (SELECT true FROM index_term i WHERE i.tenant_id = $1 AND i.collection = $2 AND i.term = t.term \
                                            AND i.record_id = current.record_id LIMIT 1) IS NULL"
);
