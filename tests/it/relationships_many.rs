//! Relationships where a request is about many: a batch gives those that a single read would give and tells nothing of the
//! others; a list shows what its reader may list; a batch is made for people of one's own or not at all.

use std::collections::BTreeSet;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::clinic::{Clinic, send, whole};
use crate::support::people::claims;
use crate::support::samples::{NOBODY, message, small_patient, visit};
use crate::support::{Client, problem, replace_file, request_id};

async fn read_many(client: &Client, collection: &str, token: &str, body: &Value) -> Response {
    send(client, Method::POST, &format!("/api/v1/{collection}/batch/read"), token, Some(body)).await
}

/// The body without the ids that were asked for, so that two can be compared.
fn places(body: &Value) -> (&Value, usize) {
    (&body["missing"], body["records"].as_array().unwrap().len())
}

#[tokio::test]
async fn a_batch_of_five_hundred_gives_those_of_the_care_team_in_one_look() {
    let clinic = Clinic::open().await;
    let people: Vec<Value> = (0..500).map(|_| json!({ "fields": small_patient() })).collect();
    let made = clinic.portal.post("/api/v1/patients/batch", &json!({ "records": people })).await;
    let made: Value = made.json().await.unwrap();
    let ids: Vec<&str> =
        made["records"].as_array().unwrap().iter().map(|each| each["id"].as_str().unwrap()).collect();
    // Every second one is the ward's, as the coordinators would have set it.
    let own: Vec<&str> = ids.iter().step_by(2).copied().collect();
    let uuids: Vec<uuid::Uuid> = own.iter().map(|id| id.parse().unwrap()).collect();
    let set =
        "UPDATE subject SET care_teams = ARRAY['ward-3'], care_team_version = 2 WHERE subject_id = ANY ($1)";
    assert_eq!(clinic.strongroom.data().await.execute(set, &[&uuids]).await.unwrap(), 250);

    let token = clinic.doctor(&["ward-3", "ward-9"]);
    let before = clinic.looked_up().await;
    let answer = read_many(&clinic.desk, "patients", &token, &json!({ "ids": ids })).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(clinic.looked_up().await, before + 1, "one round trip for all of them");
    let records = body["records"].as_array().unwrap();
    let shown: Vec<&str> = records.iter().map(|each| each["id"].as_str().unwrap()).collect();
    assert_eq!(shown, own);
    assert!(records.iter().all(|each| each["fields"]["family_name"] == "Nováková"));
    let missing: Vec<usize> = (0..500).filter(|place| place % 2 == 1).collect();
    assert_eq!(body["missing"], json!(missing));

    let entries = clinic.strongroom.entries_of_request(&request).await;
    assert_eq!(entries.len(), 501);
    let of = |outcome: Value| entries.iter().filter(move |entry| entry["out"] == outcome);
    let refused: Vec<&Value> = of(json!({ "status": "refused", "code": "relationship_required" })).collect();
    let named: BTreeSet<&str> =
        refused.iter().map(|entry| entry["obj"][0]["record"].as_str().unwrap()).collect();
    assert_eq!((refused.len(), named), (250, ids.iter().skip(1).step_by(2).copied().collect()));
    for entry in refused {
        assert_eq!(entry["basis"]["policy"], json!(["guard-clinician-care-team"]));
        assert_eq!(entry["subj"], entry["obj"][0]["record"]);
        assert!(entry["obj"][0].get("fields").is_none());
    }
    let batch = entries.iter().find(|entry| entry["act"] == "record.batch").unwrap();
    assert_eq!(batch["n"], 250);
    assert_eq!(batch["basis"]["policy"], json!(["clinician-masked-identifiers", "clinician-reads"]));
}

/// What is another ward's, what is not there and what is no id are one to whoever asks.
#[tokio::test]
async fn a_batch_does_not_tell_whether_there_is_a_record() {
    let clinic = Clinic::open().await;
    let (alice, bob) = (&clinic.alice, &clinic.bob);
    assert_eq!(clinic.set_team(alice, "\"1\"", &["ward-3"]).await.status(), 200);
    let token = clinic.doctor(&["ward-3"]);
    let ask = async |other: &str, fields: Option<Value>| {
        let mut body = json!({ "ids": [other, alice] });
        if let Some(fields) = fields {
            body["fields"] = fields;
        }
        whole(read_many(&clinic.desk, "patients", &token, &body).await).await
    };
    for fields in [None, Some(json!(["family_name"]))] {
        let hidden = ask(bob, fields.clone()).await;
        assert_eq!(hidden.0, 200);
        let body: Value = serde_json::from_slice(&hidden.2).unwrap();
        assert_eq!(places(&body), (&json!([0]), 1));
        assert_eq!(hidden, ask(NOBODY, fields.clone()).await);
        assert_eq!(hidden, ask("NO-SUCH-ID", fields).await);
    }
    // With nothing of one's own in it neither, whatever fields are named.
    let alone = async |id: &str| {
        let body = json!({ "ids": [id], "view": "plain", "fields": ["ssn"] });
        whole(read_many(&clinic.desk, "patients", &token, &body).await).await
    };
    assert_eq!(alone(bob).await, alone(NOBODY).await);
    // A field that is not for clinicians is refused by name, as in a single read.
    let body = json!({ "ids": [alice], "view": "plain", "fields": ["ssn"] });
    let refused = read_many(&clinic.desk, "patients", &token, &body).await;
    assert_eq!(problem(refused).await, (403, "field_not_allowed".into()));
    // Somebody of no team has to do with nobody, and hears so.
    let nobody = clinic.doctor(&[]);
    let refused = read_many(&clinic.desk, "patients", &nobody, &json!({ "ids": [alice] })).await;
    assert_eq!(problem(refused).await, (403, "relationship_required".into()));
    // The application by itself acts for the ward, and nobody is looked up for it.
    let before = clinic.looked_up().await;
    let all = clinic.desk.post("/api/v1/patients/batch/read", &json!({ "ids": [alice, bob] })).await;
    assert_eq!(all.json::<Value>().await.unwrap()["records"].as_array().unwrap().len(), 2);
    assert_eq!(clinic.looked_up().await, before);
}

