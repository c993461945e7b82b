//! Searches of the log: by what entries are marked with when they get their numbers, and among the few that have none yet.
//!
//! A rare thing (a subject, a record, a person) is looked for in its own index, everything else in that of the kinds, which
//! are few: the newest of each, merged. Whatever is found so is compared with the entry itself. Not here: what marks are
//! (`audit::marks`), and pages that are not searched (`audit`).

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::pool::{Database, StorageError};
use crate::audit::{AuditQuery, Cursor, Filter, Order, Page, Scope, Sought};
use crate::domain::id::{EntryId, TenantId};

/// How many entries with a rare mark one page looks at, when it asks for something else besides.
const LOOKED_AT: i64 = 10_000;
/// How many entries without a number are searched; with more, the order of the log is far behind.
const UNNUMBERED: i64 = 10_000;

/// One page of what a filter finds. `None` where too much of the log has no number yet.
pub(super) async fn page(database: &Database, query: &AuditQuery) -> Result<Option<Page>, StorageError> {
    let (low, high) = query.id_bounds();
    // One more than the page, to know whether there is another.
    let wanted = i64::from(query.size.get()) + 1;
    let document = query.filter.to_containment().map(|document| document.to_string());
    let tenants = tenants_of(query.scope);
    let sought = Sought::by(&query.filter);
    let Sought { act, status, actor, collection, purpose, subject, record, person } = &sought;
    let parameters: [&(dyn ToSql + Sync); 13] = [
        &low, &high, &wanted, &document, &tenants, act, status, actor, collection, purpose, subject, record,
        person,
    ];
    let statement = statement(query.order, &query.filter);
    let rows = database
        .run("search::page", async |client| {
            let statement = client.prepare_cached(&statement).await?;
            Ok(client.query(&statement, &parameters).await?)
        })
        .await?;
    into_page(&rows, query.size.get().into())
}

/// Whose entries; none for everybody's.
fn tenants_of(scope: Scope) -> Option<Vec<Uuid>> {
    match scope {
        Scope::Tenant(tenant) => Some(vec![*TenantId::as_uuid(&tenant)]),
        Scope::TenantAndService(tenant) => Some(vec![*TenantId::as_uuid(&tenant), Uuid::nil()]),
        Scope::Everything => None,
    }
}

