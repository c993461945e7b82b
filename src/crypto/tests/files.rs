//! Files: every part opens as itself, in its own place, and as nothing else.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::super::file::*;
use super::*;
use crate::domain::id::FileId;

fn file_place() -> FilePlace {
    let SealPlace { tenant, collection, record, subject, .. } = place();
    let file = FileId::from_uuid(uuid::Uuid::from_u128(77));
    FilePlace { tenant, collection, record, subject, field: FieldId(4), file }
}

fn buffer(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut buffer = part_buffer();
    buffer.extend_from_slice(bytes);
    buffer
}

fn seal(keys: &Keys, part: Part, bytes: &[u8]) -> Result<SealedPart, SealError> {
    seal_part(&file_place(), part, buffer(bytes), keys.of(DataClass::Phi).unwrap(), &random())
}

fn stored(sealed: &SealedPart) -> StoredPart {
    StoredPart { header: *sealed.header(), bytes: sealed.bytes().to_vec() }
}

#[expect(clippy::disallowed_methods, reason = "compares what was opened")]
fn open(keys: &Keys, place: &FilePlace, part: Part, stored: StoredPart) -> Result<Vec<u8>, OpenError> {
    let key = keys.of(DataClass::Phi).unwrap();
    open_part(place, part, stored, key).map(|value| value.expose().to_vec())
}

#[test]
fn a_buffer_never_grows() {
    for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES] {
        let value = buffer(&vec![7; length]);
        let room = value.as_ptr();
        let key = Keys::new(5);
        let key = key.of(DataClass::Phi).unwrap();
        let sealed = seal_part(&file_place(), Part::Last(1), value, key, &random()).unwrap();
        assert_eq!(sealed.bytes().as_ptr(), room, "{length}: it moved and left a copy of the value");
        assert_eq!(sealed.bytes().len(), padded_length(length).unwrap() + 16);
    }
}

#[test]
fn chunks_are_whole_and_nothing_is_larger() {
    let keys = Keys::new(5);
    let refused = |part, length| seal(&keys, part, &vec![1; length]).err();
    assert_eq!(refused(Part::Chunk(1), CHUNK_BYTES - 1), Some(SealError::Refused));
    assert_eq!(refused(Part::Chunk(1), CHUNK_BYTES + 1), Some(SealError::ValueTooLarge));
    assert_eq!(refused(Part::Last(1), CHUNK_BYTES + 1), Some(SealError::ValueTooLarge));
    assert_eq!(refused(Part::Chunk(1), CHUNK_BYTES), None);
}

#[test]
fn a_part_sent_again_has_another_key() {
    let keys = Keys::new(5);
    let (random, key) = (random(), keys.of(DataClass::Phi).unwrap());
    let seal = || seal_part(&file_place(), Part::Last(1), buffer(b"same"), key, &random).unwrap();
    let (first, second) = (seal(), seal());
    assert_ne!(first.header(), second.header());
    assert_ne!(first.bytes(), second.bytes());
    let headers = [first.header(), second.header()];
    assert_ne!(headers_sha256(headers), headers_sha256([headers[1], headers[0]]));
}

#[test]
fn a_part_opens_in_its_own_place_only() {
    let keys = Keys::new(5);
    let sealed = seal(&keys, Part::Last(3), b"a finding").unwrap();
    let at = |place: &FilePlace, part| open(&keys, place, part, stored(&sealed));
    assert_eq!(at(&file_place(), Part::Last(3)), Ok(b"a finding".to_vec()));
    for part in [Part::Label, Part::Last(1), Part::Last(4), Part::Chunk(3)] {
        assert_eq!(at(&file_place(), part), Err(OpenError::Tampered), "{part:?}");
    }
    let other = uuid::Uuid::from_u128(78);
    let here = file_place();
    let elsewhere = [
        FilePlace { tenant: TenantId::from_uuid(other), ..here.clone() },
        FilePlace { collection: CollectionName::parse("others").unwrap(), ..here.clone() },
        FilePlace { record: RecordId::from_uuid(other), ..here.clone() },
        FilePlace { subject: None, ..here.clone() },
        FilePlace { subject: Some(subject(9)), ..here.clone() },
        FilePlace { field: FieldId(5), ..here.clone() },
        FilePlace { file: FileId::from_uuid(other), ..here },
    ];
    for place in elsewhere {
        assert_eq!(at(&place, Part::Last(3)), Err(OpenError::Tampered), "{place:?}");
    }
    let other_key = open(&Keys::new(6), &file_place(), Part::Last(3), stored(&sealed));
    assert_eq!(other_key, Err(OpenError::WrongKey));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_part_comes_back_and_a_changed_one_does_not(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        number in 1..2_000_u32,
        is_label in any::<bool>(),
        byte in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        in_header in any::<bool>(),
    ) {
        let keys = Keys::new(5);
        let part = if is_label { Part::Label } else { Part::Last(number) };
        let sealed = seal(&keys, part, &bytes).unwrap();
        prop_assert_eq!(open(&keys, &file_place(), part, stored(&sealed)), Ok(bytes));
        let mut changed = stored(&sealed);
        let target = if in_header { &mut changed.header[..] } else { &mut changed.bytes[..] };
        target[byte.index(target.len())] ^= 1 << bit;
        prop_assert!(open(&keys, &file_place(), part, changed).is_err());
        let mut cut = stored(&sealed);
        cut.bytes.truncate(byte.index(cut.bytes.len()));
        prop_assert!(open(&keys, &file_place(), part, cut).is_err());
    }

    #[test]
    fn a_whole_chunk_comes_back(seed in any::<u8>(), number in 1..2_000_u32) {
        let keys = Keys::new(5);
        let bytes = vec![seed; CHUNK_BYTES];
        let sealed = seal(&keys, Part::Chunk(number), &bytes).unwrap();
        prop_assert_eq!(sealed.bytes().len(), CHUNK_BYTES + 16);
        prop_assert_eq!(open(&keys, &file_place(), Part::Chunk(number), stored(&sealed)), Ok(bytes));
        prop_assert!(open(&keys, &file_place(), Part::Last(number), stored(&sealed)).is_err());
    }
}
