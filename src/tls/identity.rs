//! `policy/identities.toml`: which certificate name is which client of which tenant, in which roles.
//!
//! The file is parsed strictly into an immutable table. Whether the roles exist is the policy's to say; this module
//! only lists them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::certificate::{sha256, to_hex};
use crate::domain::actor::{ClientKind, Identity, KeyKeeping};
use crate::domain::id::TenantId;

/// Why an identities file is refused. Messages name entries of the file, which people review and commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read the identities file: {0}")]
    Read(std::io::ErrorKind),
    #[error("the identities file is not valid: {0}")]
    Syntax(String),
    #[error("tenant {0}: {1}")]
    Tenant(String, &'static str),
    #[error("the policy has no role {0}; add it there first or correct the name")]
    Role(String),
    #[error("client {0}: {1}")]
    Client(String, &'static str),
    /// The policy refuses what it would be.
    #[error("client {0}: {1}")]
    Refused(String, String),
}

/// Everyone who may come in, by certificate name. Immutable; a changed file makes a new one.
#[derive(Debug)]
pub struct Identities {
    by_san: HashMap<Box<str>, Arc<Identity>>,
    tenants: HashMap<Box<str>, TenantId>,
    roles: BTreeSet<Arc<str>>,
    digest: [u8; 32],
}

impl Identities {
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let text = std::fs::read_to_string(path).map_err(|error| IdentityError::Read(error.kind()))?;
        Self::parse(&text)
    }

    /// Parses the text of an identities file, whole or not at all.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let file: File =
            toml::from_str(text).map_err(|error| IdentityError::Syntax(error.message().to_owned()))?;
        let tenants = parse_tenants(file.tenants)?;
        let mut by_san = HashMap::with_capacity(file.client.len());
        let mut names = HashSet::with_capacity(file.client.len());
        let mut roles = BTreeSet::new();
        for entry in file.client {
            let label = format!("{}/{}", entry.tenant, entry.name);
            let refuse = |why| IdentityError::Client(label.clone(), why);
            let tenant = *tenants.get(entry.tenant.as_str()).ok_or_else(|| refuse("name a listed tenant"))?;
            check_san(&entry).map_err(refuse)?;
            let own = parse_roles(&entry.roles, &mut roles).map_err(refuse)?;
            if own.is_empty() {
                return Err(refuse("give it a role"));
            }
            let identity = Identity {
                client: word(&entry.name).ok_or_else(|| refuse(WORD))?,
                kind: entry.kind,
                tenant,
                roles: own,
                acts_for: parse_roles(&entry.acts_for, &mut roles).map_err(refuse)?,
                key: entry.key,
            };
            if !names.insert((tenant, Arc::clone(&identity.client))) {
                return Err(refuse("the tenant has this client already"));
            }
            if by_san.insert(entry.san.into_boxed_str(), Arc::new(identity)).is_some() {
                return Err(refuse("another client has this san"));
            }
        }
        Ok(Self { by_san, tenants, roles, digest: sha256(text.as_bytes()) })
    }

    pub fn find(&self, san: &str) -> Option<&Arc<Identity>> {
        self.by_san.get(san)
    }

    pub fn tenant(&self, name: &str) -> Option<TenantId> {
        self.tenants.get(name).copied()
    }

    /// Every tenant's name and id, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = (&str, TenantId)> {
        self.tenants.iter().map(|(name, id)| (&**name, *id))
    }

    /// Every role that a client has or acts for, sorted; policy checks that it knows each of them.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|role| &**role)
    }

    /// Every listed client, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Identity>)> {
        self.by_san.iter().map(|(san, identity)| (&**san, identity))
    }

    /// As an error names a client: `{tenant}/{name}`.
    pub fn label(&self, identity: &Identity) -> String {
        let tenant = self.tenants.iter().find(|(_, id)| **id == identity.tenant);
        format!("{}/{}", tenant.map_or("", |(name, _)| name), identity.client)
    }

    /// SHA-256 of the file's bytes, lower-case hexadecimal.
    pub fn hash(&self) -> String {
        to_hex(&self.digest)
    }

    pub(super) const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

