//! Rotation of a tenant key on the running service: asked for by one custodian, done while reads and writes go on, the old key
//! destroyed when another has approved it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::custody::{Custody, ROTATIONS, wish};
use crate::support::samples::{NOBODY, message};
use crate::support::{Client, eventually, problem, request_id};

/// What applications do meanwhile; stops when it is told.
struct Traffic<'c> {
    custody: &'c Custody,
    ids: &'c [String],
    stop: AtomicBool,
    done: AtomicUsize,
}

impl Traffic<'_> {
    fn goes_on(&self) -> bool {
        self.done.fetch_add(1, Ordering::SeqCst);
        !self.stop.load(Ordering::SeqCst)
    }

    async fn reads(&self) {
        for id in self.ids.iter().cycle() {
            assert_eq!(self.custody.portal.get(&format!("/api/v1/patients/{id}")).await.status(), 200);
            if !self.goes_on() {
                return;
            }
        }
    }

    /// New people, each with keys of their own, and a letter for somebody who had one before.
    async fn creates(&self) -> Vec<String> {
        let mut made = Vec::new();
        for id in self.ids.iter().cycle() {
            made.extend(self.custody.patients(1).await);
            self.custody.portal.create("messages", &message(id)).await;
            if !self.goes_on() {
                break;
            }
        }
        made
    }

    async fn updates(&self) {
        for id in self.ids {
            let path = format!("/api/v1/patients/{id}");
            let change = json!({ "fields": { "language": "en" } });
            assert_eq!(self.custody.portal.patch(&path, "\"1\"", &change).await.status(), 200);
            if !self.goes_on() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_key_is_replaced_while_reads_and_writes_go_on() {
    let mut custody = Custody::open().await;
    let ids = custody.patients(2_000).await;
    assert_eq!(custody.stored("phi").await, [(1, "active".into(), 2_000)]);
    let traffic =
        Traffic { custody: &custody, ids: &ids, stop: AtomicBool::new(false), done: AtomicUsize::new(0) };
    let rotation = async {
        let id = custody.rotate("phi").await;
        custody.is(&id, "rewrapped").await;
        // And a little longer, under the new key.
        let done = traffic.done.load(Ordering::SeqCst);
        while traffic.done.load(Ordering::SeqCst) < done + 30 {
            tokio::task::yield_now().await;
        }
        traffic.stop.store(true, Ordering::SeqCst);
        id
    };
    let ((), made, (), id) = tokio::join!(traffic.reads(), traffic.creates(), traffic.updates(), rotation);
    let all = i64::try_from(ids.len() + made.len()).unwrap();
    assert_eq!(custody.stored("phi").await, [(1, "retired".into(), 0), (2, "active".into(), all)]);
    assert_eq!(custody.stored("pii").await, [(1, "active".into(), all)], "the other class is not touched");
    let found = custody.rotation(&id).await;
    let rewrapped = found["rewrapped"].as_u64().unwrap();
    assert!((2_000..=u64::try_from(all).unwrap()).contains(&rewrapped), "{found}");
    assert_eq!((&found["left"], &found["from"], &found["to"]), (&json!(0), &json!(1), &json!(2)));
    custody.complete(&id).await;
    assert_eq!(custody.stored("phi").await, [(2, "active".into(), all)]);
    // What is in memory, and what is not any more.
    let everybody = [ids.as_slice(), &made].concat();
    custody.all_open(&everybody).await;
    custody.strongroom.kill_and_restart().await;
    custody.all_open(&everybody).await;
    let change = json!({ "fields": { "language": "fr" } });
    let last = format!("/api/v1/patients/{}", made.last().unwrap());
    assert_eq!(custody.portal.patch(&last, "\"1\"", &change).await.status(), 200);
    // Each step is on record, with what it was about.
    let entries = async |act: &str| custody.strongroom.entries_of(act).await;
    let keys = |versions: &[u64]| -> Vec<Value> {
        let of = |version: &u64| json!({ "class": ["phi"], "key": "tenant", "version": version });
        let rotation = json!({ "reference": "KEY-2026/11", "rotation": id });
        versions.iter().map(of).chain([rotation]).collect()
    };
    for (act, versions, who, count) in [
        ("key.rotate", &[1, 2][..], "custodian-alice", None),
        ("key.create", &[2], "strongroom", None),
        ("key.rewrap", &[1, 2], "strongroom", Some(rewrapped)),
        ("key.approve", &[1, 2], "custodian-bob", None),
        ("key.destroy", &[1], "strongroom", Some(rewrapped)),
    ] {
        let entry = entries(act).await.pop().unwrap();
        assert_eq!((&entry["obj"], &entry["who"]["uid"]), (&json!(keys(versions)), &json!(who)), "{act}");
        assert_eq!(entry["n"].as_u64(), count, "{act}");
        assert_eq!(entry["out"]["status"], "success", "{act}");
        assert_eq!(entries(act).await.len(), 1, "{act}");
    }
    // And again, on to the next.
    let next = custody.rotate("phi").await;
    custody.complete(&next).await;
    assert_eq!(custody.stored("phi").await, [(3, "active".into(), all)]);
    custody.all_open(&everybody).await;
}

#[tokio::test]
async fn the_old_key_is_destroyed_by_two_and_not_before_its_time() {
    let custody = Custody::open().await;
    custody.patients(3).await;
    let id = custody.rotate("pii").await;
    custody.is(&id, "rewrapped").await;
    let refused = async |client: &Client, id: &str, status: &str, code: &str| {
        let answer = custody.approve(client, id).await;
        let request = request_id(&answer);
        let expected = if status == "refused" { 403 } else { 409 };
        assert_eq!(problem(answer).await, (expected, code.to_owned()));
        let entry = custody.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": status, "code": code }));
        assert_eq!((&entry["act"], &entry["obj"][2]["rotation"]), (&json!("key.approve"), &json!(id)));
    };
    refused(&custody.alice, &id, "refused", "approve_own").await;
    refused(&custody.bob, &id, "failed", "key_too_young").await;
    custody.pass(13).await;
    refused(&custody.bob, &id, "failed", "key_too_young").await;
    custody.pass(1).await;
    refused(&custody.alice, &id, "refused", "approve_own").await;
    // Something needs it, whatever is on record.
    let keys = custody.strongroom.keys().await;
    let needs = |key: i64| format!("UPDATE subject_key SET tenant_key_id = {key} WHERE class = 'pii'");
    keys.batch_execute(&needs(1)).await.unwrap();
    refused(&custody.bob, &id, "failed", "key_in_use").await;
    keys.batch_execute(&needs(2)).await.unwrap();
    let approve = async || custody.approve(&custody.bob, &id).await;
    let (one, two) = tokio::join!(approve(), approve());
    let mut both = [one.status().as_u16(), two.status().as_u16()];
    both.sort_unstable();
    assert_eq!(both, [204, 409]);
    refused(&custody.bob, &id, "failed", "approved_already").await;
    custody.is(&id, "destroyed").await;
    assert_eq!(custody.stored("pii").await, [(2, "active".into(), 3)]);
    assert_eq!(custody.strongroom.entries_of("key.destroy").await.len(), 1);
}

/// Keys are counted some at a time: all of a large tenant's do not fit into one statement's time.
#[tokio::test]
async fn keys_are_counted_however_many_there_are() {
    let custody = Custody::open().await;
    custody.patients(2).await;
    let many = "INSERT INTO subject_key (tenant_id, owner, scope, class, key_id, tenant_key_id, header, wrapped, created_at) \
        SELECT tenant_id, to_hex(n), scope, class, key_id, tenant_key_id, header, wrapped, created_at FROM ( \
            SELECT * FROM subject_key WHERE class = $1 LIMIT 1) AS one, generate_series(1, $2::bigint) AS n";
    let keys = custody.strongroom.keys().await;
    for (class, count) in [("phi", 50_000_i64), ("pii", 70_000)] {
        keys.execute(many, &[&class, &count]).await.unwrap();
    }
    let wraps = async |class: &str| custody.status(class).await["keys"][0]["wraps"].clone();
    assert_eq!((wraps("phi").await, wraps("pii").await), (json!(50_002), json!(70_002)));
    // Of a neighbour nothing is counted.
    let other = "UPDATE subject_key SET tenant_id = gen_random_uuid() WHERE owner = 'f'";
    keys.batch_execute(&format!("ALTER TABLE subject_key DISABLE TRIGGER USER; {other}")).await.unwrap();
    assert_eq!((wraps("phi").await, wraps("pii").await), (json!(50_001), json!(70_001)));
}

#[tokio::test]
async fn custodians_see_ages_and_numbers_of_their_own_tenant_and_nobody_else_does() {
    let custody = Custody::open().await;
    custody.patients(2).await;
    let status = custody.status("phi").await;
    let key = &status["keys"][0];
    assert_eq!((&key["id"], &key["state"], &key["wraps"]), (&json!(1), &json!("active"), &json!(2)));
    assert_eq!(
        (&key["age_days"], &key["since"], status.get("rotation")),
        (&json!(0), &key["created_at"], None)
    );
    assert_eq!(custody.status("chd").await["keys"], json!([]));
    let id = custody.rotate("phi").await;
    custody.is(&id, "rewrapped").await;
    let status = custody.status("phi").await;
    assert_eq!(
        (&status["keys"][0]["state"], &status["keys"][1]["state"]),
        (&json!("retiring"), &json!("active"))
    );
    assert_eq!((&status["rotation"]["id"], &status["keys"][0]["wraps"]), (&json!(id), &json!(0)));
    let answer = custody.alice.get(ROTATIONS).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let request = request_id(&answer);
    let listed: Value = answer.json().await.unwrap();
    assert_eq!(
        (&listed["rotations"][0]["id"], listed["rotations"].as_array().unwrap().len()),
        (&json!(id), 1)
    );
    let entry = custody.strongroom.entry_of(&request).await;
    assert_eq!(
        (&entry["act"], &entry["n"], &entry["basis"]["policy"]),
        (&json!("key.read"), &json!(1), &json!(["custodian-rotates-keys"]))
    );
    // No key is told, wrapped or not.
    let text = status.to_string() + &listed.to_string();
    assert!(!text.contains("vault:"), "{text}");

    let auditor = custody.strongroom.client("audit").await.with_purpose("SYSADMIN");
    let operator = custody.strongroom.client("operator").await.with_purpose("SYSADMIN");
    let portal = custody.portal.with_purpose("SYSADMIN");
    let approvals = format!("{ROTATIONS}/{id}/approvals");
    for client in [&auditor, &operator, &portal] {
        for answer in [
            client.get("/api/v1/keys/status").await,
            client.get(ROTATIONS).await,
            client.get(&format!("{ROTATIONS}/{id}")).await,
            client.post(ROTATIONS, &wish("pii")).await,
            client.post(&approvals, &json!({})).await,
        ] {
            assert_eq!(problem(answer).await, (403, "action_not_allowed".into()));
        }
    }
    assert_eq!(
        problem(custody.alice.with_purpose("TREAT").get(ROTATIONS).await).await,
        (403, "purpose_not_allowed".into())
    );
    for nobody in [NOBODY, "NO-SUCH-ID"] {
        let answer = custody.approve(&custody.bob, nobody).await;
        assert_eq!(problem(answer).await, (404, "record_not_found".into()));
        let answer = custody.bob.get(&format!("{ROTATIONS}/{nobody}")).await;
        assert_eq!(problem(answer).await, (404, "record_not_found".into()));
    }
}

#[tokio::test]
async fn of_a_class_one_rotation_is_open_and_a_repeated_request_is_answered() {
    let custody = Custody::open().await;
    assert_eq!(
        problem(custody.alice.post(ROTATIONS, &wish("phi")).await).await,
        (409, "nothing_to_rotate".into())
    );
    custody.patients(2).await;
    for (member, bad) in [
        ("class", json!("index")),
        ("reason", json!("boredom")),
        ("reference", json!("Mr. Smith")),
        ("now", json!(true)),
    ] {
        let mut body = wish("phi");
        body[member] = bad;
        assert_eq!(
            problem(custody.alice.post(ROTATIONS, &body).await).await,
            (400, "body_shape".into()),
            "{member}"
        );
    }
    // Two at once, on two instances.
    let second = custody.second().await;
    let (body, other) = (wish("phi"), wish("phi"));
    let (one, two) = tokio::join!(custody.alice.post(ROTATIONS, &body), second.bob.post(ROTATIONS, &other));
    let mut codes = Vec::new();
    for answer in [one, two] {
        match answer.status().as_u16() {
            202 => codes.push("202".to_owned()),
            _ => codes.push(problem(answer).await.1),
        }
    }
    codes.sort_unstable();
    assert_eq!(codes, ["202", "rotation_open"]);
    assert_eq!(
        problem(custody.alice.post(ROTATIONS, &wish("phi")).await).await,
        (409, "rotation_open".into())
    );
    // The service goes on with it by itself.
    eventually("the key is made", async || !custody.strongroom.entries_of("key.create").await.is_empty())
        .await;
    assert_eq!(custody.strongroom.entries_of("key.create").await.len(), 1);

    let post = async |body: &Value| {
        let request = custody.alice.request(Method::POST, ROTATIONS);
        request.header("idempotency-key", "november").json(body).send().await.unwrap()
    };
    let first: Value = post(&wish("pii")).await.json().await.unwrap();
    let again = post(&wish("pii")).await;
    let request = request_id(&again);
    assert_eq!(
        (again.status().as_u16(), &again.headers()["idempotency-replayed"]),
        (202, &"true".parse().unwrap())
    );
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    let entry = custody.strongroom.entry_of(&request).await;
    assert_eq!(entry["out"], json!({ "status": "success", "code": "repeated" }));
    let mut other = wish("pii");
    other["reason"] = json!("compromise");
    assert_eq!(problem(post(&other).await).await, (422, "idempotency_key_reused".into()));
}
