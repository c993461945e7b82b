//! What an entry says was done, and how it ended: closed words, so that a report can count on them.

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)+) => {
        /// Everything that leaves an entry. Closed: `audit/events.toml` explains each code, and a test keeps both equal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Act { $($(#[$doc])* $name,)+ }

        impl Act {
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The code in the entry; permanent once released.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            pub fn parse(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|act| act.as_str() == code)
            }
        }
    };
}

acts! {
    /// A record's first version was stored.
    RecordCreate = "record.create",
    /// Fields of a record were revealed, or asked for and refused.
    RecordRead = "record.read",
    /// A new version of a record was stored.
    RecordUpdate = "record.update",
    /// A record was replaced by a tombstone version.
    RecordDelete = "record.delete",
    /// The list of a record's versions was shown.
    RecordHistory = "record.history",
    /// Ids of a collection's records were shown.
    RecordList = "record.list",
    /// Records were looked for by what is in them; each that was shown has an entry of its own as well.
    RecordSearch = "record.search",
    /// The service made what records are found by anew, since the policy declares other indexes.
    RecordIndex = "record.index",
    /// Many records were read or created in one request; each has an entry of its own as well.
    RecordBatch = "record.batch",
    /// Fields of a record were sent to an outside service, or were to be and not.
    RecordRelay = "record.relay",
    /// A document began to be sent out; who broke off before its end is not told apart.
    DocumentRead = "document.read",
    /// An upload of a document was begun, asked about, continued, cancelled or removed; its end is `record.update`.
    DocumentUpload = "document.upload",
    /// Who looks after a subject was shown.
    CareTeamRead = "careteam.read",
    /// Who looks after a subject was set.
    CareTeamUpdate = "careteam.update",
    /// A person broke the glass: may see more than usual of a subject, for minutes.
    BreakGlassOpen = "breakglass.open",
    /// What waits for its review was shown.
    BreakGlassList = "breakglass.list",
    /// Somebody else reviewed it, and ended it.
    BreakGlassReview = "breakglass.review",
    /// The legal holds on a subject were shown.
    HoldRead = "hold.read",
    /// A legal hold was placed on a subject: none of its records is deleted, none expires.
    HoldPlace = "hold.place",
    /// It was released.
    HoldRelease = "hold.release",
    /// A page of all that is kept of a subject was taken out; each record has an entry of its own as well.
    SubjectExport = "subject.export",
    /// How far the erasures of a subject have come was shown.
    ErasureRead = "erasure.read",
    /// Somebody asked that a subject be erased; nothing happens before somebody else approves it.
    ErasureRequest = "erasure.request",
    /// Somebody else approved it: from here on nothing of the subject opens.
    ErasureApprove = "erasure.approve",
    /// The keys of all that is kept of the subject are gone.
    ErasureComplete = "erasure.complete",
    /// The audit log was read.
    AuditRead = "audit.read",
    /// A known client was refused before an act was known: no such route, collection or right to either.
    AccessDenied = "access.denied",
    /// No listed, valid client certificate; only the source address is known.
    AuthenticationFailed = "authentication.failed",
    /// The service is ready to serve; the first entry of an instance run.
    ServiceStart = "service.start",
    /// The service stops in order; nothing but the ends of its chains comes after it.
    ServiceStop = "service.stop",
    /// A policy set was taken into use, or refused and the old one kept.
    PolicyLoad = "policy.load",
    /// The table of identities was taken into use, or refused and the old one kept.
    IdentityLoad = "identity.load",
    /// The table of identity providers was taken into use, or refused and the old one kept.
    PeopleLoad = "people.load",
    /// The keys of an identity provider were taken into use.
    JwksLoad = "jwks.load",
    /// A certificate revocation list was taken into use, or refused and the old one kept.
    RevocationLoad = "revocation.load",
    /// A tenant key, subject key or index root was made.
    KeyCreate = "key.create",
    /// A deleted record's own keys, or a tenant key that was replaced, were destroyed.
    KeyDestroy = "key.destroy",
    /// Ages and states of tenant keys, or their rotations, were shown.
    KeyRead = "key.read",
    /// Somebody had a tenant key replaced.
    KeyRotate = "key.rotate",
    /// Nothing is wrapped by the old key any more.
    KeyRewrap = "key.rewrap",
    /// Somebody else approved that the old key is destroyed.
    KeyApprove = "key.approve",
    /// The log's key vouches for the key of an instance run, in each of its chains, before anything is revealed in it.
    InstanceAttest = "instance.attest",
    /// A signed list of the writes that this instance saw committed, where no other entry came to carry it.
    ChainFlush = "chain.flush",
    /// The end of a chain, in an orderly stop.
    ChainEnd = "chain.end",
    /// An instance began a new chain because its old one was found to hold foreign entries.
    ChainRestart = "chain.restart",
    /// A month of the log left the database; the exported files have it.
    AuditPrune = "audit.prune",
    /// Entries that had been kept long enough were removed from the exported files.
    AuditExpire = "audit.expire",
    /// Months of the log must stay, whatever their age.
    AuditHold = "audit.hold",
    /// They need not any more, for this reason.
    AuditRelease = "audit.release",
    /// Something began to be wrong that no request is refused for, such as a log that is not published.
    AlarmBegin = "alarm.begin",
    /// It is over.
    AlarmEnd = "alarm.end",
}

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    Success,
    /// Policy, admission, a limit or a check of the input said no.
    Refused,
    /// Allowed, but it did not happen: no such record, another version, a part was down.
    Failed,
}

impl Status {
    pub const ALL: [Self; 3] = [Self::Success, Self::Refused, Self::Failed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// A stable reason code such as `purpose_not_allowed`. It is made from program text only, so nothing a caller sent can
/// be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(&'static str);

impl Code {
    pub const fn new(code: &'static str) -> Self {
        Self(code)
    }

    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// The `out` member of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    pub(super) status: Status,
    pub(super) code: Option<Code>,
}

impl Outcome {
    pub const SUCCESS: Self = Self { status: Status::Success, code: None };

    /// It went well, in a way that a reader of the log must know of.
    pub const fn success_as(code: &'static str) -> Self {
        Self { status: Status::Success, code: Some(Code::new(code)) }
    }

    pub const fn refused(code: &'static str) -> Self {
        Self { status: Status::Refused, code: Some(Code::new(code)) }
    }

    pub const fn failed(code: &'static str) -> Self {
        Self { status: Status::Failed, code: Some(Code::new(code)) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Catalogue {
        act: BTreeMap<String, Described>,
    }

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Described {
        when: String,
        by: String,
        members: Vec<String>,
        rule: String,
    }

    #[test]
    fn the_catalogue_and_the_enum_name_the_same_acts() {
        let catalogue: Catalogue = toml::from_str(include_str!("../../audit/events.toml")).unwrap();
        let mut described: Vec<&str> = catalogue.act.keys().map(String::as_str).collect();
        let mut known: Vec<&str> = Act::ALL.iter().map(|act| act.as_str()).collect();
        described.sort_unstable();
        known.sort_unstable();
        assert_eq!(described, known, "audit/events.toml and Act differ");
        for (code, act) in &catalogue.act {
            assert!(
                act.when.len() > 20 && !act.by.is_empty() && !act.rule.is_empty(),
                "{code} is not explained"
            );
            assert!(!act.members.is_empty(), "{code} names no members");
        }
    }

    #[test]
    fn codes_come_back() {
        for act in Act::ALL {
            assert_eq!(Act::parse(act.as_str()), Some(*act));
        }
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Act::parse("record.steal"), None);
    }
}
