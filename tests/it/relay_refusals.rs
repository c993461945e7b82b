//! What is not sent on, and what is not let back: each refusal says so, is on record, and nothing has reached the destination
//! that should not.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::clearinghouse::{Clearinghouse, PATH, TOKEN, edit, named, write_secret};
use crate::support::contract::check_answer;
use crate::support::samples::{NOBODY, small_patient};
use crate::support::{
    Client, Destination, Does, ServiceOptions, Strongroom, eventually, problem, request_id,
};

impl Clearinghouse {
    /// The answer, and the one entry that there must be of it.
    async fn refused(&self, client: &Client, body: &Value, expected: (u16, &str)) -> Value {
        let answer = client.post(PATH, body).await;
        let request = request_id(&answer);
        let told = check_answer(&Method::POST, answer).await;
        assert_eq!((&told["status"], &told["code"]), (&json!(expected.0), &json!(expected.1)), "{body}");
        let entry = self.strongroom.entry_of(&request).await;
        assert_eq!(
            (&entry["act"], &entry["out"]["code"]),
            (&json!("record.relay"), &json!(expected.1)),
            "{body}"
        );
        assert_eq!(entry["disc"]["recipient"], "claims-clearinghouse");
        entry
    }

    fn has_sent_nothing(&self) {
        assert_eq!(self.destination.connections(), 0, "the destination was asked");
    }
}

#[tokio::test]
async fn a_body_has_placeholders_where_the_file_names_them_and_nowhere_else() {
    let scene = Clearinghouse::open().await;
    let (patient, visit) = (named(&scene.patient), named(&scene.visit));
    let many: Value =
        (0..17).map(|place| (place.to_string(), json!(patient))).collect::<serde_json::Map<_, _>>().into();
    for body in [
        json!({}),
        json!({ "payer": "EX-1" }),
        json!({ "subscriber": { "ssn": "987-65-4320" } }),
        json!({ "subscriber": { "ssn": null } }),
        json!({ "subscriber": { "ssn": format!("{patient} ") } }),
        json!({ "subscriber": { "ssn": format!("{patient}{patient}") } }),
        json!({ "subscriber": { "ssn": "{{}}" } }),
        json!({ "subscriber": { "ssn": patient, "note": patient } }),
        json!({ "subscriber": { "ssn": patient }, "visit": visit }),
        json!({ "subscriber": { "ssn": patient }, "notes": [{ "a": " {{ whatever" }] }),
        json!({ "subscriber": { "ssn": patient }, visit: 1 }),
        json!({ "subscriber": { "ssn": [patient] } }),
        many,
    ] {
        let entry = scene.refused(&scene.billing, &body, (422, "relay_body_invalid")).await;
        assert_eq!((&entry["out"]["status"], entry.get("obj")), (&json!("refused"), None));
    }
    for (text, code) in [
        (format!("{{\"subscriber\":{{\"ssn\":\"{patient}\""), "body_not_json"),
        (format!("[{{\"subscriber\":{{\"ssn\":\"{patient}\"}}}}]"), "body_shape"),
        (format!("{{\"subscriber\":{{\"ssn\":\"{patient}\",\"ssn\":\"{patient}\"}}}}"), "body_shape"),
    ] {
        let request = scene.billing.request(Method::POST, PATH).header("content-type", "application/json");
        assert_eq!(problem(request.body(text).send().await.unwrap()).await, (400, code.to_owned()));
    }
    let request = scene.billing.request(Method::POST, PATH).header("content-type", "application/json");
    let answer = request.body(b"{\"a\":\"\xff\"}".to_vec()).send().await.unwrap();
    assert_eq!(problem(answer).await, (400, "body_not_utf8".into()));
    let request = scene.billing.request(Method::POST, PATH).header("content-type", "text/plain");
    let answer = request.body(scene.asks().to_string()).send().await.unwrap();
    assert_eq!(problem(answer).await, (415, "media_type_unsupported".into()));
    scene.has_sent_nothing();
}

