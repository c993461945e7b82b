//! Databases that stop, die, freeze or refuse the log's entries under a running service. What is asked meanwhile is
//! answered 503 with a stable code and in time, nothing is half written, no value leaves, and when they are back the
//! service is, without a restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::{Value, json};
use strongroom::devstack::{Cluster, StopMode};

use crate::support::{Client, Rig, ServiceOptions, Strongroom, eventually, problem};

/// In no answer while the log cannot be written.
const MARK: &str = "Wiśniewska-Grzęda";
/// `limits.request_timeout_ms`, and what a busy machine adds.
const DEADLINE: Duration = Duration::from_secs(12);

struct Scene {
    rig: Arc<Rig>,
    strongroom: Strongroom,
    portal: Client,
    operator: Client,
    /// A patient whose key is in the service's memory.
    path: String,
}

impl Scene {
    async fn set(name: &str) -> Self {
        let rig = Arc::new(Rig::start(name).await);
        let options = ServiceOptions { rig: Some(Arc::clone(&rig)), ..Default::default() };
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let operator = strongroom.client("operator").await;
        let path = format!("/api/v1/patients/{}", portal.create_patient(patient()).await);
        let scene = Self { rig, strongroom, portal, operator, path };
        scene.is_whole("at the start").await;
        scene
    }

    async fn read(&self) -> Response {
        self.portal.get(&self.path).await
    }

    async fn create(&self) -> Response {
        self.portal.post("/api/v1/patients", &json!({ "fields": patient() })).await
    }

    /// A read and a write are answered 503 with these codes, in time and without a word of what is stored.
    async fn refuses(&self, what: &str, read_code: &str, write_code: &str) {
        let begun = Instant::now();
        for (answer, code) in [(self.read().await, read_code), (self.create().await, write_code)] {
            assert_eq!(problem_without_mark(answer).await, (503, code.to_owned()), "{what}");
        }
        assert!(begun.elapsed() < DEADLINE, "{what}: {:?}", begun.elapsed());
    }

    async fn is_down(&self, what: &str, part: &str) {
        eventually(what, async || {
            let answer = self.operator.get("/readyz").await;
            let status = answer.status();
            let body: Value = answer.json().await.unwrap();
            status == 503 && body["down"].as_array().unwrap().iter().any(|down| down["part"] == part)
        })
        .await;
        assert_eq!(self.operator.get("/livez").await.status(), 200, "{what}");
    }

    /// Reads and writes succeed again, by themselves; every record has its subject and its entry, and the other way
    /// round.
    async fn is_whole(&self, what: &str) {
        eventually(what, async || self.operator.get("/readyz").await.status() == 200).await;
        eventually(what, async || self.read().await.status() == 200).await;
        eventually(what, async || self.create().await.status() == 201).await;
        self.rig.is_whole(what).await;
    }
}

fn patient() -> Value {
    json!({ "family_name": MARK, "given_name": "Zoë", "birth_date": "1970-01-01", "mrn": "MRN-0012345678" })
}

