//! Sets Vault up for Strongroom, with an administrator's token: keys, certificate authorities, policies, logins.
//!
//! Every step looks first and changes only what is missing or different, so running it again is safe, reports what it
//! found, and repairs what drifted. It never deletes, rotates or weakens anything: a key that exists but is not
//! configured as it must be is an error, because it may already have sealed data under wrong settings.
//!
//! Not here: initialising and unsealing Vault, its own audit devices, and the administrator's token itself.

mod administrator;
mod authority;
mod login;
mod roles;

use serde_json::{Value, json};

use self::administrator::Administrator;
use super::transit::{AUDIT_KEY, KEY_ENCRYPTION_KEYS, KeyConfiguration, TransitError};
use crate::config::VaultConfig;
use crate::domain::secret::SecretBytes;

pub use login::ServiceCredentials;

/// The service's name in Vault: its policy, its `AppRole`, its certificate login.
pub const SERVICE: &str = "strongroom-service";

const POLICIES: [(&str, &str); 3] = [
    (SERVICE, include_str!("../../../infra/vault/service.hcl")),
    ("strongroom-rewrapper", include_str!("../../../infra/vault/rewrapper.hcl")),
    ("strongroom-issuer", include_str!("../../../infra/vault/issuer.hcl")),
];

/// What is particular to one installation.
#[derive(Clone, Debug)]
pub struct BootstrapSettings {
    /// The trust domain of the URI names in certificates.
    pub trust_domain: String,
    /// DNS names that server certificates may carry, besides `localhost`.
    pub server_names: Vec<String>,
}

impl Default for BootstrapSettings {
    fn default() -> Self {
        let trust_domain = String::from("strongroom.internal");
        Self { server_names: vec![trust_domain.clone()], trust_domain }
    }
}

/// Whether a step had anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    Done,
    AlreadyThere,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub what: String,
    pub outcome: StepOutcome,
}

/// Set-up of one Vault.
pub struct Bootstrap {
    administrator: Administrator,
    config: VaultConfig,
    settings: BootstrapSettings,
}

impl Bootstrap {
    /// Prepares the set-up; asks nothing of Vault yet. `config.auth` is not used.
    pub fn new(
        config: &VaultConfig,
        administrator_token: SecretBytes,
        settings: BootstrapSettings,
    ) -> Result<Self, TransitError> {
        let administrator = Administrator::new(config, administrator_token)?;
        Ok(Self { administrator, config: config.clone(), settings })
    }

    /// Does all steps in order and stops at the first that fails; steps already done stay done, and the next run goes
    /// on from there.
    pub async fn run(&self) -> Result<Vec<Step>, TransitError> {
        let mut steps = Vec::new();
        self.set_up_transit(&mut steps).await?;
        self.set_up_authorities(&mut steps).await?;
        steps.push(self.administrator.mount_key_values(&self.config.credentials_mount).await?);
        self.set_up_policies(&mut steps).await?;
        self.set_up_logins(&mut steps).await?;
        Ok(steps)
    }

    async fn set_up_transit(&self, steps: &mut Vec<Step>) -> Result<(), TransitError> {
        let mount = &self.config.transit_mount;
        steps.push(self.administrator.mount_engine(mount, "transit", &json!({})).await?);
        for key in KEY_ENCRYPTION_KEYS {
            steps.push(self.transit_key(key, "aes256-gcm96", true).await?);
        }
        steps.push(self.transit_key(AUDIT_KEY, "ed25519", false).await?);
        Ok(())
    }

    async fn transit_key(&self, key: &'static str, kind: &str, derived: bool) -> Result<Step, TransitError> {
        let path = format!("{}/keys/{key}", self.config.transit_mount);
        let what = format!("transit key {key}");
        if let Some(found) = self.administrator.read::<KeyConfiguration>(&path).await? {
            return match found.fault(kind, derived) {
                Some(why) => Err(TransitError::UnsafeKey { key, why }),
                None => Ok(Step { what, outcome: StepOutcome::AlreadyThere }),
            };
        }
        let settings = json!({
            "type": kind, "derived": derived, "exportable": false, "allow_plaintext_backup": false,
        });
        self.administrator.write(&path, &settings).await?;
        Ok(Step { what, outcome: StepOutcome::Done })
    }