#[tokio::test]
async fn who_may_not_hears_so_whatever_else_is_wrong() {
    let scene = Clearinghouse::open().await;
    let purpose = |code: &str| scene.billing.with_purpose(code);
    let none = scene.strongroom.client("billing").await;
    let bad = json!({ "subscriber": 1 });
    for body in [&scene.asks(), &bad] {
        scene.refused(&purpose("TREAT"), body, (403, "purpose_not_allowed")).await;
        scene.refused(&none, body, (403, "purpose_required")).await;
        scene.refused(&scene.portal, body, (403, "action_not_allowed")).await;
        let dashboard = scene.strongroom.client("dashboard").await.with_purpose("HPAYMT");
        scene.refused(&dashboard, body, (403, "action_not_allowed")).await;
        let auditor = scene.strongroom.client("audit").await.with_purpose("HPAYMT");
        let entry = scene.refused(&auditor, body, (403, "action_not_allowed")).await;
        assert_eq!(entry["basis"]["policy"], json!(["guard-auditor-no-values"]));
    }
    let answer = scene.billing.post("/api/v1/relay/nobody", &scene.asks()).await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (404, "destination_unknown".into()));
    assert_eq!(scene.strongroom.entry_of(&request).await["act"], "access.denied");
    let answer = scene.billing.get(PATH).await;
    assert_eq!(problem(answer).await, (405, "method_not_allowed".into()));
    scene.has_sent_nothing();
}

/// A field that a rule does not give is refused by its name, before anything is looked for.
#[tokio::test]
async fn a_field_that_policy_does_not_give_is_not_sent() {
    let scene = Clearinghouse::open_with(ServiceOptions::default(), |folder| {
        let guard = "\n@id(\"guard-no-ssn-out\")\nforbid (principal, action == Action::\"relay\", resource in Field::\"patients.ssn\");\n";
        let file = folder.join("guards.cedar");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + guard).unwrap();
    })
    .await;
    let body = json!({ "subscriber": { "ssn": named(&scene.patient), "birth_date": named(&scene.patient) } });
    let answer = scene.relay(&body).await;
    let request = request_id(&answer);
    let told = check_answer(&Method::POST, answer).await;
    assert_eq!(
        (&told["code"], &told["errors"]),
        (&json!("field_not_allowed"), &json!([{ "field": "ssn", "code": "not_allowed" }]))
    );
    let entry = scene.strongroom.entry_of(&request).await;
    assert_eq!((&entry["asked"], &entry["out"]["status"]), (&json!(["ssn"]), &json!("refused")));
    scene.has_sent_nothing();
    let rest = json!({ "subscriber": { "birth_date": named(&scene.patient) } });
    assert_eq!(scene.relay(&rest).await.status(), 200);
}

#[tokio::test]
async fn a_record_that_is_not_the_callers_is_none_and_nothing_is_sent() {
    let scene = Clearinghouse::open().await;
    let south = scene.strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let theirs = south.create_patient(small_patient()).await;
    let deleted = scene.portal.create_patient(small_patient()).await;
    let import = scene.strongroom.client("records-import").await.with_purpose("HOPERAT");
    assert_eq!(import.delete(&format!("/api/v1/patients/{deleted}")).await.status(), 204);
    let mut told = Vec::new();
    // A visit is no patient, and what is no id of ours is nobody's.
    for record in [&*theirs, &deleted, NOBODY, &scene.visit, "4111111111111111", "nobody"] {
        let body = json!({ "subscriber": { "ssn": named(record) } });
        let answer = scene.relay(&body).await;
        let request = request_id(&answer);
        told.push((answer.status().as_u16(), answer.text().await.unwrap()));
        let entry = scene.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "failed", "code": "record_not_found" }), "{record}");
        assert_eq!(entry.to_string().contains(record), record.len() == 36, "{record}");
    }
    told.dedup();
    assert_eq!(told.len(), 1, "byte for byte the same");
    assert_eq!(told[0].0, 404);
    // Beside one that is there as well.
    let body = json!({ "subscriber": { "ssn": named(&scene.patient), "birth_date": named(NOBODY) } });
    scene.refused(&scene.billing, &body, (404, "record_not_found")).await;
    scene.has_sent_nothing();
}

