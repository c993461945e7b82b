//! Who is asking, as the certificate and `policy/identities.toml` say, and for whom.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::clock::Timestamp;
use super::id::TenantId;
use super::person::Person;

/// The facts of the client certificate that a connection keeps; everything else is looked up on each request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFacts {
    /// The one URI subject alternative name.
    pub san: String,
    /// SHA-256 of the issuer's DER name, lower-case hexadecimal.
    pub issuer_sha256: String,
    /// Serial number, big-endian hexadecimal, lower case, as in the CRL.
    pub serial: String,
    pub not_after: Timestamp,
    /// SHA-256 of the DER certificate, lower-case hexadecimal.
    pub sha256: String,
}

/// What kind of client an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    App,
    Auditor,
    Custodian,
    Operator,
}

impl ClientKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Auditor => "auditor",
            Self::Custodian => "custodian",
            Self::Operator => "operator",
        }
    }
}

/// Where a client's private key is, as the security team states it in `policy/identities.toml`: no certificate proves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKeeping {
    /// In a file: one factor, whoever has a copy.
    #[default]
    File,
    /// In a device that never gives it away and asks for a PIN: a second factor.
    Hardware,
}

/// A listed client, as `policy/identities.toml` names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Short, stable name of the client ("portal").
    pub client: Arc<str>,
    pub kind: ClientKind,
    pub tenant: TenantId,
    /// Sorted, without duplicates.
    pub roles: Arc<[Arc<str>]>,
    /// The roles of people that it may act for. Sorted, without duplicates; empty where it may act for nobody.
    pub acts_for: Arc<[Arc<str>]>,
    pub key: KeyKeeping,
}

/// The authenticated caller of one request.
#[derive(Clone, Debug)]
pub struct Actor {
    pub identity: Arc<Identity>,
    pub certificate: Arc<CertificateFacts>,
    pub source: SocketAddr,
    acting: Option<Acting>,
}

/// For whom, and what comes of it. Only [`Actor::for_person`] makes one.
#[derive(Clone, Debug)]
pub struct Acting {
    person: Arc<Person>,
    /// The person's roles that the client may act for.
    brought: Arc<[Arc<str>]>,
    /// These and the client's own.
    together: Arc<[Arc<str>]>,
}

impl Acting {
    pub const fn person(&self) -> &Arc<Person> {
        &self.person
    }

    /// The person's roles that the client may act for; they may be the client's own as well. Sorted, without duplicates.
    pub fn brought(&self) -> &[Arc<str>] {
        &self.brought
    }
}

impl Actor {
    /// A client that acts for itself.
    pub const fn new(
        identity: Arc<Identity>,
        certificate: Arc<CertificateFacts>,
        source: SocketAddr,
    ) -> Self {
        Self { identity, certificate, source, acting: None }
    }

    /// The same client, acting for a person whose token it sent.
    #[must_use]
    pub fn for_person(self, person: Arc<Person>) -> Self {
        let has = |roles: &[Arc<str>], role: &Arc<str>| roles.binary_search(role).is_ok();
        let brought: Arc<[Arc<str>]> =
            person.roles.iter().filter(|role| has(&self.identity.acts_for, role)).cloned().collect();
        let together = if brought.iter().all(|role| has(&self.identity.roles, role)) {
            Arc::clone(&self.identity.roles)
        } else {
            let all: BTreeSet<&Arc<str>> = self.identity.roles.iter().chain(&*brought).collect();
            all.into_iter().cloned().collect()
        };
        Self { acting: Some(Acting { person, brought, together }), ..self }
    }

    /// Whom the client acts for, where it sent that person's token.
    pub fn person(&self) -> Option<&Arc<Person>> {
        self.acting.as_ref().map(|acting| &acting.person)
    }

    /// What policy is asked about: the client's own roles, and those of the person's that it may act for. Sorted, without
    /// duplicates.
    pub fn roles(&self) -> &Arc<[Arc<str>]> {
        self.acting.as_ref().map_or(&self.identity.roles, |acting| &acting.together)
    }

    /// The roles among [`Self::roles`] that the person brought.
    pub fn person_roles(&self) -> &[Arc<str>] {
        self.acting.as_ref().map_or(&[], Acting::brought)
    }

    /// The department of whom the client acts for. Like a second factor, it counts of somebody who brings a role: what anybody
    /// else's token says must not change what the client is given.
    pub fn department(&self) -> Option<&Arc<str>> {
        self.acting.as_ref().filter(|acting| !acting.brought.is_empty())?.person.department.as_ref()
    }

