//! A log that has been there for more than a year: entries by the real encoder and committer, at the time when they would have
//! been made, in months that were made then.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use strongroom::audit::{Committer, Scribe};
use strongroom::config::AuditConfig;
use strongroom::domain::clock::{Clock, Timestamp};
use strongroom::domain::random::SystemRandom;
use strongroom::storage::{AuditStore, Database};
use tokio_postgres::Client;
use uuid::Uuid;

use super::log::{draft, id, written};
use super::{Databases, administrator};

/// A millisecond passes with each look.
struct Then(AtomicI64);

impl Clock for Then {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.fetch_add(1_000, Ordering::Relaxed))
    }
}

/// A month, and what it has.
#[derive(Clone, Debug)]
pub struct OldMonth {
    /// `YYYY-MM`.
    pub name: String,
    pub entries: usize,
    /// The 15th of it.
    pub middle: Timestamp,
}

impl OldMonth {
    /// The month as its tables are called.
    pub fn table(&self, parent: &str) -> String {
        format!("{parent}_{}", self.name.replace('-', "_"))
    }
}

/// So many months ago, of chained entries and of writes with their records. Nothing has a number yet.
pub async fn fill_month(databases: &Databases, ago: i32, chained: usize, writes: usize) -> OldMonth {
    let superuser = administrator(&databases.data.name).await;
    let month = make_month(&superuser, ago).await;
    write_entries(databases, &month, chained).await;
    write_records(databases, &superuser, &month, writes).await;
    OldMonth { entries: chained + writes, ..month }
}

async fn make_month(superuser: &Client, ago: i32) -> OldMonth {
    let first = format!(
        "(date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => {ago})) AT TIME ZONE 'UTC'"
    );
    let make = format!(
        "BEGIN; SET LOCAL ROLE strongroom_owner; SET LOCAL strongroom.audit_migration = 'yes'; \
         SELECT audit_make_month({first}); COMMIT"
    );
    superuser.batch_execute(&make).await.unwrap();
    let sql = format!(
        "SELECT to_char({first} AT TIME ZONE 'UTC', 'YYYY-MM'), (extract(epoch FROM {first} + interval '14 days') * 1000000)::bigint"
    );
    let row = superuser.query_one(&sql, &[]).await.unwrap();
    OldMonth { name: row.get(0), entries: 0, middle: Timestamp::from_micros(row.get(1)) }
}

fn committer(databases: &Databases, month: &OldMonth) -> (Committer, strongroom::audit::Drain) {
    let clock = Arc::new(Then(AtomicI64::new(month.middle.as_micros())));
    let scribe = Scribe::new(clock, Arc::new(SystemRandom::default()), "old-1");
    let store = AuditStore::new(Database::open(&databases.data_as("strongroom_app")).unwrap());
    Committer::start(store, scribe, &AuditConfig { chains: 1, ..AuditConfig::default() }).unwrap()
}

async fn write_entries(databases: &Databases, month: &OldMonth, count: usize) {
    let (committer, drain) = committer(databases, month);
    for from in (0..count).step_by(250) {
        let drafts = (from..count.min(from + 250)).map(draft).collect();
        committer.submit(drafts).await.unwrap();
    }
    drop(committer);
    drain.finish(Duration::from_secs(5)).await.unwrap();
}

/// One more entry of the month, committed now.
pub async fn write_late(databases: &Databases, month: &OldMonth) {
    // After all others, so that no id stands twice.
    let later = OldMonth { middle: month.middle.plus_seconds(86_400), ..month.clone() };
    write_entries(databases, &later, 1).await;
}

async fn write_records(databases: &Databases, superuser: &Client, month: &OldMonth, count: usize) {
    let (committer, drain) = committer(databases, month);
    let first = usize::try_from(month.middle.as_seconds()).unwrap();
    let tenant = id(0xa);
    for number in first..first + count {
        let entry = committer.outbox_entry(&written(number)).unwrap();
        let record = id(number).to_string();
        let work = async |outbox: &strongroom::audit::OutboxBytes| -> Result<(), tokio_postgres::Error> {
            let entry_id: Uuid = *outbox.entry_id().as_uuid();
            superuser
                .execute(
                    "WITH entry AS (INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $2, $3)) \
                     INSERT INTO record (tenant_id, collection, record_id, version, deleted, seal_headers, sealed_values, \
                     created_at, updated_at, audit_entry_id) VALUES ($1, 'patients', $4, 1, false, '', '', now(), now(), $2)",
                    &[&tenant, &entry_id, &outbox.bytes(), &record],
                )
                .await
                .map(|_| ())
        };
        entry.commit_with(work).await.unwrap();
    }
    drop(committer);
    drain.finish(Duration::from_secs(5)).await.unwrap();
}
