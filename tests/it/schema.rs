//! What the catalogue must say of the schema, so that the tables can be distributed by tenant.

use crate::support::{administrator, fresh_databases};

/// Numbered by instance run, not by tenant; the one order of the whole log, its head, tree and reviews, its months and what is held
/// or gone of them; and refinery's own list.
const EXCEPTIONS: [&str; 10] = [
    "audit_entry",
    "audit_index",
    "audit_head",
    "audit_review",
    "audit_tile",
    "audit_month",
    "audit_pruned",
    "audit_pruned_tile",
    "audit_hold",
    "refinery_schema_history",
];

#[tokio::test]
async fn the_tenant_leads_every_primary_key_and_nothing_counts_globally() {
    let databases = fresh_databases().await;
    for database in [&databases.data.name, &databases.keys.name] {
        let client = administrator(database).await;
        let keys = client
            .query(
                "SELECT c.relname::text, a.attname::text FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public' \
                 LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
                 LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] \
                 WHERE c.relkind IN ('r', 'p')",
                &[],
            )
            .await
            .unwrap();
        assert!(keys.len() >= 3, "{database} has tables");
        for row in keys {
            let (table, leads): (String, Option<String>) = (row.get(0), row.get(1));
            if !EXCEPTIONS.contains(&table.as_str()) {
                assert_eq!(leads.as_deref(), Some("tenant_id"), "{table}");
            }
        }
        let sequences =
            client.query("SELECT relname::text FROM pg_class WHERE relkind = 'S'", &[]).await.unwrap();
        assert!(sequences.is_empty(), "{database} has a global sequence");
    }
}

#[tokio::test]
async fn references_stay_within_a_tenant() {
    let databases = fresh_databases().await;
    let client = administrator(&databases.data.name).await;
    let crossing = client
        .query(
            "SELECT conname::text FROM pg_constraint WHERE contype = 'f' AND NOT EXISTS ( \
                 SELECT 1 FROM pg_attribute a WHERE a.attrelid = conrelid AND a.attnum = ANY (conkey) \
                 AND a.attname = 'tenant_id')",
            &[],
        )
        .await
        .unwrap();
    assert!(crossing.is_empty(), "a foreign key leaves the tenant out");
}
