//! Searches that are refused: each for its own reason, on record, without an echo, and before anything is looked for.

use serde_json::{Value, json};

use crate::search::{between, exact, found, person, prefix, search};
use crate::support::samples::{NOBODY, message, patient, small_patient};
use crate::support::{Client, Strongroom, problem, replace_file, request_id};

const PATH: &str = "/api/v1/patients/search";
/// Stands in everything that is sent here.
const MARK: &str = "Zq7Mark";

/// Status, code, and the faults as "condition field" and code.
async fn refused(client: &Client, body: &Value) -> (u16, String, Vec<(String, String)>) {
    let answer = client.post(PATH, body).await;
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    assert!(!text.contains(MARK), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    let fault = |fault: &Value| {
        let place = fault["condition"].as_u64().map_or("-".to_owned(), |place| place.to_string());
        let field = fault["field"].as_str().unwrap_or_default();
        (format!("{place} {field}"), fault["code"].as_str().unwrap().to_owned())
    };
    let faults = document["errors"].as_array().into_iter().flatten().map(fault).collect();
    (status, document["code"].as_str().unwrap().to_owned(), faults)
}

#[tokio::test]
async fn conditions_that_do_not_fit_are_named_by_their_places() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let good = exact("family_name", MARK);
    let on = |value: Value| json!({ "field": "birth_date", "match": "on", "value": value });
    let owned = |(place, code): &(&str, &str)| ((*place).to_owned(), (*code).to_owned());
    for (conditions, faults) in [
        (vec![], vec![("- ", "condition_count")]),
        (vec![good.clone(); 5], vec![("- ", "condition_count")]),
        (vec![good.clone(), exact(MARK, MARK)], vec![("1 ", "unknown_field")]),
        (vec![exact("notes", MARK)], vec![("0 notes", "not_indexed")]),
        (vec![exact("sex", "F")], vec![("0 sex", "not_indexed")]),
        (vec![prefix("given_name", MARK)], vec![("0 given_name", "not_indexed")]),
        (vec![exact("birth_date", "1984-02-29")], vec![("0 birth_date", "not_indexed")]),
        (vec![between("family_name", "2026-01-01", "2026-01-02")], vec![("0 family_name", "not_indexed")]),
        (vec![prefix("family_name", "Zq")], vec![("0 family_name", "prefix_too_short")]),
        (vec![between("birth_date", "2026-01-02", "2026-01-01")], vec![("0 birth_date", "range_reversed")]),
        (vec![between("birth_date", "2024-01-01", "2025-02-04")], vec![("0 birth_date", "range_too_long")]),
        (vec![between("birth_date", "2024-01-01", MARK)], vec![("0 birth_date", "malformed")]),
        (vec![on(json!("1984-02-30"))], vec![("0 birth_date", "out_of_range")]),
        (vec![on(json!(19_840_229))], vec![("0 birth_date", "wrong_kind")]),
        (vec![exact("family_name", " ")], vec![("0 family_name", "empty")]),
        (vec![exact("family_name", "—")], vec![("0 family_name", "empty")]),
        (vec![exact("email", MARK)], vec![("0 email", "malformed")]),
        (vec![exact("ssn", "000-12-3456")], vec![("0 ssn", "out_of_range")]),
        (vec![exact("family_name", &MARK.repeat(40))], vec![("0 family_name", "too_long")]),
        (
            vec![exact("phone", MARK), good.clone(), exact("mrn", "é")],
            vec![("0 phone", "malformed"), ("2 mrn", "malformed")],
        ),
    ] {
        let body = json!({ "where": conditions });
        let expected = (422, "search_invalid".to_owned(), faults.iter().map(owned).collect());
        assert_eq!(refused(&portal, &body).await, expected, "{body}");
    }
    assert_unmarked(&strongroom).await;
}

