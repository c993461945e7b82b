//! Legal holds: while one is in force nothing of a person is deleted and nothing expires, whoever asks and whatever comes in
//! between; who places and releases them is on record, and none is forgotten.

use std::path::Path;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::clinic::whole;
use crate::support::samples::{NOBODY, message, note, small_patient};
use crate::support::{Client, ServiceOptions, Strongroom, eventually, problem, replace_file, request_id};

fn path_of(subject: &str) -> String {
    format!("/api/v1/subjects/{subject}/hold")
}

fn lawsuit() -> Value {
    json!({ "reason": "litigation", "reference": "CV-2026/117" })
}

/// Two people with a letter each, and who keeps what a lawsuit needs.
struct Archive {
    strongroom: Strongroom,
    portal: Client,
    privacy: Client,
    alice: String,
    bob: String,
}

impl Archive {
    async fn open() -> Self {
        let strongroom = Strongroom::start().await;
        let portal = strongroom.client("portal").await.with_purpose("PATRQT");
        let privacy = strongroom.client("privacy-desk").await.with_purpose("HCOMPL");
        let alice = portal.create_patient(small_patient()).await;
        let bob = portal.create_patient(small_patient()).await;
        Self { strongroom, portal, privacy, alice, bob }
    }

    async fn letter(&self, of: &str) -> String {
        let letter = self.portal.create("messages", &message(of)).await;
        format!("/api/v1/messages/{}", letter["id"].as_str().unwrap())
    }

    async fn place(&self, subject: &str) -> Response {
        self.privacy.post(&path_of(subject), &lawsuit()).await
    }

    async fn placed(&self, subject: &str) -> String {
        let answer = self.place(subject).await;
        assert_eq!(answer.status(), 201);
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    async fn release(&self, subject: &str, id: &str) -> Response {
        self.privacy.delete(&format!("{}/{id}", path_of(subject))).await
    }

    async fn holds(&self, subject: &str) -> Vec<Value> {
        let answer = self.privacy.get(&path_of(subject)).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );
        answer.json::<Value>().await.unwrap()["holds"].as_array().unwrap().clone()
    }

    async fn is_held(&self, letter: &str) -> bool {
        match self.portal.delete(letter).await {
            answer if answer.status() == 204 => false,
            answer => {
                assert_eq!(problem(answer).await, (409, "subject_held".into()));
                true
            }
        }
    }

    /// Until somebody waits for a lock in the data database.
    async fn somebody_waits(&self) {
        let data = self.strongroom.data().await;
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("somebody waits", async || data.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0)
            .await;
    }
}

#[tokio::test]
async fn while_a_hold_is_in_force_nothing_is_deleted_and_then_it_is() {
    let archive = Archive::open().await;
    let (alice, bob) = (&archive.alice, &archive.bob);
    let (letter, others) = (archive.letter(alice).await, archive.letter(bob).await);
    let therapist = archive.strongroom.client("therapist-desk").await.with_purpose("TREAT");
    let note = therapist.create("psychotherapy_notes", &note(alice)).await["id"].as_str().unwrap().to_owned();
    let note = format!("/api/v1/psychotherapy_notes/{note}");
    let answer = archive.place(alice).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 201);
    let first = answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let entry = archive.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["subj"]), (&json!("hold.place"), &json!(alice)));
    assert_eq!(entry["out"], json!({ "status": "success", "code": "litigation" }));
    assert_eq!(entry["obj"], json!([{ "hold": first, "reference": "CV-2026/117" }]));
    assert_eq!(entry["basis"]["policy"], json!(["privacy-holds"]));

    let answer = archive.portal.delete(&letter).await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (409, "subject_held".into()));
    let entry = archive.strongroom.entry_of(&request).await;
    assert_eq!(entry["out"], json!({ "status": "failed", "code": "subject_held" }));
    assert_eq!(entry["act"], "record.delete");
    let versioned = archive.portal.request(Method::DELETE, &letter).header("if-match", "\"1\"");
    assert_eq!(problem(versioned.send().await.unwrap()).await, (409, "subject_held".into()));
    assert_eq!(problem(therapist.delete(&note).await).await, (409, "subject_held".into()));
    let data = archive.strongroom.data().await;
    let count = async |sql: &str| data.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count("SELECT count(*) FROM key_destruction").await, 0);
    assert_eq!(count("SELECT count(*) FROM record WHERE deleted").await, 0);
    // A change keeps what was; other people's records go as ever.
    let change = json!({ "fields": { "read": true } });
    assert_eq!(archive.portal.patch(&letter, "\"1\"", &change).await.status(), 200);
    assert_eq!(archive.portal.read(&format!("{letter}?version=1")).await.0["fields"]["read"], false);
    assert!(!archive.is_held(&others).await);

    // As long as one is in force.
    let second = archive.placed(alice).await;
    assert_eq!(archive.release(alice, &first).await.status(), 204);
    assert!(archive.is_held(&letter).await);
    let answer = archive.release(alice, &second).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 204);
    let entry = archive.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["subj"]), (&json!("hold.release"), &json!(alice)));
    assert_eq!(entry["obj"], json!([{ "hold": second, "reference": "CV-2026/117" }]));
    assert!(!archive.is_held(&letter).await);
    assert_eq!(therapist.delete(&note).await.status(), 204);
}

