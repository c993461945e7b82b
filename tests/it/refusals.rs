//! Every operation of the interface × everybody who must be refused. Driven from the list that the router is made from,
//! so a new operation does not compile here until somebody says who is refused what.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use strongroom::http::Operation;

use crate::support::samples::{document, message, small_patient};
use crate::support::{Client, Strongroom, eventually, on_shared_runtime, problem, request_id, site};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Caller {
    NoCertificate,
    Revoked,
    Expired,
    Unlisted,
    WithoutPermission,
    WrongPurpose,
    OtherTenant,
}

const CALLERS: [Caller; 7] = [
    Caller::NoCertificate,
    Caller::Revoked,
    Caller::Expired,
    Caller::Unlisted,
    Caller::WithoutPermission,
    Caller::WrongPurpose,
    Caller::OtherTenant,
];

/// Where a caller of this kind is not refused. May only shrink: health says nothing about anybody; the log that an
/// auditor reads is the log of their own tenant (`audit_events.rs` shows it); and a batch tells of each record on its own,
/// another tenant's as missing (`records_batch.rs` shows it).
const NOT_REFUSED: [(Operation, Caller); 8] = [
    (Operation::ReadMany, Caller::OtherTenant),
    (Operation::Live, Caller::WithoutPermission),
    (Operation::Live, Caller::WrongPurpose),
    (Operation::Live, Caller::OtherTenant),
    (Operation::Ready, Caller::WithoutPermission),
    (Operation::Ready, Caller::WrongPurpose),
    (Operation::Ready, Caller::OtherTenant),
    (Operation::ReadEvents, Caller::OtherTenant),
];

/// The service, a message in it, and everybody who is refused.
struct Scene {
    strongroom: Strongroom,
    patient: String,
    letter: String,
    /// A document's record, and an upload to it under way.
    document: String,
    upload: String,
    stranger: Client,
    revoked: Client,
    expired: Client,
    unlisted: Client,
    operator: Client,
    auditor: Client,
    portal: Client,
    dashboard: Client,
    south: Client,
}

#[tokio::test]
async fn every_operation_refuses_everybody_it_must_and_says_so_in_the_log() {
    let scene = Scene::set().await;
    for operation in Operation::ALL {
        for caller in CALLERS {
            let exempt = NOT_REFUSED.contains(&(*operation, caller));
            match Scene::expected(*operation, caller) {
                Some(expected) => {
                    assert!(!exempt, "{operation:?} refuses {caller:?}: take it off the list");
                    scene.check(*operation, caller, expected).await;
                }
                None => assert!(exempt, "{operation:?} must refuse {caller:?}"),
            }
        }
    }
    // Nobody has changed anything.
    let portal = scene.portal.with_purpose("TREAT");
    let (record, etag) = portal.read(&format!("/api/v1/messages/{}", scene.letter)).await;
    assert_eq!((etag.as_str(), &record["fields"]), ("\"1\"", &message(&scene.patient)["fields"]));
    let rows = scene.strongroom.data().await.query_one("SELECT count(*) FROM record", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 3);
    let parts = scene.strongroom.data().await.query_one("SELECT count(*) FROM file_part", &[]).await.unwrap();
    assert_eq!(parts.get::<_, i64>(0), 1, "the label of the upload that the portal began");
}

impl Scene {
    async fn set() -> Self {
        let strongroom = Strongroom::start().await;
        let portal = strongroom.client("portal").await;
        let patient = portal.with_purpose("TREAT").create_patient(small_patient()).await;
        let letter = portal.with_purpose("TREAT").create("messages", &message(&patient)).await;
        let document = portal.with_purpose("TREAT").create("documents", &document(&patient)).await;
        let document = document["id"].as_str().unwrap().to_owned();
        let started = portal
            .with_purpose("TREAT")
            .request(Method::POST, &format!("/api/v1/documents/{document}/files/content"))
            .header("upload-length", "9")
            .send()
            .await
            .unwrap();
        assert_eq!(started.status(), 201);
        let unlisted = "spiffe://strongroom.internal/client/clinic-north/unlisted";
        Self {
            letter: letter["id"].as_str().unwrap().to_owned(),
            patient,
            document,
            upload: started.headers()["location"].to_str().unwrap().to_owned(),
            stranger: strongroom.stranger().await,
            revoked: revoked(&strongroom).await,
            expired: expired(&strongroom).await,
            unlisted: strongroom.client_with("client", unlisted).await.0,
            operator: strongroom.client("operator").await,
            auditor: strongroom.client("audit").await,
            dashboard: strongroom.client("dashboard").await,
            south: strongroom.client_of("clinic-south", "portal").await,
            portal,
            strongroom,
        }
    }

