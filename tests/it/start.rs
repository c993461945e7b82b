//! How a service begins and ends: what it refuses to run on, what it waits for, and what it leaves on record.

use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::door_frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Peer, frame, get, post_block};
use crate::support::export::Exported;
use crate::support::{
    Client, RawAnswer, Rig, ServiceOptions, Strongroom, administrator, eventually, problem,
};

fn patient() -> Value {
    json!({ "fields": {
        "family_name": "Sørensen", "given_name": "Åse", "birth_date": "1990-05-17", "mrn": "MRN-0012345678"
    } })
}

async fn new_patient(client: &Client) -> String {
    let created = client.create("patients", &patient()).await;
    format!("/api/v1/patients/{}", created["id"].as_str().unwrap())
}

async fn down(operator: &Client) -> Vec<String> {
    let body: Value = operator.get("/readyz").await.json().await.unwrap();
    let name = |down: &Value| down["part"].as_str().unwrap().to_owned();
    body["down"].as_array().unwrap().iter().map(name).collect()
}

/// Exit code and standard error of `strongroom serve`, which must end by itself.
async fn refused(rig: &Rig, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.arg("serve").arg("--config").arg(&rig.site.config_file).stdin(Stdio::null());
    command.envs(settings.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A service that starts while Vault is sealed lives and answers nothing: what it did before the log's key vouched for it would look
/// to whoever verifies the log like somebody else's doing.
#[tokio::test]
async fn a_service_that_starts_while_vault_is_sealed_waits_for_the_logs_key() {
    let rig = Arc::new(Rig::start("start-sealed").await);
    let vault = &rig.stack.vault;
    let mut strongroom =
        Strongroom::start_with(ServiceOptions { rig: Some(Arc::clone(&rig)), ..Default::default() }).await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let operator = strongroom.client("operator").await;
    let dashboard = strongroom.client("dashboard").await.with_purpose("HOPERAT");
    let auditor = strongroom.client("audit").await;
    let exported = Exported::of(&strongroom).await;
    let path = new_patient(&portal).await;
    // For whoever verifies what follows: from here on every process has a key.
    exported.has_everything(&strongroom).await;

    // Sealed, with the lists of the earlier run still good.
    strongroom.kill();
    vault.seal().await.unwrap();
    strongroom.relaunch().await;
    assert_eq!(operator.get("/livez").await.status(), 200);
    assert_eq!(down(&operator).await, ["vault"]);
    assert_eq!(problem(portal.get(&path).await).await, (503, "keys_unavailable".into()));
    let created = portal.post("/api/v1/patients", &patient()).await;
    assert_eq!(problem(created).await, (503, "keys_unavailable".into()));
    // Nor anything that needs no key: the log's key vouches for nobody yet.
    let history = format!("{path}/history");
    let log = "/api/v1/audit/events";
    for (client, path) in [(&dashboard, "/api/v1/patients"), (&portal, &history), (&auditor, log)] {
        assert_eq!(problem(client.get(path).await).await, (503, "keys_unavailable".into()), "{path}");
    }
    assert_eq!(operator.get("/metrics").await.status(), 200);
    vault.unseal().await.unwrap();
    strongroom.wait_until_ready().await;
    for (client, path) in
        [(&portal, path.as_str()), (&dashboard, "/api/v1/patients"), (&portal, &history), (&auditor, log)]
    {
        assert_eq!(client.get(path).await.status(), 200, "{path}");
    }
    exported.has_everything(&strongroom).await;
    exported.verify();
}

/// A sealed Vault and an absent log keep the service from serving, not from living; keys that are not as they must be keep
/// it from running at all, at the start and whenever it first sees them.
#[tokio::test]
async fn a_service_starts_without_its_parts_and_never_on_unsafe_keys() {
    let rig = Arc::new(Rig::start("start").await);
    let vault = &rig.stack.vault;
    let mut strongroom =
        Strongroom::start_with(ServiceOptions { rig: Some(Arc::clone(&rig)), ..Default::default() }).await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let operator = strongroom.client("operator").await;
    let path = new_patient(&portal).await;

    // The log's database is away: nothing is allowed or refused before the start is on record.
    strongroom.kill();
    let starts = strongroom.entries_of("service.start").await.len();
    rig.stack.data.kill9().await;
    strongroom.relaunch().await;
    assert_eq!(operator.get("/livez").await.status(), 200);
    assert_eq!(down(&operator).await, ["data", "audit"]);
    for client in [&portal, &portal.with_purpose("HMARKT")] {
        assert_eq!(problem(client.get(&path).await).await, (503, "audit_unavailable".into()));
    }
    rig.stack.data.start().await.unwrap();
    strongroom.wait_until_ready().await;
    assert_eq!(portal.get(&path).await.status(), 200);
    let entries = strongroom.entries_of("service.start").await;
    assert_eq!(entries.len(), starts + 1, "one start, one entry");
    // Behind the word of the log's key for this process.
    assert_eq!(entries.last().unwrap()["chain"]["seq"], 2);

    // A key that could be deleted.
    let fault = json!({ "deletion_allowed": true });
    rig.write_vault("transit/keys/strongroom-pii/config", &fault).await;
    let (code, said) = refused(&rig, &[]).await;
    assert_eq!(code, Some(1));
    let said = said.lines().last().unwrap();
    assert!(said.contains("strongroom-pii") && said.contains("must not allow deletion"), "{said}");

    // The same, seen late: sealed at the start, so the service lives; unsealed, it ends by itself.
    strongroom.kill();
    vault.seal().await.unwrap();
    strongroom.relaunch().await;
    assert_eq!(down(&operator).await, ["vault"]);
    assert_eq!(problem(portal.get(&path).await).await, (503, "keys_unavailable".into()));
    vault.unseal().await.unwrap();
    assert_eq!(strongroom.ended().await, Some(1));
    strongroom.logs("which key is unfit", |line| line.contains("strongroom-pii")).await;
    rig.write_vault("transit/keys/strongroom-pii/config", &json!({ "deletion_allowed": false })).await;
    strongroom.restart().await;
    assert_eq!(portal.get(&path).await.status(), 200);
}

/// A mistake in the configuration is told in one line that says which key or file and what to do, and shows no value.
#[tokio::test]
async fn mistakes_in_the_configuration_are_told_in_a_line() {
    let site = crate::support::site().await;
    for (setting, value, told) in [
        ("STRONGROOM__SERVER__LISTEN", "nowhere-7f3a", "server.listen"),
        ("STRONGROOM__SERVER__LISTENN", "127.0.0.1:0", "listenn"),
        ("STRONGROOM__CACHE__SOFT_LIFE_SECONDS", "7200", "cache.soft_life_seconds"),
        ("STRONGROOM__VAULT__ADDRESS", "https://vault-7f3a.example.org:8200", "vault.roots_file"),
        ("STRONGROOM__POLICY__DIRECTORY", "/nonexistent/policy", "policy"),
        ("STRONGROOM__DATABASE__DATA__PASSWORD_FILE", "/nonexistent/password", "database.data"),
        ("STRONGROOM__RELAY__CA_FILE", "/nonexistent/roots-7f3a.pem", "relay.ca_file"),
        ("STRONGROOM__VAULT__CREDENTIALS_MOUNT", "../7f3a", "[vault]"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.arg("serve").arg("--config").arg(&site.config_file).stdin(Stdio::null()).env(setting, value);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let last = said.lines().last().unwrap();
        assert_eq!(output.status.code(), Some(1), "{setting}: {said}");
        assert!(last.starts_with("strongroom: ") && last.contains(told), "{setting}: {last}");
        assert!(!last.contains("7f3a"), "{setting}: {last}");
        assert!(output.stdout.is_empty(), "{setting}");
    }
}

/// SIGTERM lets a request that is under way end well, takes no new connections, and leaves the last entry of the run.
#[tokio::test]
async fn a_stop_drains_and_is_on_record() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let path = new_patient(&portal).await;
    // By a flush that comes by itself: one that is on its way would wait for the log as well.
    eventually("the write is listed", async || {
        strongroom.all_entries().await.iter().any(|entry| entry["chain"]["writes"].is_array())
    })
    .await;
    let holder = administrator(&strongroom.databases.data.name).await;
    holder.batch_execute("BEGIN; LOCK TABLE audit_entry IN SHARE MODE").await.unwrap();
    let reading = tokio::spawn({
        let (portal, path) = (portal.clone(), path.clone());
        async move { portal.get(&path).await }
    });
    let watcher = administrator(&strongroom.databases.data.name).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the read waits for the log", async || {
        watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    let (stopped, answer) = tokio::join!(strongroom.stop(), async {
        eventually("the service stops", async || {
            strongroom.log().iter().any(|line| line.contains("service.stopping"))
        })
        .await;
        eventually("the door is shut", async || {
            tokio::net::TcpStream::connect(strongroom.address).await.is_err()
        })
        .await;
        holder.batch_execute("COMMIT").await.unwrap();
        reading.await.unwrap()
    });
    assert!(stopped);
    assert_eq!(answer.status(), 200);
    let acts: Vec<Value> = strongroom.entries().await.iter().map(|entry| entry["act"].clone()).collect();
    assert_eq!(acts, ["service.start", "record.create", "record.read", "service.stop"]);
    strongroom.logs("that it stopped", |line| line.contains("service.stopped")).await;
    assert!(strongroom.log().last().unwrap().contains("service.stopped"));
}

/// What was accepted before a stop is finished after it, over both protocols: a write whose body comes late is answered and
/// stored. Meanwhile no connection is taken, and on one that is open the service says that it drains.
#[tokio::test]
async fn a_write_that_was_accepted_is_finished_after_the_stop_began() {
    let strongroom = Strongroom::start().await;
    let raw = strongroom.raw_client("portal").await;
    let body = patient().to_string();
    let (early, late) = body.split_at(20);

    let (mut reader, mut writer) = tokio::io::split(raw.open().await);
    let head = format!(
        "POST /api/v1/patients HTTP/1.1\r\nhost: localhost\r\nx-purpose-of-use: TREAT\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    writer.write_all(head.as_bytes()).await.unwrap();
    // Said when the body is asked for, so the request is authorised.
    let mut go_on = [0; 25];
    reader.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    writer.write_all(early.as_bytes()).await.unwrap();

    let mut peer = Peer::over(raw.open_for(b"h2").await).await;
    let headers = [("x-purpose-of-use", "TREAT"), ("content-type", "application/json")];
    let asked = frame(HEADERS, END_HEADERS, 1, &post_block("/api/v1/patients", &headers));
    peer.say(&[asked, frame(DATA, 0, 1, early.as_bytes())].concat()).await;

    let http1 = async {
        eventually("the door is shut", async || {
            tokio::net::TcpStream::connect(strongroom.address).await.is_err()
        })
        .await;
        writer.write_all(late.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Closed by the service, and not by a reset.
        reader.read_to_end(&mut answer).await.unwrap();
        RawAnswer::parse(&answer)
    };
    let http2 = async {
        while peer.frame().await.unwrap().kind != GOAWAY {}
        // Its ping is not answered, so it still takes a request.
        peer.say(&get(3, "/readyz")).await;
        let ready = peer.answer(3).await;
        peer.say(&frame(DATA, END_STREAM, 1, late.as_bytes())).await;
        (ready, peer.answer(1).await)
    };
    let (stopped, http1, (ready, http2)) = tokio::join!(strongroom.stop(), http1, http2);
    assert!(stopped);
    assert_eq!(ready, (503, json!({ "status": "draining", "down": [], "alarms": [] })));
    assert!(http1.status == 201 && http1.head.contains("connection: close"), "{}", http1.head);
    let http1: Value = serde_json::from_slice(&http1.body).unwrap();
    let mut answered = [&http1["id"], &http2.1["id"]].map(|id| id.as_str().unwrap().to_owned());
    assert_eq!(http2.0, 201);
    answered.sort();
    let rows =
        strongroom.data().await.query("SELECT record_id FROM record ORDER BY record_id", &[]).await.unwrap();
    let stored: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(stored, answered);
    let acts: Vec<Value> = strongroom.entries().await.iter().map(|entry| entry["act"].clone()).collect();
    assert_eq!(acts, ["service.start", "record.create", "record.create", "service.stop"]);
}

/// Who had connected before a stop and shakes hands after it is told that the service drains, and is not cut off without a
/// word: what it asks for may be asked elsewhere.
#[tokio::test]
async fn a_handshake_that_is_under_way_when_a_stop_begins_ends_in_a_farewell() {
    let strongroom = Strongroom::start().await;
    let raw = strongroom.raw_client("portal").await;
    let socket = raw.connect().await;
    // Connections are taken in order, so the one before this was taken.
    drop(raw.open().await);
    let late = async {
        eventually("the door is shut", async || {
            tokio::net::TcpStream::connect(strongroom.address).await.is_err()
        })
        .await;
        let mut peer = Peer::over(raw.shake(socket, b"h2").await).await;
        while peer.frame().await.expect("GOAWAY comes before the end").kind != GOAWAY {}
    };
    let (stopped, ()) = tokio::join!(strongroom.stop(), late);
    assert!(stopped);
    assert!(!strongroom.log().iter().any(|line| line.contains("door.full")));
}
