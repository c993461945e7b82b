//! The service, a record in every collection, and everybody who is refused.

use std::collections::BTreeMap;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use strongroom::domain::value::FieldType;
use strongroom::http::Operation;
use strongroom::tls::Identities;

use super::rights::{DESTINATION, FILE, Right, Rights, change, condition, sample};
use super::{Caller, Place};
use crate::support::samples::NOBODY;
use crate::support::{
    Client, NORTH, ServiceOptions, Strongroom, eventually, on_shared_runtime, replace_file, site,
};

const SOUTH: &str = "clinic-south";
const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";

pub struct Scene {
    pub strongroom: Strongroom,
    pub portal: Client,
    rights: Rights,
    /// Collection → its record.
    records: BTreeMap<String, String>,
    /// An upload to the document under way.
    upload: String,
    /// An entry about one of them.
    entry: String,
    /// A hold on their person.
    hold: String,
    stranger: Client,
    revoked: Client,
    expired: Client,
    unlisted: Client,
    /// By name; a tenant has a client of each name.
    north: BTreeMap<String, Client>,
    south: BTreeMap<String, Client>,
}

/// A collection as far as operations differ by it.
pub struct Held {
    pub name: String,
    pub files: bool,
    pub indexes: bool,
}

impl Scene {
    pub async fn set() -> Self {
        // Roots, so that what is to be sent on is looked at; nothing is sent.
        let roots = site().await.roots_file().display().to_string();
        let settings = vec![("STRONGROOM__RELAY__CA_FILE".to_owned(), roots)];
        let options = ServiceOptions { settings, ..Default::default() };
        let strongroom = Strongroom::start_with(options).await;
        let (north, south) = clients(&strongroom).await;
        let rights = Rights::shipped();
        let unlisted = "spiffe://strongroom.internal/client/clinic-north/unlisted";
        let mut scene = Self {
            portal: north["portal"].clone(),
            rights,
            records: BTreeMap::new(),
            upload: String::new(),
            entry: String::new(),
            hold: String::new(),
            stranger: strongroom.stranger().await,
            revoked: revoked(&strongroom).await,
            expired: expired(&strongroom).await,
            unlisted: strongroom.client_with("client", unlisted).await.0,
            north,
            south,
            strongroom,
        };
        scene.fill().await;
        scene
    }

    async fn fill(&mut self) {
        let mut names: Vec<String> =
            self.rights.collections().map(|collection| collection.name().as_str().to_owned()).collect();
        // The others refer to a person.
        names.sort_by_key(|name| name != "patients");
        for name in names {
            let subject = self.records.get("patients").cloned().unwrap_or_default();
            let place = place(Operation::Create, &name);
            let client = self.permitted(&self.right(&place).unwrap());
            let created = client.create(&name, &sample(&name, &subject)).await;
            self.records.insert(name, created["id"].as_str().unwrap().to_owned());
        }
        let place = place(Operation::StartUpload, "documents");
        let client = self.permitted(&self.right(&place).unwrap());
        self.upload = client.start_upload(&self.path(&place), 9).await;
        let path = format!("/api/v1/subjects/{}/hold", self.records["patients"]);
        let body = json!({ "reason": "litigation", "reference": "CV-1" });
        let privacy = self.north["privacy-desk"].with_purpose("HCOMPL");
        let placed = privacy.request(Method::POST, &path).json(&body).send().await.unwrap();
        self.hold = placed.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
        let created = self.strongroom.entries_of("record.create").await;
        self.entry = created[0]["id"].as_str().unwrap().to_owned();
    }

    pub fn right(&self, place: &Place) -> Option<Right> {
        self.rights.find(place)
    }

    /// The collections, and what they have.
    pub fn collections(&self) -> Vec<Held> {
        let each = self.rights.collections().map(|collection| Held {
            name: collection.name().as_str().to_owned(),
            files: collection.fields().iter().any(|field| field.field_type == FieldType::Document),
            indexes: collection.indexed().next().is_some(),
        });
        each.collect()
    }

    pub fn record(&self, collection: &str) -> &str {
        &self.records[collection]
    }

