//! What each use case leaves in the log, member by member, and how an auditor reads it.

use serde_json::{Value, json};
use strongroom::crypto::digest::{hex, sha256};

use crate::support::samples::{message, patient, small_patient};
use crate::support::{Client, Strongroom, problem, request_id, site};

const NORTH: &str = "0197a000-0000-7000-8000-00000000c001";
const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";
const EVENTS: &str = "/api/v1/audit/events";

/// A portal whose certificate's digest is known.
async fn portal(strongroom: &Strongroom, purpose: &str) -> (Client, Value) {
    let (client, files) = strongroom.client_with("client", PORTAL).await;
    let pem = std::fs::read(&files.certificate).unwrap();
    let leaf =
        <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&pem);
    let certificate = json!({ "cert_sha256": hex(&sha256(&leaf.unwrap())), "san": PORTAL });
    (client.with_purpose(purpose), certificate)
}

/// The entry without what differs in every run, which is checked for its form instead.
fn settled(mut entry: Value) -> Value {
    let members = entry.as_object_mut().unwrap();
    let id = members.remove("id").unwrap();
    let at = members.remove("ts").unwrap();
    let id = uuid::Uuid::parse_str(id.as_str().unwrap()).unwrap();
    let at: jiff::Timestamp = at.as_str().unwrap().parse().unwrap();
    // The id's time is the entry's (RFC 9562 section 5.7).
    assert_eq!((id.get_version_num(), (id.as_u128() >> 80) as i128), (7, i128::from(at.as_millisecond())));
    let place = members.remove("dst").unwrap();
    assert_eq!((&place["service"], &place["instance"]), (&json!("strongroom"), &json!("dev-1")));
    let source = members["src"].as_object_mut().unwrap();
    assert!(source.remove("port").unwrap().as_u64().unwrap() > 1_023);
    if let Some(chain) = members.remove("chain") {
        assert!(chain["seq"].as_u64().unwrap() > 1 && chain["prev"].is_string() && chain["src"].is_string());
    }
    entry
}

#[tokio::test]
async fn a_life_leaves_these_entries_and_no_others() {
    let strongroom = Strongroom::start().await;
    let (portal, certificate) = portal(&strongroom, "PATRQT").await;
    let subject = portal.create_patient(small_patient()).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let send = async |request: reqwest::RequestBuilder, status: u16| {
        let answer = request.header("traceparent", trace).send().await.unwrap();
        assert_eq!(answer.status(), status);
        let request = request_id(&answer);
        let body = answer.bytes().await.unwrap();
        (request, serde_json::from_slice::<Value>(&body).unwrap_or_default())
    };
    let (created, body) =
        send(portal.request(reqwest::Method::POST, "/api/v1/messages").json(&message(&subject)), 201).await;
    let id = body["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/messages/{id}");
    let (read, _) =
        send(portal.request(reqwest::Method::GET, &format!("{path}?fields=sender,body&view=masked")), 200)
            .await;
    let change = json!({ "fields": { "read": true, "reply_email": null } });
    let update = portal.request(reqwest::Method::PATCH, &path).header("if-match", "\"1\"").json(&change);
    let (updated, _) = send(update, 200).await;
    let (deleted, _) = send(portal.request(reqwest::Method::DELETE, &path), 204).await;

    let seals = seals_of(&strongroom, &id).await;
    let entry = |act: &str, request: &str, route: &str, policies: Value, object: Value| {
        json!({
            "act": act, "v": 1, "out": { "status": "success" }, "tenant": NORTH, "subj": subject, "purpose": "PATRQT",
            "who": { "kind": "app", "roles": ["portal"], "uid": "portal" }, "client": certificate,
            "src": { "ip": "127.0.0.1" }, "basis": { "policy": policies }, "obj": [object],
            "req": { "id": request, "route": route, "trace": "4bf92f3577b34da6a3ce929d0e0e4736" }
        })
    };
    let record = "/api/v1/{collection}/{id}";
    let fields = [
        "sent_at",
        "sender",
        "recipient",
        "direction",
        "subject_line",
        "body",
        "thread",
        "priority",
        "read",
        "reply_email",
        "callback_phone",
        "attachments",
    ];
    let whole = json!({ "class": ["phi", "pii"], "collection": "messages", "fields": fields, "record": id, "version": 1 });
    let mut expected =
        entry("record.create", &created, "/api/v1/{collection}", json!(["portal-writes"]), whole);
    expected["seals"] = json!(seals[0].0);
    assert_eq!(settled(strongroom.entry_of(&created).await), expected);

    let shown = json!({ "class": ["phi", "pii"], "collection": "messages", "masked": ["sender", "body"], "record": id, "version": 1 });
    let mut expected = entry("record.read", &read, record, json!(["portal-reads"]), shown);
    expected["asked"] = json!(["sender", "body"]);
    assert_eq!(settled(strongroom.entry_of(&read).await), expected);

    let changed = json!({ "class": ["phi", "pii"], "collection": "messages", "fields": ["reply_email", "read"], "record": id, "version": 2 });
    let mut expected = entry("record.update", &updated, record, json!(["portal-writes"]), changed);
    expected["seals"] = json!(seals[1].0);
    assert_eq!(settled(strongroom.entry_of(&updated).await), expected);

    let gone = json!({ "collection": "messages", "record": id, "version": 3 });
    let mut expected = entry("record.delete", &deleted, record, json!(["portal-deletes-messages"]), gone);
    expected["seals"] = json!(hex(&sha256(b"")));
    assert_eq!((seals[2].0.as_str(), &expected["seals"]), (hex(&sha256(b"")).as_str(), &json!(seals[2].0)));
    assert_eq!(settled(strongroom.entry_of(&deleted).await), expected);

    // Every stored version names its entry, and no entry of a write is without a version.
    for (request, (_, named)) in [created, updated, deleted].iter().zip(&seals) {
        assert_eq!(strongroom.entry_of(request).await["id"], json!(named));
    }
    let acts: Vec<_> = strongroom.entries().await.iter().map(|entry| entry["act"].clone()).collect();
    assert_eq!(
        acts,
        ["service.start", "record.create", "record.create", "record.read", "record.update", "record.delete"]
    );
}