    pub const fn acting(&self) -> Option<&Acting> {
        self.acting.as_ref()
    }

    /// Whether more than a copied file, or one password, stands behind this request: where a person brings a role, their token
    /// tells of a second factor, and otherwise the client's key is in hardware. The key of a desk is nobody's second factor:
    /// else whoever sits there is two people with a colleague's password. Nor does the factor of somebody count who brings no
    /// role: else any patient's token would turn a stolen auditor's file into two factors.
    pub fn has_second_factor(&self) -> bool {
        match &self.acting {
            Some(acting) if !acting.brought.is_empty() => acting.person.has_second_factor,
            _ => self.identity.key == KeyKeeping::Hardware,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn roles(names: &[&str]) -> Arc<[Arc<str>]> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn actor(own: &[&str], acts_for: &[&str], key: KeyKeeping) -> Actor {
        let identity = Identity {
            client: "portal".into(),
            kind: ClientKind::App,
            tenant: TenantId::from_uuid(Uuid::nil()),
            roles: roles(own),
            acts_for: roles(acts_for),
            key,
        };
        let certificate = CertificateFacts {
            san: String::new(),
            issuer_sha256: String::new(),
            serial: String::new(),
            not_after: Timestamp::from_micros(0),
            sha256: String::new(),
        };
        Actor::new(Arc::new(identity), Arc::new(certificate), SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn person(names: &[&str], has_second_factor: bool) -> Arc<Person> {
        Arc::new(Person {
            issuer: "staff".into(),
            id: "p-1".into(),
            roles: roles(names),
            department: Some("cardiology".into()),
            care_teams: Arc::from([]),
            subject: None,
            has_second_factor,
            expires_at: Timestamp::from_micros(0),
        })
    }

    #[test]
    fn a_person_brings_the_roles_that_the_client_may_act_for() {
        let client = || actor(&["portal"], &["clinician", "patient", "portal"], KeyKeeping::File);
        assert_eq!(client().roles(), &roles(&["portal"]));
        assert!(client().person_roles().is_empty());
        for (of_person, together, brought) in [
            (&["clinician", "owner"][..], &["clinician", "portal"][..], &["clinician"][..]),
            (&["patient", "zebra"], &["patient", "portal"], &["patient"]),
            (&["portal"], &["portal"], &["portal"]),
            (&["owner"], &["portal"], &[]),
            (&[], &["portal"], &[]),
        ] {
            let actor = client().for_person(person(of_person, false));
            assert_eq!(actor.roles(), &roles(together), "{of_person:?}");
            assert_eq!(actor.person_roles(), &*roles(brought), "{of_person:?}");
        }
        let alone = actor(&["portal"], &[], KeyKeeping::File).for_person(person(&["clinician"], true));
        assert_eq!(alone.roles(), &roles(&["portal"]));
    }

    #[test]
    fn a_department_is_of_a_person_with_a_role() {
        let client = || actor(&["portal"], &["clinician"], KeyKeeping::Hardware);
        assert_eq!(client().department(), None);
        let of =
            |names: &[&str]| client().for_person(person(names, true)).department().map(ToString::to_string);
        assert_eq!(of(&["clinician"]).as_deref(), Some("cardiology"));
        assert_eq!((of(&["patient"]), of(&["portal"]), of(&[])), (None, None, None));
    }

    #[test]
    fn a_second_factor_is_a_key_in_hardware_or_of_a_person_with_a_role() {
        let client = |key| actor(&["auditor"], &["auditor"], key);
        assert!(client(KeyKeeping::Hardware).has_second_factor());
        assert!(!client(KeyKeeping::File).has_second_factor());
        for (names, factor, expected) in [
            (&["auditor"][..], true, true),
            (&["auditor"], false, false),
            (&["patient"], true, false),
            (&[], true, false),
        ] {
            let actor = client(KeyKeeping::File).for_person(person(names, factor));
            assert_eq!(actor.has_second_factor(), expected, "{names:?} {factor}");
            // The key of the desk counts where nobody brings a role, and is no factor of who does.
            let actor = client(KeyKeeping::Hardware).for_person(person(names, factor));
            assert_eq!(actor.has_second_factor(), expected || names != ["auditor"], "{names:?} {factor}");
        }
    }
}
