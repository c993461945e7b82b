//! `strongroom serve`: puts the parts together, opens the door, and closes it in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::harden::harden;
use super::log_thread::LogThread;
use crate::audit::checkpoint::KeyName;
use crate::audit::{Committer, Drain, Scribe};
use crate::config::{self, Config, DatabaseConfig};
use crate::domain::clock::{SharedClock, SystemClock};
use crate::domain::random::{SharedRandom, SystemRandom};
use crate::http::{self, App, door};
use crate::jobs::sequencer::Sequencer;
use crate::jobs::{self, revocation::CrlFiles};
use crate::keys::{KeyRing, Transit};
use crate::people::{self, Known, People};
use crate::policy::{Authoriser, PolicySet};
use crate::relay::RelayClient;
use crate::service::{FitnessCheck, Parts, Service};
use crate::storage::{
    AuditReader, AuditStore, Database, KeyDatabase, KeyEraser, KeyRotator, RecordStore, SequenceStore,
};
use crate::telemetry::metrics;
use crate::tls::{Identities, LiveTls, TlsFiles};

/// How often changed files are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, then drains. SIGHUP has it read policy, identities, certificate and lists at once.
pub async fn serve(path: &Path) -> Result<()> {
    for weakness in harden().messages {
        tracing::warn!(weakness, "process.not_hardened");
    }
    let config = config::load(path)?;
    let metrics = metrics::install().context("cannot keep metrics")?;
    // From here on the signal does not end the process; there is nothing to read again yet.
    drop(signal(SignalKind::hangup())?);
    let clock: SharedClock = Arc::new(SystemClock);
    let random: SharedRandom = Arc::new(SystemRandom::default());
    let transit = Transit::connect(&config.vault, &config.environment, Arc::clone(&random))
        .context("cannot prepare the connection to Vault")?;
    let authoriser = load_policy(&config)?;
    wait_for_revocation_lists(&config, &transit).await;
    let (service, drain) = assemble(&config, authoriser, transit.clone(), Arc::clone(&clock), random)?;
    // Both are over before the door opens if the parts are there; if not, the door opens and what needs them is refused.
    let are_parts_fit = look_at_parts(&service).await?;
    let tls = open_tls(&config, &service, Arc::clone(&clock))?;
    let people = open_people(&config, &service, &tls, &clock)?;
    let listener = TcpListener::bind(config.server.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.server.listen))?;
    let is_start_durable = service.note_start().await;

    let mut workers = JoinSet::new();
    if !is_start_durable {
        let service = Arc::clone(&service);
        workers.spawn(async move { service.await_start().await });
    }
    let unfit = if are_parts_fit { None } else { Some(watch_parts(&service, &mut workers)) };
    workers.spawn(jobs::metrics::keep(metrics.clone()));
    let log_thread = LogThread::start().context("cannot start the log's thread")?;
    spawn_workers(&mut workers, &config, transit, (&tls, &people), &service, &log_thread)?;
    let app = App {
        service: Arc::clone(&service),
        admission: Arc::clone(tls.admission()),
        people,
        body_bytes: config.limits.body_bytes,
        batch_body_bytes: config.limits.batch_body_bytes,
        document_bytes: config.limits.document_bytes,
        request_timeout: Duration::from_millis(config.limits.request_timeout_ms),
        stall_timeout: Duration::from_millis(config.limits.stall_timeout_ms),
        metrics,
        openapi: http::openapi::OpenApiCache::default(),
    };
    let ended = run_door(&config, listener, &tls, app, &mut workers, clock, unfit).await;
    workers.shutdown().await;
    service.note_stop().await;
    drop(service);
    if drain.finish(Duration::from_millis(config.limits.drain_timeout_ms)).await.is_err() {
        tracing::error!("audit.not_drained");
    }
    tracing::info!("service.stopped");
    ended
}

fn load_policy(config: &Config) -> Result<Arc<Authoriser>> {
    let set = PolicySet::load(&config.policy.directory).context("the policy is not valid")?;
    Ok(Arc::new(Authoriser::new(Arc::new(set))))
}

