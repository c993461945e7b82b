//! How terms of blind indexes stand in the database.
//!
//! ```text
//! term = u32 field id ‖ u16 transform ‖ u32 number of the root ‖ digest     integers big-endian
//! ```
//!
//! One column instead of four makes an entry of the index smaller and its comparison one of bytes.

use crate::crypto::index::IndexTerm;
use crate::storage::StorageError;

const PREFIX_BYTES: usize = 10;

/// `gone AS (…)`: removes terms of the records that an earlier part of the statement holds, those of which the last condition is
/// true. Each is looked up by its whole key, and then removed by its place: a join could begin with all terms of a collection,
/// where it was planned while there were few. Nobody else removes a term whose record is held, and nobody changes one.
macro_rules! gone {
    ($held:literal, $record:literal, $condition:literal) => {
        concat!(
            "gone AS ( \
        DELETE FROM index_term WHERE ctid = ANY (ARRAY( \
            SELECT i.place FROM ",
            $held,
            " CROSS JOIN LATERAL unnest(",
            $held,
            ".terms) AS t (term) \
            CROSS JOIN LATERAL ( \
                SELECT o.ctid AS place FROM index_term o \
                WHERE o.tenant_id = $1 AND o.collection = $2 AND o.term = t.term AND o.record_id = ",
            $record,
            " LIMIT 1) AS i WHERE ",
            $condition,
            ")))"
        )
    };
}
pub(super) use gone;

/// The terms of one record.
pub(super) fn stored_terms(terms: &[IndexTerm]) -> Result<Vec<Vec<u8>>, StorageError> {
    terms.iter().map(stored_term).collect()
}

fn stored_term(term: &IndexTerm) -> Result<Vec<u8>, StorageError> {
    let root = u32::try_from(term.root().as_u64()).map_err(|_| StorageError::Malformed("a term's root"))?;
    let mut stored = Vec::with_capacity(PREFIX_BYTES + term.bytes().len());
    stored.extend_from_slice(&term.field().0.to_be_bytes());
    stored.extend_from_slice(&term.transform().to_be_bytes());
    stored.extend_from_slice(&root.to_be_bytes());
    stored.extend_from_slice(term.bytes());
    Ok(stored)
}

/// As `bytea[]` is spelled: a statement that many records share has an array for each column, and an array of arrays of
/// different lengths is none.
pub(super) fn spelled(terms: &[Vec<u8>]) -> String {
    let mut out = String::with_capacity(2 + terms.iter().map(|term| 6 + 2 * term.len()).sum::<usize>());
    out.push('{');
    for (place, term) in terms.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        out.push_str("\"\\\\x");
        for byte in term {
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        out.push('"');
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::TenantKey;
    use crate::crypto::index::TermMaker;
    use crate::domain::id::{CollectionName, FieldId, KeyId};
    use crate::domain::index::{IndexSpec, Transform};
    use crate::domain::secret::{Key256, SecretBytes};

    fn term(root: i64) -> IndexTerm {
        let root = TenantKey::new(KeyId::new(root).unwrap(), Key256::copied_from(&[7; 32]).unwrap());
        let spec = IndexSpec { transform: Transform::Prefix(5), bits: 9 };
        let name = CollectionName::parse("patients").unwrap();
        let maker = TermMaker::new(&root, &name, FieldId(0x0102_0304), spec).unwrap();
        maker.term(&SecretBytes::new(b"novak".to_vec()))
    }

    #[test]
    fn a_term_says_which_index_it_is_of() {
        let made = term(6);
        let stored = stored_terms(std::slice::from_ref(&made)).unwrap();
        assert_eq!(stored[0][..PREFIX_BYTES], [1, 2, 3, 4, 2, 5, 0, 0, 0, 6]);
        assert_eq!(&stored[0][PREFIX_BYTES..], made.bytes());
        let far = stored_terms(&[term(i64::from(u32::MAX) + 1)]);
        assert!(matches!(far, Err(StorageError::Malformed("a term's root"))));
    }

    #[test]
    fn terms_are_spelled_as_an_array() {
        assert_eq!(spelled(&[]), "{}");
        assert_eq!(spelled(&[vec![0x0a, 0xff]]), r#"{"\\x0aff"}"#);
        assert_eq!(spelled(&[vec![1], vec![]]), r#"{"\\x01","\\x"}"#);
    }
}
