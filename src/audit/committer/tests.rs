use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::*;
use crate::audit::act::{Act, Outcome};
use crate::audit::fixtures::{read, scribe};

/// What the sink does with one call.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Store,
    Fail,
    /// Stores, but the answer is lost.
    StoreAndLoseAnswer,
    /// Another writer had our places.
    Fork,
}

#[derive(Default)]
struct Memory {
    log: Mutex<Vec<Batch>>,
    /// What the next calls do; `Store` when it runs out.
    script: Mutex<Vec<Does>>,
    calls: AtomicUsize,
    /// While set, every call fails.
    broken: AtomicBool,
    /// While closed, calls wait.
    closed: tokio::sync::RwLock<()>,
}

#[derive(Clone, Default)]
struct MemorySink(Arc<Memory>);

impl MemorySink {
    fn scripted(script: &[Does]) -> Self {
        let sink = Self::default();
        *sink.0.script.lock().unwrap() = script.iter().rev().copied().collect();
        sink
    }

    async fn call(&self, batch: &Batch) -> Result<Settled, SinkFailure> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let _open = self.0.closed.read().await;
        if self.0.broken.load(Ordering::SeqCst) {
            return Err(SinkFailure);
        }
        let does = self.0.script.lock().unwrap().pop().unwrap_or(Does::Store);
        let mut log = self.0.log.lock().unwrap();
        let known = log.contains(batch);
        match does {
            Does::Fail => return Err(SinkFailure),
            Does::Fork => return Ok(Settled::Forked),
            Does::Store | Does::StoreAndLoseAnswer if known => {}
            Does::Store | Does::StoreAndLoseAnswer => log.push(batch.clone()),
        }
        if does == Does::StoreAndLoseAnswer { Err(SinkFailure) } else { Ok(Settled::Stored) }
    }

    fn entries(&self) -> Vec<ChainedEntry> {
        self.0.log.lock().unwrap().iter().flat_map(|batch| batch.entries.clone()).collect()
    }

    fn batch_sizes(&self) -> Vec<usize> {
        self.0.log.lock().unwrap().iter().map(|batch| batch.entries.len()).collect()
    }
}

impl EntrySink for MemorySink {
    async fn append(&self, batch: &Batch) -> Result<(), SinkFailure> {
        self.call(batch).await.and_then(|settled| match settled {
            Settled::Stored => Ok(()),
            Settled::Forked => Err(SinkFailure),
        })
    }

    async fn settle(&self, batch: &Batch) -> Result<Settled, SinkFailure> {
        self.call(batch).await
    }
}

fn limits(queue_entries: usize, batch_entries: usize, commit_timeout_ms: u64) -> AuditConfig {
    AuditConfig { queue_entries, batch_entries, commit_timeout_ms, chains: 1, ..AuditConfig::default() }
}

