//! The door's files, taken up while it is open.
//!
//! A new certificate, new roots or new CRLs make a new `ServerConfig`, whole, which the next handshake uses; open
//! connections stay, and the door verifies them again. A part that cannot be read leaves the last good one in place and
//! is logged once. An old CRL that stays in place this way still runs out, and then nobody comes in.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};

use super::admission::{Admission, Refusal};
use super::certificate::not_after;
use super::files::{Digest, FileFault, Part, fingerprint, read_certificate, read_crls, read_roots};
use super::identity::{Identities, IdentityError};
use super::revocation::Revocations;
use super::server_config::{build, client_verifier, provider, unix_time};
use crate::config;
use crate::domain::clock::{SharedClock, Timestamp};
use crate::telemetry::metrics;

/// Where the parts are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    pub client_roots: PathBuf,
    pub crl_directory: PathBuf,
    pub identities: PathBuf,
}

impl TlsFiles {
    /// As the configuration names them; `identities.toml` is in the policy directory.
    pub fn of(server: &config::ServerConfig, policy_directory: &Path) -> Self {
        Self {
            certificate: server.certificate_file.clone(),
            private_key: server.private_key_file.clone(),
            client_roots: server.client_roots_file.clone(),
            crl_directory: server.crl_directory.clone(),
            identities: policy_directory.join("identities.toml"),
        }
    }
}

impl From<&config::WitnessServerConfig> for TlsFiles {
    fn from(server: &config::WitnessServerConfig) -> Self {
        Self {
            certificate: server.certificate_file.clone(),
            private_key: server.private_key_file.clone(),
            client_roots: server.client_roots_file.clone(),
            crl_directory: server.crl_directory.clone(),
            identities: server.identities_file.clone(),
        }
    }
}

/// Says whether new identities fit the policy in force (every role known); an error keeps the old ones.
pub type IdentityCheck = Box<dyn Fn(&Identities) -> Result<(), IdentityError> + Send + Sync>;

/// A part that was taken up, with the SHA-256 of the files it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub part: Part,
    pub sha256: [u8; 32],
}

/// A part that was not taken up. The last good one stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fault}", .part.as_str())]
pub struct ReloadError {
    pub part: Part,
    pub fault: FileFault,
}

/// The configuration in force.
pub struct LiveTls {
    files: TlsFiles,
    clock: SharedClock,
    provider: Arc<CryptoProvider>,
    check: IdentityCheck,
    serving: ArcSwap<Serving>,
    admission: Arc<Admission>,
    /// Held for the whole of a reload: one at a time.
    held: Mutex<Held>,
}

struct Serving {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// Grows with every new verifier.
    generation: u64,
}

/// The last good parts.
struct Held {
    material: Material,
    identities: Digest,
    seen: Fingerprint,
    reported: Vec<ReloadError>,
}

type Fingerprint = Vec<(PathBuf, Option<[i128; 4]>)>;

#[derive(Clone)]
struct Material {
    certificate: (CertifiedKey, Digest),
    roots: (Arc<RootCertStore>, Digest),
    crls: (Vec<CertificateRevocationListDer<'static>>, Digest),
    revocations: Arc<Revocations>,
}

impl LiveTls {
    /// Reads every part; at the start each must be good. Reads files: call it before serving, or on a blocking thread.
    pub fn open(files: TlsFiles, clock: SharedClock, check: IdentityCheck) -> Result<Arc<Self>, ReloadError> {
        let provider = Arc::new(provider());
        let seen = look(&files);
        let material = Material::read(&files, &provider)?;
        let (identities, identities_digest) = read_identities(&files, &check)?;
        let verifier = material.verifier(&provider).map_err(at(Part::Crls))?;
        let serving = Serving::new(&material, verifier, &provider, &clock, 0)?;
        let revocations = Arc::clone(&material.revocations);
        let admission = Arc::new(Admission::new(identities, revocations));
        let held = Held { material, identities: identities_digest, seen, reported: Vec::new() };
        Ok(Arc::new(Self {
            files,
            clock,
            provider,
            check,
            serving: ArcSwap::from_pointee(serving),
            admission,
            held: Mutex::new(held),
        }))
    }

