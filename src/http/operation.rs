//! The operations of the interface. The router is made from this list, so an operation that is not in it does not exist,
//! and tests that go through it (who is refused what) go through everything.

use axum::http::Method;
use axum::routing::{MethodRouter, on};
use std::sync::Arc;
use std::time::Duration;

use super::{
    App, audit, batch, break_glass, erasures, export, files, health, holds, keys, openapi, pages, records,
    relay, search, subjects,
};
use crate::audit::Act;
use crate::domain::action::Action;
use crate::policy::LONGEST_RELAY;

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $method:ident $route:literal => $handler:path;)+) => {
        /// One method of one route.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation { $($(#[$doc])* $name,)+ }

        impl Operation {
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            pub const fn method(self) -> Method {
                match self { $(Self::$name => Method::$method,)+ }
            }

            /// The route's template; this, never the path, is what the audit log and the metrics see.
            pub const fn route(self) -> &'static str {
                match self { $(Self::$name => $route,)+ }
            }

            pub(super) fn endpoint(self) -> MethodRouter<Arc<App>> {
                match self { $(Self::$name => on(axum::routing::MethodFilter::$method, $handler),)+ }
            }
        }
    };
}

operations! {
    /// A page of the audit log.
    ReadEvents = GET "/api/v1/audit/events" => audit::events;
    /// The newest checkpoint of the log.
    ReadCheckpoint = GET "/api/v1/audit/checkpoint" => audit::checkpoint;
    /// The proof of one entry.
    ReadProof = GET "/api/v1/audit/proof/{entry}" => audit::proof;
    /// Who looks after a subject.
    ReadCareTeam = GET "/api/v1/subjects/{id}/care-team" => subjects::read_care_team;
    UpdateCareTeam = PUT "/api/v1/subjects/{id}/care-team" => subjects::update_care_team;
    /// Sees more than usual of somebody, for minutes.
    OpenBreakGlass = POST "/api/v1/break-glass" => break_glass::open;
    /// What waits for its review.
    ListBreakGlass = GET "/api/v1/break-glass" => break_glass::list;
    ReviewBreakGlass = POST "/api/v1/break-glass/{id}/review" => break_glass::review;
    /// The legal holds on what is kept of a subject.
    ReadHolds = GET "/api/v1/subjects/{id}/hold" => holds::list;
    PlaceHold = POST "/api/v1/subjects/{id}/hold" => holds::place;
    ReleaseHold = DELETE "/api/v1/subjects/{id}/hold/{hold}" => holds::release;
    /// Everything that is kept of a subject, a page at a time.
    ExportSubject = GET "/api/v1/subjects/{id}/export" => export::read;
    /// How far the erasures of a subject have come.
    ReadErasures = GET "/api/v1/subjects/{id}/erase" => erasures::list;
    /// Asks that a subject be erased.
    RequestErasure = POST "/api/v1/subjects/{id}/erase" => erasures::request;
    /// Has a subject erased, as somebody else asked.
    ApproveErasure = POST "/api/v1/subjects/{id}/erase/{erasure}/approve" => erasures::approve;
    /// The tenant's keys and their ages; no key.
    KeyStatus = GET "/api/v1/keys/status" => keys::status;
    /// The rotations of the tenant's keys.
    ListRotations = GET "/api/v1/keys/rotations" => keys::list;
    /// Has a key replaced.
    RequestRotation = POST "/api/v1/keys/rotations" => keys::request;
    /// How far a rotation has come.
    ReadRotation = GET "/api/v1/keys/rotations/{rotation}" => keys::read;
    /// Has the key destroyed that somebody else had replaced.
    ApproveRotation = POST "/api/v1/keys/rotations/{rotation}/approvals" => keys::approve;
    /// A request that goes on to an outside service, with values of records put in.
    Relay = POST "/api/v1/relay/{destination}" => relay::send;
    /// The interface, as a document for programs.
    OpenApi = GET "/api/v1/openapi.json" => openapi::read;
    /// Whether the process answers.
    Live = GET "/livez" => health::live;
    /// Whether every part answers.
    Ready = GET "/readyz" => health::ready;
    /// Counts and times of the service.
    Metrics = GET "/metrics" => health::metrics;
    /// Ids of a collection's records.
    List = GET "/api/v1/{collection}" => pages::list;
    Create = POST "/api/v1/{collection}" => records::create;
    /// Up to 500 records, all or none.
    CreateMany = POST "/api/v1/{collection}/batch" => batch::create;
    /// Up to 500 records, those that there are.
    ReadMany = POST "/api/v1/{collection}/batch/read" => batch::read;
    /// Records by what is in them.
    Search = POST "/api/v1/{collection}/search" => search::search;
    Read = GET "/api/v1/{collection}/{id}" => records::read;
    Update = PATCH "/api/v1/{collection}/{id}" => records::update;
    Delete = DELETE "/api/v1/{collection}/{id}" => records::delete;
    /// A document, as it was uploaded.
    ReadFile = GET "/api/v1/{collection}/{id}/files/{field}" => files::read;
    /// Begins to bring a document.
    StartUpload = POST "/api/v1/{collection}/{id}/files/{field}" => files::start;
    /// How far an upload has come.
    UploadState = HEAD "/api/v1/{collection}/{id}/files/{field}/{upload}" => files::state;
    /// Some or all of what is left; with the last byte the record has the document.
    AppendUpload = PATCH "/api/v1/{collection}/{id}/files/{field}/{upload}" => files::append;
    CancelUpload = DELETE "/api/v1/{collection}/{id}/files/{field}/{upload}" => files::cancel;
    /// Which versions a record has had.
    History = GET "/api/v1/{collection}/{id}/history" => pages::history;
}

