//! The TLS handshake of one connection, and why it failed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Door;
use super::pace::Pace;
use super::watched::Watched;
use crate::domain::actor::CertificateFacts;
use crate::domain::clock::Timestamp;
use crate::tls::{CertificateFault, Refusal, certificate_facts};

/// Why a connection was refused before its first request. Closed, so that it can stand in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    NoCertificate,
    UnknownIssuer,
    Revoked,
    /// The certificate's own time: over, or not begun.
    NotInDate,
    /// There is no CRL in date for a certificate of the chain.
    StatusUnknown,
    /// The certificate is not for clients.
    WrongPurpose,
    /// The certificate does not have exactly one URI name.
    NoName,
    /// Any other fault of the certificate or of its chain.
    BadCertificate,
    /// Of a certificate, or of the client's proof that it holds the key: rustls does not tell them apart.
    BadSignature,
    /// Older TLS, or no cipher suite, group or application protocol in common.
    NothingInCommon,
    /// Not TLS, or broken TLS.
    Malformed,
    /// The client ended the handshake with an alert: it may not trust the server's certificate.
    RefusedByClient,
    Disconnected,
    Timeout,
}

impl HandshakeFailure {
    /// A stable code for logs and audit entries.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Revoked => "revoked",
            Self::NotInDate => "not_in_date",
            Self::StatusUnknown => "status_unknown",
            Self::WrongPurpose => "wrong_purpose",
            Self::NoName => "no_name",
            Self::BadCertificate => "bad_certificate",
            Self::BadSignature => "bad_signature",
            Self::NothingInCommon => "nothing_in_common",
            Self::Malformed => "malformed",
            Self::RefusedByClient => "refused_by_client",
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
        }
    }

    /// Whether somebody tried to come in and was refused for what they showed, as opposed to a connection that broke or
    /// never spoke TLS. These belong in the audit log.
    pub const fn is_authentication(self) -> bool {
        !matches!(
            self,
            Self::NothingInCommon
                | Self::Malformed
                | Self::RefusedByClient
                | Self::Disconnected
                | Self::Timeout
        )
    }
}

/// A client that came through the handshake.
pub(super) struct Guest {
    pub stream: TlsStream<Watched<TcpStream>>,
    pub facts: Arc<CertificateFacts>,
    /// Leaf first, as presented; for another look when roots or CRLs change.
    pub chain: Vec<CertificateDer<'static>>,
    /// Of the verifier that passed it, and when.
    pub generation: u64,
    pub verified_at: Timestamp,
    /// Not in `identities.toml`: it may hear one answer.
    pub is_stranger: bool,
    pub speaks_http2: bool,
}

/// After this long without an acknowledgement the kernel gives the connection up.
const UNACKNOWLEDGED_MS: u32 = 30_000;
/// What the kernel keeps for a client beyond what is on the way to it. There is room again when half of it has gone, so this
/// is how finely the client's pace is seen: twice [`super::PROGRESS_BYTES`].
const UNSENT_BYTES: u32 = 65_536;

/// After an alert, this long is given to a client for closing its side.
const FAREWELL: Duration = Duration::from_millis(200);
/// What a client may still send meanwhile: its first request, which TLS 1.3 lets it send before it is refused.
const FAREWELL_BYTES: u64 = 64 * 1024;

/// A client that did not come through the handshake.
pub(super) struct Refused {
    pub failure: HandshakeFailure,
    /// Still open when there was an alert to send.
    socket: Option<TcpStream>,
}

impl From<HandshakeFailure> for Refused {
    fn from(failure: HandshakeFailure) -> Self {
        Self { failure, socket: None }
    }
}

impl Refused {
    /// Closes in order: a socket that is closed with unread bytes in it resets the connection (RFC 9293 section 3.10.4),
    /// and many a client then never sees the alert that says why.
    pub async fn say_farewell(self) {
        let Some(mut socket) = self.socket else { return };
        let listen = async {
            socket.shutdown().await?;
            tokio::io::copy(&mut socket.take(FAREWELL_BYTES), &mut tokio::io::sink()).await
        };
        // How it ends does not matter any more.
        let _ = tokio::time::timeout(FAREWELL, listen).await;
    }
}

