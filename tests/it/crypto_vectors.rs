//! Known answers of seal v1, wrap v1 and file v1, which a second implementation made (`tests/vectors/`): the same salt
//! gives the same bytes, and the bytes open.

#![cfg(test)]

use std::collections::HashMap;
use std::sync::Mutex;

use serde::Deserialize;
use strongroom::crypto::digest::{hex, parse_hex, sha256};
use strongroom::crypto::file::{
    FilePlace, Part, StoredPart, headers_sha256, open_part, part_buffer, seal_part,
};
use strongroom::crypto::{
    PlainField, SealPlace, SealedRecord, StoredRecord, SubjectKey, TenantKey, WantedField, WrapPlace,
    header_key_id, open_fields, seal_record, unwrap_subject_key, wrap_subject_key,
};
use strongroom::domain::class::DataClass;
use strongroom::domain::id::{
    CollectionName, FieldId, FileId, KeyId, KeyOwner, RecordId, RecordVersion, SubjectId, TenantId,
};
use strongroom::domain::random::{NoRandomness, Random};
use strongroom::domain::secret::{Key256, SecretBytes};

#[derive(Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
enum Vector {
    Seal(SealVector),
    Wrap(WrapVector),
    File(FileVector),
}

#[derive(Deserialize)]
struct SealVector {
    name: String,
    #[serde(rename = "where")]
    place: SealWhere,
    seals: Vec<SealCase>,
}

#[derive(Deserialize)]
struct SealWhere {
    tenant: String,
    collection: String,
    record: String,
    version: u32,
    subject: String,
}

#[derive(Deserialize)]
struct SealCase {
    class: DataClass,
    subject_key: String,
    key_id: String,
    salt: String,
    header: String,
    fields: Vec<FieldCase>,
}

#[derive(Deserialize)]
struct FieldCase {
    id: u32,
    #[serde(rename = "type")]
    type_id: u16,
    plaintext: String,
    sealed: String,
}

#[derive(Deserialize)]
struct WrapVector {
    name: String,
    #[serde(rename = "where")]
    place: WrapWhere,
    tenant_key: String,
    tenant_key_id: String,
    key_id: String,
    salt: String,
    subject_key: String,
    header: String,
    wrapped: String,
}

#[derive(Deserialize)]
struct WrapWhere {
    tenant: String,
    owner: String,
    class: DataClass,
}

#[derive(Deserialize)]
struct FileVector {
    name: String,
    #[serde(rename = "where")]
    place: FileWhere,
    subject_key: String,
    key_id: String,
    parts: Vec<PartCase>,
    headers_sha256: String,
}

#[derive(Deserialize)]
struct FileWhere {
    tenant: String,
    collection: String,
    record: String,
    subject: String,
    file: String,
    field: u32,
}

#[derive(Deserialize)]
struct PartCase {
    number: u32,
    last: bool,
    /// Of its contents, which count from 0 to 250 again and again.
    bytes: usize,
    salt: String,
    header: String,
    sealed_bytes: usize,
    sealed_sha256: String,
}

/// A random source that says what it was told to, once.
struct Scripted(Mutex<Vec<u8>>);

impl Scripted {
    fn saying(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(bytes))
    }
}