async fn problem_without_mark(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    assert!(!text.contains(MARK), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
    (status, body["code"].as_str().unwrap().to_owned())
}

/// The data database is stopped, killed, frozen and restarted.
#[tokio::test]
async fn the_data_database_goes_and_comes_back() {
    let scene = Scene::set("faults-data").await;
    let data: &Cluster = &scene.rig.stack.data;

    data.stop(StopMode::Fast).await;
    scene.refuses("stopped", "data_unavailable", "data_unavailable").await;
    scene.is_down("stopped", "data").await;
    // A refusal is on record before the caller hears of it, so without the log there is none.
    let refused = scene.portal.with_purpose("HMARKT").get(&scene.path).await;
    assert_eq!(problem(refused).await, (503, "audit_unavailable".into()));
    data.start().await.unwrap();
    scene.is_whole("after a stop").await;

    data.kill9().await;
    scene.refuses("killed", "data_unavailable", "data_unavailable").await;
    data.start().await.unwrap();
    scene.is_whole("after a kill").await;

    // Connections stay open and nothing answers: only deadlines help.
    data.pause().await.unwrap();
    scene.refuses("frozen", "data_unavailable", "data_unavailable").await;
    scene.is_down("frozen", "data").await;
    data.resume().await.unwrap();
    scene.is_whole("after a freeze").await;

    data.stop(StopMode::Immediate).await;
    data.start().await.unwrap();
    scene.is_whole("after a restart that nobody noticed").await;

    // The refusal that could not be answered was accepted by the log and is there now, once.
    let denied = scene.strongroom.entries().await;
    let denied = denied.iter().filter(|entry| entry["out"]["code"] == "purpose_not_allowed").count();
    assert_eq!(denied, 1);
}

/// The key database goes: what is in memory still opens, a new subject's key cannot be made durable and so is not made.
#[tokio::test]
async fn the_key_database_goes_and_comes_back() {
    let scene = Scene::set("faults-keys").await;
    let keys: &Cluster = &scene.rig.stack.keys;
    for (what, is_frozen) in [("killed", false), ("frozen", true)] {
        if is_frozen {
            keys.pause().await.unwrap();
        } else {
            keys.kill9().await;
        }
        assert_eq!(scene.read().await.status(), 200, "{what}: the key is in memory");
        let begun = Instant::now();
        assert_eq!(
            problem_without_mark(scene.create().await).await,
            (503, "keys_unavailable".into()),
            "{what}"
        );
        assert!(begun.elapsed() < DEADLINE);
        scene.is_down(what, "keys").await;
        if is_frozen {
            keys.resume().await.unwrap();
        } else {
            keys.start().await.unwrap();
        }
        scene.is_whole(what).await;
    }
}

/// The log cannot be written, by rights or by a lock: no value leaves and nothing is stored, whatever else works.
#[tokio::test]
async fn without_the_log_nothing_leaves_and_nothing_is_stored() {
    let scene = Scene::set("faults-audit").await;
    let administrator = scene.rig.data().await;
    let count = async || -> i64 {
        let sql = "SELECT (SELECT count(*) FROM record) + (SELECT count(*) FROM record_history)";
        administrator.query_one(sql, &[]).await.unwrap().get(0)
    };
    let before = count().await;

    administrator
        .batch_execute(
            "SET strongroom.audit_migration = 'yes'; \
             REVOKE INSERT ON audit_entry, audit_outbox FROM strongroom_app",
        )
        .await
        .unwrap();
    scene.refuses("no right to insert", "audit_unavailable", "data_unavailable").await;
    let patch = json!({ "fields": { "given_name": "Chloë" } });
    let patched = scene.portal.patch(&scene.path, "\"1\"", &patch).await;
    assert_eq!(problem_without_mark(patched).await, (503, "data_unavailable".into()));
    let missing = scene.portal.get("/api/v1/patients/0192f0c1-0000-7000-8000-000000000001").await;
    assert_eq!(problem(missing).await, (503, "audit_unavailable".into()));
    scene.is_down("no right to insert", "audit").await;
    assert_eq!(count().await, before);
    administrator
        .batch_execute(
            "GRANT INSERT (src, seq, entry_id, tenant_id, entry, sha256) ON audit_entry TO strongroom_app; \
             GRANT INSERT (tenant_id, entry_id, entry) ON audit_outbox TO strongroom_app",
        )
        .await
        .unwrap();
    scene.is_whole("with the right to insert").await;

    let before = count().await;
    let lock = "BEGIN; LOCK TABLE audit_entry, audit_outbox IN ACCESS EXCLUSIVE MODE";
    administrator.batch_execute(lock).await.unwrap();
    scene.refuses("locked", "audit_unavailable", "data_unavailable").await;
    administrator.batch_execute("COMMIT").await.unwrap();
    // The write was given up by the service and by PostgreSQL alike: it does not happen afterwards.
    assert_eq!(count().await, before);
    scene.is_whole("unlocked").await;

    // Reads that were accepted by the log and answered 503 are on record: rather one entry too many.
    let reads = scene.strongroom.entries_of("record.read").await;
    let places: BTreeSet<(&str, u64)> = reads
        .iter()
        .map(|entry| (entry["chain"]["src"].as_str().unwrap(), entry["chain"]["seq"].as_u64().unwrap()))
        .collect();
    assert_eq!(places.len(), reads.len(), "each has a place of its own");
    let missing = reads.iter().filter(|entry| entry["out"]["code"] == "record_not_found").count();
    assert_eq!(missing, 1);
}