#[tokio::test]
async fn bodies_that_are_not_of_the_documented_form() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let good = || exact("family_name", MARK);
    let with = |name: &str, value: Value| {
        let mut body = json!({ "where": [good()] });
        body[name] = value;
        body
    };
    for body in [
        json!({}),
        json!({ "where": good() }),
        json!({ "where": [[MARK, "exact"]] }),
        json!({ "where": [{ "field": "family_name", "match": "exact" }] }),
        json!({ "where": [{ "field": "family_name", "match": "like", "value": MARK }] }),
        json!({ "where": [{ "field": "family_name", "match": "exact", "value": MARK, "from": MARK }] }),
        json!({ "where": [{ "field": "birth_date", "match": "between", "from": "2026-01-01" }] }),
        json!({ "where": [{ "field": "birth_date", "match": "between", "value": "2026-01-01" }] }),
        json!({ "where": [{ "field": "family_name", "match": "exact", "value": MARK, "or": [] }] }),
        with(MARK, json!(1)),
        with("limit", json!(0)),
        with("limit", json!(101)),
        with("limit", json!("20")),
        with("cursor", json!(MARK)),
        with("cursor", json!("4111111111111111")),
        with("view", json!(MARK)),
        with("fields", json!([MARK])),
        with("fields", json!(["mrn", "mrn"])),
    ] {
        let expected = (400, "body_shape".to_owned(), vec![]);
        assert_eq!(refused(&portal, &body).await, expected, "{body}");
    }
    assert_eq!(portal.post(PATH, &with("cursor", json!(NOBODY))).await.status(), 200);
    // What is no collection, and what has no index.
    let answer = portal.post("/api/v1/shoes/search", &with("limit", json!(1))).await;
    assert_eq!(problem(answer).await, (404, "collection_unknown".into()));
    assert_eq!(portal.get(PATH).await.status(), 405);
    assert_unmarked(&strongroom).await;
}

/// What the caller may not read in plain it may not find out by asking either.
#[tokio::test]
async fn what_may_not_be_read_in_plain_is_not_asked_by() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let coordination = strongroom.client("coordination").await.with_purpose("COC");
    portal.create_patient(patient()).await;
    let conditions =
        [exact("family_name", "novakova"), exact("ssn", "987-65-4320"), exact("ssn", "987-65-4321")];
    let answer = search(&portal, "patients", &conditions).await;
    let request = request_id(&answer);
    let body: Value = answer.json().await.unwrap();
    assert_eq!((&body["status"], &body["code"]), (&json!(403), &json!("field_not_allowed")));
    assert_eq!(body["errors"], json!([{ "field": "ssn", "code": "not_allowed" }]));
    let entry = strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["asked"]), (&json!("record.search"), &json!(["ssn"])));
    assert_eq!(entry["out"], json!({ "status": "refused", "code": "field_not_allowed" }));
    // Masked is not plain.
    let masked = search(&coordination, "patients", &[exact("mrn", "MRN-0012345678")]).await;
    assert_eq!(problem(masked).await, (403, "field_not_allowed".into()));
    assert_eq!(found(&coordination, "patients", &[prefix("family_name", "nov")]).await.len(), 1);
    // And what is asked for by name is refused as in a single read.
    let body = json!({ "where": [exact("family_name", "novakova")], "fields": ["ssn"], "view": "plain" });
    assert_eq!(problem(portal.post(PATH, &body).await).await, (403, "field_not_allowed".into()));
    // Who sees masks alone, and who may not for this purpose, looks for nothing.
    for (name, purpose, code) in [
        ("dashboard", "HOPERAT", "action_not_allowed"),
        ("records-import", "TREAT", "action_not_allowed"),
        ("mobile", "PATRQT", "action_not_allowed"),
        ("portal", "PATRQT", "purpose_not_allowed"),
        ("audit", "TREAT", "action_not_allowed"),
    ] {
        let client = strongroom.client(name).await.with_purpose(purpose);
        let answer = search(&client, "patients", &[exact("family_name", MARK)]).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (403, code.to_owned()), "{name}");
        assert_eq!(strongroom.entry_of(&request).await["act"], "record.search");
    }
    let notes = strongroom.client("therapist-desk").await.with_purpose("TREAT");
    let answer = search(&notes, "psychotherapy_notes", &[exact("author", MARK)]).await;
    assert_eq!(answer.status(), 403);
    assert_unmarked(&strongroom).await;
}

