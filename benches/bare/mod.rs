//! The bare server: what is left of a create, a read and an update when all that Strongroom adds is taken away.
//!
//! The same accept loop, TLS settings, runtime, statement cache and number of connections to PostgreSQL; one statement
//! a request over a row of the same bytes, found by a primary key of the same columns; an answer of the same bytes.
//! No policy, keys, sealing, audit, identity or parsing of bodies. It is never to be made slower.

mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Args;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use strongroom::config::{self, DatabaseConfig};
use strongroom::domain::clock::{SharedClock, SystemClock};
use strongroom::domain::id::uuid_v7;
use strongroom::domain::random::{SharedRandom, SystemRandom};
use strongroom::http::door::{self, Door};
use strongroom::tls::{LiveTls, TlsFiles};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_postgres::NoTls;

pub use table::{Table, connect};

/// What the bare server is told by the bench that starts it.
#[derive(Args)]
pub struct BareArgs {
    /// Strongroom's own configuration: door, limits, number of connections
    #[arg(long)]
    config: PathBuf,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    user: String,
    #[arg(long)]
    password_file: PathBuf,
    /// Bytes of a row beside its key
    #[arg(long)]
    row_bytes: usize,
}

struct Bare {
    pool: Pool,
    clock: SharedClock,
    random: SharedRandom,
    row_bytes: usize,
    /// Incompressible bytes that bring a row to its size.
    filler: Vec<u8>,
}

/// Serves until standard input closes.
pub async fn serve(args: BareArgs) -> Result<()> {
    let config = config::load(&args.config)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let random: SharedRandom = Arc::new(SystemRandom::default());
    let files = TlsFiles::of(&config.server, &config.policy.directory);
    let tls = LiveTls::open(files, Arc::clone(&clock), Box::new(|_| Ok(())))?;
    let mut filler = vec![0; args.row_bytes];
    random.fill(&mut filler).context("no randomness")?;
    let pool = pool(&config.database.data, &args)?;
    let row_bytes = args.row_bytes;
    let bare = Bare { pool, clock: Arc::clone(&clock), random, row_bytes, filler };
    let listener = TcpListener::bind(args.listen).await?;
    let door = Door::new(tls, &config.limits, clock);
    door::serve(door, listener, router(bare), input_closes()).await;
    Ok(())
}

async fn input_closes() {
    let mut byte = [0];
    // The bench never writes: whatever this returns, it is the end.
    let _ = tokio::io::stdin().read(&mut byte).await;
}

fn pool(data: &DatabaseConfig, args: &BareArgs) -> Result<Pool> {
    let mut postgres = tokio_postgres::Config::new();
    let password = std::fs::read(&args.password_file).context("reading the password")?;
    postgres.host(&data.host).port(data.port).dbname(table::DATABASE).user(&args.user).password(password);
    let manager =
        Manager::from_config(postgres, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Ok(Pool::builder(manager).max_size(data.pool_connections).runtime(Runtime::Tokio1).build()?)
}

fn router(bare: Bare) -> Router {
    Router::new()
        .route("/livez", get(async || "alive"))
        .route("/entries", post(enter))
        .route("/api/v1/{collection}", post(create))
        .route("/api/v1/{collection}/{id}", get(read).patch(update))
        .with_state(Arc::new(bare))
}

/// Anything that went wrong is a 500, which ends the bench.
struct Failed;

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(_: E) -> Self {
        Self
    }
}

async fn read(
    State(bare): State<Arc<Bare>>,
    Path((collection, id)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let client = bare.client().await?;
    let statement = client.prepare_cached(table::SELECT).await?;
    let row = client.query_one(&statement, &[&table::TENANT, &collection, &id]).await?;
    Ok(json(StatusCode::OK, Body::from(row.try_get::<_, Vec<u8>>(0)?)))
}

async fn create(
    State(bare): State<Arc<Bare>>,
    Path(collection): Path<String>,
    body: Bytes,
) -> Result<Response, Failed> {
    let id = uuid_v7(&*bare.clock, &*bare.random)?.to_string();
    let client = bare.client().await?;
    let statement = client.prepare_cached(table::INSERT).await?;
    let rest = bare.rest(body.len());
    client.execute(&statement, &[&table::TENANT, &collection, &id, &body.as_ref(), &rest]).await?;
    Ok(json(StatusCode::CREATED, bare.written(&collection, &id)))
}

/// An entry of a log that is neither batched nor hashed: one INSERT of what came, under a time-ordered key.
async fn enter(State(bare): State<Arc<Bare>>, body: Bytes) -> Result<Response, Failed> {
    let id = uuid_v7(&*bare.clock, &*bare.random)?.to_string();
    let client = bare.client().await?;
    let statement = client.prepare_cached(table::INSERT).await?;
    let nothing: &[u8] = &[];
    client.execute(&statement, &[&table::TENANT, &"entries", &id, &body.as_ref(), &nothing]).await?;
    Ok(StatusCode::CREATED.into_response())
}

/// A whole new row version is written whatever changes, so one column stands for all.
async fn update(
    State(bare): State<Arc<Bare>>,
    Path((collection, id)): Path<(String, String)>,
    _: Bytes,
) -> Result<Response, Failed> {
    let client = bare.client().await?;
    let statement = client.prepare_cached(table::UPDATE).await?;
    let rest = bare.rest(0);
    match client.execute(&statement, &[&table::TENANT, &collection, &id, &rest]).await? {
        1 => Ok(json(StatusCode::OK, bare.written(&collection, &id))),
        _ => Err(Failed),
    }
}

impl Bare {
    #[expect(clippy::disallowed_methods, reason = "the bare server goes without what `Database` adds")]
    async fn client(&self) -> Result<Object, deadpool_postgres::PoolError> {
        self.pool.get().await
    }

    fn rest(&self, used: usize) -> &[u8] {
        self.filler.get(..self.row_bytes.saturating_sub(used)).unwrap_or_default()
    }

    /// The members of Strongroom's answer to a write.
    fn written(&self, collection: &str, id: &str) -> Body {
        let at = self.clock.now().to_rfc3339();
        Body::from(format!(
            r#"{{"collection":"{collection}","id":"{id}","subject":"{id}","updated_at":"{at}","version":1}}"#
        ))
    }
}

fn json(status: StatusCode, body: Body) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
