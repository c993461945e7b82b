//! Takes up changed policy files: whole or not at all, and on record either way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;

use crate::audit::Act;
use crate::people::{People, PeopleError};
use crate::policy::{Authoriser, PolicyError, PolicySet};
use crate::service::{Service, check_clients, with_known};
use crate::tls::{Admission, Identities, IdentityError};

/// Looks at the files every `interval`, and loads them at every `hangup` even if they look unchanged; a change that does
/// not load is logged and audited once, and the policy in force stays. One that does not go with the clients or the people
/// in force is tried again when there are others.
pub async fn keep(
    service: Arc<Service>,
    clients: Arc<Admission>,
    people: Arc<People>,
    directory: PathBuf,
    interval: Duration,
    mut hangup: Signal,
) {
    let look = async || (fingerprint(directory.clone()).await, clients.identities().hash(), people.sha256());
    let mut seen = look().await;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_told = tokio::select! {
            _ = ticks.tick() => false,
            _ = hangup.recv() => true,
        };
        let now = look().await;
        if now == seen && !is_told {
            continue;
        }
        seen = now;
        take_up(&service, clients.identities(), Arc::clone(&people), &directory).await;
    }
}

/// Why files are not taken up.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("it does not go with identities.toml: {0}")]
    Clients(#[from] IdentityError),
    #[error("it does not go with people.toml: {0}")]
    People(#[from] PeopleError),
}

async fn take_up(service: &Service, clients: Arc<Identities>, people: Arc<People>, directory: &Path) {
    let directory = directory.to_owned();
    let load = move || {
        let policy = PolicySet::load(&directory)?;
        check_clients(&policy, &clients)?;
        with_known(&policy, &clients, |known| people.check_words(known))?;
        Ok::<_, Refused>(policy)
    };
    match tokio::task::spawn_blocking(load).await {
        Ok(Ok(policy)) => {
            let authoriser = Arc::new(Authoriser::new(Arc::new(policy)));
            if service.policy_hash() == authoriser.policy_set().hash() {
                return;
            }
            match service.adopt_policy(authoriser).await {
                Ok(()) => tracing::info!("policy.reloaded"),
                Err(error) => tracing::error!(error = %error, "policy.reload_failed"),
            }
        }
        Ok(Err(error)) => {
            tracing::error!(error = %error, "policy.reload_refused");
            service.note_refused_load(Act::PolicyLoad, "policy_invalid").await;
        }
        Err(_) => tracing::error!("policy.reload_failed"),
    }
}

/// Names, sizes and times of the files that make up a policy.
async fn fingerprint(directory: PathBuf) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        for folder in [directory.clone(), directory.join("collections")] {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                if let Ok(meta) = entry.metadata().as_ref()
                    && meta.is_file()
                    && !["identities.toml", "people.toml"].iter().any(|other| entry.file_name() == *other)
                {
                    found.push((entry.path(), meta.len(), meta.modified().ok()));
                }
            }
        }
        found.sort();
        found
    })
    .await
    .unwrap_or_default()
}