#[tokio::test]
async fn what_has_expired_is_there_while_it_is_held() {
    let archive = Archive::open().await;
    let alice = &archive.alice;
    let letter = archive.letter(alice).await;
    let id = letter.rsplit('/').next().unwrap().to_owned();
    archive
        .strongroom
        .data()
        .await
        .batch_execute("UPDATE record SET expires_at = now() - interval '1 day'")
        .await
        .unwrap();
    let importer = archive.strongroom.client("records-import").await.with_purpose("TREAT");
    let seen = async || {
        let listed = importer.get("/api/v1/messages").await;
        let listed = (listed.status() == 200).then_some(listed.json::<Value>().await.unwrap());
        let batch = archive.portal.post("/api/v1/messages/batch/read", &json!({ "ids": [id] })).await;
        [
            archive.portal.get(&letter).await.status() == 200,
            archive.portal.get(&format!("{letter}?version=1")).await.status() == 200,
            archive.portal.get(&format!("{letter}/history")).await.status() == 200,
            batch.json::<Value>().await.unwrap()["records"].as_array().unwrap().len() == 1,
            listed.is_none_or(|listed| listed["records"].as_array().unwrap().len() == 1),
        ]
    };
    assert_eq!(seen().await[..4], [false; 4]);
    let hold = archive.placed(alice).await;
    assert_eq!(seen().await, [true; 5]);
    assert_eq!(archive.release(alice, &hold).await.status(), 204);
    assert_eq!(seen().await[..4], [false; 4]);
}

