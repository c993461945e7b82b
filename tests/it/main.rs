//! The one integration test binary: a file per use case, against real parts.

mod policy_rules;
