//! The one integration test binary: a file per use case, against real parts.

// `cfg(test)` tells clippy that helpers are tests as well.
#![cfg(test)]

mod audit_store;
mod audit_tables;
mod bench_parts;
mod crypto_vectors;
mod door_connections;
mod door_handshake;
mod door_pki;
mod door_reload;
mod door_stand;
mod keys_bootstrap;
mod keys_ring;
mod keys_vault;
mod policy_cases;
mod policy_rules;
mod support;
