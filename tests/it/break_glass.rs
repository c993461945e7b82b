//! Breaking the glass: for a person, of few, for minutes; each look is marked and announced, it ends by itself, and somebody
//! else reviews it.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::clinic::{Clinic, send, whole};
use crate::support::people::claims;
use crate::support::samples::NOBODY;
use crate::support::{Client, Databases, ServiceOptions, Strongroom, eventually, problem, request_id};

/// Reviews that are overdue.
const OVERDUE: &str = "strongroom_break_glass_overdue_reviews";
const PATH: &str = "/api/v1/break-glass";

/// A doctor of another ward, and who reviews.
struct Night {
    clinic: Clinic,
    desk: Client,
    privacy: Client,
    token: String,
}

impl Night {
    async fn begin() -> Self {
        let clinic = Clinic::open().await;
        let desk = clinic.desk.with_purpose("BTG");
        let privacy = clinic.strongroom.client("privacy-desk").await.with_purpose("HCOMPL");
        let token = clinic.doctor(&["ward-7"]);
        Self { clinic, desk, privacy, token }
    }

    async fn open(&self, subjects: &[&str], minutes: u32) -> Response {
        self.post(&json!({ "reason": "emergency", "reference": "ED-117", "minutes": minutes, "subjects": subjects })).await
    }

    async fn post(&self, body: &Value) -> Response {
        self.desk.request(Method::POST, PATH).bearer_auth(&self.token).json(body).send().await.unwrap()
    }

    async fn post_under(&self, key: &str, body: &Value) -> Response {
        let request = self.desk.request(Method::POST, PATH).bearer_auth(&self.token);
        request.header("idempotency-key", key).json(body).send().await.unwrap()
    }

    async fn opened(&self, subjects: &[&str]) -> String {
        let answer = self.open(subjects, 15).await;
        assert_eq!(answer.status(), 201);
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    async fn read(&self, patient: &str) -> Response {
        send(&self.desk, Method::GET, &format!("/api/v1/patients/{patient}"), &self.token, None).await
    }

    async fn review(&self, client: &Client, token: Option<&str>, id: &str) -> Response {
        let request = client.request(Method::POST, &format!("{PATH}/{id}/review"));
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        request.json(&json!({ "verdict": "justified" })).send().await.unwrap()
    }

    async fn unreviewed(&self) -> Vec<Value> {
        let answer = self.privacy.get(PATH).await;
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()["unreviewed"].as_array().unwrap().clone()
    }

    /// Everything that was opened is so much older.
    async fn age(&self, interval: &str) {
        let data = self.clinic.strongroom.data().await;
        let sql = format!(
            "ALTER TABLE break_glass DISABLE TRIGGER break_glass_only_ends; \
             UPDATE break_glass SET opened_at = opened_at - interval '{interval}', ends_at = ends_at - interval '{interval}'; \
             ALTER TABLE break_glass ENABLE ALWAYS TRIGGER break_glass_only_ends"
        );
        data.batch_execute(&sql).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_read_under_broken_glass_is_marked_and_announced_and_it_ends_by_itself() {
    let night = Night::begin().await;
    let (alice, bob) = (&night.clinic.alice, &night.clinic.bob);
    // Nothing is broken yet: there is no such record.
    assert_eq!(problem(night.read(alice).await).await, (404, "record_not_found".into()));
    let answer = night.open(&[alice], 15).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 201);
    let id = answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let entry = night.clinic.strongroom.entry_of(&request).await;
    assert_eq!(
        (&entry["act"], &entry["bg"], &entry["subj"]),
        (&json!("breakglass.open"), &json!(id), &json!(alice))
    );
    assert_eq!(entry["out"], json!({ "status": "success", "code": "emergency" }));
    assert_eq!(entry["who"]["on_behalf_of"]["uid"], "p-4711");

    let answer = night.read(alice).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 200);
    let entry = night.clinic.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["bg"]), (&json!("record.read"), &json!(id)));
    assert_eq!(entry["basis"]["policy"], json!(["clinician-under-broken-glass"]));
    let is_it = |line: &str, what: &str| line.contains(what) && line.contains(&id);
    night.clinic.strongroom.logs("that it was opened", |line| is_it(line, "break_glass.opened")).await;
    night.clinic.strongroom.logs("that it was used", |line| is_it(line, "break_glass.used")).await;
    let operator = night.clinic.strongroom.client("operator").await;
    let metrics = operator.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("strongroom_break_glass_opened_total 1"), "it is counted");
    assert!(metrics.contains("strongroom_break_glass_uses_total 1"), "each use is counted");

    // Of nobody else, for nobody else, for nothing else, and not to write.
    assert_eq!(whole(night.read(bob).await).await, whole(night.read(NOBODY).await).await);
    let path = format!("/api/v1/patients/{alice}");
    let other =
        night.clinic.signer.sign(&claims(&json!({ "sub": "p-2", "roles": ["doctor"], "teams": ["ward-7"] })));
    assert_eq!(send(&night.desk, Method::GET, &path, &other, None).await.status(), 404);
    assert_eq!(
        send(&night.clinic.desk, Method::GET, &path, &night.token, None).await.status(),
        404,
        "for treatment"
    );
    let body = json!({ "fields": { "sex": "F" } });
    let change = send(&night.desk, Method::PATCH, &path, &night.token, Some(&body)).await;
    assert_eq!(problem(change).await, (403, "purpose_not_allowed".into()));
    // What is not under it does not say so.
    let answer = night.clinic.portal.get(&path).await;
    assert_eq!(night.clinic.strongroom.entry_of(&request_id(&answer)).await.get("bg"), None);

    // A minute before it ends, and after.
    night.age("14 minutes").await;
    assert_eq!(night.read(alice).await.status(), 200);
    night.age("1 minute").await;
    let answer = night.read(alice).await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (404, "record_not_found".into()));
    let entry = night.clinic.strongroom.entry_of(&request).await;
    assert_eq!((&entry["out"]["code"], entry.get("bg")), (&json!("relationship_required"), None));
}

