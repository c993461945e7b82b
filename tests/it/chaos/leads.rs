//! Two instances on one database, each under load and each after the lead of the log: whoever has it is killed, frozen until
//! it has lost it, or cut off from it. There is one order, no number twice and no fork, whatever each believes of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use strongroom::audit::checkpoint::SignedCheckpoint;
use strongroom::audit::tree::TreeHash;
use tokio::task::JoinHandle;

use super::load::Load;
use super::{plan, proof};
use crate::support::dice::Dice;
use crate::support::export::Exported;
use crate::support::{Rig, ServiceOptions, Strongroom, eventually};

/// What befalls the one that leads.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Killed,
    /// Until another leads; then it goes on and believes for a moment that it still does.
    Frozen,
    /// The database ends its session, with the lock that was kept with it.
    CutOff,
}

impl Fate {
    const ALL: [Self; 3] = [Self::Killed, Self::Frozen, Self::CutOff];
}

#[tokio::test]
async fn of_two_that_want_the_lead_one_orders_the_log() {
    let (rounds, seed) = plan();
    let mut dice = Dice(seed);
    let rig = Arc::new(Rig::start("chaos-leads").await);
    let start =
        || Strongroom::start_with(ServiceOptions { rig: Some(Arc::clone(&rig)), ..Default::default() });
    let mut services = [start().await, start().await];
    let loads = [Load::start(&services[0], seed).await, Load::start(&services[1], !seed).await];
    let watch = Watch::begin(&rig).await;
    let mut fates = Vec::new();
    // Each once, at least; a freeze takes as long as a session may be silent.
    for round in 1..=rounds.div_ceil(6).max(Fate::ALL.len()) {
        if fates.is_empty() {
            fates.extend(Fate::ALL);
            dice.shuffle(&mut fates);
        }
        let fate = fates.pop().unwrap();
        let (leader, epoch) = leader(&services).await;
        let what = format!("seed {seed}, round {round}: {leader} is {fate:?} in epoch {epoch}");
        loads[leader].tally.attempts(dice.below(60)).await;
        meets(fate, (&mut services, leader, epoch), (&loads, &rig)).await;
        for (service, load) in services.iter().zip(&loads) {
            service.wait_until_ready().await;
            load.is_alive(&what);
            load.tally.goes_on(&what).await;
        }
        println!("{what}");
    }
    let [first, second] = loads;
    let (mut told, mut others) = (first.end().await, second.end().await);
    watch.end().await;
    told.records.extend(std::mem::take(&mut others.records));
    told.entries.extend(std::mem::take(&mut others.entries));
    holds(&services, &rig, told).await;
}

async fn meets(
    fate: Fate,
    (services, leader, epoch): (&mut [Strongroom; 2], usize, i64),
    (loads, rig): (&[Load; 2], &Rig),
) {
    let others_lead = async |services: &[Strongroom; 2]| {
        eventually("the other leads", async || led(&services[1 - leader]) > epoch).await;
    };
    match fate {
        Fate::Killed => {
            loads[leader].tally.service_left();
            services[leader].kill();
            others_lead(services).await;
            services[leader].relaunch().await;
            loads[leader].tally.service_came();
        }
        Fate::Frozen => {
            let lost = lost(&services[leader]);
            loads[leader].tally.service_left();
            services[leader].freeze();
            others_lead(services).await;
            loads[1 - leader].tally.attempts(20).await;
            services[leader].thaw();
            loads[leader].tally.service_came();
            eventually("it hears that it lost the lead", async || self::lost(&services[leader]) > lost).await;
        }
        Fate::CutOff => {
            let sql =
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted";
            assert_eq!(rig.data().await.query(sql, &[]).await.unwrap().len(), 1, "one has the lead");
            eventually("somebody leads anew", async || services.iter().map(led).max() > Some(epoch)).await;
        }
    }
}

/// The newest epoch that an instance has led, as it said.
fn led(service: &Strongroom) -> i64 {
    let lines = service.log();
    let events = lines.iter().filter(|line| line.contains("log.leading"));
    let epoch = |line: &String| serde_json::from_str::<Value>(line).unwrap()["epoch"].as_i64();
    events.filter_map(epoch).max().unwrap_or(0)
}

fn lost(service: &Strongroom) -> usize {
    service.log().iter().filter(|line| line.contains("log.round_failed")).count()
}

/// Which one leads, and in which epoch.
async fn leader(services: &[Strongroom; 2]) -> (usize, i64) {
    let head = services[0].data().await;
    let mut found = None;
    eventually("one of them leads", async || {
        let epoch: i64 = head.query_one("SELECT epoch FROM audit_head", &[]).await.unwrap().get(0);
        found = services.iter().position(|service| led(service) == epoch).map(|place| (place, epoch));
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Looks at the head all the while: it only grows, and what was signed of one size has one root.
struct Watch {
    stop: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Watch {
    async fn begin(rig: &Rig) -> Self {
        let (client, stop) = (rig.data().await, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut size, mut epoch, mut signed) = (0, 0, Signed::default());
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while !stopped.load(Ordering::SeqCst) {
                tick.tick().await;
                let row =
                    client.query_one("SELECT size, epoch, checkpoint FROM audit_head", &[]).await.unwrap();
                let (new_size, new_epoch): (i64, i64) = (row.get(0), row.get(1));
                assert!(new_size >= size && new_epoch >= epoch, "the head went back");
                (size, epoch) = (new_size, new_epoch);
                signed.add(row.get::<_, &str>(2).as_bytes());
            }
            signed.roots.len()
        });
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        assert!(self.task.await.unwrap() > 3, "checkpoints were signed");
    }
}

/// The root of each size that was signed.
#[derive(Default)]
struct Signed {
    roots: BTreeMap<u64, TreeHash>,
}

impl Signed {
    fn add(&mut self, note: &[u8]) {
        if note.is_empty() {
            return;
        }
        let signed = SignedCheckpoint::parse(note).unwrap();
        let checkpoint = signed.checkpoint();
        let root = self.roots.entry(checkpoint.size()).or_insert(*checkpoint.root());
        assert_eq!(root, checkpoint.root(), "two roots were signed of one size");
    }
}

async fn holds(services: &[Strongroom; 2], rig: &Rig, mut told: super::load::Told) {
    rig.is_whole("after everything").await;
    proof::every_write_is_there(&services[0], &mut told).await;
    proof::every_answer_is_on_record(&services[1], &told).await;
    let data = rig.data().await;
    proof::chains_have_no_gap(&data).await;
    // Each writes files while it leads: what both have ever published is of one tree.
    let (leader, _) = leader(services).await;
    let exported = [Exported::of(&services[0]).await, Exported::of(&services[1]).await];
    exported[leader].has_everything(&services[leader]).await;
    proof::every_entry_has_one_number(&data).await;
    let mut signed = Signed::default();
    for exported in &exported {
        exported.verify();
        exported.checkpoints().iter().for_each(|note| signed.add(note));
    }
}