/// For each version of a record, oldest first: SHA-256 of its stored seal headers by class, and the entry that it names.
async fn seals_of(strongroom: &Strongroom, id: &str) -> Vec<(String, String)> {
    let sql = "SELECT seal_classes, seal_headers, audit_entry_id FROM (
                   SELECT version, seal_classes, seal_headers, audit_entry_id, record_id FROM record UNION ALL
                   SELECT version, seal_classes, seal_headers, audit_entry_id, record_id FROM record_history) AS every
               WHERE record_id = $1 ORDER BY version";
    let rows = strongroom.data().await.query(sql, &[&id]).await.unwrap();
    rows.iter()
        .map(|row| {
            let (classes, headers): (Vec<String>, Vec<Vec<u8>>) = (row.get(0), row.get(1));
            let of =
                |class: &str| classes.iter().position(|each| each == class).map(|at| headers[at].clone());
            let bytes: Vec<u8> = ["phi", "pii", "chd"].into_iter().filter_map(of).flatten().collect();
            (hex(&sha256(&bytes)), row.get::<_, uuid::Uuid>(2).to_string())
        })
        .collect()
}

#[tokio::test]
async fn an_auditor_pages_filters_and_orders_the_log_of_its_own_tenant() {
    let strongroom = Strongroom::start().await;
    let north = strongroom.client("portal").await.with_purpose("TREAT");
    let south = strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let auditor = strongroom.client("audit").await;
    let theirs = south.create_patient(patient()).await;
    let id = north.create_patient(patient()).await;
    let letter = north.create("messages", &message(&id)).await;
    for view in ["plain", "masked", "plain"] {
        north.read(&format!("/api/v1/patients/{id}?view={view}")).await;
    }
    north.get("/api/v1/nothing/here").await;

    let events = async |query: &str| -> Value { auditor.read_events(query).await };
    let acts = |page: &Value| -> Vec<String> {
        page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["act"].as_str().unwrap().to_owned())
            .collect()
    };
    let oldest = events("?order=oldest").await;
    let story = [
        "service.start",
        "record.create",
        "record.create",
        "record.read",
        "record.read",
        "record.read",
        "access.denied",
    ];
    assert_eq!(acts(&oldest), story);
    assert_eq!(oldest.get("next"), None);
    // Newest first by default, and by now the reading before is in the log.
    assert_eq!(
        acts(&events("").await),
        [["audit.read"].as_slice(), &story.iter().rev().copied().collect::<Vec<_>>()].concat()
    );
    assert!(!oldest.to_string().contains(&theirs) && !oldest.to_string().contains("c002"));

    for (query, count) in [
        ("act=record.read".to_owned(), 3),
        ("act=record.read&actor=mobile".to_owned(), 0),
        ("actor=portal".to_owned(), 6),
        ("status=refused".to_owned(), 1),
        (format!("subject={id}"), 5),
        (format!("subject={theirs}"), 0),
        ("collection=messages".to_owned(), 1),
        (format!("record={}", letter["id"].as_str().unwrap()), 1),
        (format!("record={theirs}"), 0),
        ("purpose=TREAT".to_owned(), 6),
        ("purpose=PATRQT".to_owned(), 0),
        ("from=2099-01-01T00:00:00Z".to_owned(), 0),
        ("actor=portal&until=2001-01-01T00:00:00Z".to_owned(), 0),
        (format!("act=record.create&collection=patients&subject={id}&actor=portal&status=success"), 1),
    ] {
        assert_eq!(acts(&events(&format!("?{query}")).await).len(), count, "{query}");
    }

    // Pages of two, through a filter that keeps this reading out of what is read.
    for order in ["oldest", "newest"] {
        let query = format!("?actor=portal&limit=2&order={order}");
        let (mut ids, mut next) = (Vec::new(), Some(String::new()));
        while let Some(cursor) = next {
            let page = events(&format!("{query}{cursor}")).await;
            assert!(page["entries"].as_array().unwrap().len() <= 2);
            ids.extend(
                page["entries"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|entry| entry["id"].as_str().unwrap().to_owned()),
            );
            next = page.get("next").map(|next| format!("&cursor={}", next.as_str().unwrap()));
        }
        let mut sorted = ids.clone();
        sorted.sort();
        if order == "newest" {
            sorted.reverse();
        }
        sorted.dedup();
        assert_eq!((ids.len(), &ids), (6, &sorted), "{order}");
    }
}