/// A page is taken from the allowance before anything is looked for, and what it did not need comes back: a refusal tells
/// nothing of what there is, and looking in vain counts as well.
#[tokio::test]
async fn searches_are_counted_by_what_they_show() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    for _ in 0..3 {
        portal.create_patient(small_patient()).await;
    }
    let file = strongroom.policy_directory.join("limits.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let own = "\n[role.portal.client]\nrequests_per_minute = 100000\nrequests_at_once = 100000\nrecords_per_hour = 1\nrecords_at_once = 30\n";
    strongroom.adopts(|| replace_file(&file, &(text + own))).await;
    let ask = async |name: &str| {
        let body = json!({ "where": [exact("family_name", name)], "limit": 20 });
        portal.post(PATH, &body).await
    };
    // Three and one of thirty are gone each time, and twenty must be there: 30, 27, 26, 23, 22, 19.
    for name in ["Nováková", "Nobody", "Nováková", "Nobody", "Nováková"] {
        assert_eq!(ask(name).await.status(), 200, "{name}");
    }
    let mut codes = Vec::new();
    for name in ["Nováková", "Nobody"] {
        let answer = ask(name).await;
        assert!(answer.headers().contains_key("retry-after"));
        codes.push(problem(answer).await);
    }
    assert_eq!(codes, vec![(429, "volume_limited".to_owned()); 2]);
    let entries = strongroom.entries_of("record.search").await;
    let refusals: Vec<&Value> =
        entries.iter().filter(|entry| entry["out"]["code"] == "volume_limited").collect();
    assert_eq!((refusals.len(), &refusals[0]["obj"]), (1, &json!([{ "collection": "patients" }])));
    // A smaller page is still to be had.
    let body = json!({ "where": [exact("family_name", "Nobody")], "limit": 5 });
    assert_eq!(portal.post(PATH, &body).await.status(), 200);
}

/// Where very many share a term the search says so, and tells of none of them.
#[tokio::test]
async fn a_search_that_is_too_wide_says_so() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let subject = portal.create_patient(person(&json!({ "family_name": "Okafor" }))).await;
    let letters: Vec<Value> = (0..500).map(|_| message(&subject)).collect();
    for _ in 0..5 {
        let made = portal.post("/api/v1/messages/batch", &json!({ "records": letters })).await;
        assert_eq!(made.status(), 201);
    }
    // A rule that lets the portal look into letters, and terms that say of each of them what is true of none.
    let rule = "@id(\"extra\") permit (principal in Role::\"portal\", action == Action::\"search\", \
                resource == Collection::\"messages\") when { context has purpose && context.purpose == Purpose::\"TREAT\" };\n";
    let file = strongroom.policy_directory.join("extra.cedar");
    strongroom.adopts(|| std::fs::write(file, rule).unwrap()).await;
    let of = |thread: &str| [exact("thread", thread)];
    let mut other = message(&subject);
    other["fields"]["thread"] = json!("thread-2");
    let only = portal.create("messages", &other).await["id"].clone();
    assert_eq!(json!(found(&portal, "messages", &of("thread-2")).await), json!([only]));
    let lie = "UPDATE index_term SET term = (SELECT i.term FROM index_term i WHERE i.record_id = $1 AND get_byte(i.term, 3) = 7) \
               WHERE get_byte(term, 3) = 7 AND collection = 'messages' AND record_id <> $1";
    assert_eq!(strongroom.data().await.execute(lie, &[&only.as_str().unwrap()]).await.unwrap(), 2_500);
    let answer = search(&portal, "messages", &of("thread-2")).await;
    let request = request_id(&answer);
    let text = answer.text().await.unwrap();
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&told["status"], &told["code"]), (&json!(422), &json!("search_too_wide")));
    let entry = strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["out"]["code"]), (&json!("record.search"), &json!("search_too_wide")));
}

async fn assert_unmarked(strongroom: &Strongroom) {
    let kept = format!("{:?}{}", strongroom.entries().await, strongroom.log().join("\n"));
    assert!(kept.contains("service.start"));
    assert!(!kept.to_ascii_lowercase().contains(&MARK.to_ascii_lowercase()));
}
