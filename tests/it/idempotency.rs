//! `Idempotency-Key`: a request that is repeated is answered and not done again, whoever repeats it and however often.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use strongroom::domain::clock::SystemClock;
use strongroom::domain::id::uuid_v7;
use strongroom::domain::random::SystemRandom;

use crate::support::samples::{message, small_patient};
use crate::support::{Client, Databases, ServiceOptions, Strongroom, eventually, problem, request_id};

const KEY: &str = "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"";

async fn send(client: &Client, path: &str, key: &str, body: &Value) -> Response {
    client.request(Method::POST, path).header("idempotency-key", key).json(body).send().await.unwrap()
}

async fn rows(strongroom: &Strongroom, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    strongroom.data().await.query_one(&sql, &[]).await.unwrap().get(0)
}

fn new_patient() -> Value {
    json!({ "fields": small_patient() })
}

#[tokio::test]
async fn a_repeated_create_is_answered_and_not_done_again() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let first = send(&portal, "/api/v1/patients", KEY, &new_patient()).await;
    assert_eq!(first.status(), 201);
    assert!(first.headers().get("idempotency-replayed").is_none());
    let (location, etag) = (first.headers()["location"].clone(), first.headers()["etag"].clone());
    let first: Value = first.json().await.unwrap();

    // In another order and spelling it is the same body; unquoted it is the same key.
    let respelled = r#"{ "fields": { "mrn":"MRN-0012345678", "birth_date": "1984-02-29",
        "given_name": "\u017dofie", "family_name": "Nov\u00e1kov\u00e1" } }"#;
    let again = portal
        .request(Method::POST, "/api/v1/patients")
        .header("idempotency-key", KEY.trim_matches('"'))
        .header("content-type", "application/json")
        .body(respelled)
        .send()
        .await
        .unwrap();
    let request = request_id(&again);
    assert_eq!(again.status(), 201);
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!((&again.headers()["location"], &again.headers()["etag"]), (&location, &etag));
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    assert_eq!(rows(&strongroom, "record").await, 1);
    assert_eq!(rows(&strongroom, "subject").await, 1);

    let entry = strongroom.entry_of(&request).await;
    assert_eq!(entry["act"], "record.create");
    assert_eq!(entry["out"], json!({ "status": "success", "code": "repeated" }));
    assert_eq!(entry["obj"], json!([{ "collection": "patients", "record": first["id"] }]));

    // What changed meanwhile does not change what was answered.
    let path = format!("/api/v1/patients/{}", first["id"].as_str().unwrap());
    assert_eq!(portal.patch(&path, "\"1\"", &json!({ "fields": { "notes": "n" } })).await.status(), 200);
    let later: Value = send(&portal, "/api/v1/patients", KEY, &new_patient()).await.json().await.unwrap();
    assert_eq!(later, first);
}

#[tokio::test]
async fn another_body_under_the_same_key_is_refused() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let first = send(&portal, "/api/v1/patients", KEY, &new_patient()).await;
    let id = first.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let mut other = new_patient();
    other["fields"]["given_name"] = json!("Zofie");
    let batch = json!({ "records": [new_patient()] });
    for (path, body) in [
        ("/api/v1/patients", &other),
        ("/api/v1/patients/batch", &batch),
        ("/api/v1/messages", &message(&id)),
    ] {
        let refused = send(&portal, path, KEY, body).await;
        let request = request_id(&refused);
        assert_eq!(problem(refused).await, (422, "idempotency_key_reused".into()), "{path}");
        let entry = strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "failed", "code": "idempotency_key_reused" }));
    }
    assert_eq!(rows(&strongroom, "record").await, 1);
}

