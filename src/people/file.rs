//! `policy/people.toml`: whose tokens are believed, for which tenant, and what their claims mean.
//!
//! Parsed strictly, whole or not at all. Whether tenants, roles and departments exist is for identities and policy to
//! say; they are asked through [`Known`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::factor::Factors;
use super::fetch::KeyPlace;
use crate::domain::id::TenantId;

/// Why a people file is refused. Messages name entries of the file, which people review and commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeopleError {
    #[error("cannot read the people file: {0}")]
    Read(std::io::ErrorKind),
    #[error("the people file is not valid: {0}")]
    Syntax(String),
    #[error("issuer {0}: {1}")]
    Issuer(String, &'static str),
    #[error("issuer {0}: the policy has no role {1}; add it there first or correct the name")]
    Role(String, String),
    #[error("issuer {0}: the policy has no department {1}; add it there first or correct the name")]
    Department(String, String),
    #[error("issuer {0}: its keys: {1}")]
    Keys(String, super::FetchFault),
}

/// How a token is signed; nothing else can be spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Algorithm {
    RS256,
    ES256,
    EdDSA,
}

impl Algorithm {
    /// The word in `alg` (RFC 7518 section 3.1, RFC 8037 section 3.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::RS256, Self::ES256, Self::EdDSA].into_iter().find(|algorithm| algorithm.as_str() == word)
    }
}

/// Whether a token must be bound to the client's certificate (RFC 8705 section 3). One that is bound to another is
/// refused either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    #[default]
    Honoured,
    Required,
}

/// What the file's words are compared with.
pub struct Known<'a> {
    pub tenant: &'a dyn Fn(&str) -> Option<TenantId>,
    pub has_role: &'a dyn Fn(&str) -> bool,
    pub has_department: &'a dyn Fn(&str) -> bool,
}

/// One identity provider.
#[derive(Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Short name, in entries of the audit log.
    pub name: Arc<str>,
    /// The one tenant that its people belong to.
    pub tenant: TenantId,
    /// What `iss` must be, to the letter.
    pub(super) iss: Box<str>,
    /// One of these must be in `aud`.
    pub(super) audience: Box<[Box<str>]>,
    pub(super) algorithms: Box<[Algorithm]>,
    pub(super) keys: KeyPlace,
    /// By how much clocks may differ.
    pub(super) leeway_seconds: i64,
    /// The longest life of a token.
    pub(super) max_age_seconds: i64,
    /// How often its keys are fetched.
    pub(super) refresh: Duration,
    /// How long keys are believed that could not be fetched again.
    pub(super) stale_seconds: i64,
    pub(super) binding: Binding,
    pub(super) factors: Factors,
    pub(super) claims: ClaimNames,
    /// What the claim says → a role of the policy.
    pub(super) roles: HashMap<Box<str>, Arc<str>>,
    /// What its claim says → a department of the policy.
    pub(super) departments: HashMap<Box<str>, Arc<str>>,
}

impl Issuer {
    /// Whether there are the roles and departments that it speaks of.
    pub(super) fn check_words(&self, known: &Known<'_>) -> Result<(), PeopleError> {
        if let Some(role) = self.roles.values().filter(|role| !(known.has_role)(role)).min() {
            return Err(PeopleError::Role(self.name.to_string(), role.to_string()));
        }
        let other = self.departments.values().filter(|name| !(known.has_department)(name)).min();
        other.map_or(Ok(()), |other| Err(PeopleError::Department(self.name.to_string(), other.to_string())))
    }
}

/// Where in a token's claims something stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClaimNames {
    pub roles: ClaimName,
    pub department: Option<ClaimName>,
    pub care_teams: Option<ClaimName>,
    pub subject: Option<ClaimName>,
}

/// A claim's name, or, where it begins with a slash, the way to a member within one (RFC 6901).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClaimName(Box<str>);

