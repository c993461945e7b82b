//! The log of the running service in a bucket of an S3 store: locked until its time, verified by whoever copies it, taken up
//! where it ended, and refused where the store does not lock.

use std::path::PathBuf;

use serde_json::{Value, json};
use strongroom::audit::checkpoint::SignedCheckpoint;
use strongroom::domain::clock::{Clock, SystemClock};

use crate::parts::Folder;
use crate::support::export::Exported;
use crate::support::proxy::{Network, Proxy};
use crate::support::samples::small_patient;
use crate::support::{Bucket, Client, ServiceOptions, Store, Strongroom, eventually};

const DAY: u64 = 24 * 3_600;
/// Six years, and two leap days.
const RETENTION_DAYS: u64 = 6 * 365 + 2;

struct Stand {
    strongroom: Strongroom,
    portal: Client,
    operator: Client,
    patient: String,
}

impl Stand {
    async fn start(bucket: Bucket) -> Self {
        let options = ServiceOptions { bucket: Some(bucket), ..ServiceOptions::default() };
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let operator = strongroom.client("operator").await;
        let patient = portal.create_patient(small_patient()).await;
        Self { strongroom, portal, operator, patient }
    }

    async fn read(&self, times: usize) {
        let path = format!("/api/v1/patients/{}", self.patient);
        for answer in futures_util::future::join_all((0..times).map(|_| self.portal.get(&path))).await {
            assert_eq!(answer.status(), 200);
        }
    }

    /// Waits until the service says that every entry is in its bucket.
    async fn is_exported(&self) {
        let sql = "SELECT (SELECT count(*) FROM audit_entry) + (SELECT count(*) FROM audit_outbox)";
        let client = self.strongroom.data().await;
        eventually("every entry is in the bucket", async || {
            let count = client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
            let metrics = self.operator.get("/metrics").await.text().await.unwrap();
            metrics.contains(&format!("\nstrongroom_audit_exported_entries {count}\n"))
        })
        .await;
    }

    async fn alarms(&self) -> Vec<String> {
        let ready: Value = self.operator.get("/readyz").await.json().await.unwrap();
        let alarms = ready["alarms"].as_array().unwrap();
        alarms.iter().map(|on| on["alarm"].as_str().unwrap().to_owned()).collect()
    }

    async fn alarm(&self, alarm: &str) {
        eventually(alarm, async || self.alarms().await.iter().any(|on| on == alarm)).await;
    }

    async fn no_alarm(&self) {
        eventually("the alarm is off", async || self.alarms().await.is_empty()).await;
    }

    async fn logs(&self, words: &str) {
        self.strongroom.logs(words, |line| line.contains(words)).await;
    }
}

/// What an auditor copies from the bucket holds, with the keys that the service's operator published.
async fn copied(store: &Store, stand: &Stand, home: &Folder, folder: &str) -> Exported {
    store.download("locked", home.path());
    let mut exported = Exported::of(&stand.strongroom).await;
    exported.log = home.path().join(folder);
    exported
}

fn now() -> u64 {
    SystemClock.now().as_unix_millis() / 1_000
}

#[tokio::test]
async fn a_log_in_a_bucket_is_locked_and_holds() {
    let store = Store::start("whole").await;
    let mut stand = Stand::start(store.bucket("locked", "strongroom/log")).await;
    stand.read(300).await;
    stand.is_exported().await;
    // Killed, it goes on where the bucket's log ends.
    stand.strongroom.kill_and_restart().await;
    stand.read(300).await;
    stand.is_exported().await;

    let home = Folder::new("copy-of-bucket");
    let exported = copied(&store, &stand, &home, "strongroom/log").await;
    assert_eq!(exported.verify()["entries"], stand.strongroom.all_entries().await.len());
    assert!(exported.size() > 512);

    // Every file is locked but `checkpoint`, and those that full ones took the place of for a short time only.
    let versions = store.versions("locked");
    for version in &versions {
        let key = version["key"].as_str().unwrap().strip_prefix("strongroom/log/").unwrap();
        if key == "checkpoint" {
            assert_eq!(version["mode"], json!(null));
            continue;
        }
        let days = if key.contains(".p/") { 30 } else { RETENTION_DAYS };
        assert_eq!(version["mode"], "COMPLIANCE", "{key}");
        let until = version["until"].as_u64().unwrap();
        assert!(until.abs_diff(now() + days * DAY) < 3_600, "{key}");
        let count = versions.iter().filter(|other| other["key"] == version["key"]).count();
        assert_eq!(count, 1, "{key} was written again");
    }
    // Of partial tiles those are left that have no full one yet.
    assert!(!home.path().join("strongroom/log/tile/0/000.p").exists());

    // Not even who owns the bucket gets rid of it: only pointers to what is kept.
    let gone = store.destroy("locked");
    assert!(!gone.is_empty());
    assert!(gone.iter().all(|key| key == "strongroom/log/checkpoint"), "{gone:?}");
    let (code, out, _) = stand.strongroom.command(&["doctor"]).await;
    assert!(out.contains("audit log"), "{code:?} {out}");
}

