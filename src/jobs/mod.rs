//! Background workers: revocation lists, policy reload. Each ends with the task set that holds it.

pub mod policy_reload;
pub mod revocation;
