//! The sections of `strongroom.toml`. Units are in the names; every optional key states its default here.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::audit::{AuditConfig, AuditExportConfig, AuditExportPlace};
use super::load::ConfigError;

/// A whole configuration. Unknown keys are refused in every section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Enters every tenant key's derivation context in Vault: a key of one environment is useless in another.
    pub environment: String,
    pub server: ServerConfig,
    pub database: DatabasesConfig,
    pub vault: VaultConfig,
    pub policy: PolicyConfig,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub cache: CacheConfig,
    #[serde(default)]
    pub audit: AuditConfig,
    #[serde(default)]
    pub erasure: ErasureConfig,
    #[serde(default)]
    pub rotation: RotationConfig,
    #[serde(default)]
    pub relay: RelayConfig,
}

/// The listener and its certificates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    /// PEM chain, leaf first; replaced on disk, it is taken up without a restart.
    pub certificate_file: PathBuf,
    pub private_key_file: PathBuf,
    /// PEM roots that client certificates must chain to.
    pub client_roots_file: PathBuf,
    /// Where fetched CRLs are kept between starts (`root.crl`, `issuing.crl`, DER).
    pub crl_directory: PathBuf,
    #[serde(default = "defaults::crl_refresh_seconds")]
    pub crl_refresh_seconds: u64,
    /// Name of this instance in audit entries.
    pub instance: String,
}

/// The connections to PostgreSQL, each with a role of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabasesConfig {
    pub data: DatabaseConfig,
    pub keys: DatabaseConfig,
    /// The key database, as a role that destroys the keys of a subject and does nothing else.
    pub key_eraser: DatabaseConfig,
    /// The key database, as a role that replaces tenant keys and does nothing else.
    pub key_rotator: DatabaseConfig,
    /// A role that reads the audit log and nothing else.
    pub audit_export: DatabaseConfig,
    /// A role that numbers the entries of the log and changes nothing else.
    pub audit_sequencer: DatabaseConfig,
}

/// One PostgreSQL connection string, in parts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    pub host: String,
    pub port: u16,
    pub name: String,
    pub user: String,
    pub password_file: PathBuf,
    /// PEM roots for TLS to PostgreSQL; may be absent only for a loopback host.
    pub roots_file: Option<PathBuf>,
    #[serde(default = "defaults::pool_connections")]
    pub pool_connections: usize,
    #[serde(default = "defaults::database_timeout_ms")]
    pub timeout_ms: u64,
}

/// HashiCorp Vault or OpenBao.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    pub address: String,
    /// PEM roots; may be absent only for plain HTTP on loopback.
    pub roots_file: Option<PathBuf>,
    pub auth: VaultAuth,
    #[serde(default = "defaults::transit_mount")]
    pub transit_mount: String,
    #[serde(default = "defaults::pki_root_mount")]
    pub pki_root_mount: String,
    #[serde(default = "defaults::pki_issuing_mount")]
    pub pki_issuing_mount: String,
    /// Key-value store, version 2, of the credentials that destinations of the relay know the service by.
    #[serde(default = "defaults::credentials_mount")]
    pub credentials_mount: String,
    #[serde(default = "defaults::vault_timeout_ms")]
    pub timeout_ms: u64,
}

/// How the service proves itself to Vault.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
pub enum VaultAuth {
    AppRole { role_id_file: PathBuf, secret_id_file: PathBuf },
    Certificate { role: String, certificate_file: PathBuf, private_key_file: PathBuf },
}

/// What a certificate of erasure says, and when one is missed.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErasureConfig {
    /// For how long backups, WAL and replicas of the key database, and snapshots of Vault, are kept: for as long somebody who
    /// has them could bring an erased key back.
    pub key_backup_days: u32,
    /// How long after its approval an erasure that has not come to its end is overdue.
    pub overdue_seconds: u32,
}

impl Default for ErasureConfig {
    fn default() -> Self {
        Self { key_backup_days: 14, overdue_seconds: 600 }
    }
}

/// When a tenant key that was replaced may be destroyed.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RotationConfig {
    /// For how many days backups, WAL and replicas of the key database are kept: so long after nothing needs the key any more,
    /// one that needs it may be there.
    pub key_backup_days: u32,
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self { key_backup_days: 14 }
    }
}

