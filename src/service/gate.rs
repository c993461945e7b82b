//! What must have happened before anything is served: the start is on record, and the databases and Vault's keys were found
//! as they must be. All are asked for on every operation and cost a load each. Of
//! these none is ever taken back; a log that is not published in time shuts the gate until it is.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Error, Part};

/// Shut until the service's start is durable in the log and the databases were checked, and, for what needs keys, until
/// Vault's keys were checked.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_on_record: AtomicBool,
    are_databases_checked: AtomicBool,
    are_keys_checked: AtomicBool,
    is_log_late: AtomicBool,
}

impl Gate {
    pub fn open_for_records(&self) {
        self.is_on_record.store(true, Ordering::Release);
    }

    pub fn open_for_databases(&self) {
        self.are_databases_checked.store(true, Ordering::Release);
    }

    pub fn open_for_keys(&self) {
        self.are_keys_checked.store(true, Ordering::Release);
    }

    /// Shuts it while what is on record is not published in time, if the configuration says when.
    pub fn hold(&self, is_log_late: bool) {
        self.is_log_late.store(is_log_late, Ordering::Release);
    }

    /// An error until the start is on record and the databases were checked: one that loses what it acknowledged must
    /// not be written to.
    pub fn pass(&self) -> Result<(), Error> {
        if !self.is_on_record.load(Ordering::Acquire) || self.is_log_late.load(Ordering::Acquire) {
            Err(Error::Unavailable(Part::Audit))
        } else if self.are_databases_checked.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(Error::Unavailable(Part::Data))
        }
    }

    /// An error until Vault's keys were checked: a key that Vault would export, or whose `context` it ignores, must
    /// neither seal nor open anything.
    pub fn pass_to_keys(&self) -> Result<(), Error> {
        if self.are_keys_checked.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(Error::Unavailable(Part::Keys))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_opens_on_its_own() {
        let gate = Gate::default();
        assert!(matches!(gate.pass(), Err(Error::Unavailable(Part::Audit))));
        assert!(matches!(gate.pass_to_keys(), Err(Error::Unavailable(Part::Keys))));
        gate.open_for_records();
        assert!(matches!(gate.pass(), Err(Error::Unavailable(Part::Data))));
        gate.open_for_databases();
        assert!(gate.pass().is_ok() && gate.pass_to_keys().is_err());
        gate.open_for_keys();
        assert!(gate.pass_to_keys().is_ok());
        gate.hold(true);
        assert!(matches!(gate.pass(), Err(Error::Unavailable(Part::Audit))));
        gate.hold(false);
        assert!(gate.pass().is_ok());
    }
}
