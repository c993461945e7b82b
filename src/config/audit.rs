//! The audit log: its group committer, where it is kept, and who cosigns it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;

/// The group committer's bounds, and what becomes of the log.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    pub queue_entries: usize,
    pub batch_entries: usize,
    pub commit_timeout_ms: u64,
    /// Chains of entries that this instance makes side by side, each with one batch in flight.
    pub chains: usize,
    /// The name of the log, under which it signs (C2SP tlog-checkpoint, origin).
    pub origin: String,
    /// Where the log is written as files.
    pub export: Option<AuditExportConfig>,
    /// Who cosigns it.
    pub witness: Option<AuditWitnessConfig>,
    /// How what is stored is read again.
    pub review: AuditReviewConfig,
    /// How long entries stay in the database.
    pub retention: AuditRetentionConfig,
    /// How long entries may wait for a published checkpoint before nothing more is served; 0: as long as it takes.
    pub unpublished_limit_seconds: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            queue_entries: 16_384,
            batch_entries: 1_024,
            commit_timeout_ms: 2_000,
            chains: 2,
            origin: String::from("strongroom.internal/log"),
            export: None,
            witness: None,
            review: AuditReviewConfig::default(),
            retention: AuditRetentionConfig::default(),
            unpublished_limit_seconds: 0,
        }
    }
}

/// What is stored of the log is read again, so fast and at such times.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditReviewConfig {
    /// Entries that are read a second, of the last night and of the whole log together, and as many records.
    pub entries_per_second: u64,
    /// At this hour, in UTC, what came since the last time is read.
    pub nightly_hour: u8,
}

impl Default for AuditReviewConfig {
    fn default() -> Self {
        Self { entries_per_second: 256, nightly_hour: 2 }
    }
}

/// How long the log stays where it can be searched.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditRetentionConfig {
    /// Months that `audit prune` leaves in the database, besides the one that goes on.
    pub online_months: u32,
    /// Years that `audit expire` leaves in the exported files.
    pub file_years: u16,
}

impl Default for AuditRetentionConfig {
    /// PCI DSS 10.5.1 demands twelve months, three of them at once at hand; 45 CFR 164.316(b)(2)(i) six years.
    fn default() -> Self {
        Self { online_months: 12, file_years: 6 }
    }
}

/// The log as files.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "AuditExportKeys")]
pub struct AuditExportConfig {
    pub place: AuditExportPlace,
    /// How long a checkpoint and what it covers may wait to be written.
    pub interval_seconds: u64,
}

/// What else than one of the two is told; it quotes nothing.
pub(super) const ONE_PLACE: &str = "audit.export: name a directory or a bucket, one of the two";

/// Where they are.
#[derive(Clone, Debug)]
pub enum AuditExportPlace {
    Directory(PathBuf),
    Bucket(AuditBucketConfig),
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditExportKeys {
    directory: Option<PathBuf>,
    bucket: Option<AuditBucketConfig>,
    #[serde(default = "export_interval_seconds")]
    interval_seconds: u64,
}

impl TryFrom<AuditExportKeys> for AuditExportConfig {
    type Error = &'static str;

    fn try_from(keys: AuditExportKeys) -> Result<Self, Self::Error> {
        let place = match (keys.directory, keys.bucket) {
            (Some(directory), None) => AuditExportPlace::Directory(directory),
            (None, Some(bucket)) => AuditExportPlace::Bucket(bucket),
            _ => return Err(ONE_PLACE),
        };
        Ok(Self { place, interval_seconds: keys.interval_seconds })
    }
}

/// A bucket of a store that speaks the S3 API, made with Object Lock.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditBucketConfig {
    /// `https://host[:port]`; the bucket's name goes into the path.
    pub endpoint: String,
    pub region: String,
    pub name: String,
    /// A folder within it; empty: the whole bucket is the log's.
    #[serde(default)]
    pub folder: String,
    pub access_key_id_file: PathBuf,
    pub secret_access_key_file: PathBuf,
    /// PEM roots that the store's certificate must chain to.
    pub roots_file: PathBuf,
    /// How long each file is locked.
    #[serde(default = "retention_days")]
    pub retention_days: u64,
    #[serde(default = "bucket_timeout_ms")]
    pub timeout_ms: u64,
}

/// The log's witnesses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditWitnessConfig {
    /// C2SP tlog-policy: the log's keys, its witnesses with their addresses, and the quorum.
    pub policy_file: PathBuf,
    /// The client certificate that witnesses know this service by.
    pub certificate_file: PathBuf,
    pub private_key_file: PathBuf,
    /// PEM roots that the witnesses' certificates must chain to.
    pub roots_file: PathBuf,
    #[serde(default = "witness_timeout_ms")]
    pub timeout_ms: u64,
}

impl AuditExportConfig {
    /// The directory, where it is one.
    pub fn directory(&self) -> Option<&Path> {
        match &self.place {
            AuditExportPlace::Directory(directory) => Some(directory),
            AuditExportPlace::Bucket(_) => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key, why| Err(ConfigError::Value { key, why });
        if !(1..=60).contains(&self.interval_seconds) {
            return refuse("audit.export.interval_seconds", "choose 1 to 60");
        }
        let AuditExportPlace::Bucket(bucket) = &self.place else { return Ok(()) };
        let is_name = |text: &str, more: &[u8]| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte) || more.contains(&byte))
        };
        if !bucket.endpoint.starts_with("https://") || !is_name(&bucket.endpoint, b":/[]") {
            return refuse("audit.export.bucket.endpoint", "give it as https://host or https://host:port");
        }
        if bucket.name.is_empty() || !is_name(&bucket.name, b"") || !is_name(&bucket.region, b"") {
            return refuse("audit.export.bucket.name", "name and region are letters, digits and . _ -");
        }
        let has_gap =
            !bucket.folder.is_empty() && bucket.folder.split('/').any(|part| matches!(part, "" | "." | ".."));
        if has_gap || !is_name(&bucket.folder, b"/") {
            return refuse("audit.export.bucket.folder", "give it as names with / between, or leave it out");
        }
        if !(1..=36_525).contains(&bucket.retention_days) {
            return refuse("audit.export.bucket.retention_days", "choose 1 to 36525");
        }
        if !(100..=20_000).contains(&bucket.timeout_ms) {
            return refuse("audit.export.bucket.timeout_ms", "choose 100 to 20000");
        }
        Ok(())
    }
}

const fn export_interval_seconds() -> u64 {
    60
}

/// Six years (45 CFR 164.316(b)(2)(i)), with the most leap days that they can have.
const fn retention_days() -> u64 {
    6 * 365 + 2
}

const fn bucket_timeout_ms() -> u64 {
    10_000
}

const fn witness_timeout_ms() -> u64 {
    2_000
}
