//! The lead of the log through what takes long and what changes beside it: a directory that does not answer, a key that was
//! rotated while somebody else led.

use std::os::unix::fs::FileTypeExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use strongroom::audit::checkpoint::SignedCheckpoint;

use crate::audit_attacks::around_the_guards;
use crate::support::export::Exported;
use crate::support::samples::small_patient;
use crate::support::{Rig, ServiceOptions, Strongroom, eventually};

async fn alarms(strongroom: &Strongroom) -> Vec<String> {
    let ready: Value = strongroom.client("operator").await.get("/readyz").await.json().await.unwrap();
    let alarms = ready["alarms"].as_array().unwrap();
    alarms.iter().map(|on| on["alarm"].as_str().unwrap().to_owned()).collect()
}

fn leads(strongroom: &Strongroom) -> usize {
    strongroom.log().iter().filter(|line| line.contains("log.leading")).count()
}

/// One file of the log is a pipe that nobody writes to: reading it takes for ever. The lead outlives the wait, which is longer
/// than a silent session may be; signing goes on without files, and files are written when the directory answers again.
#[tokio::test]
async fn a_directory_that_hangs_holds_up_files_only_and_the_lead_is_kept() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    portal.create_patient(small_patient()).await;
    let exported = Exported::of(&strongroom).await;
    exported.has_everything(&strongroom).await;
    let data = strongroom.data().await;
    let epoch = async || data.query_one("SELECT epoch FROM audit_head", &[]).await.unwrap().get::<_, i64>(0);
    let before = epoch().await;
    let key = std::fs::read_dir(exported.log.join("keys")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&key).unwrap();
    // It is never away: one that is not there is written anew.
    let pipe = exported.log.with_extension("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(&pipe, &key).unwrap();
    assert!(std::fs::metadata(&key).unwrap().file_type().is_fifo());
    let begun = Instant::now();
    portal.create_patient(small_patient()).await;
    // A step of the files may take half a minute.
    while alarms(&strongroom).await != ["log_not_exported"] {
        assert!(begun.elapsed() < Duration::from_mins(1), "no alarm: {:?}", alarms(&strongroom).await);
        portal.create_patient(small_patient()).await;
    }
    let signed = async || {
        let row = data.query_one("SELECT checkpoint FROM audit_head", &[]).await.unwrap();
        SignedCheckpoint::parse(row.get::<_, &str>(0).as_bytes()).unwrap().checkpoint().size()
    };
    let size = signed().await;
    portal.create_patient(small_patient()).await;
    eventually("the log is signed without files", async || signed().await > size).await;
    assert_eq!((epoch().await, leads(&strongroom)), (before, 1), "it never lost the lead");

    // Whoever opens it from here on reads the file.
    let whole = exported.log.with_extension("whole");
    std::fs::rename(&key, &pipe).unwrap();
    std::fs::write(&whole, &bytes).unwrap();
    std::fs::rename(&whole, &key).unwrap();
    let content = bytes.clone();
    let written = pipe.clone();
    tokio::task::spawn_blocking(move || std::fs::write(written, content).unwrap()).await.unwrap();
    std::fs::remove_file(&pipe).unwrap();
    eventually("the alarm ends", async || alarms(&strongroom).await.is_empty()).await;
    exported.has_everything(&strongroom).await;
    exported.verify();
    assert_eq!((epoch().await, leads(&strongroom)), (before, 1));
}

