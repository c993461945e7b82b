//! What an auditor can ask of the log, and the cursor that carries them through it.
//!
//! Not here: SQL (`storage::audit`), and whether the caller may ask (`policy`).

use std::sync::Arc;

use uuid::Uuid;

use super::act::{Act, Status};
use super::label::label_held;
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, EntryId, RecordId, SubjectId, TenantId};
use crate::domain::purpose::Purpose;

/// Whose entries are looked at. Chosen from the caller's identity, never from what the caller sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One tenant's entries.
    Tenant(TenantId),
    /// One tenant's entries and those of the service itself (start, stop, policy, strangers at the door).
    TenantAndService(TenantId),
    /// Every entry: operators of the log, on the host.
    Everything,
}

/// Which way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// What must hold of an entry; absent members match everything, present ones must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub act: Option<Act>,
    pub status: Option<Status>,
    /// `who.uid`: the client's name.
    pub actor: Option<Arc<str>>,
    /// `who.on_behalf_of.uid`: the person's `sub` at their identity provider, as entries hold it or as it is.
    pub person: Option<Arc<str>>,
    pub subject: Option<SubjectId>,
    pub collection: Option<CollectionName>,
    pub record: Option<RecordId>,
    pub purpose: Option<Purpose>,
}

impl Filter {
    /// The filter as a JSON document that a matching entry contains (PostgreSQL's `@>`); `None` matches everything.
    pub fn to_containment(&self) -> Option<serde_json::Value> {
        let mut document = serde_json::Map::new();
        let mut put = |name: &str, value: Option<serde_json::Value>| {
            if let Some(value) = value {
                document.insert(name.to_owned(), value);
            }
        };
        put("act", self.act.map(|act| act.as_str().into()));
        put("out", self.status.map(|status| serde_json::json!({ "status": status.as_str() })));
        put("who", self.who());
        put("subj", self.subject.map(|subject| subject.to_string().into()));
        put("purpose", self.purpose.map(|purpose| purpose.as_str().into()));
        put("obj", self.object());
        (!document.is_empty()).then_some(serde_json::Value::Object(document))
    }

    fn who(&self) -> Option<serde_json::Value> {
        let mut who = serde_json::Map::new();
        if let Some(uid) = &self.actor {
            who.insert("uid".to_owned(), (&**uid).into());
        }
        if let Some(person) = &self.person {
            who.insert("on_behalf_of".to_owned(), serde_json::json!({ "uid": label_held(person) }));
        }
        (!who.is_empty()).then_some(serde_json::Value::Object(who))
    }

    fn object(&self) -> Option<serde_json::Value> {
        let mut object = serde_json::Map::new();
        if let Some(collection) = &self.collection {
            object.insert("collection".to_owned(), collection.as_str().into());
        }
        if let Some(record) = &self.record {
            object.insert("record".to_owned(), record.as_str().into());
        }
        (!object.is_empty()).then(|| serde_json::json!([object]))
    }
}

/// How many entries a page holds at most: 1 to 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u16);

impl PageSize {
    pub const LARGEST: Self = Self(500);

    pub fn new(entries: u16) -> Option<Self> {
        (1..=Self::LARGEST.0).contains(&entries).then_some(Self(entries))
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self(100)
    }
}

/// One question.
#[derive(Clone, Debug)]
pub struct AuditQuery {
    pub scope: Scope,
    pub filter: Filter,
    /// From this time on, inclusive, to the millisecond.
    pub from: Option<Timestamp>,
    /// Up to this time, exclusive, to the millisecond.
    pub until: Option<Timestamp>,
    pub order: Order,
    pub after: Option<Cursor>,
    pub size: PageSize,
}

impl AuditQuery {
    /// Everything in scope, newest first, first page.
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            filter: Filter::default(),
            from: None,
            until: None,
            order: Order::default(),
            after: None,
            size: PageSize::default(),
        }
    }

    /// The open interval of entry ids in which the answer lies: a `UUIDv7` begins with its time (RFC 9562 section 5.7).
    pub fn id_bounds(&self) -> (Uuid, Uuid) {
        let mut low = self.from.map_or(Uuid::nil(), before);
        let mut high = self.until.map_or(Uuid::max(), lowest_at);
        if let Some(Cursor(entry)) = self.after {
            match self.order {
                Order::NewestFirst => high = high.min(*entry.as_uuid()),
                Order::OldestFirst => low = low.max(*entry.as_uuid()),
            }
        }
        (low, high)
    }
}

