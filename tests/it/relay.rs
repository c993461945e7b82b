//! A request that goes on to an outside service with values in it: what is sent, what comes back, and what is on record before.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::clearinghouse::{Clearinghouse, PATH, TOKEN, answers, edit, named, write_secret};
use crate::support::clinic::{Clinic, send};
use crate::support::contract::check_answer;
use crate::support::samples::patient;
use crate::support::{Does, ServiceOptions, eventually, problem, request_id};

/// What of the patient goes out, as the destination must see it.
const SENT: [&str; 5] = ["Nováková", "Žofie 佐藤", "1984-02-29", "987-65-4320", "9007199254740991"];

#[tokio::test]
async fn values_go_to_the_destination_and_the_caller_sees_none() {
    let scene = Clearinghouse::open().await;
    let told = json!({
        "status": "active",
        "coverage": { "plan": "Silver", "copay_usd": 12.50, "group": "G-1" },
        "trace": "t-1",
    });
    scene.destination.does(answers("402 Payment Required", &told));
    let patient = || named(&scene.patient);
    let body = json!({
        "payer": "EX-1", "amounts": [10.10, 12_345_678_901_234_567_890_u64], "note": "not {{ a placeholder",
        "subscriber": { "family_name": patient(), "given_name": patient(), "birth_date": patient(), "ssn": patient(), "id": null },
        "visit": { "number": named(&scene.visit) },
    });
    let request = scene.billing.request(Method::POST, PATH).json(&body);
    let request = request
        .header("idempotency-key", "claim-77")
        .header("x-correlation-id", "c-1")
        .header("cookie", "a=b");
    let answer = request.send().await.unwrap();
    let request = request_id(&answer);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let answer = check_answer(&Method::POST, answer).await;
    // Its own status, and of its answer what the file lets back.
    let shown = json!({ "status": 402, "answer": { "status": "active", "coverage": { "plan": "Silver", "copay_usd": 12.50 } } });
    assert_eq!(answer, shown);

    let received = scene.destination.received();
    assert_eq!(received.len(), 1, "once");
    let received = &received[0];
    assert!(received.head.starts_with("POST /v1/eligibility HTTP/1.1\r\n"), "{}", received.head);
    assert_eq!(received.header("authorization"), [format!("Bearer {TOKEN}")]);
    assert_eq!(received.header("idempotency-key"), ["claim-77"]);
    assert_eq!(received.header("content-type"), ["application/json"]);
    for kept in ["x-correlation-id", "cookie", "x-purpose-of-use", "x-request-id", "user-agent", "referer"] {
        assert_eq!(received.header(kept), [""; 0], "{kept}");
    }
    let mut expected = body;
    let subscriber = json!({ "family_name": SENT[0], "given_name": SENT[1], "birth_date": SENT[2], "ssn": SENT[3], "id": null });
    expected["subscriber"] = subscriber;
    expected["visit"]["number"] = json!(9_007_199_254_740_991_i64);
    assert_eq!(received.json(), expected);

    on_record(&scene, &request).await;
    let log = scene.strongroom.log().join("\n");
    for secret in SENT.iter().chain([&TOKEN, &"claim-77", &"Silver"]) {
        assert!(!log.contains(secret), "{secret} is in the service's log");
    }
}

/// An entry for each record, that says who was sent what of it.
async fn on_record(scene: &Clearinghouse, request: &str) {
    let mut entries = scene.strongroom.entries_of_request(request).await;
    entries.sort_by_key(|entry| entry["obj"][0]["collection"].to_string());
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        assert_eq!((&entry["act"], &entry["out"]), (&json!("record.relay"), &json!({ "status": "success" })));
        assert_eq!(entry["disc"], json!({ "recipient": "claims-clearinghouse" }));
        assert_eq!((&entry["purpose"], &entry["subj"]), (&json!("HPAYMT"), &json!(scene.patient)));
        assert_eq!(entry["basis"]["policy"], json!(["billing-relays-to-clearinghouse"]));
        assert_eq!(entry["req"]["route"], "/api/v1/relay/{destination}");
    }
    let visit = json!([{
        "class": ["phi"], "collection": "encounters", "fields": ["visit_number"], "record": scene.visit, "version": 1,
    }]);
    let patient = json!([{
        "class": ["pii"], "collection": "patients", "fields": ["family_name", "given_name", "birth_date", "ssn"],
        "record": scene.patient, "version": 1,
    }]);
    assert_eq!((&entries[0]["obj"], &entries[1]["obj"]), (&visit, &patient));
}

/// While the destination has not answered, what it was sent is on record already.
#[tokio::test]
async fn what_is_sent_is_on_record_before_it_is_sent() {
    let scene = Clearinghouse::open_with(ServiceOptions::default(), |folder| {
        edit(folder, "relay.toml", "timeout_ms = 10_000", "timeout_ms = 3_000");
    })
    .await;
    scene.destination.does(Does::Stalls(""));
    let asks = scene.asks();
    let (answer, ()) = tokio::join!(scene.relay(&asks), async {
        eventually("it arrives", async || scene.destination.received().len() == 1).await;
        let entries = scene.entries().await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0]["obj"][0]["fields"], json!(["ssn"]));
    });
    assert_eq!(problem(answer).await, (504, "relay_timeout".into()));
}