/// Without revocation lists no certificate can be trusted, so the door stays shut until Vault gives them, unless an
/// earlier run left some that are still good.
async fn wait_for_revocation_lists(config: &Config, transit: &Transit) {
    let files = CrlFiles::of(&config.server);
    let mut pause = Duration::from_millis(200);
    while !jobs::revocation::refresh(transit, &files).await && !files.are_kept() {
        tracing::warn!("revocation.waiting");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Looks at the databases and at Vault's keys once. An error when they must not be used; `false` when they could not be
/// seen.
async fn look_at_parts(service: &Service) -> Result<bool> {
    let mut are_seen = true;
    for seen in [service.check_databases().await, service.check_keys().await] {
        match seen {
            Ok(()) => {}
            Err(later) if later.is_for_now() => {
                tracing::warn!(error = %later, "fitness.not_checked");
                are_seen = false;
            }
            Err(unfit) => return Err(unfit.into()),
        }
    }
    Ok(are_seen)
}

/// Goes on looking; what it receives is why the service must end.
fn watch_parts(service: &Arc<Service>, workers: &mut JoinSet<()>) -> oneshot::Receiver<FitnessCheck> {
    let (tell, told) = oneshot::channel();
    let service = Arc::clone(service);
    workers.spawn(async move {
        if let Err(unfit) = jobs::fitness::run(service).await {
            // Nobody listens any more: the service is ending anyway.
            let _ = tell.send(unfit);
        }
    });
    told
}

fn spawn_workers(
    workers: &mut JoinSet<()>,
    config: &Config,
    transit: Transit,
    (tls, people): (&Arc<LiveTls>, &Arc<People>),
    service: &Arc<Service>,
    log_thread: &LogThread,
) -> Result<()> {
    let hangup = || signal(SignalKind::hangup());
    let every = Duration::from_secs(config.server.crl_refresh_seconds);
    let sequencer = Sequencer::new(Arc::clone(service), transit.clone(), &config.audit);
    workers.spawn_on(sequencer.context("the log cannot be kept as configured")?.keep(), log_thread.handle());
    workers.spawn(jobs::drift::watch(Arc::clone(service)));
    workers.spawn(jobs::chains::watch(Arc::clone(service)));
    workers.spawn(jobs::months::keep(Arc::clone(service)));
    workers.spawn(jobs::revocation::keep(transit, CrlFiles::of(&config.server), every));
    workers.spawn(jobs::tls_reload::keep(Arc::clone(tls), Arc::clone(service), LOOK, hangup()?));
    let directory = config.policy.directory.clone();
    let clients = Arc::clone(tls.admission());
    let known = Arc::clone(people);
    workers.spawn(jobs::policy_reload::keep(Arc::clone(service), clients, known, directory, LOOK, hangup()?));
    let keeper = jobs::people::Keeper {
        people: Arc::clone(people),
        admission: Arc::clone(tls.admission()),
        service: Arc::clone(service),
    };
    workers.spawn(jobs::people::keep(keeper, LOOK, hangup()?));
    workers.spawn(jobs::idempotency::keep(Arc::clone(service)));
    workers.spawn(jobs::key_destruction::keep(Arc::clone(service)));
    workers.spawn(jobs::erasures::keep(Arc::clone(service)));
    workers.spawn(jobs::rotations::keep(Arc::clone(service)));
    workers.spawn(jobs::uploads::keep(Arc::clone(service)));
    workers.spawn(jobs::reindex::keep(Arc::clone(service)));
    workers.spawn(jobs::overdue::keep(Arc::clone(service)));
    workers.spawn(jobs::parts::watch(Arc::clone(service)));
    workers.spawn(jobs::limits::keep(Arc::clone(service)));
    Ok(())
}

fn open_tls(config: &Config, service: &Arc<Service>, clock: SharedClock) -> Result<Arc<LiveTls>> {
    let files = TlsFiles::of(&config.server, &config.policy.directory);
    // Asked of the policy in force then: roles may be added together with the clients that have them.
    let service = Arc::clone(service);
    let check = move |identities: &Identities| service.check_clients(identities);
    LiveTls::open(files, clock, Box::new(check)).context("the door's files are not usable")
}

/// Whose people are believed. Key sets that come from a URL are fetched by a worker.
fn open_people(
    config: &Config,
    service: &Service,
    tls: &LiveTls,
    clock: &SharedClock,
) -> Result<Arc<People>> {
    let file = config.policy.directory.join(people::FILE);
    let open = |known: &Known<'_>| People::open(file, known, clock.now());
    let people = service.with_known(&tls.admission().identities(), open);
    people.map(Arc::new).context("the people file is not usable")
}

fn assemble(
    config: &Config,
    policy: Arc<Authoriser>,
    transit: Transit,
    clock: SharedClock,
    random: SharedRandom,
) -> Result<(Arc<Service>, Drain)> {
    let data = Database::open(&config.database.data).context("database.data")?;
    let keys = Database::open(&config.database.keys).context("database.keys")?;
    let audit_reader =
        Database::open_for_searches(&config.database.audit_export).context("database.audit_export")?;
    // The committer never waits for a connection behind the requests that wait for it.
    let committer_pool = DatabaseConfig { pool_connections: 2, ..config.database.data.clone() };
    let store = AuditStore::new(Database::open(&committer_pool).context("database.data")?);
    // One for the lead, one to look for it, one for what is written as files.
    let sequence_pool = DatabaseConfig { pool_connections: 3, ..config.database.audit_sequencer.clone() };
    let sequence = Database::open(&sequence_pool).context("database.audit_sequencer")?;
    let scribe = Scribe::new(Arc::clone(&clock), Arc::clone(&random), &config.server.instance);
    let (audit, drain) = Committer::start(store, scribe, &config.audit)?;
    let keys = KeyRing::open(
        KeyDatabase::new(keys),
        transit.clone(),
        &config.cache,
        Arc::clone(&clock),
        Arc::clone(&random),
    );
    // One erasure at a time, and whoever looks at it.
    let eraser_pool = DatabaseConfig { pool_connections: 2, ..config.database.key_eraser.clone() };
    let eraser = KeyEraser::new(Database::open(&eraser_pool).context("database.key_eraser")?);
    // One for the turn, and one for whoever looks at it.
    let rotator_pool = DatabaseConfig { pool_connections: 2, ..config.database.key_rotator.clone() };
    let rotator = KeyRotator::new(Database::open(&rotator_pool).context("database.key_rotator")?);
    let service = Service::new(Parts {
        policy,
        keys,
        eraser,
        erasures: config.erasure.clone(),
        rotator,
        rotated_key_backup_days: config.rotation.key_backup_days,
        transit,
        relay: RelayClient::open(&config.relay).context("relay.ca_file")?,
        records: RecordStore::new(data),
        audit,
        audit_reader: AuditReader::new(audit_reader),
        sequence: SequenceStore::new(sequence),
        clock,
        random,
        origin: KeyName::parse(&config.audit.origin).context("audit.origin is no name for a key")?,
    });
    Ok((Arc::new(service), drain))
}

/// Opens the door, and closes it on a signal, or when a part turns out unfit; then this is an error.
async fn run_door(
    config: &Config,
    listener: TcpListener,
    tls: &Arc<LiveTls>,
    app: App,
    workers: &mut JoinSet<()>,
    clock: SharedClock,
    unfit: Option<oneshot::Receiver<FitnessCheck>>,
) -> Result<()> {
    let (refused, refusals) = tokio::sync::mpsc::channel(REFUSALS_WAITING);
    workers.spawn(note_refusals(Arc::clone(&app.service), refusals));
    let door =
        door::Door::new(Arc::clone(tls), &config.limits, clock).on_refused_handshake(move |peer, failure| {
            // A broken connection or a port scan is no attempt to come in. And a flood of strangers must not fill
            // memory or the log; what does not fit is counted by the door.
            if failure.is_authentication() {
                let _ = refused.try_send((peer, failure));
            }
        });
    let mut fault = None;
    let (end, service) = (end(unfit, &mut fault)?, Arc::clone(&app.service));
    let end = async move {
        end.await;
        service.begin_drain();
    };
    tracing::info!(listen = %listener.local_addr()?, "service.listening");
    let drained = door::serve(door, listener, http::router(Arc::new(app)), end).await;
    if drained.cut > 0 {
        tracing::warn!(connections = drained.cut, "door.cut");
    }
    fault.map_or(Ok(()), |fault| Err(fault.into()))
}

/// Refused handshakes that wait to be put on record.
const REFUSALS_WAITING: usize = 256;

async fn note_refusals(
    service: Arc<Service>,
    mut refusals: tokio::sync::mpsc::Receiver<(std::net::SocketAddr, door::HandshakeFailure)>,
) {
    while let Some((peer, failure)) = refusals.recv().await {
        service.note_refused_handshake(peer, failure.code()).await;
    }
}

/// Ends on a signal, or when `unfit` says why the service must not go on, which is left in `fault`.
fn end(
    unfit: Option<oneshot::Receiver<FitnessCheck>>,
    fault: &mut Option<FitnessCheck>,
) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let unfit = async move {
        match unfit {
            Some(unfit) => unfit.await.ok(),
            None => None,
        }
    };
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            Some(why) = unfit => *fault = Some(why),
        }
    })
}