fn start(sink: &MemorySink, limits: &AuditConfig) -> (Committer, Drain) {
    Committer::start(sink.clone(), scribe(), limits).unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Without gaps from 1, each naming the one before, in each chain.
fn assert_linked(batches: &[Batch]) {
    let mut ends = std::collections::HashMap::new();
    for batch in batches {
        let end: &mut (i64, Option<String>) = ends.entry(batch.src).or_default();
        for entry in &batch.entries {
            let json: serde_json::Value = serde_json::from_slice(&entry.bytes).unwrap();
            let digest = ring::digest::digest(&ring::digest::SHA256, &entry.bytes);
            assert_eq!(digest.as_ref(), entry.sha256);
            assert_eq!(json["chain"]["src"], batch.src.to_string());
            assert_eq!((entry.seq, json["chain"]["seq"].as_i64()), (end.0 + 1, Some(end.0 + 1)));
            assert_eq!(json["chain"]["prev"].as_str().map(str::to_owned), end.1);
            *end = (entry.seq, Some(hex(&entry.sha256)));
        }
    }
}

#[tokio::test]
async fn what_queues_during_a_commit_is_the_next_batch_and_requests_stay_whole() {
    let sink = MemorySink::default();
    let (committer, drain) = start(&sink, &limits(100, 10, 5_000));
    let closed = sink.0.closed.write().await;
    let submit = |entries: usize| {
        let committer = committer.clone();
        tokio::spawn(async move { committer.submit(vec![read(); entries]).await })
    };
    let mut waiting = vec![submit(1)];
    until("the first batch is in flight", || sink.0.calls.load(Ordering::SeqCst) == 1).await;
    for (entries, total) in [(4, 5), (4, 9), (4, 13), (10, 23), (1, 24)] {
        waiting.push(submit(entries));
        until("it is queued", || committer.status().waiting_entries == total).await;
    }
    drop(closed);
    for job in waiting {
        assert!(job.await.unwrap().is_ok());
    }
    assert_eq!(sink.batch_sizes(), [1, 8, 4, 10, 1], "in order, at most ten, no request split");
    assert_linked(&sink.0.log.lock().unwrap());
    assert_eq!(committer.status().committed_entries, 24);
    drain.finish(Duration::from_secs(5)).await.unwrap();
}

/// With two chains a second batch goes out beside the first, and each chain is whole by itself.
#[tokio::test]
async fn two_chains_have_a_batch_in_flight_each_and_no_more() {
    let sink = MemorySink::default();
    let limits = AuditConfig { chains: 2, ..limits(100, 10, 5_000) };
    let (committer, drain) = start(&sink, &limits);
    let closed = sink.0.closed.write().await;
    let submit = |entries: usize| {
        let committer = committer.clone();
        tokio::spawn(async move { committer.submit(vec![read(); entries]).await })
    };
    let mut waiting = vec![submit(3)];
    until("the first batch is in flight", || sink.0.calls.load(Ordering::SeqCst) == 1).await;
    waiting.push(submit(2));
    until("the second is beside it", || sink.0.calls.load(Ordering::SeqCst) == 2).await;
    for total in 6..=11 {
        waiting.push(submit(1));
        until("it is queued", || committer.status().waiting_entries == total).await;
    }
    assert_eq!(sink.0.calls.load(Ordering::SeqCst), 2, "two chains, two batches");
    drop(closed);
    for job in waiting {
        assert!(job.await.unwrap().is_ok());
    }
    drain.finish(Duration::from_secs(5)).await.unwrap();
    let log = sink.0.log.lock().unwrap();
    assert_linked(&log);
    let chains: std::collections::HashSet<_> = log.iter().map(|batch| batch.src).collect();
    assert_eq!(chains.len(), 2);
    assert_eq!(log.iter().map(|batch| batch.entries.len()).sum::<usize>(), 11);
}

/// A batch whose answer was lost is settled on its own chain; the other goes on, and a stop waits for both.
#[tokio::test]
async fn a_chain_that_waits_does_not_hold_up_the_other() {
    let sink = MemorySink::scripted(&[Does::StoreAndLoseAnswer]);
    let limits = AuditConfig { chains: 2, ..limits(100, 10, 5_000) };
    let (committer, drain) = start(&sink, &limits);
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let committer = committer.clone();
        waiting.push(tokio::spawn(async move { committer.submit(vec![read()]).await }));
    }
    for job in waiting {
        assert!(job.await.unwrap().is_ok());
    }
    drain.finish(Duration::from_secs(5)).await.unwrap();
    assert_eq!(sink.entries().len(), 20, "once each");
    assert_linked(&sink.0.log.lock().unwrap());
    assert_eq!(committer.submit(vec![read()]).await.err(), Some(CommitError::Stopped));
}

#[tokio::test]
async fn a_receipt_only_after_the_commit() {
    let sink = MemorySink::default();
    let (committer, _drain) = start(&sink, &limits(100, 10, 5_000));
    let closed = sink.0.closed.write().await;
    let job = tokio::spawn({
        let committer = committer.clone();
        async move { committer.submit(vec![read(), read()]).await }
    });
    until("it is in flight", || sink.0.calls.load(Ordering::SeqCst) == 1).await;
    assert!(!job.is_finished() && sink.entries().is_empty());
    drop(closed);
    assert_eq!(job.await.unwrap().unwrap().entries(), 2);
    assert_eq!(sink.entries().len(), 2);
}

