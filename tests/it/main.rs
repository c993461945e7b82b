//! The one integration test binary: a file per use case, against real parts.

mod audit_store;
mod audit_tables;
mod support;