/// Where a page ended. Opaque to callers; it holds no more than an entry id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(EntryId);

impl Cursor {
    pub const fn after(entry: EntryId) -> Self {
        Self(entry)
    }

    pub fn to_text(self) -> String {
        self.0.as_uuid().simple().to_string()
    }

    pub fn parse(text: &str) -> Option<Self> {
        let id = Uuid::try_parse(text).ok()?;
        (id.simple().to_string() == text).then(|| Self(EntryId::from_uuid(id)))
    }
}

/// Entries as they are stored, and where to go on. A page can be short, even empty, and still have a `next`: a search
/// for something rare looks at a bounded stretch of the log for each page.
pub struct Page {
    pub entries: Vec<Vec<u8>>,
    pub next: Option<Cursor>,
}

/// The smallest id of a millisecond.
fn lowest_at(at: Timestamp) -> Uuid {
    Uuid::from_u128(u128::from(at.as_unix_millis() & 0xffff_ffff_ffff) << 80)
}

/// The id just below the smallest of a millisecond, since bounds are exclusive.
fn before(at: Timestamp) -> Uuid {
    Uuid::from_u128(lowest_at(at).as_u128().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u128, tail: u128) -> Uuid {
        Uuid::from_u128(millis << 80 | 0x7000_8000_0000_0000_0000 | tail)
    }

    #[test]
    fn bounds_follow_times_and_cursor() {
        let mut query = AuditQuery::new(Scope::Everything);
        query.from = Some(Timestamp::from_micros(5_000));
        query.until = Some(Timestamp::from_micros(7_000));
        let (low, high) = query.id_bounds();
        assert!(low < id(5, 0) && low > id(4, 0xffff) && high > id(6, 0xffff) && high < id(7, 0));
        query.after = Some(Cursor::after(EntryId::from_uuid(id(6, 9))));
        assert_eq!(query.id_bounds().1, id(6, 9));
        query.order = Order::OldestFirst;
        assert_eq!(query.id_bounds().0, id(6, 9));
        // A cursor cannot widen the range that was asked for.
        query.after = Some(Cursor::after(EntryId::from_uuid(id(1, 0))));
        assert_eq!(query.id_bounds().0, low);
    }

    #[test]
    fn cursors_have_one_spelling() {
        let cursor = Cursor::after(EntryId::from_uuid(id(6, 0xa)));
        assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
        for bad in ["", "x", &cursor.to_text().to_uppercase(), "00000000-0006-7000-8000-00000000000a"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_filter_is_what_an_entry_must_contain() {
        assert_eq!(Filter::default().to_containment(), None);
        let filter = Filter {
            act: Some(Act::RecordRead),
            actor: Some("portal".into()),
            collection: CollectionName::parse("patients"),
            record: RecordId::parse("0192f0c1-0000-7000-8000-000000000001"),
            ..Filter::default()
        };
        let expected = serde_json::json!({
            "act": "record.read",
            "obj": [{ "collection": "patients", "record": "0192f0c1-0000-7000-8000-000000000001" }],
            "who": { "uid": "portal" },
        });
        assert_eq!(filter.to_containment(), Some(expected));
        let of_person = |actor: Option<&str>, person: &str| {
            let filter =
                Filter { actor: actor.map(Arc::from), person: Some(person.into()), ..Filter::default() };
            filter.to_containment().unwrap()["who"].clone()
        };
        assert_eq!(of_person(None, "p-1"), serde_json::json!({ "on_behalf_of": { "uid": "p-1" } }));
        let digest = of_person(Some("portal"), "jane@example.org");
        assert_eq!(digest["uid"], "portal");
        let held = digest["on_behalf_of"]["uid"].as_str().unwrap();
        assert!(held.starts_with("sha256:"));
        // As an auditor copies it out of an entry.
        assert_eq!(of_person(Some("portal"), held), digest);
    }

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!(PageSize::new(0), None);
        assert_eq!(PageSize::new(501), None);
        assert_eq!(PageSize::new(500), Some(PageSize::LARGEST));
    }

    proptest::proptest! {
        #[test]
        fn a_cursor_is_read_back_and_has_one_spelling(number: u128, text in "[0-9a-fA-F{}-]{0,38}") {
            let cursor = Cursor::after(EntryId::from_uuid(Uuid::from_u128(number)));
            proptest::prop_assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
            if let Some(cursor) = Cursor::parse(&text) {
                proptest::prop_assert_eq!(cursor.to_text(), text);
            }
        }
    }
}
