//! The log of the running service as files: signed by Vault, whole, and verified by whoever has the files and the keys.

use std::sync::Arc;

use serde_json::Value;

use crate::support::export::{Exported, keys};
use crate::support::samples::small_patient;
use crate::support::{Databases, Rig, ServiceOptions, Strongroom, eventually, request_id};

#[tokio::test]
async fn what_the_service_writes_holds_and_has_every_entry() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let patient = portal.create_patient(small_patient()).await;
    let mut requests = Vec::new();
    for _ in 0..300 {
        let answer = portal.get(&format!("/api/v1/patients/{patient}")).await;
        assert_eq!(answer.status(), 200);
        requests.push(request_id(&answer));
    }
    let exported = Exported::of(&strongroom).await;
    exported.has_everything(&strongroom).await;
    let report = exported.verify();
    let entries = strongroom.all_entries().await;
    assert_eq!(report["entries"], entries.len());

    // One read's entry is proven to somebody who has the proof, the entry and the keys.
    let id = |entry: &Value| entry["id"].as_str().unwrap().to_owned();
    let read = entries.iter().find(|entry| entry["req"]["id"] == requests[200]).map(id).unwrap();
    exported.proves(&read);
    // In every form each entry is a line, with the number that proves it.
    for format in ["csv", "jsonl", "fhir", "ocsf"] {
        let lines = exported.prints(&["--format", format]);
        assert_eq!(lines.len(), entries.len() + usize::from(format == "csv"), "{format}");
    }
    let found = exported.prints(&["--act", "record.read", "--subject", &patient, "--status", "success"]);
    assert_eq!(found.len(), requests.len());
    let found: Value = serde_json::from_str(&found[200]).unwrap();
    exported.proves(&found["index"].to_string());
    assert!(exported.prints(&["--from", "2100-01-01T00:00:00.000000Z"]).is_empty());
    // Read around the service, the log is what was numbered.
    let head =
        strongroom.data().await.query_one("SELECT size, checkpoint FROM audit_head", &[]).await.unwrap();
    assert!(head.get::<_, i64>(0) >= i64::try_from(entries.len()).unwrap());
    assert!(head.get::<_, &str>(1).starts_with("strongroom.internal/log\n"));
}

/// A checkpoint and its partial files come in their turn; a bundle that is full does not wait for that.
#[tokio::test]
async fn full_bundles_and_tiles_are_written_as_they_fill() {
    let settings = vec![("STRONGROOM__AUDIT__EXPORT__INTERVAL_SECONDS".to_owned(), "60".to_owned())];
    let options = ServiceOptions { settings, ..ServiceOptions::default() };
    let strongroom = Strongroom::start_with(options).await;
    let exported = Exported::of(&strongroom).await;
    eventually("the first checkpoint is there", async || exported.size() > 0).await;
    let first = exported.size();
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let patient = portal.create_patient(small_patient()).await;
    for _ in 0..300 {
        assert_eq!(portal.get(&format!("/api/v1/patients/{patient}")).await.status(), 200);
    }
    let tile = exported.log.join("tile");
    let is_full = || tile.join("entries/000").exists() && tile.join("0/000").exists();
    eventually("the full bundle and its tile are there", async || is_full()).await;
    assert_eq!(exported.size(), first, "the next checkpoint is not due for a minute");
    // What lies beyond the newest checkpoint is nobody's word yet, and does no harm.
    assert_eq!(exported.verify()["entries"], first);
}

/// Killed again and again while it numbers, signs and writes, under load: nothing is left out, nothing stands twice.
#[tokio::test]
async fn killed_at_any_time_the_log_goes_on_without_a_gap() {
    let mut strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let patient = portal.create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{patient}");
    let mut answered = Vec::new();
    for round in 0..4 {
        let reads = 40 + round * 35;
        let work = (0..reads).map(|_| portal.try_get(&path));
        for answer in futures_util::future::join_all(work).await.into_iter().flatten() {
            answered.push(request_id(&answer));
        }
        strongroom.kill_and_restart().await;
    }
    let exported = Exported::of(&strongroom).await;
    exported.has_everything(&strongroom).await;
    exported.verify();
    let entries = strongroom.entries().await;
    for request in &answered {
        assert_eq!(entries.iter().filter(|entry| entry["req"]["id"] == **request).count(), 1);
    }
}

fn on(databases: &Databases) -> ServiceOptions {
    let databases = Databases { data: databases.data.clone(), keys: databases.keys.clone() };
    ServiceOptions { databases: Some(databases), ..ServiceOptions::default() }
}

async fn leads(strongroom: &Strongroom, what: &str) {
    strongroom.logs(what, |line| line.contains("log.leading")).await;
}

/// Of two instances one has the lead. When it stands still, the other takes it; when it goes on, it does no harm.
#[tokio::test]
async fn an_instance_that_stands_still_is_replaced_and_does_no_harm_when_it_goes_on() {
    let databases = crate::support::fresh_databases().await;
    let first = Strongroom::start_with(on(&databases)).await;
    leads(&first, "the first instance leads").await;
    let second = Strongroom::start_with(on(&databases)).await;
    let portal = second.client("portal").await.with_purpose("TREAT");
    portal.create_patient(small_patient()).await;
    Exported::of(&first).await.has_everything(&first).await;
    assert!(!second.log().iter().any(|line| line.contains("log.leading")));

    first.freeze();
    leads(&second, "the second instance leads").await;
    portal.create_patient(small_patient()).await;
    let exported = Exported::of(&second).await;
    exported.has_everything(&second).await;
    first.thaw();
    first.logs("that it lost the lead", |line| line.contains("log.round_failed")).await;
    portal.create_patient(small_patient()).await;
    exported.has_everything(&second).await;
    exported.verify();
}

/// While Vault is sealed entries get their numbers and nothing is signed; the alarm says so, and ends by itself.
#[tokio::test]
async fn while_vault_is_sealed_nothing_is_signed_and_an_alarm_says_so() {
    let rig = Arc::new(Rig::start("sealed-log").await);
    let options = ServiceOptions { rig: Some(Arc::clone(&rig)), ..ServiceOptions::default() };
    let strongroom = Strongroom::start_with(options).await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    portal.create_patient(small_patient()).await;
    let exported = Exported::of(&strongroom).await;
    exported.has_everything(&strongroom).await;
    // Its certificate comes from Vault.
    let operator = strongroom.client("operator").await;
    let keys = keys(&strongroom).await;
    assert!(keys.starts_with("log strongroom.internal/log+") && keys.ends_with("\nquorum none\n"), "{keys}");
    rig.stack.vault.seal().await.unwrap();
    // A refusal is an entry, and needs no key.
    assert_eq!(operator.get("/api/v1/patients").await.status(), 403);
    let ready = async || operator.get("/readyz").await.json::<Value>().await.unwrap();
    eventually("the alarm is on", async || {
        ready().await["alarms"].as_array().unwrap().iter().any(|on| on["alarm"] == "log_not_published")
    })
    .await;
    let metrics = operator.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("strongroom_alarm{alarm=\"log_not_published\"} 1"), "{metrics}");
    rig.stack.vault.unseal().await.unwrap();
    eventually("the alarm is off", async || ready().await["alarms"].as_array().unwrap().is_empty()).await;
    exported.has_everything(&strongroom).await;
    exported.verify();
    for act in ["alarm.begin", "alarm.end"] {
        let entries = strongroom.entries_of(act).await;
        assert_eq!(entries.len(), 1, "{act}");
        assert_eq!(entries[0]["out"]["code"], "log_not_published");
    }
}