/// The store does nothing with the lock: the first file says so, and nobody takes it for an archive.
#[tokio::test]
async fn a_bucket_without_object_lock_is_no_archive() {
    let store = Store::start("unlocked").await;
    let stand = Stand::start(store.bucket("unlocked", "")).await;
    stand.alarm("log_not_exported").await;
    stand.logs("has the bucket object lock?").await;
    // What is served is not held up by it.
    stand.read(1).await;
    assert_eq!(store.versions("unlocked"), [] as [Value; 0]);
}

/// Whether it locks cannot be known: that is said, and nothing else is claimed.
#[tokio::test]
async fn a_lock_that_may_not_be_seen_is_not_said_to_be_missing() {
    let store = Store::start("blind").await;
    let stand = Stand::start(store.bucket_of_the_blind("locked", "")).await;
    stand.alarm("log_not_exported").await;
    stand.logs("cannot see the lock of").await;
    stand.logs("let them s3:GetObject and s3:GetObjectRetention").await;
    assert!(!stand.strongroom.log().iter().any(|line| line.contains("is not locked")));
    stand.read(1).await;
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for() {
    let store = Store::start("away").await;
    let proxy = Proxy::to(store.port).await;
    let mut bucket = store.bucket("locked", "");
    bucket.endpoint = format!("https://localhost:{}", proxy.port);
    let stand = Stand::start(bucket).await;
    stand.is_exported().await;
    for network in [Network::Cut, Network::Silent] {
        proxy.set(network);
        stand.read(20).await;
        stand.alarm("log_not_exported").await;
        proxy.set(Network::Up);
        stand.is_exported().await;
        stand.no_alarm().await;
    }
    stand.logs("the store cannot be reached").await;
    stand.logs("the store does not answer in time").await;
    let home = Folder::new("copy-of-away");
    copied(&store, &stand, &home, "").await.verify();
}

/// Credentials that the store does not know, or a certificate of somebody else: an alarm with what to do, nothing written, and
/// nothing of the credentials in the log.
#[tokio::test]
async fn a_store_that_refuses_or_is_another_gets_nothing() {
    let store = Store::start("refuses").await;
    let files = |name: &str| -> PathBuf {
        let folder = store.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        for file in ["key-id", "secret-key", "roots.pem"] {
            std::fs::copy(store.folder.path().join(file), folder.join(file)).unwrap();
        }
        folder
    };
    let secret = "aVeryWrongSecretThatIsInNoLogAtAll";
    let wrong = files("wrong");
    std::fs::write(wrong.join("secret-key"), secret).unwrap();
    let stand = Stand::start(Bucket { files: wrong.clone(), ..store.bucket("locked", "") }).await;
    stand.alarm("log_not_exported").await;
    stand.logs("the store refuses these credentials").await;
    assert!(!stand.strongroom.log().iter().any(|line| line.contains(secret)));
    assert_eq!(store.versions("locked"), [] as [Value; 0]);
    let (code, out, _) = stand.strongroom.command(&["doctor"]).await;
    assert!(code == Some(1) && out.contains("refuses these credentials") && !out.contains(secret), "{out}");
    // New ones are taken up when they are there.
    std::fs::copy(store.folder.path().join("secret-key"), wrong.join("secret-key")).unwrap();
    stand.is_exported().await;
    stand.no_alarm().await;

    let other = files("other");
    std::fs::write(other.join("roots.pem"), crate::door_pki::Pki::named("Another").root_pem()).unwrap();
    let stand = Stand::start(Bucket { files: other, ..store.bucket("locked", "elsewhere") }).await;
    stand.alarm("log_not_exported").await;
    stand.logs("chains to none of roots_file").await;
}

/// Somebody with rights to the bucket writes newer versions: of a tile, found when the log is taken up; of `checkpoint`, which
/// the service then does not replace.
#[tokio::test]
async fn newer_versions_by_others_are_found() {
    let store = Store::start("changed").await;
    let mut stand = Stand::start(store.bucket("locked", "")).await;
    stand.is_exported().await;
    let home = Folder::new("copy-of-changed");
    let first = copied(&store, &stand, &home, "").await;
    let old = std::fs::read_to_string(first.log.join("checkpoint")).unwrap();
    stand.read(5).await;
    stand.is_exported().await;

    // An older checkpoint: the log is written on from there, with the same bytes.
    store.put("locked", "checkpoint", &old);
    stand.read(5).await;
    stand.logs("another process writes this log").await;
    stand.is_exported().await;
    let home = Folder::new("copy-of-changed-again");
    let exported = copied(&store, &stand, &home, "").await;
    exported.verify();
    let size = SignedCheckpoint::parse(old.as_bytes()).unwrap().checkpoint().size();
    assert!(exported.size() > size + 10);

    let bundle = store.versions("locked").into_iter().filter_map(|version| {
        let key = version["key"].as_str().unwrap().to_owned();
        key.starts_with("tile/entries/000.p/").then_some(key)
    });
    for key in bundle {
        store.put("locked", &key, "something else");
    }
    stand.strongroom.kill_and_restart().await;
    stand.alarm("log_changed").await;
    // What is served goes on, and the versions that were there first still hold.
    stand.read(1).await;
}
