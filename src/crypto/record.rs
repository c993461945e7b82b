//! What goes into sealing and opening, and what lies between them in the database.

use bytes::Bytes;

use crate::domain::class::DataClass;
use crate::domain::id::{CollectionName, FieldId, KeyId, RecordId, RecordVersion, SubjectId, TenantId};
use crate::domain::secret::SecretBytes;

use super::digest::sha256_of_parts;
use super::header::{HEADER_BYTES, header_key_id};

/// Which version of which record: every value is bound to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealPlace {
    /// The caller's tenant, from its certificate; never the row's.
    pub tenant: TenantId,
    pub collection: CollectionName,
    pub record: RecordId,
    pub version: RecordVersion,
    /// `None` in collections that are about nobody.
    pub subject: Option<SubjectId>,
}

/// A value to seal. `type_id` is the permanent number of the field's type; a value opens only as the same
/// type.
pub struct PlainField {
    pub id: FieldId,
    pub type_id: u16,
    pub class: DataClass,
    pub value: SecretBytes,
}

/// A field to open, as the collection describes it today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedField {
    pub id: FieldId,
    pub type_id: u16,
    /// The class it was sealed in.
    pub class: DataClass,
}

/// A value that opened.
pub struct OpenedField {
    pub id: FieldId,
    pub value: SecretBytes,
}

/// The header of a seal, which covers the fields of one class in one version.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal {
    pub class: DataClass,
    pub header: [u8; HEADER_BYTES],
}

impl Seal {
    /// The subject key it was sealed under; `None` if the header is not one that sealing makes.
    pub fn key_id(&self) -> Option<KeyId> {
        header_key_id(&self.header)
    }
}

/// A sealed value: ciphertext and tag.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedField {
    pub id: FieldId,
    /// Index into the record's seals.
    pub seal: u8,
    /// Of a version that was read, all of them are parts of one piece of memory.
    pub bytes: Bytes,
}

/// A version as the database returned it: not trusted in any part until it opens.
///
/// `place.tenant` is the caller's, and `place.record` and `place.collection` are what was asked for, not what
/// the row says.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredRecord {
    pub place: SealPlace,
    pub seals: Vec<Seal>,
    pub fields: Vec<SealedField>,
}

impl StoredRecord {
    /// Of all its values.
    pub fn sealed_bytes(&self) -> u64 {
        let bytes: usize = self.fields.iter().map(|field| field.bytes.len()).sum();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// As [`super::SealedRecord::headers_sha256`], for reconciliation with the audit log.
    pub fn headers_sha256(&self) -> [u8; 32] {
        headers_sha256(&self.seals)
    }
}

/// SHA-256 of the headers, one after the other by class (PHI, PII, CHD), in whatever order they were stored.
pub(super) fn headers_sha256(seals: &[Seal]) -> [u8; 32] {
    let mut by_class: Vec<&Seal> = seals.iter().collect();
    by_class.sort_by_key(|seal| seal.class);
    sha256_of_parts(by_class.iter().map(|seal| seal.header.as_slice()))
}