    async fn set_up_policies(&self, steps: &mut Vec<Step>) -> Result<(), TransitError> {
        for (name, text) in POLICIES {
            let text = with_mounts(text, &self.config);
            let path = format!("sys/policies/acl/{name}");
            let wanted = json!({ "policy": text });
            steps.push(self.administrator.settle(&format!("policy {name}"), &path, &wanted).await?);
        }
        Ok(())
    }
}

/// The policies are written for the default mounts; the configured ones are put in their place.
fn with_mounts(text: &str, config: &VaultConfig) -> String {
    let mounts = [
        ("path \"transit/", &config.transit_mount),
        ("path \"pki-root/", &config.pki_root_mount),
        ("path \"pki/", &config.pki_issuing_mount),
        ("path \"strongroom-relay/", &config.credentials_mount),
    ];
    let mut moved = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let found =
            mounts.iter().find_map(|(default, mount)| line.strip_prefix(default).map(|rest| (mount, rest)));
        match found {
            Some((mount, rest)) => moved.extend(["path \"", mount, "/", rest]),
            None => moved.push_str(line),
        }
    }
    moved
}

/// `base` with the keys of `changes` put over its own.
fn overlay(mut base: Value, changes: Value) -> Value {
    if let (Value::Object(base), Value::Object(changes)) = (&mut base, changes) {
        base.extend(changes);
    }
    base
}

/// Whether `found` says everything that `wanted` says. Vault answers durations in seconds, and adds keys of its own.
fn agrees(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| match found.get(key) {
                Some(there) => agrees(there, value),
                // An empty list and an absent one are the same to Vault.
                None => value.as_array().is_some_and(Vec::is_empty),
            })
        }
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (found, wanted) => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_put_in_their_place() {
        let mut config: VaultConfig = toml::from_str(
            "address = \"http://127.0.0.1:1\"\nauth = { method = \"approle\", role_id_file = \"a\", secret_id_file = \"b\" }",
        )
        .unwrap();
        let (_, service) = POLICIES[0];
        assert_eq!(with_mounts(service, &config), service);
        config.transit_mount = String::from("team/keys");
        config.pki_root_mount = String::from("r");
        config.pki_issuing_mount = String::from("i");
        config.credentials_mount = String::from("team/credentials");
        let moved = with_mounts(service, &config);
        for path in [
            "\"team/keys/decrypt/strongroom-phi\"",
            "\"r/crl\"",
            "\"i/crl\"",
            "\"team/credentials/data/*\"",
            "\"auth/token/renew-self\"",
        ] {
            assert!(moved.contains(path), "{path}");
        }
        for default in ["\"transit/", "\"pki", "\"strongroom-relay"] {
            assert!(!moved.contains(default), "{default}");
        }
    }

    #[test]
    fn no_policy_can_make_or_manage_a_key() {
        for (name, text) in POLICIES {
            for line in text.lines().filter(|line| line.starts_with("path")) {
                assert!(
                    !line.contains("create") && !line.contains("sudo") && !line.contains("delete"),
                    "{name}"
                );
                // Which credentials there are is policy's: it may read each, and do nothing else.
                let reads_credentials = name == SERVICE
                    && line == "path \"strongroom-relay/data/*\" { capabilities = [\"read\"] }";
                let is_exact = !line.contains('*') && !line.contains('+');
                assert!(is_exact || reads_credentials, "{name}: {line}");
                let manages = line.contains("/keys/") && !line.contains("[\"read\"]");
                assert!(
                    !manages && !line.contains("/export/") && !line.contains("/backup/"),
                    "{name}: {line}"
                );
            }
        }
    }

    #[test]
    fn agreement_ignores_what_vault_adds() {
        assert!(agrees(&json!({"a": 1, "b": 2, "list": null}), &json!({"a": 1, "list": [], "other": []})));
        assert!(!agrees(&json!({"a": 1}), &json!({"a": 2})));
        assert!(!agrees(&json!({}), &json!({"a": 1})));
        assert!(!agrees(&json!({"list": ["x"]}), &json!({"list": []})));
    }
}
