//! What a sealed value is bound to besides its key: nonce and associated data. Integers are big-endian, and
//! everything of variable length is preceded by its length, so that no two places have the same bytes.

use ring::digest::{Context, SHA256};

use crate::domain::id::FieldId;

use super::file::FilePlace;
use super::header::HEADER_BYTES;
use super::record::SealPlace;
use super::wrap::WrapPlace;

/// Nonce of the single chunk of a value: u32 field id ‖ u32 chunk 0 ‖ u32 last 1 (NIST SP 800-38D section
/// 8.2.1: unique by construction, since every seal has a key of its own and a field occurs once in it).
pub(super) const fn nonce(field: FieldId) -> [u8; 12] {
    part_nonce(field, 0, true)
}

/// Nonce of a part of a file: u32 field id ‖ u32 part ‖ u32 last. Unique likewise: every part has a key of its own.
pub(super) const fn part_nonce(field: FieldId, part: u32, is_last: bool) -> [u8; 12] {
    let (field, part, last) = (field.0 as u128, part as u128, is_last as u128);
    let [_, _, _, _, nonce @ ..] = ((field << 64) | (part << 32) | last).to_be_bytes();
    nonce
}

/// SHA-256 over the ids of all fields of the version, across its seals. `ids` must be ascending and distinct.
pub(super) fn fields_digest(ids: impl Iterator<Item = FieldId>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    ids.for_each(|id| context.update(&id.0.to_be_bytes()));
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The associated data of one seal's values: all of it but the last 38 bytes is the same for every field.
pub(super) struct SealAad {
    bytes: Vec<u8>,
    shared_bytes: usize,
    fields: [u8; 32],
}

impl SealAad {
    pub(super) fn new(header: &[u8; HEADER_BYTES], place: &SealPlace, fields: [u8; 32]) -> Self {
        let mut bytes = Vec::with_capacity(320);
        bytes.extend_from_slice(header);
        put(&mut bytes, place.tenant.as_uuid().as_bytes());
        put(&mut bytes, place.collection.as_str().as_bytes());
        put(&mut bytes, place.record.as_str().as_bytes());
        bytes.extend_from_slice(&place.version.get().to_be_bytes());
        put(
            &mut bytes,
            place.subject.as_ref().map_or(&[], |subject| subject.as_uuid().as_bytes().as_slice()),
        );
        Self { shared_bytes: bytes.len(), bytes, fields }
    }

    pub(super) fn of_field(&mut self, field: FieldId, type_id: u16) -> &[u8] {
        self.bytes.truncate(self.shared_bytes);
        self.bytes.extend_from_slice(&field.0.to_be_bytes());
        self.bytes.extend_from_slice(&type_id.to_be_bytes());
        self.bytes.extend_from_slice(&self.fields);
        &self.bytes
    }
}

/// The associated data of a file's part.
pub(super) fn file_aad(header: &[u8; HEADER_BYTES], place: &FilePlace) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(320);
    bytes.extend_from_slice(header);
    put(&mut bytes, place.tenant.as_uuid().as_bytes());
    put(&mut bytes, place.collection.as_str().as_bytes());
    put(&mut bytes, place.record.as_str().as_bytes());
    put(&mut bytes, place.subject.as_ref().map_or(&[], |subject| subject.as_uuid().as_bytes().as_slice()));
    put(&mut bytes, place.file.as_uuid().as_bytes());
    bytes.extend_from_slice(&place.field.0.to_be_bytes());
    bytes
}

/// The associated data of a wrapped subject key.
pub(super) fn wrap_aad(header: &[u8; HEADER_BYTES], place: &WrapPlace<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    bytes.extend_from_slice(header);
    put(&mut bytes, place.tenant.as_uuid().as_bytes());
    put(&mut bytes, place.owner.to_text().as_bytes());
    put(&mut bytes, place.class.as_str().as_bytes());
    bytes.extend_from_slice(&place.key_id.as_u64().to_be_bytes());
    bytes
}

/// Appends lp(part) = u32 length ‖ part.
#[expect(
    clippy::cast_possible_truncation,
    reason = "ids and names are at most 64 bytes long, by their types"
)]
fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
    bytes.extend_from_slice(part);
}