impl ClaimName {
    pub fn find<'a>(&self, claims: &'a serde_json::Value) -> Option<&'a serde_json::Value> {
        if self.0.starts_with('/') { claims.pointer(&self.0) } else { claims.get(&*self.0) }
    }
}

/// The file's text and its digest.
pub(super) fn read(path: &Path) -> Result<(String, [u8; 32]), PeopleError> {
    let text = std::fs::read_to_string(path).map_err(|error| PeopleError::Read(error.kind()))?;
    let sha256 = super::jwk::sha256(text.as_bytes());
    Ok((text, sha256))
}

/// Parses the text of a people file, whole or not at all; files that it names are in `folder`, and not looked at.
pub fn parse(text: &str, folder: &Path, known: &Known<'_>) -> Result<Vec<Issuer>, PeopleError> {
    let file: File = toml::from_str(text).map_err(|error| PeopleError::Syntax(error.message().to_owned()))?;
    let (mut names, mut issuers) = (HashSet::new(), HashSet::new());
    let mut all = Vec::with_capacity(file.issuer.len());
    for entry in file.issuer {
        let refuse = |why| Err(PeopleError::Issuer(entry.name.clone(), why));
        if !names.insert(entry.name.clone()) {
            return refuse("another issuer has this name");
        }
        // Or its people would belong to two tenants.
        if !issuers.insert(entry.issuer.clone()) {
            return refuse("another entry is about this issuer");
        }
        all.push(entry.check(folder, known)?);
    }
    Ok(all)
}

const WORD: &str = "use 1 to 48 lower-case letters, digits and hyphens for its name, a letter first";
const MOST_LEEWAY_SECONDS: u32 = 120;
const DAY_SECONDS: u32 = 86_400;
/// OpenID Connect Core section 2 has no bound for `iss`; a URL of this length is none that people review.
const LONGEST_TEXT: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issuer: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    tenant: String,
    issuer: String,
    audience: Vec<String>,
    algorithms: Vec<Algorithm>,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    roots_file: Option<PathBuf>,
    #[serde(default = "defaults::leeway_seconds")]
    leeway_seconds: u32,
    #[serde(default = "defaults::max_age_seconds")]
    max_age_seconds: u32,
    #[serde(default = "defaults::refresh_seconds")]
    refresh_seconds: u32,
    #[serde(default = "defaults::stale_seconds")]
    stale_seconds: u32,
    #[serde(default)]
    binding: Binding,
    second_factor: Option<Vec<String>>,
    roles_claim: String,
    department_claim: Option<String>,
    care_teams_claim: Option<String>,
    subject_claim: Option<String>,
    roles: BTreeMap<String, String>,
    #[serde(default)]
    departments: BTreeMap<String, String>,
}

impl Entry {
    fn check(self, folder: &Path, known: &Known<'_>) -> Result<Issuer, PeopleError> {
        let refuse = |why| PeopleError::Issuer(self.name.clone(), why);
        self.check_texts().and_then(|()| self.check_times()).map_err(refuse)?;
        let tenant =
            (known.tenant)(&self.tenant).ok_or_else(|| refuse("name a tenant of identities.toml"))?;
        let keys = self.key_place(folder).map_err(refuse)?;
        let optional = |claim: Option<&String>| claim.map(|name| claim_name(name)).transpose();
        let claims = ClaimNames {
            roles: claim_name(&self.roles_claim).map_err(refuse)?,
            department: optional(self.department_claim.as_ref()).map_err(refuse)?,
            care_teams: optional(self.care_teams_claim.as_ref()).map_err(refuse)?,
            subject: optional(self.subject_claim.as_ref()).map_err(refuse)?,
        };
        let issuer = Issuer {
            factors: Factors::new(self.second_factor.as_deref()).map_err(refuse)?,
            name: self.name.as_str().into(),
            tenant,
            keys,
            claims,
            iss: self.issuer.into_boxed_str(),
            audience: self.audience.into_iter().map(String::into_boxed_str).collect(),
            algorithms: self.algorithms.into_boxed_slice(),
            leeway_seconds: self.leeway_seconds.into(),
            max_age_seconds: self.max_age_seconds.into(),
            refresh: Duration::from_secs(self.refresh_seconds.into()),
            stale_seconds: self.stale_seconds.into(),
            binding: self.binding,
            roles: meanings(self.roles),
            departments: meanings(self.departments),
        };
        issuer.check_words(known)?;
        Ok(issuer)
    }