/// Whom the service believes when it sends values to outside services.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayConfig {
    /// PEM roots that the certificates of destinations chain to; absent, nothing is sent anywhere.
    pub ca_file: Option<PathBuf>,
}

/// Where the reviewed rules are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    pub directory: PathBuf,
}

/// What one client may cost.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    pub connections: usize,
    pub handshakes: usize,
    pub handshake_timeout_ms: u64,
    pub header_timeout_ms: u64,
    /// How long a connection may ask nothing.
    pub idle_timeout_ms: u64,
    /// How long a client may take to go on with an answer or an upload by 32 KiB.
    pub stall_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub body_bytes: usize,
    pub batch_body_bytes: usize,
    /// The largest document.
    pub document_bytes: u64,
    pub headers: usize,
    pub header_bytes: u32,
    pub streams_per_connection: u32,
    pub sweep_interval_ms: u64,
    pub drain_timeout_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 1_024,
            handshakes: 64,
            handshake_timeout_ms: 5_000,
            header_timeout_ms: 5_000,
            idle_timeout_ms: 120_000,
            stall_timeout_ms: 30_000,
            request_timeout_ms: 10_000,
            body_bytes: 1_048_576,
            batch_body_bytes: 8_388_608,
            document_bytes: 104_857_600,
            headers: 64,
            header_bytes: 16_384,
            streams_per_connection: 128,
            sweep_interval_ms: 1_000,
            drain_timeout_ms: 10_000,
        }
    }
}

/// How long and how many keys may stay in memory.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    pub soft_life_seconds: u64,
    pub hard_life_seconds: u64,
    pub subject_keys_owners: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { soft_life_seconds: 300, hard_life_seconds: 3_600, subject_keys_owners: 131_072 }
    }
}

impl Config {
    pub(super) fn resolve_paths(&mut self, base: &Path) {
        let server = &mut self.server;
        let mut paths = vec![
            &mut server.certificate_file,
            &mut server.private_key_file,
            &mut server.client_roots_file,
            &mut server.crl_directory,
            &mut self.policy.directory,
        ];
        match self.audit.export.as_mut().map(|export| &mut export.place) {
            Some(AuditExportPlace::Directory(directory)) => paths.push(directory),
            Some(AuditExportPlace::Bucket(bucket)) => {
                paths.extend([&mut bucket.access_key_id_file, &mut bucket.secret_access_key_file]);
                paths.push(&mut bucket.roots_file);
            }
            None => {}
        }
        if let Some(witness) = &mut self.audit.witness {
            paths.extend([&mut witness.policy_file, &mut witness.certificate_file]);
            paths.extend([&mut witness.private_key_file, &mut witness.roots_file]);
        }
        let databases = &mut self.database;
        for database in [
            &mut databases.data,
            &mut databases.keys,
            &mut databases.key_eraser,
            &mut databases.key_rotator,
            &mut databases.audit_export,
            &mut databases.audit_sequencer,
        ] {
            paths.push(&mut database.password_file);
            paths.extend(named(&mut database.roots_file));
        }
        paths.extend(named(&mut self.vault.roots_file));
        paths.extend(named(&mut self.relay.ca_file));
        match &mut self.vault.auth {
            VaultAuth::AppRole { role_id_file, secret_id_file } => {
                paths.extend([role_id_file, secret_id_file]);
            }
            VaultAuth::Certificate { certificate_file, private_key_file, .. } => {
                paths.extend([certificate_file, private_key_file]);
            }
        }
        for path in paths {
            *path = base.join(&*path);
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key, why| Err(ConfigError::Value { key, why });
        if self.environment.is_empty() || self.environment.len() > 64 {
            return refuse("environment", "give it 1 to 64 characters");
        }
        if self.vault.roots_file.is_none() && !is_plain_loopback(&self.vault.address) {
            return refuse(
                "vault.roots_file",
                "name the roots that Vault's certificate chains to; only loopback goes without",
            );
        }
        self.check_roots()?;
        self.database.check()?;
        if self.cache.soft_life_seconds > self.cache.hard_life_seconds {
            return refuse("cache.soft_life_seconds", "make it at most cache.hard_life_seconds");
        }
        if !(1..=366).contains(&self.erasure.key_backup_days) {
            return refuse("erasure.key_backup_days", "choose 1 to 366");
        }
        if !(1..=604_800).contains(&self.erasure.overdue_seconds) {
            return refuse("erasure.overdue_seconds", "choose 1 to 604800");
        }
        if !(1..=366).contains(&self.rotation.key_backup_days) {
            return refuse("rotation.key_backup_days", "choose 1 to 366");
        }
        if self.audit.batch_entries == 0 || self.audit.batch_entries > 1_024 {
            return refuse("audit.batch_entries", "choose 1 to 1024");
        }
        if self.audit.chains == 0 || self.audit.chains > 8 {
            return refuse("audit.chains", "choose 1 to 8");
        }
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._/:~-".contains(&byte);
        if !(1..=128).contains(&self.audit.origin.len()) || !self.audit.origin.bytes().all(is_letter) {
            return refuse("audit.origin", "give it 1 to 128 letters, digits and . _ / : ~ -");
        }
        if !(1..=100_000).contains(&self.audit.review.entries_per_second) {
            return refuse("audit.review.entries_per_second", "choose 1 to 100000");
        }
        if self.audit.review.nightly_hour > 23 {
            return refuse("audit.review.nightly_hour", "choose 0 to 23");
        }
        // PCI DSS 10.5.1 would have nine of the twelve in files alone; those of a subject are found in the database only.
        if !(12..=1_200).contains(&self.audit.retention.online_months) {
            return refuse("audit.retention.online_months", "choose 12 to 1200");
        }
        if !(6..=100).contains(&self.audit.retention.file_years) {
            return refuse("audit.retention.file_years", "choose 6 to 100");
        }
        self.audit.export.as_ref().map_or(Ok(()), AuditExportConfig::check)
    }

    /// An empty name would be the folder of the file.
    fn check_roots(&self) -> Result<(), ConfigError> {
        let databases = &self.database;
        for (key, path) in [
            ("vault.roots_file", &self.vault.roots_file),
            ("relay.ca_file", &self.relay.ca_file),
            ("database.data.roots_file", &databases.data.roots_file),
            ("database.keys.roots_file", &databases.keys.roots_file),
            ("database.key_eraser.roots_file", &databases.key_eraser.roots_file),
            ("database.key_rotator.roots_file", &databases.key_rotator.roots_file),
            ("database.audit_export.roots_file", &databases.audit_export.roots_file),
            ("database.audit_sequencer.roots_file", &databases.audit_sequencer.roots_file),
        ] {
            if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
                return Err(ConfigError::Value { key, why: "name a file, or leave the key out" });
            }
        }
        Ok(())
    }
}

