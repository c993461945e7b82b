//! The run: each server in turn, round after round, for each scenario and number of connections.

use std::sync::Arc;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::connection::Target;
use crate::generator::{self, Lane, Limits, Round};
use crate::lanes::{Append, Create, Read, Roster, Update};
use crate::options::{Options, Scenario};
use crate::patients::Spread;
use crate::processor::{Meter, resident_bytes};
use crate::report::{self, Report};
use crate::series::{Comparison, Series, compare};
use crate::stage::Stage;

/// A server in the contest, with its own record of the updates it has seen.
pub struct Contender {
    pub target: Target,
    pub process: u32,
    pub roster: Arc<Roster>,
}

/// Runs the whole bench and prints what it found.
pub fn run(options: &Options, runtime: &Runtime) -> Result<()> {
    let mut stage = Stage::set(options, runtime)?;
    let result = contest(options, &mut stage, runtime);
    let conditions = stage.conditions(options, runtime);
    stage.strike(options, runtime)?;
    let comparisons = result?;
    let date = jiff::Zoned::new(now(), jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string();
    Report { date, conditions: conditions?, comparisons }.print(options.json)
}

fn contest(options: &Options, stage: &mut Stage, runtime: &Runtime) -> Result<Vec<Comparison>> {
    let mut comparisons = Vec::new();
    for scenario in &options.scenarios {
        for connections in &options.connections {
            stage.settle(runtime)?;
            comparisons.push(pairing(options, stage, *scenario, (*connections).max(1))?);
        }
    }
    Ok(comparisons)
}

/// A scenario at a number of connections. The order alternates, so that a drift of the machine hits both alike.
fn pairing(
    options: &Options,
    stage: &mut Stage,
    scenario: Scenario,
    connections: usize,
) -> Result<Comparison> {
    let (mut bare, mut strongroom) = (Series::new()?, Series::new()?);
    for number in 1..=options.rounds() {
        let order = if number % 2 == 1 { [false, true] } else { [true, false] };
        for is_strongroom in order {
            let (contender, series) =
                if is_strongroom { (&stage.strongroom, &mut strongroom) } else { (&stage.bare, &mut bare) };
            let round = round(options, contender, &stage.postgres, scenario, connections, number)?;
            series.add(&round, resident_bytes(contender.process)?)?;
            stage.check()?;
        }
        report::round(scenario.name(), connections, number, bare.last(), strongroom.last());
    }
    Ok(compare(scenario.name(), connections, bare.figures(), strongroom.figures()))
}

fn round(
    options: &Options,
    contender: &Contender,
    postgres: &Meter,
    scenario: Scenario,
    connections: usize,
    number: usize,
) -> Result<Round> {
    // The same seeds for both servers: they are asked the same.
    let mut seeds = Spread::new(seed(scenario, connections, number));
    let lanes = (0..connections).map(|lane| new_lane(scenario, contender, seeds.next(), lane, connections));
    let limits = Limits {
        warm_up: options.warm_up(),
        measured: options.measured(),
        requests: options.requests.unwrap_or(u64::MAX),
    };
    let meters = [Meter::Process(contender.process), postgres.clone(), Meter::own(), Meter::Machine];
    generator::run(&contender.target, lanes.collect(), limits, &meters)
}

fn new_lane(
    scenario: Scenario,
    contender: &Contender,
    seed: u64,
    lane: usize,
    lanes: usize,
) -> Box<dyn Lane> {
    let roster = &contender.roster;
    match scenario {
        Scenario::Read => Read::lane(roster, seed),
        Scenario::Create => Create::lane(seed),
        Scenario::Append => Append::lane(roster, seed),
        Scenario::Update => Update::lane(roster, seed, lane, lanes),
    }
}

fn seed(scenario: Scenario, connections: usize, number: usize) -> u64 {
    let parts = [scenario as usize, connections, number];
    parts.iter().fold(0, |seed, part| seed * 1_000 + u64::try_from(*part).unwrap_or(0))
}

#[expect(clippy::disallowed_methods, reason = "the date of the report")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
