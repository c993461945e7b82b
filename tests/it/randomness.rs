//! A system that runs out of randomness under a running service: nothing is sealed, recorded or answered with bytes that can
//! be guessed. The service is the real one on real parts behind its real door, put together here so that its one source of
//! randomness can be shut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use strongroom::audit::{Committer, Scribe};
use strongroom::config::{Config, DatabaseConfig, ErasureConfig};
use strongroom::domain::clock::{SharedClock, SystemClock};
use strongroom::domain::random::{NoRandomness, Random, SharedRandom, SystemRandom};
use strongroom::http::{self, App, door};
use strongroom::jobs::revocation::{self, CrlFiles};
use strongroom::keys::{KeyRing, Transit};
use strongroom::people::{self, People};
use strongroom::policy::{Authoriser, PolicySet};
use strongroom::service::{Parts, Service};
use strongroom::storage::{
    AuditReader, AuditStore, Database, KeyDatabase, KeyEraser, KeyRotator, RecordStore, SequenceStore,
};
use strongroom::tls::{LiveTls, TlsFiles};

use crate::support::samples::small_patient;
use crate::support::{
    Client, Databases, NORTH, administrator, fresh_databases, on_shared_runtime, policy_directory, problem,
    site,
};

/// The system's randomness, until it is shut.
#[derive(Default)]
struct Tap {
    system: SystemRandom,
    is_shut: AtomicBool,
}

impl Tap {
    fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::SeqCst);
    }
}

impl Random for Tap {
    fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness> {
        if self.is_shut.load(Ordering::SeqCst) { Err(NoRandomness) } else { self.system.fill(destination) }
    }
}

#[tokio::test]
async fn without_randomness_nothing_is_sealed_recorded_or_answered() {
    let databases = fresh_databases().await;
    let tap = Arc::new(Tap::default());
    let address = Box::pin(open(&databases, Arc::clone(&tap) as _)).await;
    let portal = Box::pin(portal(address)).await;
    let id = portal.create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{id}");
    // Its entry lists the write, so that nothing follows by itself.
    portal.read(&path).await;
    let before = rows(&databases).await;
    tap.shut(true);
    // With an id of the caller's, a request comes as far as the first thing that must not be guessed.
    let own = |request: reqwest::RequestBuilder| request.header("x-request-id", id.as_str());
    let new = json!({ "fields": small_patient() });
    let change = json!({ "fields": { "notes": "n" } });
    let etag = ("if-match", "\"1\"");
    for (what, request) in [
        ("a request's id", portal.request(Method::GET, &path)),
        ("a read's entry", own(portal.request(Method::GET, &path))),
        ("a record's id", own(portal.request(Method::POST, "/api/v1/patients").json(&new))),
        ("a salt", own(portal.request(Method::PATCH, &path).header(etag.0, etag.1).json(&change))),
        ("a refusal's entry", own(portal.request(Method::GET, "/api/v1/patients/none"))),
        ("a fault's entry", own(portal.request(Method::GET, &format!("{path}?view=whole")))),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["retry-after"], "1", "{what}");
        assert_eq!(problem(answer).await, (503, "randomness_unavailable".into()), "{what}");
    }
    assert_eq!(rows(&databases).await, before);
    tap.shut(false);
    let (record, _) = portal.read(&path).await;
    assert_eq!(record["fields"]["mrn"], small_patient()["mrn"]);
}

/// Versions and entries that are stored.
async fn rows(databases: &Databases) -> (i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM record), \
        (SELECT count(*) FROM audit_entry) + (SELECT count(*) FROM audit_outbox)";
    let row = administrator(&databases.data.name).await.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// As `strongroom serve` does it, without the workers that this needs not.
async fn open(databases: &Databases, random: SharedRandom) -> SocketAddr {
    let config = &site().await.config;
    let clock: SharedClock = Arc::new(SystemClock);
    let transit = Transit::connect(&config.vault, &config.environment, Arc::clone(&random)).unwrap();
    assert!(revocation::refresh(&transit, &CrlFiles::of(&config.server)).await);
    let service = service(config, databases, transit, (Arc::clone(&clock), random));
    service.check_databases().await.unwrap();
    service.check_keys().await.unwrap();
    let files = TlsFiles::of(&config.server, &policy_directory());
    let tls = LiveTls::open(files, Arc::clone(&clock), Box::new(|_| Ok(()))).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert!(service.note_start().await);
    let file = policy_directory().join(people::FILE);
    let open = |known: &people::Known<'_>| People::open(file, known, clock.now());
    let people = service.with_known(&tls.admission().identities(), open).unwrap();
    let limits = &config.limits;
    let app = App {
        service,
        admission: Arc::clone(tls.admission()),
        body_bytes: limits.body_bytes,
        batch_body_bytes: limits.batch_body_bytes,
        document_bytes: limits.document_bytes,
        request_timeout: Duration::from_millis(limits.request_timeout_ms),
        stall_timeout: Duration::from_millis(limits.stall_timeout_ms),
        metrics: strongroom::telemetry::metrics::install().unwrap(),
        openapi: http::openapi::OpenApiCache::default(),
        people: Arc::new(people),
    };
    let door = door::Door::new(tls, limits, clock);
    tokio::spawn(door::serve(door, listener, http::router(Arc::new(app)), std::future::pending()));
    address
}

fn service(
    config: &Config,
    databases: &Databases,
    transit: Transit,
    (clock, random): (SharedClock, SharedRandom),
) -> Arc<Service> {
    let database = |config: &DatabaseConfig| Database::open(config).unwrap();
    let log = databases.data_as("strongroom_audit_reader");
    let scribe = Scribe::new(Arc::clone(&clock), Arc::clone(&random), &config.server.instance);
    let (audit, _) =
        Committer::start(AuditStore::new(database(&databases.data)), scribe, &config.audit).unwrap();
    let (own_clock, own_random) = (Arc::clone(&clock), Arc::clone(&random));
    let keys = KeyDatabase::new(database(&databases.keys));
    Arc::new(Service::new(Parts {
        origin: strongroom::audit::checkpoint::KeyName::parse(&config.audit.origin).unwrap(),
        policy: Arc::new(Authoriser::new(Arc::new(PolicySet::load(&policy_directory()).unwrap()))),
        keys: KeyRing::open(keys, transit.clone(), &config.cache, own_clock, own_random),
        transit,
        relay: None,
        records: RecordStore::new(database(&databases.data)),
        audit,
        audit_reader: AuditReader::new(database(&log)),
        eraser: KeyEraser::new(database(&databases.keys)),
        erasures: ErasureConfig::default(),
        rotator: KeyRotator::new(database(&databases.keys)),
        rotated_key_backup_days: 14,
        sequence: SequenceStore::new(database(&databases.data_as("strongroom_sequencer"))),
        clock,
        random,
    }))
}

async fn portal(address: SocketAddr) -> Client {
    let uri = format!("spiffe://strongroom.internal/client/{NORTH}/portal");
    let files = on_shared_runtime(async move {
        site().await.issue_for("randomness", "client", &uri, 3_600).await.unwrap()
    });
    Client::new(address, site().await.roots_file(), Some(&files.await)).with_purpose("TREAT")
}