#[tokio::test]
async fn a_record_without_the_value_or_that_somebody_changed_is_not_sent() {
    let scene = Clearinghouse::open().await;
    let sparse = scene.portal.create_patient(small_patient()).await;
    let body = json!({ "subscriber": { "ssn": named(&sparse), "birth_date": named(&sparse) } });
    let entry = scene.refused(&scene.billing, &body, (422, "relay_value_missing")).await;
    assert_eq!((&entry["asked"], &entry["obj"][0]["record"]), (&json!(["ssn"]), &json!(sparse)));
    let data = scene.strongroom.data().await;
    let sql = "UPDATE record SET sealed_values = decode(repeat('00', length(sealed_values)), 'hex') WHERE record_id = $1";
    assert_eq!(data.execute(sql, &[&scene.visit]).await.unwrap(), 1);
    let all =
        json!({ "subscriber": { "ssn": named(&scene.patient) }, "visit": { "number": named(&scene.visit) } });
    scene.refused(&scene.billing, &all, (500, "record_unreadable")).await;
    scene.has_sent_nothing();
}

#[tokio::test]
async fn without_an_entry_nothing_is_sent() {
    let scene = Clearinghouse::open().await;
    let holder = scene.strongroom.data().await;
    holder.batch_execute("BEGIN; LOCK TABLE audit_entry IN ACCESS EXCLUSIVE MODE").await.unwrap();
    assert_eq!(problem(scene.relay(&scene.asks()).await).await, (503, "audit_unavailable".into()));
    scene.has_sent_nothing();
    holder.batch_execute("ROLLBACK").await.unwrap();
    eventually("the log can be written", async || scene.relay(&scene.asks()).await.status() == 200).await;
}

/// Without roots, or without what it is known by there, the service asks nobody.
#[tokio::test]
async fn without_roots_or_a_credential_nothing_is_sent() {
    let scene = Clearinghouse::open_with(ServiceOptions::default(), |folder| {
        edit(folder, "relay.toml", "path = \"claims-clearinghouse\"", "path = \"nobody-wrote-this\"");
    })
    .await;
    let unavailable = (503, "relay_credential_unavailable".to_owned());
    assert_eq!(problem(scene.relay(&scene.asks()).await).await, unavailable);
    let (_, said, _) = scene.strongroom.command(&["doctor", "--json"]).await;
    assert!(said.contains("claims-clearinghouse: its credential"), "{said}");
    // A key that the secret does not have, and one that is no header.
    write_secret("nobody-wrote-that", &json!({ "other": TOKEN })).await;
    write_secret("nobody-wrote-these", &json!({ "token": "two\nlines" })).await;
    for (before, after) in [("this", "that"), ("that", "these")] {
        let folder = &scene.strongroom.policy_directory;
        let hash = || scene.strongroom.log().iter().filter(|line| line.contains("policy.reloaded")).count();
        let loaded = hash();
        edit(folder, "relay.toml", &format!("wrote-{before}"), &format!("wrote-{after}"));
        eventually("the file is taken up", async || hash() > loaded).await;
        assert_eq!(problem(scene.relay(&scene.asks()).await).await, unavailable);
    }
    assert_eq!(scene.entries().await.len(), 0, "what was not sent is not said to have been");
    scene.has_sent_nothing();
    let strongroom = Strongroom::start().await;
    let billing = strongroom.client("billing").await.with_purpose("HPAYMT");
    let answer = billing.post(PATH, &json!({ "subscriber": { "ssn": named(NOBODY) } })).await;
    assert_eq!(check_answer(&Method::POST, answer).await["code"], "relay_not_configured");
}

