//! Fetches the revocation lists of both CAs from Vault and hands them to the door's files.
//!
//! A list that cannot be fetched leaves the old one; when that expires, the door closes (fail closed).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::keys::{PkiMount, Transit};
use crate::tls::{LiveTls, crl};

/// The lists by mount and file name. The file names are those that `tls` reads in `server.crl_directory`.
const LISTS: [(PkiMount, &str); 2] = [(PkiMount::Root, "root.crl"), (PkiMount::Issuing, "issuing.crl")];

/// Fetches every list once. Returns whether all were fetched and stored.
pub async fn refresh(transit: &Transit, directory: PathBuf) -> bool {
    let mut is_complete = true;
    for (mount, name) in LISTS {
        is_complete &= match (transit.crl(mount).await, transit.ca_certificate(mount).await) {
            (Ok(list), Ok(issuer)) => store(directory.clone(), name, list, issuer).await,
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(crl = name, error = %error, "revocation.fetch_failed");
                false
            }
        };
    }
    is_complete
}

/// Checks the list against its issuer and keeps it. The issuer comes from the same Vault; what makes it trusted is the
/// root in the door's own files, against which the door checks the list again when it takes it up.
async fn store(directory: PathBuf, name: &'static str, list: Vec<u8>, issuer: String) -> bool {
    let keep = move || {
        std::fs::create_dir_all(&directory).map_err(|error| crl::StoreError::Write(error.kind()))?;
        let issuer =
            CertificateDer::from_pem_slice(issuer.as_bytes()).map_err(|_| crl::StoreError::OtherIssuer)?;
        crl::store(&directory, name, &list, Some(&issuer))
    };
    match tokio::task::spawn_blocking(keep).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::error!(crl = name, error = %error, "revocation.store_failed");
            false
        }
        Err(_) => false,
    }
}

/// Whether lists of an earlier run are there to start with; `tls` decides whether they are still good.
pub fn are_kept(directory: &Path) -> bool {
    LISTS.iter().all(|(_, name)| directory.join(name).is_file())
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
