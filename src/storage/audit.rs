//! The audit tables: batches of the group committer in, pages for auditors out.
//!
//! Writing needs the role `strongroom_app`, reading `strongroom_audit_reader`; neither can do the other's part. Not
//! here: the entry's form and the chain (`audit`), and the outbox INSERT, which is part of the statement that stores
//! the data ([`OUTBOX_INSERT`] gives `storage::records` the words).

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::fitness::Weakness;
use super::pool::{Database, StorageError};
use super::search;
use crate::audit::{
    AuditQuery, Batch, ChainedEntry, Cursor, EntrySink, Filter, Order, Page, Scope, Settled, SinkFailure,
};
use crate::domain::clock::Timestamp;
use crate::domain::id::{EntryId, TenantId};

/// `INSERT INTO audit_outbox …` up to `VALUES` or `SELECT`, for a common table expression in the data statement. The
/// three values are `OutboxBytes::tenant_id`, `entry_id` and `bytes`; no RETURNING, which the role may not use.
pub const OUTBOX_INSERT: &str = "INSERT INTO audit_outbox (tenant_id, entry_id, entry)";

/// How many entries one page of a filtered scan looks at.
const SCANNED_ENTRIES: i64 = 10_000;

/// The group committer's sink. Give it a pool of its own (two connections are enough, one is used at a time), so that
/// it never waits behind the requests that wait for it.
pub struct AuditStore {
    database: Database,
}

impl AuditStore {
    pub const fn new(database: Database) -> Self {
        Self { database }
    }
}

const APPEND: &str = "/* storage::audit::append */
    INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256)
    SELECT $1, * FROM unnest($2::bigint[], $3::uuid[], $4::uuid[], $5::bytea[], $6::bytea[])";

const SETTLE: &str = "/* storage::audit::settle */
    INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256)
    SELECT $1, * FROM unnest($2::bigint[], $3::uuid[], $4::uuid[], $5::bytea[], $6::bytea[])
    ON CONFLICT DO NOTHING";

const STORED: &str = "/* storage::audit::settle */
    SELECT seq, sha256 FROM audit_entry WHERE src = $1 AND seq = ANY($2) ORDER BY seq";

impl EntrySink for AuditStore {
    async fn append(&self, batch: &Batch) -> Result<(), SinkFailure> {
        let columns = Columns::of(batch);
        let stored = self
            .database
            .run("audit::append", async |client| {
                let statement = client.prepare_cached(APPEND).await?;
                Ok(client.execute(&statement, &columns.parameters()).await?)
            })
            .await;
        match stored {
            Ok(rows) if usize::try_from(rows) == Ok(batch.entries.len()) => Ok(()),
            _ => Err(SinkFailure),
        }
    }

    /// One transaction: if any place holds other bytes, none of this batch stays. A place is looked for in every month: what
    /// repeats an entry has its id and comes into its month, whatever else holds its place may be in another.
    async fn settle(&self, batch: &Batch) -> Result<Settled, SinkFailure> {
        // Owned, since a closure that borrows cannot be shown to be `Send` here; this path is rare.
        let batch = batch.clone();
        let settled = self
            .database
            .transaction("audit::settle", async move |transaction| {
                let columns = Columns::of(&batch);
                transaction.execute(SETTLE, &columns.parameters()).await?;
                let rows = transaction.query(STORED, &[&batch.src, &columns.seqs]).await?;
                settled(&rows, &batch.entries)
            })
            .await;
        match settled {
            Ok(()) => Ok(Settled::Stored),
            Err(StorageError::Stale) => Ok(Settled::Forked),
            Err(_) => Err(SinkFailure),
        }
    }
}

/// Whether each place holds the entry that belongs there, and nothing else. `Stale`: something else does. `Conflict`: a place is
/// free, since another one has the id of the entry.
fn settled(rows: &[Row], entries: &[ChainedEntry]) -> Result<(), StorageError> {
    let mut free: HashMap<i64, &[u8]> =
        entries.iter().map(|entry| (entry.seq, entry.sha256.as_slice())).collect();
    for row in rows {
        // A place that stands twice is free no more the second time.
        if free.remove(&row.try_get(0)?) != Some(row.try_get::<_, &[u8]>(1)?) {
            return Err(StorageError::Stale);
        }
    }
    if free.is_empty() { Ok(()) } else { Err(StorageError::Conflict) }
}

