//! Keeps the process's memory to itself: no core files, no reading by other processes of the user, no swapping.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// What could not be done; the service runs, and says so.
#[derive(Debug, Default)]
pub struct Weaknesses {
    pub messages: Vec<&'static str>,
}

/// Applies every measure. Call it before any secret is read.
pub fn harden() -> Weaknesses {
    let mut weaknesses = Weaknesses::default();
    if setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).is_err() {
        weaknesses.messages.push("core files could not be turned off: set `ulimit -c 0` for the service");
    }
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        weaknesses.messages.push("the process could not be made undumpable");
    }
    if !lock_memory() {
        weaknesses.messages.push(
            "memory could not be locked: set `LimitMEMLOCK=infinity` for the service, or turn swap off",
        );
    }
    weaknesses
}

/// Keeps pages out of swap. Only under an unlimited budget: below one, a later allocation would fail instead of this call.
fn lock_memory() -> bool {
    let unlimited = Rlimit { current: None, maximum: None };
    if getrlimit(Resource::Memlock).current.is_some() && setrlimit(Resource::Memlock, unlimited).is_err() {
        return false;
    }
    // ONFAULT: only pages that are touched count, so the lock costs what the service uses.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}
