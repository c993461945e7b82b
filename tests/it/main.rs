//! The one integration test binary: a file per use case, against real parts.

mod policy_fields;
mod policy_load;
mod policy_rules;
mod policy_table;