    /// The configuration for the next handshake, and the [`Self::generation`] of its verifier.
    pub fn for_handshake(&self) -> (Arc<ServerConfig>, u64) {
        let serving = self.serving.load();
        (Arc::clone(&serving.config), serving.generation)
    }

    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Grows whenever chains that once passed must be looked at again.
    pub fn generation(&self) -> u64 {
        self.serving.load().generation
    }

    /// Verifies a chain, leaf first, against the roots and CRLs in force, as a handshake would. Costs two or three
    /// signature checks, so it is for changes and not for every request.
    pub fn verify_again(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Refusal> {
        let Some((leaf, issuers)) = chain.split_first() else {
            return Err(Refusal::Unlisted);
        };
        let verdict = self.serving.load().verifier.verify_client_cert(leaf, issuers, unix_time(now));
        verdict.map(|_| ()).map_err(|error| refusal_of(&error))
    }

    /// Reads every part and takes up those that changed; for a signal, a command or a job that stored a CRL. Reads
    /// files: call it on a blocking thread. Parts that are good are taken up even when others are not.
    pub fn reload(&self) -> (Vec<Change>, Vec<ReloadError>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_up(&mut held)
    }

    /// [`Self::reload`] if a file changed since the last time, or if the last time something was wrong.
    pub fn poll(&self) -> (Vec<Change>, Vec<ReloadError>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.reported.is_empty() && look(&self.files) == held.seen {
            return (Vec::new(), Vec::new());
        }
        self.take_up(&mut held)
    }

    /// When the server's certificate ends.
    pub fn certificate_not_after(&self) -> Option<Timestamp> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.material.certificate.0.cert.first().and_then(|leaf| not_after(leaf).ok())
    }

    /// Tells the metrics when the server's certificate and the first revocation list end.
    pub fn report(&self) {
        let seconds = |at: Timestamp| at.as_micros() / 1_000_000;
        let certificate = self.certificate_not_after().map_or(0, seconds);
        let lists = self.admission.revocations().next_update().map_or(0, seconds);
        metrics::server_expiries(certificate, lists);
    }

