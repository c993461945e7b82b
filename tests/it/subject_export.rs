//! Export: everything that is kept of one person and that policy gives, in pages, for who may; each record that leaves is on
//! record first.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::clinic::{Clinic, send, whole};
use crate::support::samples::{NOBODY, document, encounter, message, note, patient, small_patient};
use crate::support::{Client, NORTH, ServiceOptions, Strongroom, problem, replace_file, request_id};

fn path_of(subject: &str) -> String {
    format!("/api/v1/subjects/{subject}/export")
}

/// A person of whom there is something in every collection.
struct Person {
    officer: Client,
    portal: Client,
    subject: String,
    /// Record → what was sent of it, without the therapist's note.
    records: BTreeMap<String, Value>,
    note: String,
}

impl Person {
    async fn of(strongroom: &Strongroom) -> Self {
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let import = strongroom.client("records-import").await.with_purpose("TREAT");
        let therapist = strongroom.client("therapist-desk").await.with_purpose("TREAT");
        let officer = strongroom.client("privacy-desk").await.with_purpose("PATRQT");
        let subject = portal.create_patient(patient()).await;
        let mut records = BTreeMap::from([(subject.clone(), patient())]);
        for (client, collection, sample) in [
            (&import, "encounters", encounter(&subject)),
            (&portal, "messages", message(&subject)),
            (&portal, "messages", message(&subject)),
            (&portal, "documents", document(&subject)),
        ] {
            let made = client.create(collection, &sample).await;
            records.insert(made["id"].as_str().unwrap().to_owned(), sample["fields"].clone());
        }
        let note =
            therapist.create("psychotherapy_notes", &note(&subject)).await["id"].as_str().unwrap().to_owned();
        Self { officer, portal, subject, records, note }
    }
}

/// All pages, each of so many records, with the ids of their requests.
async fn pages(client: &Client, subject: &str, limit: u16) -> (Vec<Value>, Vec<String>) {
    let (mut pages, mut requests, mut cursor) = (Vec::<Value>::new(), Vec::new(), String::new());
    loop {
        let answer = client.get(&format!("{}?limit={limit}{cursor}", path_of(subject))).await;
        requests.push(request_id(&answer));
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        pages.push(answer.json().await.unwrap());
        match pages.last().unwrap()["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (pages, requests),
        }
    }
}

fn records(page: &Value) -> &Vec<Value> {
    page["records"].as_array().unwrap()
}

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

#[tokio::test]
async fn everything_of_one_person_is_taken_out_in_pages_and_each_record_is_on_record() {
    let strongroom = Strongroom::start().await;
    let person = Person::of(&strongroom).await;
    // Of nobody else, nothing that was deleted, and of what was changed what is now.
    let other = person.portal.create_patient(small_patient()).await;
    person.portal.create("messages", &message(&other)).await;
    let deleted = person.portal.create("messages", &message(&person.subject)).await;
    let deleted = format!("/api/v1/messages/{}", deleted["id"].as_str().unwrap());
    assert_eq!(person.portal.with_purpose("PATRQT").delete(&deleted).await.status(), 204);
    let own = format!("/api/v1/patients/{}", person.subject);
    let change = json!({ "fields": { "language": "en" } });
    assert_eq!(person.portal.patch(&own, "\"1\"", &change).await.status(), 200);

    let (pages, requests) = pages(&person.officer, &person.subject, 2).await;
    assert_eq!(pages.iter().map(|page| records(page).len()).collect::<Vec<_>>(), [2, 2, 1]);
    let mut seen = BTreeMap::new();
    for (page, request) in pages.iter().zip(&requests) {
        assert_eq!(
            (&page["subject"], &page["withheld"]),
            (&json!(person.subject), &json!(["psychotherapy_notes"]))
        );
        let entries = strongroom.entries_of_request(request).await;
        let (reads, exports): (Vec<&Value>, Vec<&Value>) =
            entries.iter().partition(|entry| entry["act"] == "record.read");
        assert_eq!((exports.len(), &exports[0]["act"]), (1, &json!("subject.export")));
        assert_eq!(
            (&exports[0]["n"], &exports[0]["subj"]),
            (&json!(records(page).len()), &json!(person.subject))
        );
        for record in records(page) {
            let is_it = |entry: &&&Value| entry["obj"][0]["record"] == record["id"];
            let entry = reads.iter().find(is_it).unwrap();
            let object = &entry["obj"][0];
            assert_eq!(object["collection"], record["collection"]);
            assert_eq!((&object["version"], &entry["subj"]), (&record["version"], &json!(person.subject)));
            assert_eq!(entry["basis"]["policy"], json!(["privacy-exports-for-the-person"]));
            assert_eq!(
                object["fields"].as_array().unwrap().len(),
                record["fields"].as_object().unwrap().len()
            );
            assert!(seen.insert(id(record).to_owned(), record.clone()).is_none(), "none is met twice");
        }
        assert_eq!(reads.len(), records(page).len());
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), person.records.keys().collect::<Vec<_>>());
    for (id, sent) in &person.records {
        let mut expected = sent.clone();
        if *id == person.subject {
            expected["language"] = json!("en");
            assert_eq!((&seen[id]["version"], &seen[id]["created_at"].is_string()), (&json!(2), &true));
        }
        assert_eq!(seen[id]["fields"], expected, "in plain, all of it");
        assert_eq!(seen[id].get("withheld"), None);
    }
    let text = serde_json::to_string(&pages).unwrap();
    assert!(!text.contains(&person.note) && !text.contains("Ngozi"), "a therapist's notes are apart");
    // One page holds all that fits.
    let (page, _) = self::pages(&person.officer, &person.subject, 500).await;
    assert_eq!((page.len(), records(&page[0]).len()), (1, 5));
}

