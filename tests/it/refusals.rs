//! Every operation of the interface, in every collection × everybody who must be refused. Walks the OpenAPI document that
//! the service serves, which must be the router's list and the policy's collections and nothing else; a new operation does
//! not compile here until somebody says who is refused what.

mod rights;
mod scene;

use std::collections::BTreeSet;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use strongroom::http::Operation;

use crate::support::samples::message;
use crate::support::{eventually, problem, request_id};
use scene::{Held, Scene};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Caller {
    NoCertificate,
    Revoked,
    Expired,
    Unlisted,
    WithoutPermission,
    WrongPurpose,
    /// In the same role, for the same purpose, where there is one that may.
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

/// Where a caller of this kind is answered whoever it is. May only shrink: health and the interface's own document say nothing
/// about anybody.
const NOT_REFUSED: [(Operation, Caller); 9] = [
    (Operation::Live, Caller::WithoutPermission),
    (Operation::Live, Caller::WrongPurpose),
    (Operation::Live, Caller::OtherTenant),
    (Operation::Ready, Caller::WithoutPermission),
    (Operation::Ready, Caller::WrongPurpose),
    (Operation::Ready, Caller::OtherTenant),
    (Operation::OpenApi, Caller::WithoutPermission),
    (Operation::OpenApi, Caller::WrongPurpose),
    (Operation::OpenApi, Caller::OtherTenant),
];

/// What a caller hears.
enum Heard {
    /// Status and code.
    Refusal(u16, &'static str),
    /// What it may have by a right of its own, as nobody names a tenant in a request: its own tenant's, and of the log that holds
    /// all tenants' entries the digest.
    OwnTenant,
    /// The same as everybody.
    Answer,
}

/// An operation as the document has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    method: String,
    path: String,
    route: String,
    collection: Option<String>,
}

impl Place {
    fn operation(&self) -> Operation {
        let is_it = |operation: &&Operation| {
            operation.method().as_str() == self.method && operation.route() == self.route
        };
        *Operation::ALL.iter().find(is_it).unwrap_or_else(|| panic!("the router has no {self:?}"))
    }

    fn is_exempt(&self, caller: Caller) -> bool {
        NOT_REFUSED.contains(&(self.operation(), caller))
    }
}

#[tokio::test]
async fn every_operation_refuses_everybody_it_must_and_says_so_in_the_log() {
    let scene = Scene::set().await;
    let served: Value = scene.portal.get(Operation::OpenApi.route()).await.json().await.unwrap();
    let places = walk(&served);
    check_agreement(&places, &scene.collections());
    for place in &places {
        for caller in CALLERS {
            let exempt = place.is_exempt(caller);
            let heard = scene.expected(place, caller);
            assert_eq!(exempt, matches!(heard, Heard::Answer), "{place:?} {caller:?}: as the list says");
            match heard {
                Heard::Refusal(status, code) => scene.check(place, caller, (status, code)).await,
                Heard::OwnTenant => scene.check_own_tenant(place, caller).await,
                Heard::Answer => scene.check_answered(place, caller).await,
            }
        }
    }
    // Nobody has changed anything.
    let portal = scene.portal.with_purpose("TREAT");
    let (record, etag) = portal.read(&format!("/api/v1/messages/{}", scene.record("messages"))).await;
    assert_eq!((etag.as_str(), &record["fields"]), ("\"1\"", &message(scene.record("patients"))["fields"]));
    scene.check_untouched().await;
}

/// The operations of a document, each with the router's template.
fn walk(document: &Value) -> Vec<Place> {
    let collections: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut places = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let name = path.strip_prefix("/api/v1/").and_then(|rest| rest.split('/').next());
        let collection = name.filter(|name| collections.contains(name)).map(str::to_owned);
        let route = match &collection {
            Some(name) => path.replacen(name.as_str(), "{collection}", 1),
            None => path.clone(),
        };
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let (method, path, route) = (method.to_ascii_uppercase(), path.clone(), route.clone());
            places.push(Place { method, path, route, collection: collection.clone() });
        }
    }
    places
}

