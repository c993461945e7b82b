//! Listing: every record once, no value, page by page, and each page on record.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use strongroom::devstack::ClientFiles;

use crate::support::samples::small_patient;
use crate::support::{Client, Strongroom, eventually, problem, replace_file, request_id};

async fn page(client: &Client, query: &str) -> Value {
    let answer = client.get(&format!("/api/v1/patients{query}")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

fn ids(page: &Value) -> Vec<String> {
    page["records"].as_array().unwrap().iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_meet_every_record_once_in_the_order_of_their_making() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let dashboard = strongroom.client("dashboard").await.with_purpose("HOPERAT");
    assert_eq!(page(&dashboard, "").await, json!({ "records": [] }));
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(portal.create_patient(small_patient()).await);
    }
    // Ids of one millisecond have no order among them.
    made.sort();
    let gone = made.remove(3);
    let import = strongroom.client("records-import").await.with_purpose("HOPERAT");
    assert_eq!(import.delete(&format!("/api/v1/patients/{gone}")).await.status(), 204);
    let changed = format!("/api/v1/patients/{}", made[0]);
    assert_eq!(portal.patch(&changed, "\"1\"", &json!({ "fields": { "notes": "n" } })).await.status(), 200);

    let answer = dashboard.get("/api/v1/patients").await;
    let request = request_id(&answer);
    let whole: Value = answer.json().await.unwrap();
    assert_eq!(ids(&whole), made);
    assert!(whole.get("next").is_none());
    assert_eq!(whole["records"][0]["version"], 2);
    let members: BTreeSet<&String> = whole["records"][0].as_object().unwrap().keys().collect();
    assert_eq!(members.into_iter().collect::<Vec<_>>(), ["id", "updated_at", "version"]);
    let entry = strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["n"]), (&json!("record.list"), &json!(6)));
    assert_eq!(entry["obj"], json!([{ "collection": "patients" }]));

    let mut met = Vec::new();
    let mut query = "?limit=4".to_owned();
    loop {
        let page = page(&dashboard, &query).await;
        met.extend(ids(&page));
        let Some(next) = page.get("next") else { break };
        query = format!("?limit=4&cursor={}", next.as_str().unwrap());
    }
    assert_eq!(met, made);
}

#[tokio::test]
async fn only_who_may_lists_and_only_what_a_page_is() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    assert_eq!(problem(portal.get("/api/v1/patients").await).await, (403, "action_not_allowed".into()));
    let dashboard = strongroom.client("dashboard").await;
    assert_eq!(problem(dashboard.get("/api/v1/patients").await).await, (403, "purpose_required".into()));
    let dashboard = dashboard.with_purpose("HOPERAT");
    for query in
        ["limit=0", "limit=501", "cursor=x", "cursor=4111111111111111", "cursor=", "offset=3", "fields=ssn"]
    {
        let refused = dashboard.get(&format!("/api/v1/patients?{query}")).await;
        assert_eq!(problem(refused).await, (400, "query_invalid".into()), "{query}");
    }
}

/// A dashboard of the other tenant, with the same role, sees its own records and none of these.
#[tokio::test]
async fn another_tenant_lists_its_own() {
    let strongroom = Strongroom::start().await;
    let san = "spiffe://strongroom.internal/client/clinic-south/dashboard";
    let file = strongroom.policy_directory.join("identities.toml");
    let listed = std::fs::read_to_string(&file).unwrap();
    let client = format!(
        "\n[[client]]\nname = \"dashboard\"\ntenant = \"clinic-south\"\nkind = \"app\"\nsan = \"{san}\"\nroles = [\"admin\"]\n"
    );
    replace_file(&file, &(listed + &client));
    let (theirs, _): (Client, ClientFiles) = strongroom.client_with("client", san).await;
    let theirs = theirs.with_purpose("HOPERAT");
    eventually("it is listed", async || theirs.get("/api/v1/patients").await.status() == 200).await;

    let north = strongroom.client("portal").await.with_purpose("TREAT");
    north.create_patient(small_patient()).await;
    let south = strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let own = south.create_patient(small_patient()).await;
    assert_eq!(ids(&page(&theirs, "").await), [own]);
}