    /// Status and code of the refusal; `None` where there is none.
    fn expected(operation: Operation, caller: Caller) -> Option<(u16, &'static str)> {
        use Operation::{
            AppendUpload, CancelUpload, Create, CreateMany, Delete, History, List, Live, Metrics, Read,
            ReadEvents, ReadFile, ReadMany, Ready, StartUpload, Update, UploadState,
        };
        match (caller, operation) {
            // Not even a status: the handshake fails.
            (Caller::NoCertificate, _) => Some((0, "no_certificate")),
            (Caller::Revoked, _) => Some((0, "revoked")),
            (Caller::Expired, _) => Some((0, "not_in_date")),
            (Caller::Unlisted, _) => Some((403, "identity_unlisted")),
            (_, Live | Ready) | (Caller::OtherTenant, ReadEvents | ReadMany) => None,
            // The role that there is in the other tenant lists nothing; `records_list.rs` shows one that does.
            (Caller::WithoutPermission, _) | (Caller::OtherTenant, List | Metrics) => {
                Some((403, "action_not_allowed"))
            }
            (Caller::WrongPurpose, _) => Some((403, "purpose_not_allowed")),
            // The record would be about somebody of another tenant.
            (Caller::OtherTenant, Create | CreateMany) => Some((422, "subject_unknown")),
            (Caller::OtherTenant, Read | Update | Delete | History | ReadFile | StartUpload) => {
                Some((404, "record_not_found"))
            }
            (Caller::OtherTenant, UploadState | AppendUpload | CancelUpload) => {
                Some((404, "upload_not_found"))
            }
        }
    }

    fn client(&self, operation: Operation, caller: Caller) -> (Client, &'static str) {
        let is_events = operation == Operation::ReadEvents;
        match caller {
            Caller::NoCertificate => (self.stranger.with_purpose("TREAT"), ""),
            Caller::Revoked => (self.revoked.with_purpose("TREAT"), ""),
            Caller::Expired => (self.expired.with_purpose("TREAT"), ""),
            Caller::Unlisted => (self.unlisted.with_purpose("TREAT"), ""),
            Caller::WithoutPermission if operation == Operation::Metrics => {
                (self.portal.with_purpose("TREAT"), "portal")
            }
            Caller::WithoutPermission => (self.operator.with_purpose("TREAT"), "operator"),
            Caller::WrongPurpose if operation == Operation::Metrics => {
                (self.operator.with_purpose("HMARKT"), "operator")
            }
            Caller::WrongPurpose if is_events => (self.auditor.with_purpose("HMARKT"), "audit"),
            Caller::WrongPurpose if operation == Operation::List => {
                (self.dashboard.with_purpose("TREAT"), "dashboard")
            }
            Caller::WrongPurpose => (self.portal.with_purpose("HPAYMT"), "portal"),
            Caller::OtherTenant => (self.south.with_purpose("PATRQT"), "portal"),
        }
    }

    async fn send(&self, operation: Operation, client: &Client) -> Option<Response> {
        let record = format!("/api/v1/messages/{}", self.letter);
        let (path, body) = match operation {
            Operation::ReadEvents | Operation::Live | Operation::Ready | Operation::Metrics => {
                (operation.route().to_owned(), None)
            }
            Operation::List => ("/api/v1/messages".to_owned(), None),
            Operation::ReadFile | Operation::StartUpload => {
                (format!("/api/v1/documents/{}/files/content", self.document), None)
            }
            Operation::UploadState | Operation::AppendUpload | Operation::CancelUpload => {
                (self.upload.clone(), None)
            }
            Operation::History => (format!("{record}/history"), None),
            Operation::CreateMany => {
                let records = json!({ "records": [message(&self.patient)] });
                ("/api/v1/messages/batch".to_owned(), Some(records))
            }
            Operation::ReadMany => {
                ("/api/v1/messages/batch/read".to_owned(), Some(json!({ "ids": [self.letter] })))
            }
            Operation::Create => ("/api/v1/messages".to_owned(), Some(message(&self.patient))),
            Operation::Read | Operation::Delete => (record, None),
            Operation::Update => (record, Some(json!({ "fields": { "read": true } }))),
        };
        let request = client.request(operation.method(), &path).header("if-match", "\"1\"");
        let request = match operation {
            Operation::StartUpload => request.header("upload-length", "9"),
            Operation::AppendUpload => request
                .header("upload-offset", "0")
                .header("content-type", "application/offset+octet-stream")
                .body("not a scan"),
            _ => request,
        };
        match body {
            Some(body) => request.json(&body).send().await.ok(),
            None => request.send().await.ok(),
        }
    }

