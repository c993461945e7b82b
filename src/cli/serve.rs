//! `strongroom serve`: puts the parts together, opens the door, and closes it in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::harden::harden;
use crate::audit::{Committer, Drain, Scribe};
use crate::config::{self, Config};
use crate::domain::clock::{SharedClock, SystemClock};
use crate::domain::random::{SharedRandom, SystemRandom};
use crate::http::{self, App, door};
use crate::jobs;
use crate::keys::{KeyRing, Transit};
use crate::policy::{Authoriser, PolicySet};
use crate::service::{Parts, Service};
use crate::storage::{AuditReader, AuditWriter, Database, KeyDatabase, RecordStore};
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
    let (service, drain) = assemble(&config, authoriser, transit.clone(), clock, random)?;
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
    run_door(&config, listener, &tls, &service, &mut workers).await?;
    workers.shutdown().await;
    service.note_stop().await;
    drop(service);
    drain.finish(Duration::from_millis(config.limits.drain_timeout_ms)).await;
    tracing::info!("service.stopped");
    Ok(())
}
