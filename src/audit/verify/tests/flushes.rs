//! What processes signed of their chains, and what somebody without their keys can do to them before they are in the tree.

use ring::digest::{SHA256, digest};
use uuid::Uuid;

use super::log::Log;
use crate::audit::act::{Act, Outcome};
use crate::audit::checkpoint::fixtures::{ORIGIN, Signer};
use crate::audit::event::EntryDraft;
use crate::audit::fixtures::{Counting, context, patient, read, scribe, uuid};
use crate::audit::instance::{InstanceKey, attested_text};
use crate::audit::scribe::Scribe;
use crate::audit::verify::ChainWatch;
use crate::domain::id::EntryId;

/// A log that is being made: one clock and one source of ids for all processes.
struct Making {
    scribe: Scribe,
    random: Counting,
    signer: Signer,
    entries: Vec<Vec<u8>>,
}

struct Process {
    key: InstanceKey,
    chain: (Uuid, u64, Option<[u8; 32]>),
}

impl Making {
    fn new() -> Self {
        let (scribe, random) = (scribe(), Counting::default());
        Self { scribe, random, signer: Signer::log(1), entries: Vec::new() }
    }

    /// A process whose key the log's key attests in its first entry.
    fn process(&mut self, tail: u128) -> Process {
        let mut process = self.unattested(tail);
        let attested = Self::attested(&self.signer, &process);
        self.flush(&mut process, &[attested], &[]);
        process
    }

    fn unattested(&self, tail: u128) -> Process {
        let key = InstanceKey::generate(&self.random).unwrap();
        Process { key, chain: (uuid(tail), 0, None) }
    }

    fn attested(signer: &Signer, process: &Process) -> EntryDraft {
        let public = *process.key.public();
        let attestation = signer.pair.sign(attested_text(ORIGIN, &public).as_bytes());
        EntryDraft::of_service(Act::InstanceAttest, Outcome::SUCCESS)
            .instance_key(public, attestation.as_ref().try_into().unwrap())
    }

    fn flush(&mut self, process: &mut Process, drafts: &[EntryDraft], writes: &[EntryId]) {
        for (draft, left) in drafts.iter().zip((0..drafts.len()).rev()) {
            let encoded = self.scribe.write(draft).unwrap();
            let (src, seq, head) = &mut process.chain;
            *seq += 1;
            let bytes = match left {
                0 => encoded.flushed(src, *seq, head.as_ref(), &process.key, writes),
                _ => encoded.chained(src, *seq, head.as_ref()),
            };
            *head = Some(digest(&SHA256, &bytes).as_ref().try_into().unwrap());
            self.entries.push(bytes);
        }
    }

    fn write(&mut self) -> EntryId {
        let draft = EntryDraft::of_request(&context(), Act::RecordCreate, Outcome::SUCCESS).record(patient());
        let encoded = self.scribe.write(&draft.seals([0x44; 32])).unwrap();
        let id = encoded.id;
        self.entries.push(encoded.into_unchained());
        id
    }

    /// What an auditor finds in the log as it is now: everything that is in the tree is as it was put there.
    fn found(&self, name: &str) -> Vec<&'static str> {
        let report = Log::new(name, &self.entries, &[self.entries.len()]).run(None);
        report.findings.iter().map(crate::audit::verify::Finding::kind).collect()
    }
}

fn end() -> EntryDraft {
    EntryDraft::of_service(Act::ChainEnd, Outcome::SUCCESS)
}

#[test]
fn chains_that_their_processes_signed_hold_and_their_ends_are_counted() {
    let mut making = Making::new();
    let (mut one, mut other) = (making.process(0xe0), making.process(0xe1));
    let writes = [making.write(), making.write()];
    making.flush(&mut one, &[read(), read(), read()], &writes);
    making.flush(&mut other, &[read()], &[]);
    making.flush(&mut one, &[end()], &[]);
    let log = Log::new("flushes", &making.entries, &[making.entries.len()]);
    let report = log.run(None);
    assert_eq!(report.findings, []);
    assert_eq!((report.chains, report.chains_ended), (2, 1));
}

