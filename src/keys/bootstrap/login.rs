//! How the service logs in: `AppRole`, or a client certificate of its own CA.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Bootstrap, SERVICE, Step, overlay};
use crate::domain::secret::SecretBytes;
use crate::keys::transit::TransitError;

const TOKEN_LIFE_SECONDS: u64 = 20 * 60;
const TOKEN_LONGEST_LIFE_SECONDS: u64 = 24 * 3_600;

/// What goes into the files that `vault.auth` names.
pub struct ServiceCredentials {
    pub role_id: String,
    pub secret_id: SecretBytes,
}

impl Bootstrap {
    pub(super) async fn set_up_logins(&self, steps: &mut Vec<Step>) -> Result<(), TransitError> {
        let admin = &self.administrator;
        steps.push(admin.mount_login("approle", "approle").await?);
        let role = overlay(token_settings(), json!({ "bind_secret_id": true }));
        let path = format!("auth/approle/role/{SERVICE}");
        steps.push(admin.settle(&format!("AppRole {SERVICE}"), &path, &role).await?);
        steps.push(admin.mount_login("cert", "cert").await?);
        let names = json!({
            "certificate": self.issuing_certificate().await?,
            "allowed_uri_sans": [format!("spiffe://{}/service", self.settings.trust_domain)],
        });
        let role = overlay(token_settings(), names);
        let path = format!("auth/cert/certs/{SERVICE}");
        steps.push(admin.settle(&format!("certificate login {SERVICE}"), &path, &role).await?);
        Ok(())
    }

    /// A new secret id for the service, beside those that exist. Each call makes another; the caller writes it to a
    /// file that only the service can read.
    pub async fn new_service_credentials(&self) -> Result<ServiceCredentials, TransitError> {
        #[derive(Deserialize)]
        struct Role {
            role_id: String,
        }
        #[derive(Deserialize)]
        struct Secret<'a> {
            secret_id: &'a str,
        }
        let base = format!("auth/approle/role/{SERVICE}");
        let role: Option<Role> = self.administrator.read(&format!("{base}/role-id")).await?;
        let role_id = role.ok_or(TransitError::Missing)?.role_id;
        let answer = self.administrator.write(&format!("{base}/secret-id"), &json!({})).await?;
        let secret: Secret = answer.data()?;
        Ok(ServiceCredentials { role_id, secret_id: SecretBytes::new(secret.secret_id.as_bytes().to_vec()) })
    }

    async fn issuing_certificate(&self) -> Result<String, TransitError> {
        #[derive(Deserialize)]
        struct Authority {
            certificate: String,
        }
        let path = format!("{}/cert/ca", self.config.pki_issuing_mount);
        let found: Option<Authority> = self.administrator.read(&path).await?;
        Ok(found.ok_or(TransitError::Missing)?.certificate)
    }
}

/// Short, renewable, and with nothing but the service's policy.
fn token_settings() -> Value {
    json!({
        "token_policies": [SERVICE],
        "token_no_default_policy": true,
        "token_ttl": TOKEN_LIFE_SECONDS,
        "token_max_ttl": TOKEN_LONGEST_LIFE_SECONDS,
        "token_type": "service",
    })
}