/// Conditions are fixed text; nothing of the query is pasted in.
fn statement(order: Order, filter: &Filter) -> String {
    let (direction, not_past) = match order {
        Order::NewestFirst => ("DESC", ">="),
        Order::OldestFirst => ("ASC", "<="),
    };
    // The rarest first: a record has one subject, a person sees many.
    let marks = [
        (filter.record.is_some(), "record = $12"),
        (filter.subject.is_some(), "subject = $11"),
        (filter.person.is_some(), "person = $13"),
    ];
    let rare: Vec<&str> = marks.iter().filter_map(|(is_asked, mark)| is_asked.then_some(*mark)).collect();
    let looked = if rare.is_empty() {
        format!(
            "SELECT each.entry_id, kinds.kind FROM kinds CROSS JOIN LATERAL (
                SELECT entry_id FROM audit_index WHERE audit_index.kind = kinds.kind AND entry_id > $1 AND entry_id < $2
                ORDER BY entry_id {direction} LIMIT $3) AS each"
        )
    } else {
        format!(
            "SELECT entry_id, kind FROM audit_index WHERE {} AND entry_id > $1 AND entry_id < $2
             ORDER BY entry_id {direction} LIMIT {LOOKED_AT}",
            rare.join(" AND ")
        )
    };
    // Every parameter has its type, also where the statement does not need it.
    format!(
        "/* storage::search::page */
        WITH asked AS (SELECT $11::bigint, $12::bigint, $13::bigint),
        kinds AS MATERIALIZED (
            SELECT kind FROM audit_kind WHERE ($5::uuid[] IS NULL OR tenant_id = ANY ($5))
                AND ($6::text IS NULL OR act = $6) AND ($7::text IS NULL OR status = $7)
                AND ($8::text IS NULL OR actor = $8) AND ($9::text IS NULL OR collection = $9)
                AND ($10::text IS NULL OR purpose = $10)
        ), looked AS MATERIALIZED ({looked}),
        numbered AS MATERIALIZED (
            SELECT entry_id FROM looked WHERE kind = ANY (ARRAY(SELECT kind FROM kinds))
            ORDER BY entry_id {direction} LIMIT $3
        ), edge AS MATERIALIZED (
            SELECT entry_id FROM looked WHERE {is_bounded} ORDER BY entry_id {direction} OFFSET {before_last} LIMIT 1
        ), unnumbered AS MATERIALIZED ({unnumbered}),
        found AS (
            SELECT entry_id, (
                SELECT entry FROM (
                    SELECT tenant_id, entry FROM audit_entry WHERE audit_entry.entry_id = numbered.entry_id
                    UNION ALL
                    SELECT tenant_id, entry FROM audit_outbox WHERE audit_outbox.entry_id = numbered.entry_id
                ) AS stored WHERE {matches} LIMIT 1
            ) AS entry FROM numbered
            UNION ALL
            SELECT entry_id, entry FROM unnumbered WHERE entry_id > $1 AND entry_id < $2 AND {matches}
                AND (SELECT count(*) FROM unnumbered) <= {UNNUMBERED}
        )
        (SELECT DISTINCT ON (entry_id) entry_id, entry, 'found' FROM found
            WHERE NOT EXISTS (SELECT FROM edge) OR entry_id {not_past} (SELECT entry_id FROM edge)
            ORDER BY entry_id {direction}, entry NULLS LAST LIMIT $3)
        UNION ALL SELECT entry_id, NULL, 'looked_to' FROM edge
        UNION ALL SELECT NULL, NULL, 'behind' WHERE (SELECT count(*) FROM unnumbered) > {UNNUMBERED}",
        is_bounded = !rare.is_empty(),
        before_last = LOOKED_AT - 1,
        unnumbered = unnumbered(),
        matches = "($5::uuid[] IS NULL OR tenant_id = ANY ($5)) AND audit_contains(entry, $4::text::jsonb)",
    )
}

/// What the order of the log has not looked at: as `storage::numbering` finds it, whatever its time. The range is asked
/// for outside, so that nothing but the index on transactions can be used.
fn unnumbered() -> String {
    const SEEN: [&str; 2] = [
        "xid = ANY (ARRAY(SELECT pg_snapshot_xip(seen) FROM audit_head))",
        "xid >= (SELECT pg_snapshot_xmax(seen) FROM audit_head) AND xid < pg_snapshot_xmax(pg_current_snapshot())",
    ];
    let parts: Vec<String> = ["audit_entry", "audit_outbox"]
        .iter()
        .flat_map(|table| SEEN.iter().map(move |seen| (table, seen)))
        .map(|(table, seen)| {
            format!("(SELECT entry_id, tenant_id, entry FROM {table} WHERE {seen} LIMIT {UNNUMBERED} + 1)")
        })
        .collect();
    format!("{} LIMIT {UNNUMBERED} + 1", parts.join(" UNION ALL "))
}

/// Rows are what was found, in order, one without its bytes where a mark was not the entry's; how far was looked, if not to
/// the end; and whether too much has no number.
fn into_page(rows: &[Row], size: usize) -> Result<Option<Page>, StorageError> {
    let mut page = Page { entries: Vec::new(), next: None };
    let (mut last, mut looked_to, mut count) = (None, None, 0);
    for row in rows {
        let what: &str = row.try_get(2)?;
        if what == "behind" {
            return Ok(None);
        }
        let id = EntryId::from_uuid(row.try_get(0)?);
        match what {
            "found" if count < size => {
                page.entries.extend(row.try_get::<_, Option<Vec<u8>>>(1)?);
                last = Some(id);
            }
            // One too many: there is more after the last of this page.
            "found" => page.next = last.map(Cursor::after),
            _ => looked_to = Some(id),
        }
        count += usize::from(what == "found");
    }
    page.next = page.next.or(looked_to.map(Cursor::after));
    Ok(Some(page))
}