/// A batch, column by column.
struct Columns<'a> {
    src: Uuid,
    seqs: Vec<i64>,
    ids: Vec<Uuid>,
    tenants: Vec<Uuid>,
    entries: Vec<&'a [u8]>,
    digests: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a Batch) -> Self {
        let each = &batch.entries;
        Self {
            src: batch.src,
            seqs: each.iter().map(|entry| entry.seq).collect(),
            ids: each.iter().map(|entry| *entry.id.as_uuid()).collect(),
            tenants: each.iter().map(|entry| entry.tenant.map_or(Uuid::nil(), |id| *id.as_uuid())).collect(),
            entries: each.iter().map(|entry| entry.bytes.as_slice()).collect(),
            digests: each.iter().map(|entry| entry.sha256.as_slice()).collect(),
        }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 6] {
        [&self.src, &self.seqs, &self.ids, &self.tenants, &self.entries, &self.digests]
    }
}

/// Reads the log, as the role `strongroom_audit_reader`. Whoever lets somebody read writes that down (`audit.read`).
#[derive(Clone)]
pub struct AuditReader {
    database: Database,
}

/// Up to where a follower has seen the log: a PostgreSQL snapshot, so that an entry that is committed late with an
/// early id is not missed.
#[derive(Clone, Debug)]
pub struct Position(String);

impl AuditReader {
    pub const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    /// Tells the metrics how full the pool is.
    pub fn report(&self) {
        self.database.report("audit_export");
    }

    /// What is wrong with the reader's role or its database; see [`Database::weaknesses`].
    pub async fn weaknesses(&self, now: Timestamp) -> Result<Vec<Weakness>, StorageError> {
        self.database.weaknesses("audit_export", now).await
    }

    /// One page, over reads and writes together, in the order of entry ids.
    pub async fn page(&self, query: &AuditQuery) -> Result<Page, StorageError> {
        if query.filter != Filter::default()
            && let Some(page) = search::page(&self.database, query).await?
        {
            return Ok(page);
        }
        self.scan(query).await
    }

