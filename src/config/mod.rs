//! `strongroom.toml`: one strict file, every key overridable by `STRONGROOM__SECTION__KEY`, secrets only as paths.
//!
//! Not here: opening the files that the paths name, or checking the parts that the addresses name (`doctor`).

mod load;
mod sections;

pub use load::{ConfigError, load, parse};
pub use sections::{
    AuditConfig, CacheConfig, Config, DatabaseConfig, DatabasesConfig, LimitsConfig, PolicyConfig,
    ServerConfig, VaultAuth, VaultConfig,
};
