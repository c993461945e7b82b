//! Who may do what, asked of the policy itself, so that the walk finds a caller for every operation of every collection.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use strongroom::domain::action::Action;
use strongroom::domain::actor::{Actor, CertificateFacts, Identity};
use strongroom::domain::clock::Timestamp;
use strongroom::domain::context::{OperationContext, RequestFacts};
use strongroom::domain::id::RequestId;
use strongroom::domain::purpose::Purpose;
use strongroom::domain::relationship::Relationship;
use strongroom::http::Operation;
use strongroom::policy::{Authoriser, Collection, DenialCode, Permit, PolicySet, View};
use strongroom::tls::Identities;
use uuid::Uuid;

use super::Place;
use crate::support::samples::{document, encounter, message, note, patient};
use crate::support::{NORTH, policy_directory};

/// Somebody of clinic-north who may do a thing for one purpose, and may not for another.
#[derive(Clone, Debug)]
pub struct Right {
    pub client: String,
    pub purpose: Option<&'static str>,
    pub wrong_purpose: &'static str,
}

/// The shipped policy and its clients.
pub struct Rights {
    authoriser: Authoriser,
    clients: Vec<Arc<Identity>>,
}

impl Rights {
    pub fn shipped() -> Self {
        let policy = PolicySet::load(&policy_directory()).unwrap();
        let identities = Identities::load(&policy_directory().join("identities.toml")).unwrap();
        let north = identities.tenant(NORTH).unwrap();
        let clients = identities.iter().map(|(_, identity)| Arc::clone(identity));
        let mut clients: Vec<_> = clients.filter(|identity| identity.tenant == north).collect();
        clients.sort_by(|one, other| one.client.cmp(&other.client));
        Self { authoriser: Authoriser::new(Arc::new(policy)), clients }
    }

    pub fn collections(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.authoriser.policy_set().collections()
    }

    /// The first who may; `None` where policy gives it to nobody.
    pub fn find(&self, place: &Place) -> Option<Right> {
        let (operation, name) = (place.operation(), place.collection.as_deref());
        let collection = name.map(|name| self.authoriser.policy_set().collection(name).unwrap());
        for identity in &self.clients {
            let may = |purpose| self.may(operation, collection, identity, purpose);
            let purposes = || Purpose::ALL.into_iter().map(Some);
            let Some(purpose) = purposes().chain([None]).find(|purpose| may(*purpose) == Ok(true)) else {
                continue;
            };
            let wrong = purposes().find(|wrong| may(*wrong) == Err(DenialCode::PurposeNotAllowed));
            if let Some(Some(wrong)) = wrong {
                return Some(Right {
                    client: identity.client.to_string(),
                    purpose: purpose.map(Purpose::as_str),
                    wrong_purpose: wrong.as_str(),
                });
            }
        }
        None
    }

    /// Whether it is permitted with all the fields that the walk sends or asks for; the code of the first denial.
    fn may(
        &self,
        operation: Operation,
        collection: Option<&Arc<Collection>>,
        identity: &Arc<Identity>,
        purpose: Option<Purpose>,
    ) -> Result<bool, DenialCode> {
        let context = context(identity, purpose);
        let code = |denial: strongroom::policy::Denial| denial.code;
        let Some(collection) = collection else {
            return match operation {
                Operation::ReadEvents | Operation::ReadCheckpoint | Operation::ReadProof => {
                    self.authoriser.permit_audit(&context).map(|_| true).map_err(code)
                }
                Operation::Metrics => self.authoriser.permit_metrics(&context).map(|()| true).map_err(code),
                Operation::ReadCareTeam => self.may_of_a_subject(&context, Action::ReadCareTeam),
                Operation::UpdateCareTeam => self.may_of_a_subject(&context, Action::UpdateCareTeam),
                Operation::OpenBreakGlass => self.may_of_a_subject(&context, Action::OpenBreakGlass),
                Operation::ListBreakGlass | Operation::ReviewBreakGlass => {
                    self.may_of_a_subject(&context, Action::ReviewBreakGlass)
                }
                Operation::ReadHolds => self.may_of_a_subject(&context, Action::ReadHold),
                Operation::PlaceHold | Operation::ReleaseHold => {
                    self.may_of_a_subject(&context, Action::Hold)
                }
                Operation::ExportSubject => self.may_export(&context),
                Operation::Relay => self.may_relay(&context),
                Operation::ReadErasures => self.may_of_a_subject(&context, Action::ReadErasure),
                Operation::RequestErasure => self.may_of_a_subject(&context, Action::Erase),
                Operation::ApproveErasure => self.may_of_a_subject(&context, Action::Approve),
                Operation::KeyStatus | Operation::ListRotations | Operation::ReadRotation => {
                    self.may_with_keys(&context, Action::ReadKeys)
                }
                Operation::RequestRotation => self.may_with_keys(&context, Action::Rotate),
                Operation::ApproveRotation => self.may_with_keys(&context, Action::ApproveDestruction),
                _ => Ok(true),
            };
        };
        // The walk's clients act for themselves.
        let permit =
            |action| self.authoriser.permit(&context, collection, action, Relationship::NONE).map_err(code);
        let is_plain =
            |permit: &Permit, name: &str| permit.view_of(collection.field(name).unwrap().id) == View::Plain;
        match operation {
            Operation::List => permit(Action::List).map(|_| true),
            Operation::History => permit(Action::History).map(|_| true),
            Operation::Delete => permit(Action::Delete).map(|_| true),
            Operation::Read => permit(Action::Read).map(|_| true),
            Operation::ReadMany => permit(Action::ReadMany).and_then(|_| permit(Action::Read)).map(|_| true),
            Operation::Search => {
                let Some((field, _)) = collection.indexed().next() else { return Ok(false) };
                let name = field.name.as_str();
                permit(Action::Search)
                    .and_then(|_| permit(Action::Read))
                    .map(|permit| is_plain(&permit, name))
            }
            Operation::Create | Operation::CreateMany => {
                let names = fields(collection.name().as_str());
                permit(Action::Create).map(|permit| names.iter().all(|name| is_plain(&permit, name)))
            }
            Operation::Update => {
                let name = change(collection).0;
                permit(Action::Update).map(|permit| is_plain(&permit, &name))
            }
            Operation::ReadFile => permit(Action::Read).map(|permit| is_plain(&permit, FILE)),
            _ => permit(Action::Update).map(|permit| is_plain(&permit, FILE)),
        }
    }
}