#[tokio::test]
async fn what_a_batch_shows_under_broken_glass_is_marked_record_by_record() {
    // As shipped a clinician reads one by one under broken glass.
    let clinic = Clinic::open_with(|folder| {
        let rule = "@id(\"many-under-broken-glass\") permit (principal in Role::\"clinician\", action == Action::\"read_many\", \
                    resource) when { resource == Collection::\"patients\" && context has purpose && \
                    context.purpose == Purpose::\"BTG\" && context.break_glass };\n";
        std::fs::write(folder.join("extra.cedar"), rule).unwrap();
    })
    .await;
    let (alice, bob) = (&clinic.alice, &clinic.bob);
    let desk = clinic.desk.with_purpose("BTG");
    let token = clinic.doctor(&["ward-7"]);
    let open = json!({ "reason": "emergency", "reference": "ED-117", "minutes": 5, "subjects": [alice] });
    let opened = send(&desk, Method::POST, "/api/v1/break-glass", &token, Some(&open)).await;
    let id = opened.json::<Value>().await.unwrap()["id"].clone();
    let answer = read_many(&desk, "patients", &token, &json!({ "ids": [bob, alice] })).await;
    let request = request_id(&answer);
    assert_eq!(places(&answer.json().await.unwrap()), (&json!([0]), 1));
    let entries = clinic.strongroom.entries_of_request(&request).await;
    let of = |record: &str| entries.iter().find(|entry| entry["obj"][0]["record"] == record).unwrap();
    assert_eq!((of(alice).get("bg"), of(bob).get("bg")), (Some(&id), None));
    assert_eq!(of(bob)["out"]["code"], "relationship_required");
    let is_it = |line: &str| line.contains("break_glass.used") && line.contains(id.as_str().unwrap());
    clinic.strongroom.logs("that it was used", is_it).await;
}

