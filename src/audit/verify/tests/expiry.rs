//! A log that has been kept for so long that its first entries went, and one that only looks so.

use std::fs;

use super::super::{Expiry, Note, Report, Scan, Verification};
use super::log::Log;
use crate::audit::fixtures::FixedClock;
use crate::domain::clock::{Clock, Timestamp};

/// When all of the log's entries were made, to the millisecond, and when they are older than that.
fn times() -> (Timestamp, Timestamp) {
    let made = FixedClock.now().as_micros() / 1_000 * 1_000;
    (Timestamp::from_micros(made), Timestamp::from_micros(made + 1))
}

fn run(log: &Log, kept_from: Timestamp) -> Report {
    let verification = Verification {
        log: log.folder.path(),
        trust: &log.trust,
        witnesses: 1,
        from: None,
        kept_from,
        threads: 2,
    };
    verification.run(&mut |_, _| {}).unwrap()
}

fn found(log: &Log, kept_from: Timestamp) -> Vec<String> {
    run(log, kept_from).findings.iter().map(ToString::to_string).collect()
}

fn find(log: &Log, below: u64, before: Timestamp) -> Expiry {
    Expiry::find(log.folder.path(), below, &|at, _| at < before).unwrap()
}

#[test]
fn the_first_entries_go_when_they_are_old_and_the_rest_holds() {
    let (made, later) = times();
    let log = Log::usual("expiry");
    for (below, before, minimum, files) in [
        (1_000, made, 0, 0),
        (1_000, later, 512, 4),
        (767, later, 256, 2),
        (511, later, 0, 0),
        (0, later, 0, 0),
    ] {
        let expiry = find(&log, below, before);
        assert_eq!((expiry.first(), expiry.minimum_index(), expiry.files()), (0, minimum, files), "{below}");
    }
    let mut heard = Vec::new();
    find(&log, 1_000, later).remove(log.folder.path(), &mut |done| heard.push(done)).unwrap();
    assert_eq!(heard, [1, 2, 3, 4]);
    for gone in ["tile/entries/000", "tile/entries/001", "tile/0/000", "tile/0/001"] {
        assert!(!log.path(gone).exists(), "{gone}");
    }
    let report = run(&log, later);
    assert_eq!(report.findings, []);
    assert_eq!((report.start, report.entries, report.size), (512, 488, 1_000));
    assert_eq!(report.notes, [Note::Expired { last: 511 }]);
    let (mut numbers, scan) = (Vec::new(), Scan::open(log.folder.path()).unwrap());
    for from in [0, 300, 600] {
        scan.entries(from, |number, _| {
            numbers.push(number);
            false
        })
        .unwrap();
    }
    assert_eq!(numbers, [512, 512, 600]);
    // There is nothing more to do.
    let again = find(&log, 1_000, later);
    assert_eq!((again.first(), again.minimum_index(), again.files()), (512, 512, 0));
}

/// What is gone must be followed by a bundle that is old itself.
#[test]
fn entries_that_went_too_early_are_missing() {
    let (made, later) = times();
    let log = Log::usual("early");
    find(&log, 1_000, later).remove(log.folder.path(), &mut |_| {}).unwrap();
    assert_eq!(found(&log, made)[..2], ["entries 0 to 255: missing", "tile/0/000: missing"]);
    // With the last whole bundle nothing is left that says how old it was.
    fs::remove_file(log.path("tile/entries/002")).unwrap();
    assert_eq!(found(&log, later)[0], "entries 0 to 255: missing");
    let log = Log::usual("hole");
    for path in ["tile/entries/000", "tile/entries/002"] {
        fs::remove_file(log.path(path)).unwrap();
    }
    assert_eq!(found(&log, later), ["entries 512 to 767: missing"]);
    // An old bundle of another log, to stand for what is gone.
    let log = Log::usual("stranger");
    fs::remove_file(log.path("tile/entries/000")).unwrap();
    log.edit("tile/entries/001", |bytes| bytes[2 + 300] ^= 1);
    assert_eq!(found(&log, later).len(), 1, "entry 256 is not what the tree has there");
}

/// What follows what is gone must be of the tree that was signed: else a log of nothing would hold.
#[test]
fn a_bundle_behind_the_last_one_stands_for_nothing() {
    let (_, later) = times();
    for elsewhere in ["tile/entries/x999/999", "tile/entries/004", "tile/entries/003"] {
        let log = Log::usual(&format!("nothing-{}", elsewhere.replace('/', "-")));
        let old = fs::read(log.path("tile/entries/000")).unwrap();
        fs::remove_dir_all(log.path("tile")).unwrap();
        fs::create_dir_all(log.path(elsewhere).parent().unwrap()).unwrap();
        fs::write(log.path(elsewhere), old).unwrap();
        let report = run(&log, later);
        assert!(!report.holds() && report.start == 0, "{elsewhere}: {:?}", report.findings.len());
    }
}

#[test]
fn broken_off_anywhere_the_log_holds_and_the_rest_goes_the_next_time() {
    let (_, later) = times();
    let order = ["tile/entries/000", "tile/entries/001", "tile/0/000", "tile/0/001"];
    for done in 1..=order.len() {
        let log = Log::usual(&format!("broken-{done}"));
        for path in &order[..done] {
            fs::remove_file(log.path(path)).unwrap();
        }
        assert_eq!(run(&log, later).findings, [], "{done}");
        let rest = find(&log, 1_000, later);
        assert_eq!((rest.minimum_index(), rest.files()), (512, order.len() - done));
        rest.remove(log.folder.path(), &mut |_| {}).unwrap();
        assert_eq!(run(&log, later).findings, []);
        assert_eq!(find(&log, 1_000, later).files(), 0);
    }
}
