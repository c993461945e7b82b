//! What must hold after all of it.

use std::collections::HashMap;

use serde_json::Value;

use super::load::Told;
use crate::support::{Strongroom, eventually, hex};

/// Every acknowledged write is there, opens, and is what was acknowledged; and nothing is there twice.
pub async fn every_write_is_there(strongroom: &Strongroom, told: &mut Told) {
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    for (id, record) in &mut told.records {
        let (body, _) = portal.read(&format!("/api/v1/patients/{id}")).await;
        record.seen(&body);
    }
    // A repeated key makes no second record.
    let rows = strongroom.data().await.query_one("SELECT count(*) FROM record", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), i64::try_from(told.records.len()).unwrap());
}

/// Every answer has its entries: of the act, of its request, one for each record.
pub async fn every_answer_is_on_record(strongroom: &Strongroom, told: &Told) {
    let mut on_record: HashMap<String, Vec<Value>> = HashMap::new();
    for mut entry in strongroom.entries().await {
        if let Some(request) = entry["req"]["id"].as_str().map(str::to_owned) {
            on_record.entry(request).or_default().push(entry.take());
        }
    }
    for (request, (act, records)) in &told.entries {
        let entries = on_record.get(request).unwrap_or_else(|| panic!("{act} without an entry: {request}"));
        let of_act = || entries.iter().filter(|entry| entry["act"] == **act);
        assert!(of_act().next().is_some(), "{act} without its entry: {entries:?}");
        for record in records {
            let is_of =
                |entry: &Value| entry["obj"][0]["record"] == **record && entry["out"]["status"] == "success";
            assert!(of_act().any(is_of), "{act} without an entry for {record}: {entries:?}");
        }
    }
}

/// Each run of the service left its chain, numbered from 1 without a gap, each entry naming the hash of the one before.
pub async fn chains_have_no_gap(data: &tokio_postgres::Client) {
    let rows =
        data.query("SELECT src::text, seq, entry, sha256 FROM audit_entry ORDER BY src, seq", &[]).await;
    let mut before: Option<(String, i64, Vec<u8>)> = None;
    for row in rows.unwrap() {
        let (source, seq, entry, sha256) =
            (row.get::<_, String>(0), row.get::<_, i64>(1), row.get::<_, &[u8]>(2), row.get::<_, Vec<u8>>(3));
        assert_eq!(ring::digest::digest(&ring::digest::SHA256, entry).as_ref(), sha256);
        let entry: Value = serde_json::from_slice(entry).unwrap();
        let (expected, link) = match before.take().filter(|(last, ..)| *last == source) {
            Some((_, last, digest)) => (last + 1, Value::from(hex(&digest))),
            None => (1, Value::Null),
        };
        assert_eq!(seq, expected, "a gap in a chain");
        assert_eq!(entry["chain"]["prev"], link);
        before = Some((source, seq, sha256));
    }
}

/// Every entry has one number, from 0 on without a gap, and the head ends behind the last. One that comes now, as chains have them
/// by themselves, has its number soon.
pub async fn every_entry_has_one_number(data: &tokio_postgres::Client) {
    let sql = "SELECT count(*), count(DISTINCT entry_id), coalesce(max(idx) + 1, 0), (SELECT size FROM audit_head),
            (SELECT count(*) FROM (SELECT entry_id FROM audit_entry UNION ALL SELECT entry_id FROM audit_outbox) AS e
             WHERE (SELECT i.idx FROM audit_index i WHERE i.entry_id = e.entry_id) IS NULL)
        FROM audit_index";
    eventually("no entry is without a number", async || {
        let row = data.query_one(sql, &[]).await.unwrap();
        let [rows, entries, end, head, without]: [i64; 5] = std::array::from_fn(|column| row.get(column));
        assert_eq!(
            (rows, entries, end),
            (head, head, head),
            "numbers, entries that have one, the number after the last"
        );
        without == 0
    })
    .await;
}
