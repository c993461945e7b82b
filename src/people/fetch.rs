//! Where an issuer's keys come from: a file, or a URL inside the private network.
//!
//! The fetch believes the roots of its own file and nobody else's, follows no redirect, asks no proxy, and reads no more
//! than a key set can be. What the other side said goes no further than into a key set: errors are classes.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use super::jwk::KeySetFault;
use crate::tls::outgoing_tls;

const MOST_BYTES: usize = 256 * 1024;
const CONNECT: Duration = Duration::from_secs(2);
const WHOLE: Duration = Duration::from_secs(4);

/// Why a key set could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    #[error("the file cannot be read: {0}")]
    Read(std::io::ErrorKind),
    #[error("the file named in roots_file holds no usable pem certificates")]
    Roots,
    #[error("the key set is larger than 256 KiB")]
    Large,
    #[error("the provider cannot be reached, or its certificate does not chain to roots_file")]
    Unreachable,
    #[error("the provider answered with status {0}; only 200 is a key set, and redirects are not followed")]
    Status(u16),
    #[error(transparent)]
    KeySet(#[from] KeySetFault),
}

/// A place that keys are fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyPlace {
    File(PathBuf),
    Url {
        url: Url,
        /// Absent where the URL is plain HTTP on loopback.
        roots: Option<PathBuf>,
    },
}

impl KeyPlace {
    /// A URL that may be fetched: HTTPS with roots of its own, or HTTP to an address of this host.
    pub fn at(url: Url, roots: Option<PathBuf>) -> Result<Self, &'static str> {
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("its jwks_url may hold no user, password or fragment");
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match (url.scheme(), &roots) {
            ("https", Some(_)) => Ok(Self::Url { url, roots }),
            ("https", None) => {
                Err("name in roots_file the roots that the certificate of its jwks_url chains to")
            }
            ("http", None) if is_loopback => Ok(Self::Url { url, roots: None }),
            ("http", _) => {
                Err("its jwks_url may be plain http on a loopback address only, and then without roots")
            }
            _ => Err("its jwks_url is neither https nor http"),
        }
    }

    pub const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// What can be had without the network: the file, or the roots. Reads files.
    pub fn look(&self) -> Result<(), FetchFault> {
        match self {
            Self::File(path) => read(path).map(drop),
            Self::Url { roots, .. } => {
                outgoing_tls(roots.as_deref()).map(drop).map_err(|_| FetchFault::Roots)
            }
        }
    }

    /// The bytes of the set.
    pub async fn fetch(&self) -> Result<Vec<u8>, FetchFault> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read(&path)).await;
                read.unwrap_or(Err(FetchFault::Read(std::io::ErrorKind::Other)))
            }
            Self::Url { url, roots } => get(url.clone(), roots.clone()).await,
        }
    }

    /// As [`Self::fetch`], of a file and on this thread.
    pub fn read_now(&self) -> Option<Result<Vec<u8>, FetchFault>> {
        match self {
            Self::File(path) => Some(read(path)),
            Self::Url { .. } => None,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FetchFault> {
    let failed = |error: std::io::Error| FetchFault::Read(error.kind());
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MOST_BYTES { Err(FetchFault::Large) } else { Ok(bytes) }
}

/// A client for one fetch: so roots that were replaced are taken up, and no connection is kept to be cut.
async fn get(url: Url, roots: Option<PathBuf>) -> Result<Vec<u8>, FetchFault> {
    let is_plain = url.scheme() == "http";
    let tls = tokio::task::spawn_blocking(move || outgoing_tls(roots.as_deref())).await;
    let tls = tls.ok().and_then(Result::ok).ok_or(FetchFault::Roots)?.with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(!is_plain)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|_| FetchFault::Unreachable)?;
    // What reqwest says names the URL and sometimes the peer: it is dropped on purpose.
    let mut response = client.get(url).send().await.map_err(|_| FetchFault::Unreachable)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchFault::Status(response.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| FetchFault::Unreachable)? {
        if bytes.len() + chunk.len() > MOST_BYTES {
            return Err(FetchFault::Large);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
