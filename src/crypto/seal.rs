//! Sealing a version of a record.

use zeroize::Zeroizing;

use crate::domain::class::DataClass;
use crate::domain::id::KeyId;
use crate::domain::random::Random;

use super::aad::{SealAad, fields_digest, nonce};
use super::error::SealError;
use super::header::{self, Purpose, SALT_BYTES};
use super::index::{IndexTerm, RecordIndex};
use super::key::SubjectKey;
use super::pad::{pad_into, padded_length};
use super::primitive::{Cipher, TAG_BYTES};
use super::record::{PlainField, Seal, SealPlace, SealedField, headers_sha256};

/// The largest value sealed in one piece: 16 MiB. (Policy sets far lower limits; this keeps sizes from
/// overflowing.)
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// A version of a record that may be stored. Only [`seal_record`] makes one.
pub struct SealedRecord {
    place: SealPlace,
    seals: Vec<Seal>,
    fields: Vec<SealedField>,
    index: RecordIndex,
}

impl SealedRecord {
    /// With what it is found by; stored, and replaced, together with it.
    #[must_use]
    pub fn indexed(self, index: RecordIndex) -> Self {
        Self { index, ..self }
    }

    /// None where its collection has no indexes.
    pub fn terms(&self) -> &[IndexTerm] {
        &self.index.terms
    }

    /// By which declaration of indexes; none where its collection has none.
    pub fn index_state(&self) -> Option<i64> {
        self.index.state
    }

    pub fn place(&self) -> &SealPlace {
        &self.place
    }

    /// One seal per class, PHI before PII before CHD; none for a tombstone.
    pub fn seals(&self) -> &[Seal] {
        &self.seals
    }

    /// Ascending by id.
    pub fn fields(&self) -> &[SealedField] {
        &self.fields
    }

    /// What the audit entry of this write carries: SHA-256 of the headers, one after the other in the order
    /// of [`Self::seals`]. A tombstone has the digest of nothing.
    pub fn headers_sha256(&self) -> [u8; 32] {
        headers_sha256(&self.seals)
    }

    /// The key id of each class, for what the row keeps about its keys.
    pub fn key_ids(&self) -> impl Iterator<Item = (DataClass, KeyId)> + '_ {
        self.seals.iter().filter_map(|seal| Some((seal.class, seal.key_id()?)))
    }
}

/// Seals all fields of a version, one seal per class that occurs. An empty list gives a record without seals:
/// a tombstone.
///
/// `key_of` is asked once for each class that occurs, and `random` once for all salts. Nothing is durable
/// yet; the keys must be. The plaintext stays in `fields`, and no other copy outlives the call.
pub fn seal_record<'k>(
    place: SealPlace,
    fields: &[PlainField],
    key_of: impl Fn(DataClass) -> Option<&'k SubjectKey>,
    random: &dyn Random,
) -> Result<SealedRecord, SealError> {
    let ordered = ascending(fields)?;
    let digest = fields_digest(ordered.iter().map(|field| field.id));
    let classes = classes_of(fields);
    let salts = draw_salts(classes.len(), random)?;

    let mut seals = Vec::with_capacity(classes.len());
    let mut sealed = Vec::with_capacity(fields.len());
    for (index, (class, salt)) in (0_u8..).zip(classes.into_iter().zip(&salts)) {
        let key = key_of(class).ok_or(SealError::MissingKey)?;
        let (header, cipher) = header::create(Purpose::Seal, key.id(), key.secret(), salt)?;
        let mut aad = SealAad::new(&header, &place, digest);
        for field in ordered.iter().filter(|field| field.class == class) {
            let bytes = seal_value(&cipher, &mut aad, field)?;
            sealed.push(SealedField { id: field.id, seal: index, bytes: bytes.into() });
        }
        seals.push(Seal { class, header });
    }
    sealed.sort_unstable_by_key(|field| field.id);
    Ok(SealedRecord { place, seals, fields: sealed, index: RecordIndex::default() })
}

fn ascending(fields: &[PlainField]) -> Result<Vec<&PlainField>, SealError> {
    let mut ordered: Vec<&PlainField> = fields.iter().collect();
    ordered.sort_unstable_by_key(|field| field.id);
    let distinct = ordered.is_sorted_by(|left, right| left.id < right.id);
    if distinct { Ok(ordered) } else { Err(SealError::DuplicateField) }
}

fn classes_of(fields: &[PlainField]) -> Vec<DataClass> {
    let mut classes: Vec<DataClass> = fields.iter().map(|field| field.class).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// A salt per seal, in one call: asking the system is what sealing spends most of its time on.
fn draw_salts(count: usize, random: &dyn Random) -> Result<Vec<[u8; SALT_BYTES]>, SealError> {
    let mut salts = vec![[0; SALT_BYTES]; count];
    if count > 0 {
        random.fill(salts.as_flattened_mut())?;
    }
    Ok(salts)
}

/// Pads and encrypts in the one buffer that is stored, sized once: the plaintext copy in it turns into
/// ciphertext.
#[expect(clippy::disallowed_methods, reason = "sealing reads the plaintext")]
fn seal_value(cipher: &Cipher, aad: &mut SealAad, field: &PlainField) -> Result<Vec<u8>, SealError> {
    let value = field.value.expose();
    if value.len() > MAX_VALUE_BYTES {
        return Err(SealError::ValueTooLarge);
    }
    let padded_bytes = padded_length(value.len()).ok_or(SealError::ValueTooLarge)?;
    // Wiped if the cipher refuses.
    let mut buffer = Zeroizing::new(Vec::with_capacity(padded_bytes.saturating_add(TAG_BYTES)));
    pad_into(&mut buffer, value, padded_bytes);
    let tag = cipher.seal(nonce(field.id), aad.of_field(field.id, field.type_id), &mut buffer)?;
    buffer.extend_from_slice(&tag);
    Ok(std::mem::take(&mut *buffer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::FieldId;
    use crate::domain::secret::SecretBytes;

    /// A buffer that grew would have left plaintext behind.
    #[test]
    fn a_value_is_sealed_in_a_buffer_that_never_grows() {
        let cipher = Cipher::new(&[7; 32]);
        let place = crate::crypto::tests::place();
        for length in [0, 1, 31, 32, 33, 300, 5_000] {
            let value = SecretBytes::new(vec![9; length]);
            let field = PlainField { id: FieldId(1), type_id: 1, class: DataClass::Phi, value };
            let mut aad = SealAad::new(&[1; header::HEADER_BYTES], &place, [2; 32]);
            let sealed = seal_value(&cipher, &mut aad, &field).unwrap();
            assert_eq!(sealed.capacity(), sealed.len(), "of {length} bytes");
        }
    }
}
