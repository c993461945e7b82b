//! Keeps the process's memory to itself, and small: no core files, no reading by other processes of the user, no swapping, no
//! huge pages.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::disable_transparent_huge_pages;

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
    // A page of 2 MiB that is locked is never given back, however little of it is in use (figures: benches/README.md). A kernel that has none of them refuses, and then there is nothing to turn off.
    let _ = disable_transparent_huge_pages(true);
    if !lock_memory() {
        weaknesses.messages.push(
            "memory could not be locked: set `LimitMEMLOCK=infinity` for the service, or turn swap off",
        );
    }
    weaknesses
}

/// Keeps pages out of swap. Only without a budget: within one, a later allocation would fail instead of this call.
fn lock_memory() -> bool {
    let unlimited = Rlimit { current: None, maximum: None };
    let has_no_budget = getrlimit(Resource::Memlock).current.is_none()
        || may_lock_without_limit()
        || setrlimit(Resource::Memlock, unlimited).is_ok();
    // ONFAULT: only pages that are touched count, so the lock costs what the service uses.
    has_no_budget && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}

/// `CAP_IPC_LOCK` (capabilities(7), bit 14) among the effective capabilities of proc(5).
fn may_lock_without_limit() -> bool {
    const IPC_LOCK: u64 = 1 << 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & IPC_LOCK != 0)
}
