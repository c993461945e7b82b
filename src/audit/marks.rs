//! What an entry is looked for by: read from its bytes when it gets its number, and from a filter when somebody asks.
//!
//! Not here: where marks are kept and searched (`storage::search`). They only narrow a search down: what is found by them
//! is compared with the entry itself.

use std::borrow::Cow;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::label::label_held;
use super::query::Filter;

/// Longer than any that the service writes.
const LONGEST_WORD: usize = 256;

/// What has few values, in one of the combinations that there are. Empty where the entry has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kind<'a> {
    pub act: Cow<'a, str>,
    pub status: Cow<'a, str>,
    pub actor: Cow<'a, str>,
    pub collection: Cow<'a, str>,
    pub purpose: Cow<'a, str>,
}

impl Kind<'_> {
    pub fn into_owned(self) -> Kind<'static> {
        let Self { act, status, actor, collection, purpose } = self;
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Kind {
            act: owned(act),
            status: owned(status),
            actor: owned(actor),
            collection: owned(collection),
            purpose: owned(purpose),
        }
    }
}

/// The marks of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks<'a> {
    pub kind: Kind<'a>,
    pub subject: Option<i64>,
    pub record: Option<i64>,
    pub person: Option<i64>,
}

/// The members that are looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry<'a> {
    #[serde(borrow)]
    act: Cow<'a, str>,
    #[serde(borrow)]
    out: Out<'a>,
    #[serde(borrow)]
    who: Who<'a>,
    #[serde(borrow)]
    subj: Cow<'a, str>,
    #[serde(borrow)]
    purpose: Cow<'a, str>,
    #[serde(borrow)]
    obj: Vec<Object<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Out<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Who<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    on_behalf_of: Person<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Person<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object<'a> {
    #[serde(borrow)]
    collection: Cow<'a, str>,
    #[serde(borrow)]
    record: Cow<'a, str>,
}

impl<'a> Marks<'a> {
    /// Of an entry's bytes. Bytes that are no entry have no marks: whoever stored them was not the service. The service
    /// writes one object at most: each record that is touched has an entry of its own.
    pub fn of(entry: &'a [u8]) -> Self {
        let Ok(entry) = serde_json::from_slice::<Entry<'a>>(entry) else { return Self::default() };
        let object = entry.obj.into_iter().next().unwrap_or_default();
        Self {
            kind: Kind {
                act: word(entry.act),
                status: word(entry.out.status),
                actor: word(entry.who.uid),
                collection: word(object.collection),
                purpose: word(entry.purpose),
            },
            subject: mark(&entry.subj),
            record: mark(&object.record),
            person: mark(&entry.who.on_behalf_of.uid),
        }
    }
}

/// Of one that no service writes, and that the index could not take, there is none: it must not keep others from getting numbers.
fn word(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= LONGEST_WORD && !text.contains('\0') { text } else { Cow::default() }
}

/// What a filter asks for; what is absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    pub act: Option<&'static str>,
    pub status: Option<&'static str>,
    pub actor: Option<String>,
    pub collection: Option<String>,
    pub purpose: Option<&'static str>,
    pub subject: Option<i64>,
    pub record: Option<i64>,
    pub person: Option<i64>,
}

impl Sought {
    pub fn by(filter: &Filter) -> Self {
        Self {
            act: filter.act.map(super::Act::as_str),
            status: filter.status.map(super::Status::as_str),
            actor: filter.actor.as_deref().map(str::to_owned),
            collection: filter.collection.as_ref().map(|name| name.as_str().to_owned()),
            purpose: filter.purpose.map(crate::domain::purpose::Purpose::as_str),
            subject: filter.subject.as_ref().and_then(|id| mark(&id.to_string())),
            record: filter.record.as_ref().and_then(|id| mark(id.as_str())),
            person: filter.person.as_deref().and_then(|id| mark(&label_held(id))),
        }
    }
}

/// Eight bytes tell any two ids of a log apart, but for a pair now and then.
fn mark(id: &str) -> Option<i64> {
    let digest = digest(&SHA256, id.as_bytes());
    let first = digest.as_ref().first_chunk::<8>().copied().map(i64::from_be_bytes);
    first.filter(|_| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::{Act, Status};
    use crate::domain::id::{CollectionName, RecordId, SubjectId};
    use crate::domain::purpose::Purpose;

    fn member(entry: &serde_json::Value, pointer: &str) -> Option<String> {
        entry.pointer(pointer)?.as_str().map(str::to_owned)
    }

    /// The filter that names everything an entry has.
    fn filter_of(entry: &serde_json::Value) -> Filter {
        Filter {
            act: member(entry, "/act").and_then(|act| Act::parse(&act)),
            status: member(entry, "/out/status").and_then(|status| Status::parse(&status)),
            actor: member(entry, "/who/uid").map(Arc::from),
            person: member(entry, "/who/on_behalf_of/uid").map(Arc::from),
            subject: member(entry, "/subj").and_then(|id| SubjectId::parse(&id)),
            collection: member(entry, "/obj/0/collection").and_then(|name| CollectionName::parse(&name)),
            record: member(entry, "/obj/0/record").and_then(|id| RecordId::parse(&id)),
            purpose: member(entry, "/purpose").and_then(|code| Purpose::parse(&code)),
        }
    }

    #[test]
    fn what_an_entry_has_is_what_a_filter_for_it_asks() {
        let mut persons = 0;
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/audit/examples");
        for file in std::fs::read_dir(examples).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let marks = Marks::of(&bytes);
            let sought = Sought::by(&filter_of(&serde_json::from_slice(&bytes).unwrap()));
            let kind = &marks.kind;
            assert_eq!(sought.act, Some(&*kind.act));
            assert_eq!(sought.status, Some(&*kind.status));
            assert_eq!(sought.actor.unwrap_or_default(), kind.actor);
            assert_eq!(sought.collection.unwrap_or_default(), kind.collection);
            assert_eq!(sought.purpose.unwrap_or_default(), kind.purpose);
            assert_eq!(
                (sought.subject, sought.record, sought.person),
                (marks.subject, marks.record, marks.person)
            );
            persons += usize::from(marks.person.is_some());
        }
        assert!(persons > 0, "the examples know a person");
    }

    #[test]
    fn bytes_that_are_no_entry_have_no_marks() {
        for bytes in [&b"x"[..], b"[]", b"{\"act\":7}", b"\xff", b"{\"obj\":[{\"record\":[]}]}"] {
            assert_eq!(Marks::of(bytes), Marks::default());
        }
        assert_eq!(Marks::of(b"{\"id\":\"0\"}"), Marks::default());
    }

    /// The migration computes the same for entries that had their numbers before (V22).
    #[test]
    fn a_mark_is_the_beginning_of_the_digest() {
        assert_eq!(mark("abc"), Some(0xba78_16bf_8f01_cfea_u64.cast_signed()));
        assert_eq!(mark(""), None);
    }
}