const WORD: &str = "use 1 to 48 lower-case letters, digits and hyphens, a letter first";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tenants: toml::Table,
    #[serde(default)]
    client: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    tenant: String,
    kind: ClientKind,
    san: String,
    roles: Vec<String>,
    #[serde(default)]
    acts_for: Vec<String>,
    #[serde(default)]
    key: KeyKeeping,
}

fn parse_tenants(table: toml::Table) -> Result<HashMap<Box<str>, TenantId>, IdentityError> {
    let mut ids = HashSet::new();
    let mut tenants = HashMap::with_capacity(table.len());
    for (name, value) in table {
        let refuse = |why| IdentityError::Tenant(name.clone(), why);
        word(&name).ok_or_else(|| refuse(WORD))?;
        let id = value.as_str().and_then(TenantId::parse);
        let id = id.ok_or_else(|| refuse("give it a uuid in lower case with hyphens"))?;
        if !ids.insert(id) {
            return Err(refuse("another tenant has this uuid"));
        }
        tenants.insert(name.into_boxed_str(), id);
    }
    Ok(tenants)
}

fn parse_roles(texts: &[String], known: &mut BTreeSet<Arc<str>>) -> Result<Arc<[Arc<str>]>, &'static str> {
    let mut roles = BTreeSet::new();
    for text in texts {
        let role = word(text).ok_or(WORD)?;
        // One allocation per role, however many clients have it.
        let role = known.get(&role).cloned().unwrap_or(role);
        known.insert(Arc::clone(&role));
        if !roles.insert(role) {
            return Err("it has a role twice");
        }
    }
    Ok(roles.into_iter().collect())
}

fn word(text: &str) -> Option<Arc<str>> {
    let mut bytes = text.bytes();
    let fits = text.len() <= 48
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    fits.then(|| text.into())
}

/// The name must say what the entry says, so that a slip of the pen cannot hand one tenant's certificate another
/// tenant's identity: `spiffe://{trust domain}/{kind}/{tenant}/{…}`.
fn check_san(entry: &Entry) -> Result<(), &'static str> {
    let path = spiffe_path(&entry.san).ok_or("its san must be a spiffe uri of at most 255 bytes")?;
    let kind = match entry.kind {
        ClientKind::App => "client",
        ClientKind::Auditor => "auditor",
        ClientKind::Custodian => "custodian",
        ClientKind::Operator => "operator",
    };
    let mut segments = path.split('/');
    if segments.next() != Some(kind) {
        return Err("its san must start with its kind: /client/, /auditor/, /custodian/ or /operator/");
    }
    if segments.next() != Some(entry.tenant.as_str()) {
        return Err("its san must name its tenant after its kind");
    }
    segments.next().map(|_| ()).ok_or("its san must end with a name of its own")
}