#[tokio::test]
async fn full_is_refused_late_is_refused_and_neither_loses_what_was_accepted() {
    let sink = MemorySink::default();
    let (committer, drain) = start(&sink, &limits(3, 3, 30));
    let closed = sink.0.closed.write().await;
    let late = committer.submit(vec![read(), read()]).await;
    assert_eq!(late.err(), Some(CommitError::Late));
    assert_eq!(committer.submit(vec![read(), read()]).await.err(), Some(CommitError::Full));
    assert_eq!(committer.submit(vec![read(); 4]).await.err(), Some(CommitError::TooMany));
    assert_eq!(committer.submit(Vec::new()).await.err(), Some(CommitError::Empty));
    // A client that hangs up: its future is dropped while it waits.
    let hung_up = tokio::time::timeout(Duration::from_millis(1), committer.submit(vec![read()])).await;
    assert!(hung_up.is_err());
    drop(closed);
    drain.finish(Duration::from_secs(5)).await.unwrap();
    assert_eq!(sink.entries().len(), 3, "the late and the abandoned entries are in the log");
    assert_eq!(committer.submit(vec![read()]).await.err(), Some(CommitError::Stopped));
    assert_eq!(committer.status().waiting_entries, 0);
}

#[tokio::test]
async fn a_lost_answer_is_settled_with_the_same_bytes() {
    let sink = MemorySink::scripted(&[Does::StoreAndLoseAnswer]);
    let (committer, drain) = start(&sink, &limits(100, 10, 5_000));
    assert!(committer.submit(vec![read()]).await.is_ok());
    assert!(committer.submit(vec![read()]).await.is_ok());
    drain.finish(Duration::from_secs(5)).await.unwrap();
    assert_eq!(sink.batch_sizes(), [1, 1], "once each");
    assert_linked(&sink.0.log.lock().unwrap());
}

#[tokio::test]
async fn while_nothing_can_be_stored_callers_hear_so_and_entries_are_kept() {
    let sink = MemorySink::default();
    sink.0.broken.store(true, Ordering::SeqCst);
    let (committer, drain) = start(&sink, &limits(100, 10, 60_000));
    assert_eq!(committer.submit(vec![read()]).await.err(), Some(CommitError::Unavailable));
    assert!(committer.status().failing_since.is_some());
    assert_eq!(committer.submit(vec![read()]).await.err(), Some(CommitError::Unavailable));
    sink.0.broken.store(false, Ordering::SeqCst);
    until("it recovers by itself", || sink.entries().len() == 2).await;
    assert!(committer.submit(vec![read()]).await.is_ok());
    assert!(committer.status().failing_since.is_none());
    drain.finish(Duration::from_secs(5)).await.unwrap();
    assert_linked(&sink.0.log.lock().unwrap());
}

#[tokio::test]
async fn a_forked_chain_is_left_and_named_by_a_new_one() {
    let sink = MemorySink::scripted(&[Does::Store, Does::Fail, Does::Fork]);
    let (committer, drain) = start(&sink, &limits(100, 10, 5_000));
    assert!(committer.submit(vec![read()]).await.is_ok());
    assert!(committer.submit(vec![read()]).await.is_ok());
    drain.finish(Duration::from_secs(5)).await.unwrap();
    let log = sink.0.log.lock().unwrap();
    assert_eq!(log.len(), 2);
    assert_ne!(log[0].src, log[1].src);
    assert_linked(&log);
    let first: serde_json::Value = serde_json::from_slice(&log[1].entries[0].bytes).unwrap();
    assert_eq!(first["act"], "chain.restart");
    assert_eq!(first["obj"][0]["chain"], log[0].src.to_string());
    assert_eq!(first["obj"][0]["seq"], 1);
    assert_eq!(log[1].entries.len(), 2);
}

#[tokio::test]
async fn a_stop_waits_for_what_was_accepted_but_not_for_ever() {
    let sink = MemorySink::default();
    let (committer, drain) = start(&sink, &limits(100, 2, 10));
    let closed = sink.0.closed.write().await;
    for _ in 0..5 {
        assert_eq!(committer.submit(vec![read()]).await.err(), Some(CommitError::Late));
    }
    assert_eq!(drain.finish(Duration::from_millis(20)).await, Err(5));
    drop(closed);
}

