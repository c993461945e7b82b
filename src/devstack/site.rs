//! An installation in a directory: configuration, secrets, certificates, Vault set up, databases migrated.
//!
//! What an operator does with `bootstrap`, `migrate` and `cert` in production, done in one go on loopback, by the same
//! functions. Not here: starting the parts (`stack`) or the service (`service`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::DevStackError;
use crate::config::{self, Config};
use crate::domain::id::TenantId;
use crate::domain::random::SystemRandom;
use crate::domain::secret::SecretBytes;
use crate::keys::bootstrap::{Bootstrap, BootstrapSettings, Step};
use crate::keys::{CertificateRequest, IssuedCertificate, PkiMount, Transit};
use crate::storage::migrate::migrate_all;

/// Certificates of a development site are short-lived; every start issues new ones.
const LIFE_SECONDS: u64 = 7 * 86_400;

/// A PostgreSQL server and who administers it.
#[derive(Clone, Debug)]
pub struct ServerAddress {
    pub port: u16,
    pub administrator: String,
    pub password_file: PathBuf,
}

/// Where the parts are and what the site is called.
pub struct SitePlan {
    /// Holds `strongroom.toml`, `secrets/`, `tls/`, `crl/`, and `log/` once it is served; made if missing. Absolute.
    pub directory: PathBuf,
    pub policy_directory: PathBuf,
    pub data: ServerAddress,
    pub keys: ServerAddress,
    /// Names of the two databases.
    pub databases: [String; 2],
    pub vault_address: String,
    pub vault_token: SecretBytes,
    pub listen: SocketAddr,
}

/// A site that is ready to be served.
pub struct Site {
    pub directory: PathBuf,
    pub config_file: PathBuf,
    pub config: Config,
    /// What setting Vault up did.
    pub steps: Vec<Step>,
    /// What migrating did, by database; nothing where the schema was current.
    pub migrations: [(&'static str, Vec<String>); 2],
    transit: Transit,
}

/// A client's certificate and key on disk, and the serial number to revoke it by.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    pub serial: String,
}

impl Site {
    /// Builds or repairs the site. Safe to repeat: secrets that exist are kept, certificates are issued anew.
    pub async fn build(plan: SitePlan, mut progress: impl FnMut(&str)) -> Result<Self, DevStackError> {
        for folder in ["secrets", "tls", "crl"] {
            std::fs::create_dir_all(plan.directory.join(folder)).map_err(|error| site_files(&error))?;
        }
        write_passwords(&plan.directory)?;
        let config_file = plan.directory.join("strongroom.toml");
        write_private(&config_file, config_text(&plan).as_bytes())?;
        let config = config::load(&config_file).map_err(|error| DevStackError::Site(error.to_string()))?;
        progress("setting Vault up");
        let (transit, steps) = set_up_vault(&plan, &config).await?;
        progress("migrating the databases");
        let administrators = [&plan.data, &plan.keys]
            .map(|server| (server.administrator.as_str(), server.password_file.as_path()));
        let migrations = migrate_all(&config.database, administrators, |_| {})
            .await
            .map_err(|error| DevStackError::Site(error.to_string()))?;
        let site = Self { directory: plan.directory, config_file, config, steps, migrations, transit };
        progress("issuing certificates");
        site.issue_server().await?;
        Ok(site)
    }

    /// Issues a certificate for a URI name, as `tls/{name}.pem` and `.key`. `role` is one of Vault's certificate roles.
    pub async fn issue(
        &self,
        name: &str,
        role: &'static str,
        uri: &str,
    ) -> Result<ClientFiles, DevStackError> {
        self.issue_for(name, role, uri, LIFE_SECONDS).await
    }

    /// As [`Self::issue`], for so long.
    pub async fn issue_for(
        &self,
        name: &str,
        role: &'static str,
        uri: &str,
        life_seconds: u64,
    ) -> Result<ClientFiles, DevStackError> {
        let request =
            CertificateRequest { role, uri: Some(uri.to_owned()), life_seconds, ..Default::default() };
        let issued = self.transit.issue(&request).await.map_err(|error| site_vault(&error))?;
        self.write_certificate(name, &issued)
    }

    /// Issues one for every client of `policy/identities.toml`, named `{tenant}-{client}`.
    pub async fn issue_all(&self) -> Result<Vec<(String, ClientFiles)>, DevStackError> {
        let identities = crate::tls::Identities::load(&self.config.policy.directory.join("identities.toml"))
            .map_err(|error| DevStackError::Site(error.to_string()))?;
        let tenant_name = |id: TenantId| {
            identities
                .tenants()
                .find(|(_, other)| *other == id)
                .map_or("unknown", |(name, _)| name)
                .to_owned()
        };
        let mut all = Vec::new();
        for (san, identity) in identities.iter() {
            let name = format!("{}-{}", tenant_name(identity.tenant), identity.client);
            let role = match identity.kind {
                crate::domain::actor::ClientKind::App => "client",
                crate::domain::actor::ClientKind::Auditor => "auditor",
                crate::domain::actor::ClientKind::Custodian => "custodian",
                crate::domain::actor::ClientKind::Operator => "operator",
            };
            let files = self.issue(&name, role, san).await?;
            all.push((name, files));
        }
        all.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(all)
    }

    /// Revokes a certificate; the service hears of it at its next refresh of the lists.
    pub async fn revoke(&self, serial: &str) -> Result<(), DevStackError> {
        self.transit.revoke(serial).await.map_err(|error| site_vault(&error))
    }

    /// The roots that the server's certificate chains to, for clients.
    pub fn roots_file(&self) -> &Path {
        &self.config.server.client_roots_file
    }