/// The document has every operation of the router in every collection, and no other. Files are where a field is for them, and
/// searches where one has an index.
fn check_agreement(places: &[Place], collections: &[Held]) {
    let mut expected = BTreeSet::new();
    for operation in Operation::ALL {
        let (method, route) = (operation.method().as_str().to_owned(), operation.route().to_owned());
        if !route.contains("{collection}") {
            expected.insert(Place { method, path: route.clone(), route, collection: None });
            continue;
        }
        let has = |held: &&Held| match operation {
            Operation::Search => held.indexes,
            _ => held.files || !route.contains("/files/"),
        };
        for Held { name, .. } in collections.iter().filter(has) {
            let path = route.replace("{collection}", name);
            let collection = Some(name.clone());
            expected.insert(Place { method: method.clone(), path, route: route.clone(), collection });
        }
    }
    assert_eq!(places.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(places.len(), expected.len());
}

impl Scene {
    /// Whether policy gives it to anybody at all.
    fn is_for_somebody(&self, place: &Place) -> bool {
        place.collection.is_none() || self.right(place).is_some()
    }

    fn expected(&self, place: &Place, caller: Caller) -> Heard {
        use Operation::{
            AppendUpload, ApproveErasure, ApproveRotation, CancelUpload, Create, CreateMany, Delete,
            ExportSubject, History, KeyStatus, List, ListBreakGlass, ListRotations, Live, Metrics, OpenApi,
            OpenBreakGlass, PlaceHold, Read, ReadCareTeam, ReadCheckpoint, ReadErasures, ReadEvents,
            ReadFile, ReadHolds, ReadMany, ReadProof, ReadRotation, Ready, Relay, ReleaseHold,
            RequestErasure, RequestRotation, ReviewBreakGlass, Search, StartUpload, Update, UpdateCareTeam,
            UploadState,
        };
        match (caller, place.operation()) {
            // Not even a status: the handshake fails.
            (Caller::NoCertificate, _) => Heard::Refusal(0, "no_certificate"),
            (Caller::Revoked, _) => Heard::Refusal(0, "revoked"),
            (Caller::Expired, _) => Heard::Refusal(0, "not_in_date"),
            (Caller::Unlisted, _) => Heard::Refusal(403, "identity_unlisted"),
            (_, Live | Ready | OpenApi) => Heard::Answer,
            // Metrics are an operator's, of whatever tenant: they are of all tenants together.
            (Caller::WithoutPermission, _) | (Caller::OtherTenant, Metrics) => {
                Heard::Refusal(403, "action_not_allowed")
            }
            // The clients of the walk act for nobody.
            (
                Caller::WrongPurpose | Caller::OtherTenant,
                OpenBreakGlass | RequestErasure | ApproveErasure,
            ) => Heard::Refusal(403, "action_not_allowed"),
            // What policy gives to nobody.
            (Caller::WrongPurpose | Caller::OtherTenant, _) if !self.is_for_somebody(place) => {
                Heard::Refusal(403, "action_not_allowed")
            }
            (Caller::WrongPurpose, _) => Heard::Refusal(403, "purpose_not_allowed"),
            (
                Caller::OtherTenant,
                ReadEvents | ReadCheckpoint | ReadMany | Search | List | ListBreakGlass | KeyStatus
                | ListRotations,
            ) => Heard::OwnTenant,
            (Caller::OtherTenant, RequestRotation) => Heard::Refusal(409, "nothing_to_rotate"),
            (Caller::OtherTenant, ReadProof) => Heard::Refusal(404, "entry_not_found"),
            // A record would be about somebody of another tenant.
            (Caller::OtherTenant, Create | CreateMany) if place.collection.as_deref() == Some("patients") => {
                Heard::OwnTenant
            }
            (Caller::OtherTenant, Create | CreateMany) => Heard::Refusal(422, "subject_unknown"),
            (
                Caller::OtherTenant,
                Read | Update | Delete | History | ReadFile | StartUpload | ReadCareTeam | UpdateCareTeam
                | ReviewBreakGlass | ReadHolds | PlaceHold | ReleaseHold | ExportSubject | ReadErasures
                | ReadRotation | ApproveRotation | Relay,
            ) => Heard::Refusal(404, "record_not_found"),
            (Caller::OtherTenant, UploadState | AppendUpload | CancelUpload) => {
                Heard::Refusal(404, "upload_not_found")
            }
        }
    }

    async fn check(&self, place: &Place, caller: Caller, (status, code): (u16, &'static str)) {
        let (client, name) = self.client(place, caller);
        let strangers = self.strongroom.entries_of("authentication.failed").await.len();
        let answer = self.send(place, &client).await;
        let what = format!("{} {} {caller:?}", place.method, place.path);
        if !matches!(caller, Caller::WithoutPermission | Caller::WrongPurpose | Caller::OtherTenant) {
            match answer {
                Some(answer) => says(answer, &what, (status, code)).await,
                None => assert_eq!(status, 0, "{what}"),
            }
            self.check_stranger(caller, code, strangers).await;
            return;
        }
        let answer = answer.unwrap();
        let request = request_id(&answer);
        says(answer, &what, (status, code)).await;
        let entry = self.strongroom.entry_of(&request).await;
        let word = if status == 403 { "refused" } else { "failed" };
        assert_eq!(entry["out"], json!({ "status": word, "code": code }), "{what}");
        assert_eq!(entry["who"]["uid"], name, "{what}");
        assert_eq!(entry["act"], act(place.operation()), "{what}");
        assert_eq!(entry["req"]["route"], place.route, "{what}");
        // What is to be sent on is named in the body.
        let relayed = || json!([{ "collection": "patients", "record": self.record("patients") }]);
        let is_named = place.operation() == Operation::Relay && caller == Caller::OtherTenant;
        let record = place.collection.as_ref().map(|collection| match place.operation() {
            Operation::Create
            | Operation::CreateMany
            | Operation::ReadMany
            | Operation::Search
            | Operation::List => {
                json!([{ "collection": collection }])
            }
            _ => json!([{ "collection": collection, "record": self.record(collection) }]),
        });
        assert_eq!(entry.get("obj").cloned(), record.or(is_named.then(relayed)), "{what}");
    }

    /// The other tenant's client is shown nothing of this one's, which a client of this one is shown.
    async fn check_own_tenant(&self, place: &Place, caller: Caller) {
        self.check_answered(place, caller).await;
        if matches!(place.operation(), Operation::ReadEvents | Operation::ReadMany | Operation::List) {
            let answer = self.send(place, &self.permitted(&self.right(place).unwrap())).await.unwrap();
            let text = answer.text().await.unwrap();
            assert!(self.ids().any(|id| text.contains(id)), "{} {}: {text}", place.method, place.path);
        }
    }

    /// Where nobody is refused, nothing of the other tenant, nor of anybody, is answered.
    async fn check_answered(&self, place: &Place, caller: Caller) {
        let (client, _) = self.client(place, caller);
        let answer = self.send(place, &client).await.unwrap();
        let what = format!("{} {} {caller:?}", place.method, place.path);
        assert!(answer.status().is_success(), "{what}: {}", answer.status());
        let text = answer.text().await.unwrap();
        let leaked: Vec<&str> = self.ids().filter(|id| text.contains(id)).collect();
        assert!(leaked.is_empty(), "{what} tells of {leaked:?}");
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

/// The refusal; the answer to a HEAD has no body to say why.
async fn says(answer: Response, what: &str, (status, code): (u16, &str)) {
    if what.starts_with(Method::HEAD.as_str()) {
        assert_eq!(answer.status(), status, "{what}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{what}");
        assert_eq!(answer.bytes().await.unwrap().len(), 0, "{what}");
    } else {
        assert_eq!(problem(answer).await, (status, code.to_owned()), "{what}");
    }
}

fn act(operation: Operation) -> &'static str {
    match operation {
        Operation::ReadEvents | Operation::ReadCheckpoint | Operation::ReadProof => "audit.read",
        Operation::ReadCareTeam => "careteam.read",
        Operation::UpdateCareTeam => "careteam.update",
        Operation::OpenBreakGlass => "breakglass.open",
        Operation::ListBreakGlass | Operation::ReviewBreakGlass => "breakglass.review",
        Operation::ExportSubject => "subject.export",
        Operation::Relay => "record.relay",
        Operation::KeyStatus | Operation::ListRotations | Operation::ReadRotation => "key.read",
        Operation::RequestRotation => "key.rotate",
        Operation::ApproveRotation => "key.approve",
        Operation::ReadErasures => "erasure.read",
        Operation::RequestErasure => "erasure.request",
        Operation::ApproveErasure => "erasure.approve",
        Operation::ReadHolds => "hold.read",
        Operation::PlaceHold | Operation::ReleaseHold => "hold.place",
        Operation::Create | Operation::CreateMany => "record.create",
        Operation::Read | Operation::ReadMany | Operation::ReadFile => "record.read",
        Operation::List => "record.list",
        Operation::Search => "record.search",
        Operation::History => "record.history",
        Operation::Update
        | Operation::StartUpload
        | Operation::UploadState
        | Operation::AppendUpload
        | Operation::CancelUpload => "record.update",
        Operation::Delete => "record.delete",
        Operation::Live | Operation::Ready | Operation::Metrics | Operation::OpenApi => "access.denied",
    }
}
