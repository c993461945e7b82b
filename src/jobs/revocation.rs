//! Fetches the revocation lists of both CAs from Vault and hands them to the door's files.
//!
//! A list that cannot be fetched leaves the old one; when that expires, the door closes (fail closed).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::keys::{PkiMount, Transit};
use crate::tls::{LiveTls, crl};

/// The lists by mount and file name. The file names are those that `tls` reads in `server.crl_directory`.
const LISTS: [(PkiMount, &str); 2] = [(PkiMount::Root, "root"), (PkiMount::Issuing, "issuing")];

/// Fetches every list once. Returns whether all were fetched and stored.
pub async fn refresh(transit: &Transit, directory: PathBuf) -> bool {
    let mut is_complete = true;
    for (mount, name) in LISTS {
        let stored = match (transit.crl(mount).await, transit.ca_certificate(mount).await) {
            (Ok(list), Ok(issuer)) => {
                let directory = directory.clone();
                let store = move || crl::store(&directory, name, &list, Some(&issuer));
                match tokio::task::spawn_blocking(store).await {
                    Ok(Ok(_)) => true,
                    Ok(Err(error)) => {
                        tracing::error!(crl = name, error = %error, "revocation.store_failed");
                        false
                    }
                    Err(_) => false,
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(crl = name, error = %error, "revocation.fetch_failed");
                false
            }
        };
        is_complete &= stored;
    }
    is_complete
}

/// Whether lists of an earlier run are there to start with; `tls` decides whether they are still good.
pub fn are_kept(directory: &Path) -> bool {
    LISTS.iter().all(|(_, name)| directory.join(name).with_extension("crl").is_file())
}

/// Refreshes at `interval` and has the door take up what changed.
pub async fn keep(transit: Transit, tls: Arc<LiveTls>, directory: PathBuf, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        refresh(&transit, directory.clone()).await;
        let tls = Arc::clone(&tls);
        // What it takes up and what it could not is logged there.
        let _ = tokio::task::spawn_blocking(move || tls.poll()).await;
    }
}
