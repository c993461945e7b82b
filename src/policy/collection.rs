//! A collection and its fields, as a reviewed file declares them.

use std::collections::HashMap;

use crate::domain::class::DataClass;
use crate::domain::id::{CollectionName, FieldId, FieldName};
use crate::domain::index::{FieldIndex, NORMALISATION_VERSION};
use crate::domain::value::{FieldType, Mask, ValueLimits};

/// Paths of the interface that no collection may take.
pub(super) const RESERVED_NAMES: [&str; 7] =
    ["subjects", "relay", "intake", "audit", "keys", "break-glass", "openapi.json"];

/// How records of a collection relate to the person they are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
pub enum SubjectRule {
    /// Each record is a person: creating one creates a subject.
    #[serde(rename = "owns")]
    OwnsSubject,
    /// Each record names an existing subject.
    #[serde(rename = "refers")]
    RefersToSubject,
}

/// Whose second-level key seals a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyScope {
    /// The subject's: erasing the person erases the record.
    Subject,
    /// The record's own: deleting the record destroys a key.
    Record,
}

/// What of a payment card a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardPart {
    /// The number, or what a mask leaves of it.
    Number,
    /// What tells whether two numbers are one.
    Fingerprint,
}

/// One field of a collection. Its id is permanent; renaming it keeps the id.
#[derive(Clone, Debug)]
pub struct Field {
    pub id: FieldId,
    pub name: FieldName,
    pub field_type: FieldType,
    pub class: DataClass,
    pub mask: Mask,
    pub card: Option<CardPart>,
    /// Must be there on create and cannot be removed.
    pub required: bool,
    pub limits: ValueLimits,
    /// How it can be looked for; `None` where it cannot.
    pub index: Option<FieldIndex>,
    /// One line for people and for the OpenAPI document.
    pub about: Box<str>,
}

/// A collection; made only by loading a policy set.
#[derive(Debug)]
pub struct Collection {
    name: CollectionName,
    subject: SubjectRule,
    key_scope: KeyScope,
    about: Box<str>,
    /// Ascending by id.
    fields: Vec<Field>,
    by_name: HashMap<FieldName, usize>,
    /// Of what its indexes are; `None` where there are none.
    index_digest: Option<[u8; 32]>,
}

impl Collection {
    /// Fields in any order; ids and names are unique (the loader has checked).
    pub(super) fn new(
        name: CollectionName,
        subject: SubjectRule,
        key_scope: KeyScope,
        about: Box<str>,
        mut fields: Vec<Field>,
    ) -> Self {
        fields.sort_by_key(|field| field.id);
        let by_name = fields.iter().enumerate().map(|(at, field)| (field.name.clone(), at)).collect();
        let index_digest = index_digest(&fields);
        Self { name, subject, key_scope, about, fields, by_name, index_digest }
    }

    pub const fn name(&self) -> &CollectionName {
        &self.name
    }

    pub const fn subject(&self) -> SubjectRule {
        self.subject
    }

    pub const fn key_scope(&self) -> KeyScope {
        self.key_scope
    }

    pub fn about(&self) -> &str {
        &self.about
    }

    /// Ascending by id.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        let name = FieldName::parse(name)?;
        self.by_name.get(&name).and_then(|at| self.fields.get(*at))
    }

    pub fn field_by_id(&self, id: FieldId) -> Option<&Field> {
        self.fields.binary_search_by_key(&id, |field| field.id).ok().and_then(|at| self.fields.get(at))
    }

    /// Fields that can be looked for, and how.
    pub fn indexed(&self) -> impl Iterator<Item = (&Field, &FieldIndex)> {
        self.fields.iter().filter_map(|field| Some((field, field.index.as_ref()?)))
    }

    /// A digest of its indexes: records that were stored under another have other terms. `None` where it has none.
    pub const fn index_digest(&self) -> Option<&[u8; 32]> {
        self.index_digest.as_ref()
    }
}

/// Over fields ascending by id: u32 id ‖ u16 type ‖ u16 transform ‖ u8 bits for each index, after the u16 version of the
/// normalisation.
fn index_digest(fields: &[Field]) -> Option<[u8; 32]> {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    digest.update(&NORMALISATION_VERSION.to_be_bytes());
    let mut indexes = 0;
    for field in fields {
        for spec in field.index.iter().flat_map(FieldIndex::specs) {
            digest.update(&field.id.0.to_be_bytes());
            digest.update(&field.field_type.type_id().to_be_bytes());
            digest.update(&spec.transform.number().to_be_bytes());
            digest.update(&[spec.bits]);
            indexes += 1;
        }
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    (indexes > 0).then_some(bytes)
}
