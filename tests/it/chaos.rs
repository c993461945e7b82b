//! Nothing lost, nothing unaudited: a mixed load while the service, both databases, Vault and the network between them
//! fail, one or two of them at a time. Every write that was answered with success is there, every answer has its entry,
//! what is refused is refused clearly and in time, and the service comes back by itself.
//!
//! `make chaos ROUNDS=300 SEED=7` goes on for as long as wanted; the seed decides what fails when, and what is asked. Beside it,
//! what takes a stage of its own: a Vault that is sealed for long (`sealed`), two instances that want the lead (`leads`), a clock
//! that is set (`clock`).

mod clock;
mod faults;
mod leads;
mod load;
mod proof;
mod sealed;

use std::env;
use std::time::Instant;

use crate::support::dice::Dice;
use crate::support::export::Exported;
use faults::{Fault, World};
use load::Load;

/// Rounds and seed, from the environment; without it, each fault once.
fn plan() -> (usize, u64) {
    let rounds =
        number("STRONGROOM_CHAOS_ROUNDS").map_or(Fault::ALL.len(), |rounds| rounds.try_into().unwrap());
    (rounds, number("STRONGROOM_CHAOS_SEED").unwrap_or(1))
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_revealed_is_unrecorded() {
    let (rounds, seed) = plan();
    let mut dice = Dice(seed);
    let mut world = World::start("chaos").await;
    let load = Load::start(&world.strongroom, seed).await;
    load.tally.goes_on("a first load").await;
    let mut faults = Vec::new();
    for round in 1..=rounds {
        if faults.is_empty() {
            faults.extend(Fault::ALL.into_iter().filter(|fault| world.can(*fault)));
            dice.shuffle(&mut faults);
        }
        let first = faults.pop().unwrap();
        // Every third round something else fails on top of it.
        let second = (round % 3 == 0).then(|| Fault::ALL[dice.below(Fault::ALL.len())]);
        let second = second.filter(|second| second.goes_with(first) && world.can(*second));
        let what = format!("seed {seed}, round {round}: {first:?} {second:?}");
        let (begun, refused) = (Instant::now(), load.tally.refusals());
        for fault in [Some(first), second].into_iter().flatten() {
            load.tally.attempts(dice.below(40)).await;
            world.inject(fault, &load.tally).await;
        }
        load.tally.attempts(dice.below(first.lasts())).await;
        for fault in [Some(first), second].into_iter().flatten() {
            world.heal(fault, &load.tally).await;
        }
        world.strongroom.wait_until_ready().await;
        load.is_alive(&what);
        load.tally.goes_on(&what).await;
        let refused = load.tally.refusals() - refused;
        println!("{what}: {refused} refused, whole after {:.1} s", begun.elapsed().as_secs_f32());
    }
    let mut told = load.end().await;
    println!("{} records, {} answers", told.records.len(), told.entries.len());

    world.rig.is_whole("after everything").await;
    proof::every_write_is_there(&world.strongroom, &mut told).await;
    proof::every_answer_is_on_record(&world.strongroom, &told).await;
    proof::chains_have_no_gap(&world.rig.data().await).await;
    let exported = Exported::of(&world.strongroom).await;
    exported.has_everything(&world.strongroom).await;
    proof::every_entry_has_one_number(&world.rig.data().await).await;
    exported.verify();
}
