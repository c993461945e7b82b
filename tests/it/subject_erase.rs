//! Erasing a person: asked for by one, approved by another; from then on nothing of them opens and nothing is written for them,
//! their keys go, and a certificate says so.

use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::clinic::whole;
use crate::support::office::{Office, erase_path, wish};
use crate::support::people::claims;
use crate::support::samples::{NOBODY, message};
use crate::support::{Client, NORTH, problem, replace_file, request_id};

#[tokio::test]
async fn a_person_is_erased_by_two_for_everybody_and_a_certificate_says_so() {
    let office = Office::open().await;
    let (clinic, alice) = (&office.clinic, &office.clinic.alice);
    let before = office.keys().await;
    assert!(before.0 >= 4 && before.1 == 0, "{before:?}");
    let answer = office.ask(alice, &office.one).await;
    let request = request_id(&answer);
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["cache-control"]),
        (202, &"no-store".parse().unwrap())
    );
    let id = answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let entry = clinic.strongroom.entry_of(&request).await;
    assert_eq!(
        (&entry["act"], &entry["who"]["on_behalf_of"]["uid"]),
        (&json!("erasure.request"), &json!("o-1"))
    );
    assert_eq!(entry["obj"], json!([{ "erasure": id, "reference": "GDPR-117" }]));
    assert_eq!(entry["out"], json!({ "status": "success", "code": "person_request" }));
    let data = clinic.strongroom.data().await;
    let terms = async || {
        let sql = "SELECT (SELECT count(*) FROM index_term WHERE record_id = $1) \
                        + (SELECT count(*) FROM record WHERE record_id = $1 AND terms <> '{}')";
        data.query_one(sql, &[alice]).await.unwrap().get::<_, i64>(0)
    };
    assert!(terms().await > 0, "she can be found");
    let looked_after_by = async || {
        let sql = "SELECT care_teams FROM subject WHERE subject_id = $1";
        let id: uuid::Uuid = alice.parse().unwrap();
        data.query_one(sql, &[&id]).await.unwrap().get::<_, Option<Vec<String>>>(0)
    };
    assert_eq!(clinic.set_team(alice, "\"1\"", &["ward-7"]).await.status(), 200);
    assert!(looked_after_by().await.is_some());
    // Nothing has changed yet.
    assert_eq!(clinic.portal.get(&office.letter).await.status(), 200);
    assert_eq!(office.erasures().await[0]["state"], "requested");

    let answer = office.approve(alice, &id, &office.other).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 204);
    office.check_unavailable().await;
    assert_eq!(terms().await, 0, "and from here on not even as a term");
    assert_eq!(looked_after_by().await, None, "nor who looks after her");
    let entry = clinic.strongroom.entry_of(&request).await;
    assert_eq!(
        (&entry["act"], &entry["who"]["on_behalf_of"]["uid"]),
        (&json!("erasure.approve"), &json!("o-2"))
    );
    assert_eq!((&entry["subj"], &entry["obj"][0]["erasure"]), (&json!(alice), &json!(id)));

    office.is("erased").await;
    office.check_unavailable().await;
    // Whoever has both databases and Vault has no key of hers: of no record, and none can be made again.
    assert_eq!(office.keys().await, (0, 2));
    let complete = clinic.strongroom.entries_of("erasure.complete").await;
    assert_eq!(
        (complete.len(), &complete[0]["subj"], &complete[0]["obj"][0]["erasure"]),
        (1, &json!(alice), &json!(id))
    );
    assert_eq!(complete[0]["who"]["kind"], "service");
    // Not before what had begun to make a key could have ended: twice the key database's timeout of 3 s.
    let settled = "SELECT erased_at - confirmed_at >= interval '6 seconds' FROM erasure";
    assert!(data.query_one(settled, &[]).await.unwrap().get::<_, bool>(0));
    // Nobody else is touched.
    assert_eq!(clinic.portal.get(&format!("/api/v1/patients/{}", clinic.bob)).await.status(), 200);
    assert_eq!(clinic.portal.post("/api/v1/messages", &message(&clinic.bob)).await.status(), 201);
    check_certificate(&office).await;
}

/// It holds by itself and the log's keys, and says when it is over with backups.
async fn check_certificate(office: &Office) {
    let (clinic, alice) = (&office.clinic, &office.clinic.alice);
    let erasure = office.erasures().await.remove(0);
    let text = erasure["certificate"].as_str().unwrap();
    let folder = clinic.strongroom.log_directory().with_file_name("certificates");
    std::fs::create_dir_all(&folder).unwrap();
    let [file, keys] = ["certificate", "keys"].map(|name| folder.join(name).display().to_string());
    std::fs::write(&file, text).unwrap();
    let (code, printed, _) = clinic.strongroom.command(&["audit", "keys"]).await;
    assert_eq!(code, Some(0));
    std::fs::write(&keys, printed).unwrap();
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        let output =
            command.args(["audit", "certificate", &file, "--keys", &keys, "--json"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, printed) = check();
    assert_eq!(code, Some(0), "{printed}");
    let said: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&said["holds"], &said["statement"]["subject"]), (&json!(true), &json!(alice)));
    assert_eq!(said["statement"]["erased_at"], erasure["erased_at"]);
    let time = |name: &str| said["statement"][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("unrecoverable_from").duration_since(time("erased_at")).as_hours(), 14 * 24);
    std::fs::write(&file, text.replace(alice, &clinic.bob)).unwrap();
    let (code, printed) = check();
    assert_eq!((code, printed.contains("\"holds\":false")), (Some(3), true));
}

