//! The months of the log, made ahead. What they are stands in `migrations/data/V22__audit_months.sql`; the service's roles
//! own nothing, and the one function that adds a month adds no other and removes none.

use super::pool::StorageError;
use super::sequence::SequenceStore;

const MAKE: &str = "/* storage::months::make */ SELECT audit_make_months()";

/// This month and the next, of three tables.
const MISSING: &str = "/* storage::months::make */
    SELECT count(*) FROM unnest(ARRAY['audit_entry', 'audit_outbox', 'audit_index']) AS parent
    CROSS JOIN generate_series(0, 1) AS ahead
    WHERE NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
        WHERE inhparent = to_regclass(parent)
        AND c.relname = parent || to_char((now() AT TIME ZONE 'UTC') + make_interval(months => ahead), '_YYYY_MM'))";

impl SequenceStore {
    /// Makes what is missing of this month and the next three; how many partitions of this month and the next are not there
    /// all the same. Entries without one are kept with the rest.
    pub async fn make_months(&self) -> Result<i64, StorageError> {
        let made =
            self.database().run("months::make", async |client| Ok(client.query_one(MAKE, &[]).await?)).await;
        let missing = self
            .database()
            .run("months::make", async |client| Ok(client.query_one(MISSING, &[]).await?.try_get(0)?))
            .await?;
        // That it did not come to making them matters where one is missing.
        if missing > 0 { Ok(missing) } else { made.map(|_| 0) }
    }
}