#[tokio::test]
async fn what_repeats_a_value_does_not_come_back() {
    let scene = Clearinghouse::open().await;
    let told =
        json!({ "status": "no member 987654320 is known", "coverage": { "plan": "Silver", "copay_usd": 5 } });
    scene.destination.does(answers("404 Not Found", &told));
    let answer = check_answer(&Method::POST, scene.relay(&scene.asks()).await).await;
    let shown = json!({ "status": 404, "answer": { "coverage": { "plan": "Silver", "copay_usd": 5 } }, "withheld": ["/status"] });
    assert_eq!(answer, shown);
    // An answer without anything that is let back is one.
    scene.destination.does(answers("500 Internal Server Error", &json!({ "trace": "t" })));
    let answer = check_answer(&Method::POST, scene.relay(&scene.asks()).await).await;
    assert_eq!(answer, json!({ "status": 500, "answer": {} }));
    scene.destination.does(Does::Writes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()));
    let answer = check_answer(&Method::POST, scene.relay(&scene.asks()).await).await;
    assert_eq!(answer, json!({ "status": 204, "answer": {} }));
}

/// Of a change of the record what is now; of a change of the file or of the secret what they say now.
#[tokio::test]
async fn what_is_there_now_is_sent_as_the_files_say_now() {
    let scene = Clearinghouse::open_with(ServiceOptions::default(), |folder| {
        edit(folder, "relay.toml", "path = \"claims-clearinghouse\"", "path = \"rotated/clearinghouse\"");
    })
    .await;
    write_secret("rotated/clearinghouse", &json!({ "token": "first" })).await;
    assert_eq!(scene.relay(&scene.asks()).await.status(), 200);
    write_secret("rotated/clearinghouse", &json!({ "token": "second" })).await;
    let path = format!("/api/v1/patients/{}", scene.patient);
    let change = json!({ "fields": { "ssn": "987-65-4321" } });
    assert_eq!(scene.portal.with_purpose("PATRQT").patch(&path, "\"1\"", &change).await.status(), 200);
    let answer = scene.relay(&scene.asks()).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 200);
    let received = scene.destination.received();
    assert_eq!(received[1].header("authorization"), ["Bearer second"]);
    assert_eq!(received[1].json()["subscriber"]["ssn"], "987-65-4321");
    assert_eq!(scene.strongroom.entry_of(&request).await["obj"][0]["version"], 2);
    // A place that the file names no longer is none.
    let folder = &scene.strongroom.policy_directory;
    edit(folder, "relay.toml", "pointer = \"/subscriber/ssn\"", "pointer = \"/subscriber/number\"");
    eventually("the place is another", async || scene.relay(&scene.asks()).await.status() == 422).await;
    assert_eq!(
        scene
            .destination
            .received()
            .iter()
            .filter(|one| one.json()["subscriber"]["number"] != Value::Null)
            .count(),
        0
    );
    let moved = json!({ "subscriber": { "number": named(&scene.patient) } });
    assert_eq!(scene.relay(&moved).await.status(), 200);
}

/// A clinician's person has sent what is of their care team, and of nobody else.
#[tokio::test]
async fn a_relationship_counts_as_it_does_for_a_read() {
    let signer = crate::support::tokens::Signer::new("ES256", "first");
    let scene = Clearinghouse::open_with(Clinic::options(&signer, |_| {}), |folder| {
        let rule = "\n@id(\"clinician-relays\")\npermit (principal in Role::\"clinician\", action == Action::\"relay\", \
                    resource in Destination::\"claims-clearinghouse\") when { context has purpose && \
                    context.purpose == Purpose::\"TREAT\" };\n";
        let file = folder.join("clinician.cedar");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + rule).unwrap();
    })
    .await;
    let desk = scene.strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let coordination = scene.strongroom.client("coordination").await.with_purpose("COC");
    let other = scene.portal.create_patient(patient()).await;
    let team = format!("/api/v1/subjects/{}/care-team", scene.patient);
    let request = coordination.request(Method::PUT, &team).header("if-match", "\"1\"");
    assert_eq!(request.json(&json!({ "teams": ["ward-3"] })).send().await.unwrap().status(), 200);
    let claims = crate::support::people::claims(&json!({ "roles": ["doctor"], "teams": ["ward-3"] }));
    let token = signer.sign(&claims);
    let relay = async |record: &str| {
        let body = json!({ "subscriber": { "ssn": named(record), "birth_date": named(record) } });
        send(&desk, Method::POST, PATH, &token, Some(&body)).await
    };
    let answer = relay(&scene.patient).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 200);
    let entry = scene.strongroom.entry_of(&request).await;
    assert_eq!(
        (&entry["subj"], &entry["who"]["on_behalf_of"]["uid"]),
        (&json!(scene.patient), &json!("p-4711"))
    );
    // Somebody else's is answered like nobody's, and is on record as refused.
    let answer = relay(&other).await;
    let request = request_id(&answer);
    let told = whole(answer).await;
    assert_eq!(told, whole(relay(crate::support::samples::NOBODY).await).await);
    let entry = scene.strongroom.entry_of(&request).await;
    assert_eq!(entry["out"], json!({ "status": "refused", "code": "relationship_required" }));
    assert_eq!(
        (&entry["subj"], &entry["disc"]["recipient"]),
        (&json!(other), &json!("claims-clearinghouse"))
    );
    // One of two is none of them.
    let both = json!({ "subscriber": { "ssn": named(&scene.patient), "birth_date": named(&other) } });
    let answer = send(&desk, Method::POST, PATH, &token, Some(&both)).await;
    assert_eq!(problem(answer).await, (404, "record_not_found".into()));
    assert_eq!(scene.destination.received().len(), 1);
}

async fn whole(answer: Response) -> (u16, String) {
    (answer.status().as_u16(), answer.text().await.unwrap())
}