/// Shakes hands and reads who it is. The caller sets the deadline.
pub(super) async fn shake(door: &Door, socket: TcpStream) -> Result<Guest, Refused> {
    socket.set_nodelay(true).map_err(|_| HandshakeFailure::Disconnected)?;
    sockopt::set_tcp_user_timeout(&socket, UNACKNOWLEDGED_MS).map_err(|_| HandshakeFailure::Disconnected)?;
    SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_BYTES).map_err(|_| HandshakeFailure::Disconnected)?;
    let verified_at = door.clock.now();
    let (config, generation) = door.tls.for_handshake();
    let socket = Watched::new(socket, Arc::new(Pace::new(&door.limits)));
    let accepted = TlsAcceptor::from(config).accept(socket).into_fallible().await;
    let stream = accepted.map_err(|(error, socket)| Refused {
        failure: failure_of(&error),
        socket: Some(socket.into_inner()),
    })?;
    let session = stream.get_ref().1;
    let speaks_http2 = session.alpn_protocol() == Some(b"h2");
    let chain = session.peer_certificates().unwrap_or_default().to_vec();
    let leaf = chain.first().ok_or(HandshakeFailure::NoCertificate)?;
    let facts = Arc::new(certificate_facts(leaf).map_err(|fault| match fault {
        CertificateFault::Unreadable => HandshakeFailure::BadCertificate,
        CertificateFault::NotOneUri => HandshakeFailure::NoName,
        CertificateFault::NotForClients => HandshakeFailure::WrongPurpose,
    })?);
    let is_stranger = match door.tls.admission().admit(&facts, door.clock.now()) {
        Ok(_) => false,
        Err(Refusal::Unlisted) => true,
        Err(Refusal::Revoked) => return Err(HandshakeFailure::Revoked.into()),
        Err(Refusal::Expired) => return Err(HandshakeFailure::NotInDate.into()),
        Err(Refusal::CrlExpired) => return Err(HandshakeFailure::StatusUnknown.into()),
    };
    Ok(Guest { stream, facts, chain, generation, verified_at, is_stranger, speaks_http2 })
}

fn failure_of(error: &io::Error) -> HandshakeFailure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        None => HandshakeFailure::Disconnected,
        Some(Error::NoCertificatesPresented) => HandshakeFailure::NoCertificate,
        Some(Error::InvalidCertificate(fault)) => failure_of_certificate(fault),
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => HandshakeFailure::NothingInCommon,
        Some(Error::AlertReceived(_)) => HandshakeFailure::RefusedByClient,
        Some(_) => HandshakeFailure::Malformed,
    }
}

fn failure_of_certificate(fault: &CertificateError) -> HandshakeFailure {
    match fault {
        CertificateError::UnknownIssuer => HandshakeFailure::UnknownIssuer,
        CertificateError::Revoked => HandshakeFailure::Revoked,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => HandshakeFailure::NotInDate,
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => HandshakeFailure::StatusUnknown,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            HandshakeFailure::WrongPurpose
        }
        CertificateError::BadSignature => HandshakeFailure::BadSignature,
        _ => HandshakeFailure::BadCertificate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_rustls_become_codes() {
        let wrap = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, code) in [
            (Error::NoCertificatesPresented, "no_certificate"),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), "unknown_issuer"),
            (Error::InvalidCertificate(CertificateError::ExpiredRevocationList), "status_unknown"),
            (Error::InvalidCertificate(CertificateError::BadEncoding), "bad_certificate"),
            (Error::NoApplicationProtocol, "nothing_in_common"),
            (Error::DecryptError, "malformed"),
        ] {
            assert_eq!(failure_of(&wrap(error)).code(), code);
        }
        assert_eq!(failure_of(&io::ErrorKind::UnexpectedEof.into()), HandshakeFailure::Disconnected);
    }

    #[test]
    fn only_refused_credentials_are_authentication_failures() {
        assert!(HandshakeFailure::NoCertificate.is_authentication());
        assert!(HandshakeFailure::Revoked.is_authentication());
        assert!(!HandshakeFailure::Malformed.is_authentication());
        assert!(!HandshakeFailure::Timeout.is_authentication());
    }
}
