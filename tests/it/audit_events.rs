//! How an auditor reads the log: filters, pages, order; their own tenant only, and on record.

use serde_json::{Value, json};

use crate::support::samples::{NOBODY, message, patient};
use crate::support::{Client, Strongroom, problem, request_id};

const EVENTS: &str = "/api/v1/audit/events";
/// The other tenant, whole: a part of an id is found in a random one now and then.
const SOUTH: &str = "0197a000-0000-7000-8000-00000000c002";

#[tokio::test]
async fn an_auditor_filters_and_orders_the_log_of_its_own_tenant() {
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
    // What chains say of themselves comes when it comes.
    let is_of_a_chain = |act: &String| act == "instance.attest" || act == "chain.flush";
    let acts = |page: &Value| -> Vec<String> {
        let entries = page["entries"].as_array().unwrap().iter();
        let acts = entries.map(|entry| entry["act"].as_str().unwrap().to_owned());
        acts.filter(|act| !is_of_a_chain(act)).collect()
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
    assert!(!oldest.to_string().contains(&theirs) && !oldest.to_string().contains(SOUTH));

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
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let strongroom = Strongroom::start().await;
    let north = strongroom.client("portal").await.with_purpose("TREAT");
    let auditor = strongroom.client("audit").await;
    for _ in 0..6 {
        north.get(&format!("/api/v1/patients/{NOBODY}")).await;
    }
    // Pages of two, through a filter that keeps this reading out of what is read.
    for order in ["oldest", "newest"] {
        let query = format!("?actor=portal&limit=2&order={order}");
        let (mut ids, mut next) = (Vec::new(), Some(String::new()));
        while let Some(cursor) = next {
            let page = auditor.read_events(&format!("{query}{cursor}")).await;
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
    // The order is that of the ids; within a millisecond it is not that of the timestamps.
    let stored = strongroom.all_entries().await;
    let oldest = stored.iter().min_by_key(|entry| entry["id"].as_str().unwrap()).unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["entries"], json!([oldest]));
    let entry = strongroom.entry_of(&request).await;
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
        "actor=a%00",
        "actor=a%20b",
        "actor=",
        "tenant=x",
        "collection=A-b",
    ] {
        let answer = auditor.get(&format!("{EVENTS}?{query}")).await;
        assert_eq!(problem(answer).await, (400, "query_invalid".into()), "{query}");
    }
}