/// An instance that led under the old key, and takes the lead again after another one signed with the new one, believes it.
#[tokio::test]
async fn a_key_that_was_rotated_while_another_led_is_believed() {
    let rig = Arc::new(Rig::start("rotated-log").await);
    let on = || ServiceOptions { rig: Some(Arc::clone(&rig)), ..ServiceOptions::default() };
    let first = Strongroom::start_with(on()).await;
    eventually("the first leads", async || leads(&first) == 1).await;
    let portal = first.client("portal").await.with_purpose("TREAT");
    portal.create_patient(small_patient()).await;
    Exported::of(&first).await.has_everything(&first).await;
    let second = Strongroom::start_with(on()).await;
    let beside = second.client("portal").await.with_purpose("TREAT");

    first.freeze();
    eventually("the second leads", async || leads(&second) == 1).await;
    rig.write_vault("transit/keys/strongroom-audit/rotate", &serde_json::json!({})).await;
    beside.create_patient(small_patient()).await;
    Exported::of(&second).await.has_everything(&second).await;
    first.thaw();
    first.logs("that it lost the lead", |line| line.contains("log.round_failed")).await;

    second.freeze();
    eventually("the first leads again", async || leads(&first) == 2).await;
    portal.create_patient(small_patient()).await;
    let exported = Exported::of(&first).await;
    exported.has_everything(&first).await;
    exported.verify();
    assert!(!first.log().iter().any(|line| line.contains("log_changed")), "nothing had changed");
    second.thaw();
}

/// Whoever only watched knows what was signed: the database is set back in the moment in which the lead changes hands, and the
/// next lead signs no smaller tree, and no other one.
#[tokio::test]
async fn a_lead_remembers_what_the_one_before_it_signed() {
    let rig = Arc::new(Rig::start("remembered-log").await);
    let on = || ServiceOptions { rig: Some(Arc::clone(&rig)), ..ServiceOptions::default() };
    let first = Strongroom::start_with(on()).await;
    eventually("the first leads", async || leads(&first) == 1).await;
    // It has no files of its own.
    let second = Strongroom::start_with(on()).await;
    let portal = first.client("portal").await.with_purpose("TREAT");
    let beside = second.client("portal").await.with_purpose("TREAT");
    let data = rig.data().await;
    let signed = async || {
        let row = data.query_one("SELECT checkpoint FROM audit_head", &[]).await.unwrap();
        let note = row.get::<_, String>(0);
        SignedCheckpoint::parse(note.as_bytes()).map_or(0, |signed| signed.checkpoint().size())
    };
    portal.create_patient(small_patient()).await;
    eventually("something is signed", async || signed().await > 0).await;
    data.batch_execute("CREATE TEMP TABLE earlier AS SELECT * FROM audit_head").await.unwrap();
    let earlier: String = data.query_one("SELECT checkpoint FROM earlier", &[]).await.unwrap().get(0);
    let earlier = SignedCheckpoint::parse(earlier.as_bytes()).unwrap().checkpoint().size();
    for _ in 0..5 {
        portal.create_patient(small_patient()).await;
    }
    eventually("more is signed", async || signed().await > earlier + 4).await;
    let most = signed().await;
    let operator = second.client("operator").await;
    // Numbered after that was signed: whoever sees the one has seen the other.
    portal.create_patient(small_patient()).await;
    eventually("the second has seen it", async || {
        let metrics = operator.get("/metrics").await.text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("strongroom_audit_log_entries "));
        line.is_some_and(|entries| entries.parse::<f64>().unwrap() > f64::from(u32::try_from(most).unwrap()))
    })
    .await;

    first.freeze();
    let attack = around_the_guards(
        &["audit_entry", "audit_outbox", "audit_index", "audit_head"],
        "DELETE FROM audit_outbox WHERE entry_id IN (SELECT entry_id FROM audit_index, earlier WHERE idx >= size);
         DELETE FROM audit_entry WHERE entry_id IN (SELECT entry_id FROM audit_index, earlier WHERE idx >= size);
         DELETE FROM audit_index WHERE idx >= (SELECT size FROM earlier);
         DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM earlier",
    );
    data.batch_execute(&attack).await.unwrap();
    first.kill();
    beside.create_patient(small_patient()).await;
    eventually("the second says so", async || alarms(&second).await.contains(&"log_shrunk".to_owned())).await;
    // Others come in, and are not signed for that.
    for _ in 0..8 {
        beside.create_patient(small_patient()).await;
    }
    let failed = || second.log().iter().filter(|line| line.contains("log.round_failed")).count();
    let rounds = failed();
    eventually("two more rounds", async || failed() >= rounds + 2).await;
    assert_eq!((signed().await, leads(&second)), (earlier, 0), "it has signed nothing");
}
