//! Reading the door's files from disk, each part whole or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::identity::IdentityError;
use super::revocation::CrlFault;
use super::server_config::ServerConfigError;

/// The parts that change on their own: a mistake in one does not hold back the others, least of all the CRLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    ServerCertificate,
    ClientRoots,
    Crls,
    Identities,
}

impl Part {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServerCertificate => "server certificate",
            Self::ClientRoots => "client roots",
            Self::Crls => "crls",
            Self::Identities => "identities",
        }
    }
}

/// What is wrong with a part. Messages hold nothing of the files but entries of `identities.toml`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    #[error("a file cannot be read: {0}")]
    Read(io::ErrorKind),
    #[error("a file is not valid pem")]
    Pem,
    #[error("a file holds no certificate")]
    Empty,
    #[error("the private key is not the certificate's, replace both together")]
    KeyMismatch,
    #[error("a root is not a usable ca certificate")]
    Root,
    #[error(transparent)]
    Crl(#[from] CrlFault),
    #[error("a crl is older than the one in use")]
    CrlRollback,
    #[error(transparent)]
    Config(#[from] ServerConfigError),
    #[error(transparent)]
    Identities(#[from] IdentityError),
}

/// SHA-256 over the bytes a part was read from.
pub(super) type Digest = [u8; 32];

pub(super) fn read_certificate(
    certificate: &Path,
    private_key: &Path,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Digest), FileFault> {
    let chain_pem = read(certificate)?;
    let key_pem = Zeroizing::new(read(private_key)?);
    let chain = certificates(&chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| FileFault::Pem)?;
    // Also checks that the two belong together: an operator may have replaced only one of them so far.
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|_| FileFault::KeyMismatch)?;
    Ok((certified, digest_of(&[&chain_pem, &key_pem])))
}

pub(super) fn read_roots(path: &Path) -> Result<(Arc<RootCertStore>, Digest), FileFault> {
    let pem = read(path)?;
    let mut store = RootCertStore::empty();
    for certificate in certificates(&pem)? {
        store.add(certificate).map_err(|_| FileFault::Root)?;
    }
    Ok((Arc::new(store), digest_of(&[&pem])))
}

/// Every `*.crl` of the directory, DER, in the order of their names.
pub(super) fn read_crls(
    directory: &Path,
) -> Result<(Vec<CertificateRevocationListDer<'static>>, Digest), FileFault> {
    let files: Vec<Vec<u8>> =
        crl_paths(directory)?.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let digest = digest_of(&files.iter().map(Vec::as_slice).collect::<Vec<_>>());
    Ok((files.into_iter().map(CertificateRevocationListDer::from).collect(), digest))
}

/// Path, inode, size and times of every file, so that a poll reads files only when something changed. `None`: a file
/// that cannot be looked at, which is a change as well.
pub(super) fn fingerprint(files: &[&Path], crl_directory: &Path) -> Vec<(PathBuf, Option<[i128; 4]>)> {
    let crls = crl_paths(crl_directory).unwrap_or_default();
    let paths = files.iter().map(|path| path.to_path_buf()).chain(crls);
    paths.map(|path| (path.clone(), changed_at(&path))).collect()
}

/// Inode, size and times of a file, so that whoever polls it reads it only when it changed. `None`: it cannot be looked
/// at.
pub fn changed_at(file: &Path) -> Option<[i128; 4]> {
    fs::metadata(file).ok().map(|meta| marks(&meta))
}

fn marks(meta: &fs::Metadata) -> [i128; 4] {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    [
        i128::from(meta.ino()),
        i128::from(meta.size()),
        nanoseconds(meta.mtime(), meta.mtime_nsec()),
        nanoseconds(meta.ctime(), meta.ctime_nsec()),
    ]
}

fn crl_paths(directory: &Path) -> Result<Vec<PathBuf>, FileFault> {
    let entries = fs::read_dir(directory).map_err(|error| FileFault::Read(error.kind()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| FileFault::Read(error.kind()))?.path();
        if path.extension().is_some_and(|extension| extension == "crl") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, FileFault> {
    fs::read(path).map_err(|error| FileFault::Read(error.kind()))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| FileFault::Pem)?;
    if chain.is_empty() { Err(FileFault::Empty) } else { Ok(chain) }
}

/// Each part is prefixed with its length, so that bytes cannot move from one file to the next unseen.
fn digest_of(parts: &[&[u8]]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}
