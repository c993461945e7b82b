//! Strongroom: a private data vault.
//!
//! Modules have ranks; imports go to an equal or lower rank only, and `policy`, `crypto` and `audit` never import each
//! other. `tests/it/layout.rs` enforces both.
//!
//! | rank | modules |
//! |---|---|
//! | 0 | [`domain`], [`config`], [`telemetry`] |
//! | 1 | [`crypto`], [`policy`], [`audit`], [`tls`] |
//! | 2 | [`keys`], [`storage`] |
//! | 3 | [`service`], [`jobs`] |
//! | 4 | [`http`] |
//! | 5 | [`cli`], [`devstack`] |

pub mod audit;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod devstack;
pub mod domain;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod policy;
pub mod service;
pub mod storage;
pub mod telemetry;
pub mod tls;
