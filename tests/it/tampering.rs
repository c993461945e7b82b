//! What a superuser of either database can do to rows, and that none of it opens: the answer is `record_unreadable`, with
//! an entry in the log and an alarm in the service's own.
//!
//! Not here: rolling a whole record back with its version number, or hiding it: those open or are not found, and
//! reconciliation with the log finds them.

use serde_json::{Value, json};
use strongroom::crypto::{Seal, SealedField};
use strongroom::domain::id::FieldId;
use strongroom::storage::sealed_columns::{decode_fields, decode_seals, encode_fields, encode_seals};
use tokio_postgres::Client as Superuser;

use crate::support::{Client, Strongroom, problem};

/// In no answer to a read of a changed row.
const MARK: &str = "Grzegorzewska";

struct Stand {
    strongroom: Strongroom,
    portal: Client,
    superuser: Superuser,
}

impl Stand {
    async fn start() -> Self {
        let strongroom = Strongroom::start().await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let superuser = strongroom.data().await;
        Self { strongroom, portal, superuser }
    }

    async fn patient(&self) -> String {
        self.portal.create_patient(patient("MRN-0012345678")).await
    }

    /// Changes the row of one record, and nothing else.
    async fn change(&self, record: &str, set: &str) {
        let sql = format!("UPDATE record SET {set} WHERE record_id = '{record}'");
        assert_eq!(self.superuser.execute(&sql, &[]).await.unwrap(), 1, "{set}");
    }

    /// Reads the record and expects the refusal, without a word of what is stored, and both traces of it.
    async fn refuses(&self, what: &str, path: &str, record: &str) {
        refuses(&self.strongroom, &self.portal, what, path, record).await;
    }
}

/// The seals and values of a stored record, as a superuser sees and rewrites them.
struct StoredRow {
    seals: Vec<Seal>,
    fields: Vec<SealedField>,
}

impl StoredRow {
    async fn of(superuser: &Superuser, record: &str) -> Self {
        let sql = "SELECT seal_headers, sealed_values FROM record WHERE record_id = $1";
        let row = superuser.query_one(sql, &[&record]).await.unwrap();
        Self { seals: decode_seals(row.get(0)).unwrap(), fields: decode_fields(row.get(1)).unwrap() }
    }

    async fn store(&self, superuser: &Superuser, record: &str) {
        let sql = "UPDATE record SET seal_headers = $2, sealed_values = $3 WHERE record_id = $1";
        let (seals, fields) = (encode_seals(&self.seals), encode_fields(&self.fields).unwrap());
        assert_eq!(superuser.execute(sql, &[&record, &seals, &fields]).await.unwrap(), 1);
    }

    fn empty(&mut self) {
        self.seals.clear();
        self.fields.clear();
    }

    /// The bytes only: each field keeps its number and its seal.
    fn swap_values(&mut self, one: usize, other: usize) {
        let bytes = std::mem::take(&mut self.fields[one].bytes);
        self.fields[one].bytes = std::mem::replace(&mut self.fields[other].bytes, bytes);
    }
}

fn patient(mrn: &str) -> Value {
    json!({
        "family_name": MARK, "given_name": "Bożena", "birth_date": "1984-02-29", "mrn": mrn,
        "email": "bozena@example.org", "sex": "F", "gender": "female",
    })
}

async fn refuses(strongroom: &Strongroom, client: &Client, what: &str, path: &str, record: &str) {
    let answer = client.get(path).await;
    let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 500, "{what}: {text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["code"], "record_unreadable", "{what}");
    assert!(!text.contains(MARK) && !text.contains(record), "{what}: {text}");
    let entries = strongroom.entries_of("record.read").await;
    let entry = entries.iter().find(|entry| entry["req"]["id"] == *request).expect(what);
    assert_eq!(entry["out"], json!({ "status": "failed", "code": "record_unreadable" }), "{what}");
    assert_eq!(entry["obj"][0]["record"], record, "{what}");
    let is_alarm = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["level"] == "ERROR"
            && event["message"] == "record.integrity_failed"
            && event["record"] == record
    };
    strongroom.logs(&format!("{what}: an alarm in the service's log"), is_alarm).await;
}