#[tokio::test]
async fn a_hold_is_placed_for_a_reason_and_released_once_and_stays_on_the_list() {
    let archive = Archive::open().await;
    let (alice, bob) = (&archive.alice, &archive.bob);
    for (member, bad) in [
        ("reason", json!("spite")),
        ("reference", json!("Mr. Smith's divorce")),
        ("reference", json!("")),
        ("until", json!("2027-01-01")),
    ] {
        let mut body = lawsuit();
        body[member] = bad;
        let answer = archive.privacy.post(&path_of(alice), &body).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (400, "body_shape".into()), "{member}");
        let entry = archive.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "body_shape" }), "{member}");
        assert_eq!(entry["subj"], json!(alice));
    }
    assert!(archive.holds(alice).await.is_empty());
    // Nobody is not there, in the same words whoever it is.
    let nobody = whole(archive.privacy.get(&path_of(NOBODY)).await).await;
    assert_eq!(nobody.0, 404);
    assert_eq!(nobody, whole(archive.privacy.get(&path_of("NO-SUCH-ID")).await).await);
    for subject in [NOBODY, "NO-SUCH-ID"] {
        assert_eq!(problem(archive.place(subject).await).await, (404, "record_not_found".into()));
    }
    let first = archive.placed(alice).await;
    for (subject, id) in [(bob.as_str(), first.as_str()), (alice, NOBODY), (alice, "NO"), (NOBODY, &first)] {
        assert_eq!(problem(archive.release(subject, id).await).await, (404, "record_not_found".into()));
    }
    let second = archive.placed(alice).await;
    let (one, two) = tokio::join!(archive.release(alice, &first), archive.release(alice, &first));
    let mut both = [one.status().as_u16(), two.status().as_u16()];
    both.sort_unstable();
    assert_eq!(both, [204, 409]);
    assert_eq!(problem(archive.release(alice, &first).await).await, (409, "hold_released".into()));
    let holds = archive.holds(alice).await;
    let ids: Vec<&Value> = holds.iter().map(|hold| &hold["id"]).collect();
    assert_eq!(ids, [&json!(second), &json!(first)], "those in force first");
    assert_eq!(
        (&holds[1]["released_by"], &holds[1]["placed_by"]),
        (&json!("privacy-desk"), &json!("privacy-desk"))
    );
    assert_eq!((&holds[0]["reference"], holds[0].get("released_at")), (&json!("CV-2026/117"), None));
    // Whoever has the service's login to the database takes none back and forgets none.
    let data = archive.strongroom.data().await;
    data.batch_execute("SET ROLE strongroom_app").await.unwrap();
    for sql in [
        "DELETE FROM subject_hold",
        "UPDATE subject_hold SET released_at = NULL, released_by = NULL",
        "UPDATE subject_hold SET reason = 'audit'",
        "UPDATE subject SET holds = 0",
    ] {
        let error = data.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}");
    }
}

#[tokio::test]
async fn a_repeated_placing_is_answered_and_places_nothing_more() {
    let archive = Archive::open().await;
    let alice = &archive.alice;
    let post = async |subject: &str, body: &Value| {
        let request = archive.privacy.request(Method::POST, &path_of(subject));
        request.header("idempotency-key", "case-117").json(body).send().await.unwrap()
    };
    let first: Value = post(alice, &lawsuit()).await.json().await.unwrap();
    let same = lawsuit();
    let answers = futures_util::future::join_all((0..4).map(|_| post(alice, &same))).await;
    for again in answers {
        assert_eq!(
            (again.status().as_u16(), &again.headers()["idempotency-replayed"]),
            (201, &"true".parse().unwrap())
        );
        let request = request_id(&again);
        assert_eq!(again.json::<Value>().await.unwrap(), first);
        let entry = archive.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "success", "code": "repeated" }));
    }
    let other = json!({ "reason": "audit", "reference": "CV-2026/117" });
    assert_eq!(problem(post(alice, &other).await).await, (422, "idempotency_key_reused".into()));
    assert_eq!(problem(post(&archive.bob, &lawsuit()).await).await, (422, "idempotency_key_reused".into()));
    assert_eq!(archive.holds(alice).await.len(), 1);
}