#[tokio::test]
async fn a_write_gets_its_receipt_from_its_own_commit() {
    let sink = MemorySink::default();
    let (committer, _drain) = start(&sink, &limits(100, 10, 5_000));
    let draft = || EntryDraft { act: Act::RecordCreate, outcome: Outcome::SUCCESS, ..read() };
    let failed =
        committer.outbox_entry(&draft()).unwrap().commit_with(async |_| Err::<(), _>("rolled back")).await;
    assert_eq!(failed.err(), Some("rolled back"));
    let entry = committer.outbox_entry(&draft()).unwrap();
    let id = entry.entry_id();
    let stored = entry
        .commit_with(async |outbox| {
            let json: serde_json::Value = serde_json::from_slice(outbox.bytes()).unwrap();
            assert_eq!(json["id"], outbox.entry_id().to_string());
            assert_eq!(json["tenant"], outbox.tenant_id().to_string());
            assert!(json.get("chain").is_none());
            Ok::<_, ()>(outbox.entry_id())
        })
        .await;
    let (stored, receipt) = stored.unwrap();
    assert_eq!((stored, receipt.entries()), (id, 1));
    assert_eq!(crate::audit::Withheld::new("answer").release(&receipt), "answer");
    assert!(sink.entries().is_empty());
}

fn json(entry: &ChainedEntry) -> serde_json::Value {
    serde_json::from_slice(&entry.bytes).unwrap()
}

/// Each flush ends with a signature; each chain begins with the word for the key, lists writes, and has an end.
#[tokio::test]
async fn flushes_are_signed_and_list_the_writes_that_were_seen_committed() {
    let sink = MemorySink::default();
    let (committer, drain) = start(&sink, &limits(100, 10, 5_000));
    assert!(committer.submit(vec![read()]).await.is_ok(), "before anybody vouches");
    committer.attest([7; 64]);
    let draft = || EntryDraft { act: Act::RecordCreate, outcome: Outcome::SUCCESS, ..read() };
    let (kept, lost) = (committer.outbox_entry(&draft()).unwrap(), committer.outbox_entry(&draft()).unwrap());
    let id = kept.entry_id().to_string();
    kept.commit_with(async |_| Ok::<_, ()>(())).await.unwrap();
    let _ = lost.commit_with(async |_| Err::<(), _>("rolled back")).await;
    assert!(committer.submit(vec![read(), read()]).await.is_ok());
    assert_eq!(committer.ends().len(), 1);
    assert_eq!(committer.ends()[0].seq, 4);
    drain.finish(Duration::from_secs(5)).await.unwrap();
    let entries = sink.entries();
    assert_linked(&sink.0.log.lock().unwrap());
    let acts: Vec<_> = entries.iter().map(|entry| json(entry)["act"].as_str().unwrap().to_owned()).collect();
    assert_eq!(acts, ["record.read", "instance.attest", "record.read", "record.read", "chain.end"]);
    let signed: Vec<bool> = entries.iter().map(|entry| json(entry)["chain"].get("sig").is_some()).collect();
    assert_eq!(signed, [true, false, false, true, true]);
    assert_eq!(json(&entries[3])["chain"]["writes"], serde_json::json!([id]));
    assert!(json(&entries[4])["chain"].get("writes").is_none());
    assert_eq!(json(&entries[1])["obj"][0]["instance_key"], hex(committer.instance_key()));
    for entry in entries.iter().filter(|entry| json(entry)["chain"].get("sig").is_some()) {
        let mut value = json(entry);
        let signature = value["chain"].as_object_mut().unwrap().remove("sig").unwrap();
        let digits = signature.as_str().unwrap().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let signature: Vec<u8> = digits.chunks(2).map(byte).collect();
        let unsigned = serde_json_canonicalizer::to_vec(&value).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &unsigned).as_ref().try_into().unwrap();
        let key = committer.instance_key();
        assert!(crate::audit::instance::is_signed(key, &digest, &signature.try_into().unwrap()));
    }
}

/// A write alone is listed as well, soon, by an entry of its own.
#[tokio::test]
async fn writes_that_nothing_follows_are_listed_by_themselves() {
    let sink = MemorySink::default();
    let (committer, _drain) = start(&sink, &limits(100, 10, 5_000));
    committer.attest([7; 64]);
    let draft = EntryDraft { act: Act::RecordCreate, outcome: Outcome::SUCCESS, ..read() };
    let entry = committer.outbox_entry(&draft).unwrap();
    let id = entry.entry_id().to_string();
    entry.commit_with(async |_| Ok::<_, ()>(())).await.unwrap();
    until("it is listed", || sink.entries().len() == 2).await;
    let listing = json(&sink.entries()[1]);
    assert_eq!(
        (&listing["act"], &listing["chain"]["writes"]),
        (&"chain.flush".into(), &serde_json::json!([id]))
    );
}
