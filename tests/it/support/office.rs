//! Where people are erased: two privacy officers, and a person of whom there is something.

use std::path::Path;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::clinic::{Clinic, team_path};
use super::people::claims;
use super::samples::{message, note};
use super::{Client, eventually, problem};

pub fn erase_path(subject: &str) -> String {
    format!("/api/v1/subjects/{subject}/erase")
}

pub fn wish() -> Value {
    json!({ "reason": "person_request", "reference": "GDPR-117" })
}

/// Two officers, and a person of whom there is something.
pub struct Office {
    pub clinic: Clinic,
    pub desk: Client,
    pub one: String,
    pub other: String,
    pub letter: String,
    pub note: String,
}

impl Office {
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// With its policy changed.
    pub async fn open_with(change: impl FnOnce(&Path) + Send + 'static) -> Self {
        let clinic = Clinic::open_with(change).await;
        let desk = clinic.strongroom.client("privacy-desk").await.with_purpose("PATRQT");
        let officer = |sub: &str| clinic.signer.sign(&claims(&json!({ "roles": ["officer"], "sub": sub })));
        let (one, other) = (officer("o-1"), officer("o-2"));
        let letter = clinic.portal.create("messages", &message(&clinic.alice)).await;
        let therapist = clinic.strongroom.client("therapist-desk").await.with_purpose("TREAT");
        let note = therapist.create("psychotherapy_notes", &note(&clinic.alice)).await;
        let id = |made: &Value| made["id"].as_str().unwrap().to_owned();
        let (letter, note) = (format!("/api/v1/messages/{}", id(&letter)), id(&note));
        Self { clinic, desk, one, other, letter, note }
    }

    pub async fn ask(&self, subject: &str, token: &str) -> Response {
        self.desk
            .request(Method::POST, &erase_path(subject))
            .bearer_auth(token)
            .json(&wish())
            .send()
            .await
            .unwrap()
    }

    pub async fn asked(&self, subject: &str) -> String {
        let answer = self.ask(subject, &self.one).await;
        assert_eq!(answer.status(), 202);
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    pub async fn approve(&self, subject: &str, id: &str, token: &str) -> Response {
        let path = format!("{}/{id}/approve", erase_path(subject));
        self.desk.request(Method::POST, &path).bearer_auth(token).send().await.unwrap()
    }

    /// Asked for by one, approved by the other.
    pub async fn begin(&self) -> String {
        let id = self.asked(&self.clinic.alice).await;
        assert_eq!(self.approve(&self.clinic.alice, &id, &self.other).await.status(), 204);
        id
    }

    pub async fn erasures(&self) -> Vec<Value> {
        let answer = self.desk.get(&erase_path(&self.clinic.alice)).await;
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()["erasures"].as_array().unwrap().clone()
    }

    pub async fn is(&self, state: &str) {
        eventually(state, async || self.erasures().await[0]["state"] == state).await;
    }

    /// Nothing of Alice is to be had, and nothing to be written, in no way that there is.
    pub async fn check_unavailable(&self) {
        let (clinic, alice) = (&self.clinic, &self.clinic.alice);
        let portal = &clinic.portal;
        let own = format!("/api/v1/patients/{alice}");
        let change = json!({ "fields": { "language": "en" } });
        let hold = format!("/api/v1/subjects/{alice}/hold");
        let privacy = self.desk.with_purpose("HCOMPL");
        let lawsuit = json!({ "reason": "litigation", "reference": "CV-1" });
        for answer in [
            portal.get(&own).await,
            portal.get(&format!("{own}?version=1")).await,
            portal.get(&format!("{own}/history")).await,
            portal.get(&self.letter).await,
            portal.patch(&self.letter, "\"1\"", &json!({ "fields": { "read": true } })).await,
            portal.patch(&own, "\"1\"", &change).await,
            portal.delete(&self.letter).await,
            clinic.coordination.get(&team_path(alice)).await,
            clinic.set_team(alice, "\"1\"", &["ward-3"]).await,
            self.desk.get(&format!("/api/v1/subjects/{alice}/export")).await,
            privacy.get(&hold).await,
            privacy.post(&hold, &lawsuit).await,
            self.ask(alice, &self.one).await,
        ] {
            assert_eq!(problem(answer).await, (404, "record_not_found".into()));
        }
        let many = json!({ "records": [message(alice), message(&clinic.bob)] });
        let glass = json!({ "reason": "emergency", "reference": "ED-1", "minutes": 5, "subjects": [alice] });
        let doctor = clinic.doctor(&["ward-7"]);
        let broken = clinic.desk.with_purpose("BTG").request(Method::POST, "/api/v1/break-glass");
        for answer in [
            portal.post("/api/v1/messages", &message(alice)).await,
            portal.post("/api/v1/messages/batch", &many).await,
            broken.bearer_auth(doctor).json(&glass).send().await.unwrap(),
        ] {
            assert_eq!(problem(answer).await, (422, "subject_unknown".into()));
        }
        let batch = portal.post("/api/v1/messages/batch/read", &json!({ "ids": [self.letter_id()] })).await;
        assert_eq!(batch.json::<Value>().await.unwrap()["missing"], json!([0]));
        let dashboard = clinic.strongroom.client("dashboard").await.with_purpose("HOPERAT");
        let listed = dashboard.get("/api/v1/patients").await.text().await.unwrap();
        assert!(!listed.contains(alice) && listed.contains(&clinic.bob), "{listed}");
    }

    pub fn letter_id(&self) -> &str {
        self.letter.rsplit('/').next().unwrap()
    }

    /// Rows of the key database about Alice and her records: keys, tombstones.
    pub async fn keys(&self) -> (i64, i64) {
        let keys = self.clinic.strongroom.keys().await;
        let sql = "SELECT (SELECT count(*) FROM subject_key WHERE owner = ANY ($1)), \
                   (SELECT count(*) FROM tombstone WHERE owner = ANY ($1))";
        let owners = vec![self.clinic.alice.as_str(), &self.note];
        let row = keys.query_one(sql, &[&owners]).await.unwrap();
        (row.get(0), row.get(1))
    }
}
