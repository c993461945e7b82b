//! Fetches the revocation lists of both CAs from Vault and puts them where the door looks.
//!
//! A list that cannot be fetched leaves the old one; when that expires, the door closes (fail closed).

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::ServerConfig;
use crate::keys::{PkiMount, Transit};
use crate::tls::crl::{self, Authority};

/// The lists by mount and file name. The file names are those that `tls` reads in `server.crl_directory`.
const LISTS: [(PkiMount, Authority, &str); 2] =
    [(PkiMount::Root, Authority::Root, "root.crl"), (PkiMount::Issuing, Authority::Issuing, "issuing.crl")];

/// Where lists go, and what they must chain to.
#[derive(Clone, Debug)]
pub struct CrlFiles {
    pub directory: PathBuf,
    /// The roots that clients are verified against.
    pub roots_file: PathBuf,
}

impl CrlFiles {
    pub fn of(server: &ServerConfig) -> Self {
        Self { directory: server.crl_directory.clone(), roots_file: server.client_roots_file.clone() }
    }

    /// Whether lists of an earlier run are there to start with; `tls` decides whether they are still good.
    pub fn are_kept(&self) -> bool {
        LISTS.iter().all(|(.., name)| self.directory.join(name).is_file())
    }
}

/// Fetches every list once. Returns whether all were fetched and stored.
pub async fn refresh(transit: &Transit, files: &CrlFiles) -> bool {
    let mut is_complete = true;
    for (mount, authority, name) in LISTS {
        is_complete &= match (transit.crl(mount).await, transit.ca_certificate(mount).await) {
            (Ok(list), Ok(issuer)) => store(files.clone(), name, list, issuer, authority).await,
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(crl = name, error = %error, "revocation.fetch_failed");
                false
            }
        };
    }
    is_complete
}

/// Checks the list against its issuer and the issuer against the client roots, and keeps the list. List and issuer come
/// from the same Vault; what makes them trusted is the root in the door's own files.
async fn store(
    files: CrlFiles,
    name: &'static str,
    list: Vec<u8>,
    issuer: String,
    authority: Authority,
) -> bool {
    let keep = move || {
        let directory = &files.directory;
        std::fs::create_dir_all(directory).map_err(|error| crl::StoreError::Write(error.kind()))?;
        let issuer =
            CertificateDer::from_pem_slice(issuer.as_bytes()).map_err(|_| crl::StoreError::OtherIssuer)?;
        crl::check_issuer(&issuer, authority, &files.roots_file)?;
        crl::store(directory, name, &list, Some(&issuer))
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

/// Refreshes at `interval`. [`super::tls_reload`] has the door take up what changed.
pub async fn keep(transit: Transit, files: CrlFiles, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        refresh(&transit, &files).await;
    }
}