impl Client {
    async fn read_events(&self, query: &str) -> Value {
        let answer = self.get(&format!("{EVENTS}{query}")).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );
        answer.json().await.unwrap()
    }
}

#[tokio::test]
async fn reading_the_log_is_for_auditors_and_is_itself_in_the_log() {
    let strongroom = Strongroom::start().await;
    let auditor = strongroom.client("audit").await;
    let answer = auditor.with_purpose("HCOMPL").get(&format!("{EVENTS}?limit=1&order=oldest")).await;
    let request = request_id(&answer);
    let stored = strongroom.entries().await;
    assert_eq!(answer.json::<Value>().await.unwrap()["entries"], json!([stored[0]]));
    let entry = settled(strongroom.entry_of(&request).await);
    assert_eq!(
        (&entry["act"], &entry["n"], &entry["purpose"]),
        (&json!("audit.read"), &json!(1), &json!("HCOMPL"))
    );
    assert_eq!(entry["who"], json!({ "kind": "auditor", "roles": ["auditor"], "uid": "audit" }));
    assert_eq!(entry["basis"], json!({ "policy": ["auditor-reads-log"] }));
    assert_eq!(entry["req"], json!({ "id": request, "route": EVENTS }));
    for name in ["portal", "mobile", "clinician-desk", "billing", "custodian-alice", "operator"] {
        let answer = strongroom.client(name).await.with_purpose("HCOMPL").get(EVENTS).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (403, "action_not_allowed".into()), "{name}");
        let entry = strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "action_not_allowed" }));
        assert_eq!(entry["basis"], json!({ "policy": ["guard-audit-for-auditors"] }));
    }
    for query in [
        "act=record",
        "status=good",
        "limit=0",
        "limit=501",
        "limit=x",
        "order=up",
        "cursor=x",
        "from=yesterday",
        "subject=x",
        "record=A",
        "purpose=treat",
        "actor=a&actor=b",
        "tenant=x",
        "collection=A-b",
    ] {
        let answer = auditor.get(&format!("{EVENTS}?{query}")).await;
        assert_eq!(problem(answer).await, (400, "query_invalid".into()), "{query}");
    }
}

#[tokio::test]
async fn no_value_is_in_the_log_however_it_was_sent() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(patient()).await;
    portal.read(&format!("/api/v1/patients/{id}")).await;
    portal.get(&format!("/api/v1/patients/{id}?fields=Nováková")).await;
    portal.get("/api/v1/patients/987-65-4320").await;
    portal.get("/api/v1/penicillin/MRN-0012345678").await;
    let everything = format!("{:?}{}", strongroom.entries().await, strongroom.log().join("\n"));
    assert!(everything.contains("record.read") && site().await.directory.is_dir());
    for value in ["Nováková", "987-65-4320", "MRN-0012345678", "penicillin", "zofie", "Springfield"] {
        assert!(!everything.contains(value), "{value}");
    }
}
