//! Several front ends on one contract: the same requests, from each of them, with different reach. A table, so that a change
//! of reach is a change that somebody reads.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::samples::{message, patient};
use crate::support::{Client, Strongroom};

/// Client, purpose, and what it hears: for a read the number of fields in plain, masked and withheld, else the status.
const REACH: [(&str, &str, [&str; 7]); 6] = [
    // create      read        ssn    history  list   batch  delete
    ("portal", "TREAT", ["201", "20/2/0", "403", "200", "403", "200", "403"]),
    ("mobile", "PATRQT", ["403", "17/3/2", "403", "403", "403", "403", "403"]),
    ("clinician-desk", "TREAT", ["403", "19/2/1", "403", "200", "403", "200", "403"]),
    ("billing", "HPAYMT", ["403", "8/2/12", "403", "403", "403", "403", "403"]),
    ("dashboard", "HOPERAT", ["403", "0/22/0", "403", "200", "200", "200", "403"]),
    ("records-import", "HOPERAT", ["201", "0/22/0", "403", "200", "200", "200", "204"]),
];

#[tokio::test]
async fn each_front_end_has_its_own_reach() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let mut heard = Vec::new();
    for (name, purpose, _) in REACH {
        let id = portal.create_patient(patient()).await;
        let letter = portal.create("messages", &message(&id)).await;
        let client = strongroom.client(name).await.with_purpose(purpose);
        heard.push((name, purpose, hear(&client, &id, letter["id"].as_str().unwrap()).await));
    }
    let expected: Vec<_> =
        REACH.iter().map(|(name, purpose, reach)| (*name, *purpose, reach.map(str::to_owned))).collect();
    assert_eq!(heard, expected);
}

async fn hear(client: &Client, id: &str, letter: &str) -> [String; 7] {
    let path = format!("/api/v1/patients/{id}");
    let created = client.post("/api/v1/patients", &json!({ "fields": patient() })).await;
    let read = client.get(&path).await;
    let ssn = client.get(&format!("{path}?fields=ssn&view=plain")).await;
    let history = client.get(&format!("{path}/history")).await;
    let list = client.get("/api/v1/patients").await;
    let batch = client.post("/api/v1/messages/batch/read", &json!({ "ids": [letter] })).await;
    let deleted = client.request(Method::DELETE, &path).send().await.unwrap();
    let status = |answer: &Response| answer.status().as_str().to_owned();
    [
        status(&created),
        fields(read).await,
        status(&ssn),
        status(&history),
        status(&list),
        status(&batch),
        status(&deleted),
    ]
}

/// How many fields in plain, masked, withheld.
async fn fields(answer: Response) -> String {
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    let named = |member: &str| body[member].as_array().map_or(0, Vec::len);
    let shown = body["fields"].as_object().unwrap().len();
    format!("{}/{}/{}", shown - named("masked"), named("masked"), named("withheld"))
}