#[tokio::test]
async fn a_person_takes_out_their_own_and_nobody_elses() {
    let clinic = Clinic::open().await;
    let (alice, bob) = (&clinic.alice, &clinic.bob);
    clinic.portal.create("messages", &message(alice)).await;
    let mut rich = patient();
    rich["mrn"] = json!("MRN-0000000001");
    let carol = clinic.portal.create_patient(rich).await;
    let export = async |token: &str, subject: &str| {
        send(&clinic.portal, Method::GET, &path_of(subject), token, None).await
    };
    let token = clinic.member(alice);
    let answer = export(&token, alice).await;
    assert_eq!(answer.status(), 200);
    let page: Value = answer.json().await.unwrap();
    assert_eq!(records(&page).len(), 2);
    // No number that opens accounts elsewhere, and it says so.
    let page: Value = export(&clinic.member(&carol), &carol).await.json().await.unwrap();
    let own = &records(&page)[0];
    assert_eq!((own["fields"].get("ssn"), &own["withheld"]), (None, &json!(["ssn", "drivers_licence"])));
    assert_eq!(own["fields"]["family_name"], "Nováková");

    let entry = clinic.unseen(async |subject: &str| export(&token, subject).await, bob).await;
    assert_eq!(entry["out"], json!({ "status": "refused", "code": "relationship_required" }));
    assert_eq!((&entry["act"], &entry["subj"]), (&json!("subject.export"), &json!(bob)));
    let impossible = whole(export(&token, "NO-SUCH-ID").await).await;
    assert_eq!(impossible, whole(export(&token, NOBODY).await).await);
    // An application by itself takes out nobody's, and a clinician neither.
    assert_eq!(problem(clinic.portal.get(&path_of(alice)).await).await, (403, "action_not_allowed".into()));
    let doctor = clinic.doctor(&["ward-3"]);
    assert_eq!(clinic.set_team(alice, "\"1\"", &["ward-3"]).await.status(), 200);
    let answer = send(&clinic.desk, Method::GET, &path_of(alice), &doctor, None).await;
    assert_eq!(problem(answer).await, (403, "action_not_allowed".into()));
}

#[tokio::test]
async fn who_may_not_and_what_is_wrong_is_refused_and_on_record() {
    let copied = |folder: &Path| {
        let file = folder.join("identities.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        replace_file(&file, &text.replace("key = \"hardware\"\n", ""));
    };
    let options = ServiceOptions { policy: Some(Box::new(copied)), ..Default::default() };
    let strongroom = Strongroom::start_with(options).await;
    let person = Person::of(&strongroom).await;
    let refused = async |client: &Client, query: &str, expected: (u16, &str)| {
        let answer = client.get(&format!("{}{query}", path_of(&person.subject))).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (expected.0, expected.1.to_owned()), "{query}");
        let entry = strongroom.entry_of(&request).await;
        assert_eq!((&entry["act"], &entry["subj"]), (&json!("subject.export"), &json!(person.subject)));
        assert_eq!(entry["out"], json!({ "status": "refused", "code": expected.1 }));
    };
    refused(&person.officer, "", (403, "second_factor_required")).await;
    refused(&person.officer.with_purpose("HCOMPL"), "", (403, "purpose_not_allowed")).await;
    refused(&strongroom.client("privacy-desk").await, "", (403, "purpose_required")).await;
    refused(&person.portal, "", (403, "action_not_allowed")).await;
    // Whoever may not hears that, whatever else is wrong.
    refused(&person.portal, "?limit=0", (403, "action_not_allowed")).await;
    let officers = Strongroom::start().await;
    let person = Person::of(&officers).await;
    for query in
        ["?limit=0", "?limit=501", "?cursor=", "?cursor=messages", "?cursor=messages.smith", "?view=plain"]
    {
        let answer = person.officer.get(&format!("{}{query}", path_of(&person.subject))).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (400, "query_invalid".into()), "{query}");
        let entry = officers.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "query_invalid" }), "{query}");
        assert_eq!((&entry["act"], &entry["subj"]), (&json!("subject.export"), &json!(person.subject)));
    }
    // Another tenant's officer, who has nobody of this name.
    let south = officers.client_of("clinic-south", "portal").await.with_purpose("PATRQT");
    assert_eq!(problem(south.get(&path_of(&person.subject)).await).await, (403, "action_not_allowed".into()));
    assert_ne!(officers.tenant(NORTH), officers.tenant("clinic-south"));
}

