//! Who has to do with whom: clinicians and the patients of their care teams, patients and themselves. What a relationship
//! does not open is answered as if it were not there, byte for byte, and is in the log as refused.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::clinic::{Clinic, send, team_path, whole};
use crate::support::people::claims;
use crate::support::samples::{NOBODY, message, visit};
use crate::support::{problem, request_id};

#[tokio::test]
async fn a_clinician_reads_the_patients_of_their_care_team_and_of_no_other() {
    let clinic = Clinic::open().await;
    let (alice, bob) = (&clinic.alice, &clinic.bob);
    assert_eq!(clinic.set_team(alice, "\"1\"", &["ward-1", "ward-3"]).await.status(), 200);
    assert_eq!(clinic.set_team(bob, "\"1\"", &["ward-2"]).await.status(), 200);
    let token = clinic.doctor(&["ward-3", "ward-9"]);
    let get = async |path: &str| send(&clinic.desk, Method::GET, path, &token, None).await;
    let answer = get(&format!("/api/v1/patients/{alice}")).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap()["fields"]["family_name"], "Nováková");
    let entry = clinic.strongroom.entry_of(&request).await;
    assert_eq!(entry["basis"]["policy"], json!(["clinician-masked-identifiers", "clinician-reads"]));
    assert_eq!((&entry["subj"], &entry["who"]["on_behalf_of"]["uid"]), (&json!(alice), &json!("p-4711")));

    for (method, suffix, body) in [
        (Method::GET, "", None),
        (Method::GET, "?view=masked", None),
        (Method::GET, "?fields=family_name", None),
        (Method::GET, "?version=1", None),
        (Method::GET, "/history", None),
        (Method::PATCH, "", Some(json!({ "fields": { "sex": "F" } }))),
    ] {
        let ask = async |id: &str| {
            let path = format!("/api/v1/patients/{id}{suffix}");
            send(&clinic.desk, method.clone(), &path, &token, body.as_ref()).await
        };
        let entry = clinic.unseen(ask, bob).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "relationship_required" }), "{suffix}");
        assert_eq!(entry["basis"]["policy"], json!(["guard-clinician-care-team"]), "{suffix}");
        assert_eq!((&entry["subj"], &entry["obj"][0]["record"]), (&json!(bob), &json!(bob)), "{suffix}");
        assert_eq!(ask(bob).await.status(), 404, "{suffix}");
    }
    // An id that cannot be is answered like one that is not.
    let impossible = whole(get("/api/v1/patients/NO-SUCH-ID").await).await;
    assert_eq!(impossible, whole(get(&format!("/api/v1/patients/{NOBODY}")).await).await);
    // What is wrong with a request is told before anything is looked for.
    assert_eq!(
        problem(get(&format!("/api/v1/patients/{bob}?view=all")).await).await,
        (400, "query_invalid".into())
    );

    // New records are about somebody as well.
    let about = async |subject: &str| {
        send(&clinic.desk, Method::POST, "/api/v1/encounters", &token, Some(&visit(subject))).await
    };
    assert_eq!(about(alice).await.status(), 201);
    let entry = clinic.unseen(about, bob).await;
    assert_eq!(entry["out"], json!({ "status": "refused", "code": "relationship_required" }));
    assert_eq!(problem(about(bob).await).await, (422, "subject_unknown".into()));
}

#[tokio::test]
async fn who_looks_after_a_person_counts_from_the_moment_it_is_set() {
    let clinic = Clinic::open().await;
    let path = format!("/api/v1/patients/{}", clinic.alice);
    let status = async |teams: &[&str]| {
        send(&clinic.desk, Method::GET, &path, &clinic.doctor(teams), None).await.status().as_u16()
    };
    assert_eq!(status(&["ward-3"]).await, 404);
    assert_eq!(clinic.set_team(&clinic.alice, "\"1\"", &["ward-3"]).await.status(), 200);
    assert_eq!(status(&["ward-3"]).await, 200);
    assert_eq!(status(&["ward-2"]).await, 404);
    assert_eq!(clinic.set_team(&clinic.alice, "\"2\"", &[]).await.status(), 200);
    assert_eq!(status(&["ward-3"]).await, 404);
    // Somebody who is in no team at all can have to do with nobody: nothing is looked for.
    let answer = send(&clinic.desk, Method::GET, &path, &clinic.doctor(&[]), None).await;
    assert_eq!(problem(answer).await, (403, "relationship_required".into()));
    // The desk by itself acts for the ward, as before.
    assert_eq!(clinic.desk.get(&path).await.status(), 200);
}

