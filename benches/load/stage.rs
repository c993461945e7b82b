//! The servers, running and holding the same records.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use strongroom::domain::random::{Random, SystemRandom};
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use crate::bare::{Table, connect};
use crate::child::{Server, free_address};
use crate::connection::{Call, Connection, Target};
use crate::contest::Contender;
use crate::generator::{self, Lane, Limits};
use crate::kv;
use crate::lanes::{Fill, Filling, ReadBack, Roster};
use crate::openbao::OpenBao;
use crate::options::{Options, Scenario};
use crate::processor::Meter;
use crate::report::{Conditions, note};
use crate::site::Site;

pub const READY_LIMIT: Duration = Duration::from_mins(1);
const FILL_CONNECTIONS: usize = 32;

pub struct Stage {
    pub bare: Contender,
    pub strongroom: Contender,
    /// Strongroom again, with a key cache that holds next to nothing.
    pub cold: Option<Contender>,
    pub openbao: Option<Contender>,
    pub postgres: Meter,
    servers: Vec<Server>,
    site: Site,
    data: Client,
    stored_row_bytes: usize,
    /// Bytes of an audit entry of a read, on average.
    pub entry_bytes: usize,
    loaded_per_second: f64,
}

impl Stage {
    /// Starts and fills everything. To be called on the main thread; see [`Server::start`].
    pub fn set(options: &Options, runtime: &Runtime) -> Result<Self> {
        if options.directory.exists() {
            std::fs::remove_dir_all(&options.directory).context("emptying the bench's directory")?;
        }
        note("starting PostgreSQL and the Vault API, making keys and certificates");
        let site = runtime.block_on(Site::build(&options.directory, note))?;
        let protocol: &'static [u8] = if options.http2 { b"h2" } else { b"http/1.1" };
        let target = site.target(site.config().server.listen, protocol)?;
        let mut service = start_strongroom(&site)?;
        runtime.block_on(wait_until_ready(&mut service, &target, "/readyz"))?;
        let start = Instant::now();
        let roster = fill(&target, options.records())?;
        let loaded = f64::from(u32::try_from(options.records())?) / start.elapsed().as_secs_f64();
        let data = runtime
            .block_on(async { connect(&site.data_server()?, &site.config().database.data.name).await })?;
        let (row_bytes, stored_row_bytes) = runtime.block_on(fill_bare(&site, &data, &roster))?;
        let entry_bytes = runtime.block_on(entry_bytes(&data))?;
        let mut servers = vec![service];
        let mut start_bare = || -> Result<Contender> {
            let listen = free_address()?;
            let target = site.target(listen, protocol)?;
            let mut server = start_bare(&site, listen, row_bytes)?;
            runtime.block_on(wait_until_ready(&mut server, &target, "/livez"))?;
            let contender = Contender { target, process: server.id(), roster: roster.fresh() };
            servers.push(server);
            Ok(contender)
        };
        let bare = start_bare()?;
        let other = if options.calibrate { Some(start_bare()?) } else { None };
        let process = servers.first().map(Server::id).context("no server")?;
        let strongroom = other.unwrap_or(Contender { target, process, roster });
        let wants_cold = !options.calibrate && options.scenarios.contains(&Scenario::ReadCold);
        let cold = if wants_cold { Some(start_cold(&site, protocol, &strongroom, runtime)?) } else { None };
        let wants_openbao = !options.calibrate && !options.without_openbao;
        let openbao =
            if wants_openbao { Some(start_openbao(&site, protocol, &strongroom, runtime)?) } else { None };
        let mut keep = |(server, contender): (Server, Contender)| {
            servers.push(server);
            contender
        };
        let (cold, openbao) = (cold.map(&mut keep), openbao.map(&mut keep));
        let postgres = runtime.block_on(site.postgres())?;
        let loaded_per_second = loaded;
        Ok(Self {
            bare,
            strongroom,
            cold,
            openbao,
            postgres,
            servers,
            site,
            data,
            stored_row_bytes,
            entry_bytes,
            loaded_per_second,
        })
    }

    /// Writes what the last rounds left behind, so that each pairing starts alike.
    pub fn settle(&self, runtime: &Runtime) -> Result<()> {
        runtime.block_on(self.data.batch_execute("CHECKPOINT")).context("between rounds")
    }

