//! Dropping months of the log, and holding them: as an administrator who may act for the tables' owner, for `strongroom audit
//! prune` and `audit hold`.
//!
//! A month goes in one transaction, with the record of it, its entry in the log, and the leaves that others still need. Not here:
//! whether the exported files have it (`jobs::prune`), and what readers make of it (`pruned`).

use std::collections::HashSet;
use std::time::Duration;

use jiff::civil::Date;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use super::migrate;
use super::pool::{Database, Session, StorageError};
use super::sequence::{instant, leaf, number, one, unsigned};
use crate::audit::OutboxBytes;
use crate::audit::tiles::{Edge, FULL};
use crate::audit::tree::TreeHash;
use crate::config::DatabaseConfig;
use crate::domain::break_glass::Reference;
use crate::domain::clock::Timestamp;
use crate::domain::id::SubjectId;
use crate::domain::month::Month;

/// The role that owns the log's tables; what is done as it meets their guards.
const SESSION: &str = "/* storage::retention */ SET statement_timeout = 0; SET enable_seqscan = on; \
     SET plan_cache_mode = auto; SET ROLE strongroom_owner";
/// Counting the rows of a large month.
const LONGEST: Duration = Duration::from_mins(30);
/// For the moment in which a month goes: the log's writers wait behind it, so it gives way soon and comes again.
const LOCK_WAIT: &str = "/* storage::retention::drop */ SET LOCAL lock_timeout = '250ms'";
const LOCK_ATTEMPTS: u32 = 60;
const LOCK_PAUSE: Duration = Duration::from_millis(500);
/// PostgreSQL's `lock_not_available`.
const LOCKED: &str = "55P03";

/// A month of the log that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMonth {
    pub month: Month,
    /// All of its tables are there, and none of its entries is kept elsewhere.
    pub is_whole: bool,
}

/// What a month has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonthFacts {
    /// Entries, and those of them that have a number.
    pub entries: u64,
    pub numbered: u64,
    /// The lowest number, and one more than the highest; 0 and 0 without any.
    pub first: u64,
    pub end: u64,
}

/// An entry of a month, by its number.
pub struct MonthEntry {
    pub number: u64,
    pub leaf: TreeHash,
    pub entry: Option<Vec<u8>>,
}

/// What stays on record of a month that goes.
#[derive(Clone, Debug)]
pub struct MonthRecord {
    pub month: Month,
    pub facts: MonthFacts,
    /// The tree over what lies before the boundary.
    pub boundary: Edge,
    pub checkpoint_size: u64,
    pub checkpoint_root: TreeHash,
    /// Leaves of tiles that others still need.
    pub tiles: Vec<(u64, Vec<TreeHash>)>,
}

/// How the drop of a month ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dropped {
    Done,
    /// A hold was placed meanwhile.
    Held,
    /// Entries came, or went, since it was looked at.
    Changed,
    /// The log is read or written without a pause.
    InUse,
}

/// A hold on months of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub id: Uuid,
    pub from: Month,
    /// The last month; none: no end.
    pub until: Option<Month>,
    pub reason: Reference,
    pub placed_at: Timestamp,
    pub placed_by: String,
    pub released: Option<(Timestamp, String)>,
}

impl Hold {
    /// Whether it is in force for this month.
    pub fn covers(&self, month: Month) -> bool {
        self.released.is_none() && self.from <= month && self.until.is_none_or(|until| month <= until)
    }
}

const MONTHS: &str = "/* storage::retention::months */
    SELECT month, count(c.oid) = 3 AND NOT EXISTS (
            SELECT FROM strongroom_log.audit_entry_rest r, bounds b WHERE b.month = m.month AND r.entry_id >= b.low AND r.entry_id < b.high
            UNION ALL
            SELECT FROM strongroom_log.audit_outbox_rest r, bounds b WHERE b.month = m.month AND r.entry_id >= b.low AND r.entry_id < b.high
            UNION ALL
            SELECT FROM strongroom_log.audit_index_rest r, bounds b WHERE b.month = m.month AND r.entry_id >= b.low AND r.entry_id < b.high)
    FROM audit_month m JOIN pg_class c
        ON c.relname = m.name AND c.relnamespace = 'strongroom_log'::regnamespace AND c.relispartition
    GROUP BY month ORDER BY month";

