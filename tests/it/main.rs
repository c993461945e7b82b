//! The one integration test binary: a file per use case, against real parts.

// `cfg(test)` tells clippy that helpers are tests as well.
#![cfg(test)]

mod audit_entries;
mod audit_events;
mod audit_store;
mod audit_tables;
mod bad_input;
mod bench_parts;
mod bootstrap_command;
mod collections;
mod commands;
mod crypto_vectors;
mod demo;
mod dev;
mod devstack;
mod documents;
mod door_connections;
mod door_handshake;
mod door_pki;
mod door_reload;
mod door_stand;
mod faults_crash;
mod faults_database;
mod faults_vault;
mod keys_bootstrap;
mod keys_ring;
mod keys_transit;
mod keys_vault;
mod layout;
mod leaks;
mod local;
mod parts;
mod policy_fields;
mod policy_load;
mod policy_rules;
mod policy_table;
mod problems;
mod purposes;
mod records_create;
mod records_delete;
mod records_read;
mod records_update;
mod refusals;
mod reload;
mod revocation;
mod schema;
mod source;
mod start;
mod support;
mod tampering;
mod tenants;
