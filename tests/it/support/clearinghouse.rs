//! Billing, a patient with a visit, and a clearinghouse that does as it is told: the shipped destination, at another address.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::Response;
use serde_json::{Value, json};

use super::destination::{Destination, Does};
use super::samples::{encounter, patient};
use super::{Client, ServiceOptions, Strongroom, parts, replace_file, site};

pub const PATH: &str = "/api/v1/relay/claims-clearinghouse";
/// What the service is known by there.
pub const TOKEN: &str = "sk-5d1f0b7e-clearinghouse";

pub struct Clearinghouse {
    pub strongroom: Strongroom,
    pub destination: Destination,
    pub billing: Client,
    pub portal: Client,
    pub patient: String,
    pub visit: String,
}

impl Clearinghouse {
    pub async fn open() -> Self {
        Self::open_with(ServiceOptions::default(), |_| {}).await
    }

    /// With the policy changed, and other options.
    pub async fn open_with(options: ServiceOptions, change: impl FnOnce(&Path) + Send + 'static) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let destination = Destination::start(answers("200 OK", &json!({ "status": "active" }))).await;
        let folder =
            site().await.directory.join(format!("clearinghouse-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&folder).unwrap();
        let roots = destination.roots_file(&folder).display().to_string();
        write_secret("claims-clearinghouse", &json!({ "token": TOKEN })).await;
        let url = destination.url("/v1/eligibility");
        let before = options.policy;
        let policy = move |folder: &Path| {
            if let Some(before) = before {
                before(folder);
            }
            edit(folder, "relay.toml", "https://clearinghouse.example/v1/eligibility", &url);
            change(folder);
        };
        let mut settings = options.settings;
        settings.push(("STRONGROOM__RELAY__CA_FILE".to_owned(), roots));
        let options = ServiceOptions { settings, policy: Some(Box::new(policy)), ..options };
        let strongroom = Strongroom::start_with(options).await;
        let billing = strongroom.client("billing").await.with_purpose("HPAYMT");
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let import = strongroom.client("records-import").await.with_purpose("TREAT");
        let patient = portal.create_patient(patient()).await;
        let visit = import.create("encounters", &encounter(&patient)).await;
        let visit = visit["id"].as_str().unwrap().to_owned();
        Self { strongroom, destination, billing, portal, patient, visit }
    }

    /// Asks whether the patient is insured.
    pub fn asks(&self) -> Value {
        json!({ "payer": "EX-1", "subscriber": { "ssn": named(&self.patient) } })
    }

    pub async fn relay(&self, body: &Value) -> Response {
        self.billing.post(PATH, body).await
    }

    /// Of the relays, those that are on record.
    pub async fn entries(&self) -> Vec<Value> {
        self.strongroom.entries_of("record.relay").await
    }
}

/// A placeholder.
pub fn named(record: &str) -> String {
    format!("{{{{{record}}}}}")
}

pub fn answers(status: &'static str, body: &Value) -> Does {
    Does::Answers(status, body.to_string())
}

pub fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    replace_file(&path, &text.replacen(from, to, 1));
}

/// As an administrator of Vault would.
pub async fn write_secret(path: &str, secret: &Value) {
    let url = format!("{}/v1/strongroom-relay/data/{path}", parts().text("/vault/address"));
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url);
    let token = parts().secret("/vault/token_file");
    let request = request.header("x-vault-token", token.trim()).json(&json!({ "data": secret }));
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
}