#[tokio::test]
async fn nobody_erases_alone_nor_without_a_name() {
    let office = Office::open().await;
    let (clinic, alice) = (&office.clinic, &office.clinic.alice);
    let id = office.asked(alice).await;
    let answer = office.approve(alice, &id, &office.one).await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (403, "approve_own".into()));
    let entry = clinic.strongroom.entry_of(&request).await;
    assert_eq!(entry["out"], json!({ "status": "refused", "code": "approve_own" }));
    assert_eq!((&entry["act"], &entry["obj"][0]["erasure"]), (&json!("erasure.approve"), &json!(id)));
    let post = async |client: &Client, path: &str, token: Option<&str>| {
        let request = client.request(Method::POST, path).json(&wish());
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        problem(request.send().await.unwrap()).await
    };
    let approve = format!("{}/{id}/approve", erase_path(alice));
    let member = clinic.member(alice);
    for path in [erase_path(alice), approve.clone()] {
        assert_eq!(post(&office.desk, &path, None).await, (403, "person_required".into()));
        let treat = office.desk.with_purpose("TREAT");
        assert_eq!(post(&treat, &path, Some(&office.other)).await, (403, "purpose_not_allowed".into()));
        assert_eq!(post(&clinic.portal, &path, Some(&member)).await, (403, "action_not_allowed".into()));
    }
    // Whose token brings no role is anybody, however many of them somebody has.
    for anybody in [json!({ "roles": ["doctor"], "sub": "x-1" }), json!({ "roles": [], "sub": "x-2" })] {
        let token = clinic.signer.sign(&claims(&anybody));
        for path in [erase_path(alice), approve.clone()] {
            assert_eq!(post(&office.desk, &path, Some(&token)).await, (403, "person_required".into()));
        }
    }
    for (subject, erasure) in
        [(alice.as_str(), NOBODY), (clinic.bob.as_str(), id.as_str()), (alice, "NO-SUCH-ID"), (NOBODY, &id)]
    {
        let answer = office.approve(subject, erasure, &office.other).await;
        assert_eq!(problem(answer).await, (404, "record_not_found".into()));
    }
    for subject in [NOBODY, "NO-SUCH-ID"] {
        assert_eq!(problem(office.ask(subject, &office.one).await).await, (404, "record_not_found".into()));
    }
    let nobody = whole(office.desk.get(&erase_path(NOBODY)).await).await;
    assert_eq!(nobody, whole(office.desk.get(&erase_path("NO-SUCH-ID")).await).await);
    for (member, bad) in
        [("reason", json!("tidiness")), ("reference", json!("Mr. Smith")), ("now", json!(true))]
    {
        let mut body = wish();
        body[member] = bad;
        let request =
            office.desk.request(Method::POST, &erase_path(alice)).bearer_auth(&office.one).json(&body);
        assert_eq!(problem(request.send().await.unwrap()).await, (400, "body_shape".into()), "{member}");
    }
}