fn path(id: &str) -> String {
    format!("/api/v1/patients/{id}")
}

type Change = (&'static str, fn(&mut StoredRow));

/// What can be done to the seals and values of one row.
const CHANGES: &[Change] = &[
    ("two values change places", |row| row.swap_values(0, 1)),
    ("a value is bent", |row| {
        let mut bytes = row.fields[0].bytes.to_vec();
        bytes[3] ^= 1;
        row.fields[0].bytes = bytes.into();
    }),
    ("a value is emptied", |row| row.fields[0].bytes.clear()),
    ("a value loses its end", |row| row.fields[0].bytes.truncate(20)),
    ("a field is trimmed", |row| row.fields.truncate(row.fields.len() - 1)),
    ("every field is trimmed", |row| row.empty()),
    ("the fields are trimmed and the seals stay", |row| row.fields.clear()),
    ("a field is added", |row| row.fields.push(SealedField { id: FieldId(14), ..row.fields[0].clone() })),
    ("a field is listed twice", |row| row.fields[1].id = row.fields[0].id),
    ("a field takes another's number", |row| {
        let id = row.fields[0].id;
        row.fields[0].id = row.fields[1].id;
        row.fields[1].id = id;
    }),
    ("every field takes a number that the collection does not have", |row| {
        row.fields.iter_mut().for_each(|field| field.id = FieldId(9000 + field.id.0));
    }),
    ("a field is put under another seal", |row| row.fields[0].seal = 1 - row.fields[0].seal),
    ("a field is put under no seal", |row| row.fields[0].seal = 2),
    ("seals change places", |row| row.seals.swap(0, 1)),
    ("classes change places", |row| {
        let class = row.seals[0].class;
        row.seals[0].class = row.seals[1].class;
        row.seals[1].class = class;
    }),
    ("a seal is there twice", |row| row.seals.push(row.seals[0].clone())),
    ("a seal is trimmed", |row| row.seals.truncate(1)),
    ("a salt is bent", |row| row.seals[0].header[19] ^= 1),
    ("a commitment is bent", |row| row.seals[0].header[39] ^= 1),
    ("another key is named", |row| row.seals[0].header[9] = 2),
    ("another suite is named", |row| row.seals[0].header[1] = 2),
];

/// Every change inside one row: values, headers, the list of fields, and the place that they were sealed for.
#[tokio::test]
async fn a_row_that_was_changed_does_not_open() {
    let stand = Stand::start().await;
    for (what, change) in CHANGES {
        let id = stand.patient().await;
        let mut row = StoredRow::of(&stand.superuser, &id).await;
        change(&mut row);
        row.store(&stand.superuser, &id).await;
        stand.refuses(what, &path(&id), &id).await;
    }
    for (what, set) in [
        ("no value", "sealed_values = ''"),
        ("no header", "seal_headers = ''"),
        (
            "the values lose their end",
            "sealed_values = substring(sealed_values FROM 1 FOR length(sealed_values) - 1)",
        ),
        ("the values go on", "sealed_values = sealed_values || '\\x00'"),
        (
            "a header loses its end",
            "seal_headers = substring(seal_headers FROM 1 FOR length(seal_headers) - 1)",
        ),
        ("a class that is none", "seal_headers = set_byte(seal_headers, 0, 9)"),
        ("the version goes up", "version = version + 1"),
        ("the subject is taken away", "subject_id = NULL"),
    ] {
        let id = stand.patient().await;
        stand.change(&id, set).await;
        stand.refuses(what, &path(&id), &id).await;
    }
}

/// A read of one field proves the list of all of them, also when the one that is asked for was the one taken away.
#[tokio::test]
async fn a_field_that_is_missing_is_noticed_by_whoever_asks_for_any_other() {
    let stand = Stand::start().await;
    for asked in ["email", "mrn", "family_name"] {
        let id = stand.patient().await;
        let mut row = StoredRow::of(&stand.superuser, &id).await;
        let fields = row.fields.len();
        row.fields.retain(|field| field.id != FieldId(7));
        assert_eq!(row.fields.len(), fields - 1);
        row.store(&stand.superuser, &id).await;
        stand.refuses(asked, &format!("{}?fields={asked}", path(&id)), &id).await;
    }
}

/// Sealed bytes only open where they were sealed: not in another record, version, subject, collection or tenant.
#[tokio::test]
async fn what_was_sealed_elsewhere_does_not_open_here() {
    let stand = Stand::start().await;
    let columns = "seal_headers = o.seal_headers, sealed_values = o.sealed_values";
    let copy = async |from: &str, to: &str, extra: &str, table: &str| {
        let sql = format!(
            "UPDATE record r SET {columns}{extra} FROM {table} o WHERE o.record_id = '{from}' AND r.record_id = '{to}'"
        );
        assert_eq!(stand.superuser.execute(&sql, &[]).await.unwrap(), 1);
    };

    let (one, other) = (stand.patient().await, stand.patient().await);
    copy(&one, &other, "", "record").await;
    stand.refuses("another record's row", &path(&other), &other).await;

    // With the subject as well, so that the key fits: what differs is the record's own id.
    let other = stand.patient().await;
    copy(&one, &other, ", subject_id = o.subject_id", "record").await;
    stand.refuses("another record's row and subject", &path(&other), &other).await;

    // Two records of one subject and one key.
    let message = json!({ "subject": one, "fields": {
        "sent_at": "2026-01-02T03:04:05Z", "sender": MARK, "recipient": "Care team", "direction": "to-care-team",
        "body": "A question.",
    } });
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(stand.portal.create("messages", &message).await["id"].as_str().unwrap().to_owned());
    }
    copy(&ids[0], &ids[1], "", "record").await;
    stand.refuses("another message of the subject", &format!("/api/v1/messages/{}", ids[1]), &ids[1]).await;

    // One value of the version before, under the version that is current.
    let replayed = stand.patient().await;
    let changed = stand.portal.patch(&path(&replayed), "\"1\"", &json!({ "fields": { "sex": "M" } })).await;
    assert_eq!(changed.status(), 200, "{}", changed.text().await.unwrap());
    copy(&replayed, &replayed, "", "record_history").await;
    stand.refuses("the version before", &path(&replayed), &replayed).await;

    // Another tenant's: there the reader is somebody who may read its records.
    let moved = stand.patient().await;
    let (north, south) = ("0197a000-0000-7000-8000-00000000c001", "0197a000-0000-7000-8000-00000000c002");
    let sql = format!(
        "INSERT INTO subject (tenant_id, subject_id) VALUES ('{south}', '{moved}'); \
         UPDATE record SET tenant_id = '{south}' WHERE tenant_id = '{north}' AND record_id = '{moved}'"
    );
    stand.superuser.batch_execute(&sql).await.unwrap();
    assert_eq!(problem(stand.portal.get(&path(&moved)).await).await, (404, "record_not_found".into()));
    let theirs = stand.strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    refuses(&stand.strongroom, &theirs, "another tenant's", &path(&moved), &moved).await;
    // Nor with the wrapped keys moved along.
    let keys = stand.strongroom.keys().await;
    // South has tenant keys of its own once it has stored something.
    theirs.create_patient(patient("MRN-0087654321")).await;
    let sql = format!("UPDATE subject_key SET tenant_id = '{south}' WHERE owner = '{moved}'");
    assert_eq!(keys.execute(&sql, &[]).await.unwrap(), 2);
    refuses(&stand.strongroom, &theirs, "another tenant's, with its keys", &path(&moved), &moved).await;
}