impl Rights {
    /// Something of any collection; else the denial that tells most.
    fn may_export(&self, context: &OperationContext) -> Result<bool, DenialCode> {
        let each = self.collections().map(|collection| {
            let permit = self.authoriser.permit(context, collection, Action::Export, Relationship::NONE);
            permit.map(drop).map_err(|denial| denial.code)
        });
        let all: Vec<Result<(), DenialCode>> = each.collect();
        if all.contains(&Ok(())) {
            return Ok(true);
        }
        let mut codes = all.into_iter().filter_map(Result::err);
        Err(codes.find(|code| *code != DenialCode::ActionNotAllowed).unwrap_or(DenialCode::ActionNotAllowed))
    }

    /// What the walk sends is of a patient.
    fn may_relay(&self, context: &OperationContext) -> Result<bool, DenialCode> {
        let set = self.authoriser.policy_set();
        let destination = set.destination(DESTINATION).unwrap();
        let patients = set.collection("patients").unwrap();
        let permit = self.authoriser.relay_permit(context, destination, patients, Relationship::NONE);
        permit.map(|_| true).map_err(|denial| denial.code)
    }

    fn may_with_keys(&self, context: &OperationContext, action: Action) -> Result<bool, DenialCode> {
        self.authoriser.permit_keys(context, action).map(|_| true).map_err(|denial| denial.code)
    }

    fn may_of_a_subject(&self, context: &OperationContext, action: Action) -> Result<bool, DenialCode> {
        self.authoriser.permit_subject(context, action).map(|_| true).map_err(|denial| denial.code)
    }
}

/// Of the shipped `relay.toml`.
pub const DESTINATION: &str = "claims-clearinghouse";

/// The field for documents.
pub const FILE: &str = "content";

/// A whole create of a collection.
pub fn sample(collection: &str, subject: &str) -> Value {
    match collection {
        "patients" => json!({ "fields": patient() }),
        "encounters" => encounter(subject),
        "messages" => message(subject),
        "documents" => document(subject),
        "psychotherapy_notes" => note(subject),
        other => panic!("{other} needs a sample"),
    }
}

fn fields(collection: &str) -> Vec<String> {
    sample(collection, "")["fields"].as_object().unwrap().keys().cloned().collect()
}

/// A field that a PATCH changes, and its value: the last of the sample, as the file declares them.
pub fn change(collection: &Collection) -> (String, Value) {
    let sample = sample(collection.name().as_str(), "");
    let mut names = collection.fields().iter().rev().map(|field| field.name.as_str());
    let name = names.find(|name| !sample["fields"][name].is_null()).unwrap();
    (name.to_owned(), sample["fields"][name].clone())
}

/// What a search asks by: the first field that has an index, as the sample has it.
pub fn condition(collection: &Collection) -> Value {
    let (field, index) = collection.indexed().next().unwrap();
    let name = field.name.as_str();
    let value = &sample(collection.name().as_str(), "")["fields"][name];
    match index.exact() {
        Some(_) => json!({ "field": name, "match": "exact", "value": value }),
        None => json!({ "field": name, "match": "on", "value": value.as_str().unwrap()[..10] }),
    }
}

fn context(identity: &Arc<Identity>, purpose: Option<Purpose>) -> OperationContext {
    let certificate = CertificateFacts {
        san: String::new(),
        issuer_sha256: String::new(),
        serial: String::new(),
        not_after: Timestamp::from_micros(i64::MAX),
        sha256: String::new(),
    };
    OperationContext {
        actor: Actor::new(Arc::clone(identity), Arc::new(certificate), SocketAddr::from(([127, 0, 0, 1], 1))),
        request: RequestFacts { id: RequestId::from_uuid(Uuid::nil()), trace: None, route: "" },
        purpose,
        at: Timestamp::from_micros(0),
        break_glass: OnceLock::new(),
    }
}