/// A key is its client's own, and what was answered to one is not told to another.
#[tokio::test]
async fn a_key_is_the_clients_own() {
    let strongroom = Strongroom::start().await;
    let mut ids = Vec::new();
    for client in [
        strongroom.client("portal").await.with_purpose("TREAT"),
        strongroom.client("records-import").await.with_purpose("TREAT"),
        strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT"),
    ] {
        let created = send(&client, "/api/v1/patients", KEY, &new_patient()).await;
        assert_eq!(created.status(), 201);
        assert!(created.headers().get("idempotency-replayed").is_none());
        ids.push(created.json::<Value>().await.unwrap()["id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

/// The caller is authorised anew every time: a key is no permission.
#[tokio::test]
async fn a_repeat_is_authorised_again() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await;
    assert_eq!(
        send(&portal.with_purpose("TREAT"), "/api/v1/patients", KEY, &new_patient()).await.status(),
        201
    );
    let refused = send(&portal.with_purpose("HPAYMT"), "/api/v1/patients", KEY, &new_patient()).await;
    assert_eq!(problem(refused).await, (403, "purpose_not_allowed".into()));
}

/// Many at once, over several connections: one is done, all hear the same.
#[tokio::test]
async fn of_the_same_request_many_times_at_once_one_is_done() {
    let strongroom = Strongroom::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        tasks.spawn(async move {
            let answer = send(&portal, "/api/v1/patients", KEY, &new_patient()).await;
            assert_eq!(answer.status(), 201);
            let is_repeated = answer.headers().contains_key("idempotency-replayed");
            (answer.json::<Value>().await.unwrap(), is_repeated)
        });
    }
    let answers = tasks.join_all().await;
    assert!(answers.iter().all(|(answer, _)| *answer == answers[0].0), "{answers:?}");
    assert_eq!(answers.iter().filter(|(_, is_repeated)| !is_repeated).count(), 1);
    assert_eq!(rows(&strongroom, "record").await, 1);
}

/// A request that was refused did nothing, so its key is free.
#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let bad = send(&portal, "/api/v1/patients", KEY, &json!({ "fields": {} })).await;
    assert_eq!(problem(bad).await, (422, "fields_invalid".into()));
    let good = send(&portal, "/api/v1/patients", KEY, &new_patient()).await;
    assert_eq!(good.status(), 201);
    assert!(good.headers().get("idempotency-replayed").is_none());
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    for bad in ["", "\"\"", "\"open", "two words", "a,b", &"k".repeat(256)] {
        let refused = send(&portal, "/api/v1/patients", bad, &new_patient()).await;
        assert_eq!(problem(refused).await, (400, "idempotency_key_invalid".into()), "{bad}");
    }
    let twice = portal
        .request(Method::POST, "/api/v1/patients")
        .header("idempotency-key", "a")
        .header("idempotency-key", "a")
        .json(&new_patient());
    assert_eq!(problem(twice.send().await.unwrap()).await, (400, "idempotency_key_invalid".into()));
    assert_eq!(rows(&strongroom, "record").await, 0);
}

/// After its 24 hours a key is free, and its row goes at the next look; neither key nor body was ever in the database.
#[tokio::test]
async fn a_key_is_known_for_a_day_and_stored_as_digests_only() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let first: Value = send(&portal, "/api/v1/patients", KEY, &new_patient()).await.json().await.unwrap();
    let data = strongroom.data().await;
    let row = data
        .query_one(
            "SELECT expires_at - created_at = interval '24 hours', record_ids, \
             (SELECT string_agg(k::text, '') FROM idempotency_key k) FROM idempotency_key",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
    assert_eq!(row.get::<_, Vec<String>>(1), [first["id"].as_str().unwrap()]);
    let text: String = row.get(2);
    assert!(!text.contains("8e03978e") && !text.contains("Nov"), "{text}");

    data.execute("UPDATE idempotency_key SET expires_at = now() - interval '1 second'", &[]).await.unwrap();
    let fresh = send(&portal, "/api/v1/patients", KEY, &new_patient()).await;
    assert!(fresh.headers().get("idempotency-replayed").is_none());
    assert_ne!(fresh.json::<Value>().await.unwrap()["id"], first["id"]);
    assert_eq!(rows(&strongroom, "record").await, 2);
    assert_eq!(rows(&strongroom, "idempotency_key").await, 1, "the expired row was taken over");
}

/// The job looks at the start: what expired while nobody ran is gone.
#[tokio::test]
async fn expired_keys_are_removed() {
    let mut strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    for _ in 0..3 {
        let key = uuid_v7(&SystemClock, &SystemRandom::default()).unwrap().to_string();
        assert_eq!(send(&portal, "/api/v1/patients", &key, &new_patient()).await.status(), 201);
    }
    let expire = "UPDATE idempotency_key SET expires_at = now() \
                  WHERE key_mac <> (SELECT key_mac FROM idempotency_key ORDER BY key_mac LIMIT 1)";
    assert_eq!(strongroom.data().await.execute(expire, &[]).await.unwrap(), 2);
    strongroom.kill_and_restart().await;
    crate::support::eventually("the expired are gone", async || {
        rows(&strongroom, "idempotency_key").await == 1
    })
    .await;
}

/// What an instance has locked that stands still in the middle of a transaction, others get when it has said nothing for a while.
#[tokio::test]
async fn an_instance_that_stands_still_holds_up_the_same_request_for_a_while_only() {
    let first = Strongroom::start().await;
    let databases = Databases { data: first.databases.data.clone(), keys: first.databases.keys.clone() };
    let options = ServiceOptions { databases: Some(databases), ..Default::default() };
    let second = Strongroom::start_with(options).await;
    let portal = first.client("portal").await.with_purpose("TREAT");
    let other = second.client("portal").await.with_purpose("TREAT");
    let patient = portal.create_patient(small_patient()).await;
    let (watcher, superuser) = (first.data().await, first.data().await);
    // The key is taken, and the person waited for.
    superuser.batch_execute("BEGIN; SELECT FROM subject FOR UPDATE").await.unwrap();
    let body = message(&patient);
    let sent = tokio::spawn({
        let (portal, body) = (portal.clone(), body.clone());
        async move {
            portal
                .request(Method::POST, "/api/v1/messages")
                .header("idempotency-key", KEY)
                .json(&body)
                .send()
                .await
        }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("it waits", async || watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 1)
        .await;
    first.freeze();
    superuser.batch_execute("COMMIT").await.unwrap();
    eventually("the other one does it", async || {
        send(&other, "/api/v1/messages", KEY, &body).await.status() == 201
    })
    .await;
    first.thaw();
    // Done once, whatever it is told.
    let _ = sent.await.unwrap();
    assert_eq!(rows(&first, "record WHERE collection = 'messages'").await, 1);
}