impl DatabasesConfig {
    fn check(&self) -> Result<(), ConfigError> {
        for (key, database) in [
            ("database.data.roots_file", &self.data),
            ("database.keys.roots_file", &self.keys),
            ("database.key_eraser.roots_file", &self.key_eraser),
            ("database.key_rotator.roots_file", &self.key_rotator),
            ("database.audit_export.roots_file", &self.audit_export),
            ("database.audit_sequencer.roots_file", &self.audit_sequencer),
        ] {
            if database.roots_file.is_none() && !is_loopback_host(&database.host) {
                let why =
                    "name the roots that PostgreSQL's certificate chains to; only loopback goes without";
                return Err(ConfigError::Value { key, why });
            }
        }
        Ok(())
    }
}

/// An empty name is left as it is, for [`Config::check`] to refuse.
fn named(path: &mut Option<PathBuf>) -> Option<&mut PathBuf> {
    path.as_mut().filter(|path| !path.as_os_str().is_empty())
}

fn is_loopback_host(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_plain_loopback(address: &str) -> bool {
    address
        .strip_prefix("http://")
        .and_then(|rest| rest.rsplit_once(':'))
        .is_some_and(|(host, _)| is_loopback_host(host.trim_matches(['[', ']'])))
}

mod defaults {
    pub fn crl_refresh_seconds() -> u64 {
        30
    }
    pub fn pool_connections() -> usize {
        16
    }
    pub fn database_timeout_ms() -> u64 {
        3_000
    }
    pub fn vault_timeout_ms() -> u64 {
        3_000
    }
    pub fn transit_mount() -> String {
        String::from("transit")
    }
    pub fn pki_root_mount() -> String {
        String::from("pki-root")
    }
    pub fn pki_issuing_mount() -> String {
        String::from("pki")
    }
    pub fn credentials_mount() -> String {
        String::from("strongroom-relay")
    }
}
