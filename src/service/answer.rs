//! What use cases hand to the door: facts about a write, and a record's body that is wiped after it is sent.

use bytes::Bytes;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::audit::Receipt;
use crate::crypto::SealPlace;
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, FieldName, RecordId, RecordVersion, SubjectId};
use crate::domain::value::append_wiping;

/// What a create has made, now or the first time it was asked for.
#[derive(Debug)]
pub struct Created {
    /// In the order of the request; a single create has one.
    pub records: Vec<Written>,
    /// Answered from an earlier request under the same idempotency key.
    pub is_repeated: bool,
}

impl Created {
    pub(super) fn now(written: Written) -> Self {
        Self { records: vec![written], is_repeated: false }
    }
}

/// A write that is durable, with its audit entry.
#[derive(Debug)]
pub struct Written {
    pub collection: CollectionName,
    pub record: RecordId,
    pub subject: Option<SubjectId>,
    pub version: RecordVersion,
    pub at: Timestamp,
}

impl Written {
    /// The receipt is the proof that version and entry are durable.
    pub(super) fn confirmed(place: &SealPlace, at: Timestamp, _receipt: &Receipt) -> Self {
        Self {
            collection: place.collection.clone(),
            record: place.record.clone(),
            subject: place.subject,
            version: place.version,
            at,
        }
    }

    /// A first version that an earlier request stored; the receipt is the proof that telling it again is on record.
    pub(super) fn again(
        collection: &CollectionName,
        record: &RecordId,
        subject: SubjectId,
        at: Timestamp,
        _receipt: &Receipt,
    ) -> Self {
        Self {
            collection: collection.clone(),
            record: record.clone(),
            subject: Some(subject),
            version: RecordVersion::FIRST,
            at,
        }
    }

    /// Ids and times only; a caller who wants the values back reads them, and that is another entry in the log.
    pub fn to_json(&self) -> Value {
        let mut answer = json!({
            "id": self.record.as_str(),
            "collection": self.collection.as_str(),
            "version": self.version.get(),
            "updated_at": self.at.to_rfc3339(),
        });
        if let (Some(subject), Some(members)) = (self.subject, answer.as_object_mut()) {
            members.insert(String::from("subject"), Value::String(subject.to_string()));
        }
        answer
    }
}

/// A record as it leaves: only `service::read` makes one, and only with an audit receipt.
pub struct RecordAnswer {
    pub version: RecordVersion,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl RecordAnswer {
    /// The JSON body; the memory is wiped when the last reference to it is gone.
    pub fn into_body(self) -> Bytes {
        Bytes::from_owner(self.body)
    }
}

/// Writes the body of an answer into one buffer. Where that has to grow, what it outgrows is wiped.
pub(super) struct BodyWriter {
    out: Zeroizing<Vec<u8>>,
    is_first: bool,
}

impl BodyWriter {
    /// `room` is what [`Self::field`] and [`Self::finish`] are going to add, as far as that is known; ids and times are
    /// counted here.
    pub fn new(place: &SealPlace, created_at: Timestamp, updated_at: Timestamp, room: usize) -> Self {
        let mut out = Zeroizing::new(Vec::with_capacity(room + 512));
        out.extend_from_slice(br#"{"id":""#);
        out.extend_from_slice(place.record.as_str().as_bytes());
        out.extend_from_slice(br#"","collection":""#);
        out.extend_from_slice(place.collection.as_str().as_bytes());
        if let Some(subject) = place.subject {
            out.extend_from_slice(br#"","subject":""#);
            out.extend_from_slice(subject.to_string().as_bytes());
        }
        out.extend_from_slice(br#"","version":"#);
        out.extend_from_slice(place.version.get().to_string().as_bytes());
        out.extend_from_slice(br#","created_at":""#);
        out.extend_from_slice(created_at.to_rfc3339().as_bytes());
        out.extend_from_slice(br#"","updated_at":""#);
        out.extend_from_slice(updated_at.to_rfc3339().as_bytes());
        out.extend_from_slice(br#"","fields":{"#);
        Self { out, is_first: true }
    }

    /// Adds `"name":` and lets `write` append the value as JSON.
    pub fn field<E>(
        &mut self,
        name: &FieldName,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.is_first {
            append_wiping(&mut self.out, b",");
        }
        self.is_first = false;
        append_wiping(&mut self.out, b"\"");
        append_wiping(&mut self.out, name.as_str().as_bytes());
        append_wiping(&mut self.out, b"\":");
        write(&mut self.out)
    }

    /// Ends the body with the names that were masked and withheld.
    pub fn finish(mut self, masked: &[FieldName], withheld: &[&FieldName]) -> Zeroizing<Vec<u8>> {
        append_wiping(&mut self.out, b"}");
        self.names(b",\"masked\":[", masked.iter());
        self.names(b",\"withheld\":[", withheld.iter().copied());
        append_wiping(&mut self.out, b"}");
        self.out
    }

    fn names<'n>(&mut self, opening: &[u8], names: impl ExactSizeIterator<Item = &'n FieldName>) {
        if names.len() == 0 {
            return;
        }
        append_wiping(&mut self.out, opening);
        for (index, name) in names.enumerate() {
            if index > 0 {
                append_wiping(&mut self.out, b",");
            }
            append_wiping(&mut self.out, b"\"");
            append_wiping(&mut self.out, name.as_str().as_bytes());
            append_wiping(&mut self.out, b"\"");
        }
        append_wiping(&mut self.out, b"]");
    }
}
