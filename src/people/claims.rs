//! What a token says, once its signature holds: is it for us, is it in time, whose certificate is it for, who is it about.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::Value;

use super::file::{Binding, Issuer};
use crate::domain::actor::CertificateFacts;
use crate::domain::care_team::{self, MOST_CARE_TEAMS};
use crate::domain::clock::Timestamp;
use crate::domain::id::SubjectId;
use crate::domain::person::Person;

/// OpenID Connect Core section 2: a `sub` has at most 255 ASCII characters.
const LONGEST_ID: usize = 255;
const LONGEST_WORD: usize = 128;
/// Years later than 9999 are no times (and no overflow).
const LAST_SECOND: i64 = 253_402_300_799;

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("the token is not one that is believed here")]
    Invalid,
    #[error("the token has expired")]
    Expired,
    #[error("the token is bound to another certificate, or to none")]
    NotBound,
}

/// What a verified token said, as far as it does not depend on who sends it and when.
#[derive(Debug)]
pub(super) struct Verified {
    pub person: Arc<Person>,
    from: Timestamp,
    until: Timestamp,
    /// SHA-256 of the certificate that the token is bound to.
    certificate: Option<[u8; 32]>,
    must_be_bound: bool,
}

impl Verified {
    /// Reads the claims of a token that `issuer` signed.
    pub fn read(claims: &Value, issuer: &Issuer) -> Result<Self, TokenFault> {
        if claims.get("iss").and_then(Value::as_str) != Some(&*issuer.iss) {
            return Err(TokenFault::Invalid);
        }
        let audience = texts(claims.get("aud"))?;
        if !audience.iter().any(|meant| issuer.audience.iter().any(|ours| **ours == **meant)) {
            return Err(TokenFault::Invalid);
        }
        let begin = time(claims, "iat")?.ok_or(TokenFault::Invalid)?;
        let end = time(claims, "exp")?.ok_or(TokenFault::Invalid)?;
        // One that lives longer could be older than is allowed before it expires.
        if end <= begin || end - begin > issuer.max_age_seconds {
            return Err(TokenFault::Invalid);
        }
        let from = time(claims, "nbf")?.unwrap_or(begin).max(begin);
        let at = |seconds: i64| Timestamp::from_micros(0).plus_seconds(seconds);
        Ok(Self {
            person: Arc::new(person(claims, issuer, at(end))?),
            from: at(from - issuer.leeway_seconds),
            until: at(end + issuer.leeway_seconds),
            certificate: confirmation(claims)?,
            must_be_bound: issuer.binding == Binding::Required,
        })
    }

    /// Whether it is good now, from the client with this certificate.
    pub fn check(&self, certificate: &CertificateFacts, now: Timestamp) -> Result<(), TokenFault> {
        if now >= self.until {
            return Err(TokenFault::Expired);
        }
        if now < self.from {
            return Err(TokenFault::Invalid);
        }
        match &self.certificate {
            Some(bound) if is_digest(&certificate.sha256, bound) => Ok(()),
            None if !self.must_be_bound => Ok(()),
            Some(_) | None => Err(TokenFault::NotBound),
        }
    }
}

fn person(claims: &Value, issuer: &Issuer, expires_at: Timestamp) -> Result<Person, TokenFault> {
    let names = &issuer.claims;
    let id = claims.get("sub").and_then(Value::as_str).ok_or(TokenFault::Invalid)?;
    if !(1..=LONGEST_ID).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenFault::Invalid);
    }
    let said = match names.roles.find(claims) {
        // As in `scope` (RFC 6749 section 3.3).
        Some(Value::String(words)) => words.split(' ').collect(),
        other => texts(other)?,
    };
    let roles: BTreeSet<&Arc<str>> = said.iter().filter_map(|value| issuer.roles.get(*value)).collect();
    let department = match names.department.as_ref().and_then(|name| name.find(claims)) {
        Some(value) => {
            let said = value.as_str().filter(|said| is_word(said)).ok_or(TokenFault::Invalid)?;
            issuer.departments.get(said).cloned()
        }
        None => None,
    };
    let subject = match names.subject.as_ref().and_then(|name| name.find(claims)) {
        Some(value) => Some(value.as_str().and_then(SubjectId::parse).ok_or(TokenFault::Invalid)?),
        None => None,
    };
    let amr = texts(claims.get("amr"))?;
    Ok(Person {
        issuer: Arc::clone(&issuer.name),
        id: id.into(),
        roles: roles.into_iter().cloned().collect(),
        department,
        care_teams: care_teams(names.care_teams.as_ref().and_then(|name| name.find(claims)))?,
        subject,
        has_second_factor: issuer.factors.are_met_by(&amr),
        expires_at,
    })
}

fn care_teams(claim: Option<&Value>) -> Result<Arc<[Arc<str>]>, TokenFault> {
    let named = texts(claim)?;
    if named.len() > MOST_CARE_TEAMS {
        return Err(TokenFault::Invalid);
    }
    if !named.iter().all(|name| care_team::is_name(name)) {
        return Err(TokenFault::Invalid);
    }
    let teams: BTreeSet<&str> = named.into_iter().collect();
    Ok(teams.into_iter().map(Arc::from).collect())
}

/// A text, or an array of texts; none where the claim is missing.
fn texts(claim: Option<&Value>) -> Result<Vec<&str>, TokenFault> {
    match claim {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(values)) => {
            values.iter().map(|value| value.as_str().ok_or(TokenFault::Invalid)).collect()
        }
        Some(_) => Err(TokenFault::Invalid),
    }
}

fn is_word(text: &str) -> bool {
    (1..=LONGEST_WORD).contains(&text.len()) && !text.contains(char::is_control)
}

/// A time of RFC 7519 section 2, in whole seconds.
fn time(claims: &Value, name: &str) -> Result<Option<i64>, TokenFault> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    let seconds = claim.as_i64().filter(|seconds| (0..=LAST_SECOND).contains(seconds));
    seconds.map(Some).ok_or(TokenFault::Invalid)
}

/// The certificate in `cnf` (RFC 8705 section 3.1). A token that is bound to something else as well, a key of `DPoP` say,
/// is bound to what is not looked at here.
fn confirmation(claims: &Value) -> Result<Option<[u8; 32]>, TokenFault> {
    let Some(claim) = claims.get("cnf") else { return Ok(None) };
    let members = claim.as_object().ok_or(TokenFault::Invalid)?;
    let thumbprint = members.get("x5t#S256").and_then(Value::as_str).filter(|_| members.len() == 1);
    let thumbprint = thumbprint.ok_or(TokenFault::NotBound)?;
    let mut digest = [0; 32];
    match Base64UrlUnpadded::decode(thumbprint, &mut digest) {
        Ok(bytes) if bytes.len() == 32 => Ok(Some(digest)),
        _ => Err(TokenFault::NotBound),
    }
}

/// Whether `hex`, lower case, is this digest. Neither is a secret.
fn is_digest(hex: &str, digest: &[u8; 32]) -> bool {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    hex.bytes().eq(digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]))
}
