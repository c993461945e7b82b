//! Search over sealed fields: what is in a record finds it, however it is spelled, and each look is on record.

use std::collections::BTreeSet;

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::samples::{encounter, message, patient, small_patient};
use crate::support::{Client, Strongroom, eventually, problem, replace_file, request_id};

/// A condition.
pub fn exact(field: &str, value: &str) -> Value {
    json!({ "field": field, "match": "exact", "value": value })
}

pub fn prefix(field: &str, value: &str) -> Value {
    json!({ "field": field, "match": "prefix", "value": value })
}

pub fn between(field: &str, from: &str, until: &str) -> Value {
    json!({ "field": field, "match": "between", "from": from, "until": until })
}

pub async fn search(client: &Client, collection: &str, conditions: &[Value]) -> Response {
    client.post(&format!("/api/v1/{collection}/search"), &json!({ "where": conditions })).await
}

/// The ids that a search finds on its first page, in its order.
pub async fn found(client: &Client, collection: &str, conditions: &[Value]) -> Vec<String> {
    let answer = search(client, collection, conditions).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    ids(&answer.json().await.unwrap())
}

pub fn ids(page: &Value) -> Vec<String> {
    let id = |record: &Value| record["id"].as_str().unwrap().to_owned();
    page["records"].as_array().unwrap().iter().map(id).collect()
}

/// The least that a patient needs, with these fields besides or instead.
pub fn person(fields: &Value) -> Value {
    let mut person = small_patient();
    for (name, value) in fields.as_object().unwrap() {
        person[name] = value.clone();
    }
    person
}

#[tokio::test]
async fn what_is_in_a_record_finds_it_and_nothing_else() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let billing = strongroom.client("billing").await.with_purpose("HPAYMT");
    let garcia = portal
        .create_patient(person(&json!({
            "family_name": "García", "given_name": "José", "birth_date": "1970-12-31", "mrn": "MRN-1",
            "email": "Jose@Example.org", "phone": "+1 (555) 010-1234",
        })))
        .await;
    let garcia_too = portal
        .create_patient(person(
            &json!({ "family_name": "GARCIA", "birth_date": "1971-01-01", "mrn": "MRN-2" }),
        ))
        .await;
    let garciaz = portal
        .create_patient(person(&json!({ "family_name": "Garciaz", "given_name": "JOSE", "mrn": "mrn-3" })))
        .await;
    let all: [&[Value]; 14] = [
        &[exact("family_name", "garcia")],
        &[exact("family_name", "GARCÍA")],
        &[prefix("family_name", "gar")],
        &[prefix("family_name", "García")],
        &[prefix("family_name", "garciaz")],
        &[exact("given_name", "josé")],
        &[json!({ "field": "birth_date", "match": "on", "value": "1971-01-01" })],
        &[between("birth_date", "1970-12-31", "1971-01-01")],
        &[exact("email", "jose@EXAMPLE.org")],
        &[exact("phone", "555.010.1234")],
        &[exact("mrn", "Mrn3")],
        &[exact("family_name", "garcia"), between("birth_date", "1970-01-01", "1970-12-31")],
        &[prefix("family_name", "garcia"), exact("given_name", "Jose"), exact("mrn", "MRN-3")],
        &[exact("family_name", "garci")],
    ];
    let expected: [&[&String]; 14] = [
        &[&garcia, &garcia_too],
        &[&garcia, &garcia_too],
        &[&garcia, &garcia_too, &garciaz],
        &[&garcia, &garcia_too, &garciaz],
        &[&garciaz],
        &[&garcia, &garciaz],
        &[&garcia_too],
        &[&garcia, &garcia_too],
        &[&garcia],
        &[&garcia],
        &[&garciaz],
        &[&garcia],
        &[&garciaz],
        &[],
    ];
    for (conditions, expected) in all.iter().zip(expected) {
        let ids = found(&portal, "patients", conditions).await;
        assert_eq!(ids.iter().collect::<Vec<_>>(), expected, "{conditions:?}");
    }
    // Others find them too, by what they may read of them.
    assert_eq!(found(&billing, "patients", &[exact("mrn", "MRN-1")]).await, std::slice::from_ref(&garcia));
}

