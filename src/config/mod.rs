//! `strongroom.toml`: one strict file, every key overridable by `STRONGROOM__SECTION__KEY`, secrets only as paths; and the
//! file of a witness, read in the same way.
//!
//! Not here: opening the files that the paths name, or checking the parts that the addresses name (`doctor`).

mod audit;
mod load;
mod sections;
mod witness;

pub use audit::{
    AuditBucketConfig, AuditConfig, AuditExportConfig, AuditExportPlace, AuditRetentionConfig,
    AuditReviewConfig, AuditWitnessConfig,
};
pub use load::{ConfigError, load, load_witness, parse};
pub use sections::{
    CacheConfig, Config, DatabaseConfig, DatabasesConfig, ErasureConfig, LimitsConfig, PolicyConfig,
    RelayConfig, ServerConfig, VaultAuth, VaultConfig,
};
pub use witness::{WitnessConfig, WitnessServerConfig};