const BOUNDS: &str =
    "bounds AS (SELECT DISTINCT month, audit_first_id(month::timestamp AT TIME ZONE 'UTC') AS low,
        audit_first_id((month + interval '1 month') AT TIME ZONE 'UTC') AS high FROM audit_month)";

const HOLDS: &str = "/* storage::retention::holds */
    SELECT hold_id, from_month, until_month, reason, placed_at, placed_by, released_at, released_by
    FROM audit_hold ORDER BY placed_at, hold_id";

const PLACE: &str = "/* storage::retention::place_hold */
    INSERT INTO audit_hold (hold_id, from_month, until_month, reason, placed_entry) VALUES ($1, $2, $3, $4, $5)";

const RELEASE: &str = "/* storage::retention::release_hold */
    UPDATE audit_hold SET released_at = now(), released_by = session_user, released_entry = $2
    WHERE hold_id = $1 AND released_at IS NULL";

const RECORD: &str = "/* storage::retention::drop */
    INSERT INTO audit_pruned (month, from_id, until_id, first_idx, end_idx, entries, size, edge, checkpoint_size,
        checkpoint_root, entry_id)
    VALUES ($1, audit_first_id($1::date::timestamp AT TIME ZONE 'UTC'),
        audit_first_id(($1::date + interval '1 month') AT TIME ZONE 'UTC'), $2, $3, $4, $5, $6, $7, $8, $9)";

const KEEP_TILE: &str = "/* storage::retention::drop */
    INSERT INTO audit_pruned_tile (idx, hashes) VALUES ($1, $2) ON CONFLICT DO NOTHING";

const ENTRY: &str = "/* storage::retention::entry */
    INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $2, $3)";

/// An administrator's hands on the log.
pub struct Retention {
    session: Session,
    /// The role that logged in.
    administrator: String,
    /// Keeps others from migrating or pruning for as long as it lives.
    lock: Option<Client>,
}

impl Retention {
    /// `config` is the data database, with the role and password of an administrator.
    pub async fn open(config: &DatabaseConfig) -> Result<Self, StorageError> {
        // One that is not let in hears why; a pool would say only that it has no connection.
        drop(migrate::connect(config, &config.name).await?);
        let config = DatabaseConfig { pool_connections: 1, ..config.clone() };
        let session = Database::open(&config)?.session("retention::open", SESSION).await?.lasting(LONGEST);
        Ok(Self { session, administrator: config.user.clone(), lock: None })
    }

    /// `false`: somebody else prunes or migrates.
    pub async fn lock(&mut self, config: &DatabaseConfig) -> Result<bool, StorageError> {
        let client = migrate::connect(config, &config.name).await?;
        let is_locked = migrate::try_lock(&client).await?;
        self.lock = is_locked.then_some(client);
        Ok(is_locked)
    }

    /// Who is on record as having done it.
    pub fn administrator(&self) -> &str {
        &self.administrator
    }

    /// The earlier of this host's day and the database's: a clock that is ahead makes nothing old.
    pub async fn today(&self, now: Timestamp) -> Result<Date, StorageError> {
        let at = instant(now)?;
        let sql =
            "/* storage::retention::today */ SELECT (least(now(), $1::timestamptz) AT TIME ZONE 'UTC')::date";
        self.session
            .run("retention::today", async |client| Ok(client.query_one(sql, &[&at]).await?.try_get(0)?))
            .await
    }

    /// The months that are there, the oldest first.
    pub async fn months(&self) -> Result<Vec<StoredMonth>, StorageError> {
        let sql = MONTHS.replacen("SELECT", &format!("WITH {BOUNDS} SELECT"), 1);
        let rows =
            self.session.run("retention::months", async |client| Ok(client.query(&sql, &[]).await?)).await?;
        rows.iter().map(|row| Ok(StoredMonth { month: month(row, 0)?, is_whole: row.try_get(1)? })).collect()
    }

