//! A mixed load that remembers what it was told, and judges every answer as it comes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::dice::Dice;
use crate::support::{Client, Strongroom, eventually};

const WORKERS: u64 = 6;
/// What must succeed after a fault before the next one comes.
const STEPS: usize = 60;
/// `limits.request_timeout_ms`, and what a busy machine adds.
const DEADLINE: Duration = Duration::from_secs(12);
/// What a part that is away may be answered with.
const UNAVAILABLE: [&str; 4] =
    ["audit_unavailable", "data_unavailable", "keys_unavailable", "deadline_exceeded"];

/// What was answered with success, and what is in doubt.
#[derive(Default)]
pub struct Told {
    /// Record id → what is known of it.
    pub records: HashMap<String, Record>,
    /// Request id → the act and the records of its entries.
    pub entries: HashMap<String, (&'static str, Vec<String>)>,
}

/// One record, changed by one worker only.
#[derive(Clone)]
pub struct Record {
    pub mrn: String,
    pub version: u64,
    pub phone: Option<String>,
    /// Changes of `version` whose outcome is unknown; at most one of them took place.
    pub doubtful: Vec<String>,
}

/// Counts that the faults are paced by.
#[derive(Default)]
pub struct Tally {
    successes: AtomicUsize,
    attempts: AtomicUsize,
    refusals: AtomicUsize,
    /// Records that answers showed.
    reads: AtomicUsize,
    /// How often something was refused for what.
    codes: Mutex<HashMap<String, usize>>,
    /// Odd while the service is not there; a request that saw it change may end without an answer.
    absences: AtomicU64,
}

impl Tally {
    pub fn service_left(&self) {
        self.absences.fetch_add(1, Ordering::SeqCst);
    }

    pub fn service_came(&self) {
        self.absences.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until so many more requests ended, one way or the other, but no longer than three seconds: a part that is
    /// frozen holds all of them back.
    pub async fn attempts(&self, more: usize) {
        let enough = self.attempts.load(Ordering::SeqCst) + more;
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let wait = async {
            while self.attempts.load(Ordering::SeqCst) < enough {
                tick.tick().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), wait).await;
    }

    /// Waits until the load is itself again.
    pub async fn goes_on(&self, what: &str) {
        let enough = self.successes.load(Ordering::SeqCst) + STEPS;
        eventually(what, async || self.successes.load(Ordering::SeqCst) >= enough).await;
    }

    pub fn refusals(&self) -> usize {
        self.refusals.load(Ordering::SeqCst)
    }

    pub fn refused_for(&self, code: &str) -> usize {
        self.codes.lock().unwrap().get(code).copied().unwrap_or(0)
    }

    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn saw(&self, records: usize) {
        self.reads.fetch_add(records, Ordering::SeqCst);
    }
}

pub struct Load {
    pub tally: Arc<Tally>,
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    pub async fn start(strongroom: &Strongroom, seed: u64) -> Self {
        let mut load =
            Self { tally: Arc::default(), told: Arc::default(), stop: Arc::default(), workers: Vec::new() };
        for number in 1..=WORKERS {
            let worker = Worker {
                portal: strongroom.client("portal").await.with_purpose("TREAT"),
                import: strongroom.client("records-import").await.with_purpose("TREAT"),
                number,
                dice: Dice(seed.wrapping_add(number << 32)),
                mine: Vec::new(),
                doubtful: Vec::new(),
                tally: Arc::clone(&load.tally),
                told: Arc::clone(&load.told),
            };
            load.workers.push(tokio::spawn(worker.run(Arc::clone(&load.stop))));
        }
        load
    }

    /// Panics when a worker met something that must not be.
    pub fn is_alive(&self, what: &str) {
        assert!(self.workers.iter().all(|worker| !worker.is_finished()), "{what}: a worker has given up");
    }

