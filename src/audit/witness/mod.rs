//! The witness: somebody else's word that a log only ever grew (C2SP tlog-witness).
//!
//! A process of its own, on a host of its own, with a key and a memory of its own. It signs a checkpoint only if it
//! continues the one that it signed before, so whoever trusts it sees one log and not two.
//!
//! Not here: how requests reach it (`http::witness`), and what the service does with its answer.

mod judge;
mod key;
mod ledger;
mod request;
#[cfg(test)]
mod tests;

pub use judge::{Refusal, Witness};
pub use key::{WitnessKey, WitnessKeyFault};
pub use ledger::{Head, Ledger, LedgerFault};
pub use request::{AddCheckpoint, RequestFault};