/// The keys database's superuser can take keys away or mix them up, and opens nothing by it. The service is started
/// afresh, since a key in its memory is the right one whatever the database says.
#[tokio::test]
async fn wrapped_keys_open_in_their_own_place_only() {
    let mut stand = Stand::start().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(stand.patient().await);
    }
    let keys = stand.strongroom.keys().await;
    let [swapped, other, bent, gone, mixed, whole] = &ids[..] else { unreachable!() };
    for sql in [
        // A key of the same class and number, of another subject.
        format!(
            "UPDATE subject_key k SET header = o.header, wrapped = o.wrapped FROM subject_key o \
             WHERE o.owner = '{other}' AND k.owner = '{swapped}' AND o.class = k.class"
        ),
        format!(
            "UPDATE subject_key SET wrapped = set_byte(wrapped, 5, get_byte(wrapped, 5) # 1) WHERE owner = '{bent}'"
        ),
        format!("DELETE FROM subject_key WHERE owner = '{gone}'"),
        // The same subject's key of the other class.
        format!(
            "UPDATE subject_key k SET header = o.header, wrapped = o.wrapped, tenant_key_id = o.tenant_key_id \
             FROM subject_key o WHERE o.owner = '{mixed}' AND k.owner = '{mixed}' AND o.class <> k.class"
        ),
    ] {
        assert_eq!(keys.execute(&sql, &[]).await.unwrap(), 2, "{sql}");
    }
    stand.strongroom.kill_and_restart().await;
    for (what, id) in [
        ("another subject's key", swapped),
        ("a bent key", bent),
        ("no key", gone),
        ("another class's key", mixed),
    ] {
        stand.refuses(what, &path(id), id).await;
    }
    for id in [other, whole] {
        let body: Value = stand.portal.get(&path(id)).await.json().await.unwrap();
        assert_eq!(body["fields"]["family_name"], MARK);
    }
}

