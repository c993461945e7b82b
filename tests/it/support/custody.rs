//! Where tenant keys are looked after: two custodians, and patients whose keys are wrapped by one of them.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::samples::small_patient;
use super::{Client, Databases, NORTH, ServiceOptions, Strongroom, eventually};

pub const ROTATIONS: &str = "/api/v1/keys/rotations";
const MOST_OF_A_BATCH: usize = 500;

/// Two custodians, and applications for everybody else.
pub struct Custody {
    pub strongroom: Strongroom,
    pub alice: Client,
    pub bob: Client,
    pub portal: Client,
    ward: Client,
}

pub fn wish(class: &str) -> Value {
    json!({ "class": class, "reason": "scheduled", "reference": "KEY-2026/11" })
}

impl Custody {
    pub async fn open() -> Self {
        Self::of(Strongroom::start().await).await
    }

    pub async fn of(strongroom: Strongroom) -> Self {
        let custodian = async |name| strongroom.client(name).await.with_purpose("SYSADMIN");
        let (alice, bob) = (custodian("custodian-alice").await, custodian("custodian-bob").await);
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let ward = strongroom.client("clinician-desk").await.with_purpose("TREAT");
        Self { strongroom, alice, bob, portal, ward }
    }

    /// The same databases, with another instance on them.
    pub async fn second(&self) -> Self {
        let held = &self.strongroom.databases;
        let databases = Databases { data: held.data.clone(), keys: held.keys.clone() };
        Self::of(
            Strongroom::start_with(ServiceOptions { databases: Some(databases), ..Default::default() }).await,
        )
        .await
    }

    /// So many new patients; their ids.
    pub async fn patients(&self, number: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(number);
        while ids.len() < number {
            let many = MOST_OF_A_BATCH.min(number - ids.len());
            // With something of either class.
            let mut fields = small_patient();
            fields["sex"] = json!("F");
            let records = vec![json!({ "fields": fields }); many];
            let answer = self.portal.post("/api/v1/patients/batch", &json!({ "records": records })).await;
            assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
            let made: Value = answer.json().await.unwrap();
            let made = made["records"].as_array().unwrap().iter();
            ids.extend(made.map(|record| record["id"].as_str().unwrap().to_owned()));
        }
        ids
    }

    /// All of them open.
    pub async fn all_open(&self, ids: &[String]) {
        for some in ids.chunks(MOST_OF_A_BATCH) {
            let answer = self.ward.post("/api/v1/patients/batch/read", &json!({ "ids": some })).await;
            assert_eq!(answer.status(), 200);
            let read: Value = answer.json().await.unwrap();
            assert_eq!(read["records"].as_array().unwrap().len(), some.len());
            let none = |name: &str| read[name].as_array().is_none_or(Vec::is_empty);
            assert!(none("missing") && none("unreadable"));
        }
    }

    /// Asked for by the first custodian; the rotation's id.
    pub async fn rotate(&self, class: &str) -> String {
        let answer = self.alice.post(ROTATIONS, &wish(class)).await;
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    pub async fn rotation(&self, id: &str) -> Value {
        let answer = self.bob.get(&format!("{ROTATIONS}/{id}")).await;
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// The keys of a class and the rotation that is open, as the first custodian is shown them.
    pub async fn status(&self, class: &str) -> Value {
        let answer = self.alice.get("/api/v1/keys/status").await;
        assert_eq!(answer.status(), 200);
        let status: Value = answer.json().await.unwrap();
        let classes = status["classes"].as_array().unwrap();
        classes.iter().find(|one| one["class"] == class).unwrap().clone()
    }

    /// Waits for a state, for as long as keys are being wrapped again.
    pub async fn is(&self, id: &str, state: &str) {
        let mut found = self.rotation(id).await;
        while found["state"] != state {
            let before = found["rewrapped"].clone();
            eventually(state, async || {
                found = self.rotation(id).await;
                found["state"] == state || found["rewrapped"] != before
            })
            .await;
        }
    }

    pub async fn approve(&self, client: &Client, id: &str) -> Response {
        client.request(Method::POST, &format!("{ROTATIONS}/{id}/approvals")).send().await.unwrap()
    }

    /// As if nothing had needed the old key for so many days.
    pub async fn pass(&self, days: i32) {
        let sql = format!(
            "ALTER TABLE key_rotation DISABLE TRIGGER key_rotation_goes_on; \
             UPDATE key_rotation SET rewrapped_at = rewrapped_at - interval '{days} days', \
                                     advanced_at = advanced_at - interval '{days} days'; \
             ALTER TABLE key_rotation ENABLE ALWAYS TRIGGER key_rotation_goes_on"
        );
        self.strongroom.data().await.batch_execute(&sql).await.unwrap();
    }

    /// From what was asked for to the end.
    pub async fn complete(&self, id: &str) {
        self.is(id, "rewrapped").await;
        self.pass(14).await;
        assert_eq!(self.approve(&self.bob, id).await.status(), 204);
        self.is(id, "destroyed").await;
    }

    /// Which tenant keys of a class there are, and how many keys each of them wraps.
    pub async fn stored(&self, class: &str) -> Vec<(i64, String, i64)> {
        let sql = "SELECT k.key_id, k.state, (SELECT count(*) FROM subject_key s WHERE s.tenant_id = k.tenant_id \
                   AND s.class = k.class AND s.tenant_key_id = k.key_id) FROM tenant_key k \
                   WHERE k.tenant_id = $1 AND k.class = $2 AND k.purpose = 'seal' ORDER BY k.key_id";
        let tenant = self.strongroom.tenant(NORTH);
        let rows = self.strongroom.keys().await.query(sql, &[&tenant, &class]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}
