//! Nothing lost: a mixed load while the service and both databases are killed. Every write that was answered with success
//! is there and opens, every read that was answered has its entry, and the log's chains have no gap.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Rig, ServiceOptions, Strongroom, eventually, hex};

const WORKERS: u64 = 4;
/// What each step of the load must get through before the next thing dies.
const CREATES: usize = 40;
const READS: usize = 60;

/// What was answered with success.
#[derive(Default)]
struct Answered {
    /// Record id → its number, and the id of the request that made it.
    created: HashMap<String, (String, String)>,
    /// Request id → the record that it showed.
    read: HashMap<String, String>,
}

struct Load {
    answered: Arc<Mutex<Answered>>,
    stop: Arc<AtomicBool>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(strongroom: &Strongroom) -> Self {
        let (answered, stop) = (Arc::<Mutex<Answered>>::default(), Arc::<AtomicBool>::default());
        let mut workers = Vec::new();
        for seed in 1..=WORKERS {
            let client = strongroom.client("portal").await.with_purpose("TREAT");
            workers.push(tokio::spawn(work(client, seed, Arc::clone(&answered), Arc::clone(&stop))));
        }
        Self { answered, stop, workers }
    }

    /// Waits until so much more was answered with success.
    async fn goes_on(&self, what: &str) {
        let count = || {
            let answered = self.answered.lock().unwrap();
            (answered.created.len(), answered.read.len())
        };
        let before = count();
        eventually(what, async || {
            let now = count();
            now.0 >= before.0 + CREATES && now.1 >= before.1 + READS
        })
        .await;
    }

    async fn end(self) -> Answered {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.unwrap();
        }
        std::mem::take(&mut self.answered.lock().unwrap())
    }
}

/// Creates and reads in an order that the seed decides; whatever is not answered with success is forgotten.
async fn work(client: Client, seed: u64, answered: Arc<Mutex<Answered>>, stop: Arc<AtomicBool>) {
    let mut state = seed;
    let mut next = move || {
        // Numerical Recipes' generator: the order is the same in every run.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut mine: Vec<String> = Vec::new();
    // So that a service that is down is asked again, not hammered.
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let draw = next();
        if mine.is_empty() || draw % 5 < 2 {
            let mrn = format!("MRN-{seed}{:09}", next());
            if let Some((id, request)) = create(&client, &mrn).await {
                mine.push(id.clone());
                answered.lock().unwrap().created.insert(id, (mrn, request));
            }
        } else {
            let id = mine[usize::try_from(draw).unwrap() % mine.len()].clone();
            if let Some(request) = read(&client, &id).await {
                answered.lock().unwrap().read.insert(request, id);
            }
        }
    }
}

async fn create(client: &Client, mrn: &str) -> Option<(String, String)> {
    let body = json!({ "fields": {
        "family_name": "Okonkwo", "given_name": "Ifeoma", "birth_date": "1958-11-16", "mrn": mrn, "sex": "F",
    } });
    let answer = client.request(Method::POST, "/api/v1/patients").json(&body).send().await.ok()?;
    let request = answer.headers().get("x-request-id")?.to_str().ok()?.to_owned();
    if answer.status() != 201 {
        return None;
    }
    // Cut off before the body: success was said, but not of what.
    let created: Value = answer.json().await.ok()?;
    Some((created["id"].as_str()?.to_owned(), request))
}

/// The id of the request, once its status said success: from then on the values may have been seen.
async fn read(client: &Client, id: &str) -> Option<String> {
    let answer = client.try_get(&format!("/api/v1/patients/{id}")).await?;
    let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    (answer.status() == 200).then_some(request)
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_revealed_is_unrecorded() {
    let rig = Arc::new(Rig::start("faults-crash").await);
    let options = ServiceOptions { rig: Some(Arc::clone(&rig)), ..Default::default() };
    let mut strongroom = Strongroom::start_with(options).await;
    let load = Load::start(&strongroom).await;

    load.goes_on("a first load").await;
    strongroom.kill_and_restart().await;
    load.goes_on("after the service was killed").await;
    rig.stack.data.kill9().await;
    rig.stack.data.start().await.unwrap();
    load.goes_on("after the data database was killed").await;
    rig.stack.keys.kill9().await;
    rig.stack.keys.start().await.unwrap();
    load.goes_on("after the key database was killed").await;
    // A power cut: everything at once.
    tokio::join!(rig.stack.data.kill9(), rig.stack.keys.kill9(), rig.stack.vault.kill9());
    strongroom.kill();
    let answered = load.end().await;
    rig.stack.data.start().await.unwrap();
    rig.stack.keys.start().await.unwrap();
    rig.stack.vault.start().await.unwrap();
    strongroom.restart().await;

    rig.is_whole("after everything was killed").await;
    every_create_is_there(&strongroom, &answered).await;
    every_read_is_on_record(&strongroom, &answered).await;
    chains_have_no_gap(&rig).await;
}

async fn every_create_is_there(strongroom: &Strongroom, answered: &Answered) {
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let entries = strongroom.entries_of("record.create").await;
    let on_record: HashMap<&str, &str> = entries
        .iter()
        .map(|entry| (entry["req"]["id"].as_str().unwrap(), entry["obj"][0]["record"].as_str().unwrap()))
        .collect();
    for (id, (mrn, request)) in &answered.created {
        assert_eq!(on_record.get(request.as_str()), Some(&id.as_str()), "the entry of an acknowledged write");
        let (body, _) = portal.read(&format!("/api/v1/patients/{id}")).await;
        assert_eq!(body["fields"]["mrn"], **mrn);
    }
}

async fn every_read_is_on_record(strongroom: &Strongroom, answered: &Answered) {
    let entries = strongroom.entries_of("record.read").await;
    let success = entries.iter().filter(|entry| entry["out"]["status"] == "success");
    let on_record: HashSet<(&str, &str)> = success
        .map(|entry| (entry["req"]["id"].as_str().unwrap(), entry["obj"][0]["record"].as_str().unwrap()))
        .collect();
    for (request, record) in &answered.read {
        assert!(
            on_record.contains(&(request.as_str(), record.as_str())),
            "a read without its entry: {request}"
        );
    }
}

/// Each run of the service left one chain, numbered from 1 without a gap, each entry naming the hash of the one before.
async fn chains_have_no_gap(rig: &Rig) {
    let rows = rig.data().await;
    let rows =
        rows.query("SELECT src::text, seq, entry, sha256 FROM audit_entry ORDER BY src, seq", &[]).await;
    let mut before: Option<(String, i64, Vec<u8>)> = None;
    let mut chains = 0;
    for row in rows.unwrap() {
        let (source, seq, entry, sha256) =
            (row.get::<_, String>(0), row.get::<_, i64>(1), row.get::<_, &[u8]>(2), row.get::<_, Vec<u8>>(3));
        assert_eq!(ring::digest::digest(&ring::digest::SHA256, entry).as_ref(), sha256);
        let entry: Value = serde_json::from_slice(entry).unwrap();
        let (expected, link) = match before.take().filter(|(last, ..)| *last == source) {
            Some((_, last, digest)) => (last + 1, Value::from(hex(&digest))),
            None => {
                chains += 1;
                (1, Value::Null)
            }
        };
        assert_eq!(seq, expected, "a gap in a chain");
        assert_eq!(entry["chain"]["prev"], link);
        before = Some((source, seq, sha256));
    }
    assert_eq!(chains, 3, "the service ran three times");
}
