//! Opening fields of a stored version. Whatever the database holds, the answer is the sealed value or an
//! error.

use zeroize::Zeroizing;

use crate::domain::class::DataClass;
use crate::domain::id::{FieldId, KeyId};
use crate::domain::secret::SecretBytes;

use super::aad::{SealAad, fields_digest, nonce};
use super::error::OpenError;
use super::header::{self, Purpose};
use super::key::SubjectKey;
use super::pad::unpadded_length;
use super::primitive::{Cipher, TAG_BYTES};
use super::record::{OpenedField, Seal, SealedField, StoredRecord, WantedField};

/// Opens the wanted fields, in the order wanted. One that the record does not list is left out; one that is
/// listed opens or the whole call fails. `key_of` is asked once for each seal that is needed, and for no
/// other.
///
/// Every value that opens proves the whole list of field ids: none was dropped or added. If nothing that is
/// wanted is listed, nothing is proven, and the absence is only the database's word.
///
/// Errors: [`OpenError::Malformed`] before any key is asked for, if the record has a shape that sealing never
/// makes (a field or class twice, a field of no seal, a seal of no field, another class than wanted, an
/// unknown header); [`OpenError::MissingKey`] if `key_of` has none; [`OpenError::WrongKey`] if its key does
/// not fit the header; [`OpenError::Tampered`] if a value does not open in this place.
pub fn open_fields<'k>(
    stored: &StoredRecord,
    wanted: &[WantedField],
    key_of: impl Fn(DataClass, KeyId) -> Option<&'k SubjectKey>,
) -> Result<Vec<OpenedField>, OpenError> {
    let listed = Listed::check(stored)?;
    let mut found = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let Some(field) = listed.find(wanted.id) else { continue };
        match stored.seals.get(usize::from(field.seal)) {
            Some(seal) if seal.class == wanted.class => found.push((wanted, field)),
            _ => return Err(OpenError::Malformed),
        }
    }
    let digest = listed.digest();

    let mut opened: Vec<Option<OpenedField>> = Vec::with_capacity(found.len());
    opened.resize_with(found.len(), || None);
    for (index, seal) in (0_u8..).zip(&stored.seals) {
        let in_this_seal = |(_, field): &&(&WantedField, &SealedField)| field.seal == index;
        if !found.iter().any(|pair| in_this_seal(&pair)) {
            continue;
        }
        let cipher = open_seal(seal, &key_of)?;
        let mut aad = SealAad::new(&seal.header, &stored.place, digest);
        for (slot, (wanted, field)) in opened.iter_mut().zip(&found).filter(|(_, pair)| in_this_seal(pair)) {
            let value = open_value(&cipher, aad.of_field(wanted.id, wanted.type_id), field)?;
            *slot = Some(OpenedField { id: wanted.id, value });
        }
    }
    Ok(opened.into_iter().flatten().collect())
}

/// The fields of a version whose shape is one that sealing makes, ascending by id.
struct Listed<'a>(Vec<&'a SealedField>);

impl<'a> Listed<'a> {
    fn check(stored: &'a StoredRecord) -> Result<Self, OpenError> {
        let mut fields: Vec<&SealedField> = stored.fields.iter().collect();
        fields.sort_by_key(|field| field.id);
        let fields_once = fields.is_sorted_by(|left, right| left.id < right.id);
        let fields_sealed = fields.iter().all(|field| usize::from(field.seal) < stored.seals.len());

        // The number first: the comparison of classes is quadratic.
        let seals_sound = stored.seals.len() <= DataClass::ALL.len()
            && (0_u8..).zip(&stored.seals).all(|(index, seal)| {
                let once = stored.seals.iter().filter(|other| other.class == seal.class).count() == 1;
                once && seal.key_id().is_some() && fields.iter().any(|field| field.seal == index)
            });
        if fields_once && fields_sealed && seals_sound { Ok(Self(fields)) } else { Err(OpenError::Malformed) }
    }

    fn find(&self, id: FieldId) -> Option<&'a SealedField> {
        let at = self.0.binary_search_by_key(&id, |field| field.id).ok()?;
        self.0.get(at).copied()
    }

    fn digest(&self) -> [u8; 32] {
        fields_digest(self.0.iter().map(|field| field.id))
    }
}

fn open_seal<'k>(
    seal: &Seal,
    key_of: impl Fn(DataClass, KeyId) -> Option<&'k SubjectKey>,
) -> Result<Cipher, OpenError> {
    let key_id = seal.key_id().ok_or(OpenError::Malformed)?;
    let key = key_of(seal.class, key_id).ok_or(OpenError::MissingKey)?;
    header::open(Purpose::Seal, key.id(), key.secret(), &seal.header)
}

/// Decrypts in the one buffer that is handed out, which is wiped whole on drop, padding included.
fn open_value(cipher: &Cipher, aad: &[u8], field: &SealedField) -> Result<SecretBytes, OpenError> {
    let (ciphertext, tag) = field.bytes.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::Tampered)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    cipher.open(nonce(field.id), aad, &mut buffer, *tag).map_err(|_| OpenError::Tampered)?;
    let value_bytes = unpadded_length(&buffer).ok_or(OpenError::Tampered)?;
    buffer.truncate(value_bytes);
    Ok(buffer.into())
}
