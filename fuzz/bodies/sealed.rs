//! What a database says is stored: whoever holds it may have written it.

use strongroom::crypto::{
    HEADER_BYTES, Seal, SealPlace, StoredRecord, SubjectKey, TenantKey, WantedField, WrapPlace, WrappedKey,
    open_fields, unwrap_subject_key,
};
use strongroom::domain::class::DataClass;
use strongroom::domain::id::{CollectionName, KeyId, KeyOwner, RecordId, RecordVersion, SubjectId, TenantId};
use strongroom::domain::secret::Key256;
use strongroom::storage::sealed_columns::{decode_fields, decode_seals, encode_fields, encode_seals};
use uuid::Uuid;

/// Whatever reads is written back as the very bytes that were read.
pub fn columns(data: &[u8]) {
    if let Ok(seals) = decode_seals(data) {
        assert!(encode_seals(&seals) == data, "two byte strings mean the same seals");
    }
    if let Ok(fields) = decode_fields(data) {
        let again = encode_fields(&fields).expect("what was read can be written");
        assert!(again == data, "two byte strings mean the same fields");
    }
}

/// Nothing that was not sealed under the key opens, whatever it looks like. The first byte says how much of the rest are
/// seals.
pub fn records(data: &[u8]) {
    let Some((split, rest)) = data.split_first() else { return };
    let seals_end = rest.len().min(usize::from(*split) * (1 + HEADER_BYTES));
    let (seals, fields) = rest.split_at(seals_end);
    let (Ok(seals), Ok(fields)) = (decode_seals(seals), decode_fields(fields)) else { return };
    let wanted: Vec<WantedField> = fields
        .iter()
        .map(|field| WantedField {
            id: field.id,
            type_id: 1,
            class: seals.get(usize::from(field.seal)).map_or(DataClass::Phi, |seal: &Seal| seal.class),
        })
        .collect();
    let tenant = TenantId::from_uuid(Uuid::from_u128(1));
    let place = SealPlace {
        tenant,
        collection: CollectionName::parse("patients").expect("a name"),
        record: RecordId::parse("r1").expect("an id"),
        version: RecordVersion::FIRST,
        subject: None,
    };
    let key = subject_key();
    let stored = StoredRecord { place, seals, fields };
    let opened = open_fields(&stored, &wanted, |_, _| Some(&key));
    assert!(opened.map_or(true, |opened| opened.is_empty()), "a forged value opened");
}

/// A wrapped key that was not wrapped under the tenant's key does not open.
pub fn wraps(data: &[u8]) {
    let Some((header, wrapped)) = data.split_first_chunk::<HEADER_BYTES>() else { return };
    let owner = KeyOwner::Subject(SubjectId::from_uuid(Uuid::from_u128(2)));
    let place = WrapPlace {
        tenant: TenantId::from_uuid(Uuid::from_u128(1)),
        owner: &owner,
        class: DataClass::Phi,
        key_id: KeyId::FIRST,
    };
    let tenant_key = TenantKey::new(KeyId::FIRST, secret());
    let forged = WrappedKey { header: *header, wrapped: wrapped.to_vec() };
    assert!(unwrap_subject_key(&tenant_key, &place, &forged).is_err(), "a forged key opened");
}

pub fn subject_key() -> SubjectKey {
    struct Sevens;
    impl strongroom::domain::random::Random for Sevens {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), strongroom::domain::random::NoRandomness> {
            bytes.fill(7);
            Ok(())
        }
    }
    SubjectKey::generate(KeyId::FIRST, &Sevens).expect("a key")
}

fn secret() -> Key256 {
    Key256::filled(|bytes| {
        bytes.fill(7);
        Ok::<(), ()>(())
    })
    .expect("a key")
}