#[tokio::test]
async fn each_record_that_is_shown_is_on_record_and_so_is_the_search() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let whole = portal.create_patient(patient()).await;
    let small = portal.create_patient(small_patient()).await;
    let body = json!({
        "where": [exact("family_name", "novakova"), prefix("family_name", "nov"), between("birth_date", "1984-01-01", "1984-12-31")],
        "fields": ["family_name", "ssn", "notes"],
    });
    let answer = portal.post("/api/v1/patients/search", &body).await;
    let request = request_id(&answer);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let page: Value = answer.json().await.unwrap();
    assert_eq!(ids(&page), [whole.clone(), small.clone()]);
    assert!(
        page.get("next").is_none() && page.get("incomplete").is_none() && page.get("unreadable").is_none()
    );
    // A record as a single read shows it.
    let (read, _) = portal.read(&format!("/api/v1/patients/{whole}?fields=family_name,ssn,notes")).await;
    assert_eq!(page["records"][0], read);
    assert_eq!(page["records"][0]["masked"], json!(["ssn"]));
    assert_eq!(page["records"][1]["fields"], json!({ "family_name": "Nováková" }));

    let entries = strongroom.entries_of_request(&request).await;
    assert_eq!(entries.len(), 3);
    // In no order: they were made within a millisecond.
    let of = |record: &str| entries.iter().find(|entry| entry["obj"][0]["record"] == record).unwrap();
    let reads = [of(&whole), of(&small)];
    for (entry, id) in reads.into_iter().zip([&whole, &small]) {
        assert_eq!((&entry["act"], &entry["out"]["status"]), (&json!("record.read"), &json!("success")));
        assert_eq!((&entry["subj"], &entry["obj"][0]["record"]), (&json!(id), &json!(id)));
        assert_eq!(entry["asked"], json!(["family_name", "ssn", "notes"]));
        assert_eq!(entry["purpose"], "TREAT");
    }
    assert_eq!(reads[0]["obj"][0]["fields"], json!(["family_name", "notes"]));
    assert_eq!(reads[0]["obj"][0]["masked"], json!(["ssn"]));
    let search = entries.iter().find(|entry| entry["act"] == "record.search").unwrap();
    assert_eq!((&search["act"], &search["n"]), (&json!("record.search"), &json!(2)));
    assert_eq!(search["obj"], json!([{ "collection": "patients" }]));
    assert_eq!(search["asked"], json!(["birth_date", "family_name"]));
    assert_eq!(search["basis"]["policy"], json!(["portal-finds-for-reception"]));
    assert_eq!(search["req"]["route"], "/api/v1/{collection}/search");

    // What finds nothing is on record as well, and no value ever is.
    let nothing = search_nothing(&portal).await;
    let entry = strongroom.entry_of(&nothing).await;
    assert_eq!(
        (&entry["act"], &entry["n"], &entry["asked"]),
        (&json!("record.search"), &json!(0), &json!(["mrn"]))
    );
    let kept = format!("{:?}{}", strongroom.entries().await, strongroom.log().join("\n")).to_lowercase();
    // Whole dates: four digits are in a digest or a time now and then.
    for value in ["novak", "1984-02-29", "19840229", "1984-01-01", "1984-12-31", "mrn-9", "mrn9"] {
        assert!(!kept.contains(value), "{value}");
    }
}

async fn search_nothing(portal: &Client) -> String {
    let answer = search(portal, "patients", &[exact("mrn", "MRN-999")]).await;
    let request = request_id(&answer);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "records": [] }));
    request
}

