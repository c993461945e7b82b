//! A clinic of people: two patients, a doctor, and the applications that they use.

use std::path::Path;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::people::{claims, issuer};
use super::samples::{NOBODY, small_patient};
use super::tokens::{Signer, key_set};
use super::{Client, ServiceOptions, Strongroom, request_id};

/// Two patients, and those who look after the first.
pub struct Clinic {
    pub strongroom: Strongroom,
    pub signer: Signer,
    pub portal: Client,
    pub desk: Client,
    pub coordination: Client,
    pub alice: String,
    pub bob: String,
}

impl Clinic {
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// With its policy changed.
    pub async fn open_with(change: impl FnOnce(&Path) + Send + 'static) -> Self {
        let signer = Signer::new("ES256", "first");
        let strongroom = Strongroom::start_with(Self::options(&signer, change)).await;
        let portal = strongroom.client("portal").await.with_purpose("PATRQT");
        let desk = strongroom.client("clinician-desk").await.with_purpose("TREAT");
        let coordination = strongroom.client("coordination").await.with_purpose("COC");
        let alice = portal.create_patient(small_patient()).await;
        let bob = portal.create_patient(small_patient()).await;
        Self { strongroom, signer, portal, desk, coordination, alice, bob }
    }

    /// Of a service that believes this signer.
    pub fn options(signer: &Signer, change: impl FnOnce(&Path) + Send + 'static) -> ServiceOptions {
        let lines = "jwks_file = \"keys.json\"\ncare_teams_claim = \"teams\"\nsubject_claim = \"patient_id\"\n\
                     department_claim = \"department\"";
        let people = format!(
            "{}doctor = \"clinician\"\nofficer = \"privacy_officer\"\nmember = \"patient\"\n\
             [issuer.departments]\n\"Heart\" = \"cardiology\"\n\"Pharmacy (ground floor)\" = \"pharmacy\"\n",
            issuer(lines).trim_end().to_owned() + "\n"
        );
        let people = people.replace("porter = \"visitor\"\n", "");
        let keys = key_set(&[signer]);
        let change = move |folder: &Path| {
            std::fs::write(folder.join("keys.json"), keys).unwrap();
            std::fs::write(folder.join("people.toml"), people).unwrap();
            change(folder);
        };
        ServiceOptions { policy: Some(Box::new(change)), ..Default::default() }
    }

    /// How often the service asked for relationships to records.
    pub async fn looked_up(&self) -> u64 {
        let operator = self.strongroom.client("operator").await;
        let metrics = operator.get("/metrics").await.text().await.unwrap();
        let count = metrics.lines().find(|line| {
            line.starts_with("strongroom_storage_duration_seconds_count")
                && line.contains("records::concerned")
        });
        count.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    pub fn doctor(&self, teams: &[&str]) -> String {
        self.signer.sign(&claims(&json!({ "roles": ["doctor"], "teams": teams })))
    }

    pub fn member(&self, patient: &str) -> String {
        self.signer.sign(&claims(&json!({ "roles": ["member"], "patient_id": patient, "sub": "m-1" })))
    }

    pub async fn set_team(&self, subject: &str, etag: &str, teams: &[&str]) -> Response {
        let request = self.coordination.request(Method::PUT, &team_path(subject)).header("if-match", etag);
        request.json(&json!({ "teams": teams })).send().await.unwrap()
    }

    /// What is not the caller's to see is answered as what is not there; gives the entry.
    pub async fn unseen(&self, ask: impl AsyncFn(&str) -> Response, hidden: &str) -> Value {
        let answer = ask(hidden).await;
        let request = request_id(&answer);
        let never = ask(NOBODY).await;
        assert_eq!(whole(answer).await, whole(never).await);
        self.strongroom.entry_of(&request).await
    }
}

pub fn team_path(subject: &str) -> String {
    format!("/api/v1/subjects/{subject}/care-team")
}

pub async fn send(
    client: &Client,
    method: Method,
    path: &str,
    token: &str,
    body: Option<&Value>,
) -> Response {
    let request = client.request(method, path).bearer_auth(token).header("if-match", "\"1\"");
    body.map_or(request.try_clone().unwrap(), |body| request.json(body)).send().await.unwrap()
}

/// Everything of an answer but the request's id and the time.
pub async fn whole(answer: Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut headers: Vec<(String, String)> = answer
        .headers()
        .iter()
        .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (answer.status().as_u16(), headers, answer.bytes().await.unwrap().to_vec())
}