impl Operation {
    /// The operation that a request is routed to; a GET's route takes HEAD as well.
    pub(super) fn of(method: &Method, matched: Option<&str>) -> Option<Self> {
        let is_it = |operation: &Self| {
            let own = operation.method();
            matched == Some(operation.route())
                && (own == *method || (own == Method::GET && *method == Method::HEAD))
        };
        Self::ALL.iter().copied().find(is_it)
    }

    /// What a request for it tries to do, in the words of policy and of the log; `None` where nobody needs a permit.
    pub(super) const fn attempt(self) -> Option<(Action, Act)> {
        Some(match self {
            Self::ReadEvents | Self::ReadCheckpoint | Self::ReadProof => (Action::ReadAudit, Act::AuditRead),
            Self::ReadCareTeam => (Action::ReadCareTeam, Act::CareTeamRead),
            Self::UpdateCareTeam => (Action::UpdateCareTeam, Act::CareTeamUpdate),
            Self::OpenBreakGlass => (Action::OpenBreakGlass, Act::BreakGlassOpen),
            Self::ListBreakGlass => (Action::ReviewBreakGlass, Act::BreakGlassList),
            Self::ReviewBreakGlass => (Action::ReviewBreakGlass, Act::BreakGlassReview),
            Self::ReadHolds => (Action::ReadHold, Act::HoldRead),
            Self::PlaceHold => (Action::Hold, Act::HoldPlace),
            Self::ReleaseHold => (Action::Hold, Act::HoldRelease),
            Self::ExportSubject => (Action::Export, Act::SubjectExport),
            Self::Relay => (Action::Relay, Act::RecordRelay),
            Self::ReadErasures => (Action::ReadErasure, Act::ErasureRead),
            Self::RequestErasure => (Action::Erase, Act::ErasureRequest),
            Self::ApproveErasure => (Action::Approve, Act::ErasureApprove),
            Self::KeyStatus | Self::ListRotations | Self::ReadRotation => (Action::ReadKeys, Act::KeyRead),
            Self::RequestRotation => (Action::Rotate, Act::KeyRotate),
            Self::ApproveRotation => (Action::ApproveDestruction, Act::KeyApprove),
            Self::List => (Action::List, Act::RecordList),
            Self::Create | Self::CreateMany => (Action::Create, Act::RecordCreate),
            Self::ReadMany => (Action::ReadMany, Act::RecordRead),
            Self::Search => (Action::Search, Act::RecordSearch),
            Self::Read => (Action::Read, Act::RecordRead),
            Self::Update => (Action::Update, Act::RecordUpdate),
            Self::Delete => (Action::Delete, Act::RecordDelete),
            Self::ReadFile => (Action::Read, Act::DocumentRead),
            Self::StartUpload | Self::UploadState | Self::AppendUpload | Self::CancelUpload => {
                (Action::Update, Act::DocumentUpload)
            }
            Self::History => (Action::History, Act::RecordHistory),
            Self::Live | Self::Ready | Self::Metrics | Self::OpenApi => return None,
        })
    }
}

/// Whether a request takes as long as the client sends, and keeps its own time.
pub(super) fn is_paced_by_client(method: &Method, matched: Option<&str>) -> bool {
    let operation = Operation::AppendUpload;
    *method == operation.method() && matched == Some(operation.route())
}

/// How much longer than others a request may take, since it waits for somebody else.
pub(super) fn waiting(method: &Method, matched: Option<&str>) -> Duration {
    let operation = Operation::Relay;
    let is_it = *method == operation.method() && matched == Some(operation.route());
    if is_it { LONGEST_RELAY } else { Duration::ZERO }
}

/// Stands for a path that is no route.
const NO_ROUTE: &str = "/{unknown}";

/// The template as program text, whatever the router matched.
pub(super) fn template(matched: Option<&str>) -> &'static str {
    let known = Operation::ALL.iter().map(|operation| operation.route());
    known.into_iter().find(|route| matched == Some(*route)).unwrap_or(NO_ROUTE)
}
