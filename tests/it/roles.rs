//! Every shipped role on the running service: each operation, in each collection, field by field, is given and refused as the
//! reviewed matrix says, for each purpose that the role has, for one that it has not, and for none. What the matrix does not
//! list is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use strongroom::domain::purpose::Purpose;
use strongroom::policy::PolicySet;

use crate::support::clinic::{Clinic, team_path};
use crate::support::people::claims;
use crate::support::samples::{NOBODY, document, encounter, message, note, patient};
use crate::support::{Client, policy_directory, problem};

const DOORWAY: &str = "spiffe://strongroom.internal/client/clinic-north/doorway";

/// Role, the client that has it, whether a person brings it, and the circumstances that the matrix names for them.
const ROLES: [(&str, &str, bool, &str); 14] = [
    ("portal", "portal", false, "nothing"),
    ("mobile", "mobile", false, "nothing"),
    ("clinician", "clinician-desk", false, "nothing"),
    ("clinician", "doorway", true, "person in_care_team"),
    ("therapist", "therapist-desk", false, "nothing"),
    ("billing", "billing", false, "nothing"),
    ("admin", "dashboard", false, "nothing"),
    ("integration", "records-import", false, "nothing"),
    ("patient", "doorway", true, "person is_self"),
    ("care_coordinator", "coordination", false, "day"),
    ("privacy_officer", "privacy-desk", false, "second_factor"),
    ("auditor", "audit", false, "second_factor"),
    ("custodian", "custodian-alice", false, "second_factor inside"),
    ("operator", "operator", false, "second_factor inside"),
];

/// Of one row of [`ROLES`].
struct Matrix {
    /// (action, collection) → purpose → field → view, in its circumstances.
    given: BTreeMap<(String, String), BTreeMap<String, BTreeMap<String, String>>>,
    /// (action, collection, purpose) that it has besides, once it has broken the glass.
    under_broken_glass: BTreeSet<(String, String, String)>,
}

impl Matrix {
    fn of(role: &str, circumstances: &str) -> Self {
        let text = std::fs::read_to_string(policy_directory().join("matrix.golden")).unwrap();
        let mut given: BTreeMap<_, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
        let mut under_broken_glass = BTreeSet::new();
        let broken = format!("{circumstances} break_glass");
        for section in text.split("\n\n").skip(1) {
            let (title, body) = section.split_once('\n').unwrap();
            let (title, when) = title.split_once(" when ").unwrap_or((title, circumstances));
            let mut words = title.split(' ');
            // A person in these circumstances brings the role, which some rules ask for.
            let brought = format!(" person_role {role}");
            let is_so = |wanted: &str| {
                when.split("; ").any(|one| one.strip_suffix(&brought).unwrap_or(one) == wanted)
            };
            if words.next() != Some(role) || !(is_so(circumstances) || is_so(&broken)) {
                continue;
            }
            let place = (words.next().unwrap().to_owned(), words.next().unwrap_or("").to_owned());
            for line in body.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let (field, view, of) =
                    if words[0] == "for" { ("", "", &words[1..]) } else { (words[0], words[2], &words[3..]) };
                for purpose in of {
                    if !is_so(circumstances) {
                        under_broken_glass.insert((place.0.clone(), place.1.clone(), (*purpose).to_owned()));
                        continue;
                    }
                    let purposes = given.entry(place.clone()).or_default();
                    let fields = purposes.entry((*purpose).to_owned()).or_default();
                    fields.insert(field.to_owned(), view.to_owned());
                }
            }
        }
        Self { given, under_broken_glass }
    }

    /// Those that the role has for anything, one that it has not, and none.
    fn purposes(&self) -> Vec<&'static str> {
        let has = |purpose: &str| self.given.values().any(|purposes| purposes.contains_key(purpose));
        let (own, others): (Vec<&str>, Vec<&str>) =
            Purpose::ALL.map(Purpose::as_str).into_iter().partition(|purpose| has(purpose));
        own.into_iter().chain(others.first().copied()).chain(["(none)"]).collect()
    }

    /// The fields that an action gives for a purpose; without it the code of its refusal.
    fn gives(
        &self,
        action: &str,
        collection: &str,
        purpose: &str,
    ) -> Result<&BTreeMap<String, String>, &'static str> {
        let purposes = self.given.get(&(action.to_owned(), collection.to_owned()));
        match purposes.map(|purposes| (purposes.get(purpose), purpose)) {
            Some((Some(fields), _)) => Ok(fields),
            Some((None, "(none)")) => Err("purpose_required"),
            Some((None, _)) => Err("purpose_not_allowed"),
            None => Err("action_not_allowed"),
        }
    }

    fn shows(&self, collection: &str, purpose: &str, view: &str) -> Result<BTreeSet<String>, &'static str> {
        let fields = self.gives("read", collection, purpose)?;
        Ok(fields.iter().filter(|(_, shown)| *shown == view).map(|(field, _)| field.clone()).collect())
    }
}