#[tokio::test]
async fn a_patient_sees_their_own_records_through_whatever_application() {
    let clinic = Clinic::open().await;
    let (alice, bob) = (&clinic.alice, &clinic.bob);
    let letters = [
        clinic.portal.create("messages", &message(alice)).await["id"].as_str().unwrap().to_owned(),
        clinic.portal.create("messages", &message(bob)).await["id"].as_str().unwrap().to_owned(),
    ];
    let token = clinic.member(alice);
    let get = async |path: String| send(&clinic.portal, Method::GET, &path, &token, None).await;
    assert_eq!(get(format!("/api/v1/patients/{alice}")).await.status(), 200);
    assert_eq!(get(format!("/api/v1/patients/{alice}/history")).await.status(), 200);
    assert_eq!(get(format!("/api/v1/messages/{}", letters[0])).await.status(), 200);
    for (collection, hidden) in [("patients", bob), ("messages", &letters[1])] {
        let ask = async |id: &str| get(format!("/api/v1/{collection}/{id}")).await;
        let entry = clinic.unseen(ask, hidden).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "relationship_required" }));
        assert_eq!(entry["basis"]["policy"], json!(["guard-patient-own-record"]));
        assert_eq!(entry["subj"], json!(bob));
        // The portal may, for whomever it acts otherwise.
        assert_eq!(clinic.portal.get(&format!("/api/v1/{collection}/{hidden}")).await.status(), 200);
    }
    let write = async |subject: &str| {
        send(&clinic.portal, Method::POST, "/api/v1/messages", &token, Some(&message(subject))).await
    };
    assert_eq!(write(alice).await.status(), 201);
    let entry = clinic.unseen(write, bob).await;
    assert_eq!(entry["out"]["code"], "relationship_required");
    let delete = async |id: &str| {
        send(&clinic.portal, Method::DELETE, &format!("/api/v1/messages/{id}"), &token, None).await
    };
    clinic.unseen(delete, &letters[1]).await;
    assert_eq!(delete(&letters[0]).await.status(), 204);
    // A member whose token names no record has none.
    let nobody = clinic.signer.sign(&claims(&json!({ "roles": ["member"] })));
    let answer = send(&clinic.portal, Method::GET, &format!("/api/v1/patients/{alice}"), &nobody, None).await;
    assert_eq!(problem(answer).await, (403, "relationship_required".into()));
}

/// Nobody who acts for themselves is asked whom they have to do with: not a statement more than before.
#[tokio::test]
async fn who_needs_no_relationship_pays_for_none() {
    let clinic = Clinic::open().await;
    let path = format!("/api/v1/patients/{}", clinic.alice);
    assert_eq!(clinic.portal.get(&path).await.status(), 200);
    assert_eq!(clinic.desk.get(&path).await.status(), 200);
    let person = clinic.doctor(&[]);
    assert_eq!(send(&clinic.desk, Method::GET, &path, &person, None).await.status(), 403);
    assert_eq!(clinic.looked_up().await, 0);
    assert_eq!(send(&clinic.desk, Method::GET, &path, &clinic.doctor(&["ward-3"]), None).await.status(), 404);
    assert_eq!(clinic.looked_up().await, 1);
}

#[tokio::test]
async fn care_teams_are_set_by_version_and_on_record() {
    let clinic = Clinic::open().await;
    let path = team_path(&clinic.alice);
    let answer = clinic.coordination.get(&path).await;
    let request = request_id(&answer);
    assert_eq!((answer.status().as_u16(), answer.headers()["etag"].to_str().unwrap()), (200, "\"1\""));
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "teams": [] }));
    let entry = clinic.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["subj"]), (&json!("careteam.read"), &json!(clinic.alice)));

    let answer = clinic.set_team(&clinic.alice, "\"1\"", &["ward-3", "Physiotherapy"]).await;
    let request = request_id(&answer);
    assert_eq!((answer.status().as_u16(), answer.headers()["etag"].to_str().unwrap()), (200, "\"2\""));
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "teams": ["Physiotherapy", "ward-3"] }));
    let entry = clinic.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["subj"]), (&json!("careteam.update"), &json!(clinic.alice)));
    assert_eq!(entry["basis"]["policy"], json!(["coordinator-care-teams"]));
    // The names are nobody's business who reads the log.
    assert!(!entry.to_string().contains("ward-3"));

    assert_eq!(
        problem(clinic.set_team(&clinic.alice, "\"1\"", &[]).await).await,
        (412, "version_stale".into())
    );
    assert_eq!(
        problem(clinic.set_team(&clinic.alice, "2", &[]).await).await,
        (400, "if_match_invalid".into())
    );
    let put = async |body: Value| {
        let request = clinic.coordination.request(Method::PUT, &path).header("if-match", "\"2\"");
        request.json(&body).send().await.unwrap()
    };
    for bad in [
        json!({ "teams": ["a", "a"] }),
        json!({ "teams": [""] }),
        json!({ "teams": ["a\u{7}"] }),
        json!({ "teams": ["x".repeat(129)] }),
        json!({ "teams": (0..65).map(|number| format!("t{number}")).collect::<Vec<_>>() }),
        json!({ "teams": "a" }),
        json!({ "teams": [], "more": 1 }),
        json!([[]]),
    ] {
        assert_eq!(problem(put(bad.clone()).await).await, (400, "body_shape".into()), "{bad}");
    }
    let request = clinic.coordination.request(Method::PUT, &path).json(&json!({ "teams": [] }));
    assert_eq!(problem(request.send().await.unwrap()).await, (428, "if_match_required".into()));
    assert_eq!(clinic.coordination.get(&path).await.headers()["etag"], "\"2\"");
    // Of two at once, one.
    let (one, other) = tokio::join!(
        clinic.set_team(&clinic.alice, "\"2\"", &["a"]),
        clinic.set_team(&clinic.alice, "\"2\"", &["b"])
    );
    let mut both = [one.status().as_u16(), other.status().as_u16()];
    both.sort_unstable();
    assert_eq!(both, [200, 412]);

    let never = clinic.coordination.get(&team_path(NOBODY)).await;
    let impossible = clinic.coordination.get(&team_path("NO-SUCH-ID")).await;
    assert_eq!(whole(never).await, whole(impossible).await);
    assert_eq!(problem(clinic.set_team(NOBODY, "\"1\"", &[]).await).await, (404, "record_not_found".into()));
    // Who may not is told so, whatever the body.
    let request = clinic.portal.request(Method::PUT, &path).header("if-match", "\"2\"").body("{");
    let answer = request.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(problem(answer).await, (403, "action_not_allowed".into()));
}