    /// From which number on every leaf is at hand.
    pub async fn boundary(&self) -> Result<u64, StorageError> {
        let sql = "/* storage::retention::boundary */ SELECT coalesce(max(size), 0) FROM audit_pruned";
        let size: i64 = self
            .session
            .run("retention::boundary", async |client| Ok(client.query_one(sql, &[]).await?.try_get(0)?))
            .await?;
        unsigned(size)
    }

    pub async fn facts(&self, month: Month) -> Result<MonthFacts, StorageError> {
        let sql = facts_statement(month);
        let row = self
            .session
            .run("retention::facts", async |client| Ok(client.query_one(&sql, &[]).await?))
            .await?;
        into_facts(&row)
    }

    /// The month's entries from this number on, at most `most`, in their order.
    pub async fn entries(&self, month: Month, from: u64, most: u32) -> Result<Vec<MonthEntry>, StorageError> {
        let [entry, outbox, index] = tables(month);
        let sql = format!(
            "/* storage::retention::entries */ SELECT i.idx, i.leaf, coalesce(
                (SELECT e.entry FROM {entry} e WHERE e.entry_id = i.entry_id),
                (SELECT o.entry FROM {outbox} o WHERE o.entry_id = i.entry_id))
             FROM {index} i WHERE i.idx >= $1 ORDER BY i.idx LIMIT $2"
        );
        let (from, most) = (number(from)?, i64::from(most));
        let rows = self
            .session
            .run("retention::entries", async |client| {
                let statement = client.prepare_cached(&sql).await?;
                Ok(client.query(&statement, &[&from, &most]).await?)
            })
            .await?;
        rows.iter()
            .map(|row| {
                let (number, leaf) = (unsigned(row.try_get(0)?)?, leaf(row.try_get(1)?)?);
                Ok(MonthEntry { number, leaf, entry: row.try_get(2)? })
            })
            .collect()
    }

    /// How many entries have a number of this tile, of whatever month.
    pub async fn in_tile(&self, tile: u64) -> Result<u64, StorageError> {
        let (low, high) = (number(tile * u64::from(FULL))?, number((tile + 1) * u64::from(FULL))?);
        let sql =
            "/* storage::retention::in_tile */ SELECT count(*) FROM audit_index WHERE idx >= $1 AND idx < $2";
        let count: i64 = self
            .session
            .run("retention::in_tile", async |client| {
                let statement = client.prepare_cached(sql).await?;
                Ok(client.query_one(&statement, &[&low, &high]).await?.try_get(0)?)
            })
            .await?;
        unsigned(count)
    }

    /// Drops a month with its record and its entry: all of it, or nothing, durable on return. Unless it is still what it was
    /// when it was looked at, and nobody holds it, nothing happens.
    pub async fn drop_month(
        &mut self,
        record: &MonthRecord,
        entry: &OutboxBytes,
    ) -> Result<Dropped, StorageError> {
        // Before it is done nothing is written: whatever else it came to can be committed as well.
        self.session
            .transaction("retention::drop", async |transaction| drop_month(transaction, record, entry).await)
            .await
    }

    /// Every hold there ever was, the oldest first.
    pub async fn holds(&self) -> Result<Vec<Hold>, StorageError> {
        let rows =
            self.session.run("retention::holds", async |client| Ok(client.query(HOLDS, &[]).await?)).await?;
        rows.iter().map(into_hold).collect()
    }

    /// The people, of all tenants, on whom a legal hold is in force.
    pub async fn held_people(&self) -> Result<HashSet<SubjectId>, StorageError> {
        const SQL: &str = "/* storage::retention::held_people */ \
            SELECT DISTINCT subject_id FROM subject_hold WHERE released_at IS NULL";
        let rows = self
            .session
            .run("retention::held_people", async |client| Ok(client.query(SQL, &[]).await?))
            .await?;
        rows.iter().map(|row| Ok(SubjectId::from_uuid(row.try_get(0)?))).collect()
    }

    /// Places a hold with its entry. From then on none of these months is dropped.
    pub async fn place_hold(
        &mut self,
        id: Uuid,
        (from, until): (Month, Option<Month>),
        reason: &Reference,
        entry: &OutboxBytes,
    ) -> Result<(), StorageError> {
        let (from, until) = (from.first_day(), until.map(Month::first_day));
        let (reason, entry_id) = (reason.as_str(), entry.entry_id());
        let parameters: [&(dyn ToSql + Sync); 5] = [&id, &from, &until, &reason, entry_id.as_uuid()];
        self.session
            .transaction("retention::place_hold", async |transaction| {
                one(transaction.execute(PLACE, &parameters).await?)?;
                insert_entry(transaction, entry).await
            })
            .await
    }

    /// Releases a hold with its entry. [`StorageError::Stale`]: there is none of this id that is in force.
    pub async fn release_hold(&mut self, id: Uuid, entry: &OutboxBytes) -> Result<(), StorageError> {
        self.session
            .transaction("retention::release_hold", async |transaction| {
                one(transaction.execute(RELEASE, &[&id, entry.entry_id().as_uuid()]).await?)?;
                insert_entry(transaction, entry).await
            })
            .await
    }
}