#[tokio::test]
async fn a_record_that_somebody_changed_is_named_and_the_others_are_not_held_back() {
    let strongroom = Strongroom::start().await;
    let person = Person::of(&strongroom).await;
    let data = strongroom.data().await;
    let sql = "UPDATE record SET sealed_values = set_byte(sealed_values, length(sealed_values) - 1, \
               get_byte(sealed_values, length(sealed_values) - 1) # 1) WHERE collection = 'encounters'";
    assert_eq!(data.execute(sql, &[]).await.unwrap(), 1);
    let answer = person.officer.get(&path_of(&person.subject)).await;
    let request = request_id(&answer);
    let page: Value = answer.json().await.unwrap();
    assert_eq!(records(&page).len(), 4);
    let broken = &page["unreadable"][0];
    assert_eq!(broken["collection"], "encounters");
    let entries = strongroom.entries_of_request(&request).await;
    let failed: Vec<&Value> = entries.iter().filter(|entry| entry["out"]["status"] == "failed").collect();
    assert_eq!((failed.len(), &failed[0]["out"]["code"]), (1, &json!("record_unreadable")));
    assert_eq!(failed[0]["obj"][0]["record"], broken["id"]);
    let export = entries.iter().find(|entry| entry["act"] == "subject.export").unwrap();
    assert_eq!(export["n"], 4);
}

#[tokio::test]
async fn an_export_counts_as_many_records_as_it_shows() {
    let few = |folder: &Path| {
        let file = folder.join("limits.toml");
        let limit = "\n[role.privacy_officer.client]\nrequests_per_minute = 6_000\nrequests_at_once = 6_000\n\
                     records_per_hour = 5\nrecords_at_once = 5\n";
        let text = std::fs::read_to_string(&file).unwrap() + limit;
        replace_file(&file, &text);
    };
    let options = ServiceOptions { policy: Some(Box::new(few)), ..Default::default() };
    let strongroom = Strongroom::start_with(options).await;
    let person = Person::of(&strongroom).await;
    let path = path_of(&person.subject);
    assert_eq!(person.officer.get(&format!("{path}?limit=3")).await.status(), 200);
    let answer = person.officer.get(&path).await;
    let request = request_id(&answer);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(problem(answer).await, (429, "volume_limited".into()));
    let entry = strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["subj"]), (&json!("subject.export"), &json!(person.subject)));
    assert_eq!(person.officer.get(&format!("{path}?limit=2")).await.status(), 200, "two are left");
}

/// Whatever somebody asks for, a page ends where it becomes large; all of it comes in the end, and each record once.
#[tokio::test]
async fn a_page_is_as_large_as_it_may_be_and_no_larger() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("PATRQT");
    let officer = strongroom.client("privacy-desk").await.with_purpose("PATRQT");
    let subject = portal.create_patient(small_patient()).await;
    let mut letter = message(&subject);
    letter["fields"]["body"] = json!("x".repeat(32_000));
    let letters: Vec<Value> = vec![letter; 110];
    let mut made = vec![subject.clone()];
    for _ in 0..3 {
        let answer = portal.post("/api/v1/messages/batch", &json!({ "records": letters })).await;
        assert_eq!(answer.status(), 201);
        let answer: Value = answer.json().await.unwrap();
        made.extend(records(&answer).iter().map(|record| id(record).to_owned()));
    }
    let (pages, _) = pages(&officer, &subject, 500).await;
    let sizes: Vec<usize> = pages.iter().map(|page| records(page).len()).collect();
    assert!(sizes.len() == 2 && sizes[0] > 200 && sizes[0] < 300, "{sizes:?}");
    let mut met: Vec<String> = pages.iter().flat_map(records).map(|record| id(record).to_owned()).collect();
    met.sort();
    made.sort();
    assert_eq!(met, made);
}

#[tokio::test]
async fn what_has_expired_is_not_taken_out_but_while_it_is_held() {
    let strongroom = Strongroom::start().await;
    let person = Person::of(&strongroom).await;
    let data = strongroom.data().await;
    data.batch_execute("UPDATE record SET expires_at = now() WHERE collection <> 'patients'").await.unwrap();
    let export = async || {
        let page: Value = person.officer.get(&path_of(&person.subject)).await.json().await.unwrap();
        records(&page).len()
    };
    assert_eq!(export().await, 1);
    let hold = format!("/api/v1/subjects/{}/hold", person.subject);
    let lawsuit = json!({ "reason": "litigation", "reference": "CV-1" });
    assert_eq!(person.officer.with_purpose("HCOMPL").post(&hold, &lawsuit).await.status(), 201);
    assert_eq!(export().await, 5);
}