/// What could not be sent, or had no answer that is let back, has an entry more that says so.
#[tokio::test]
async fn what_becomes_of_it_is_told_and_on_record() {
    let scene = Clearinghouse::open_with(ServiceOptions::default(), |folder| {
        edit(folder, "relay.toml", "timeout_ms = 10_000", "timeout_ms = 4_000");
    })
    .await;
    let large = format!("{{\"status\":\"{}\"}}", "a".repeat(1 << 20));
    let page =
        |head: &str| Does::Writes(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{{}}").into_bytes());
    let elsewhere = format!("307 Temporary Redirect\r\nlocation: {}", scene.destination.url("/v2"));
    for (does, expected) in [
        (page(&elsewhere), (502, "relay_answer_invalid")),
        (page("200 OK\r\ncontent-type: text/html"), (502, "relay_answer_invalid")),
        (
            page("200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip"),
            (502, "relay_answer_invalid"),
        ),
        (Does::Answers("200 OK", "{\"status\":".to_owned()), (502, "relay_answer_invalid")),
        (Does::Answers("200 OK", large), (502, "relay_answer_invalid")),
        (Does::HangsUp, (502, "relay_answer_invalid")),
        (Does::Stalls("HTTP/1.1 200 OK\r\n"), (504, "relay_timeout")),
    ] {
        let before = scene.destination.received().len();
        scene.destination.does(does);
        becomes(&scene, expected).await;
        assert_eq!(scene.destination.received().len(), before + 1, "once, and nowhere else: {expected:?}");
    }
    assert_eq!(counted(&scene).await, [0, 0, 6, 1]);
    // Somebody else at its address, whom the roots do not vouch for; and nobody.
    let other = Destination::start(Does::HangsUp).await;
    scene.destination.does(Does::HangsUp);
    let mut unreachable = 0;
    for url in [other.url("/v1"), format!("https://localhost:{}/v1", closed_port().await)] {
        let file = scene.strongroom.policy_directory.join("relay.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let old = text.lines().find(|line| line.starts_with("url = ")).unwrap().to_owned();
        edit(&scene.strongroom.policy_directory, "relay.toml", &old, &format!("url = \"{url}\""));
        eventually("it is at the other address", async || {
            let is_unreachable = problem(scene.relay(&scene.asks()).await).await.1 == "relay_unreachable";
            unreachable += u64::from(is_unreachable);
            is_unreachable
        })
        .await;
        becomes(&scene, (502, "relay_unreachable")).await;
        unreachable += 1;
    }
    assert_eq!(other.received().len(), 0, "nobody else was sent anything");
    let is_reason = |line: &str| line.contains("relay.failed") && line.contains("relay.ca_file");
    scene.strongroom.logs("what it may be is in the log", is_reason).await;
    assert_eq!(counted(&scene).await[1], unreachable);
}

/// By outcome, how many were sent on or were to be.
async fn counted(scene: &Clearinghouse) -> [u64; 4] {
    let operator = scene.strongroom.client("operator").await;
    let metrics = operator.get("/metrics").await.text().await.unwrap();
    ["answered", "unreachable", "answer_invalid", "timed_out"].map(|outcome| {
        let line = format!("strongroom_relayed_total{{outcome=\"{outcome}\"}} ");
        metrics.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
    })
}

/// The refusal, with what was to be sent and what became of it on record, in this order.
async fn becomes(scene: &Clearinghouse, expected: (u16, &str)) {
    let answer = scene.relay(&scene.asks()).await;
    let request = request_id(&answer);
    let told = check_answer(&Method::POST, answer).await;
    assert_eq!((&told["status"], &told["code"]), (&json!(expected.0), &json!(expected.1)));
    let entries = scene.strongroom.entries_of_request(&request).await;
    assert_eq!(entries.len(), 2, "{expected:?}");
    let outcome = |status: &str| entries.iter().find(|entry| entry["out"]["status"] == status).unwrap();
    assert_eq!(outcome("success")["obj"][0]["record"], json!(scene.patient));
    let failed = outcome("failed");
    assert_eq!(
        (&failed["out"]["code"], &failed["n"], failed.get("obj")),
        (&json!(expected.1), &json!(1), None)
    );
    assert_eq!(failed["disc"]["recipient"], "claims-clearinghouse");
}

/// A port of loopback where nobody listens.
async fn closed_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_relay_counts_as_many_records_as_it_names() {
    let scene = Clearinghouse::open_with(ServiceOptions::default(), |folder| {
        let limit = "\n[role.billing.client]\nrequests_per_minute = 6_000\nrequests_at_once = 6_000\n\
                     records_per_hour = 3\nrecords_at_once = 3\n";
        let file = folder.join("limits.toml");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + limit).unwrap();
    })
    .await;
    let two = json!({ "subscriber": { "ssn": named(&scene.patient), "birth_date": named(&scene.patient) },
                      "visit": { "number": named(&scene.visit) } });
    assert_eq!(scene.relay(&two).await.status(), 200);
    let answer = scene.relay(&two).await;
    let request = request_id(&answer);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(problem(answer).await, (429, "volume_limited".into()));
    let entry = scene.strongroom.entry_of(&request).await;
    assert_eq!(
        (&entry["act"], &entry["disc"]["recipient"]),
        (&json!("record.relay"), &json!("claims-clearinghouse"))
    );
    assert_eq!(entry["basis"]["policy"], json!(["limits.toml:client:records"]));
    assert_eq!(scene.relay(&scene.asks()).await.status(), 200, "one is left");
    assert_eq!(scene.destination.received().len(), 2);
}
