//! Delete: a last version without values; the record is gone for every caller, its history stays sealed.

use serde_json::json;
use strongroom::storage::sealed_columns::{decode_fields, decode_seals};

use crate::support::samples::{NOBODY, message, small_patient};
use crate::support::{Client, Strongroom, problem};

/// A portal that may delete messages, and a message.
async fn letter(strongroom: &Strongroom) -> (Client, String) {
    let portal = strongroom.client("portal").await.with_purpose("PATRQT");
    let patient = portal.create_patient(small_patient()).await;
    let letter = portal.create("messages", &message(&patient)).await;
    (portal, format!("/api/v1/messages/{}", letter["id"].as_str().unwrap()))
}

#[tokio::test]
async fn a_deleted_record_is_gone_and_leaves_a_tombstone() {
    let strongroom = Strongroom::start().await;
    let (portal, path) = letter(&strongroom).await;
    let answer = portal.delete(&path).await;
    assert_eq!((answer.status().as_u16(), answer.headers().get("etag")), (204, None));
    assert!(answer.bytes().await.unwrap().is_empty());

    let never = portal.get(&format!("/api/v1/messages/{NOBODY}")).await.bytes().await.unwrap();
    let change = json!({ "fields": { "read": true } });
    for answer in [
        portal.get(&path).await,
        portal.patch(&path, "\"1\"", &change).await,
        portal.patch(&path, "\"2\"", &change).await,
        portal.delete(&path).await,
    ] {
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.bytes().await.unwrap(), never);
    }

    let data = strongroom.data().await;
    let sql = "SELECT version, deleted, length(seal_headers) + length(sealed_values)
               FROM record WHERE collection = 'messages'";
    let row = data.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1), row.get::<_, i32>(2)), (2, true, 0));
    let sql = "SELECT version, deleted, seal_headers, sealed_values FROM record_history";
    let row = data.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (1, false));
    assert_eq!(decode_seals(row.get(2)).unwrap().len(), 2);
    assert_eq!(decode_fields(row.get(3)).unwrap().len(), 12);
}

#[tokio::test]
async fn a_delete_may_name_the_version_it_means() {
    let strongroom = Strongroom::start().await;
    let (portal, path) = letter(&strongroom).await;
    assert_eq!(portal.patch(&path, "\"1\"", &json!({ "fields": { "read": true } })).await.status(), 200);
    let delete =
        |etag: &'static str| portal.request(reqwest::Method::DELETE, &path).header("if-match", etag).send();
    assert_eq!(problem(delete("\"1\"").await.unwrap()).await, (412, "version_stale".into()));
    assert_eq!(problem(delete("*").await.unwrap()).await, (400, "if_match_invalid".into()));
    assert_eq!(portal.get(&path).await.status(), 200);
    assert_eq!(delete("\"2\"").await.unwrap().status(), 204);
    assert_eq!(problem(delete("\"3\"").await.unwrap()).await, (404, "record_not_found".into()));
    let outcomes: Vec<_> =
        strongroom.entries_of("record.delete").await.iter().map(|entry| entry["out"].clone()).collect();
    assert_eq!(
        outcomes,
        [
            json!({ "status": "failed", "code": "version_stale" }),
            json!({ "status": "refused", "code": "if_match_invalid" }),
            json!({ "status": "success" }),
            json!({ "status": "failed", "code": "record_not_found" })
        ]
    );
}

#[tokio::test]
async fn of_concurrent_deletes_one_deletes_and_patches_never_bring_it_back() {
    let strongroom = Strongroom::start().await;
    let (portal, path) = letter(&strongroom).await;
    let deletes = (0..6).map(|_| {
        let (portal, path) = (portal.clone(), path.clone());
        tokio::spawn(async move { portal.delete(&path).await.status().as_u16() })
    });
    let change = json!({ "fields": { "read": true } });
    let (patched, mut statuses) = tokio::join!(portal.patch(&path, "\"1\"", &change), async {
        let mut statuses = Vec::new();
        for delete in deletes.collect::<Vec<_>>() {
            statuses.push(delete.await.unwrap());
        }
        statuses
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 404, 404, 404, 404, 404]);
    assert!([200, 404, 412].contains(&patched.status().as_u16()));
    assert_eq!(problem(portal.get(&path).await).await, (404, "record_not_found".into()));
}