    pub async fn end(self) -> Told {
        self.stop.store(true, Ordering::SeqCst);
        for worker in self.workers {
            worker.await.unwrap();
        }
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

struct Worker {
    portal: Client,
    /// May list and read in batches, and sees everything masked.
    import: Client,
    number: u64,
    dice: Dice,
    /// Ids of its records.
    mine: Vec<String>,
    /// Creates whose outcome is unknown: idempotency key and body.
    doubtful: Vec<(String, Value)>,
    tally: Arc<Tally>,
    told: Arc<Mutex<Told>>,
}

impl Worker {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        // So that a service that is down is asked again, not hammered.
        let mut pace = tokio::time::interval(Duration::from_millis(4));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.load(Ordering::SeqCst) {
            pace.tick().await;
            let draw = self.dice.below(20);
            match (self.mine.is_empty(), draw) {
                (true, _) | (_, 0..5) => self.create().await,
                (_, 5..11) => self.read().await,
                (_, 11..15) => self.update().await,
                (_, 15..18) => self.read_several().await,
                (_, 18) => self.list().await,
                _ => self.be_refused().await,
            }
        }
        while !self.doubtful.is_empty() {
            pace.tick().await;
            self.create().await;
        }
    }

    /// Anew, or once more what is in doubt.
    async fn create(&mut self) {
        let (key, body) = self.doubtful.pop().unwrap_or_else(|| {
            let (key, mrn) = (self.dice.roll(), self.dice.roll() % 10_000_000_000);
            let mrn = format!("MRN-{mrn:010}");
            (format!("{}-{key:016x}", self.number), json!({ "fields": {
                "family_name": "Okonkwo", "given_name": "Ifeoma", "birth_date": "1958-11-16", "mrn": mrn, "sex": "F",
            } }))
        });
        let request = self.portal.request(Method::POST, "/api/v1/patients").header("idempotency-key", &key);
        let answer = self.ask(request.json(&body), StatusCode::CREATED).await;
        // Cut off before the body: success was said, but not of what. The key finds out.
        let Some((request, Some(created))) = answer else {
            self.doubtful.push((key, body));
            return;
        };
        let id = created["id"].as_str().unwrap().to_owned();
        let mrn = body["fields"]["mrn"].as_str().unwrap().to_owned();
        let mut told = self.told.lock().unwrap();
        told.entries.insert(request, ("record.create", vec![id.clone()]));
        told.records.insert(id.clone(), Record { mrn, version: 1, phone: None, doubtful: Vec::new() });
        drop(told);
        self.mine.push(id);
    }

    async fn read(&mut self) {
        let id = self.any();
        let request = self.portal.request(Method::GET, &format!("/api/v1/patients/{id}"));
        if let Some((request, body)) = self.ask(request, StatusCode::OK).await {
            let mut told = self.told.lock().unwrap();
            told.entries.insert(request, ("record.read", vec![id.clone()]));
            if let Some(body) = body {
                told.records.get_mut(&id).unwrap().seen(&body);
                self.tally.saw(1);
            }
        }
    }

    async fn update(&mut self) {
        let id = self.any();
        let phone = format!("+49301{:07}", self.dice.roll() % 10_000_000);
        let version = self.told.lock().unwrap().records[&id].version;
        let request = self
            .portal
            .request(Method::PATCH, &format!("/api/v1/patients/{id}"))
            .header("if-match", format!("\"{version}\""))
            .json(&json!({ "fields": { "phone": phone } }));
        // In doubt from the moment it is sent.
        self.told.lock().unwrap().records.get_mut(&id).unwrap().doubtful.push(phone.clone());
        let answer = self.ask(request, StatusCode::OK).await;
        let mut told = self.told.lock().unwrap();
        let record = told.records.get_mut(&id).unwrap();
        if let Some((request, body)) = answer {
            assert!(body.is_none_or(|body| body["version"] == version + 1));
            record.is_now(version + 1, phone);
            told.entries.insert(request, ("record.update", vec![id]));
        }
    }

    async fn read_several(&mut self) {
        let mut ids: Vec<String> = (0..8).map(|_| self.any()).collect();
        ids.sort();
        ids.dedup();
        let request = self.import.request(Method::POST, "/api/v1/patients/batch/read");
        let answer = self.ask(request.json(&json!({ "ids": ids })), StatusCode::OK).await;
        if let Some((request, body)) = answer {
            let mut told = self.told.lock().unwrap();
            told.entries.insert(request, ("record.read", ids));
            for seen in body.iter().flat_map(|body| body["records"].as_array().unwrap()) {
                let record = &told.records[seen["id"].as_str().unwrap()];
                let version = seen["version"].as_u64().unwrap();
                let is_later = version == record.version + 1 && !record.doubtful.is_empty();
                assert!(version == record.version || is_later, "an acknowledged change is gone: {seen}");
                self.tally.saw(1);
            }
        }
    }

    async fn list(&mut self) {
        let request = self.import.request(Method::GET, "/api/v1/patients?limit=5");
        if let Some((request, _)) = self.ask(request, StatusCode::OK).await {
            self.told.lock().unwrap().entries.insert(request, ("record.list", Vec::new()));
        }
    }

    /// A refusal is on record before the caller hears of it.
    async fn be_refused(&mut self) {
        let path = format!("/api/v1/patients/{}", self.any());
        let request = self.portal.with_purpose("HMARKT").request(Method::GET, &path);
        if let Some((request, _)) = self.ask(request, StatusCode::FORBIDDEN).await {
            self.told.lock().unwrap().entries.insert(request, ("record.read", Vec::new()));
        }
    }

    fn any(&mut self) -> String {
        let place = self.dice.below(self.mine.len());
        self.mine[place].clone()
    }

    /// Request id and body of the expected answer, without the body when the service left in the middle of it: from the
    /// status on, the values may have been seen. Every other answer must be one that a fault explains, and come in time.
    async fn ask(
        &mut self,
        request: RequestBuilder,
        expected: StatusCode,
    ) -> Option<(String, Option<Value>)> {
        let before = self.tally.absences.load(Ordering::SeqCst);
        let begun = Instant::now();
        let answer = tokio::time::timeout(3 * DEADLINE, request.send()).await.expect("no answer at all");
        let (head, body) = match answer {
            Ok(answer) => {
                let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
                (Ok((answer.status(), request)), answer.json::<Value>().await)
            }
            Err(error) => (Err(()), Err(error)),
        };
        let was_there = before.is_multiple_of(2) && self.tally.absences.load(Ordering::SeqCst) == before;
        if was_there {
            assert!(begun.elapsed() < DEADLINE, "answered after {:?}", begun.elapsed());
            assert!(body.is_ok(), "an answer was due: {:?}", body.err());
        }
        self.tally.attempts.fetch_add(1, Ordering::SeqCst);
        let (status, request) = head.ok()?;
        if status == expected {
            self.tally.successes.fetch_add(1, Ordering::SeqCst);
            return Some((request, body.ok()));
        }
        self.tally.refusals.fetch_add(1, Ordering::SeqCst);
        let problem = body.ok()?;
        let code = problem["code"].as_str().unwrap();
        *self.tally.codes.lock().unwrap().entry(code.to_owned()).or_default() += 1;
        let is_explained = code == "version_stale" || UNAVAILABLE.contains(&code);
        assert!(is_explained, "{status} {code} to {expected}");
        None
    }
}

impl Record {
    /// What an answer showed must be what was acknowledged last, or a later change whose outcome was in doubt.
    pub fn seen(&mut self, body: &Value) {
        assert_eq!(body["fields"]["mrn"], *self.mrn);
        let (version, phone) = (body["version"].as_u64().unwrap(), body["fields"]["phone"].as_str());
        if version == self.version {
            assert_eq!(phone, self.phone.as_deref(), "an acknowledged change is gone");
        } else {
            assert_eq!(version, self.version + 1, "a change that nobody made");
            let phone = phone.unwrap().to_owned();
            assert!(self.doubtful.contains(&phone), "a change that nobody made");
            self.is_now(version, phone);
        }
    }

    fn is_now(&mut self, version: u64, phone: String) {
        (self.version, self.phone) = (version, Some(phone));
        self.doubtful.clear();
    }
}
