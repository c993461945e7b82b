//! Wrapped subject keys.

use super::*;

fn tenant_key(id: i64, byte: u8) -> TenantKey {
    TenantKey::new(KeyId::new(id).unwrap(), Key256::copied_from(&[byte; 32]).unwrap())
}

fn owner() -> KeyOwner {
    KeyOwner::Subject(subject(2))
}

fn at(owner: &KeyOwner) -> WrapPlace<'_> {
    WrapPlace { tenant: tenant(1), owner, class: DataClass::Phi, key_id: KeyId::new(12).unwrap() }
}

fn wrapped() -> WrappedKey {
    let key = SubjectKey::generate(KeyId::new(12).unwrap(), &random()).unwrap();
    wrap_subject_key(&tenant_key(9, 1), &at(&owner()), &key, &random()).unwrap()
}

#[test]
fn a_wrapped_key_opens_what_it_sealed() {
    let keys = Keys::new(12);
    for owner in [owner(), KeyOwner::Record(RecordId::parse("tok_1").unwrap())] {
        let wrapped =
            wrap_subject_key(&tenant_key(9, 1), &at(&owner), keys.of(DataClass::Phi).unwrap(), &random());
        let wrapped = wrapped.unwrap();
        assert_eq!(wrapped.wrapped.len(), 48);
        assert_eq!(header_key_id(&wrapped.header), KeyId::new(9));
        let Ok(key) = unwrap_subject_key(&tenant_key(9, 1), &at(&owner), &wrapped) else {
            panic!("not unwrapped")
        };
        let fields = [plain(1, DataClass::Phi, b"value")];
        let sealed = keys.seal(&place(), &fields);
        let opened =
            open_fields(&stored(&sealed), &wanted(&fields), |_, id| (id == key.id()).then_some(&key));
        assert_eq!(opened.map(|fields| exposed(&fields[0].value)), Ok(b"value".to_vec()));
    }
}

#[test]
fn another_place_or_tenant_key() {
    let (wrapped, owner) = (wrapped(), owner());
    let others = [KeyOwner::Subject(subject(3)), KeyOwner::Record(RecordId::parse("tok_1").unwrap())];
    let places = [
        WrapPlace { tenant: tenant(2), ..at(&owner) },
        at(&others[0]),
        at(&others[1]),
        WrapPlace { class: DataClass::Pii, ..at(&owner) },
        WrapPlace { key_id: KeyId::new(13).unwrap(), ..at(&owner) },
    ];
    for place in places {
        let unwrapped = unwrap_subject_key(&tenant_key(9, 1), &place, &wrapped);
        assert_eq!(unwrapped.err(), Some(OpenError::Tampered));
    }
    for key in [tenant_key(9, 2), tenant_key(8, 1)] {
        assert_eq!(unwrap_subject_key(&key, &at(&owner), &wrapped).err(), Some(OpenError::WrongKey));
    }
}

#[test]
fn any_bit_or_length() {
    let (intact, owner) = (wrapped(), owner());
    let unwrap = |wrapped: &WrappedKey| unwrap_subject_key(&tenant_key(9, 1), &at(&owner), wrapped).err();
    assert_eq!(unwrap(&intact), None);
    for bit in 0..HEADER_BYTES * 8 {
        let mut changed = intact.clone();
        changed.header[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(unwrap(&changed), Some(OpenError::Malformed | OpenError::WrongKey)), "bit {bit}");
    }
    for bit in 0..48 * 8 {
        let mut changed = intact.clone();
        changed.wrapped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(unwrap(&changed), Some(OpenError::Tampered), "bit {bit}");
    }
    for length in (0..100).filter(|length| *length != 48) {
        let mut changed = intact.clone();
        changed.wrapped.resize(length, 0);
        assert_eq!(unwrap(&changed), Some(OpenError::Tampered), "{length} bytes");
    }
}

#[test]
fn refusals() {
    let key = SubjectKey::generate(KeyId::new(1).unwrap(), &random()).unwrap();
    let mismatch = wrap_subject_key(&tenant_key(9, 1), &at(&owner()), &key, &random());
    assert_eq!(mismatch.err(), Some(SealError::KeyMismatch));
    let key = SubjectKey::generate(KeyId::new(12).unwrap(), &random()).unwrap();
    let no_salt = wrap_subject_key(&tenant_key(9, 1), &at(&owner()), &key, &NoneLeft);
    assert_eq!(no_salt.err(), Some(SealError::NoRandomness));
    assert!(SubjectKey::generate(KeyId::FIRST, &NoneLeft).is_err());
}
