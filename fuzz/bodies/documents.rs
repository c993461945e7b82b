//! What a file is, as a client says or a database keeps it, and the parts of one that a database hands out.

use strongroom::crypto::HEADER_BYTES;
use strongroom::crypto::file::{FilePlace, Part, StoredPart, open_part};
use strongroom::domain::id::{CollectionName, FieldId, FileId, RecordId, TenantId};
use strongroom::domain::value::{DocumentLabel, DocumentReference, FieldType, render_value};
use uuid::Uuid;

use super::sealed::subject_key;

/// What is read is written back as the very bytes that were read, and is JSON for whoever reads the record.
pub fn documents(data: &[u8]) {
    if let Some(label) = DocumentLabel::from_canonical(data) {
        assert!(label.to_canonical().as_slice() == data, "two texts mean the same label");
        assert!(serde_json::from_slice::<serde_json::Value>(data).is_ok(), "a label is no JSON");
    }
    let mut shown = Vec::new();
    let renders = render_value(FieldType::Document, data, &mut shown).is_ok();
    let Some(reference) = DocumentReference::from_canonical(data) else {
        assert!(!renders && shown.is_empty(), "what is no reference is shown");
        return;
    };
    #[expect(clippy::disallowed_methods, reason = "compares made-up bytes")]
    let is_same = reference.to_canonical().expose() == data;
    assert!(is_same, "two texts mean the same reference");
    assert!(renders && reference.label.to_canonical().as_slice() == shown, "a reference shows another label");
}

/// A part that was not sealed under the key does not open, as whatever part it is taken.
pub fn parts(data: &[u8]) {
    let Some((header, bytes)) = data.split_first_chunk::<HEADER_BYTES>() else { return };
    let place = FilePlace {
        tenant: TenantId::from_uuid(Uuid::from_u128(1)),
        collection: CollectionName::parse("documents").expect("a name"),
        record: RecordId::parse("r1").expect("an id"),
        subject: None,
        field: FieldId(1),
        file: FileId::from_uuid(Uuid::from_u128(3)),
    };
    for part in [Part::Label, Part::Chunk(1), Part::Last(1)] {
        let forged = StoredPart { header: *header, bytes: bytes.to_vec() };
        assert!(open_part(&place, part, forged, &subject_key()).is_err(), "a forged part opened");
    }
}