    fn take_up(&self, held: &mut Held) -> (Vec<Change>, Vec<ReloadError>) {
        // Looked at before the files are read: a write in between shows at the next poll.
        held.seen = look(&self.files);
        let (mut changes, mut errors) = self.take_up_material(held);
        match read_identities(&self.files, &self.check) {
            Ok((identities, digest)) if digest != held.identities => {
                self.admission.replace_identities(Arc::new(identities));
                held.identities = digest;
                changes.push(Change { part: Part::Identities, sha256: digest });
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        for change in &changes {
            tracing::info!(tls.part = change.part.as_str(), "tls.reloaded");
        }
        for error in errors.iter().filter(|error| !held.reported.contains(error)) {
            tracing::error!(tls.part = error.part.as_str(), error = %error.fault, "tls.reload_failed");
        }
        held.reported.clone_from(&errors);
        (changes, errors)
    }

    fn take_up_material(&self, held: &mut Held) -> (Vec<Change>, Vec<ReloadError>) {
        let (next, changes, mut errors) = held.material.refreshed(&self.files, &self.provider);
        if changes.is_empty() {
            return (changes, errors);
        }
        let before = self.serving.load_full();
        // A new certificate alone needs no new look at the open connections.
        let is_same_trust = changes.iter().all(|change| change.part == Part::ServerCertificate);
        let serving = if is_same_trust {
            Serving::new(&next, Arc::clone(&before.verifier), &self.provider, &self.clock, before.generation)
        } else {
            next.verifier(&self.provider).map_err(at(Part::Crls)).and_then(|verifier| {
                Serving::new(&next, verifier, &self.provider, &self.clock, before.generation + 1)
            })
        };
        match serving {
            Ok(serving) => {
                self.admission.replace_revocations(Arc::clone(&next.revocations));
                self.serving.store(Arc::new(serving));
                held.material = next;
                (changes, errors)
            }
            Err(error) => {
                errors.push(error);
                (Vec::new(), errors)
            }
        }
    }
}

impl Serving {
    fn new(
        material: &Material,
        verifier: Arc<dyn ClientCertVerifier>,
        provider: &Arc<CryptoProvider>,
        clock: &SharedClock,
        generation: u64,
    ) -> Result<Self, ReloadError> {
        let config = build(provider, Arc::clone(&verifier), &material.certificate.0, Arc::clone(clock))
            .map_err(|error| at(Part::ServerCertificate)(error.into()))?;
        Ok(Self { config, verifier, generation })
    }
}

impl Material {
    fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<Self, ReloadError> {
        let certificate = read_certificate(&files.certificate, &files.private_key, provider)
            .map_err(at(Part::ServerCertificate))?;
        let roots = read_roots(&files.client_roots).map_err(at(Part::ClientRoots))?;
        let crls = read_crls(&files.crl_directory).map_err(at(Part::Crls))?;
        let revocations = Revocations::parse(&crls.0).map_err(|fault| at(Part::Crls)(fault.into()))?;
        Ok(Self { certificate, roots, crls, revocations: Arc::new(revocations) })
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, FileFault> {
        Ok(client_verifier(provider, &self.roots.0, &self.crls.0)?)
    }

    /// The parts as they are on disk now, or as they were where that cannot be read.
    fn refreshed(
        &self,
        files: &TlsFiles,
        provider: &CryptoProvider,
    ) -> (Self, Vec<Change>, Vec<ReloadError>) {
        let (mut next, mut changes, mut errors) = (self.clone(), Vec::new(), Vec::new());
        let mut note = |part, digest: Result<(Digest, Digest), FileFault>| match digest {
            Ok((before, after)) if before != after => changes.push(Change { part, sha256: after }),
            Ok(_) => {}
            Err(fault) => errors.push(ReloadError { part, fault }),
        };
        let read = read_certificate(&files.certificate, &files.private_key, provider);
        note(Part::ServerCertificate, take(&mut next.certificate, read));
        note(Part::ClientRoots, take(&mut next.roots, read_roots(&files.client_roots)));
        let read = read_crls(&files.crl_directory).and_then(|crls| {
            let revocations = Revocations::parse(&crls.0)?;
            if revocations.goes_back_from(&self.revocations) {
                return Err(FileFault::CrlRollback);
            }
            next.revocations = Arc::new(revocations);
            Ok(crls)
        });
        note(Part::Crls, take(&mut next.crls, read));
        (next, changes, errors)
    }
}

/// Puts what was read in its place and says what the digests were and are.
fn take<T>(
    place: &mut (T, Digest),
    read: Result<(T, Digest), FileFault>,
) -> Result<(Digest, Digest), FileFault> {
    let before = place.1;
    *place = read?;
    Ok((before, place.1))
}

fn read_identities(files: &TlsFiles, check: &IdentityCheck) -> Result<(Identities, Digest), ReloadError> {
    let identities =
        Identities::load(&files.identities).map_err(|error| at(Part::Identities)(error.into()))?;
    check(&identities).map_err(|error| at(Part::Identities)(error.into()))?;
    let digest = *identities.digest();
    Ok((identities, digest))
}

fn look(files: &TlsFiles) -> Fingerprint {
    let single = [&files.certificate, &files.private_key, &files.client_roots, &files.identities];
    fingerprint(&single.map(PathBuf::as_path), &files.crl_directory)
}

fn at(part: Part) -> impl Fn(FileFault) -> ReloadError {
    move |fault| ReloadError { part, fault }
}

/// A chain that no longer leads to a root counts as revoked: its root was taken away.
fn refusal_of(error: &Error) -> Refusal {
    match error {
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Refusal::Expired,
        Error::InvalidCertificate(
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. }
            | CertificateError::UnknownRevocationStatus,
        ) => Refusal::CrlExpired,
        _ => Refusal::Revoked,
    }
}
