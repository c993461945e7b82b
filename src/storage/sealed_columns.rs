//! The two columns that hold a version's seals and values: byte strings of our own layout, since five parallel arrays
//! cost PostgreSQL and the driver a header and a check for every element.
//!
//! ```text
//! seal_headers   for each seal   u8 class (1 PHI, 2 PII, 3 CHD) ‖ header (66 bytes)
//! sealed_values  for each field  u32 field id ‖ u8 seal (index into seal_headers) ‖ u32 length ‖ sealed value
//! ```
//!
//! Integers are big-endian. Bytes that do not read are [`StorageError::Malformed`]: this code did not write them.
//! What the bytes mean (each field once, under a seal of its class) is for opening to judge.

use bytes::Bytes;

use super::pool::StorageError;
use crate::crypto::{HEADER_BYTES, Seal, SealedField};
use crate::domain::class::DataClass;
use crate::domain::id::FieldId;

/// The class's byte and the header.
const SEAL_BYTES: usize = 1 + HEADER_BYTES;
/// What stands before each value.
const FIELD_PREFIX_BYTES: usize = 4 + 1 + 4;

pub fn encode_seals(seals: &[Seal]) -> Vec<u8> {
    let mut out = Vec::with_capacity(seals.len() * SEAL_BYTES);
    for seal in seals {
        out.push(class_code(seal.class));
        out.extend_from_slice(&seal.header);
    }
    out
}

pub fn encode_fields(fields: &[SealedField]) -> Result<Vec<u8>, StorageError> {
    let bytes = fields.iter().map(|field| FIELD_PREFIX_BYTES + field.bytes.len()).sum();
    let mut out = Vec::with_capacity(bytes);
    for field in fields {
        let length = u32::try_from(field.bytes.len()).map_err(|_| StorageError::Malformed("sealed value"))?;
        out.extend_from_slice(&field.id.0.to_be_bytes());
        out.push(field.seal);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&field.bytes);
    }
    Ok(out)
}

pub fn decode_seals(bytes: &[u8]) -> Result<Vec<Seal>, StorageError> {
    let (seals, rest) = bytes.as_chunks::<SEAL_BYTES>();
    if !rest.is_empty() {
        return Err(StorageError::Malformed("seal headers"));
    }
    let read = |[code, header @ ..]: &[u8; SEAL_BYTES]| {
        let class = class_of(*code).ok_or(StorageError::Malformed("seal class"))?;
        Ok(Seal { class, header: *header })
    };
    seals.iter().map(read).collect()
}

pub fn decode_fields(bytes: &[u8]) -> Result<Vec<SealedField>, StorageError> {
    const MALFORMED: StorageError = StorageError::Malformed("sealed values");
    // Most values are sealed into 32 to 48 bytes: one allocation for nearly every record.
    let mut fields = Vec::with_capacity(bytes.len() / (FIELD_PREFIX_BYTES + 32));
    let whole = Bytes::copy_from_slice(bytes);
    let mut left = &*whole;
    while !left.is_empty() {
        let (id, rest) = left.split_first_chunk::<4>().ok_or(MALFORMED)?;
        let (seal, rest) = rest.split_first().ok_or(MALFORMED)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(MALFORMED)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| MALFORMED)?;
        let (value, rest) = rest.split_at_checked(length).ok_or(MALFORMED)?;
        let bytes = whole.slice_ref(value);
        fields.push(SealedField { id: FieldId(u32::from_be_bytes(*id)), seal: *seal, bytes });
        left = rest;
    }
    Ok(fields)
}

const fn class_code(class: DataClass) -> u8 {
    match class {
        DataClass::Phi => 1,
        DataClass::Pii => 2,
        DataClass::Chd => 3,
    }
}

fn class_of(code: u8) -> Option<DataClass> {
    DataClass::ALL.into_iter().find(|class| class_code(*class) == code)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Sealed types have no `Debug`, so cases are drawn as what they are made of.
    type Drawn = Vec<(u32, u8, Vec<u8>)>;

    fn seals(drawn: &[(usize, Vec<u8>)]) -> Vec<Seal> {
        let seal = |(class, header): &(usize, Vec<u8>)| Seal {
            class: DataClass::ALL[*class],
            header: header.as_slice().try_into().unwrap(),
        };
        drawn.iter().map(seal).collect()
    }

    fn fields(drawn: &Drawn) -> Vec<SealedField> {
        let field = |(id, seal, bytes): &(u32, u8, Vec<u8>)| SealedField {
            id: FieldId(*id),
            seal: *seal,
            bytes: bytes.clone().into(),
        };
        drawn.iter().map(field).collect()
    }

    fn some_fields() -> impl Strategy<Value = Drawn> {
        vec((any::<u32>(), any::<u8>(), vec(any::<u8>(), 0..80)), 0..20)
    }

    proptest! {
        #[test]
        fn seals_come_back(drawn in vec((0_usize..3, vec(any::<u8>(), HEADER_BYTES)), 0..4)) {
            let seals = seals(&drawn);
            let bytes = encode_seals(&seals);
            prop_assert_eq!(bytes.len(), seals.len() * SEAL_BYTES);
            prop_assert!(decode_seals(&bytes).unwrap() == seals);
        }

        #[test]
        fn fields_come_back(drawn in some_fields()) {
            let fields = fields(&drawn);
            let bytes = encode_fields(&fields).unwrap();
            prop_assert!(decode_fields(&bytes).unwrap() == fields);
        }

        /// Whatever reads is written back as the very bytes that were read: no two byte strings mean the same.
        #[test]
        fn each_version_has_one_encoding(bytes in vec(any::<u8>(), 0..300)) {
            if let Ok(seals) = decode_seals(&bytes) {
                prop_assert_eq!(&encode_seals(&seals), &bytes);
            }
            if let Ok(fields) = decode_fields(&bytes) {
                prop_assert_eq!(&encode_fields(&fields).unwrap(), &bytes);
            }
        }

        #[test]
        fn what_is_cut_inside_a_field_does_not_read(drawn in some_fields(), at in any::<prop::sample::Index>()) {
            let fields = fields(&drawn);
            let bytes = encode_fields(&fields).unwrap();
            let mut ends = vec![0];
            ends.extend(fields.iter().scan(0, |end, field| {
                *end += FIELD_PREFIX_BYTES + field.bytes.len();
                Some(*end)
            }));
            let left = at.index(bytes.len() + 1);
            prop_assert_eq!(decode_fields(&bytes[..left]).is_ok(), ends.contains(&left));
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let seal = Seal { class: DataClass::Pii, header: [7; HEADER_BYTES] };
        assert_eq!(encode_seals(&[seal]), [&[2_u8][..], &[7; HEADER_BYTES]].concat());
        let field = SealedField { id: FieldId(258), seal: 1, bytes: Bytes::from_static(&[9, 8]) };
        assert_eq!(encode_fields(&[field]).unwrap(), [0, 0, 1, 2, 1, 0, 0, 0, 2, 9, 8]);
        assert!(
            decode_seals(&[[0_u8; 1].as_slice(), &[7; HEADER_BYTES]].concat()).is_err(),
            "no class has 0"
        );
        assert!(decode_seals(&[1_u8; SEAL_BYTES + 1]).is_err(), "bytes after the last header");
    }
}
