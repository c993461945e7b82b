//! The one integration test binary: a file per use case, against real parts.
mod crypto_vectors;

mod policy_rules;
