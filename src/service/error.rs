//! Why a use case did not succeed. What a caller is told is decided in `http::problem`, in one exhaustive match.

use super::limits::Limit;
use super::search::ConditionFault;
use crate::domain::id::FieldName;
use crate::policy::{Denial, FieldFaults};
use crate::relay::{SendFailure, TemplateFault};

/// Every way a use case can end without doing its work. Nothing here holds a value or anything a caller sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Policy said no; the denial is on record.
    #[error("policy refused the operation")]
    Denied(Denial),
    /// Over a limit on requests or on records revealed; on record, or counted for the next entry.
    #[error("the caller is over its limit")]
    Limited { limit: Limit, retry_after_seconds: u64 },
    /// Fields asked for by name that policy does not give in the view asked for; on record.
    #[error("policy refused fields asked for by name")]
    FieldsRefused(Vec<FieldName>),
    /// The same answer for a record that never was, was deleted, or belongs to another tenant.
    #[error("no such record")]
    NotFound,
    /// No such entry for this caller, or none that a published checkpoint covers.
    #[error("no such entry")]
    EntryNotFound,
    /// The month of such an entry was pruned: if it was ever there, it is in the exported files.
    #[error("the entry's month was pruned")]
    EntryPruned,
    /// The record has no document in this field, or the field holds none.
    #[error("no such document")]
    DocumentNotFound,
    /// More bytes than the upload announced, or than this service takes.
    #[error("the document is too large")]
    DocumentTooLarge,
    /// No such upload, for this record; or its time is over.
    #[error("no such upload")]
    UploadNotFound,
    /// The upload does not stand where the caller thinks.
    #[error("the upload has another offset")]
    UploadOffset,
    /// Less than a chunk, and not the end of the document: nothing was kept.
    #[error("too little was sent to be kept")]
    UploadTooLittle,
    /// The body broke off before anything of it could be kept.
    #[error("the body ended early")]
    BodyIncomplete,
    /// The version in `If-Match` is not the current one.
    #[error("the record has another version")]
    Stale,
    /// The request body's fields do not fit the collection.
    #[error("the fields do not fit the collection")]
    Invalid(FieldFaults),
    /// Records of a batch do not fit the collection; each by its place in the request, from 0.
    #[error("records of the batch do not fit the collection")]
    InvalidRecords(Vec<(usize, FieldFaults)>),
    /// The conditions of a search do not fit the collection.
    #[error("the conditions do not fit the collection")]
    SearchInvalid(Vec<ConditionFault>),
    /// Too many records share what the search is indexed by.
    #[error("the search is too wide")]
    SearchTooWide,
    /// The records have more bytes than one answer holds.
    #[error("the answer would be too large")]
    AnswerTooLarge,
    /// More records than one request may name, or none.
    #[error("the batch is empty or too large")]
    BatchSize,
    /// Another body was sent under the same idempotency key.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The body names no subject where the collection needs one, or one where it makes its own.
    #[error("the subject is missing or must not be given")]
    SubjectRule,
    /// More minutes or more people than the glass may be broken for, or none.
    #[error("the glass may not be broken so far")]
    BreakGlassBounds,
    /// Who broke the glass does not review it.
    #[error("it is somebody else's to review")]
    ReviewOwn,
    #[error("it was reviewed before")]
    ReviewedAlready,
    /// A legal hold is in force on what is kept of the subject.
    #[error("a legal hold is in force")]
    SubjectHeld,
    #[error("the hold was released before")]
    HoldReleased,
    /// Who asked for an erasure does not approve it.
    #[error("it is somebody else's to approve")]
    ApproveOwn,
    #[error("it was approved before")]
    ApprovedAlready,
    /// Nobody approved it in time.
    #[error("the request has lapsed")]
    ErasureLapsed,
    /// The class has no key yet.
    #[error("there is no key to be replaced")]
    NothingToRotate,
    /// A rotation of the class is not at its end.
    #[error("another rotation is open")]
    RotationOpen,
    /// Keys are still wrapped by it.
    #[error("the key is needed")]
    KeyInUse,
    /// Backups that need it are still kept.
    #[error("the key was needed too short a time ago")]
    KeyTooYoung,
    /// What is to be sent on is no body with placeholders where they may stand.
    #[error("the body is not one to be sent on")]
    RelayBody(TemplateFault),
    /// A record has nothing in a field that is to be sent on.
    #[error("a record has no value for a placeholder")]
    RelayValueMissing,
    /// It was put on record, and then this became of it.
    #[error("a destination: {0}")]
    Relay(SendFailure),
    /// The subject does not exist, or is being erased.
    #[error("no such subject")]
    SubjectUnknown,
    /// A part that the answer depends on is down or late; nothing was revealed, and a write may be tried again.
    #[error("{0} is not available")]
    Unavailable(Part),
    /// Stored bytes did not open: they were changed, moved or cut since they were sealed.
    #[error("a stored record failed its integrity check")]
    Tampered,
    /// A defect of this program.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl Error {
    /// Whether the log has an entry about it when it is returned. What is refused for its input is put on record by
    /// [`super::Service::refuse_input`], wherever the fault was found; of a part that is down, or of a defect, there may be
    /// none.
    pub const fn is_on_record(&self) -> bool {
        match self {
            Self::Denied(_)
            // Or counted for an entry.
            | Self::Limited { .. }
            | Self::FieldsRefused(_)
            | Self::NotFound
            | Self::EntryNotFound
            | Self::EntryPruned
            | Self::DocumentNotFound
            | Self::UploadNotFound
            | Self::UploadOffset
            | Self::UploadTooLittle
            | Self::BodyIncomplete
            | Self::Stale
            | Self::KeyReused
            | Self::SubjectUnknown
            | Self::ReviewOwn
            | Self::ReviewedAlready
            | Self::SubjectHeld
            | Self::HoldReleased
            | Self::ApproveOwn
            | Self::ApprovedAlready
            | Self::ErasureLapsed
            | Self::NothingToRotate
            | Self::RotationOpen
            | Self::KeyInUse
            | Self::KeyTooYoung
            | Self::RelayValueMissing
            | Self::Relay(_)
            | Self::Tampered => true,
            Self::DocumentTooLarge
            | Self::Invalid(_)
            | Self::InvalidRecords(_)
            | Self::SearchInvalid(_)
            | Self::SearchTooWide
            | Self::AnswerTooLarge
            | Self::BatchSize
            | Self::BreakGlassBounds
            | Self::SubjectRule
            | Self::RelayBody(_)
            | Self::Unavailable(_)
            | Self::Internal(_) => false,
        }
    }
}

/// The parts that can be down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Data,
    Keys,
    Audit,
    Randomness,
    /// Nothing says which outside services are to be believed.
    RelayRoots,
    /// What the service is known by at a destination could not be had; nothing was sent.
    RelayCredential,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Data => "the data database",
            Self::Keys => "the key hierarchy",
            Self::Audit => "the audit log",
            Self::Randomness => "the system's random source",
            Self::RelayRoots => "a root of outside services",
            Self::RelayCredential => "a destination's credential",
        })
    }
}

impl From<crate::domain::random::NoRandomness> for Error {
    fn from(_: crate::domain::random::NoRandomness) -> Self {
        Self::Unavailable(Part::Randomness)
    }
}
