//! Connections and the one way to run a transaction.

use std::time::{Duration, Instant};

use deadpool_postgres::{Hook, Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, Transaction};
use zeroize::Zeroizing;

use crate::config::DatabaseConfig;
use crate::telemetry::metrics;

const ATTEMPTS: u32 = 10;

/// What can go wrong with a database, without what PostgreSQL said: its messages can quote values.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    #[error("cannot read {0}")]
    Secret(&'static str),
    #[error("the database's TLS roots are not usable: {0}")]
    Roots(String),
    #[error("the database cannot be reached")]
    Unavailable,
    #[error("the database did not answer in time")]
    Timeout,
    #[error("the row exists already")]
    Conflict,
    #[error("the row is gone or has another version")]
    Stale,
    #[error("a legal hold is in force")]
    Held,
    #[error("something was done under this idempotency key before")]
    Claimed,
    #[error("more bytes are asked for than one answer holds")]
    TooMuch,
    #[error("a row does not have the form it was stored with: {0}")]
    Malformed(&'static str),
    #[error("the database refused the statement ({code})")]
    Refused { code: String },
}

impl From<tokio_postgres::Error> for StorageError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            return Self::Unavailable;
        };
        if *state == SqlState::UNIQUE_VIOLATION {
            return Self::Conflict;
        }
        // Class 08: connection; 53: out of resources; 57P0x: shut down or starting; 25006: a read-only standby.
        let code = state.code();
        if *state == SqlState::QUERY_CANCELED {
            return Self::Timeout;
        }
        if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") || code == "25006" {
            return Self::Unavailable;
        }
        Self::Refused { code: code.to_owned() }
    }
}

impl From<deadpool_postgres::PoolError> for StorageError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Timeout(_) => Self::Timeout,
            _ => Self::Unavailable,
        }
    }
}

// Statements of requests find rows by their keys, a few at a time. Left to itself, PostgreSQL plans each anew, since a plan
// for just these keys looks cheaper (102 µs instead of 21 for one record by its id, 22 instead of 10 for each of eight); and
// a plan made once, while tables were small or not yet analysed, reads, sorts or hashes them whole ever after. So they are
// planned once, and to look up each row by its key, however few there were. Bitmaps stay: without, the end of one person's keys
// read all of the tenant's (162 ms for 11, of 40,000).
const REQUEST_SESSION: &str = "/* storage::pool */ SET synchronous_commit = on; SET plan_cache_mode = force_generic_plan; \
     SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET jit = off";
// A commit that is acknowledged is durable, whatever the server's default says. No search reads a whole table, nor is it worth
// compiling.
const SEARCH_SESSION: &str =
    "/* storage::pool */ SET synchronous_commit = on; SET enable_seqscan = off; SET jit = off";

/// A pool of connections to one database.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    timeout: Duration,
}

impl Database {
    /// Reads the password file and prepares the pool; connects on first use.
    pub fn open(config: &DatabaseConfig) -> Result<Self, StorageError> {
        Self::open_with(config, REQUEST_SESSION)
    }

    /// As [`Self::open`], for searches whose best plan depends on what they look for.
    pub fn open_for_searches(config: &DatabaseConfig) -> Result<Self, StorageError> {
        Self::open_with(config, SEARCH_SESSION)
    }