    async fn check(&self, operation: Operation, caller: Caller, (status, code): (u16, &'static str)) {
        let (client, name) = self.client(operation, caller);
        let strangers = self.strongroom.entries_of("authentication.failed").await.len();
        let answer = self.send(operation, &client).await;
        let what = format!("{operation:?} {caller:?}");
        if !matches!(caller, Caller::WithoutPermission | Caller::WrongPurpose | Caller::OtherTenant) {
            match answer {
                Some(answer) => says(answer, operation, (status, code)).await,
                None => assert_eq!(status, 0, "{what}"),
            }
            self.check_stranger(caller, code, strangers).await;
            return;
        }
        let answer = answer.unwrap();
        let request = request_id(&answer);
        says(answer, operation, (status, code)).await;
        let entry = self.strongroom.entry_of(&request).await;
        let word = if status == 403 { "refused" } else { "failed" };
        assert_eq!(entry["out"], json!({ "status": word, "code": code }), "{what}");
        assert_eq!(entry["who"]["uid"], name, "{what}");
        assert_eq!(entry["act"], act(operation), "{what}");
        assert_eq!(entry["req"]["route"], operation.route(), "{what}");
        let record = match operation {
            Operation::ReadEvents | Operation::Metrics => Value::Null,
            Operation::Create | Operation::CreateMany | Operation::ReadMany | Operation::List => {
                json!([{ "collection": "messages" }])
            }
            Operation::ReadFile
            | Operation::StartUpload
            | Operation::UploadState
            | Operation::AppendUpload
            | Operation::CancelUpload => json!([{ "collection": "documents", "record": self.document }]),
            _ => json!([{ "collection": "messages", "record": self.letter }]),
        };
        assert_eq!(entry.get("obj").cloned().unwrap_or_default(), record, "{what}");
    }

    /// Of somebody who did not get past the door only the address is known, and the certificate's digest.
    async fn check_stranger(&self, caller: Caller, code: &str, before: usize) {
        let refused = json!({ "status": "refused", "code": code });
        let mut entry = Value::Null;
        eventually("the stranger is on record", async || {
            let entries = self.strongroom.entries_of("authentication.failed").await;
            let found = entries[before..].iter().find(|entry| entry["out"] == refused);
            found.inspect(|found| entry = (*found).clone()).is_some()
        })
        .await;
        assert_eq!(entry["who"], json!({ "kind": "unknown" }));
        assert_eq!(entry["src"]["ip"], "127.0.0.1");
        assert_eq!(entry["client"].get("san"), None);
        assert_eq!(entry["client"]["cert_sha256"].is_string(), caller == Caller::Unlisted);
        for absent in ["tenant", "req", "obj", "subj", "purpose"] {
            assert_eq!(entry.get(absent), None, "{absent}");
        }
    }
}

const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";

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

/// The refusal; the answer to a HEAD has no body to say why.
async fn says(answer: Response, operation: Operation, (status, code): (u16, &str)) {
    if operation.method() == Method::HEAD {
        assert_eq!(answer.status(), status, "{operation:?}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{operation:?}");
        assert_eq!(answer.bytes().await.unwrap().len(), 0, "{operation:?}");
    } else {
        assert_eq!(problem(answer).await, (status, code.to_owned()), "{operation:?}");
    }
}

fn act(operation: Operation) -> &'static str {
    match operation {
        Operation::ReadEvents => "audit.read",
        Operation::Create | Operation::CreateMany => "record.create",
        Operation::Read | Operation::ReadMany | Operation::ReadFile => "record.read",
        Operation::List => "record.list",
        Operation::History => "record.history",
        Operation::Update
        | Operation::StartUpload
        | Operation::UploadState
        | Operation::AppendUpload
        | Operation::CancelUpload => "record.update",
        Operation::Delete => "record.delete",
        Operation::Live | Operation::Ready | Operation::Metrics => "access.denied",
    }
}