/// A patch of a changed record would seal what it keeps afresh and so bless the change; it is refused as a read is.
#[tokio::test]
async fn a_changed_record_is_not_sealed_again() {
    let stand = Stand::start().await;
    let changes: [Change; 3] = [
        ("trimmed", |row| row.fields.truncate(1)),
        ("emptied", StoredRow::empty),
        ("swapped", |row| row.swap_values(0, 1)),
    ];
    for (what, change) in changes {
        let id = stand.patient().await;
        let mut row = StoredRow::of(&stand.superuser, &id).await;
        change(&mut row);
        row.store(&stand.superuser, &id).await;
        let fields = patient("MRN-0000000001");
        let answer = stand.portal.patch(&path(&id), "\"1\"", &json!({ "fields": fields })).await;
        assert_eq!(problem(answer).await, (500, "record_unreadable".into()), "{what}");
        let versions = format!("SELECT version FROM record WHERE record_id = '{id}'");
        let version: i64 = stand.superuser.query_one(&versions, &[]).await.unwrap().get(0);
        assert_eq!(version, 1, "{what}: nothing was stored");
    }
}

/// The log's rows stay: for their owner, and for a superuser who has not first taken the guards away.
#[tokio::test]
async fn entries_are_not_changed_or_removed() {
    let stand = Stand::start().await;
    let id = stand.patient().await;
    assert_eq!(stand.portal.get(&path(&id)).await.status(), 200);
    let before = stand.strongroom.entries().await;
    assert!(before.len() >= 3);
    for role in ["strongroom_owner", "administrator"] {
        stand.superuser.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        for table in ["audit_entry", "audit_outbox"] {
            for sql in [
                format!("UPDATE {table} SET entry = ''"),
                format!("DELETE FROM {table}"),
                format!("TRUNCATE {table}"),
                format!("ALTER TABLE {table} DISABLE TRIGGER ALL"),
                format!("DROP TABLE {table}"),
            ] {
                let refused = stand.superuser.batch_execute(&sql).await.unwrap_err();
                let code = refused.code().unwrap();
                assert_eq!(*code, tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE, "{role}: {sql}");
            }
        }
    }
    assert_eq!(stand.strongroom.entries().await, before);
}