/// Somebody who asks, and what they must hear.
struct Asking<'s> {
    client: Client,
    token: Option<String>,
    purpose: &'static str,
    matrix: &'s Matrix,
    records: &'s BTreeMap<&'static str, (String, Value)>,
    subject: &'s str,
    who: String,
}

impl Asking<'_> {
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let request = self.client.request(method, path).header("if-match", "\"4000000000\"");
        let request = self.token.iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        body.into_iter().fold(request, reqwest::RequestBuilder::json).send().await.unwrap()
    }

    async fn all(&self) {
        for (collection, (id, sample)) in self.records {
            self.reads(collection, id, sample).await;
            self.reads_many(collection, id).await;
            self.searches(collection, id, sample).await;
            self.writes(collection, id, sample).await;
            let path = format!("/api/v1/{collection}");
            let history = self.send(Method::GET, &format!("{path}/{id}/history"), None).await;
            self.hears(history, ("history", collection), (200, "")).await;
            let list = self.send(Method::GET, &path, None).await;
            self.hears(list, ("list", collection), (200, "")).await;
            let delete = self.send(Method::DELETE, &format!("{path}/{id}"), None).await;
            self.hears(delete, ("delete", collection), (412, "version_stale")).await;
        }
        let team = team_path(self.subject);
        let answer = self.send(Method::GET, &team, None).await;
        self.hears(answer, ("read_care_team", ""), (200, "")).await;
        let answer = self.send(Method::PUT, &team, Some(&json!({ "teams": [] }))).await;
        self.hears(answer, ("update_care_team", ""), (412, "version_stale")).await;
        let answer = self.send(Method::GET, "/api/v1/break-glass", None).await;
        self.hears(answer, ("review_break_glass", ""), (200, "")).await;
        let holds = format!("/api/v1/subjects/{}/hold", self.subject);
        let answer = self.send(Method::GET, &holds, None).await;
        self.hears(answer, ("read_hold", ""), (200, "")).await;
        let answer = self.send(Method::DELETE, &format!("{holds}/{NOBODY}"), None).await;
        self.hears(answer, ("hold", ""), (404, "record_not_found")).await;
        let erase = format!("/api/v1/subjects/{}/erase", self.subject);
        let answer = self.send(Method::GET, &erase, None).await;
        self.hears(answer, ("read_erasure", ""), (200, "")).await;
        self.exports().await;
        self.relays().await;
        let answer = self.send(Method::GET, "/api/v1/keys/status", None).await;
        self.hears(answer, ("read_keys", ""), (200, "")).await;
        let none = json!({ "class": "chd", "reason": "scheduled", "reference": "KEY-1" });
        let answer = self.send(Method::POST, "/api/v1/keys/rotations", Some(&none)).await;
        self.hears(answer, ("rotate", ""), (409, "nothing_to_rotate")).await;
        let approvals = format!("/api/v1/keys/rotations/{NOBODY}/approvals");
        let answer = self.send(Method::POST, &approvals, None).await;
        self.hears(answer, ("approve_destruction", ""), (404, "record_not_found")).await;
        let answer = self.send(Method::GET, "/api/v1/audit/events", None).await;
        self.hears(answer, ("read_audit", ""), (200, "")).await;
        let answer = self.send(Method::GET, "/metrics", None).await;
        self.hears(answer, ("read_metrics", ""), (200, "")).await;
    }

    /// Of each collection what the matrix gives; where that is nothing of any, the refusal that tells most.
    async fn exports(&self) {
        let what = format!("{} export", self.who);
        let answer = self.send(Method::GET, &format!("/api/v1/subjects/{}/export", self.subject), None).await;
        let given: BTreeMap<&str, _> = self
            .records
            .keys()
            .map(|collection| (*collection, self.matrix.gives("export", collection, self.purpose)))
            .collect();
        if given.values().all(Result::is_err) {
            let mut codes = given.values().filter_map(|given| given.err());
            let code = codes.find(|code| *code != "action_not_allowed").unwrap_or("action_not_allowed");
            return assert_eq!(problem(answer).await, (403, code.to_owned()), "{what}");
        }
        assert_eq!(answer.status(), 200, "{what}");
        let body: Value = answer.json().await.unwrap();
        for (collection, (_, sample)) in self.records {
            let is_it = |record: &&Value| record["collection"] == **collection;
            let shown = body["records"].as_array().unwrap().iter().find(is_it);
            let Ok(fields) = &given[collection] else {
                assert!(
                    shown.is_none() && names(&body["withheld"]).contains(*collection),
                    "{what} {collection}"
                );
                continue;
            };
            let stored = sample["fields"].as_object().unwrap();
            let expected: BTreeMap<_, _> =
                stored.iter().filter(|(field, _)| fields.contains_key(*field)).collect();
            let shown: BTreeMap<_, _> = shown.unwrap()["fields"].as_object().unwrap().iter().collect();
            assert_eq!(shown, expected, "{what} {collection}");
        }
    }

    /// Whoever may hears that this service sends nothing to anybody.
    async fn relays(&self) {
        let policy = PolicySet::load(&policy_directory()).unwrap();
        let destination = policy.destination("claims-clearinghouse").unwrap();
        for collection in destination.collections().map(|collection| collection.name().as_str()) {
            let place = format!("claims-clearinghouse/{collection}");
            let path = "/api/v1/relay/claims-clearinghouse";
            let placeholder = format!("{{{{{}}}}}", self.records[collection].0);
            let body = match collection {
                "patients" => json!({ "subscriber": { "ssn": placeholder } }),
                _ => json!({ "visit": { "number": placeholder } }),
            };
            let answer = self.send(Method::POST, path, Some(&body)).await;
            self.hears(answer, ("relay", &place), (503, "relay_not_configured")).await;
        }
    }

    /// The answer of an action that is about no field.
    async fn hears(&self, answer: Response, (action, collection): (&str, &str), given: (u16, &str)) {
        let what = format!("{} {action} {collection}", self.who);
        match self.matrix.gives(action, collection, self.purpose) {
            Err(code) => assert_eq!(problem(answer).await, (403, code.to_owned()), "{what}"),
            Ok(_) if given.1.is_empty() => assert_eq!(answer.status(), given.0, "{what}"),
            Ok(_) => assert_eq!(problem(answer).await, (given.0, given.1.to_owned()), "{what}"),
        }
    }

    async fn reads(&self, collection: &str, id: &str, sample: &Value) {
        let what = format!("{} read {collection}", self.who);
        let answer = self.send(Method::GET, &format!("/api/v1/{collection}/{id}"), None).await;
        let under_broken_glass = ("read".to_owned(), collection.to_owned(), self.purpose.to_owned());
        let plain = match self.matrix.shows(collection, self.purpose, "plain") {
            // Whoever could break it is not told whether there is a record.
            Err(_) if self.matrix.under_broken_glass.contains(&under_broken_glass) => {
                return assert_eq!(problem(answer).await, (404, "record_not_found".into()), "{what}");
            }
            Err(code) => return assert_eq!(problem(answer).await, (403, code.to_owned()), "{what}"),
            Ok(plain) => plain,
        };
        let masked = self.matrix.shows(collection, self.purpose, "masked").unwrap();
        assert_eq!(answer.status(), 200, "{what}");
        let body: Value = answer.json().await.unwrap();
        let stored = sample["fields"].as_object().unwrap();
        let fields = body["fields"].as_object().unwrap();
        for (field, value) in stored {
            let (is_plain, is_masked) = (plain.contains(field), masked.contains(field));
            match fields.get(field) {
                None => assert!(!is_plain && !is_masked, "{what}: {field} is missing"),
                Some(shown) if is_plain => assert_eq!(shown, value, "{what}: {field}"),
                Some(shown) => {
                    assert!(is_masked, "{what}: {field} is shown");
                    // Some values have nothing to hide behind a mask: what is shown is never more than the mask.
                    assert!(shown.is_string() && names(&body["masked"]).contains(field), "{what}: {field}");
                }
            }
        }
        for field in names(&body["withheld"]) {
            assert!(!plain.contains(&field) && !masked.contains(&field), "{what}: {field} is withheld");
        }
    }

    async fn reads_many(&self, collection: &str, id: &str) {
        let body = json!({ "ids": [id] });
        let answer = self.send(Method::POST, &format!("/api/v1/{collection}/batch/read"), Some(&body)).await;
        let reads = self.matrix.gives("read", collection, self.purpose);
        let together = self.matrix.gives("read_many", collection, self.purpose);
        let what = format!("{} read_many {collection}", self.who);
        match (together, reads) {
            (Err(code), _) | (_, Err(code)) => {
                assert_eq!(problem(answer).await, (403, code.to_owned()), "{what}");
            }
            (Ok(_), Ok(_)) => {
                assert_eq!(answer.status(), 200, "{what}");
                let body: Value = answer.json().await.unwrap();
                assert_eq!(body["records"][0]["id"], json!(id), "{what}");
            }
        }
    }

    /// By every field that has an index: given to who sees it in plain.
    async fn searches(&self, collection: &str, id: &str, sample: &Value) {
        let policy = PolicySet::load(&policy_directory()).unwrap();
        for (field, index) in policy.collection(collection).unwrap().indexed() {
            let name = field.name.as_str();
            let value = &sample["fields"][name];
            let condition = match index.day() {
                None => json!({ "field": name, "match": "exact", "value": value }),
                Some(_) => json!({ "field": name, "match": "on", "value": value.as_str().unwrap()[..10] }),
            };
            let body = json!({ "where": [condition] });
            let answer = self.send(Method::POST, &format!("/api/v1/{collection}/search"), Some(&body)).await;
            let searches = self.matrix.gives("search", collection, self.purpose);
            let plain = self.matrix.shows(collection, self.purpose, "plain");
            let what = format!("{} search {collection} by {name}", self.who);
            match (searches, plain) {
                (Err(code), _) | (_, Err(code)) => {
                    assert_eq!(problem(answer).await, (403, code.to_owned()), "{what}");
                }
                (Ok(_), Ok(plain)) if plain.contains(name) => {
                    assert_eq!(answer.status(), 200, "{what}");
                    let body: Value = answer.json().await.unwrap();
                    let found = body["records"].as_array().unwrap();
                    assert!(found.iter().any(|record| record["id"] == id), "{what}");
                }
                _ => assert_eq!(problem(answer).await, (403, "field_not_allowed".into()), "{what}"),
            }
        }
    }

    async fn writes(&self, collection: &str, id: &str, sample: &Value) {
        let sent: BTreeSet<String> = sample["fields"].as_object().unwrap().keys().cloned().collect();
        let path = format!("/api/v1/{collection}");
        let change = json!({ "fields": sample["fields"] });
        let created = self.send(Method::POST, &path, Some(sample)).await;
        self.wrote(created, ("create", collection), &sent, (201, "")).await;
        let updated = self.send(Method::PATCH, &format!("{path}/{id}"), Some(&change)).await;
        self.wrote(updated, ("update", collection), &sent, (412, "version_stale")).await;
    }

    async fn wrote(
        &self,
        answer: Response,
        (action, collection): (&str, &str),
        sent: &BTreeSet<String>,
        done: (u16, &str),
    ) {
        let what = format!("{} {action} {collection}", self.who);
        let may = match self.matrix.gives(action, collection, self.purpose) {
            Err(code) => return assert_eq!(problem(answer).await, (403, code.to_owned()), "{what}"),
            Ok(fields) => fields,
        };
        let refused: BTreeSet<String> =
            sent.iter().filter(|field| !may.contains_key(*field)).cloned().collect();
        if refused.is_empty() {
            let status = answer.status().as_u16();
            assert_eq!(status, done.0, "{what}: {}", answer.text().await.unwrap());
            return;
        }
        assert_eq!(answer.status(), 403, "{what}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["code"], "field_not_allowed", "{what}");
        let told: BTreeSet<String> = body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["field"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, refused, "{what}");
    }
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// A client that may do nothing by itself and acts for everybody, and limits that nobody meets here.
fn prepare(folder: &Path) {
    let edit = |file: &str, from: &str, to: &str| {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    };
    edit("schema.cedarschema", "\"portal\"", "\"portal\", \"doorway\"");
    let client = format!(
        "[[client]]\nname = \"doorway\"\ntenant = \"clinic-north\"\nkind = \"app\"\nsan = \"{DOORWAY}\"\n\
         roles = [\"doorway\"]\nacts_for = [\"clinician\", \"patient\"]\n\n[[client]]"
    );
    edit("identities.toml", "[[client]]", &client);
    let much = "requests_per_minute = 600_000\nrequests_at_once = 100_000\nrecords_per_hour = 900_000\nrecords_at_once = 90_000\n";
    let limits = format!("[default.client]\n{much}\n[default.person]\n{much}");
    std::fs::write(folder.join("limits.toml"), limits).unwrap();
}

#[tokio::test]
async fn every_role_gets_and_is_refused_what_the_matrix_says() {
    let clinic = Clinic::open_with(prepare).await;
    let alice = clinic.portal.create_patient(patient()).await;
    assert_eq!(clinic.set_team(&alice, "\"1\"", &["ward-3"]).await.status(), 200);
    let mut records = BTreeMap::from([("patients", (alice.clone(), json!({ "fields": patient() })))]);
    let import = clinic.strongroom.client("records-import").await.with_purpose("TREAT");
    let portal = clinic.portal.with_purpose("TREAT");
    let therapist = clinic.strongroom.client("therapist-desk").await.with_purpose("TREAT");
    for (collection, maker, sample) in [
        ("encounters", &import, encounter(&alice)),
        ("messages", &portal, message(&alice)),
        ("documents", &portal, document(&alice)),
        ("psychotherapy_notes", &therapist, note(&alice)),
    ] {
        let made = maker.create(collection, &sample).await;
        records.insert(collection, (made["id"].as_str().unwrap().to_owned(), sample));
    }
    let doctor = json!({ "roles": ["doctor"], "teams": ["ward-3"], "amr": ["pwd"] });
    let member = json!({ "roles": ["member"], "patient_id": alice, "sub": "m-1" });
    let (doctor, member) = (clinic.signer.sign(&claims(&doctor)), clinic.signer.sign(&claims(&member)));
    let doorway = clinic.strongroom.client_with("client", DOORWAY).await.0;
    let mut asked = Vec::new();
    let matrices: Vec<Matrix> = ROLES.iter().map(|(role, _, _, when)| Matrix::of(role, when)).collect();
    for ((role, client, is_person, _), matrix) in ROLES.iter().zip(&matrices) {
        let client = if *is_person { doorway.clone() } else { clinic.strongroom.client(client).await };
        let token = is_person.then(|| if *role == "patient" { member.clone() } else { doctor.clone() });
        for purpose in matrix.purposes() {
            let stated = (purpose != "(none)").then(|| client.with_purpose(purpose));
            asked.push(Asking {
                client: stated.unwrap_or_else(|| client.clone()),
                token: token.clone(),
                purpose,
                matrix,
                records: &records,
                subject: &alice,
                who: format!(
                    "{role} ({client}) {purpose}",
                    client = if *is_person { "person" } else { "client" }
                ),
            });
        }
    }
    let work = asked.iter().map(Asking::all);
    futures_util::StreamExt::for_each_concurrent(futures_util::stream::iter(work), 16, |one| one).await;
    // Nobody was given a record that is not there, and every refusal is on record.
    let refused = clinic.strongroom.entries().await;
    let refused = refused.iter().filter(|entry| entry["out"]["status"] == "refused").count();
    assert!(refused > 500, "{refused}");
    assert_eq!(clinic.portal.get(&format!("/api/v1/patients/{NOBODY}")).await.status(), 404);
}

/// Each role of the schema is asked about above, so that a new one does not go without.
#[test]
fn no_role_goes_without() {
    let text = std::fs::read_to_string(policy_directory().join("schema.cedarschema")).unwrap();
    let (_, listed) = text.split_once("entity Role enum [").unwrap();
    let listed: BTreeSet<&str> = listed.split(']').next().unwrap().split('"').skip(1).step_by(2).collect();
    let asked: BTreeSet<&str> = ROLES.iter().map(|(role, ..)| *role).collect();
    assert_eq!(asked, listed);
}
