//! Who may speak to Strongroom: the rustls configuration, client certificates, identities and revocation; and whom it
//! believes when it speaks to others ([`outgoing_tls`]).
//!
//! [`LiveTls`] reads the files, builds a `rustls::ServerConfig` from them and swaps it whole when they change;
//! [`Admission`] answers, for every request and for every sweep of the open connections, whether a certificate still
//! passes and whose it is. A connection is only let in by a complete handshake: TLS 1.3, a certificate that chains to
//! the client roots, revocation checked for the whole chain, no resumption of any kind.
//!
//! Not here: sockets and HTTP (`http::door`), fetching CRLs or certificates from Vault (`keys`, `jobs`), and what an
//! identity may do (`policy`).

mod admission;
mod certificate;
pub mod crl;
mod files;
mod identity;
mod outgoing;
#[cfg(test)]
#[path = "../../tests/it/door_pki.rs"]
mod pki;
mod reload;
mod revocation;
mod server_config;

pub use admission::{Admission, Refusal};
pub use certificate::{CertificateFault, certificate_facts};
pub use files::{FileFault, Part, changed_at};
pub use identity::{Identities, IdentityError};
pub use outgoing::{OutgoingFault, outgoing_tls};
pub use reload::{Change, IdentityCheck, LiveTls, ReloadError, TlsFiles};
pub use revocation::{CrlFault, Revocations, Standing};
pub use server_config::ServerConfigError;