    /// Reads on through the log as it is stored: what is not searched, or cannot be yet.
    async fn scan(&self, query: &AuditQuery) -> Result<Page, StorageError> {
        let filter = query.filter.to_containment().map(|document| document.to_string());
        let (low, high) = query.id_bounds();
        // One more than the page, to know whether there is another.
        let wanted = i64::from(query.size.get()) + 1;
        let scanned = if filter.is_some() { SCANNED_ENTRIES } else { wanted };
        let statement = page_statement(query.scope, query.order, filter.is_some());
        let tenant = tenant_of(query.scope);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&low, &high, &scanned, &wanted];
        parameters.extend(tenant.as_ref().map(|id| -> &(dyn ToSql + Sync) { id }));
        parameters.extend(filter.as_ref().map(|json| -> &(dyn ToSql + Sync) { json }));
        let rows = self
            .database
            .run("audit::page", async |client| {
                let statement = client.prepare_cached(&statement).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        into_page(&rows, query.size.get().into(), scanned)
    }

    /// The position now: what is committed later than this is new.
    pub async fn position(&self) -> Result<Position, StorageError> {
        let row = self
            .database
            .run("audit::position", async |client| Ok(client.query_one(POSITION, &[]).await?))
            .await?;
        row.try_get(0).map(Position).map_err(|_| StorageError::Malformed("snapshot"))
    }

    /// Everything in scope that became visible since `position`, in the order of entry ids, and the position to ask
    /// from next time. Not bounded: ask often (`audit tail` asks twice a second).
    pub async fn since(
        &self,
        scope: Scope,
        position: &Position,
    ) -> Result<(Vec<Vec<u8>>, Position), StorageError> {
        let statement = since_statement(scope);
        let tenant = tenant_of(scope);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&position.0];
        parameters.extend(tenant.as_ref().map(|id| -> &(dyn ToSql + Sync) { id }));
        let rows = self
            .database
            .run("audit::since", async |client| {
                let statement = client.prepare_cached(&statement).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let mut next = position.clone();
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            // The snapshot stands in a row of its own, with no entry: it is there even when nothing is new.
            match row.try_get::<_, Option<Vec<u8>>>(1)? {
                Some(entry) => entries.push(entry),
                None => next = Position(row.try_get(2)?),
            }
        }
        Ok((entries, next))
    }
}

const POSITION: &str = "/* storage::audit::position */ SELECT pg_current_snapshot()::text";

pub(super) fn tenant_of(scope: Scope) -> Option<Uuid> {
    match scope {
        Scope::Tenant(tenant) | Scope::TenantAndService(tenant) => Some(*TenantId::as_uuid(&tenant)),
        Scope::Everything => None,
    }
}

/// Both tables, and for a tenant with the service's entries each of them twice, as ordered index scans that are merged:
/// `OR` or `IN` on the leading column would sort the whole range. Conditions are fixed text; nothing of the query is
/// pasted in.
fn page_statement(scope: Scope, order: Order, filtered: bool) -> String {
    let direction = match order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    let tenants: &[&str] = match scope {
        Scope::Tenant(_) => &["tenant_id = $5 AND"],
        Scope::TenantAndService(_) => &["tenant_id = $5 AND", SERVICE],
        Scope::Everything => &[""],
    };
    let parts: Vec<String> = ["audit_entry", "audit_outbox"]
        .iter()
        .flat_map(|table| tenants.iter().map(move |tenant| (table, tenant)))
        .map(|(table, tenant)| {
            format!(
                "(SELECT entry_id, entry FROM {table} WHERE {tenant} entry_id > $1 AND entry_id < $2
                  ORDER BY entry_id {direction} LIMIT $3)"
            )
        })
        .collect();
    let number = if tenant_of(scope).is_some() { 6 } else { 5 };
    let matches = if filtered {
        format!("audit_contains(entry, ${number}::text::jsonb)")
    } else {
        String::from("true")
    };
    // Entries that do not match come without their bytes, and only the last of them: it says how far the scan went.
    format!(
        "/* storage::audit::page */
        WITH scanned AS MATERIALIZED (
            SELECT entry_id, entry, row_number() OVER (ORDER BY entry_id {direction}) AS place
            FROM ({parts}) AS parts ORDER BY entry_id {direction} LIMIT $3
        ), matched AS MATERIALIZED (
            SELECT entry_id, entry, place FROM scanned WHERE {matches} ORDER BY place LIMIT $4
        )
        SELECT entry_id, entry, place FROM matched
        UNION ALL
        (SELECT entry_id, NULL, place FROM scanned ORDER BY place DESC LIMIT 1)
        ORDER BY 3, 2 NULLS LAST",
        parts = parts.join(" UNION ALL ")
    )
}

const SERVICE: &str = "tenant_id = '00000000-0000-0000-0000-000000000000' AND";

/// Rows are matches in order, and at the end the last entry looked at, without bytes.
fn into_page(rows: &[Row], size: usize, scanned: i64) -> Result<Page, StorageError> {
    let mut page = Page { entries: Vec::new(), next: None };
    let mut last_taken = None;
    let mut more = false;
    for row in rows {
        let id = EntryId::from_uuid(row.try_get(0)?);
        match row.try_get::<_, Option<Vec<u8>>>(1)? {
            Some(_) if page.entries.len() == size => more = true,
            Some(entry) => {
                page.entries.push(entry);
                last_taken = Some(id);
            }
            None if more => {}
            // The scan stopped at its bound and not at the end of the range: go on from there.
            None if row.try_get::<_, i64>(2)? == scanned => last_taken = Some(id),
            None => last_taken = None,
        }
    }
    page.next = last_taken.map(Cursor::after);
    Ok(page)
}

fn since_statement(scope: Scope) -> String {
    let tenant = match scope {
        Scope::Tenant(_) => "AND tenant_id = $2".to_owned(),
        Scope::TenantAndService(_) => format!("AND (tenant_id = $2 OR {})", SERVICE.trim_end_matches(" AND")),
        Scope::Everything => String::new(),
    };
    let part = |table: &str| {
        format!(
            "SELECT entry_id, entry, NULL FROM {table}
             WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
               AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) {tenant}"
        )
    };
    format!(
        "/* storage::audit::since */ {} UNION ALL {}
         UNION ALL SELECT NULL, NULL, pg_current_snapshot()::text ORDER BY 1 NULLS LAST",
        part("audit_entry"),
        part("audit_outbox")
    )
}
