//! A Vault that is sealed, stopped or frozen under a running service: keys in memory carry on until the end of their hard
//! life, what is not in memory is answered 503, and nothing needs a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Rig, ServiceOptions, Strongroom, eventually, problem};

/// `limits.request_timeout_ms`, and what a busy machine adds.
const DEADLINE: Duration = Duration::from_secs(12);

fn patient() -> Value {
    json!({ "fields": {
        "family_name": "Sørensen", "given_name": "Åse", "birth_date": "1990-05-17", "mrn": "MRN-0012345678"
    } })
}

async fn service(rig: &Arc<Rig>, settings: &[(&str, &str)]) -> Strongroom {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Strongroom::start_with(ServiceOptions { rig: Some(Arc::clone(rig)), settings, ..Default::default() })
        .await
}

async fn new_patient(client: &Client) -> String {
    let created = client.create("patients", &patient()).await;
    format!("/api/v1/patients/{}", created["id"].as_str().unwrap())
}

async fn is_refused(what: &str, client: &Client, path: Option<&str>) {
    let begun = Instant::now();
    let answer = match path {
        Some(path) => client.get(path).await,
        None => client.post("/api/v1/patients", &patient()).await,
    };
    assert_eq!(problem(answer).await, (503, "keys_unavailable".into()), "{what}");
    assert!(begun.elapsed() < DEADLINE, "{what}: {:?}", begun.elapsed());
}

#[tokio::test]
async fn vault_goes_and_comes_back() {
    let rig = Arc::new(Rig::start("faults-vault").await);
    let vault = &rig.stack.vault;
    let warm = service(&rig, &[]).await;
    let portal = warm.client("portal").await.with_purpose("TREAT");
    // A second instance, whose keys in memory are good for two seconds only.
    let lives =
        [("STRONGROOM__CACHE__SOFT_LIFE_SECONDS", "1"), ("STRONGROOM__CACHE__HARD_LIFE_SECONDS", "2")];
    let brief = service(&rig, &lives).await;
    let brief_portal = brief.client("portal").await.with_purpose("TREAT");
    // Nothing of this tenant is in memory.
    let cold = warm.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let operator = warm.client("operator").await;
    let path = new_patient(&portal).await;
    assert_eq!(brief_portal.get(&path).await.status(), 200);

    vault.seal().await.unwrap();
    while_away("sealed", &portal, &cold, &path).await;
    eventually("sealed: the hard life is over", async || brief_portal.get(&path).await.status() == 503).await;
    is_refused("sealed, after the hard life", &brief_portal, Some(&path)).await;
    // A part whose answer took a second counts as down until it is asked again.
    let mut first = Value::Null;
    eventually("it alone is down", async || {
        let answer = operator.get("/readyz").await;
        assert_eq!(answer.status(), 503);
        first = answer.json().await.unwrap();
        assert!(first["down"].as_array().unwrap().iter().any(|down| down["part"] == "vault"));
        first["down"].as_array().unwrap().len() == 1
    })
    .await;
    // It is down since it was first seen so, not since somebody asked last.
    let since = first["down"][0]["since"].as_str().unwrap();
    assert!(strongroom::domain::clock::Timestamp::parse_rfc3339(since).is_some(), "{since}");
    let again: Value = operator.get("/readyz").await.json().await.unwrap();
    assert_eq!(again["down"], first["down"]);
    assert_eq!(operator.get("/livez").await.status(), 200);
    vault.unseal().await.unwrap();
    back("unsealed", &[&warm, &brief], &[&portal, &brief_portal], &path).await;

    vault.stop().await;
    while_away("stopped", &portal, &cold, &path).await;
    eventually("stopped: the hard life is over", async || brief_portal.get(&path).await.status() == 503)
        .await;
    vault.start().await.unwrap();
    back("started", &[&warm, &brief], &[&portal, &brief_portal], &path).await;

    vault.pause().await.unwrap();
    while_away("frozen", &portal, &cold, &path).await;
    eventually("frozen: the hard life is over", async || brief_portal.get(&path).await.status() == 503).await;
    is_refused("frozen, after the hard life", &brief_portal, Some(&path)).await;
    vault.resume().await.unwrap();
    back("thawed", &[&warm, &brief], &[&portal, &brief_portal], &path).await;

    // Only now are the other tenant's first key and the root of its index made; no refusal left half of one.
    let theirs = new_patient(&cold).await;
    assert_eq!(cold.get(&theirs).await.status(), 200);
    let keys = rig.keys().await;
    let sql = "SELECT string_agg(purpose, ' ' ORDER BY purpose) FROM tenant_key \
               WHERE tenant_id = '0197a000-0000-7000-8000-00000000c002'";
    assert_eq!(keys.query_one(sql, &[]).await.unwrap().get::<_, &str>(0), "seal terms");
    // Nobody was let at a value without an entry: every answer of 200 has one, and the refusals opened nothing.
    let reads = warm.entries_of("record.read").await;
    assert!(reads.iter().all(|entry| entry["out"]["status"] == "success"), "{reads:?}");
}

/// With the tenant's keys in memory reads and writes go on; without them they are refused.
async fn while_away(what: &str, warm: &Client, cold: &Client, path: &str) {
    assert_eq!(warm.get(path).await.status(), 200, "{what}");
    let written = new_patient(warm).await;
    assert_eq!(warm.get(&written).await.status(), 200, "{what}");
    is_refused(what, cold, None).await;
}

async fn back(what: &str, services: &[&Strongroom], clients: &[&Client], path: &str) {
    for (service, client) in services.iter().zip(clients) {
        service.wait_until_ready().await;
        eventually(what, async || client.get(path).await.status() == 200).await;
        new_patient(client).await;
    }
}