    /// Everything by which something of clinic-north is known.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.records.values().map(String::as_str).chain([self.upload.rsplit('/').next().unwrap()])
    }

    pub fn permitted(&self, right: &Right) -> Client {
        stating(&self.north[&right.client], right.purpose)
    }

    /// Who asks, and the name by which the log must know them.
    pub fn client(&self, place: &Place, caller: Caller) -> (Client, String) {
        let treat = |client: &Client| (client.with_purpose("TREAT"), String::new());
        let named = |name: &str| (self.north[name].with_purpose("TREAT"), name.to_owned());
        let right = self.right(place);
        match (caller, right) {
            (Caller::NoCertificate, _) => treat(&self.stranger),
            (Caller::Revoked, _) => treat(&self.revoked),
            (Caller::Expired, _) => treat(&self.expired),
            (Caller::Unlisted, _) => treat(&self.unlisted),
            (Caller::WithoutPermission, _) if place.operation() == Operation::Metrics => named("portal"),
            (Caller::WithoutPermission, _) => named("operator"),
            (Caller::WrongPurpose, Some(right)) => {
                (self.north[&right.client].with_purpose(right.wrong_purpose), right.client)
            }
            (Caller::WrongPurpose, None) => named("portal"),
            (Caller::OtherTenant, Some(right)) if place.operation() != Operation::Metrics => {
                (stating(&self.south[&right.client], right.purpose), right.client)
            }
            (Caller::OtherTenant, _) => (self.south["portal"].with_purpose("TREAT"), "portal".to_owned()),
        }
    }

    fn path(&self, place: &Place) -> String {
        if place.path.contains("{upload}") {
            return self.upload.clone();
        }
        // A subject has the id of their own record.
        let name = place.collection.as_deref().unwrap_or("patients");
        let record = self.records.get(name);
        place
            .path
            .replace("{id}", record.map_or("", String::as_str))
            .replace("{field}", FILE)
            .replace("{entry}", &self.entry)
            .replace("{hold}", &self.hold)
            .replace("{destination}", DESTINATION)
            .replace("{erasure}", NOBODY)
            .replace("{rotation}", NOBODY)
    }

    pub async fn send(&self, place: &Place, client: &Client) -> Option<Response> {
        let request =
            client.request(place.operation().method(), &self.path(place)).header("if-match", "\"1\"");
        let request = match place.operation() {
            Operation::StartUpload => request.header("upload-length", "9"),
            Operation::AppendUpload => request
                .header("upload-offset", "0")
                .header("content-type", "application/offset+octet-stream")
                .body("not a scan"),
            _ => request,
        };
        match self.body(place) {
            Some(body) => request.json(&body).send().await.ok(),
            None => request.send().await.ok(),
        }
    }

    fn body(&self, place: &Place) -> Option<Value> {
        match place.operation() {
            Operation::UpdateCareTeam => return Some(json!({ "teams": ["ward-3"] })),
            Operation::OpenBreakGlass => {
                let subjects = [self.record("patients")];
                let about =
                    json!({ "reason": "emergency", "reference": "ED-1", "minutes": 1, "subjects": subjects });
                return Some(about);
            }
            Operation::Relay => {
                let placeholder = format!("{{{{{}}}}}", self.record("patients"));
                return Some(json!({ "subscriber": { "family_name": placeholder } }));
            }
            Operation::ReviewBreakGlass => return Some(json!({ "verdict": "justified" })),
            Operation::PlaceHold => return Some(json!({ "reason": "litigation", "reference": "CV-1" })),
            Operation::RequestErasure => {
                return Some(json!({ "reason": "person_request", "reference": "GDPR-1" }));
            }
            // No collection has anything of that class.
            Operation::RequestRotation => {
                return Some(json!({ "class": "chd", "reason": "scheduled", "reference": "KEY-1" }));
            }
            _ => {}
        }
        let name = place.collection.as_deref()?;
        let sample = || sample(name, self.record("patients"));
        match place.operation() {
            Operation::Create => Some(sample()),
            Operation::CreateMany => Some(json!({ "records": [sample()] })),
            Operation::ReadMany => Some(json!({ "ids": [self.record(name)] })),
            Operation::Search => {
                let collection = self.rights.collections().find(|other| other.name().as_str() == name);
                Some(json!({ "where": [condition(collection.unwrap())] }))
            }
            Operation::Update => {
                let collection = self.rights.collections().find(|other| other.name().as_str() == name);
                let (field, value) = change(collection.unwrap());
                Some(json!({ "fields": { field: value } }))
            }
            _ => None,
        }
    }

    /// Every record of the tenant is the one that was made, and the upload stands where it stood.
    pub async fn check_untouched(&self) {
        let north = self.strongroom.tenant(NORTH);
        let data = self.strongroom.data().await;
        let sql = "SELECT count(*), max(version) FROM record WHERE tenant_id = $1";
        let row = data.query_one(sql, &[&north]).await.unwrap();
        let found: (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(found, (i64::try_from(self.records.len()).unwrap(), 1));
        let sql = "SELECT count(*) FROM subject WHERE care_teams IS NOT NULL";
        assert_eq!(data.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
        let glass = data.query_one("SELECT count(*) FROM break_glass", &[]).await.unwrap();
        assert_eq!(glass.get::<_, i64>(0), 0);
        let holds =
            data.query_one("SELECT count(*), count(released_at) FROM subject_hold", &[]).await.unwrap();
        assert_eq!((holds.get::<_, i64>(0), holds.get::<_, i64>(1)), (1, 0), "the hold that was placed");
        let erasures = data.query_one("SELECT count(*) FROM erasure", &[]).await.unwrap();
        assert_eq!(erasures.get::<_, i64>(0), 0);
        let rotations = data.query_one("SELECT count(*) FROM key_rotation", &[]).await.unwrap();
        assert_eq!(rotations.get::<_, i64>(0), 0);
        let parts = data.query_one("SELECT count(*) FROM file_part", &[]).await.unwrap();
        assert_eq!(parts.get::<_, i64>(0), 1, "the label of the upload that was begun");
    }
}

/// The place of an operation in a collection.
fn place(operation: Operation, collection: &str) -> Place {
    Place {
        method: operation.method().as_str().to_owned(),
        path: operation.route().replace("{collection}", collection),
        route: operation.route().to_owned(),
        collection: Some(collection.to_owned()),
    }
}

fn stating(client: &Client, purpose: Option<&str>) -> Client {
    purpose.map_or_else(|| client.clone(), |purpose| client.with_purpose(purpose))
}

/// Every client of clinic-north, and one of the same name and roles in clinic-south, listed for this test.
async fn clients(strongroom: &Strongroom) -> (BTreeMap<String, Client>, BTreeMap<String, Client>) {
    let file = strongroom.policy_directory.join("identities.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (listed, twins) = (format!("tenant = \"{NORTH}\""), format!("/{NORTH}/"));
    let mut twinned = text.clone();
    for block in text.split("[[client]]").skip(1).filter(|block| block.contains(&listed)) {
        if !block.contains("name = \"portal\"") {
            twinned.extend(["\n[[client]]", &block.replace(NORTH, SOUTH)]);
        }
    }
    assert!(text.contains(&twins));
    replace_file(&file, &twinned);
    let identities = Identities::parse(&twinned).unwrap();
    let mut found = (BTreeMap::new(), BTreeMap::new());
    for (san, identity) in identities.iter() {
        let role = match identity.kind.as_str() {
            "app" => "client",
            "auditor" => "auditor",
            "custodian" => "custodian",
            _ => "operator",
        };
        let client = strongroom.client_with(role, san).await.0;
        let is_north = san.contains(&twins);
        let side = if is_north { &mut found.0 } else { &mut found.1 };
        side.insert(identity.client.to_string(), client);
    }
    assert_eq!(found.0.len(), found.1.len());
    let last: &Client = &found.1["operator"];
    eventually("the twins are listed", async || last.get("/livez").await.status() == 200).await;
    found
}

/// The portal, with a certificate that the service knows to be revoked.
async fn revoked(strongroom: &Strongroom) -> Client {
    let (client, files) = strongroom.client_with("client", PORTAL).await;
    let serial = files.serial.clone();
    on_shared_runtime(async move { site().await.revoke(&serial).await.unwrap() }).await;
    until_shut_out(strongroom, &client, "revoked").await;
    client
}

/// The portal, with a certificate whose time is over.
async fn expired(strongroom: &Strongroom) -> Client {
    let (client, _) = strongroom.client_for("client", PORTAL, 1).await;
    until_shut_out(strongroom, &client, "not_in_date").await;
    client
}

/// Until a handshake was refused, and that is on record.
async fn until_shut_out(strongroom: &Strongroom, client: &Client, code: &str) {
    eventually("it is shut out", async || {
        client.try_get("/livez").await;
        let entries = strongroom.entries_of("authentication.failed").await;
        entries.iter().any(|entry| entry["out"]["code"] == code)
    })
    .await;
}