/// The path of a SPIFFE ID, without its first slash (SPIFFE-ID section 2: a lower-case trust domain, segments of
/// letters, digits, `.`, `-` and `_`, none empty or relative, no port, user, query or fragment).
fn spiffe_path(uri: &str) -> Option<&str> {
    let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    let domain_fits = !domain.is_empty()
        && domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b));
    let segment_fits = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    (uri.len() <= 255 && domain_fits && path.split('/').all(segment_fits)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../policy/identities.toml");
    const TENANTS: &str = "[tenants]\nnorth = \"0192f0c1-0000-7000-8000-000000000001\"\n";

    fn with_client(name: &str, kind: &str, san: &str, roles: &str) -> Result<Identities, IdentityError> {
        Identities::parse(&format!("{TENANTS}{}", client(name, kind, san, roles)))
    }

    fn client(name: &str, kind: &str, san: &str, roles: &str) -> String {
        format!(
            "[[client]]\nname = \"{name}\"\ntenant = \"north\"\nkind = \"{kind}\"\nsan = \"{san}\"\nroles = {roles}\n"
        )
    }

    #[test]
    fn the_file_in_the_repository_is_valid() {
        let identities = Identities::parse(FILE).unwrap();
        let portal = identities.find("spiffe://strongroom.internal/client/clinic-north/portal").unwrap();
        assert_eq!(&*portal.client, "portal");
        assert_eq!(portal.kind, ClientKind::App);
        assert_eq!(Some(portal.tenant), identities.tenant("clinic-north"));
        let south = identities.find("spiffe://strongroom.internal/client/clinic-south/portal").unwrap();
        assert_ne!(portal.tenant, south.tenant);
        assert!(identities.roles().any(|role| role == "clinician"));
        assert_eq!(identities.hash(), to_hex(&sha256(FILE.as_bytes())));
    }

    #[test]
    fn duplicates_are_refused() {
        let one = client("a", "app", "spiffe://x/client/north/a", "[\"r\"]");
        let same_san = client("b", "app", "spiffe://x/client/north/a", "[\"r\"]");
        let same_name = client("a", "app", "spiffe://x/client/north/b", "[\"r\"]");
        assert!(Identities::parse(&format!("{TENANTS}{one}")).is_ok());
        for other in [same_san, same_name] {
            assert!(matches!(
                Identities::parse(&format!("{TENANTS}{one}{other}")),
                Err(IdentityError::Client(..))
            ));
        }
        let twice = format!("{TENANTS}south = \"0192f0c1-0000-7000-8000-000000000001\"\n");
        assert!(matches!(Identities::parse(&twice), Err(IdentityError::Tenant(..))));
        assert!(with_client("a", "app", "spiffe://x/client/north/a", "[\"r\", \"r\"]").is_err());
    }

    #[test]
    fn unknown_keys_kinds_and_tenants_are_refused() {
        assert!(Identities::parse(&format!("surprise = 1\n{TENANTS}")).is_err());
        let one = client("a", "app", "spiffe://x/client/north/a", "[\"r\"]");
        assert!(Identities::parse(&format!("{TENANTS}{one}surprise = 1\n")).is_err());
        assert!(with_client("a", "root", "spiffe://x/client/north/a", "[\"r\"]").is_err());
        assert!(Identities::parse(&format!("[tenants]\n{one}")).is_err());
    }

    #[test]
    fn names_are_spiffe_ids_that_agree_with_their_entry() {
        for (kind, san) in [
            ("app", "https://x/client/north/a"),
            ("app", "spiffe://x/client/north"),
            ("app", "spiffe://x/client/north/"),
            ("app", "spiffe://x/client/../a"),
            ("app", "spiffe://x/client/north/a?b"),
            ("app", "spiffe://x:1/client/north/a"),
            ("app", "spiffe://X/client/north/a"),
            ("app", "spiffe://x/client/south/a"),
            ("app", "spiffe://x/auditor/north/a"),
            ("auditor", "spiffe://x/client/north/a"),
        ] {
            assert!(with_client("a", kind, san, "[\"r\"]").is_err(), "{san}");
        }
    }

    #[test]
    fn whom_a_client_acts_for_and_where_its_key_is() {
        let client = client("a", "app", "spiffe://x/client/north/a", "[\"r\"]");
        let with = |more: &str| Identities::parse(&format!("{TENANTS}{client}{more}"));
        let identities = with("acts_for = [\"patient\", \"clinician\"]\nkey = \"hardware\"\n").unwrap();
        let identity = identities.find("spiffe://x/client/north/a").unwrap();
        let acts_for: Vec<&str> = identity.acts_for.iter().map(|role| &**role).collect();
        assert_eq!((acts_for, identity.key), (vec!["clinician", "patient"], KeyKeeping::Hardware));
        // Policy must know them as it must know a client's own.
        assert_eq!(identities.roles().collect::<Vec<_>>(), ["clinician", "patient", "r"]);
        for bad in [
            "acts_for = [\"a\", \"a\"]",
            "acts_for = [\"A\"]",
            "acts_for = \"a\"",
            "key = \"token\"",
            "key = true",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn clients_have_plain_names_and_a_role() {
        let san = "spiffe://x/client/north/a";
        assert!(with_client("A", "app", san, "[\"r\"]").is_err());
        assert!(with_client("a", "app", san, "[]").is_err());
        assert!(with_client("a", "app", san, "[\"R\"]").is_err());
        let identities = with_client("a", "app", san, "[\"z\", \"b\"]").unwrap();
        let identity = identities.find(san).unwrap();
        let roles: Vec<&str> = identity.roles.iter().map(|role| &**role).collect();
        assert_eq!(roles, ["b", "z"]);
        assert!(identity.acts_for.is_empty() && identity.key == KeyKeeping::File);
    }
}
