//! Strongroom: a private data vault.
//!
//! # Ranks
//!
//! Imports go to an equal or lower rank only, so that a request's way through the modules never turns back.
//! `tests/it/layout.rs` holds the code to this table and to the pairs below it.
//!
//! | rank | modules | hold |
//! |---|---|---|
//! | 0 | [`domain`], [`config`], [`telemetry`] | ids, values, secrets, actor, clock; settings; logs. No I/O with other parts |
//! | 1 | [`crypto`], [`policy`], [`audit`], [`tls`], [`people`], [`relay`] | sealing; deciding; recording; who may speak, and for whom; what is sent to outside services, and how |
//! | 2 | [`keys`], [`storage`] | the key hierarchy and Vault's client; the only SQL |
//! | 3 | [`service`], [`jobs`] | one file per use case; background workers |
//! | 4 | [`http`] | door, routes, the one error-to-problem match |
//! | 5 | [`cli`], [`devstack`] | commands; real PostgreSQL and Vault for development and tests |
//!
//! `policy`, `crypto` and `audit` never import each other, and `http` imports none of `storage`, `keys`, `crypto` and `relay`: a
//! route reaches data, and sends it out, only through a use case. `relay` knows neither rules nor keys nor the log.
//!
//! # Invariants
//!
//! What must not happen does not compile. Each proof is a value with private fields, made in one place:
//!
//! | to do this | one needs | which only this makes |
//! |---|---|---|
//! | open or write a field | [`policy::Permit`] | [`policy::Authoriser`] |
//! | read the audit log | [`policy::AuditPermit`] | [`policy::Authoriser`] |
//! | store a version of a record | [`crypto::SealedRecord`] | [`crypto::seal_record`] |
//! | let a read answer go | [`audit::Receipt`], which unlocks [`audit::Withheld`] | a confirmed commit of [`audit::Committer`] |
//! | report a write as done | [`audit::Receipt`] | [`audit::OutboxEntry::commit_with`], after the commit of data and entry |
//!
//! The doctests of these modules show that forging one is a compile error. Beyond types:
//!
//! - Secrets are [`domain::secret`] types: wiped on drop, without `Debug`, `Display` or `Serialize`. Looking inside is
//!   banned by `clippy.toml` outside the places that say why.
//! - The tenant of every look-up, seal and entry is the caller's, from the certificate, never from a row or a body.
//! - Errors hold neither input nor what PostgreSQL or Vault said. What a caller hears is decided in `http::problem`.
//! - A part that is missing makes the answer 503. There is no fallback key, no unaudited read, no cached decision that
//!   outlives its policy.
//! - Clock and randomness are parameters ([`domain::clock`], [`domain::random`]).

pub mod audit;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod devstack;
pub mod domain;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod people;
pub mod policy;
pub mod relay;
pub mod service;
pub mod storage;
pub mod telemetry;
pub mod tls;
