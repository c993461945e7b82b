//! A service with a client that may do nothing by itself, and the people it acts for.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Method, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use strongroom::devstack::ClientFiles;

use super::samples::small_patient;
use super::tokens::{Signer, encode, key_set};
use super::{Client, ServiceOptions, Strongroom};

pub const ISSUER: &str = "https://login.clinic-north.test/staff";
const KIOSK: &str = "spiffe://strongroom.internal/client/clinic-north/kiosk";

/// The client `kiosk` has a role without a single right; `porter` of an issuer's people is the role `visitor`, which reads
/// given names for treatment and may make patients.
pub struct Scene {
    pub strongroom: Strongroom,
    /// For treatment.
    pub kiosk: Client,
    pub files: ClientFiles,
    /// Of a patient.
    pub path: String,
}

impl Scene {
    /// With this `people.toml`; what it names is written by `prepare` into the same folder.
    pub async fn start(people: &str, prepare: impl FnOnce(&Path) + Send + 'static) -> Self {
        let people = people.to_owned();
        let change = move |folder: &Path| {
            prepare(folder);
            std::fs::write(folder.join("people.toml"), people).unwrap();
            add_roles_and_client(folder);
        };
        // So that a test sees whatever could ever be logged.
        let settings = vec![("STRONGROOM_LOG".to_owned(), "trace".to_owned())];
        let options = ServiceOptions { settings, policy: Some(Box::new(change)), ..Default::default() };
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let path = format!("/api/v1/patients/{}", portal.create_patient(small_patient()).await);
        let (kiosk, files) = strongroom.client_with("client", KIOSK).await;
        Self { kiosk: kiosk.with_purpose("TREAT"), strongroom, files, path }
    }

    /// With one issuer whose keys are in a file.
    pub async fn with_keys(signers: &[&Signer]) -> Self {
        let keys = key_set(signers);
        Self::start(&issuer("jwks_file = \"keys.json\""), move |folder| {
            std::fs::write(folder.join("keys.json"), keys).unwrap();
        })
        .await
    }

    /// Reads the patient, with this token.
    pub async fn read(&self, token: &str) -> Response {
        read(&self.kiosk, &self.path, token).await
    }

    /// SHA-256 of the kiosk's certificate, as a token is bound to it.
    pub fn thumbprint(&self) -> String {
        let leaf = CertificateDer::from_pem_file(&self.files.certificate).unwrap();
        encode(ring::digest::digest(&ring::digest::SHA256, &leaf).as_ref())
    }
}

pub async fn read(client: &Client, path: &str, token: &str) -> Response {
    let request = client.request(Method::GET, path).header("authorization", format!("Bearer {token}"));
    request.send().await.unwrap()
}

/// An issuer of clinic-north with these lines besides.
pub fn issuer(lines: &str) -> String {
    format!(
        "[[issuer]]\nname = \"staff\"\ntenant = \"clinic-north\"\nissuer = \"{ISSUER}\"\naudience = [\"strongroom\"]\n\
         algorithms = [\"RS256\", \"ES256\", \"EdDSA\"]\n{lines}\nleeway_seconds = 0\nroles_claim = \"roles\"\n\
         [issuer.roles]\nporter = \"visitor\"\n\n"
    )
}

/// Claims of a porter's token for the next five minutes, with these changed; `null` takes one away.
pub fn claims(changes: &Value) -> Value {
    let now = now();
    let mut claims = json!({
        "iss": ISSUER, "aud": "strongroom", "sub": "p-4711", "iat": now, "exp": now + 300, "roles": ["porter"],
        "amr": ["pwd", "otp"],
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

/// In seconds; tokens are signed by other clocks than the service's.
#[expect(clippy::disallowed_methods, reason = "the provider of the tests has a clock of its own")]
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn add_roles_and_client(folder: &Path) {
    let schema = folder.join("schema.cedarschema");
    let text = std::fs::read_to_string(&schema).unwrap();
    std::fs::write(&schema, text.replacen("\"portal\"", "\"portal\", \"doorway\", \"visitor\"", 1)).unwrap();
    let rules = "@id(\"visitor-reads-names\")\npermit (\n  principal in Role::\"visitor\",\n  \
         action == Action::\"read_plain\",\n  resource == Field::\"patients.given_name\"\n);\n\
         @id(\"visitor-makes-patients\")\npermit (\n  principal in Role::\"visitor\",\n  \
         action == Action::\"create\",\n  resource in Collection::\"patients\"\n);\n";
    std::fs::write(folder.join("visitor.cedar"), rules).unwrap();
    let identities = folder.join("identities.toml");
    let client = format!(
        "\n[[client]]\nname = \"kiosk\"\ntenant = \"clinic-north\"\nkind = \"app\"\nsan = \"{KIOSK}\"\n\
         roles = [\"doorway\"]\nacts_for = [\"visitor\"]\n"
    );
    let text = std::fs::read_to_string(&identities).unwrap();
    std::fs::write(&identities, text + &client).unwrap();
}