#[tokio::test]
async fn it_is_opened_by_a_person_with_two_factors_for_few_and_for_minutes() {
    let night = Night::begin().await;
    let (alice, bob) = (&night.clinic.alice, &night.clinic.bob);
    for (subjects, minutes) in
        [(vec![], 15), (vec![alice.as_str(); 1], 0), (vec![alice.as_str(); 1], 61), (vec![NOBODY; 1], 15)]
    {
        let expected = if subjects == [NOBODY] { "subject_unknown" } else { "break_glass_bounds" };
        assert_eq!(problem(night.open(&subjects, minutes).await).await, (422, expected.into()), "{minutes}");
    }
    let many: Vec<String> =
        (0..11).map(|number| format!("0192f0c1-0000-7000-8000-0000000000{number:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(problem(night.open(&many, 15).await).await, (422, "break_glass_bounds".into()));
    // One of two is not there: neither is opened.
    assert_eq!(problem(night.open(&[alice, NOBODY], 15).await).await, (422, "subject_unknown".into()));
    assert_eq!(night.read(alice).await.status(), 404);
    let good = json!({ "reason": "emergency", "reference": "ED-117", "minutes": 5, "subjects": [alice] });
    for (member, bad) in [
        ("reason", json!("curiosity")),
        ("reference", json!("Mr. Smith, bed 4")),
        ("minutes", json!(-1)),
        ("minutes", json!("5")),
        ("subjects", json!(["nobody"])),
        ("until", json!("tomorrow")),
    ] {
        let mut body = good.clone();
        body[member] = bad;
        assert_eq!(problem(night.post(&body).await).await, (400, "body_shape".into()), "{member}");
    }
    let refused = async |client: &Client, token: Option<&str>| {
        let request = client.request(Method::POST, PATH).json(&good);
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        problem(request.send().await.unwrap()).await
    };
    let one_factor = night.clinic.signer.sign(&claims(&json!({ "roles": ["doctor"], "amr": ["pwd"] })));
    assert_eq!(refused(&night.desk, Some(&one_factor)).await, (403, "second_factor_required".into()));
    assert_eq!(refused(&night.desk, None).await, (403, "person_required".into()));
    let member = night.clinic.member(alice);
    let portal = night.clinic.portal.with_purpose("BTG");
    assert_eq!(refused(&portal, Some(&member)).await, (403, "action_not_allowed".into()));
    assert_eq!(refused(&night.clinic.desk, Some(&night.token)).await, (403, "purpose_not_allowed".into()));
    assert!(night.unreviewed().await.is_empty());
    // For two, an entry for each; one named twice is one.
    let answer = night.open(&[alice, bob, alice], 60).await;
    assert_eq!(answer.status(), 201);
    let id = answer.json::<Value>().await.unwrap()["id"].clone();
    let entries = night.clinic.strongroom.entries_of("breakglass.open").await;
    let opened: Vec<_> =
        entries.iter().filter(|entry| entry["bg"] == id).map(|entry| entry["subj"].clone()).collect();
    assert_eq!(opened.len(), 2);
    assert_eq!(
        (night.read(alice).await.status(), night.read(bob).await.status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
}

#[tokio::test]
async fn somebody_else_reviews_it_once_and_that_ends_it() {
    let night = Night::begin().await;
    let alice = &night.clinic.alice;
    let id = night.opened(&[alice]).await;
    assert_eq!(night.read(alice).await.status(), 200);
    let waiting = night.unreviewed().await;
    assert_eq!(
        (waiting.len(), &waiting[0]["id"], &waiting[0]["reference"]),
        (1, &json!(id), &json!("ED-117"))
    );
    assert_eq!((&waiting[0]["subjects"], &waiting[0]["client"]), (&json!([alice]), &json!("clinician-desk")));
    assert_eq!(problem(night.desk.get(PATH).await).await, (403, "action_not_allowed".into()));
    // The same person, though an officer as well, through another client.
    let own = night.clinic.signer.sign(&claims(&json!({ "roles": ["officer", "doctor"] })));
    let answer = night.review(&night.privacy, Some(&own), &id).await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (403, "review_own".into()));
    let entry = night.clinic.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["bg"]), (&json!("breakglass.review"), &json!(id)));
    assert_eq!(entry["out"], json!({ "status": "refused", "code": "review_own" }));
    for nobody in [NOBODY, "NO-SUCH-ID"] {
        let answer = night.review(&night.privacy, None, nobody).await;
        assert_eq!(problem(answer).await, (404, "record_not_found".into()));
    }
    // Another officer; of two at once, one is first.
    let other = night.clinic.signer.sign(&claims(&json!({ "roles": ["officer"], "sub": "p-9" })));
    let (one, two) = tokio::join!(
        night.review(&night.privacy, Some(&other), &id),
        night.review(&night.privacy, None, &id)
    );
    let mut both = [one.status().as_u16(), two.status().as_u16()];
    both.sort_unstable();
    assert_eq!(both, [204, 409]);
    assert_eq!(
        problem(night.review(&night.privacy, None, &id).await).await,
        (409, "reviewed_already".into())
    );
    assert!(night.unreviewed().await.is_empty());
    assert_eq!(night.read(alice).await.status(), 404, "a review ends it");
    // Not even whoever has the service's login to the database makes it last.
    let data = night.clinic.strongroom.data().await;
    let longer = data.execute("UPDATE break_glass SET ends_at = ends_at + interval '1 hour'", &[]).await;
    assert!(longer.is_err());
}

#[tokio::test]
async fn what_nobody_reviews_in_time_shows_and_every_instance_agrees() {
    let mut night = Night::begin().await;
    let alice = night.clinic.alice.clone();
    let id = night.opened(&[&alice]).await;
    // Killed and started again, it is open still.
    night.clinic.strongroom.kill_and_restart().await;
    night.clinic.strongroom.wait_until_ready().await;
    assert_eq!(night.read(&alice).await.status(), 200);
    let operator = night.clinic.strongroom.client("operator").await;
    let overdue = async || operator.gauge(OVERDUE).await;
    eventually("it is counted", async || overdue().await == Some(0)).await;
    night.age("24 hours").await;
    eventually("it is overdue", async || overdue().await == Some(1)).await;
    let ready = night.privacy.get("/readyz").await.json::<Value>().await.unwrap();
    assert_eq!(ready["status"], "ready", "that is for people to see to");
    // How many it is, of all tenants, is nothing for every client.
    let members: Vec<&String> = ready.as_object().unwrap().keys().collect();
    assert_eq!(members, ["status", "down", "alarms"]);
    night
        .clinic
        .strongroom
        .logs("that it is overdue", |line| line.contains("break_glass.not_reviewed"))
        .await;
    assert_eq!(night.review(&night.privacy, None, &id).await.status(), 204);
    eventually("it is not overdue any more", async || overdue().await == Some(0)).await;
}

#[tokio::test]
async fn a_repeated_opening_is_answered_and_opens_nothing_more() {
    let night = Night::begin().await;
    let (alice, bob) = (&night.clinic.alice, &night.clinic.bob);
    let body =
        json!({ "reason": "emergency", "reference": "ED-117", "minutes": 15, "subjects": [alice, bob] });
    let first = night.post_under("night-1", &body).await;
    assert_eq!((first.status().as_u16(), first.headers().get("idempotency-replayed")), (201, None));
    let first: Value = first.json().await.unwrap();
    // In another order it is the same.
    let mut respelled = body.clone();
    respelled["subjects"] = json!([bob, alice, bob]);
    let again = night.post_under("\"night-1\"", &respelled).await;
    let request = request_id(&again);
    assert_eq!(again.status(), 201);
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    let entry = night.clinic.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["bg"]), (&json!("breakglass.open"), &first["id"]));
    assert_eq!(entry["out"], json!({ "status": "success", "code": "repeated" }));
    assert_eq!(night.unreviewed().await.len(), 1);
    // Anything else under the key is another request.
    for (member, other) in [
        ("reason", json!("team_wrong")),
        ("reference", json!("ED-118")),
        ("minutes", json!(16)),
        ("subjects", json!([alice])),
    ] {
        let mut changed = body.clone();
        changed[member] = other;
        let refused = night.post_under("night-1", &changed).await;
        let request = request_id(&refused);
        assert_eq!(problem(refused).await, (422, "idempotency_key_reused".into()), "{member}");
        let entry = night.clinic.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "failed", "code": "idempotency_key_reused" }));
    }
    // Another person's key is another key; what is no key is refused; what was refused leaves its key free.
    let other =
        night.clinic.signer.sign(&claims(&json!({ "sub": "p-2", "roles": ["doctor"], "teams": ["ward-7"] })));
    let request = night.desk.request(Method::POST, PATH).bearer_auth(&other);
    let theirs = request.header("idempotency-key", "night-1").json(&body).send().await.unwrap();
    assert_ne!(theirs.json::<Value>().await.unwrap()["id"], first["id"]);
    let refused = night.post_under("two words", &body).await;
    assert_eq!(problem(refused).await, (400, "idempotency_key_invalid".into()));
    let mut unknown = body.clone();
    unknown["subjects"] = json!([NOBODY]);
    let refused = night.post_under("night-2", &unknown).await;
    assert_eq!(problem(refused).await, (422, "subject_unknown".into()));
    assert_eq!(night.post_under("night-2", &body).await.headers().get("idempotency-replayed"), None);
    // After its review it is answered as it was then, and is not open again.
    let id = first["id"].as_str().unwrap();
    assert_eq!(night.review(&night.privacy, None, id).await.status(), 204);
    let later: Value = night.post_under("night-1", &body).await.json().await.unwrap();
    assert_eq!(later, first);
    let reviewed = night.review(&night.privacy, None, id).await;
    assert_eq!(problem(reviewed).await, (409, "reviewed_already".into()));
    // It is authorised anew each time.
    let treatment = night.clinic.desk.request(Method::POST, PATH).bearer_auth(&night.token);
    let refused = treatment.header("idempotency-key", "night-1").json(&body).send().await.unwrap();
    assert_eq!(problem(refused).await, (403, "purpose_not_allowed".into()));
}

