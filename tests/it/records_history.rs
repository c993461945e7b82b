//! History: which versions there were, and each of them as it was.

use serde_json::{Value, json};

use crate::support::samples::{NOBODY, small_patient};
use crate::support::{Client, Strongroom, problem, request_id};

struct Scene {
    strongroom: Strongroom,
    portal: Client,
    path: String,
}

impl Scene {
    /// A patient with five versions; the notes of each say which.
    async fn set() -> Self {
        let strongroom = Strongroom::start().await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let mut patient = small_patient();
        patient["notes"] = json!("version 1");
        let path = format!("/api/v1/patients/{}", portal.create_patient(patient).await);
        for version in 1..5 {
            let change = json!({ "fields": { "notes": format!("version {}", version + 1) } });
            assert_eq!(portal.patch(&path, &format!("\"{version}\""), &change).await.status(), 200);
        }
        Self { strongroom, portal, path }
    }

    async fn versions(&self, query: &str) -> Value {
        let answer = self.portal.get(&format!("{}/history{query}", self.path)).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }
}

fn numbers(page: &Value) -> Vec<u64> {
    page["versions"].as_array().unwrap().iter().map(|each| each["version"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn versions_are_listed_newest_first_with_their_entries() {
    let scene = Scene::set().await;
    let answer = scene.portal.get(&format!("{}/history", scene.path)).await;
    let request = request_id(&answer);
    let whole: Value = answer.json().await.unwrap();
    assert_eq!(numbers(&whole), [5, 4, 3, 2, 1]);
    assert!(whole.get("next").is_none());
    let writes: Vec<Value> = scene
        .strongroom
        .entries()
        .await
        .into_iter()
        .filter(|entry| ["record.create", "record.update"].contains(&entry["act"].as_str().unwrap()))
        .map(|entry| entry["id"].clone())
        .collect();
    let named: Vec<Value> =
        whole["versions"].as_array().unwrap().iter().rev().map(|each| each["entry"].clone()).collect();
    assert_eq!(named, writes);

    let entry = scene.strongroom.entry_of(&request).await;
    let id = scene.path.rsplit('/').next().unwrap();
    assert_eq!((&entry["act"], &entry["n"]), (&json!("record.history"), &json!(5)));
    assert_eq!(entry["obj"], json!([{ "collection": "patients", "record": id }]));

    // Pages meet every version once.
    let first = scene.versions("?limit=2").await;
    assert_eq!((numbers(&first), &first["next"]), (vec![5, 4], &json!(4)));
    let second = scene.versions("?limit=2&cursor=4").await;
    assert_eq!((numbers(&second), &second["next"]), (vec![3, 2], &json!(2)));
    let last = scene.versions("?limit=2&cursor=2").await;
    assert_eq!((numbers(&last), last.get("next")), (vec![1], None));
}

#[tokio::test]
async fn each_version_is_read_as_it_was() {
    let scene = Scene::set().await;
    for version in 1..=5 {
        let answer = scene.portal.get(&format!("{}?version={version}", scene.path)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["etag"].to_str().unwrap(), format!("\"{version}\""));
        let request = request_id(&answer);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["version"], version);
        assert_eq!(body["fields"]["notes"], format!("version {version}"));
        let entry = scene.strongroom.entry_of(&request).await;
        assert_eq!((&entry["act"], &entry["obj"][0]["version"]), (&json!("record.read"), &json!(version)));
    }
    let masked = scene.portal.get(&format!("{}?version=2&fields=notes&view=masked", scene.path)).await;
    assert_eq!(masked.json::<Value>().await.unwrap()["masked"], json!(["notes"]));
}

#[tokio::test]
async fn what_is_no_version_is_not_found_and_what_is_no_number_is_refused() {
    let scene = Scene::set().await;
    for path in [format!("{}?version=6", scene.path), format!("/api/v1/patients/{NOBODY}?version=1")] {
        assert_eq!(problem(scene.portal.get(&path).await).await, (404, "record_not_found".into()), "{path}");
    }
    let nobody = scene.portal.get(&format!("/api/v1/patients/{NOBODY}/history")).await;
    assert_eq!(problem(nobody).await, (404, "record_not_found".into()));
    for query in ["version=0", "version=01", "version=-1", "version=x", "version=4294967296", "version="] {
        let answer = scene.portal.get(&format!("{}?{query}", scene.path)).await;
        assert_eq!(problem(answer).await, (400, "query_invalid".into()), "{query}");
    }
    for query in ["limit=0", "limit=501", "limit=x", "cursor=x", "cursor=00", "version=1", "limit=1&limit=2"]
    {
        let answer = scene.portal.get(&format!("{}/history?{query}", scene.path)).await;
        assert_eq!(problem(answer).await, (400, "query_invalid".into()), "{query}");
    }
}

/// Reading an older version takes two rights: to see the history, and to read the fields.
#[tokio::test]
async fn an_older_version_takes_both_rights() {
    let scene = Scene::set().await;
    let mobile = scene.strongroom.client("mobile").await.with_purpose("PATRQT");
    assert_eq!(mobile.get(&scene.path).await.status(), 200);
    let refused = mobile.get(&format!("{}?version=1", scene.path)).await;
    let request = request_id(&refused);
    assert_eq!(problem(refused).await, (403, "action_not_allowed".into()));
    assert_eq!(scene.strongroom.entry_of(&request).await["act"], "record.history");

    let dashboard = scene.strongroom.client("dashboard").await.with_purpose("HOPERAT");
    let masked: Value = dashboard.get(&format!("{}?version=1", scene.path)).await.json().await.unwrap();
    assert_eq!(masked["version"], 1);
    assert!(masked["masked"].as_array().unwrap().contains(&json!("family_name")));
}

/// A deleted record has no history for anybody, however it is asked for.
#[tokio::test]
async fn a_deleted_record_has_no_history() {
    let scene = Scene::set().await;
    let import = scene.strongroom.client("records-import").await.with_purpose("HOPERAT");
    assert_eq!(import.delete(&scene.path).await.status(), 204);
    for path in ["/history", "?version=1", "?version=5", "?version=6", ""] {
        let gone = scene.portal.get(&format!("{}{path}", scene.path)).await;
        assert_eq!(problem(gone).await, (404, "record_not_found".into()), "{path}");
    }
}

/// A version that a superuser put in the place of another does not open as that other.
#[tokio::test]
async fn a_changed_version_does_not_open() {
    let scene = Scene::set().await;
    let data = scene.strongroom.data().await;
    data.batch_execute(
        "ALTER TABLE record_history DISABLE TRIGGER ALL; \
         UPDATE record_history h SET seal_headers = o.seal_headers, sealed_values = o.sealed_values \
         FROM record_history o WHERE h.version = 2 AND o.version = 3; \
         UPDATE record_history SET version = 9 WHERE version = 4; \
         UPDATE record_history SET sealed_values = substring(sealed_values FROM 1 FOR 40) WHERE version = 1",
    )
    .await
    .unwrap();
    for version in [1, 2, 9] {
        let answer = scene.portal.get(&format!("{}?version={version}", scene.path)).await;
        assert_eq!(problem(answer).await, (500, "record_unreadable".into()), "{version}");
    }
    let whole = scene.portal.get(&format!("{}?version=3", scene.path)).await;
    assert_eq!(whole.json::<Value>().await.unwrap()["fields"]["notes"], "version 3");
}