    fn check_texts(&self) -> Result<(), &'static str> {
        let fits = |text: &str| (1..=LONGEST_TEXT).contains(&text.len()) && !text.contains(char::is_control);
        if !is_word(&self.name) {
            return Err(WORD);
        }
        if !fits(&self.issuer) {
            return Err("give the issuer exactly as its tokens have it in `iss`");
        }
        if self.audience.is_empty() || !self.audience.iter().all(|audience| fits(audience)) {
            return Err("give the audience that its tokens for this service have in `aud`");
        }
        let distinct: HashSet<&Algorithm> = self.algorithms.iter().collect();
        if distinct.is_empty() || distinct.len() != self.algorithms.len() {
            return Err("list its algorithms, each once");
        }
        if self.roles.is_empty() || !self.roles.keys().all(|said| fits(said)) {
            return Err("say under [issuer.roles] what of its roles claim is which role of the policy");
        }
        let has_claim = self.department_claim.is_some();
        if has_claim == self.departments.is_empty() || !self.departments.keys().all(|said| fits(said)) {
            return Err(
                "name a department_claim, and say under [issuer.departments] what of it is which department of the policy",
            );
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), &'static str> {
        if self.leeway_seconds > MOST_LEEWAY_SECONDS {
            return Err("leeway_seconds is at most 120: let the clocks be set");
        }
        if !(60..=DAY_SECONDS).contains(&self.max_age_seconds) {
            return Err("max_age_seconds is 60 to 86400");
        }
        if !(1..=DAY_SECONDS).contains(&self.refresh_seconds) {
            return Err("refresh_seconds is 1 to 86400");
        }
        if !(self.refresh_seconds..=DAY_SECONDS).contains(&self.stale_seconds) {
            return Err("stale_seconds is refresh_seconds to 86400");
        }
        Ok(())
    }

    fn key_place(&self, folder: &Path) -> Result<KeyPlace, &'static str> {
        match (&self.jwks_file, &self.jwks_url, &self.roots_file) {
            (Some(file), None, None) if !file.as_os_str().is_empty() => Ok(KeyPlace::File(folder.join(file))),
            (None, Some(url), roots) => {
                let url = Url::parse(url).map_err(|_| "its jwks_url is no url")?;
                let roots = roots.as_ref().filter(|roots| !roots.as_os_str().is_empty());
                KeyPlace::at(url, roots.map(|roots| folder.join(roots)))
            }
            _ => Err("give it either a jwks_file, or a jwks_url with the roots_file of its certificate"),
        }
    }
}

fn meanings(table: BTreeMap<String, String>) -> HashMap<Box<str>, Arc<str>> {
    table.into_iter().map(|(said, meant)| (said.into_boxed_str(), meant.into())).collect()
}

fn claim_name(text: &str) -> Result<ClaimName, &'static str> {
    let fits = (1..=LONGEST_TEXT).contains(&text.len()) && !text.contains(char::is_control) && text != "/";
    fits.then(|| ClaimName(text.into())).ok_or("a claim's name is empty or too long")
}

fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 48
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

mod defaults {
    pub fn leeway_seconds() -> u32 {
        30
    }
    pub fn max_age_seconds() -> u32 {
        3_600
    }
    pub fn refresh_seconds() -> u32 {
        300
    }
    pub fn stale_seconds() -> u32 {
        3_600
    }
}