    async fn issue_server(&self) -> Result<(), DevStackError> {
        let request = CertificateRequest {
            role: "server",
            dns_names: vec![String::from("localhost")],
            ip_addresses: vec![self.config.server.listen.ip()],
            life_seconds: LIFE_SECONDS,
            ..Default::default()
        };
        let issued = self.transit.issue(&request).await.map_err(|error| site_vault(&error))?;
        self.write_certificate("server", &issued)?;
        let root = self.transit.ca_certificate(PkiMount::Root).await.map_err(|error| site_vault(&error))?;
        write_private(&self.config.server.client_roots_file, root.as_bytes())
    }

    fn write_certificate(
        &self,
        name: &str,
        issued: &IssuedCertificate,
    ) -> Result<ClientFiles, DevStackError> {
        let certificate = self.directory.join("tls").join(format!("{name}.pem"));
        let private_key = certificate.with_extension("key");
        #[expect(
            clippy::disallowed_methods,
            reason = "a new private key goes to its owner's file and nowhere else"
        )]
        write_private(&private_key, issued.private_key_pem.expose())?;
        write_private(&certificate, issued.chain_pem.as_bytes())?;
        Ok(ClientFiles { certificate, private_key, serial: issued.serial.clone() })
    }
}

async fn set_up_vault(plan: &SitePlan, config: &Config) -> Result<(Transit, Vec<Step>), DevStackError> {
    let random: crate::domain::random::SharedRandom = Arc::new(SystemRandom::default());
    #[expect(clippy::disallowed_methods, reason = "the administrator's token is used by two clients")]
    let token = || SecretBytes::new(plan.vault_token.expose().to_vec());
    let bootstrap = Bootstrap::new(&config.vault, token(), BootstrapSettings::default())
        .map_err(|error| site_vault(&error))?;
    let steps = bootstrap.run().await.map_err(|error| site_vault(&error))?;
    let (role_id, secret_id) =
        (plan.directory.join("secrets/role-id"), plan.directory.join("secrets/secret-id"));
    if !secret_id.is_file() {
        let credentials = bootstrap.new_service_credentials().await.map_err(|error| site_vault(&error))?;
        write_private(&role_id, credentials.role_id.as_bytes())?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the secret id goes to the service's file and nowhere else"
        )]
        write_private(&secret_id, credentials.secret_id.expose())?;
    }
    let transit = Transit::with_token(&config.vault, &config.environment, token(), random)
        .map_err(|error| site_vault(&error))?;
    Ok((transit, steps))
}

fn config_text(plan: &SitePlan) -> String {
    let [data, keys] = &plan.databases;
    let policy = plan.policy_directory.display();
    let database = |section: &str, port: u16, name: &str, user: &str, password: &str| {
        format!(
            "[database.{section}]\nhost = \"127.0.0.1\"\nport = {port}\nname = \"{name}\"\nuser = \"{user}\"\n\
             password_file = \"secrets/{password}\"\n\n"
        )
    };
    let mut text = format!(
        "# Written by `strongroom dev`; see infra/strongroom.sample.toml for every key.\n\
         environment = \"development\"\n\n[server]\nlisten = \"{}\"\ninstance = \"dev-1\"\n\
         certificate_file = \"tls/server.pem\"\nprivate_key_file = \"tls/server.key\"\n\
         client_roots_file = \"tls/roots.pem\"\ncrl_directory = \"crl\"\ncrl_refresh_seconds = 1\n\n",
        plan.listen
    );
    text.push_str(&database("data", plan.data.port, data, "strongroom_app", "data.password"));
    text.push_str(&database("keys", plan.keys.port, keys, "strongroom_keys", "keys.password"));
    text.push_str(&database(
        "key_eraser",
        plan.keys.port,
        keys,
        "strongroom_key_eraser",
        "key-eraser.password",
    ));
    text.push_str(&database(
        "key_rotator",
        plan.keys.port,
        keys,
        "strongroom_key_rotator",
        "key-rotator.password",
    ));
    text.push_str(&database(
        "audit_export",
        plan.data.port,
        data,
        "strongroom_audit_reader",
        "audit.password",
    ));
    text.push_str(&database(
        "audit_sequencer",
        plan.data.port,
        data,
        "strongroom_sequencer",
        "sequencer.password",
    ));
    text.push_str("[audit.export]\ndirectory = \"log\"\ninterval_seconds = 1\n\n");
    let vault = format!(
        "[vault]\naddress = \"{}\"\nauth = {{ method = \"approle\", role_id_file = \"secrets/role-id\", \
         secret_id_file = \"secrets/secret-id\" }}\n\n[policy]\ndirectory = \"{policy}\"\n",
        plan.vault_address
    );
    text.push_str(&vault);
    text
}

fn write_passwords(directory: &Path) -> Result<(), DevStackError> {
    let keys = ["keys.password", "key-eraser.password", "key-rotator.password"];
    for name in keys.into_iter().chain(["data.password", "audit.password", "sequencer.password"]) {
        let path = directory.join("secrets").join(name);
        if !path.is_file() {
            write_private(&path, super::place::random_text(&SystemRandom::default())?.as_bytes())?;
        }
    }
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DevStackError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let draft = path.with_extension("new");
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|error| site_files(&error))
}

fn site_files(error: &std::io::Error) -> DevStackError {
    DevStackError::Site(format!("cannot write the site's files: {}", error.kind()))
}

fn site_vault(error: &crate::keys::TransitError) -> DevStackError {
    DevStackError::Site(error.to_string())
}