/// Pages meet every record once; the last says that it is the last.
/// All ids that a search finds, page by page.
async fn pages(client: &Client, collection: &str, mut body: Value) -> (Vec<String>, Vec<usize>) {
    let (mut met, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let answer = client.post(&format!("/api/v1/{collection}/search"), &body).await;
        let page: Value = answer.json().await.unwrap();
        let page_ids = ids(&page);
        sizes.push(page_ids.len());
        met.extend(page_ids);
        match page["next"].as_str() {
            Some(next) => {
                assert_eq!(met.last().map(String::as_str), Some(next));
                body["cursor"] = json!(next);
            }
            None => return (met, sizes),
        }
    }
}

#[tokio::test]
async fn pages_meet_every_record_once() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let people: Vec<Value> =
        (0..7).map(|_| json!({ "fields": person(&json!({ "family_name": "Okafor" })) })).collect();
    let made = portal.post("/api/v1/patients/batch", &json!({ "records": people })).await;
    let made: BTreeSet<String> = ids(&made.json().await.unwrap()).into_iter().collect();
    portal.create_patient(person(&json!({ "family_name": "Oka" }))).await;
    let conditions = [prefix("family_name", "oka"), exact("family_name", "okafor")];
    let (met, sizes) = pages(&portal, "patients", json!({ "where": conditions, "limit": 3 })).await;
    assert_eq!(sizes, [3, 3, 1]);
    assert!(met.is_sorted());
    assert_eq!(met.into_iter().collect::<BTreeSet<_>>(), made);
}

/// Whatever somebody asks for, a page ends where it becomes large; all of it comes in the end, and each record once.
#[tokio::test]
async fn a_page_is_as_large_as_it_may_be_and_no_larger() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let rule = "@id(\"extra\") permit (principal in Role::\"portal\", action == Action::\"search\", \
                resource == Collection::\"messages\") when { context has purpose && context.purpose == Purpose::\"TREAT\" };\n";
    std::fs::write(strongroom.policy_directory.join("extra.cedar"), rule).unwrap();
    let file = strongroom.policy_directory.join("collections/messages.toml");
    let messages = std::fs::read_to_string(&file).unwrap();
    replace_file(&file, &messages.replace("max_bytes = 16384", "max_bytes = 262144"));
    let subject = portal.create_patient(small_patient()).await;
    let mut letter = message(&subject);
    letter["fields"]["attachments"] = json!(["x".repeat(240_000)]);
    eventually("larger letters are taken", async || {
        portal.post("/api/v1/messages", &letter).await.status() == 201
    })
    .await;
    for _ in 0..3 {
        let made = portal.post("/api/v1/messages/batch", &json!({ "records": vec![&letter; 30] })).await;
        assert_eq!(made.status(), 201);
    }
    let body = json!({ "where": [exact("thread", "thread-1")], "limit": 100 });
    let (met, sizes) = pages(&portal, "messages", body).await;
    // 8 MiB are reached by the 35th.
    assert_eq!(sizes, [35, 35, 21]);
    assert_eq!(met.into_iter().collect::<BTreeSet<_>>().len(), 91);
}

/// Moments are found by their day in UTC, and numbers as they are.
#[tokio::test]
async fn visits_are_found_by_their_day_and_number() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let desk = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let billing = strongroom.client("billing").await.with_purpose("HPAYMT");
    let subject = portal.create_patient(small_patient()).await;
    let mut visits = Vec::new();
    for (number, started_at) in
        ["2026-01-31T23:30:00-01:00", "2026-02-01T00:00:00Z", "2027-03-07T12:00:00Z"].iter().enumerate()
    {
        let mut visit = encounter(&subject);
        visit["fields"]["started_at"] = json!(started_at);
        visit["fields"]["visit_number"] = json!(4711 + number);
        visits.push(desk.create("encounters", &visit).await["id"].as_str().unwrap().to_owned());
    }
    let on = |day: &str| json!({ "field": "started_at", "match": "on", "value": day });
    assert_eq!(found(&billing, "encounters", &[on("2026-02-01")]).await, visits[..2]);
    assert!(found(&billing, "encounters", &[on("2026-01-31")]).await.is_empty());
    assert_eq!(
        found(&billing, "encounters", &[between("started_at", "2026-02-01", "2027-03-07")]).await,
        visits
    );
    let number = json!({ "field": "visit_number", "match": "exact", "value": 4713 });
    assert_eq!(found(&billing, "encounters", &[number]).await, visits[2..]);
}

