//! Seals the values of a record before they reach `storage`, opens them after, and wraps the keys that do so.
//!
//! The format is "seal v1" and "wrap v1": a 66-byte header with a salt and a key commitment, a key of its own
//! for every seal (HKDF-SHA256), AES-256-GCM for every value, and associated data that names the tenant,
//! collection, record, version, subject, field and type, and the set of fields of the whole version.
//! `tests/vectors/` holds known answers and a second implementation.
//!
//! Deliberately not here: where keys come from and how long they are kept (`keys`), which fields someone may
//! see (`policy`), what is a valid value (`domain`), and any I/O.
//!
//! What must not happen does not compile. `storage` takes a [`SealedRecord`], which only [`seal_record`]
//! makes:
//!
//! ```compile_fail,E0451
//! use strongroom::crypto::{SealPlace, SealedRecord};
//! fn forge(place: SealPlace) -> SealedRecord {
//!     SealedRecord { place, seals: Vec::new(), fields: Vec::new(), index: Default::default() }
//! }
//! ```
//!
//! ```compile_fail,E0277
//! use strongroom::crypto::{SealedRecord, StoredRecord};
//! fn launder(stored: StoredRecord) -> SealedRecord {
//!     stored.into()
//! }
//! ```
//!
//! Keys and opened values cannot be printed or copied by accident. Errors can be printed, and hold nothing
//! secret:
//!
//! ```
//! fn printable<T: std::fmt::Debug>() {}
//! fn copyable<T: Clone>() {}
//! printable::<strongroom::crypto::OpenError>();
//! copyable::<strongroom::crypto::WrappedKey>();
//! ```
//! ```compile_fail,E0277
//! fn printable<T: std::fmt::Debug>() {}
//! printable::<strongroom::crypto::TenantKey>();
//! ```
//! ```compile_fail,E0277
//! fn printable<T: std::fmt::Debug>() {}
//! printable::<strongroom::crypto::SubjectKey>();
//! ```
//! ```compile_fail,E0277
//! fn printable<T: std::fmt::Debug>() {}
//! printable::<strongroom::crypto::OpenedField>();
//! ```
//! ```compile_fail,E0277
//! fn copyable<T: Clone>() {}
//! copyable::<strongroom::crypto::SubjectKey>();
//! ```
//!
//! Nor can a key's bytes be read back outside this module:
//!
//! ```compile_fail,E0624
//! fn leak(key: &strongroom::crypto::SubjectKey) -> &strongroom::domain::secret::Key256 {
//!     key.secret()
//! }
//! ```

mod aad;
pub mod digest;
pub mod erasure;
mod error;
pub mod file;
mod header;
pub mod index;
mod key;
pub mod keyed_hash;
mod open;
mod pad;
mod primitive;
mod record;
pub mod request;
mod seal;
#[cfg(test)]
mod tests;
mod wrap;

pub use error::{OpenError, SealError};
pub use header::{HEADER_BYTES, header_key_id};
pub use key::{SubjectKey, TenantKey};
pub use open::open_fields;
pub use pad::padded_length;
pub use record::{OpenedField, PlainField, Seal, SealPlace, SealedField, StoredRecord, WantedField};
pub use seal::{MAX_VALUE_BYTES, SealedRecord, seal_record};
pub use wrap::{WrapPlace, WrappedKey, unwrap_subject_key, wrap_subject_key};