async fn drop_month(
    transaction: &Transaction<'_>,
    record: &MonthRecord,
    entry: &OutboxBytes,
) -> Result<Dropped, StorageError> {
    let month = record.month;
    let [entries, outbox, index] = tables(month);
    // Readers go on; nothing comes into this month any more.
    let lock =
        format!("/* storage::retention::drop */ LOCK TABLE {entries}, {outbox}, {index} IN SHARE MODE");
    if !try_lock(transaction, &lock).await? {
        return Ok(Dropped::InUse);
    }
    if into_facts(&transaction.query_one(&facts_statement(month), &[]).await?)? != record.facts {
        return Ok(Dropped::Changed);
    }
    // What PostgreSQL takes for a drop, all at once and in the order of every statement, so that nobody waits long for it.
    let lock = format!(
        "/* storage::retention::drop */ LOCK TABLE ONLY public.audit_entry, ONLY public.audit_outbox, ONLY public.audit_index, \
         {entries}, {outbox}, {index}, strongroom_log.audit_entry_rest, strongroom_log.audit_outbox_rest, \
         strongroom_log.audit_index_rest IN ACCESS EXCLUSIVE MODE; LOCK TABLE public.audit_hold IN SHARE MODE"
    );
    if !try_lock(transaction, &lock).await? {
        return Ok(Dropped::InUse);
    }
    let holds = transaction.query(HOLDS, &[]).await?;
    if holds.iter().map(into_hold).collect::<Result<Vec<_>, _>>()?.iter().any(|hold| hold.covers(month)) {
        return Ok(Dropped::Held);
    }
    let MonthFacts { first, end, entries: count, .. } = record.facts;
    let (first, end, count) = (number(first)?, number(end)?, number(count)?);
    let (size, edge) = (number(record.boundary.size())?, record.boundary.to_bytes());
    let (checkpoint_size, root) =
        (number(record.checkpoint_size)?, record.checkpoint_root.as_bytes().as_slice());
    let (day, entry_id) = (month.first_day(), entry.entry_id());
    let parameters: [&(dyn ToSql + Sync); 9] =
        [&day, &first, &end, &count, &size, &edge, &checkpoint_size, &root, entry_id.as_uuid()];
    one(transaction.execute(RECORD, &parameters).await?)?;
    insert_entry(transaction, entry).await?;
    for (tile, leaves) in &record.tiles {
        let hashes: Vec<u8> = leaves.iter().flat_map(TreeHash::as_bytes).copied().collect();
        transaction.execute(KEEP_TILE, &[&number(*tile)?, &hashes]).await?;
    }
    transaction
        .batch_execute(&format!("/* storage::retention::drop */ DROP TABLE {entries}, {outbox}, {index}"))
        .await?;
    Ok(Dropped::Done)
}

