//! Migrations, as an administrator, under an advisory lock; and the passwords of the login roles.
//!
//! refinery takes no lock and runs each migration in a transaction of its own, so the lock is held here. Indexes are built
//! after them, outside of any transaction, while a service may be running.

use std::path::Path;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use zeroize::Zeroizing;

use super::pool::{StorageError, read_secret, tls_connector};
use super::schema::{Which, build_indexes};
use crate::config::{DatabaseConfig, DatabasesConfig};

/// "strongroom" in the key space of PostgreSQL's advisory locks.
const LOCK: i64 = 0x7374_726f_6e67;

/// "logins", in the same space.
const LOGINS_LOCK: i64 = 0x6c6f_6769_6e73;

const LOCK_PAUSE: Duration = Duration::from_millis(250);

/// Brings a database to this build's schema. Creates the database when it is missing. Returns the names of the
/// migrations that were applied and of the indexes that were built, none when it was current. A schema newer than this
/// build is refused. Whatever breaks it off, the next run goes on from there.
async fn migrate(
    administrator: &DatabaseConfig,
    which: Which,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<Vec<String>, StorageError> {
    create_database(administrator).await?;
    let mut client = connect(administrator, &administrator.name).await?;
    lock(&client, progress).await?;
    progress("applying migrations");
    let report = which
        .runner()
        .set_abort_missing(true)
        .set_abort_divergent(true)
        .run_async(&mut client)
        .await
        .map_err(|error| migration_error(&error))?;
    let name = |migration: &refinery::Migration| format!("V{}__{}", migration.version(), migration.name());
    let mut done: Vec<String> = report.applied_migrations().iter().map(name).collect();
    done.extend(build_indexes(&client, which, progress).await?);
    Ok(done)
}

/// One migration of a database at a time, for as long as the connection lives. Asked again and again, not waited for in
/// the statement: a waiting statement holds a snapshot, for whose end the concurrent index build of the one that has the
/// lock would wait in turn.
async fn lock(client: &Client, progress: &mut (dyn FnMut(&str) + Send)) -> Result<(), StorageError> {
    loop {
        if try_lock(client).await? {
            return Ok(());
        }
        progress("waiting for another migration to end");
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Whether this connection has the lock now: whoever changes tables, or drops months of the log, is the only one.
pub(super) async fn try_lock(client: &Client) -> Result<bool, StorageError> {
    let row = client.query_one("/* storage::migrate */ SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?;
    Ok(row.try_get(0)?)
}

/// Migrates both databases and lets the login roles in with the passwords in their files. `administrators` are
/// role and password file for the data server and the keys server. `progress` hears of each step. Returns what was done, by
/// database.
pub async fn migrate_all(
    databases: &DatabasesConfig,
    administrators: [(&str, &Path); 2],
    mut progress: impl FnMut(&str) + Send,
) -> Result<[(&'static str, Vec<String>); 2], StorageError> {
    let as_administrator = |database: &DatabaseConfig, (user, password_file): (&str, &Path)| DatabaseConfig {
        user: user.to_owned(),
        password_file: password_file.to_owned(),
        // Building an index takes longer than answering a request.
        timeout_ms: 600_000,
        ..database.clone()
    };
    let [data, keys] = administrators;
    let data = as_administrator(&databases.data, data);
    let keys = as_administrator(&databases.keys, keys);
    let report = [
        (Which::Data.as_str(), migrate(&data, Which::Data, &mut progress).await?),
        (Which::Keys.as_str(), migrate(&keys, Which::Keys, &mut progress).await?),
    ];
    let logins = [
        (&data, &databases.data),
        (&data, &databases.audit_export),
        (&data, &databases.audit_sequencer),
        (&keys, &databases.keys),
        (&keys, &databases.key_eraser),
        (&keys, &databases.key_rotator),
    ];
    for (administrator, login) in logins {
        set_login(administrator, &login.user, &login.password_file).await?;
    }
    Ok(report)
}

/// Lets `role` log in with the password in `password_file`. Only its SCRAM verifier is sent, so that neither the
/// server's log nor its statistics can hold the password.
pub async fn set_login(
    administrator: &DatabaseConfig,
    role: &str,
    password_file: &Path,
) -> Result<(), StorageError> {
    let password = read_secret(password_file)?;
    let verifier = Zeroizing::new(postgres_protocol::password::scram_sha_256(&password));
    // Roles are the cluster's, so that this database is where one waits for another: of two changes of one role at once
    // PostgreSQL refuses one.
    let client = connect(administrator, "postgres").await?;
    client.execute("/* storage::set_login */ SELECT pg_advisory_lock($1)", &[&LOGINS_LOCK]).await?;
    let quoted = client
        .query_one(
            "/* storage::set_login */ SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)",
            &[&role, &verifier.as_str()],
        )
        .await?;
    let statement: Zeroizing<String> = Zeroizing::new(quoted.try_get(0)?);
    Ok(client.batch_execute(&statement).await?)
}

async fn create_database(administrator: &DatabaseConfig) -> Result<(), StorageError> {
    let client = connect(administrator, "postgres").await?;
    let exists = client
        .query_opt(
            "/* storage::create_database */ SELECT 1 FROM pg_database WHERE datname = $1",
            &[&administrator.name],
        )
        .await?;
    if exists.is_some() {
        return Ok(());
    }
    let quoted = client
        .query_one(
            "/* storage::create_database */ SELECT format('CREATE DATABASE %I', $1::text)",
            &[&administrator.name],
        )
        .await?;
    let statement: String = quoted.try_get(0)?;
    match client.batch_execute(&statement).await.map_err(StorageError::from) {
        // 42P04: somebody else made it in the meantime.
        Err(StorageError::Refused { code }) if code == "42P04" => Ok(()),
        other => other,
    }
}

pub(super) async fn connect(config: &DatabaseConfig, database: &str) -> Result<Client, StorageError> {
    let password = read_secret(&config.password_file)?;
    let mut postgres = tokio_postgres::Config::new();
    postgres
        .host(&config.host)
        .port(config.port)
        .dbname(database)
        .user(&config.user)
        .password(password.as_slice())
        .connect_timeout(std::time::Duration::from_millis(config.timeout_ms))
        .application_name("strongroom migrate");
    if let Some(roots) = &config.roots_file {
        postgres.ssl_mode(tokio_postgres::config::SslMode::Require);
        let (client, connection) = postgres.connect(tls_connector(roots)?).await?;
        tokio::spawn(connection);
        Ok(client)
    } else {
        let (client, connection) = postgres.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// refinery's message names the migration and PostgreSQL's complaint about our own SQL; no stored value is in it.
fn migration_error(error: &refinery::Error) -> StorageError {
    tracing::error!(error = %error, "storage.migration_failed");
    StorageError::Malformed("the schema: it is newer than this build, was edited, or a migration failed")
}
