//! Single bits of what is sealed, turned over at random by a superuser: never is anything shown that was not stored, and
//! what is turned back opens again.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_postgres::Client as Superuser;

use crate::support::dice::Dice;
use crate::support::samples::{document, small_patient};
use crate::support::{Client, Strongroom};

const ROUNDS: usize = 250;
/// Tables and columns that hold seals and sealed bytes.
const TARGETS: [(&str, &str); 6] = [
    ("record", "seal_headers"),
    ("record", "sealed_values"),
    ("record_history", "seal_headers"),
    ("record_history", "sealed_values"),
    ("file_part", "header"),
    ("file_part", "sealed"),
];

/// A way to read what is stored, what it shows, and the rows that it needs: `WHERE` by table.
struct Reading {
    path: String,
    shows: Vec<u8>,
    rows: Vec<(&'static str, String)>,
}

impl Reading {
    /// What it shows now; `None` when it is refused or breaks off.
    async fn take(&self, portal: &Client) -> Option<Vec<u8>> {
        let answer = portal.get(&self.path).await;
        let status = answer.status();
        let body = answer.bytes().await.ok().map(|bytes| bytes.to_vec());
        if status == StatusCode::OK {
            return body;
        }
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        let problem: Value = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(problem["code"], "record_unreadable");
        None
    }
}

async fn readings(portal: &Client) -> Vec<Reading> {
    let id = portal.create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{id}");
    let change = json!({ "fields": { "given_name": "Bożena", "email": "bozena@example.org" } });
    assert_eq!(portal.patch(&path, "\"1\"", &change).await.status(), 200);
    let created = portal.create("documents", &document(&id)).await;
    let record = created["id"].as_str().unwrap();
    let file = format!("/api/v1/documents/{record}/files/content");
    let bytes: Vec<u8> = (0..150_000_u32).map(|number| number.to_le_bytes()[0] ^ 0x5a).collect();
    portal.upload(&file, &bytes).await;
    let of = |id: &str| format!("record_id = '{id}'");
    let mut readings = vec![
        Reading { path: format!("{path}?version=1"), shows: vec![], rows: vec![("record_history", of(&id))] },
        Reading { path, shows: vec![], rows: vec![("record", of(&id))] },
        Reading { path: file, shows: vec![], rows: vec![("file_part", "part > 0".into())] },
        // Part 0 is the upload's own, and stands in the record's seal as well.
        // A download opens the one seal that its field is under, a read all of them.
        Reading {
            path: format!("/api/v1/documents/{record}"),
            shows: vec![],
            rows: vec![("record", of(record))],
        },
    ];
    for reading in &mut readings {
        reading.shows = reading.take(portal).await.unwrap();
    }
    assert_eq!(readings[2].shows, bytes);
    readings
}

/// A bit of a row: where, and its number.
struct Bit {
    column: &'static str,
    table: &'static str,
    ctid: String,
    number: i64,
}

impl Bit {
    async fn any(dice: &mut Dice, reading: &Reading, superuser: &Superuser) -> Self {
        let (table, condition) = &reading.rows[dice.below(reading.rows.len())];
        let columns: Vec<_> = TARGETS.iter().filter(|target| target.0 == *table).collect();
        let column = columns[dice.below(columns.len())].1;
        // By length, so that the order is the same in every run.
        let sql = format!(
            "SELECT ctid::text, octet_length({column})::bigint * 8 FROM {table} WHERE {condition} \
             ORDER BY octet_length({column}), ctid"
        );
        let rows = superuser.query(&sql, &[]).await.unwrap();
        let row = &rows[dice.below(rows.len())];
        let bits: i64 = row.get(1);
        let number = i64::try_from(dice.below(usize::try_from(bits).unwrap())).unwrap();
        Self { column, table, ctid: row.get(0), number }
    }

    /// Turns it over, and knows where the row is then.
    async fn turn(&mut self, superuser: &Superuser) {
        let Self { column, table, ctid, number } = self;
        let sql = format!(
            "UPDATE {table} SET {column} = set_bit({column}, {number}, 1 - get_bit({column}, {number})) \
             WHERE ctid = '{ctid}' RETURNING ctid::text"
        );
        self.ctid = superuser.query_one(&sql, &[]).await.unwrap().get(0);
    }
}

#[tokio::test]
async fn no_bit_of_what_is_sealed_can_be_turned_unnoticed() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let superuser = strongroom.data().await;
    let readings = readings(&portal).await;
    for table in ["record_history", "file_part"] {
        superuser.batch_execute(&format!("ALTER TABLE {table} DISABLE TRIGGER USER")).await.unwrap();
    }
    let mut dice = Dice(20_261_124);
    for round in 0..ROUNDS {
        let reading = &readings[dice.below(readings.len())];
        let mut bit = Bit::any(&mut dice, reading, &superuser).await;
        let what = format!("round {round}: bit {} of {} in {}", bit.number, bit.column, bit.table);
        bit.turn(&superuser).await;
        assert_eq!(reading.take(&portal).await, None, "{what}");
        bit.turn(&superuser).await;
        assert!(reading.take(&portal).await.as_ref() == Some(&reading.shows), "{what}: turned back");
    }
    let unreadable = |entry: &&Value| entry["out"]["code"] == "record_unreadable";
    let entries = strongroom.entries().await;
    let noticed = entries.iter().filter(unreadable).count();
    assert_eq!(noticed, ROUNDS, "each of them on record");
}