#[test]
fn a_tail_that_was_written_anew_is_not_what_its_process_signed() {
    let mut making = Making::new();
    let mut process = making.process(0xe0);
    making.flush(&mut process, &[read(), read()], &[]);
    // Somebody knows everything but the key.
    process.key = InstanceKey::generate(&making.random).unwrap();
    making.flush(&mut process, &[read()], &[]);
    assert_eq!(making.found("anew-flush"), ["chain_forged"]);
    // The name of the true key does not help.
    let mut making = Making::new();
    let mut process = making.process(0xe0);
    making.flush(&mut process, &[read()], &[]);
    let last = making.entries.pop().unwrap();
    let text = String::from_utf8(last).unwrap();
    let (before, after) = text.split_once("\"sig\":\"").unwrap();
    making.entries.push(format!("{before}\"sig\":\"{}{}", "0".repeat(128), &after[128..]).into_bytes());
    assert_eq!(making.found("zeros"), ["chain_forged"]);
}

#[test]
fn a_signature_before_a_gap_is_checked_all_the_same() {
    let mut making = Making::new();
    let mut process = making.process(0xe0);
    let true_key = std::mem::replace(&mut process.key, InstanceKey::generate(&making.random).unwrap());
    making.flush(&mut process, &[read()], &[]);
    making.flush(&mut process, &[read()], &[]);
    making.entries.pop();
    process.key = true_key;
    making.flush(&mut process, &[read()], &[]);
    assert_eq!(making.found("before-gap"), ["chain_gap", "chain_forged"]);
}

#[test]
fn a_flush_that_was_cut_is_found_once_the_log_has_gone_on() {
    let mut making = Making::new();
    let mut process = making.process(0xe0);
    making.flush(&mut process, &[read(), read(), read()], &[]);
    making.entries.pop();
    assert_eq!(making.found("cut-now"), [""; 0], "its end may have no number yet");
    for _ in 0..4_200 {
        making.write();
    }
    assert_eq!(making.found("cut-later"), ["chain_cut"]);
    // Whoever follows the log finds it as soon, and says so once.
    let mut watch = ChainWatch::new(0, &[making.signer.key.clone()]).unwrap();
    let mut found = Vec::new();
    for (number, entry) in (0..).zip(&making.entries) {
        watch.hear(number, entry);
        found.extend(watch.settle().iter().map(|finding| (number, finding.kind())));
    }
    let begun = u64::try_from(making.entries.len()).unwrap() - 4_200;
    assert_eq!(found, [(begun + 4_095, "chain_cut")]);
}

#[test]
fn what_no_attested_process_did_for_a_client_is_found() {
    let mut making = Making::new();
    making.process(0xe0);
    // A process that Vault has not answered yet refuses, and says so.
    let refused = EntryDraft::of_request(&context(), Act::RecordRead, Outcome::refused("keys_unavailable"));
    let start = EntryDraft::of_service(Act::ServiceStart, Outcome::SUCCESS);
    let mut starting = making.unattested(0xe1);
    making.flush(&mut starting, &[start, refused], &[]);
    assert_eq!(making.found("starting"), [""; 0]);
    let mut forged = making.unattested(0xe2);
    making.flush(&mut forged, &[read(), read()], &[]);
    assert_eq!(making.found("unattested"), ["chain_unattested"], "once for a chain");
    // Another log's key vouches for nobody here.
    let mut making = Making::new();
    making.process(0xe0);
    let mut forged = making.unattested(0xe1);
    let attested = Making::attested(&Signer::log(7), &forged);
    making.flush(&mut forged, &[attested, read()], &[]);
    assert_eq!(making.found("other-log"), ["chain_unattested"]);
}

#[test]
fn a_write_that_a_process_saw_committed_is_in_the_log() {
    let mut making = Making::new();
    let mut process = making.process(0xe0);
    let writes = [making.write(), making.write()];
    making.entries.pop();
    making.flush(&mut process, &[read()], &writes);
    assert_eq!(making.found("write"), ["write_missing"]);
}

#[test]
fn nothing_comes_after_an_end() {
    let mut making = Making::new();
    let mut process = making.process(0xe0);
    making.flush(&mut process, &[end()], &[]);
    making.flush(&mut process, &[read()], &[]);
    assert_eq!(making.found("past"), ["chain_past_end"]);
}

#[test]
fn half_a_flush_is_no_form() {
    let mut making = Making::new();
    making.process(0xe0);
    let text = String::from_utf8(making.entries.pop().unwrap()).unwrap();
    let (before, after) = text.split_once("\"key\":\"").unwrap();
    making.entries.push(format!("{before}{}", &after[18..]).into_bytes());
    assert_eq!(making.found("half"), ["form"]);
}
