//! Key sets (RFC 7517): the public keys that an issuer signs with, each good for one algorithm.

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::digest::{Context, SHA256};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::file::Algorithm;

/// A set of more keys is nobody's whose tokens are believed here.
const MOST_KEYS: usize = 64;
const SMALLEST_MODULUS_BITS: usize = 2_048;
const LARGEST_MODULUS_BITS: usize = 8_192;
const LONGEST_KEY_ID: usize = 255;

/// Why a key set is refused, whole. Nothing of it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetFault {
    #[error("it is not a json object with an array of keys (RFC 7517)")]
    Shape,
    #[error("it holds more than {MOST_KEYS} keys")]
    TooMany,
}

/// A key that is left out of the set it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgnoredKey {
    /// Its place in the set, from 0.
    pub place: usize,
    pub why: &'static str,
}

/// An issuer's usable keys.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    sha256: [u8; 32],
}

#[derive(Debug)]
struct Key {
    id: Option<Box<str>>,
    public: Public,
}

/// A public key; its type is its algorithm, so that no header can have it used for another.
#[derive(Debug)]
enum Public {
    Rsa {
        n: Box<[u8]>,
        e: Box<[u8]>,
    },
    /// An uncompressed point: 4, x, y.
    P256(Box<[u8]>),
    Ed25519(Box<[u8]>),
}

impl KeySet {
    /// Reads a set. A key that cannot be used for one of `algorithms` is left out and named; a set that is none is refused.
    pub fn parse(bytes: &[u8], algorithms: &[Algorithm]) -> Result<(Self, Vec<IgnoredKey>), KeySetFault> {
        let listed: Listed = serde_json::from_slice(bytes).map_err(|_| KeySetFault::Shape)?;
        if listed.keys.len() > MOST_KEYS {
            return Err(KeySetFault::TooMany);
        }
        let (mut keys, mut ignored) = (Vec::new(), Vec::new());
        for (place, value) in listed.keys.into_iter().enumerate() {
            match read(value, algorithms) {
                Ok(key) => keys.push(key),
                Err(why) => ignored.push(IgnoredKey { place, why }),
            }
        }
        let sha256 = digest_of(&keys);
        Ok((Self { keys, sha256 }, ignored))
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// SHA-256 over the usable keys, whatever their order and spelling.
    pub const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The one key that a header means: by its id, or, where it names none, the only one of that algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Found<'_>, NotFound> {
        let of_algorithm = |key: &&Key| key.public.algorithm() == algorithm;
        let Some(id) = id else {
            let mut fitting = self.keys.iter().filter(of_algorithm);
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(Found(&key.public)),
                _ => Err(NotFound::Unusable),
            };
        };
        let mut named = self.keys.iter().filter(|key| key.id.as_deref() == Some(id)).peekable();
        if named.peek().is_none() {
            return Err(NotFound::Unknown);
        }
        named.find(of_algorithm).map(|key| Found(&key.public)).ok_or(NotFound::Unusable)
    }
}

/// Why there is no key for a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotFound {
    /// The set has no key of that id: it may be newer than the set.
    Unknown,
    /// The key of that id is for another algorithm; or no id was given and it is not clear which key is meant.
    Unusable,
}

/// A key that fits the header it was looked for by.
#[derive(Debug)]
pub(super) struct Found<'a>(&'a Public);

impl Found<'_> {
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.0 {
            Public::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Public::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Public::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        }
        .is_ok()
    }
}

impl Public {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::RS256,
            Self::P256(_) => Algorithm::ES256,
            Self::Ed25519(_) => Algorithm::EdDSA,
        }
    }
}

#[derive(Deserialize)]
struct Listed {
    keys: Vec<Value>,
}

/// The members that matter (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2); others are passed over.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
}

