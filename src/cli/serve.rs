//! `strongroom serve`: puts the parts together, opens the door, and closes it in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::harden::harden;
use crate::audit::{Act, Committer, Drain, Scribe};
use crate::config::{self, Config, DatabaseConfig};
use crate::domain::clock::{SharedClock, SystemClock};
use crate::domain::random::{SharedRandom, SystemRandom};
use crate::http::{self, App, door};
use crate::jobs;
use crate::keys::{KeyRing, Transit};
use crate::policy::{Authoriser, PolicySet};
use crate::service::{Parts, Service};
use crate::storage::{AuditReader, AuditStore, Database, KeyDatabase, RecordStore};
use crate::tls::{Identities, IdentityError, LiveTls, TlsFiles};

/// Runs until SIGTERM or SIGINT, then drains.
pub async fn serve(path: &Path) -> Result<()> {
    for weakness in harden().messages {
        tracing::warn!(weakness, "process.not_hardened");
    }
    let config = config::load(path)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let random: SharedRandom = Arc::new(SystemRandom::default());
    let transit = Transit::connect(&config.vault, &config.environment, Arc::clone(&random))
        .context("cannot prepare the connection to Vault")?;
    let authoriser = load_policy(&config)?;
    wait_for_revocation_lists(&config, &transit).await;
    let tls = open_tls(&config, &authoriser, Arc::clone(&clock))?;
    let (service, drain) = assemble(&config, authoriser, transit.clone(), Arc::clone(&clock), random)?;
    let listener = TcpListener::bind(config.server.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.server.listen))?;

    let mut workers = JoinSet::new();
    workers.spawn(jobs::revocation::keep(
        transit.clone(),
        Arc::clone(&tls),
        config.server.crl_directory.clone(),
        Duration::from_secs(config.server.crl_refresh_seconds),
    ));
    workers.spawn(jobs::policy_reload::keep(
        Arc::clone(&service),
        config.policy.directory.clone(),
        Duration::from_secs(1),
    ));
    run_door(&config, listener, &tls, &service, &mut workers, clock).await?;
    workers.shutdown().await;
    service.note_stop().await;
    drop(service);
    if drain.finish(Duration::from_millis(config.limits.drain_timeout_ms)).await.is_err() {
        tracing::error!("audit.not_drained");
    }
    tracing::info!("service.stopped");
    Ok(())
}

fn load_policy(config: &Config) -> Result<Arc<Authoriser>> {
    let set = PolicySet::load(&config.policy.directory).context("the policy is not valid")?;
    Ok(Arc::new(Authoriser::new(Arc::new(set))))
}

/// Without revocation lists no certificate can be trusted, so the door stays shut until Vault gives them, unless an
/// earlier run left some that are still good.
async fn wait_for_revocation_lists(config: &Config, transit: &Transit) {
    let directory = &config.server.crl_directory;
    let mut pause = Duration::from_millis(200);
    while !jobs::revocation::refresh(transit, directory.clone()).await
        && !jobs::revocation::are_kept(directory)
    {
        tracing::warn!("revocation.waiting");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

fn open_tls(config: &Config, authoriser: &Arc<Authoriser>, clock: SharedClock) -> Result<Arc<LiveTls>> {
    let files = TlsFiles::of(&config.server, &config.policy.directory);
    let policy = Arc::clone(authoriser.policy_set());
    let check = move |identities: &Identities| match identities.roles().find(|role| !policy.has_role(role)) {
        None => Ok(()),
        Some(role) => Err(IdentityError::Role(role.to_owned())),
    };
    LiveTls::open(files, clock, Box::new(check)).context("the door's files are not usable")
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
    let audit_reader = Database::open(&config.database.audit_export).context("database.audit_export")?;
    // The committer never waits for a connection behind the requests that wait for it.
    let committer_pool = DatabaseConfig { pool_connections: 2, ..config.database.data.clone() };
    let store = AuditStore::new(Database::open(&committer_pool).context("database.data")?);
    let scribe = Scribe::new(Arc::clone(&clock), Arc::clone(&random), &config.server.instance);
    let (audit, drain) = Committer::start(store, scribe, &config.audit)?;
    let keys = KeyRing::open(
        KeyDatabase::new(keys),
        transit.clone(),
        &config.cache,
        Arc::clone(&clock),
        Arc::clone(&random),
    );
    let service = Service::new(Parts {
        policy,
        keys,
        transit,
        records: RecordStore::new(data),
        audit,
        audit_reader: AuditReader::new(audit_reader),
        clock,
        random,
    });
    Ok((Arc::new(service), drain))
}

/// Opens the door once the start is on record, and closes it on a signal.
async fn run_door(
    config: &Config,
    listener: TcpListener,
    tls: &Arc<LiveTls>,
    service: &Arc<Service>,
    workers: &mut JoinSet<()>,
    clock: SharedClock,
) -> Result<()> {
    let app = App {
        service: Arc::clone(service),
        admission: Arc::clone(tls.admission()),
        body_bytes: config.limits.body_bytes,
        request_timeout: Duration::from_millis(config.limits.request_timeout_ms),
    };
    let (refused, refusals) = tokio::sync::mpsc::channel(REFUSALS_WAITING);
    workers.spawn(note_refusals(Arc::clone(service), refusals));
    let watching = Arc::clone(tls).watch(Duration::from_secs(1), note_changes(Arc::clone(service)));
    workers.spawn(watching);
    workers.spawn(start_on_record(Arc::clone(service)));
    let door =
        door::Door::new(Arc::clone(tls), &config.limits, clock).on_refused_handshake(move |peer, failure| {
            // A flood of strangers must not fill memory or the log; what does not fit is counted by the door.
            let _ = refused.try_send((peer, failure));
        });
    tracing::info!(listen = %listener.local_addr()?, "service.listening");
    let drained = door::serve(door, listener, http::router(Arc::new(app)), end()?).await;
    if drained.cut > 0 {
        tracing::warn!(connections = drained.cut, "door.cut");
    }
    Ok(())
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

fn note_changes(service: Arc<Service>) -> impl Fn(crate::tls::Change) + Send {
    move |change| {
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let act = match change.part {
                crate::tls::Part::Identities => Act::IdentityLoad,
                crate::tls::Part::Crls => Act::RevocationLoad,
                _ => return,
            };
            service.note_load(act, change.sha256).await;
        });
    }
}

/// The start goes on record as soon as the log can be written; until then every request is answered 503 anyway.
async fn start_on_record(service: Arc<Service>) {
    let mut pause = Duration::from_millis(100);
    while service.note_start().await.is_err() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

fn end() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("service.stopping");
    })
}
