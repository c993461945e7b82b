//! Properties of the whole module, through its public API: what is sealed opens, and nothing else does.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::class::DataClass;
use crate::domain::id::{
    CollectionName, FieldId, KeyId, KeyOwner, RecordId, RecordVersion, SubjectId, TenantId,
};
use crate::domain::random::{NoRandomness, Random};
use crate::domain::secret::{Key256, SecretBytes};

use super::digest::sha256;
use super::*;

/// Different bytes for every call, the same in every run.
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness> {
        for chunk in destination.chunks_mut(32) {
            let block = sha256(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

struct NoneLeft;

impl Random for NoneLeft {
    fn fill(&self, _: &mut [u8]) -> Result<(), NoRandomness> {
        Err(NoRandomness)
    }
}

fn random() -> Counting {
    Counting(AtomicU64::new(1))
}

/// One subject's keys, one per class.
struct Keys(Vec<(DataClass, SubjectKey)>);

impl Keys {
    fn new(id: i64) -> Self {
        let id = KeyId::new(id).unwrap();
        // The seed follows the id, so that keys of different ids differ.
        let random = Counting(AtomicU64::new(id.as_u64() << 32));
        Self(DataClass::ALL.map(|class| (class, SubjectKey::generate(id, &random).unwrap())).into())
    }

    fn of(&self, class: DataClass) -> Option<&SubjectKey> {
        self.0.iter().find(|(of, _)| *of == class).map(|(_, key)| key)
    }

    fn seal(&self, place: &SealPlace, fields: &[PlainField]) -> SealedRecord {
        seal_record(place.clone(), fields, |class| self.of(class), &random()).unwrap()
    }

    fn open(&self, stored: &StoredRecord, wanted: &[WantedField]) -> Result<Vec<(u32, Vec<u8>)>, OpenError> {
        let opened = open_fields(stored, wanted, |class, id| self.of(class).filter(|key| key.id() == id))?;
        Ok(opened.iter().map(|field| (field.id.0, exposed(&field.value))).collect())
    }
}

#[expect(clippy::disallowed_methods, reason = "the test compares what was opened")]
fn exposed(value: &SecretBytes) -> Vec<u8> {
    value.expose().to_vec()
}

fn tenant(last: u128) -> TenantId {
    TenantId::from_uuid(uuid::Uuid::from_u128(last))
}

fn subject(last: u128) -> SubjectId {
    SubjectId::from_uuid(uuid::Uuid::from_u128(last))
}

pub(super) fn place() -> SealPlace {
    SealPlace {
        tenant: tenant(1),
        collection: CollectionName::parse("patients").unwrap(),
        record: RecordId::parse("record-1").unwrap(),
        version: RecordVersion::new(3).unwrap(),
        subject: Some(subject(2)),
    }
}

/// Every place that differs from [`place`] in one part.
fn other_places() -> Vec<SealPlace> {
    vec![
        SealPlace { tenant: tenant(9), ..place() },
        SealPlace { collection: CollectionName::parse("patient").unwrap(), ..place() },
        SealPlace { record: RecordId::parse("record-2").unwrap(), ..place() },
        SealPlace { version: RecordVersion::new(2).unwrap(), ..place() },
        SealPlace { subject: Some(subject(9)), ..place() },
        SealPlace { subject: None, ..place() },
        // The same letters, cut elsewhere: what the length prefixes are for.
        SealPlace {
            collection: CollectionName::parse("patientsr").unwrap(),
            record: RecordId::parse("ecord-1").unwrap(),
            ..place()
        },
    ]
}

fn plain(id: u32, class: DataClass, value: &[u8]) -> PlainField {
    PlainField { id: FieldId(id), type_id: 1, class, value: SecretBytes::new(value.to_vec()) }
}

/// Two PHI fields of the same size, and two PII fields.
fn sample() -> Vec<PlainField> {
    vec![
        plain(7, DataClass::Phi, b"123-45-6789"),
        plain(2, DataClass::Pii, b"ada@example.org"),
        plain(4, DataClass::Phi, b"1990-01-01"),
        plain(9, DataClass::Pii, &[b'n'; 300]),
    ]
}

fn stored(sealed: &SealedRecord) -> StoredRecord {
    StoredRecord {
        place: sealed.place().clone(),
        seals: sealed.seals().to_vec(),
        fields: sealed.fields().to_vec(),
    }
}

fn change_bytes(field: &mut SealedField, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = field.bytes.to_vec();
    change(&mut bytes);
    field.bytes = bytes.into();
}

fn wanted(fields: &[PlainField]) -> Vec<WantedField> {
    fields
        .iter()
        .map(|field| WantedField { id: field.id, type_id: field.type_id, class: field.class })
        .collect()
}

/// A stored record, what to want of it, and the keys.
fn sealed_sample() -> (StoredRecord, Vec<WantedField>, Keys) {
    let keys = Keys::new(5);
    let fields = sample();
    (stored(&keys.seal(&place(), &fields)), wanted(&fields), keys)
}

/// No field opens, neither alone nor with the others.
fn assert_nothing_opens(keys: &Keys, stored: &StoredRecord, wanted: &[WantedField], expected: OpenError) {
    assert_eq!(keys.open(stored, wanted), Err(expected));
    for one in wanted.iter().filter(|one| stored.fields.iter().any(|field| field.id == one.id)) {
        assert_eq!(keys.open(stored, &[*one]), Err(expected), "field {}", one.id.0);
    }
}

mod files;
mod properties;
mod wrapping;

mod sealing {
    use super::*;

    #[test]
    fn layout_of_a_sealed_record() {
        let sealed = Keys::new(5).seal(&place(), &sample());
        let classes: Vec<_> = sealed.key_ids().map(|(class, id)| (class, id.as_i64())).collect();
        assert_eq!(classes, [(DataClass::Phi, 5), (DataClass::Pii, 5)]);
        let fields: Vec<_> = sealed.fields().iter().map(|f| (f.id.0, f.seal, f.bytes.len())).collect();
        assert_eq!(fields, [(2, 1, 32), (4, 0, 32), (7, 0, 32), (9, 1, 304 + 16)]);
        assert_ne!(sealed.seals()[0].header[10..34], sealed.seals()[1].header[10..34], "the salts are equal");
    }

    #[test]
    fn a_tombstone_has_no_seals_and_needs_no_key_or_randomness() {
        let sealed = seal_record(place(), &[], |_| None, &NoneLeft).unwrap_or_else(|e| panic!("{e}"));
        assert!(sealed.seals().is_empty() && sealed.fields().is_empty());
        assert_eq!(sealed.headers_sha256(), sha256(b""));
        assert_eq!(Keys::new(1).open(&stored(&sealed), &wanted(&sample())), Ok(vec![]));
    }

    #[test]
    fn the_digest_of_headers_does_not_depend_on_stored_order() {
        let sealed = Keys::new(5).seal(&place(), &sample());
        let mut stored = stored(&sealed);
        let joined = [sealed.seals()[0].header, sealed.seals()[1].header].concat();
        assert_eq!(sealed.headers_sha256(), sha256(&joined));
        stored.seals.reverse();
        assert_eq!(stored.headers_sha256(), sealed.headers_sha256());
    }

    #[test]
    fn refusals() {
        let keys = Keys::new(5);
        let seal = |fields: &[PlainField], random: &dyn Random| {
            seal_record(place(), fields, |class| keys.of(class).filter(|_| class != DataClass::Chd), random)
                .err()
        };
        let chd = [plain(1, DataClass::Chd, b"4242424242424242")];
        assert_eq!(seal(&chd, &random()), Some(SealError::MissingKey));
        assert_eq!(seal(&sample(), &NoneLeft), Some(SealError::NoRandomness));
        let twice =
            [plain(1, DataClass::Phi, b"a"), plain(2, DataClass::Phi, b"b"), plain(1, DataClass::Pii, b"c")];
        assert_eq!(seal(&twice, &random()), Some(SealError::DuplicateField));
        let large = [plain(1, DataClass::Phi, &vec![0; MAX_VALUE_BYTES + 1])];
        assert_eq!(seal(&large, &random()), Some(SealError::ValueTooLarge));
    }

    #[test]
    fn sealing_twice_shares_no_bytes() {
        let (keys, random) = (Keys::new(5), random());
        let seal = || seal_record(place(), &sample(), |class| keys.of(class), &random).unwrap();
        let (one, other) = (seal(), seal());
        for (left, right) in one.fields().iter().zip(other.fields()) {
            assert_ne!(left.bytes, right.bytes);
        }
    }
}

mod opening {
    use super::*;

    #[test]
    fn asks_only_for_the_keys_it_needs_and_leaves_out_what_is_not_listed() {
        let (stored, _, keys) = sealed_sample();
        let phi = WantedField { id: FieldId(4), type_id: 1, class: DataClass::Phi };
        let unlisted = WantedField { id: FieldId(5), type_id: 1, class: DataClass::Chd };
        let asked = std::cell::RefCell::new(Vec::new());
        let opened = open_fields(&stored, &[unlisted, phi], |class, id| {
            asked.borrow_mut().push((class, id.as_i64()));
            keys.of(class)
        });
        let ids: Vec<_> = opened.unwrap_or_else(|e| panic!("{e}")).iter().map(|field| field.id).collect();
        assert_eq!(ids, [FieldId(4)]);
        assert_eq!(asked.into_inner(), [(DataClass::Phi, 5)]);
    }

    #[test]
    fn a_key_that_is_missing_or_another() {
        let (stored, wanted, keys) = sealed_sample();
        assert_eq!(open_fields(&stored, &wanted, |_, _| None).err(), Some(OpenError::MissingKey));
        // Another id, another class's key, and another subject's key of the same id.
        let (other_id, other_subject) =
            (Keys::new(6), SubjectKey::generate(KeyId::new(5).unwrap(), &random()));
        let other_subject = other_subject.unwrap();
        let wrong = [
            open_fields(&stored, &wanted, |class, _| other_id.of(class)),
            open_fields(&stored, &wanted, |_, _| keys.of(DataClass::Chd)),
            open_fields(&stored, &wanted, |_, _| Some(&other_subject)),
        ];
        for opened in wrong {
            assert_eq!(opened.err(), Some(OpenError::WrongKey));
        }
    }

    type Change = fn(&mut StoredRecord);

    /// Shapes that sealing never makes.
    const MALFORMED: [(&str, Change); 12] = [
        ("a field twice", |stored| stored.fields.push(stored.fields[0].clone())),
        ("a field twice with other bytes", |stored| {
            let bytes = stored.fields[1].bytes.clone();
            stored.fields.push(SealedField { bytes, ..stored.fields[0].clone() });
        }),
        ("a field of no seal", |stored| stored.fields[0].seal = 2),
        ("a field of no seal, far", |stored| stored.fields[0].seal = 255),
        ("no seals", |stored| stored.seals.clear()),
        ("a seal of no field", |stored| {
            let header = stored.seals[0].header;
            stored.seals.push(Seal { class: DataClass::Chd, header });
        }),
        ("a class twice", |stored| stored.seals[1].class = stored.seals[0].class),
        ("a seal twice", |stored| {
            stored.seals.push(stored.seals[0].clone());
            stored.fields[0].seal = 2;
        }),
        ("a thousand seals", |stored| stored.seals = vec![stored.seals[0].clone(); 1000]),
        ("fields of another class's seal", |stored| {
            stored.fields.iter_mut().for_each(|field| field.seal ^= 1);
        }),
        ("classes exchanged", |stored| {
            stored.seals[0].class = DataClass::Pii;
            stored.seals[1].class = DataClass::Phi;
        }),
        ("another version of the format", |stored| stored.seals[1].header[0] = 2),
    ];

    #[test]
    fn malformed_records_are_refused_before_a_key_is_asked_for() {
        for (what, change) in MALFORMED {
            let (mut stored, wanted, _) = sealed_sample();
            change(&mut stored);
            let opened = open_fields(&stored, &wanted, |_, _| panic!("{what}: asked for a key"));
            assert_eq!(opened.err(), Some(OpenError::Malformed), "{what}");
        }
    }

    #[test]
    fn a_field_wanted_in_another_class_or_type() {
        let (stored, wanted, keys) = sealed_sample();
        let other_class = WantedField { class: DataClass::Chd, ..wanted[0] };
        assert_eq!(keys.open(&stored, &[other_class]), Err(OpenError::Malformed));
        let other_type = WantedField { type_id: 2, ..wanted[0] };
        assert_eq!(keys.open(&stored, &[other_type]), Err(OpenError::Tampered));
    }

    #[test]
    fn any_bit_of_a_header() {
        let (stored, wanted, keys) = sealed_sample();
        for bit in 0..HEADER_BYTES * 8 {
            let mut stored = stored.clone();
            stored.seals[0].header[bit / 8] ^= 1 << (bit % 8);
            // A key for every id, so that a changed id is not merely a missing key.
            let opened = open_fields(&stored, &wanted[..1], |class, _| keys.of(class));
            let expected = if bit < 16 || bit == 23 { OpenError::Malformed } else { OpenError::WrongKey };
            assert_eq!(opened.err(), Some(expected), "bit {bit}");
        }
    }

    #[test]
    fn any_bit_or_length_of_a_value() {
        let (stored, wanted, keys) = sealed_sample();
        let at = stored.fields.iter().position(|field| field.id == wanted[0].id).unwrap();
        for bit in 0..stored.fields[at].bytes.len() * 8 {
            let mut stored = stored.clone();
            change_bytes(&mut stored.fields[at], |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            assert_eq!(keys.open(&stored, &wanted), Err(OpenError::Tampered), "bit {bit}");
        }
        for length in (0..80).filter(|length| *length != stored.fields[at].bytes.len()) {
            let mut stored = stored.clone();
            change_bytes(&mut stored.fields[at], |bytes| bytes.resize(length, 0));
            assert_eq!(keys.open(&stored, &wanted), Err(OpenError::Tampered), "{length} bytes");
        }
    }

    #[test]
    fn another_place() {
        let (stored, wanted, keys) = sealed_sample();
        for place in other_places() {
            let moved = StoredRecord { place, ..stored.clone() };
            assert_nothing_opens(&keys, &moved, &wanted, OpenError::Tampered);
        }
    }

    #[test]
    fn a_field_dropped_added_or_renumbered() {
        let (stored, wanted, keys) = sealed_sample();
        for at in 0..stored.fields.len() {
            let mut dropped = stored.clone();
            dropped.fields.remove(at);
            assert_nothing_opens(&keys, &dropped, &wanted, OpenError::Tampered);
            let mut added = stored.clone();
            added.fields.push(SealedField { id: FieldId(1), ..stored.fields[at].clone() });
            assert_nothing_opens(&keys, &added, &wanted, OpenError::Tampered);
            let mut renumbered = stored.clone();
            renumbered.fields[at].id = FieldId(1);
            assert_nothing_opens(&keys, &renumbered, &wanted, OpenError::Tampered);
        }
        // A whole seal with its fields.
        let mut trimmed = stored.clone();
        trimmed.seals.remove(1);
        trimmed.fields.retain(|field| field.seal == 0);
        assert_nothing_opens(&keys, &trimmed, &wanted, OpenError::Tampered);
    }

    #[test]
    fn fields_swapped_or_mixed_between_sealings() {
        let (stored, wanted, keys) = sealed_sample();
        let mut swapped = stored.clone();
        swapped.fields[1].bytes = stored.fields[2].bytes.clone();
        swapped.fields[2].bytes = stored.fields[1].bytes.clone();
        assert_eq!(keys.open(&swapped, &wanted), Err(OpenError::Tampered));

        // The same version, sealed again: other salts, so the values of one do not open with the header of
        // the other.
        let again =
            seal_record(place(), &sample(), |class| keys.of(class), &Counting(AtomicU64::new(99))).unwrap();
        let mut mixed = stored.clone();
        mixed.fields[1] = again.fields()[1].clone();
        assert_eq!(keys.open(&mixed, &wanted), Err(OpenError::Tampered));
        let headers = StoredRecord { seals: again.seals().to_vec(), ..stored.clone() };
        assert_nothing_opens(&keys, &headers, &wanted, OpenError::Tampered);
    }
}
