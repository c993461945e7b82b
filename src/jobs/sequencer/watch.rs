//! The newest entries: each is heard once, after it was numbered, and the chains of processes are followed.
//!
//! Where files are written, the entries come from there, and otherwise from the review; nothing is read for this alone.

use crate::audit::checkpoint::VerifierKey;
use crate::audit::verify::{ChainWatch, Finding};
use crate::service::{Alarm, Service};

/// Begins anew with every lead, and where the log's keys have changed.
pub(super) struct Watch {
    /// Files are written, and who writes them lets this hear.
    pub is_fed: bool,
    chains: Option<ChainWatch>,
    keys: Vec<VerifierKey>,
}

impl Watch {
    pub const fn new(is_fed: bool) -> Self {
        Self { is_fed, chains: None, keys: Vec::new() }
    }

    /// A lead begins: what was heard lies before.
    pub fn begin(&mut self) {
        self.chains = None;
    }

    /// Takes the keys that the log has by now.
    pub fn know(&mut self, keys: Vec<VerifierKey>) {
        if self.keys != keys {
            (self.chains, self.keys) = (None, keys);
        }
    }

    /// The entry that should be heard next, if any was.
    pub fn next(&self) -> Option<u64> {
        self.chains.as_ref().map(ChainWatch::next)
    }

    /// Entries as they were numbered, from this number on. Those that were heard before are passed over.
    pub fn hear(&mut self, from: u64, entries: &[Vec<u8>]) {
        if self.keys.is_empty() {
            return;
        }
        if self.chains.is_none() {
            self.chains = ChainWatch::new(from, &self.keys);
        }
        let Some(chains) = &mut self.chains else { return };
        for (number, entry) in (from..).zip(entries) {
            if number >= chains.next() {
                chains.hear(number, entry);
            }
        }
    }

    /// Tells what does not hold. What a chain lost does not come back: the alarm ends with this instance.
    pub async fn tell(&mut self, service: &Service) {
        let findings = self.chains.as_mut().map(ChainWatch::settle).unwrap_or_default();
        for finding in &findings {
            tracing::error!(kind = finding.kind(), finding = %finding, "log.chain_broken");
        }
        if findings.iter().any(Finding::is_of_a_chain) {
            service.raise(Alarm::ChainsBroken).await;
        }
    }
}
