//! The `fields` object of a request body against a collection: every fault is found, none echoes what was sent.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::collection::{Collection, Field};
use crate::domain::class::DataClass;
use crate::domain::id::{FieldId, FieldName};
use crate::domain::secret::SecretBytes;
use crate::domain::value::{ValueError, parse_value};

/// Most faults that one answer lists.
const MAX_FAULTS: usize = 64;

/// Whether the fields make a record or change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseMode {
    /// Required fields must be there; `null` is refused.
    Create,
    /// At least one field; `null` removes one that is not required.
    Patch,
}

/// A field's canonical plaintext, with what sealing needs to know of it.
pub struct ParsedField {
    pub id: FieldId,
    pub type_id: u16,
    pub class: DataClass,
    pub value: SecretBytes,
}

/// What a body sets and removes, each ascending by field id.
#[derive(Default)]
pub struct ParsedFields {
    pub set: Vec<ParsedField>,
    pub removed: Vec<FieldId>,
}

/// One thing that is wrong with the fields; the name is there only when the collection has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    pub field: Option<FieldName>,
    pub code: FieldFaultCode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldFaultCode {
    /// The fields are not one JSON object.
    NotAnObject,
    /// A field that the collection does not have.
    UnknownField,
    /// A field named twice.
    DuplicateField,
    /// A required field is missing, or would be removed.
    Required,
    /// A patch that changes nothing.
    NothingToChange,
    Value(ValueError),
}

impl FieldFaultCode {
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::UnknownField => "unknown_field",
            Self::DuplicateField => "duplicate_field",
            Self::Required => "required",
            Self::NothingToChange => "nothing_to_change",
            Self::Value(error) => error.code(),
        }
    }
}

/// Everything that is wrong with the fields, at most 64 faults; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fields do not fit the collection, see the list of faults")]
pub struct FieldFaults(Vec<FieldFault>);

impl FieldFaults {
    pub fn faults(&self) -> &[FieldFault] {
        &self.0
    }
}

impl Collection {
    /// Parses the JSON object `raw` as fields of this collection. The text is read in place; the only copies of
    /// plaintext are the canonical values.
    pub fn parse_fields(&self, raw: &RawValue, mode: ParseMode) -> Result<ParsedFields, FieldFaults> {
        let mut reader = Reader { collection: self, mode, seen: HashMap::new(), faults: Vec::new() };
        let mut json = serde_json::Deserializer::from_str(raw.get());
        if (&mut json).deserialize_map(&mut reader).and_then(|()| json.end()).is_err() {
            reader.fault(None, FieldFaultCode::NotAnObject);
        }
        reader.finish()
    }
}

struct Reader<'c> {
    collection: &'c Collection,
    mode: ParseMode,
    /// Fields seen; `None` for one to remove.
    seen: HashMap<FieldId, Option<SecretBytes>>,
    faults: Vec<FieldFault>,
}

impl<'c> Reader<'c> {
    fn member(&mut self, name: &str, value: &RawValue) {
        let collection = self.collection;
        let Some(field) = collection.field(name) else {
            self.fault(None, FieldFaultCode::UnknownField);
            return;
        };
        if self.seen.contains_key(&field.id) {
            self.fault(Some(field), FieldFaultCode::DuplicateField);
            return;
        }
        let kept = if self.mode == ParseMode::Patch && value.get() == "null" {
            if field.required {
                self.fault(Some(field), FieldFaultCode::Required);
            }
            None
        } else {
            parse_value(field.field_type, &field.limits, value)
                .map_err(|error| self.fault(Some(field), FieldFaultCode::Value(error)))
                .ok()
        };
        self.seen.insert(field.id, kept);
    }

    fn fault(&mut self, field: Option<&'c Field>, code: FieldFaultCode) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(FieldFault { field: field.map(|field| field.name.clone()), code });
        }
    }

    fn finish(mut self) -> Result<ParsedFields, FieldFaults> {
        let collection = self.collection;
        if self.mode == ParseMode::Create {
            for field in collection.fields().iter().filter(|field| field.required) {
                if !self.seen.contains_key(&field.id) {
                    self.fault(Some(field), FieldFaultCode::Required);
                }
            }
        } else if self.seen.is_empty() && self.faults.is_empty() {
            self.fault(None, FieldFaultCode::NothingToChange);
        }
        if !self.faults.is_empty() {
            return Err(FieldFaults(self.faults));
        }
        let mut parsed = ParsedFields::default();
        for field in collection.fields() {
            match self.seen.remove(&field.id) {
                Some(Some(value)) => parsed.set.push(ParsedField {
                    id: field.id,
                    type_id: field.field_type.type_id(),
                    class: field.class,
                    value,
                }),
                Some(None) => parsed.removed.push(field.id),
                None => {}
            }
        }
        Ok(parsed)
    }
}

impl<'de> Visitor<'de> for &mut Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            let value: &'de RawValue = members.next_value()?;
            self.member(&name, value);
        }
        Ok(())
    }
}
