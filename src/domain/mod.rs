//! Ids, values, secrets, actors, clock and randomness: the words every other module speaks.
//!
//! Rank 0. Nothing here does I/O, knows PostgreSQL, Vault or HTTP, or makes a decision.

pub mod action;
pub mod actor;
pub mod break_glass;
pub mod care_team;
pub mod class;
pub mod clock;
pub mod context;
pub mod erasure;
pub mod hold;
pub mod id;
pub mod idempotency;
pub mod index;
pub mod meter;
pub mod month;
pub mod person;
pub mod purpose;
pub mod random;
pub mod relationship;
pub mod rotation;
pub mod secret;
pub mod value;