    /// Waits until every entry that is in the log has its number, so that no other server's round pays for it; how long that took.
    pub fn catch_up(&self, runtime: &Runtime) -> Result<Duration> {
        let start = Instant::now();
        let newest = runtime.block_on(self.data.query(NEWEST_ENTRIES, &[]))?;
        let newest: Vec<uuid::Uuid> = newest.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        loop {
            let row = runtime.block_on(self.data.query_one(NUMBERED, &[&newest]))?;
            if usize::try_from(row.try_get::<_, i64>(0)?)? == newest.len() {
                return Ok(start.elapsed());
            }
            anyhow::ensure!(start.elapsed() < LONGEST_CATCH_UP, "the log is not numbered to its end");
            std::thread::sleep(LOOK);
        }
    }

    /// An error if a server has ended.
    pub fn check(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Server::check)
    }

    pub fn conditions(&self, options: &Options, runtime: &Runtime) -> Result<Conditions> {
        let setting = |name: &str| -> Result<String> {
            let row = runtime.block_on(self.data.query_one("SELECT current_setting($1)", &[&name]))?;
            Ok(row.try_get(0)?)
        };
        let roster = &self.strongroom.roster;
        let answers: usize = roster.answers.iter().map(Vec::len).sum();
        Ok(Conditions {
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            processors: std::thread::available_parallelism()?.get(),
            postgres: format!("PostgreSQL {}", setting("server_version")?),
            fsync: setting("fsync")?,
            synchronous_commit: setting("synchronous_commit")?,
            protocol: if options.http2 { "HTTP/2" } else { "HTTP/1.1" },
            records: options.records(),
            stored_row_bytes: self.stored_row_bytes,
            entry_bytes: self.entry_bytes,
            answer_bytes: answers / roster.answers.len().max(1),
            pool_connections: self.site.config().database.data.pool_connections,
            rounds: options.rounds(),
            round_seconds: options.measured().as_secs_f64(),
            calibration: options.calibrate,
            loaded_per_second: self.loaded_per_second,
        })
    }

    /// Stops the servers, then the parts, and removes what they stored.
    pub fn strike(self, options: &Options, runtime: &Runtime) -> Result<()> {
        drop(self.servers);
        drop(self.data);
        if options.keep {
            runtime.block_on(self.site.stack.stop());
            return Ok(());
        }
        runtime.block_on(self.site.stack.remove()).context("removing the bench's directory")
    }
}

fn start_strongroom(site: &Site) -> Result<Server> {
    let program = Path::new(env!("CARGO_BIN_EXE_strongroom"));
    let arguments = ["serve".to_owned(), "--config".to_owned(), text(&site.installation.config_file)?];
    Server::start("strongroom", program, &arguments, &site.stack.directory().join("strongroom.log"))
}

/// Another instance on the same databases.
fn start_cold(
    site: &Site,
    protocol: &'static [u8],
    strongroom: &Contender,
    runtime: &Runtime,
) -> Result<(Server, Contender)> {
    let listen = free_address()?;
    let program = Path::new(env!("CARGO_BIN_EXE_strongroom"));
    let arguments = ["serve".to_owned(), "--config".to_owned(), text(&site.installation.config_file)?];
    let variables = [
        ("STRONGROOM__SERVER__LISTEN", listen.to_string()),
        ("STRONGROOM__SERVER__INSTANCE", "cold".to_owned()),
        ("STRONGROOM__CACHE__SUBJECT_KEYS_OWNERS", "16".to_owned()),
    ];
    let log = site.stack.directory().join("strongroom-cold.log");
    let mut server = Server::start_with("strongroom", program, &arguments, &variables, &log)?;
    let target = site.target(listen, protocol)?;
    runtime.block_on(wait_until_ready(&mut server, &target, "/readyz"))?;
    let process = server.id();
    Ok((server, Contender { target, process, roster: strongroom.roster.fresh() }))
}

/// OpenBao with the same records under the same ids.
fn start_openbao(
    site: &Site,
    protocol: &'static [u8],
    strongroom: &Contender,
    runtime: &Runtime,
) -> Result<(Server, Contender)> {
    note("starting OpenBao's key-value store");
    let OpenBao { server, target } = OpenBao::start(site, protocol, runtime)?;
    let roster = strongroom.roster.fresh();
    let filling = Filling::new(roster.ids.len(), progress(roster.ids.len(), "OpenBao"));
    let lanes = (0..FILL_CONNECTIONS).map(|_| kv::Fill::lane(&filling, &roster)).collect();
    generator::run(&target, lanes, Limits::UNTIL_DONE, &[])?;
    let process = server.id();
    Ok((server, Contender { target, process, roster }))
}

