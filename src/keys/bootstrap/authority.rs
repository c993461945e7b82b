//! The two certificate authorities: a root that signs one issuing CA, and the issuing CA that signs everything else.
//!
//! Both keys are made inside Vault and never leave it.

use serde::Deserialize;
use serde_json::json;

use super::{Bootstrap, Step, StepOutcome, roles};
use crate::keys::transit::TransitError;

const ROOT_LIFE_SECONDS: u64 = 10 * 365 * 86_400;
const ISSUING_LIFE_SECONDS: u64 = 3 * 365 * 86_400;
const ROOT_NAME: &str = "Strongroom Root CA";
const ISSUING_NAME: &str = "Strongroom Issuing CA";

#[derive(Deserialize)]
struct Request {
    csr: String,
}

#[derive(Deserialize)]
struct Signed {
    certificate: String,
    issuing_ca: String,
}

impl Bootstrap {
    pub(super) async fn set_up_authorities(&self, steps: &mut Vec<Step>) -> Result<(), TransitError> {
        let (root, issuing) = (&self.config.pki_root_mount, &self.config.pki_issuing_mount);
        let admin = &self.administrator;
        let root_life = json!({ "max_lease_ttl": format!("{ROOT_LIFE_SECONDS}s") });
        steps.push(admin.mount_engine(root, "pki", &root_life).await?);
        steps.push(self.crl_settings(root).await?);
        steps.push(self.root_authority(root).await?);
        let leaf_life = json!({ "max_lease_ttl": format!("{}s", roles::PERSON_LIFE_SECONDS) });
        steps.push(admin.mount_engine(issuing, "pki", &leaf_life).await?);
        steps.push(self.crl_settings(issuing).await?);
        steps.push(self.issuing_authority(root, issuing).await?);
        for (name, role) in roles::all(&self.settings.trust_domain, &self.settings.server_names) {
            let path = format!("{issuing}/roles/{name}");
            steps.push(admin.settle(&format!("certificate role {name}"), &path, &role).await?);
        }
        Ok(())
    }

    /// 24 hours, rebuilt 12 hours before its end. With `auto_rebuild`, publishing a revocation at once takes a call to
    /// `crl/rotate` (`Transit::revoke`); without it, a CRL without revocations would run out and close every door.
    async fn crl_settings(&self, mount: &str) -> Result<Step, TransitError> {
        let wanted = json!({
            "disable": false, "expiry": "24h", "auto_rebuild": true, "auto_rebuild_grace_period": "12h",
        });
        self.administrator.settle(&format!("CRL of {mount}"), &format!("{mount}/config/crl"), &wanted).await
    }

    async fn root_authority(&self, root: &str) -> Result<Step, TransitError> {
        let what = format!("root CA in {root}");
        if self.has_issuer(root).await? {
            return Ok(Step { what, outcome: StepOutcome::AlreadyThere });
        }
        let wanted = json!({
            "common_name": ROOT_NAME, "issuer_name": "root", "key_type": "ec", "key_bits": 256,
            "ttl": format!("{ROOT_LIFE_SECONDS}s"), "max_path_length": 1,
        });
        self.administrator.write(&format!("{root}/root/generate/internal"), &wanted).await?;
        Ok(Step { what, outcome: StepOutcome::Done })
    }

    async fn issuing_authority(&self, root: &str, issuing: &str) -> Result<Step, TransitError> {
        let what = format!("issuing CA in {issuing}");
        if self.has_issuer(issuing).await? {
            return Ok(Step { what, outcome: StepOutcome::AlreadyThere });
        }
        let admin = &self.administrator;
        let wanted = json!({ "common_name": ISSUING_NAME, "key_type": "ec", "key_bits": 256 });
        let request: Request =
            admin.write(&format!("{issuing}/intermediate/generate/internal"), &wanted).await?.data()?;
        let wanted = json!({
            "csr": request.csr, "common_name": ISSUING_NAME, "format": "pem", "max_path_length": 0,
            "ttl": format!("{ISSUING_LIFE_SECONDS}s"),
        });
        let signed: Signed = admin.write(&format!("{root}/root/sign-intermediate"), &wanted).await?.data()?;
        // With the root beside it, `ca_chain` is complete.
        let bundle = format!("{}\n{}\n", signed.certificate.trim_end(), signed.issuing_ca.trim_end());
        admin.write(&format!("{issuing}/intermediate/set-signed"), &json!({ "certificate": bundle })).await?;
        Ok(Step { what, outcome: StepOutcome::Done })
    }

    async fn has_issuer(&self, mount: &str) -> Result<bool, TransitError> {
        Ok(!self.administrator.list(&format!("{mount}/issuers")).await?.is_empty())
    }
}
