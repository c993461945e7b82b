//! Background workers: revocation lists, changed files, keys of identity providers, the check of the databases and of Vault's keys, expired idempotency keys, keys of deleted
//! records, people who are erased, abandoned uploads, terms of indexes that are declared anew, the order of the log and its months, this process's chains, changes of the data
//! database, which parts are down, refusals that were only counted, overdue reviews of broken glass and erasures, the size of the metrics.
//! Each ends with the task set that holds it. And `prune`, which an operator's command runs.

pub mod bucket;
pub mod chains;
pub mod drift;
pub mod erasures;
pub mod fitness;
pub mod idempotency;
pub mod key_destruction;
pub mod limits;
pub mod metrics;
pub mod months;
pub mod overdue;
pub mod parts;
pub mod people;
pub mod policy_reload;
pub mod prune;
pub mod reindex;
pub mod revocation;
pub mod rotations;
pub mod sequencer;
pub mod tls_reload;
pub mod uploads;
