//! A Vault that is sealed for a while under load: keys in memory serve on, every read that a client saw has its durable
//! entry, the log gets its order and no signature; unsealed, all of it is signed, in the files, and holds.
//!
//! `make chaos SEALED=300` leaves it sealed for so many seconds at least.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use strongroom::audit::checkpoint::SignedCheckpoint;

use super::load::Load;
use super::{number, plan, proof};
use crate::support::export::Exported;
use crate::support::{Client, Rig, ServiceOptions, Strongroom, eventually};

/// Seen by clients while it is sealed.
const READS: usize = 10_000;
/// Beside other tests, on a busy machine.
const LONGEST: Duration = Duration::from_mins(5);

#[tokio::test]
async fn reads_go_on_while_vault_is_sealed_and_each_has_its_entry() {
    let (_, seed) = plan();
    let least = Duration::from_secs(number("STRONGROOM_CHAOS_SEALED_SECONDS").unwrap_or(0));
    let rig = Arc::new(Rig::start("chaos-sealed").await);
    let options = ServiceOptions { rig: Some(Arc::clone(&rig)), ..Default::default() };
    let strongroom = Strongroom::start_with(options).await;
    let exported = Exported::of(&strongroom).await;
    // Certificates are Vault's as well.
    let operator = strongroom.client("operator").await;
    let load = Load::start(&strongroom, seed).await;
    load.tally.goes_on("a first load").await;
    exported.is_begun().await;

    rig.stack.vault.seal().await.unwrap();
    let (sealed, reads) = (Instant::now(), load.tally.reads());
    strongroom.logs("that Vault does not sign", |line| line.contains("vault did not sign")).await;
    let before = Log::of(&strongroom).await;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let shown = || load.tally.reads() - reads;
    while shown() < READS || sealed.elapsed() < least || !is_alarmed(&operator).await {
        tick.tick().await;
        load.is_alive(&format!("seed {seed}, sealed"));
        assert!(sealed.elapsed() < LONGEST + least, "{} reads only", shown());
    }
    let after = Log::of(&strongroom).await;
    assert_eq!(after.signed, before.signed, "nothing is signed");
    assert!(
        after.numbered > before.numbered + u64::try_from(READS).unwrap() / 2,
        "entries get their numbers"
    );
    println!(
        "seed {seed}: {} reads, {} refused, in {:.1} s",
        shown(),
        load.tally.refusals(),
        sealed.elapsed().as_secs_f32()
    );

    rig.stack.vault.unseal().await.unwrap();
    strongroom.wait_until_ready().await;
    load.tally.goes_on("unsealed").await;
    assert_eq!(load.tally.refused_for("keys_unavailable"), 0, "every key was in memory");
    let mut told = load.end().await;
    let records: usize = told
        .entries
        .values()
        .filter(|(act, _)| *act == "record.read")
        .map(|(_, records)| records.len())
        .sum();
    assert!(records >= READS, "{records} reads were told");
    eventually("no alarm is left", async || !is_alarmed(&operator).await).await;
    proof::every_write_is_there(&strongroom, &mut told).await;
    proof::every_answer_is_on_record(&strongroom, &told).await;
    proof::chains_have_no_gap(&strongroom.data().await).await;
    exported.has_everything(&strongroom).await;
    proof::every_entry_has_one_number(&strongroom.data().await).await;
    exported.verify();
}

async fn is_alarmed(operator: &Client) -> bool {
    let ready: Value = operator.get("/readyz").await.json().await.unwrap();
    ready["alarms"].as_array().unwrap().iter().any(|on| on["alarm"] == "log_not_published")
}

/// How far the log is.
struct Log {
    signed: u64,
    numbered: u64,
}

impl Log {
    async fn of(strongroom: &Strongroom) -> Self {
        let row = strongroom.data().await;
        let row = row.query_one("SELECT checkpoint, size FROM audit_head", &[]).await.unwrap();
        let checkpoint = SignedCheckpoint::parse(row.get::<_, &str>(0).as_bytes()).unwrap();
        Self {
            signed: checkpoint.checkpoint().size(),
            numbered: u64::try_from(row.get::<_, i64>(1)).unwrap(),
        }
    }
}