#[tokio::test]
async fn a_delete_that_comes_while_a_hold_is_placed_waits_and_sees_it() {
    let archive = Archive::open().await;
    let alice = &archive.alice;
    let letter = archive.letter(alice).await;
    let data = archive.strongroom.data().await;
    let tenant = archive.strongroom.tenant("clinic-north");
    let subject: uuid::Uuid = alice.parse().unwrap();
    // Nobody has locked the subject beforehand, and the count is not committed yet.
    data.batch_execute("BEGIN").await.unwrap();
    let sql = "INSERT INTO subject_hold (tenant_id, subject_id, hold_id, reason, reference, placed_by, placed_at) \
               VALUES ($1, $2, gen_random_uuid(), 'audit', 'A-1', 'privacy-desk', now())";
    data.execute(sql, &[&tenant, &subject]).await.unwrap();
    let (held, ()) = tokio::join!(archive.is_held(&letter), async {
        archive.somebody_waits().await;
        data.batch_execute("COMMIT").await.unwrap();
    });
    assert!(held, "the delete saw the hold that it waited for");

    // And a hold that comes while somebody deletes is in force afterwards: the answer is that of a later moment.
    let bobs = archive.letter(&archive.bob).await;
    let subject: uuid::Uuid = archive.bob.parse().unwrap();
    data.batch_execute("BEGIN").await.unwrap();
    let sql = "SELECT FROM subject WHERE tenant_id = $1 AND subject_id = $2 FOR SHARE";
    data.execute(sql, &[&tenant, &subject]).await.unwrap();
    let (answer, ()) = tokio::join!(archive.place(&archive.bob), async {
        archive.somebody_waits().await;
        data.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(answer.status(), 201);
    assert!(archive.is_held(&bobs).await);
}

/// Of many deletes at the time of a placing, those that were answered before it may have happened, and none after.
#[tokio::test]
async fn no_delete_happens_after_the_answer_to_a_placing() {
    let archive = Archive::open().await;
    let alice = &archive.alice;
    let letters: Vec<String> = futures_util::future::join_all((0..24).map(|_| archive.letter(alice))).await;
    let delete = async |letter: &str| archive.portal.delete(letter).await.status().as_u16();
    let (early, ()) = tokio::join!(
        futures_util::future::join_all(letters[..12].iter().map(|letter| delete(letter))),
        async {
            archive.placed(alice).await;
            let late =
                futures_util::future::join_all(letters[12..].iter().map(|letter| delete(letter))).await;
            assert_eq!(late, [409; 12]);
        }
    );
    let gone = early.iter().filter(|status| **status == 204).count();
    assert!(early.iter().all(|status| [204, 409].contains(status)), "{early:?}");
    let data = archive.strongroom.data().await;
    let deleted = data.query_one("SELECT count(*) FROM record WHERE deleted", &[]).await.unwrap();
    assert_eq!(deleted.get::<_, i64>(0), i64::try_from(gone).unwrap());
}

#[tokio::test]
async fn only_a_privacy_officer_with_a_second_factor_holds_for_a_purpose_that_fits() {
    let copied = |folder: &Path| {
        let file = folder.join("identities.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let hardware = "acts_for = [\"privacy_officer\"]\nkey = \"hardware\"";
        assert!(text.contains(hardware));
        replace_file(&file, &text.replace(hardware, "acts_for = [\"privacy_officer\"]"));
    };
    let options = ServiceOptions { policy: Some(Box::new(copied)), ..Default::default() };
    let strongroom = Strongroom::start_with(options).await;
    let portal = strongroom.client("portal").await.with_purpose("PATRQT");
    let alice = portal.create_patient(small_patient()).await;
    let privacy = strongroom.client("privacy-desk").await;
    let refused = async |client: &Client, code: &str| {
        for answer in [
            client.post(&path_of(&alice), &lawsuit()).await,
            client.get(&path_of(&alice)).await,
            client.delete(&format!("{}/{NOBODY}", path_of(&alice))).await,
        ] {
            let request = request_id(&answer);
            assert_eq!(problem(answer).await, (403, code.to_owned()));
            let entry = strongroom.entry_of(&request).await;
            assert_eq!((&entry["out"]["code"], &entry["subj"]), (&json!(code), &json!(alice)));
        }
    };
    refused(&privacy.with_purpose("HCOMPL"), "second_factor_required").await;
    refused(&privacy.with_purpose("TREAT"), "purpose_not_allowed").await;
    refused(&privacy, "purpose_required").await;
    refused(&portal.with_purpose("HCOMPL"), "action_not_allowed").await;
    let dashboard = strongroom.client("dashboard").await.with_purpose("HOPERAT");
    refused(&dashboard, "action_not_allowed").await;
    let data = strongroom.data().await;
    let held = data.query_one("SELECT count(*) FROM subject WHERE holds > 0", &[]).await.unwrap();
    assert_eq!(held.get::<_, i64>(0), 0);
}