/// A change moves a record to where it is found now, an end takes it away, and a field that was removed finds nothing.
#[tokio::test]
async fn what_a_record_is_found_by_moves_with_it() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let import = strongroom.client("records-import").await.with_purpose("HOPERAT");
    let id = portal.create_patient(patient()).await;
    let path = format!("/api/v1/patients/{id}");
    let finds = async |condition: Value| !found(&portal, "patients", &[condition]).await.is_empty();
    let (old, new) = (exact("family_name", "Nováková"), exact("family_name", "Dvořáková"));
    assert!(finds(old.clone()).await && !finds(new.clone()).await);
    let change = json!({ "fields": { "family_name": "Dvořáková", "phone": null } });
    assert_eq!(portal.patch(&path, "\"1\"", &change).await.status(), 200);
    assert!(!finds(old.clone()).await && finds(new.clone()).await);
    assert!(
        !finds(exact("phone", "+15550101234")).await
            && finds(exact("email", "zofie.novakova@example.org")).await
    );
    // Refused, it is found as before.
    let stale = portal.patch(&path, "\"1\"", &json!({ "fields": { "family_name": "Malá" } })).await;
    assert_eq!(problem(stale).await, (412, "version_stale".into()));
    assert!(finds(new.clone()).await && !finds(exact("family_name", "Malá")).await);
    assert_eq!(
        portal.patch(&path, "\"2\"", &json!({ "fields": { "family_name": "Nováková" } })).await.status(),
        200
    );
    assert!(finds(old.clone()).await && !finds(new).await);
    assert_eq!(import.delete(&path).await.status(), 204);
    assert!(!finds(old).await && !finds(exact("mrn", "MRN-0012345678")).await);
    let left: i64 =
        strongroom.data().await.query_one("SELECT count(*) FROM index_term", &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    let kept = "SELECT count(*) FROM record WHERE terms <> '{}'";
    assert_eq!(strongroom.data().await.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// Each tenant has terms of its own, and finds its own.
#[tokio::test]
async fn tenants_never_meet_in_a_search() {
    let strongroom = Strongroom::start().await;
    let north = strongroom.client("portal").await.with_purpose("TREAT");
    let south = strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let ours = north.create_patient(patient()).await;
    let theirs = south.create_patient(patient()).await;
    for condition in
        [exact("family_name", "novakova"), exact("mrn", "MRN-0012345678"), prefix("family_name", "nov")]
    {
        assert_eq!(
            found(&north, "patients", std::slice::from_ref(&condition)).await,
            std::slice::from_ref(&ours)
        );
        assert_eq!(found(&south, "patients", &[condition]).await, std::slice::from_ref(&theirs));
    }
    // Of the same values not one term of 128 bits is the same.
    let shared = "SELECT count(*) FROM index_term a JOIN index_term b USING (collection, term) \
                  WHERE a.tenant_id < b.tenant_id AND octet_length(term) = 26";
    let data = strongroom.data().await;
    assert_eq!(data.query_one(shared, &[]).await.unwrap().get::<_, i64>(0), 0);
    // Moved there by hand, it finds nothing of the other's.
    let tenant = strongroom.tenant("clinic-south");
    let copy = "INSERT INTO index_term SELECT $1, collection, term, record_id \
                FROM index_term WHERE tenant_id <> $1 ON CONFLICT DO NOTHING";
    assert!(data.execute(copy, &[&tenant]).await.unwrap() > 5);
    assert_eq!(found(&south, "patients", &[exact("mrn", "MRN-0012345678")]).await, [theirs]);
}