impl Random for Scripted {
    fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness> {
        let mut rest = self.0.lock().map_err(|_| NoRandomness)?;
        if rest.len() < destination.len() {
            return Err(NoRandomness);
        }
        let later = rest.split_off(destination.len());
        destination.copy_from_slice(&rest);
        *rest = later;
        Ok(())
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../vectors/seal-v1.json")).unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    parse_hex(text).unwrap()
}

fn key_id(text: &str) -> KeyId {
    KeyId::new(text.parse().unwrap()).unwrap()
}

fn subject_key(id: &str, key: &str) -> SubjectKey {
    SubjectKey::generate(key_id(id), &Scripted::saying(bytes(key))).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the test compares what was opened")]
fn exposed(value: &SecretBytes) -> String {
    hex(value.expose())
}

impl SealVector {
    fn place(&self) -> SealPlace {
        SealPlace {
            tenant: TenantId::parse(&self.place.tenant).unwrap(),
            collection: CollectionName::parse(&self.place.collection).unwrap(),
            record: RecordId::parse(&self.place.record).unwrap(),
            version: RecordVersion::new(self.place.version).unwrap(),
            subject: SubjectId::parse(&self.place.subject),
        }
    }

    fn cases(&self) -> impl Iterator<Item = (DataClass, &FieldCase)> {
        self.seals.iter().flat_map(|seal| seal.fields.iter().map(|field| (seal.class, field)))
    }

    fn keys(&self) -> HashMap<DataClass, SubjectKey> {
        self.seals.iter().map(|seal| (seal.class, subject_key(&seal.key_id, &seal.subject_key))).collect()
    }

    fn seal(&self) -> SealedRecord {
        let fields: Vec<PlainField> = self
            .cases()
            .map(|(class, field)| PlainField {
                id: FieldId(field.id),
                type_id: field.type_id,
                class,
                value: SecretBytes::new(bytes(&field.plaintext)),
            })
            .collect();
        let salts = self.seals.iter().flat_map(|seal| bytes(&seal.salt)).collect();
        let keys = self.keys();
        seal_record(self.place(), &fields, |class| keys.get(&class), &Scripted::saying(salts)).unwrap()
    }
}

#[test]
fn seals_to_the_known_bytes() {
    let mut values = 0;
    for vector in vectors() {
        let Vector::Seal(vector) = vector else { continue };
        let record = vector.seal();
        assert_eq!(record.seals().len(), vector.seals.len(), "{}", vector.name);
        for (seal, case) in record.seals().iter().zip(&vector.seals) {
            assert_eq!(seal.class, case.class, "{}", vector.name);
            assert_eq!(hex(&seal.header), case.header, "{}", vector.name);
            assert_eq!(seal.key_id(), Some(key_id(&case.key_id)), "{}", vector.name);
        }
        assert_eq!(record.fields().len(), vector.cases().count(), "{}", vector.name);
        for (class, case) in vector.cases() {
            let field = record.fields().iter().find(|field| field.id.0 == case.id).unwrap();
            assert_eq!(hex(&field.bytes), case.sealed, "{} field {}", vector.name, case.id);
            assert_eq!(record.seals()[usize::from(field.seal)].class, class, "{}", vector.name);
            values += 1;
        }
    }
    assert_eq!(values, 15, "the vectors changed: see tests/vectors/README.md");
}

#[test]
fn opens_the_known_bytes() {
    for vector in vectors() {
        let Vector::Seal(vector) = vector else { continue };
        let stored = stored_from(&vector);
        let keys = vector.keys();
        let wanted: Vec<WantedField> = vector
            .cases()
            .map(|(class, case)| WantedField { id: FieldId(case.id), type_id: case.type_id, class })
            .collect();
        let opened = open_fields(&stored, &wanted, |class, id| keys.get(&class).filter(|key| key.id() == id));
        let opened = opened.unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        assert_eq!(opened.len(), wanted.len(), "{}", vector.name);
        for (field, (_, case)) in opened.iter().zip(vector.cases()) {
            assert_eq!(field.id.0, case.id, "{}", vector.name);
            assert_eq!(exposed(&field.value), case.plaintext, "{} field {}", vector.name, case.id);
        }
    }
}

/// Only from the vector's bytes: nothing that this crate sealed.
fn stored_from(vector: &SealVector) -> StoredRecord {
    use strongroom::crypto::{Seal, SealedField};
    let seals = vector
        .seals
        .iter()
        .map(|case| Seal { class: case.class, header: bytes(&case.header).try_into().unwrap() })
        .collect();
    let fields = (0..)
        .zip(&vector.seals)
        .flat_map(|(seal, case)| {
            case.fields.iter().map(move |field| SealedField {
                id: FieldId(field.id),
                seal,
                bytes: bytes(&field.sealed).into(),
            })
        })
        .collect();
    StoredRecord { place: vector.place(), seals, fields }
}

#[test]
fn wraps_and_unwraps_the_known_key() {
    let mut tried = 0;
    for vector in vectors() {
        let Vector::Wrap(vector) = vector else { continue };
        let tenant_key = TenantKey::new(
            key_id(&vector.tenant_key_id),
            Key256::copied_from(&bytes(&vector.tenant_key)).unwrap(),
        );
        let owner = KeyOwner::Subject(SubjectId::parse(&vector.place.owner).unwrap());
        let place = WrapPlace {
            tenant: TenantId::parse(&vector.place.tenant).unwrap(),
            owner: &owner,
            class: vector.place.class,
            key_id: key_id(&vector.key_id),
        };
        let salt = || Scripted::saying(bytes(&vector.salt));
        let key = subject_key(&vector.key_id, &vector.subject_key);

        let wrapped = wrap_subject_key(&tenant_key, &place, &key, &salt()).unwrap();
        assert_eq!(hex(&wrapped.header), vector.header, "{}", vector.name);
        assert_eq!(hex(&wrapped.wrapped), vector.wrapped, "{}", vector.name);
        assert_eq!(header_key_id(&wrapped.header), Some(tenant_key.id()), "{}", vector.name);

        // A key cannot be read back, but wrapping it again gives the same bytes only if it is the same key.
        let unwrapped = unwrap_subject_key(&tenant_key, &place, &wrapped).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(unwrapped.id(), place.key_id, "{}", vector.name);
        let again = wrap_subject_key(&tenant_key, &place, &unwrapped, &salt()).unwrap();
        assert_eq!(hex(&again.wrapped), vector.wrapped, "{}", vector.name);
        tried += 1;
    }
    assert_eq!(tried, 1, "the vectors changed: see tests/vectors/README.md");
}

#[test]
fn seals_and_opens_the_known_files() {
    let mut tried = 0;
    for vector in vectors() {
        let Vector::File(vector) = vector else { continue };
        let place = FilePlace {
            tenant: TenantId::parse(&vector.place.tenant).unwrap(),
            collection: CollectionName::parse(&vector.place.collection).unwrap(),
            record: RecordId::parse(&vector.place.record).unwrap(),
            subject: SubjectId::parse(&vector.place.subject),
            field: FieldId(vector.place.field),
            file: FileId::parse(&vector.place.file).unwrap(),
        };
        let key = subject_key(&vector.key_id, &vector.subject_key);
        let mut headers = Vec::new();
        for case in &vector.parts {
            let part = match (case.number, case.last) {
                (0, _) => Part::Label,
                (number, false) => Part::Chunk(number),
                (number, true) => Part::Last(number),
            };
            let contents: Vec<u8> = (0_u8..=250).cycle().take(case.bytes).collect();
            let mut buffer = part_buffer();
            buffer.extend_from_slice(&contents);
            let salt = Scripted::saying(bytes(&case.salt));
            let sealed = seal_part(&place, part, buffer, &key, &salt).unwrap();
            let what = format!("{}, part {}", vector.name, case.number);
            assert_eq!(hex(sealed.header()), case.header, "{what}");
            assert_eq!(sealed.bytes().len(), case.sealed_bytes, "{what}");
            assert_eq!(hex(&sha256(sealed.bytes())), case.sealed_sha256, "{what}");
            headers.push(*sealed.header());
            let stored = StoredPart { header: *sealed.header(), bytes: sealed.bytes().to_vec() };
            let opened = open_part(&place, part, stored, &key).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(exposed(&opened), hex(&contents), "{what}");
            tried += 1;
        }
        assert_eq!(hex(&headers_sha256(&headers)), vector.headers_sha256, "{}", vector.name);
    }
    assert_eq!(tried, 5, "the vectors changed: see tests/vectors/README.md");
}