/// One person is one, whichever application they come through.
#[tokio::test]
async fn another_application_makes_nobody_another_person() {
    let uri = format!("spiffe://strongroom.internal/client/{NORTH}/legal-desk");
    let desk = format!(
        "\n[[client]]\nname = \"legal-desk\"\ntenant = \"{NORTH}\"\nkind = \"app\"\nsan = \"{uri}\"\n\
         roles = [\"privacy_officer\"]\nacts_for = [\"privacy_officer\"]\nkey = \"hardware\"\n"
    );
    let with_desk = move |folder: &Path| {
        let file = folder.join("identities.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        replace_file(&file, &(text + &desk));
    };
    let office = Office::open_with(with_desk).await;
    let alice = &office.clinic.alice;
    let id = office.asked(alice).await;
    let (legal, _) = office.clinic.strongroom.client_with("client", &uri).await;
    let legal = legal.with_purpose("HCOMPL");
    let path = format!("{}/{id}/approve", erase_path(alice));
    let approve =
        async |token: &str| legal.request(Method::POST, &path).bearer_auth(token).send().await.unwrap();
    assert_eq!(problem(approve(&office.one).await).await, (403, "approve_own".into()));
    assert_eq!(approve(&office.other).await.status(), 204);
}

#[tokio::test]
async fn what_is_held_or_late_is_not_erased_and_approved_is_it_once() {
    let office = Office::open().await;
    let (clinic, alice) = (&office.clinic, &office.clinic.alice);
    let id = office.asked(alice).await;
    // A hold keeps it back, asked for before or after.
    let privacy = office.desk.with_purpose("HCOMPL");
    let holds = format!("/api/v1/subjects/{alice}/hold");
    let lawsuit = json!({ "reason": "litigation", "reference": "CV-1" });
    let hold: Value = privacy.post(&holds, &lawsuit).await.json().await.unwrap();
    assert_eq!(problem(office.ask(alice, &office.one).await).await, (409, "subject_held".into()));
    let answer = office.approve(alice, &id, &office.other).await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (409, "subject_held".into()));
    let entry = clinic.strongroom.entry_of(&request).await;
    assert_eq!(entry["out"], json!({ "status": "failed", "code": "subject_held" }));
    let release = format!("{holds}/{}", hold["id"].as_str().unwrap());
    assert_eq!(privacy.delete(&release).await.status(), 204);

    // After seven days it is too late.
    let data = clinic.strongroom.data().await;
    let older = "UPDATE erasure SET requested_at = requested_at - interval '7 days', \
                 lapses_at = lapses_at - interval '7 days'";
    assert_eq!(data.execute(older, &[]).await.unwrap(), 1);
    assert_eq!(office.erasures().await[0]["state"], "lapsed");
    let answer = office.approve(alice, &id, &office.other).await;
    assert_eq!(problem(answer).await, (409, "erasure_lapsed".into()));
    assert_eq!(clinic.portal.get(&office.letter).await.status(), 200, "nothing has happened");
    assert!(clinic.strongroom.entries_of("erasure.complete").await.is_empty());

    // Of two approvals at once one is first, and it is approved once. The desk's key is in hardware, and is no second factor of
    // whoever sits there with a colleague's password.
    let id = office.asked(alice).await;
    let password =
        clinic.signer.sign(&claims(&json!({ "roles": ["officer"], "sub": "o-2", "amr": ["pwd"] })));
    let answer = office.approve(alice, &id, &password).await;
    assert_eq!(problem(answer).await, (403, "second_factor_required".into()));
    let third = clinic.signer.sign(&claims(&json!({ "roles": ["officer"], "sub": "o-3" })));
    let (one, two) =
        tokio::join!(office.approve(alice, &id, &office.other), office.approve(alice, &id, &third));
    let mut both = [one.status().as_u16(), two.status().as_u16()];
    both.sort_unstable();
    assert_eq!(both, [204, 409]);
    let answer = office.approve(alice, &id, &third).await;
    assert_eq!(problem(answer).await, (409, "approved_already".into()));
}

#[tokio::test]
async fn a_repeated_request_is_answered_and_asks_for_nothing_more() {
    let office = Office::open().await;
    let alice = &office.clinic.alice;
    let post = async |body: &Value| {
        let request = office.desk.request(Method::POST, &erase_path(alice)).bearer_auth(&office.one);
        request.header("idempotency-key", "case-117").json(body).send().await.unwrap()
    };
    let first: Value = post(&wish()).await.json().await.unwrap();
    let again = post(&wish()).await;
    let request = request_id(&again);
    assert_eq!(
        (again.status().as_u16(), &again.headers()["idempotency-replayed"]),
        (202, &"true".parse().unwrap())
    );
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    let entry = office.clinic.strongroom.entry_of(&request).await;
    assert_eq!(entry["out"], json!({ "status": "success", "code": "repeated" }));
    let other = json!({ "reason": "unlawful", "reference": "GDPR-117" });
    assert_eq!(problem(post(&other).await).await, (422, "idempotency_key_reused".into()));
    assert_eq!(office.erasures().await.len(), 1);
}

/// What the service's logins may do to it, however they are used.
#[tokio::test]
async fn no_login_of_the_service_brings_anybody_back_or_erases_more_than_a_person() {
    let office = Office::open().await;
    office.begin().await;
    office.is("erased").await;
    let data = office.clinic.strongroom.data().await;
    data.batch_execute("SET ROLE strongroom_app").await.unwrap();
    for sql in [
        "UPDATE subject SET state = 'active' WHERE state = 'erased'",
        "UPDATE subject SET state = 'erased' WHERE state = 'active'",
        "UPDATE erasure SET approved_at = requested_at, approved_by = 'x'",
        "UPDATE erasure SET erased_at = now()",
        "UPDATE erasure SET requested_by = 'x'",
        "DELETE FROM erasure",
    ] {
        let error = data.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}");
    }
    let keys = office.clinic.strongroom.keys().await;
    for (role, sql) in [
        ("strongroom_keys", "SELECT destroy_subject_keys(gen_random_uuid(), 'x', '{}')"),
        ("strongroom_keys", "DELETE FROM subject_key"),
        ("strongroom_key_eraser", "DELETE FROM subject_key"),
        ("strongroom_key_eraser", "SELECT FROM subject_key"),
        ("strongroom_key_eraser", "SELECT FROM tenant_key"),
        ("strongroom_key_eraser", "INSERT INTO tombstone VALUES (gen_random_uuid(), 'x', now(), 'subject')"),
        ("strongroom_key_eraser", "SELECT destroy_record_keys('{}', '{}')"),
    ] {
        keys.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        let error = keys.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{role}: {sql}");
        keys.batch_execute("RESET ROLE").await.unwrap();
    }
}
