//! A record that is deleted while somebody reads it: it was found, and its keys are not. That is a record which is gone, and not one
//! that was tampered with; the log says the same.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;

use crate::support::samples::{document, small_patient};
use crate::support::{Client, ServiceOptions, Strongroom, administrator, eventually, problem};

/// One that does not give up while it waits for the test.
async fn service() -> Strongroom {
    let settings = ["DATABASE__KEYS__TIMEOUT_MS", "LIMITS__REQUEST_TIMEOUT_MS"];
    let settings = settings.map(|name| (format!("STRONGROOM__{name}"), "30000".to_owned()));
    Strongroom::start_with(ServiceOptions { settings: settings.into(), ..Default::default() }).await
}

struct Scene {
    strongroom: Strongroom,
    portal: Client,
}

impl Scene {
    /// A document with its file, and no key in memory.
    async fn new_record(&mut self) -> String {
        let subject = self.portal.create_patient(small_patient()).await;
        let created = self.portal.create("documents", &document(&subject)).await;
        let path = format!("/api/v1/documents/{}", created["id"].as_str().unwrap());
        self.portal.upload(&format!("{path}/files/content"), b"a letter").await;
        self.strongroom.kill_and_restart().await;
        self.portal = self.strongroom.client("portal").await.with_purpose("TREAT");
        path
    }

    /// The answer of a request that found the record and asks for its key when both go; of a theft only the key does.
    async fn answer(&self, what: &str, path: &str, request: RequestBuilder) -> Response {
        let name = &self.strongroom.databases.keys.name;
        let holder = administrator(name).await;
        holder.batch_execute("BEGIN; LOCK TABLE subject_key IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let sent = tokio::spawn(request.send());
        let watcher = administrator(name).await;
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND wait_event_type = 'Lock' AND query LIKE '%storage::key_store::subject_keys%'";
        eventually(&format!("{what} asks for a key"), async || {
            watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
        if what != "theft" {
            let patient = self.portal.with_purpose("PATRQT");
            assert_eq!(patient.delete(path).await.status(), 204);
        }
        // As it comes then: the list of keys to be destroyed waits for the lock as well.
        let record = path.rsplit('/').next().unwrap();
        let sql = format!("DELETE FROM subject_key WHERE owner = '{record}'; COMMIT");
        holder.batch_execute(&sql).await.unwrap();
        sent.await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_record_that_goes_while_it_is_read_is_gone_and_not_tampered_with() {
    let strongroom = service().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let mut scene = Scene { strongroom, portal };
    for what in ["read", "version", "file", "batch", "update"] {
        let path = scene.new_record().await;
        let id = path.rsplit('/').next().unwrap();
        let (portal, dashboard) = (&scene.portal, scene.strongroom.client("dashboard").await);
        let dashboard = dashboard.with_purpose("HOPERAT");
        let request = match what {
            "read" => portal.request(Method::GET, &path),
            "version" => portal.request(Method::GET, &format!("{path}?version=1")),
            "file" => portal.request(Method::GET, &format!("{path}/files/content")),
            "batch" => {
                dashboard.request(Method::POST, "/api/v1/documents/batch/read").json(&json!({ "ids": [id] }))
            }
            _ => portal
                .request(Method::PATCH, &path)
                .header("if-match", "\"2\"")
                .json(&json!({ "fields": { "title": "Another" } })),
        };
        let answer = scene.answer(what, &path, request).await;
        if what == "batch" {
            let body: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(body, json!({ "records": [], "missing": [0] }));
        } else {
            assert_eq!(problem(answer).await, (404, "record_not_found".into()), "{what}");
        }
        let entries = scene.strongroom.entries().await;
        let of_record = |entry: &&serde_json::Value| {
            entry["obj"][0]["record"] == id && entry["out"]["status"] == "failed"
        };
        let codes: Vec<_> =
            entries.iter().filter(of_record).map(|entry| entry["out"]["code"].clone()).collect();
        assert_eq!(codes, [json!("record_not_found")], "{what}");
    }
}

#[tokio::test]
async fn a_key_that_was_taken_from_a_record_that_is_there_is_tampering() {
    let strongroom = service().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let mut scene = Scene { strongroom, portal };
    let path = scene.new_record().await;
    let answer = scene.answer("theft", &path, scene.portal.request(Method::GET, &path)).await;
    assert_eq!(problem(answer).await, (500, "record_unreadable".into()));
    let entries = scene.strongroom.entries_of("record.read").await;
    assert_eq!(entries.last().unwrap()["out"]["code"], "record_unreadable");
}