/// `false`: others do not let go of it for as long as is asked.
async fn try_lock(transaction: &Transaction<'_>, lock: &str) -> Result<bool, StorageError> {
    transaction.batch_execute(LOCK_WAIT).await?;
    for _ in 0..LOCK_ATTEMPTS {
        transaction.batch_execute("/* storage::retention::drop */ SAVEPOINT unlocked").await?;
        match transaction.batch_execute(lock).await.map_err(StorageError::from) {
            Ok(()) => return Ok(true),
            Err(StorageError::Refused { code }) if code == LOCKED => {
                let back = "/* storage::retention::drop */ ROLLBACK TO SAVEPOINT unlocked";
                transaction.batch_execute(back).await?;
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

async fn insert_entry(transaction: &Transaction<'_>, entry: &OutboxBytes) -> Result<(), StorageError> {
    let (tenant, id) = (entry.tenant_id(), entry.entry_id());
    one(transaction.execute(ENTRY, &[tenant.as_uuid(), id.as_uuid(), &entry.bytes()]).await?)
}

/// The tables of a month: digits and nothing else are put into their names.
fn tables(month: Month) -> [String; 3] {
    let suffix = month.to_string().replace('-', "_");
    ["audit_entry", "audit_outbox", "audit_index"].map(|parent| format!("strongroom_log.{parent}_{suffix}"))
}

fn facts_statement(month: Month) -> String {
    let [entry, outbox, index] = tables(month);
    format!(
        "/* storage::retention::facts */ SELECT (SELECT count(*) FROM {entry}) + (SELECT count(*) FROM {outbox}), \
         (SELECT count(*) FROM {index}), coalesce((SELECT min(idx) FROM {index}), 0), \
         coalesce((SELECT max(idx) + 1 FROM {index}), 0)"
    )
}

fn into_facts(row: &Row) -> Result<MonthFacts, StorageError> {
    Ok(MonthFacts {
        entries: unsigned(row.try_get(0)?)?,
        numbered: unsigned(row.try_get(1)?)?,
        first: unsigned(row.try_get(2)?)?,
        end: unsigned(row.try_get(3)?)?,
    })
}

fn into_hold(row: &Row) -> Result<Hold, StorageError> {
    let time = |at: jiff::Timestamp| Timestamp::from_micros(at.as_microsecond());
    let until: Option<Date> = row.try_get(2)?;
    let released: Option<jiff::Timestamp> = row.try_get(6)?;
    let by: Option<String> = row.try_get(7)?;
    Ok(Hold {
        id: row.try_get(0)?,
        from: month(row, 1)?,
        until: until.and_then(Month::of),
        reason: Reference::parse(row.try_get(3)?).ok_or(StorageError::Malformed("a hold's reason"))?,
        placed_at: time(row.try_get(4)?),
        placed_by: row.try_get(5)?,
        released: released.map(time).zip(by),
    })
}

fn month(row: &Row, column: usize) -> Result<Month, StorageError> {
    Month::of(row.try_get(column)?).ok_or(StorageError::Malformed("a month of the log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_covers_its_months_until_it_is_released() {
        let month = |text: &str| Month::parse(text).unwrap();
        let hold = Hold {
            id: Uuid::nil(),
            from: month("2025-03"),
            until: Some(month("2025-04")),
            reason: Reference::parse("CV-1".to_owned()).unwrap(),
            placed_at: Timestamp::from_micros(0),
            placed_by: "postgres".to_owned(),
            released: None,
        };
        let covered =
            |hold: &Hold| ["2025-02", "2025-03", "2025-04", "2025-05"].map(|text| hold.covers(month(text)));
        assert_eq!(covered(&hold), [false, true, true, false]);
        assert_eq!(covered(&Hold { until: None, ..hold.clone() }), [false, true, true, true]);
        let released = Some((Timestamp::from_micros(1), "postgres".to_owned()));
        assert_eq!(covered(&Hold { released, ..hold }), [false; 4]);
    }

    #[test]
    fn a_month_names_its_tables() {
        assert_eq!(tables(Month::parse("2025-03").unwrap())[2], "strongroom_log.audit_index_2025_03");
    }
}
