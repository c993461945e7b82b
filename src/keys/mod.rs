//! The key hierarchy's way into memory: Vault's client, its set-up, and the key ring.
//!
//! Vault's key-encryption keys open tenant keys, tenant keys open subject keys, and a subject key is handed to whoever
//! seals or opens. Nothing in here looks at a value, and no key is ever made up when one is missing.
//!
//! Not here: the cryptography (`crypto`), the rows (`storage::key_store`), who may ask (`policy`).

pub mod bootstrap;
mod error;
mod place;
mod ring;
pub mod transit;

pub use error::KeyError;
pub use place::{TenantKeyKind, TenantKeyPlace};
pub use ring::{KeyRing, RewrapBatch};
pub use transit::{CertificateRequest, Health, IssuedCertificate, PkiMount, Transit, TransitError};
