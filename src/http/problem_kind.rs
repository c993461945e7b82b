//! Every problem this service tells, in one table: status, stable code, and what to do about it.
//!
//! A code is a promise to programs: it is never given another meaning. `tests/it/golden/problems.txt` holds the table for
//! review.

use axum::http::StatusCode;

macro_rules! kinds {
    ($($name:ident = $status:ident, $code:literal, $detail:literal;)+) => {
        /// One row of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemKind { $($name,)+ }

        impl ProblemKind {
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// The part that programs act on.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// For people; program text only.
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$name => $detail,)+ }
            }
        }
    };
}

kinds! {
    BodyIncomplete = BAD_REQUEST, "body_incomplete", "the body ended early";
    BodyNotJson = BAD_REQUEST, "body_not_json", "the body must be one JSON text (RFC 8259)";
    BodyNotUtf8 = BAD_REQUEST, "body_not_utf8", "the body must be UTF-8";
    BodyShape = BAD_REQUEST, "body_shape",
        "the body must be an object with the documented members, each once; `subject` is a UUID in lower case";
    IdempotencyKeyInvalid = BAD_REQUEST, "idempotency_key_invalid",
        "send one Idempotency-Key of 1 to 255 visible ASCII characters, such as a UUID";
    IfMatchInvalid = BAD_REQUEST, "if_match_invalid",
        "send one If-Match with the ETag exactly as it was received, quotes included";
    RequestAmbiguous = BAD_REQUEST, "request_ambiguous",
        "send one Host, and one Content-Length or one Transfer-Encoding: chunked";
    UploadHeadersInvalid = BAD_REQUEST, "upload_headers_invalid",
        "start with one Upload-Length (bytes, at least 1) and perhaps one Upload-Metadata (filetype and filename, in base64); go on with one Upload-Offset";
    PurposeUnknown = BAD_REQUEST, "purpose_unknown",
        "send one X-Purpose-Of-Use with an HL7 v3 PurposeOfUse code such as TREAT";
    RecordQueryInvalid = BAD_REQUEST, "query_invalid",
        "the query may hold `fields` (names of this collection, by commas, each once), `view` (plain or masked) and `version` (a number)";
    PageQueryInvalid = BAD_REQUEST, "query_invalid",
        "the query may hold `cursor` (as received in `next`) and `limit` (1 to 500), each at most once";
    FileQueryInvalid = BAD_REQUEST, "query_invalid", "the query may hold `version` (a number), once";
    EventsQueryInvalid = BAD_REQUEST, "query_invalid",
        "use from and until (RFC 3339), act, status, actor, person, subject, collection, record, purpose, order (newest or oldest), cursor (as received) and limit (1 to 500), each at most once";

    TokenExpired = UNAUTHORIZED, "token_expired", "the person's token has expired; get a new one";
    TokenInvalid = UNAUTHORIZED, "token_invalid",
        "send one Authorization: Bearer with a token, of at most 8192 bytes, that an issuer of people.toml signed for this service and this tenant";
    TokenNotBound = UNAUTHORIZED, "token_not_bound",
        "the token is bound to another client certificate, or to none where its issuer's must be";

    ActionNotAllowed = FORBIDDEN, "action_not_allowed", "policy does not allow this to your role";
    ApproveOwn = FORBIDDEN, "approve_own", "what you asked for is somebody else's to approve";
    CertificateExpired = FORBIDDEN, "certificate_expired", "the certificate has expired; ask for a new one";
    CertificateRevoked = FORBIDDEN, "certificate_revoked", "the certificate is revoked; ask for a new one";
    DepartmentNotAllowed = FORBIDDEN, "department_not_allowed",
        "policy allows this to people of other departments";
    FieldNotAllowed = FORBIDDEN, "field_not_allowed",
        "policy does not give these fields in the view asked for; ask for fewer or for view=masked";
    HourNotAllowed = FORBIDDEN, "hour_not_allowed", "policy does not allow this to your role at this hour";
    IdentityUnlisted = FORBIDDEN, "identity_unlisted",
        "the certificate's URI is not in identities.toml; ask the security team to list it";
    PersonNotAllowed = FORBIDDEN, "person_not_allowed",
        "this client may not act for people; send no token, or ask the security team for acts_for in identities.toml";
    PersonRequired = FORBIDDEN, "person_required",
        "policy allows this on behalf of a person only; send their token in Authorization: Bearer";
    PurposeNotAllowed = FORBIDDEN, "purpose_not_allowed",
        "your role may not do this for the purpose in X-Purpose-Of-Use";
    PurposeRequired = FORBIDDEN, "purpose_required",
        "send X-Purpose-Of-Use with an HL7 v3 PurposeOfUse code that your role may use";
    RelationshipRequired = FORBIDDEN, "relationship_required",
        "policy allows this to your person only where they have to do with whose it is, and they have to do with nobody like that";
    ReviewOwn = FORBIDDEN, "review_own", "what you opened is somebody else's to review";
    RolesConflict = FORBIDDEN, "roles_conflict",
        "your roles, with those of the person you act for, may not be together; act for them through another client";
    SecondFactorRequired = FORBIDDEN, "second_factor_required",
        "policy demands a second factor: a token that tells of one, or a certificate whose key is in hardware";
    SourceNotAllowed = FORBIDDEN, "source_not_allowed",
        "policy does not allow this to your role from this network";

    CollectionUnknown = NOT_FOUND, "collection_unknown", "there is no such collection";
    DestinationUnknown = NOT_FOUND, "destination_unknown", "there is no such destination in policy/relay.toml";
    DocumentNotFound = NOT_FOUND, "document_not_found",
        "the record has no document in this field, or the field is not one for documents";
    EntryNotFound = NOT_FOUND, "entry_not_found",
        "there is no such entry for this caller, or no published checkpoint covers it yet; that takes a second or two";
    UploadNotFound = NOT_FOUND, "upload_not_found",
        "there is no such upload to this field, or its 24 hours are over; start a new one";
    RecordNotFound = NOT_FOUND, "record_not_found", "there is no such record for this caller";
    RouteUnknown = NOT_FOUND, "route_unknown", "there is no such path";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method";
    NotAcceptable = NOT_ACCEPTABLE, "not_acceptable",
        "ask for application/json, text/csv, application/jsonl, application/fhir+json or application/ocsf+json in Accept, or leave it out";
    EntryPruned = GONE, "entry_pruned",
        "entries of that month have left the database: ask for the exported files, and make the proof with `strongroom audit prove`";
    ApprovedAlready = CONFLICT, "approved_already", "it was approved before";
    ErasureLapsed = CONFLICT, "erasure_lapsed", "nobody approved it in seven days; ask for it again";
    HoldReleased = CONFLICT, "hold_released", "the hold was released before";
    KeyInUse = CONFLICT, "key_in_use", "keys are still wrapped by this key; wait until none is left";
    KeyTooYoung = CONFLICT, "key_too_young",
        "backups that need this key may still be kept; ask again at the time in `destroyable_from`";
    NothingToRotate = CONFLICT, "nothing_to_rotate", "this class has no key yet; its first one is made when it is needed";
    ReviewedAlready = CONFLICT, "reviewed_already", "it was reviewed before";
    RotationOpen = CONFLICT, "rotation_open",
        "a rotation of this class is open until its old key is destroyed";
    SubjectHeld = CONFLICT, "subject_held",
        "a legal hold is in force: nothing of this person is deleted before it is released";
    UploadOffset = CONFLICT, "upload_offset",
        "the upload does not stand there, is complete, or another request goes on with it; ask where it stands with HEAD";
    TusVersion = PRECONDITION_FAILED, "tus_version", "send Tus-Resumable: 1.0.0, or leave it out";
    VersionStale = PRECONDITION_FAILED, "version_stale",
        "the record has changed; read it again and send its ETag in If-Match";
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than this service accepts";
    DocumentTooLarge = PAYLOAD_TOO_LARGE, "document_too_large",
        "the document is larger than this service accepts, or than its Upload-Length";
    EncodingUnsupported = UNSUPPORTED_MEDIA_TYPE, "encoding_unsupported",
        "send the body without Content-Encoding";
    MediaTypeUnsupported = UNSUPPORTED_MEDIA_TYPE, "media_type_unsupported",
        "send one Content-Type: application/json (in a PATCH also application/merge-patch+json, in an upload application/offset+octet-stream), in UTF-8";
    AnswerTooLarge = UNPROCESSABLE_ENTITY, "answer_too_large",
        "these records together are larger than one answer may be; ask for fewer at a time";
    BatchSize = UNPROCESSABLE_ENTITY, "batch_size", "name 1 to 500 records in one request, each once";
    BreakGlassBounds = UNPROCESSABLE_ENTITY, "break_glass_bounds",
        "ask for fewer minutes and people: policy/limits.toml says for how many the glass may be broken";
    FieldsInvalid = UNPROCESSABLE_ENTITY, "fields_invalid",
        "one or more fields do not fit the collection; each is listed with its code";
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY, "idempotency_key_reused",
        "this Idempotency-Key came with another request in the last 24 hours; send a new key";
    RelayBodyInvalid = UNPROCESSABLE_ENTITY, "relay_body_invalid",
        "write `{{` id `}}`, and nothing else, at places that policy/relay.toml names, 1 to 16 of them, and nothing that begins like it elsewhere";
    RelayValueMissing = UNPROCESSABLE_ENTITY, "relay_value_missing",
        "a record has no value for its place, so nothing was sent; leave the place out";
    SearchInvalid = UNPROCESSABLE_ENTITY, "search_invalid",
        "ask by 1 to 4 fields of this collection that have an index, each in a way that its index knows; each fault is listed with its code";
    SearchTooWide = UNPROCESSABLE_ENTITY, "search_too_wide",
        "too many records may be what is asked for; add a condition, or a longer beginning";
    SubjectRule = UNPROCESSABLE_ENTITY, "subject_rule",
        "give `subject` in collections whose records refer to one, and leave it out where a record makes its own";
    SubjectUnknown = UNPROCESSABLE_ENTITY, "subject_unknown",
        "the subject does not exist for this caller; create its record first";
    UploadTooLittle = UNPROCESSABLE_ENTITY, "upload_too_little",
        "send at least 65536 bytes in one request, or all that is left of the document";
    IfMatchRequired = PRECONDITION_REQUIRED, "if_match_required",
        "send If-Match with the ETag of the version you changed";
    RateLimited = TOO_MANY_REQUESTS, "rate_limited",
        "you, or the person you act for, ask too often; wait as many seconds as Retry-After says";
    VolumeLimited = TOO_MANY_REQUESTS, "volume_limited",
        "you, or the person you act for, have read as many records as the limit gives; wait as many seconds as Retry-After says";

    Internal = INTERNAL_SERVER_ERROR, "internal", "the service failed; nothing was revealed";
    RelayAnswerInvalid = BAD_GATEWAY, "relay_answer_invalid",
        "the destination answered something that is not let back; what was asked of it may have been done";
    RelayUnreachable = BAD_GATEWAY, "relay_unreachable",
        "the destination could not be reached, and nothing was sent; try again";
    RelayTimeout = GATEWAY_TIMEOUT, "relay_timeout",
        "the destination did not answer in time; what was asked of it may have been done";
    RecordUnreadable = INTERNAL_SERVER_ERROR, "record_unreadable",
        "the stored record failed its integrity check and was not opened; tell the security team";
    AuditUnavailable = SERVICE_UNAVAILABLE, "audit_unavailable",
        "the audit log cannot be written, so nothing is answered; try again";
    DataUnavailable = SERVICE_UNAVAILABLE, "data_unavailable",
        "the data database is down or late; try again";
    DeadlineExceeded = SERVICE_UNAVAILABLE, "deadline_exceeded",
        "the request took too long; a write may or may not have happened, so read before you try again";
    KeysUnavailable = SERVICE_UNAVAILABLE, "keys_unavailable",
        "the key hierarchy is down or late; try again";
    PeopleUnavailable = SERVICE_UNAVAILABLE, "people_unavailable",
        "the keys of the token's issuer cannot be fetched, so the token cannot be judged; try again";
    RandomnessUnavailable = SERVICE_UNAVAILABLE, "randomness_unavailable",
        "the system has no randomness; try again";
    RelayCredentialUnavailable = SERVICE_UNAVAILABLE, "relay_credential_unavailable",
        "what this service is known by at the destination could not be had, and nothing was sent; try again";
    RelayNotConfigured = SERVICE_UNAVAILABLE, "relay_not_configured",
        "relay.ca_file of the configuration names no roots, so nothing is sent to anybody";
    RevocationUnknown = SERVICE_UNAVAILABLE, "revocation_unknown",
        "revocation lists are out of date, so no certificate can be trusted now";
}
