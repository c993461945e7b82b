//! A token as text (RFC 7515 section 3.1, RFC 7519): taken apart strictly, and believed in nothing yet.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::file::Algorithm;

/// What a signed token may be. Others (`logout+jwt`, `secevent+jwt`, `dpop+jwt` …) are signed by the same keys and are no
/// word that their person is asking (RFC 8725 section 3.11).
const TYPES: [&str; 4] = ["jwt", "application/jwt", "at+jwt", "application/at+jwt"];

/// A token taken apart. Nothing of it is verified.
#[derive(Debug)]
pub struct Token<'a> {
    /// What the signature is over.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) claims: Value,
}

/// The parameters that matter. `jku`, `jwk`, `x5u` and `x5c`, by which a token would bring its own key, are passed over
/// like any unknown one.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'a> Token<'a> {
    /// The longest token that is looked at.
    pub const LONGEST_BYTES: usize = 8_192;

    /// `None` for anything but a token in compact form, signed in one of the three algorithms, of a known type, without
    /// extensions that its reader must understand.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > Self::LONGEST_BYTES {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        let is_known = |kind: &str| TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known));
        if header.crit.is_some() || !header.typ.as_deref().is_none_or(is_known) {
            return None;
        }
        let claims: Value = serde_json::from_slice(&decode(claims)?).ok()?;
        claims.is_object().then_some(())?;
        Some(Self {
            signed: signed.as_bytes(),
            signature: decode(signature)?,
            algorithm: Algorithm::parse(&header.alg)?,
            key_id: header.kid,
            claims,
        })
    }

    /// Who claims to have signed it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

/// Base64url without padding, in its one spelling; never empty. A further full stop is no letter of it.
fn decode(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return None;
    }
    Base64UrlUnpadded::decode_vec(text).ok()
}