    fn open_with(config: &DatabaseConfig, session: &'static str) -> Result<Self, StorageError> {
        let timeout = Duration::from_millis(config.timeout_ms);
        let mut postgres = tokio_postgres::Config::new();
        let password = read_secret(&config.password_file)?;
        postgres
            .host(&config.host)
            .port(config.port)
            .dbname(&config.name)
            .user(&config.user)
            .password(password.as_slice())
            .application_name("strongroom")
            .connect_timeout(timeout)
            // The server gives up on a statement before this side gives up on the server, and on a process that stands still or
            // cannot be reached in the middle of a transaction: what that has locked others wait for.
            .options(format!(
                "-c statement_timeout={} -c idle_in_transaction_session_timeout={} -c tcp_keepalives_idle=5 \
                 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3",
                config.timeout_ms,
                config.timeout_ms.saturating_mul(2)
            ));
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &config.roots_file {
            Some(path) => {
                postgres.ssl_mode(tokio_postgres::config::SslMode::Require);
                Manager::from_config(postgres, tls_connector(path)?, recycle)
            }
            None => Manager::from_config(postgres, NoTls, recycle),
        };
        let pool = Pool::builder(manager)
            .max_size(config.pool_connections)
            // The one that was used last: what its process at the server holds is still in a processor's cache.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .timeouts(deadpool_postgres::Timeouts {
                wait: Some(timeout),
                create: Some(timeout),
                recycle: Some(timeout),
            })
            .post_create(Hook::async_fn(move |client, _| {
                Box::pin(async move {
                    client.batch_execute(session).await.map_err(deadpool_postgres::HookError::Backend)
                })
            }))
            .build()
            .map_err(|_| StorageError::Unavailable)?;
        Ok(Self { pool, timeout })
    }

    /// How long a statement may take, on either side.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Tells the metrics how full the pool is.
    pub fn report(&self, name: &'static str) {
        let status = self.pool.status();
        metrics::pool(name, status.max_size, status.size, status.available, status.waiting);
    }

    /// One empty round trip.
    pub async fn ping(&self, name: &'static str) -> Result<(), StorageError> {
        self.run(name, async |client| Ok(client.batch_execute("/* storage::ping */ SELECT 1").await?)).await
    }

    /// Runs `work` on a connection, outside an explicit transaction: one statement, which PostgreSQL makes atomic.
    /// Bounded by the configured timeout; a connection whose work did not end is thrown away.
    pub async fn run<T>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(&Object) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let client = self.checkout(name).await?;
        let started = Instant::now();
        let ended = tokio::time::timeout(self.timeout, work(&client)).await;
        metrics::storage(name, started.elapsed());
        match ended {
            Ok(result) => result.inspect_err(|error| note(name, error)),
            Err(_) => {
                discard(client);
                note(name, &StorageError::Timeout);
                Err(StorageError::Timeout)
            }
        }
    }

    /// Runs `work` in a transaction and commits; serialisation failures and deadlocks are tried again, at most ten
    /// times, with growing pauses. `work` must have no effect outside the database.
    pub async fn transaction<T>(
        &self,
        name: &'static str,
        mut work: impl AsyncFnMut(&Transaction<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut client = self.checkout(name).await?;
            let started = Instant::now();
            let ended = tokio::time::timeout(self.timeout, attempt_once(&mut client, &mut work)).await;
            metrics::storage(name, started.elapsed());
            match ended {
                Err(_) => {
                    discard(client);
                    note(name, &StorageError::Timeout);
                    return Err(StorageError::Timeout);
                }
                Ok(Err(error)) if attempt < ATTEMPTS && is_retryable(&error) => {
                    drop(client);
                    tokio::time::sleep(pause(attempt)).await;
                }
                Ok(result) => return result.inspect_err(|error| note(name, error)),
            }
        }
    }

    /// Takes a connection out of the pool for good, and sets it up with `settings`. For what PostgreSQL keeps with a session.
    pub async fn session(&self, name: &'static str, settings: &str) -> Result<Session, StorageError> {
        let session = Session { client: Some(self.checkout(name).await?), timeout: self.timeout };
        session.run(name, async |client| Ok(client.batch_execute(settings).await?)).await?;
        Ok(session)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that takes a connection from the pool")]
    async fn checkout(&self, name: &'static str) -> Result<Object, StorageError> {
        // Boxed: it would be two thirds of every future that may come to ask the database, copied whenever one of them moves.
        Box::pin(self.pool.get()).await.map_err(StorageError::from).inspect_err(|error| note(name, error))
    }
}

/// A connection that nobody else uses and that ends with this value: its advisory locks end with it. After an error drop it,
/// since what it was doing may still be going on.
pub struct Session {
    /// Taken out on drop only.
    client: Option<Object>,
    timeout: Duration,
}

impl Session {
    /// The same, with more time for each piece of work.
    #[must_use]
    pub const fn lasting(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// As [`Database::run`].
    pub async fn run<T>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(&Object) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let client = self.client.as_ref().ok_or(StorageError::Unavailable)?;
        let started = Instant::now();
        let ended = tokio::time::timeout(self.timeout, work(client)).await;
        metrics::storage(name, started.elapsed());
        ended.unwrap_or(Err(StorageError::Timeout)).inspect_err(|error| note(name, error))
    }

    /// Runs `work` in a transaction and commits; nothing is tried again.
    pub async fn transaction<T>(
        &mut self,
        name: &'static str,
        mut work: impl AsyncFnMut(&Transaction<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let client = self.client.as_mut().ok_or(StorageError::Unavailable)?;
        let started = Instant::now();
        let ended = tokio::time::timeout(self.timeout, attempt_once(client, &mut work)).await;
        metrics::storage(name, started.elapsed());
        ended.unwrap_or(Err(StorageError::Timeout)).inspect_err(|error| note(name, error))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            discard(client);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that opens a transaction")]
async fn attempt_once<T>(
    client: &mut Object,
    work: &mut impl AsyncFnMut(&Transaction<'_>) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let transaction = client.transaction().await?;
    let value = work(&transaction).await?;
    transaction.commit().await?;
    Ok(value)
}

fn is_retryable(error: &StorageError) -> bool {
    matches!(error, StorageError::Refused { code } if code == "40001" || code == "40P01")
}

/// 1, 2, 4 … 64 ms, jittered by the scheduler and by which caller lost.
fn pause(attempt: u32) -> Duration {
    Duration::from_millis(1 << attempt.min(6))
}

/// Takes a connection out of the pool for good: its statement may still be running.
fn discard(client: Object) {
    drop(Object::take(client));
}

fn note(name: &'static str, error: &StorageError) {
    if !matches!(
        error,
        StorageError::Conflict | StorageError::Stale | StorageError::Held | StorageError::Claimed
    ) {
        metrics::storage_failure(name);
        tracing::warn!(storage.function = name, error = %error, "storage.failed");
    }
}

pub(super) fn read_secret(path: &std::path::Path) -> Result<Zeroizing<Vec<u8>>, StorageError> {
    let mut secret =
        Zeroizing::new(std::fs::read(path).map_err(|_| StorageError::Secret("the password file"))?);
    while secret.last().is_some_and(u8::is_ascii_whitespace) {
        secret.pop();
    }
    Ok(secret)
}

pub(super) fn tls_connector(
    roots: &std::path::Path,
) -> Result<tokio_postgres_rustls::MakeRustlsConnect, StorageError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let refuse = |why: String| StorageError::Roots(why);
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).map_err(|error| refuse(error.to_string()))? {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        store.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(tokio_postgres_rustls::MakeRustlsConnect::new(config))
}
