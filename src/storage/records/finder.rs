//! Finding current versions: whoever asks for a record of one collection while others do shares their statement.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_postgres::Row;

use super::batch::{FIND, RECORD_ID};
use super::{FoundRecord, StorageError, found};
use crate::domain::id::{CollectionName, RecordId, TenantId};
use crate::storage::lanes::{self, Batched, Lanes};
use crate::storage::pool::Database;

/// A second statement goes out while the first is in flight; more would make each batch smaller (benches/README.md).
const LANES: usize = 2;

type Answer = Result<Option<FoundRecord>, StorageError>;

/// Finds records, one at a time for whoever asks, many at a time for the database.
#[derive(Clone)]
pub(super) struct Finder {
    lanes: Lanes<Find>,
    patience: Duration,
}

struct Find {
    database: Database,
}

struct Job {
    tenant: TenantId,
    collection: CollectionName,
    record: RecordId,
    reply: oneshot::Sender<Answer>,
}

impl Finder {
    pub fn new(database: Database) -> Self {
        let patience = database.timeout() * 2;
        Self { lanes: Lanes::new(Find { database }, LANES), patience }
    }

    /// See `RecordStore::find`. A statement that fails, fails for all who shared it.
    pub async fn find(&self, tenant: TenantId, collection: &CollectionName, record: &RecordId) -> Answer {
        let (reply, told) = oneshot::channel();
        self.lanes.put(Job { tenant, collection: collection.clone(), record: record.clone(), reply });
        lanes::answer(told, self.patience).await
    }
}

impl Batched for Find {
    type Job = Job;

    fn is_wanted(&self, job: &Job) -> bool {
        !job.reply.is_closed()
    }

    /// One tenant and one collection in a statement: tenants do not meet, not even there, and a cluster that shards by
    /// tenant can route it.
    fn joins(&self, taken: &[Job], job: &Job) -> bool {
        // All that are taken agree with the first.
        taken.first().is_some_and(|first| first.tenant == job.tenant && first.collection == job.collection)
    }

    async fn run(&self, jobs: Vec<Job>) {
        let Some(Job { tenant, collection, .. }) = jobs.first() else { return };
        let (tenant, collection) = (*tenant, collection.clone());
        let ids: Vec<&str> = jobs.iter().map(|job| job.record.as_str()).collect();
        let rows = self
            .database
            .run("records::find", async |client| {
                let statement = client.prepare_cached(FIND).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), &collection.as_str(), &ids]).await?)
            })
            .await;
        let rows = rows.as_ref().map(|rows| by_record(rows));
        for job in jobs {
            let answer = match &rows {
                Ok(rows) => rows
                    .get(job.record.as_str())
                    .map(|row| found(row, tenant, &collection, &job.record))
                    .transpose(),
                Err(error) => Err((*error).clone()),
            };
            // A caller that hung up does not want to know.
            let _ = job.reply.send(answer);
        }
    }
}

/// A row whose id does not read is nobody's, and whoever asked for it hears that there is none.
fn by_record(rows: &[Row]) -> HashMap<&str, &Row> {
    rows.iter().filter_map(|row| Some((row.try_get::<_, &str>(RECORD_ID).ok()?, row))).collect()
}
