//! Who is asking, as the certificate and `policy/identities.toml` say.

use std::net::SocketAddr;
use std::sync::Arc;

use super::clock::Timestamp;
use super::id::TenantId;
use super::person::Person;

/// The facts of the client certificate that a connection keeps; everything else is looked up on each request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFacts {
    /// The one URI subject alternative name.
    pub san: String,
    /// SHA-256 of the issuer's DER name, lower-case hexadecimal.
    pub issuer_sha256: String,
    /// Serial number, big-endian hexadecimal, lower case, as in the CRL.
    pub serial: String,
    pub not_after: Timestamp,
    /// SHA-256 of the DER certificate, lower-case hexadecimal.
    pub sha256: String,
}

/// What kind of client an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    App,
    Auditor,
    Custodian,
    Operator,
}

impl ClientKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Auditor => "auditor",
            Self::Custodian => "custodian",
            Self::Operator => "operator",
        }
    }
}

/// A listed client, as `policy/identities.toml` names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Short, stable name of the client ("portal").
    pub client: Arc<str>,
    pub kind: ClientKind,
    pub tenant: TenantId,
    /// Sorted, without duplicates.
    pub roles: Arc<[Arc<str>]>,
}

/// The authenticated caller of one request.
#[derive(Clone, Debug)]
pub struct Actor {
    pub identity: Arc<Identity>,
    pub certificate: Arc<CertificateFacts>,
    pub source: SocketAddr,
    /// Whom the client acts for, where it sent that person's token.
    pub person: Option<Arc<Person>>,
}
