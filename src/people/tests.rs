//! Tokens against a table and key sets in a folder of their own, at a time of their own.

mod files;
mod keys;
mod rotation;
mod tokens;

#[path = "../../tests/it/support/tokens.rs"]
mod provider;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use provider::{Signer, key_set};
use serde_json::{Value, json};

use super::{Known, People, PeopleError, Refusal, TokenFault};
use crate::domain::actor::{CertificateFacts, ClientKind, Identity, KeyKeeping};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::TenantId;
use crate::domain::person::Person;

const NORTH: &str = "0197a000-0000-7000-8000-00000000c001";
const SOUTH: &str = "0197a000-0000-7000-8000-00000000c002";
const SUBJECT: &str = "0197a000-0000-7000-8000-0000000000d1";
/// In seconds.
const NOW: i64 = 1_790_000_000;

/// Made once: RSA keys take a while.
static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::new("RS256", "rsa"));
static P256: LazyLock<Signer> = LazyLock::new(|| Signer::new("ES256", "p256"));
static ED25519: LazyLock<Signer> = LazyLock::new(|| Signer::new("EdDSA", "ed25519"));

/// A clock that stands until it is set.
struct Standing(AtomicI64);

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed) * 1_000_000)
    }
}

/// `people.toml` and a key file, in a folder that goes with this value.
struct Scene {
    folder: PathBuf,
    people: People,
    clock: Standing,
}

impl Scene {
    /// The usual issuer with one of each key.
    fn new() -> Self {
        Self::with(&issuer(""))
    }

    fn with(text: &str) -> Self {
        let folder = folder();
        std::fs::write(folder.join("keys.json"), key_set(&[&RSA, &P256, &ED25519])).unwrap();
        std::fs::write(folder.join("people.toml"), text).unwrap();
        let clock = Standing(AtomicI64::new(NOW));
        let people = open(&folder, clock.now()).unwrap();
        Self { folder, people, clock }
    }

    fn set_keys(&self, signers: &[&Signer]) {
        std::fs::write(self.folder.join("keys.json"), key_set(signers)).unwrap();
    }

    fn set_time(&self, seconds: i64) {
        self.clock.0.store(seconds, Ordering::Relaxed);
    }

    /// As a client of clinic-north that may act for people.
    async fn judge(&self, token: &str) -> Result<Arc<Person>, Refusal> {
        self.judge_from(token, &identity(NORTH, &["clinician"]), &certificate()).await
    }

    /// While somebody sees to it that keys are fetched when they are asked for.
    async fn judge_from(
        &self,
        token: &str,
        identity: &Identity,
        certificate: &CertificateFacts,
    ) -> Result<Arc<Person>, Refusal> {
        let fetch = async {
            for source in self.people.sources() {
                source.wanted().await;
                // How it ended is what the judgement goes by.
                let _ = self.people.fetch_keys(&source, &self.clock).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            judged = self.people.authenticate(token, identity, certificate, &self.clock) => judged,
            () = fetch => unreachable!("it does not end"),
        }
    }

    fn remembered(&self) -> usize {
        self.people.in_force.load().verified.len()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn folder() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("strongroom-people-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn open(folder: &std::path::Path, now: Timestamp) -> Result<People, PeopleError> {
    known(|known| People::open(folder.join("people.toml"), known, now))
}

/// What the shipped identities and policy would say.
fn known<T>(ask: impl FnOnce(&Known<'_>) -> T) -> T {
    let tenant = |name: &str| match name {
        "clinic-north" => TenantId::parse(NORTH),
        "clinic-south" => TenantId::parse(SOUTH),
        _ => None,
    };
    ask(&Known {
        tenant: &tenant,
        has_role: &|role| ["clinician", "patient"].contains(&role),
        has_department: &|name| ["cardiology", "emergency"].contains(&name),
    })
}

/// An issuer of clinic-north; `more` goes before its roles.
fn issuer(more: &str) -> String {
    format!(
        "[[issuer]]\nname = \"staff\"\ntenant = \"clinic-north\"\nissuer = \"https://login.test/staff\"\n\
         audience = [\"strongroom\", \"vault\"]\nalgorithms = [\"RS256\", \"ES256\", \"EdDSA\"]\n\
         jwks_file = \"keys.json\"\nroles_claim = \"roles\"\ndepartment_claim = \"department\"\n\
         care_teams_claim = \"/clinic/teams\"\nsubject_claim = \"https://login.test/subject\"\n{more}\n\
         [issuer.roles]\ndoctor = \"clinician\"\nnurse = \"clinician\"\npatient = \"patient\"\n\
         [issuer.departments]\n\"Heart (2 West)\" = \"cardiology\"\nED = \"emergency\"\n"
    )
}

/// The claims of a good token, ten minutes long, with these changed; `null` takes one away.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://login.test/staff", "aud": "strongroom", "sub": "p-4711", "iat": NOW - 60, "exp": NOW + 540,
        "roles": ["doctor", "porter"],
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn identity(tenant: &str, acts_for: &[&str]) -> Identity {
    Identity {
        client: "portal".into(),
        kind: ClientKind::App,
        tenant: TenantId::parse(tenant).unwrap(),
        roles: Arc::from([Arc::from("portal")]),
        acts_for: acts_for.iter().map(|role| Arc::from(*role)).collect(),
        key: KeyKeeping::File,
    }
}

fn certificate() -> CertificateFacts {
    CertificateFacts {
        san: "spiffe://test/client/clinic-north/portal".into(),
        issuer_sha256: String::new(),
        serial: String::new(),
        not_after: Timestamp::from_micros(0),
        sha256: "0123456789abcdef".repeat(4),
    }
}

const INVALID: Refusal = Refusal::Token(TokenFault::Invalid);
const EXPIRED: Refusal = Refusal::Token(TokenFault::Expired);
const NOT_BOUND: Refusal = Refusal::Token(TokenFault::NotBound);
