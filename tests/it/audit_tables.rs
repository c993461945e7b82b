//! The audit tables hold the line: who may do what, and that nobody changes what is there.

use strongroom::config::DatabaseConfig;
use tokio_postgres::{Client, NoTls};

use crate::support::{ADMINISTRATOR, Databases, fresh_databases};

const INSERT_ENTRY: &str = "INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256)
    VALUES (gen_random_uuid(), 1, gen_random_uuid(), gen_random_uuid(), '{}', sha256('{}'))";
const INSERT_OUTBOX: &str = "INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES (gen_random_uuid(), gen_random_uuid(), '{}')";

/// `insufficient_privilege`: from a missing grant and from the triggers alike.
const REFUSED: &str = "42501";

async fn connect(config: &DatabaseConfig) -> Client {
    let mut postgres = tokio_postgres::Config::new();
    let password = std::fs::read(&config.password_file).unwrap();
    postgres.host(&config.host).port(config.port).dbname(&config.name).user(&config.user);
    postgres.password(password.trim_ascii());
    let (client, connection) = postgres.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn connect_as(databases: &Databases, role: &str) -> Client {
    connect(&databases.data_as(role)).await
}

async fn administrator(databases: &Databases) -> Client {
    connect_as(databases, ADMINISTRATOR).await
}

async fn code_of(client: &Client, sql: &str) -> Option<String> {
    let error = client.batch_execute(sql).await.err()?;
    Some(error.code().map_or_else(|| "connection".to_owned(), |code| code.code().to_owned()))
}

async fn assert_refused(client: &Client, statements: &[&str]) {
    for sql in statements {
        assert_eq!(code_of(client, sql).await.as_deref(), Some(REFUSED), "{sql}");
    }
}

async fn assert_allowed(client: &Client, statements: &[&str]) {
    for sql in statements {
        assert_eq!(code_of(client, sql).await, None, "{sql}");
    }
}

/// Whoever holds the sequencer's lock keeps the log from growing.
#[tokio::test]
async fn nobody_but_the_sequencer_takes_advisory_locks() {
    let databases = fresh_databases().await;
    let locks = [
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_advisory_xact_lock(1, 1)",
    ];
    for role in ["strongroom_app", "strongroom_audit_reader"] {
        assert_refused(&connect_as(&databases, role).await, &locks).await;
    }
    assert_allowed(&connect_as(&databases, "strongroom_sequencer").await, &locks).await;
}

#[tokio::test]
async fn the_service_inserts_and_sees_next_to_nothing() {
    let databases = fresh_databases().await;
    let app = connect_as(&databases, "strongroom_app").await;
    assert_allowed(&app, &[INSERT_ENTRY, INSERT_OUTBOX, "SELECT src, seq, sha256 FROM audit_entry"]).await;
    assert_refused(
        &app,
        &[
            "SELECT entry FROM audit_entry",
            "SELECT tenant_id FROM audit_entry",
            "SELECT entry_id FROM audit_outbox",
            "SELECT count(*) FROM audit_outbox",
            "INSERT INTO audit_outbox (tenant_id, entry_id, entry)
             VALUES (gen_random_uuid(), gen_random_uuid(), '{}') RETURNING entry_id",
            "INSERT INTO audit_outbox (tenant_id, entry_id, entry, xid)
             VALUES (gen_random_uuid(), gen_random_uuid(), '{}', '3')",
            "INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256, xid)
             VALUES (gen_random_uuid(), 1, gen_random_uuid(), gen_random_uuid(), '{}', sha256('{}'), '3')",
            "UPDATE audit_entry SET entry = ''",
            "UPDATE audit_outbox SET entry = ''",
            "DELETE FROM audit_entry",
            "DELETE FROM audit_outbox",
            "TRUNCATE audit_entry",
            "TRUNCATE audit_outbox",
            "INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256)
             SELECT src, seq, gen_random_uuid(), src, '{}', sha256 FROM audit_entry
             ON CONFLICT (entry_id) DO UPDATE SET entry = excluded.entry",
            "DROP TABLE audit_entry",
            "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
            "SET ROLE strongroom_owner",
        ],
    )
    .await;
}

#[tokio::test]
async fn the_audit_reader_reads_the_log_and_nothing_else() {
    let databases = fresh_databases().await;
    let reader = connect_as(&databases, "strongroom_audit_reader").await;
    assert_allowed(&reader, &["SELECT * FROM audit_entry", "SELECT * FROM audit_outbox"]).await;
    assert_refused(
        &reader,
        &[
            INSERT_ENTRY,
            INSERT_OUTBOX,
            "UPDATE audit_entry SET entry = ''",
            "DELETE FROM audit_outbox",
            "SELECT * FROM record",
            "SELECT * FROM subject",
        ],
    )
    .await;
}

#[tokio::test]
async fn the_sequencer_numbers_entries_and_does_nothing_else() {
    let databases = fresh_databases().await;
    let sequencer = connect_as(&databases, "strongroom_sequencer").await;
    let index = "INSERT INTO audit_index VALUES (0, gen_random_uuid(), sha256(''))";
    assert_allowed(
        &sequencer,
        &["SELECT * FROM audit_entry", "SELECT * FROM audit_outbox", index, "UPDATE audit_head SET size = 1"],
    )
    .await;
    assert_refused(
        &sequencer,
        &[
            INSERT_ENTRY,
            INSERT_OUTBOX,
            "UPDATE audit_index SET idx = 7",
            "DELETE FROM audit_index",
            "TRUNCATE audit_index",
            "DELETE FROM audit_head",
            "INSERT INTO audit_head SELECT * FROM audit_head",
            "SELECT * FROM record",
            "SELECT * FROM subject",
        ],
    )
    .await;
    for role in ["strongroom_app", "strongroom_audit_reader"] {
        let other = connect_as(&databases, role).await;
        assert_refused(&other, &[index, "UPDATE audit_head SET size = 2", "DELETE FROM audit_index"]).await;
    }
    // Not even the owner takes the log back.
    let client = administrator(&databases).await;
    let back = [
        "UPDATE audit_head SET size = 0",
        "DELETE FROM audit_index",
        "TRUNCATE audit_head",
        "DELETE FROM audit_head",
    ];
    assert_refused(&client, &back).await;
    assert_allowed(&client, &["SET ROLE strongroom_owner"]).await;
    assert_refused(&client, &back).await;
}

#[tokio::test]
async fn nobody_changes_or_removes_an_entry_not_even_the_owner_or_as_a_replica() {
    let databases = fresh_databases().await;
    let client = administrator(&databases).await;
    assert_allowed(&client, &[INSERT_ENTRY, INSERT_OUTBOX]).await;
    let changes = [
        "UPDATE audit_entry SET entry = ''",
        "UPDATE audit_entry SET entry = '' WHERE false",
        "DELETE FROM audit_entry",
        "TRUNCATE audit_entry",
        "UPDATE audit_outbox SET entry = ''",
        "DELETE FROM audit_outbox",
        "TRUNCATE audit_outbox",
        "MERGE INTO audit_outbox USING audit_entry ON true WHEN MATCHED THEN DELETE",
    ];
    assert_refused(&client, &changes).await;
    assert_allowed(&client, &["SET session_replication_role = replica"]).await;
    assert_refused(&client, &changes).await;
    assert_allowed(&client, &["RESET session_replication_role", "SET ROLE strongroom_owner"]).await;
    assert_refused(&client, &changes).await;
    let left = client
        .query_one("SELECT (SELECT count(*) FROM audit_entry) + (SELECT count(*) FROM audit_outbox)", &[])
        .await
        .unwrap();
    assert_eq!(left.get::<_, i64>(0), 2);
}

#[tokio::test]
async fn the_tables_and_their_guards_change_in_a_migration_only() {
    let databases = fresh_databases().await;
    let client = administrator(&databases).await;
    let changes = [
        "DROP TABLE audit_entry",
        "DROP TABLE audit_outbox CASCADE",
        "DROP TRIGGER audit_refuse_row ON audit_entry",
        "DROP FUNCTION audit_refuse_change() CASCADE",
        "DROP SCHEMA public CASCADE",
        "DROP OWNED BY strongroom_owner CASCADE",
        "DROP INDEX audit_entry_tenant",
        "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
        "ALTER TABLE audit_entry DISABLE TRIGGER audit_refuse_statement",
        "ALTER TABLE audit_outbox ENABLE REPLICA TRIGGER audit_refuse_row",
        "ALTER TABLE audit_entry DROP COLUMN entry",
        "ALTER TABLE audit_entry ALTER COLUMN entry TYPE text USING 'x'",
        "ALTER TABLE audit_entry DROP CONSTRAINT audit_entry_pkey",
        "ALTER TABLE audit_entry RENAME TO old",
        "ALTER TABLE audit_entry SET UNLOGGED",
        "ALTER TABLE audit_entry SET SCHEMA pg_catalog",
        "ALTER TABLE audit_entry OWNER TO administrator",
        "ALTER TRIGGER audit_refuse_row ON audit_entry RENAME TO nothing",
        "CREATE RULE swallow AS ON INSERT TO audit_entry DO INSTEAD NOTHING",
        "CREATE TRIGGER swallow BEFORE INSERT ON audit_entry FOR EACH ROW EXECUTE FUNCTION audit_refuse_change()",
        "CREATE POLICY swallow ON audit_entry USING (false)",
        "CREATE OR REPLACE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql
         AS 'BEGIN RETURN NULL; END'",
        "ALTER FUNCTION audit_refuse_change() RENAME TO nothing",
        "DROP TABLE audit_index",
        "DROP TABLE audit_head",
        "ALTER TABLE audit_index DROP CONSTRAINT audit_index_entry_id_key",
        "ALTER TABLE audit_index DISABLE TRIGGER ALL",
        "ALTER TABLE audit_head DROP CONSTRAINT audit_head_pkey",
        "CREATE RULE swallow AS ON INSERT TO audit_index DO INSTEAD NOTHING",
        "ALTER FUNCTION audit_refuse_retreat() RENAME TO nothing",
    ];
    assert_refused(&client, &changes).await;
    assert_allowed(&client, &["SET session_replication_role = replica"]).await;
    assert_refused(&client, &changes).await;
    assert_allowed(
        &client,
        &[
            "RESET session_replication_role",
            "CREATE TABLE other (id int); ALTER TABLE other ADD COLUMN x int; DROP TABLE other",
            "BEGIN; SET LOCAL strongroom.audit_migration = 'yes';
             ALTER TABLE audit_entry ADD COLUMN later int; COMMIT",
        ],
    )
    .await;
    assert_refused(&client, &["ALTER TABLE audit_entry DROP COLUMN later"]).await;
}