#[tokio::test]
async fn of_the_same_opening_many_times_at_once_one_is_done() {
    let night = Night::begin().await;
    let body = json!({ "reason": "emergency", "reference": "ED-117", "minutes": 15, "subjects": [night.clinic.alice] });
    let asked = (0..8).map(|_| night.post_under("night-1", &body));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.status() == 201));
    let is_repeated = |answer: &&Response| answer.headers().contains_key("idempotency-replayed");
    assert_eq!(answers.iter().filter(is_repeated).count(), 7);
    assert_eq!(night.unreviewed().await.len(), 1);
    assert_eq!(
        night.clinic.strongroom.entries_of("breakglass.open").await.len(),
        8,
        "one opened, seven told again"
    );
}

/// Opened on one of two instances that run on the same databases, used, reviewed and ended on the other; both say what is
/// overdue.
#[tokio::test]
async fn two_instances_agree_at_every_moment() {
    let night = Night::begin().await;
    let (clinic, alice) = (&night.clinic, &night.clinic.alice);
    let held = &clinic.strongroom.databases;
    let databases = Databases { data: held.data.clone(), keys: held.keys.clone() };
    let options = Clinic::options(&clinic.signer, |_| {});
    let second = Strongroom::start_with(ServiceOptions { databases: Some(databases), ..options }).await;
    let desk = second.client("clinician-desk").await.with_purpose("BTG");
    let privacy = second.client("privacy-desk").await.with_purpose("HCOMPL");
    let path = format!("/api/v1/patients/{alice}");
    let elsewhere = async || send(&desk, Method::GET, &path, &night.token, None).await;
    assert_eq!(elsewhere().await.status(), 404);
    let body = json!({ "reason": "emergency", "reference": "ED-117", "minutes": 15, "subjects": [alice] });
    let first = night.post_under("night-1", &body).await;
    let first: Value = first.json().await.unwrap();
    let id = first["id"].as_str().unwrap();
    // Open on both at once, marked and announced where it is used, and a repeat on the other opens nothing.
    let answer = elsewhere().await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 200);
    assert_eq!(second.entry_of(&request).await["bg"], json!(id));
    second.logs("that it was used", |line| line.contains("break_glass.used") && line.contains(id)).await;
    assert!(!clinic.strongroom.log().iter().any(|line| line.contains("break_glass.used")));
    let request = desk.request(Method::POST, PATH).bearer_auth(&night.token);
    let again = request.header("idempotency-key", "night-1").json(&body).send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.headers().contains_key("idempotency-replayed")), (201, true));
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    // Overdue on both.
    let both = [clinic.strongroom.client("operator").await, second.client("operator").await];
    for instance in &both {
        eventually("it is counted", async || instance.gauge(OVERDUE).await == Some(0)).await;
    }
    clinic
        .strongroom
        .data()
        .await
        .batch_execute(
            "ALTER TABLE break_glass DISABLE TRIGGER break_glass_only_ends; \
         UPDATE break_glass SET opened_at = opened_at - interval '24 hours'; \
         ALTER TABLE break_glass ENABLE ALWAYS TRIGGER break_glass_only_ends",
        )
        .await
        .unwrap();
    for instance in &both {
        eventually("it is overdue here", async || instance.gauge(OVERDUE).await == Some(1)).await;
    }
    assert_eq!(elsewhere().await.status(), 200, "a review that is late ends nothing");
    // Reviewed there: it is over here, for both, at once.
    let waiting = privacy.get(PATH).await.json::<Value>().await.unwrap();
    assert_eq!(waiting["unreviewed"][0]["id"], json!(id));
    assert_eq!(night.review(&privacy, None, id).await.status(), 204);
    assert_eq!((elsewhere().await.status().as_u16(), night.read(alice).await.status().as_u16()), (404, 404));
    let reviewed = night.review(&night.privacy, None, id).await;
    assert_eq!(problem(reviewed).await, (409, "reviewed_already".into()));
    assert!(night.unreviewed().await.is_empty());
    for instance in &both {
        eventually("it is overdue no more", async || instance.gauge(OVERDUE).await == Some(0)).await;
    }
}