async fn page(client: &Client, token: &str, path: &str) -> Value {
    let answer = send(client, Method::GET, path, token, None).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

fn ids(page: &Value) -> Vec<String> {
    page["records"].as_array().unwrap().iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect()
}

/// Page by page, over others that lie between, and nothing of the others: not in a page, not in its length, not in a cursor.
#[tokio::test]
async fn a_clinician_lists_the_patients_of_their_care_teams() {
    let clinic = Clinic::open().await;
    let mut own = Vec::new();
    for number in 0..9 {
        let id = clinic.portal.create_patient(small_patient()).await;
        let team = ["ward-1", "ward-2", "ward-3"][number % 3];
        assert_eq!(clinic.set_team(&id, "\"1\"", &[team, "day-clinic"]).await.status(), 200);
        if team != "ward-2" {
            own.push(id);
        }
    }
    own.sort();
    let token = clinic.doctor(&["ward-1", "ward-3"]);
    let answer = send(&clinic.desk, Method::GET, "/api/v1/patients", &token, None).await;
    let request = request_id(&answer);
    let all: Value = answer.json().await.unwrap();
    assert_eq!(ids(&all), own);
    assert!(all.get("next").is_none());
    let entry = clinic.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["n"]), (&json!("record.list"), &json!(6)));
    assert_eq!(entry["basis"]["policy"], json!(["clinician-lists"]));
    let (mut met, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = page(&clinic.desk, &token, &format!("/api/v1/patients{query}")).await;
        assert_eq!(page["records"].as_array().unwrap().len(), 2);
        met.extend(ids(&page));
        let Some(next) = page.get("next").and_then(Value::as_str) else { break };
        assert!(own.iter().any(|id| id == next), "a cursor names one's own");
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(met, own);
    // Their visits, and no others.
    let visits = [&own[0], &clinic.bob].map(|subject| (subject.clone(), visit(subject)));
    let mut made = Vec::new();
    for (_, visit) in &visits {
        let visit = clinic.desk.create("encounters", visit).await;
        made.push(visit["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids(&page(&clinic.desk, &token, "/api/v1/encounters").await), made[..1]);
    // Another ward has nothing here, which is no refusal; who is in none is told so; the application lists nothing.
    assert_eq!(
        page(&clinic.desk, &clinic.doctor(&["ward-9"]), "/api/v1/patients").await,
        json!({ "records": [] })
    );
    let refused = send(&clinic.desk, Method::GET, "/api/v1/patients", &clinic.doctor(&[]), None).await;
    assert_eq!(problem(refused).await, (403, "relationship_required".into()));
    assert_eq!(problem(clinic.desk.get("/api/v1/patients").await).await, (403, "action_not_allowed".into()));
}

#[tokio::test]
async fn a_patient_lists_and_reads_their_own_letters() {
    let clinic = Clinic::open().await;
    let (alice, bob) = (&clinic.alice, &clinic.bob);
    let mut letters = Vec::new();
    for subject in [alice, bob, alice] {
        let letter = clinic.portal.create("messages", &message(subject)).await;
        letters.push(letter["id"].as_str().unwrap().to_owned());
    }
    let token = clinic.member(alice);
    let mut own = vec![letters[0].clone(), letters[2].clone()];
    own.sort();
    assert_eq!(ids(&page(&clinic.portal, &token, "/api/v1/messages").await), own);
    let answer = read_many(&clinic.portal, "messages", &token, &json!({ "ids": letters })).await;
    let body: Value = answer.json().await.unwrap();
    assert_eq!(places(&body), (&json!([1]), 2));
    assert!(body["records"].as_array().unwrap().iter().all(|each| each["fields"]["body"].is_string()));
    let patients = send(&clinic.portal, Method::GET, "/api/v1/patients", &token, None).await;
    assert_eq!(problem(patients).await, (403, "action_not_allowed".into()));
}

/// A rule that takes something away from whoever is concerned: others are listed, oneself is not.
#[tokio::test]
async fn a_list_leaves_out_whom_a_relationship_forbids() {
    let clinic = Clinic::open_with(|folder| {
        let rules = "@id(\"extra-not-oneself\") @code(\"relationship_required\") forbid (principal in Role::\"integration\", \
                     action == Action::\"list\", resource) when { context.is_self };\n";
        std::fs::write(folder.join("extra.cedar"), rules).unwrap();
        let people = folder.join("people.toml");
        let text = std::fs::read_to_string(&people).unwrap();
        let table = "[issuer.roles]\n";
        replace_file(&people, &text.replace(table, &format!("{table}loader = \"integration\"\n")));
        let identities = folder.join("identities.toml");
        let text = std::fs::read_to_string(&identities).unwrap();
        let own = "roles = [\"integration\"]";
        replace_file(&identities, &text.replace(own, &format!("{own}\nacts_for = [\"integration\"]")));
    })
    .await;
    let import = clinic.strongroom.client("records-import").await.with_purpose("HOPERAT");
    let claims = claims(&json!({ "roles": ["loader"], "patient_id": clinic.alice }));
    let token = clinic.signer.sign(&claims);
    assert_eq!(ids(&page(&import, &token, "/api/v1/patients").await), std::slice::from_ref(&clinic.bob));
    let both = import.get("/api/v1/patients").await.json::<Value>().await.unwrap();
    assert_eq!(both["records"].as_array().unwrap().len(), 2, "by itself it is nobody");
}

#[tokio::test]
async fn a_batch_is_made_for_people_of_ones_own_or_not_at_all() {
    let clinic = Clinic::open().await;
    let (alice, bob) = (&clinic.alice, &clinic.bob);
    let carol = &clinic.portal.create_patient(small_patient()).await;
    for own in [alice, carol] {
        assert_eq!(clinic.set_team(own, "\"1\"", &["ward-3"]).await.status(), 200);
    }
    let token = clinic.doctor(&["ward-3"]);
    let make = async |subjects: &[&str]| {
        let records: Vec<Value> = subjects.iter().map(|subject| visit(subject)).collect();
        let body = json!({ "records": records });
        send(&clinic.desk, Method::POST, "/api/v1/encounters/batch", &token, Some(&body)).await
    };
    let answer = make(&[alice, carol, alice]).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(clinic.strongroom.entries_of("record.create").await.len(), 6, "three people and three visits");
    let answer = make(&[alice, bob, carol]).await;
    let request = request_id(&answer);
    let hidden = whole(answer).await;
    assert_eq!(hidden.0, 422);
    assert_eq!(hidden, whole(make(&[alice, NOBODY, carol]).await).await);
    let entry = clinic.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["subj"]), (&json!("record.create"), &json!(bob)));
    assert_eq!(entry["out"], json!({ "status": "refused", "code": "relationship_required" }));
    let count = "SELECT count(*) FROM record WHERE collection = 'encounters'";
    let stored: i64 = clinic.strongroom.data().await.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(stored, 3);
    assert_eq!(problem(make(&[]).await).await, (422, "batch_size".into()));
}
