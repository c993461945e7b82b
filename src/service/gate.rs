//! What must have happened before anything is served: the start is on record, the databases and Vault's keys were found
//! as they must be, and the log's key vouches for this process. All are asked for on every operation and cost a load each. Of
//! these none is ever taken back; a log that is not published in time shuts the gate until it is.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Error, Part};

/// Shut until the service's start is durable in the log, and the databases and Vault's keys were checked.
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

    /// An error until all was checked. A key that Vault would export, or whose `context` it ignores, must neither seal nor open
    /// anything; and what is done for a client before the log's key vouches for this process looks to whoever verifies the log as
    /// if somebody else had written it.
    pub fn pass(&self) -> Result<(), Error> {
        self.pass_without_keys()?;
        if self.is_open_for_keys() { Ok(()) } else { Err(Error::Unavailable(Part::Keys)) }
    }

    /// The same for what is done without Vault and leaves nothing on record but refusals and the service's own word. A database that loses what it
    /// acknowledged must not be written to.
    pub fn pass_without_keys(&self) -> Result<(), Error> {
        if !self.is_on_record.load(Ordering::Acquire) || self.is_log_late.load(Ordering::Acquire) {
            Err(Error::Unavailable(Part::Audit))
        } else if self.are_databases_checked.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(Error::Unavailable(Part::Data))
        }
    }

    pub fn is_open_for_keys(&self) -> bool {
        self.are_keys_checked.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_when_all_was_seen() {
        let gate = Gate::default();
        let missing = |passed: Result<(), Error>| match passed {
            Ok(()) => None,
            Err(Error::Unavailable(part)) => Some(part),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(missing(gate.pass()), Some(Part::Audit));
        gate.open_for_records();
        assert_eq!(missing(gate.pass()), Some(Part::Data));
        gate.open_for_databases();
        assert_eq!((missing(gate.pass()), missing(gate.pass_without_keys())), (Some(Part::Keys), None));
        gate.open_for_keys();
        assert_eq!(missing(gate.pass()), None);
        gate.hold(true);
        assert_eq!(missing(gate.pass()), Some(Part::Audit));
        gate.hold(false);
        assert_eq!(missing(gate.pass()), None);
    }
}