fn read(value: Value, algorithms: &[Algorithm]) -> Result<Key, &'static str> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "it is not a key in the form of RFC 7517")?;
    if jwk.d.is_some() {
        return Err(
            "it is a private key: the issuer must replace it, whoever fetched the set can sign with it",
        );
    }
    if jwk.r#use.as_deref().is_some_and(|purpose| purpose != "sig") {
        return Err("its use is not sig");
    }
    if jwk.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|word| word == "verify")) {
        return Err("its key_ops do not hold verify");
    }
    if jwk.kid.as_ref().is_some_and(|id| id.is_empty() || id.len() > LONGEST_KEY_ID) {
        return Err("its kid is empty or too long");
    }
    let public = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => rsa(jwk.n.as_deref(), jwk.e.as_deref())?,
        ("EC", Some("P-256")) => p256(jwk.x.as_deref(), jwk.y.as_deref())?,
        ("OKP", Some("Ed25519")) => Public::Ed25519(exactly::<32>(jwk.x.as_deref())?.to_vec().into()),
        _ => return Err("its kty or crv is of no algorithm that is known here"),
    };
    if jwk.alg.as_deref().is_some_and(|word| word != public.algorithm().as_str()) {
        return Err("its alg is another than its type is used for here");
    }
    if !algorithms.contains(&public.algorithm()) {
        return Err("its algorithm is not among those of the issuer");
    }
    Ok(Key { id: jwk.kid.map(String::into_boxed_str), public })
}

fn rsa(modulus: Option<&str>, exponent: Option<&str>) -> Result<Public, &'static str> {
    let n = number(modulus)?;
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(SMALLEST_MODULUS_BITS..=LARGEST_MODULUS_BITS).contains(&bits) {
        return Err("its modulus is not of 2048 to 8192 bits");
    }
    let e = number(exponent)?;
    let is_odd = e.last().is_some_and(|last| last % 2 == 1);
    if !is_odd || *e == [1] || e.len() > 4 {
        return Err("its exponent is not one that RSA keys have");
    }
    Ok(Public::Rsa { n, e })
}

fn p256(x: Option<&str>, y: Option<&str>) -> Result<Public, &'static str> {
    let (x, y) = (exactly::<32>(x)?, exactly::<32>(y)?);
    Ok(Public::P256([&[4][..], &x, &y].concat().into()))
}

/// An unsigned number (RFC 7518 section 2), without the leading zeros that some send.
fn number(text: Option<&str>) -> Result<Box<[u8]>, &'static str> {
    let bytes = text.and_then(|text| Base64UrlUnpadded::decode_vec(text).ok()).ok_or(NO_NUMBER)?;
    let start = bytes.iter().position(|byte| *byte != 0).ok_or(NO_NUMBER)?;
    Ok(bytes.get(start..).ok_or(NO_NUMBER)?.into())
}

fn exactly<const N: usize>(text: Option<&str>) -> Result<[u8; N], &'static str> {
    let mut bytes = [0; N];
    let read = text.and_then(|text| Base64UrlUnpadded::decode(text, &mut bytes).ok().map(<[u8]>::len));
    if read == Some(N) { Ok(bytes) } else { Err(NO_NUMBER) }
}

const NO_NUMBER: &str = "a number of it is missing, or not in base64url of the right length";

/// Over algorithm, id and key of each, length-prefixed, in the order of these.
fn digest_of(keys: &[Key]) -> [u8; 32] {
    let mut rows: Vec<Vec<u8>> = keys.iter().map(row).collect();
    rows.sort();
    sha256(&rows.concat())
}

fn row(key: &Key) -> Vec<u8> {
    let (id, word) = (key.id.as_deref().unwrap_or_default(), key.public.algorithm().as_str());
    let (first, second): (&[u8], &[u8]) = match &key.public {
        Public::Rsa { n, e } => (n, e),
        Public::P256(point) => (point, &[]),
        Public::Ed25519(key) => (key, &[]),
    };
    let mut row = Vec::new();
    for part in [word.as_bytes(), id.as_bytes(), first, second] {
        row.extend_from_slice(&(part.len() as u64).to_be_bytes());
        row.extend_from_slice(part);
    }
    row
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