fn start_bare(site: &Site, listen: SocketAddr, row_bytes: usize) -> Result<Server> {
    let arguments = [
        "bare".to_owned(),
        format!("--config={}", text(&site.installation.config_file)?),
        format!("--listen={listen}"),
        format!("--user={}", strongroom::devstack::ADMINISTRATOR),
        format!("--password-file={}", text(site.stack.data.password_file())?),
        format!("--row-bytes={row_bytes}"),
    ];
    let log = site.stack.directory().join(format!("bare-{}.log", listen.port()));
    Server::start("the bare server", &std::env::current_exe()?, &arguments, &log)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("the bench's directory is not UTF-8")
}

async fn wait_until_ready(server: &mut Server, target: &Target, path: &str) -> Result<()> {
    let call = Call { method: "GET", path: path.to_owned(), ..Call::default() };
    let start = Instant::now();
    loop {
        server.check()?;
        let answer =
            async { Connection::open(target).await?.exchange(&call).await.map(|(status, _)| status) };
        let last = match answer.await {
            Ok(200) => return Ok(()),
            Ok(status) => format!("status {status}"),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > READY_LIMIT {
            bail!("a server does not get ready: {last}; see its log with --keep");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stores all records, then reads each back and compares its fields.
fn fill(target: &Target, count: usize) -> Result<Arc<Roster>> {
    let filling = Filling::new(count, progress(count, "storing"));
    let lanes: Vec<Box<dyn Lane>> = (0..FILL_CONNECTIONS).map(|_| Fill::lane(&filling)).collect();
    generator::run(target, lanes, Limits::UNTIL_DONE, &[])?;
    let ids = filling.found().into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>()?;
    ensure!(ids.iter().all(|id| !id.is_empty()), "not all records were stored");
    let roster = Roster::new(ids, Vec::new());
    let reading = Filling::new(count, progress(count, "reading back"));
    let lanes = (0..FILL_CONNECTIONS).map(|_| ReadBack::lane(&reading, &roster)).collect();
    generator::run(target, lanes, Limits::UNTIL_DONE, &[])?;
    Ok(Roster::new(roster.ids.clone(), reading.found()))
}

/// Gives the bare server rows as large as Strongroom's, with the answers that Strongroom gave. Returns the bytes of a row
/// beside its key, and of the whole row.
async fn fill_bare(site: &Site, data: &Client, roster: &Roster) -> Result<(usize, usize)> {
    data.batch_execute("VACUUM ANALYZE").await?;
    let row = data.query_one("SELECT avg(pg_column_size(r))::int FROM record r", &[]).await?;
    let stored = usize::try_from(row.try_get::<_, i32>(0)?)?;
    let table = Table::create(&site.data_server()?).await?;
    let id = roster.ids.first().context("no records")?;
    let row_bytes = table.row_bytes(stored, id).await?;
    let mut filler = vec![0; row_bytes];
    SystemRandom::default().fill(&mut filler).context("no randomness")?;
    table.load(&roster.ids, &roster.answers, &filler).await?;
    Ok((row_bytes, stored))
}

/// Nearly all of them are of the reading back.
/// Of both tables; within a few milliseconds the newest by their ids are the last to get numbers.
const NEWEST_ENTRIES: &str = "(SELECT entry_id FROM audit_entry ORDER BY entry_id DESC LIMIT 64)
    UNION ALL (SELECT entry_id FROM audit_outbox ORDER BY entry_id DESC LIMIT 64)";
const NUMBERED: &str = "SELECT count(*) FROM audit_index WHERE entry_id = ANY ($1)";
const LOOK: Duration = Duration::from_millis(20);
const LONGEST_CATCH_UP: Duration = Duration::from_mins(5);

async fn entry_bytes(data: &Client) -> Result<usize> {
    let row = data.query_one("SELECT avg(octet_length(entry))::int FROM audit_entry", &[]).await?;
    Ok(usize::try_from(row.try_get::<_, i32>(0)?)?)
}

fn progress(count: usize, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{prefix:<12} {bar:30} {pos}/{len} {per_sec}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.with_prefix(what)
}
