//! The run: each server in turn, round after round, for each scenario and number of connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::connection::Target;
use crate::generator::{self, Lane, Limits, Round};
use crate::kv::Kv;
use crate::lanes::{Append, Create, Enter, Read, ReadMany, Roster, Search, Update};
use crate::options::{Options, Scenario};
use crate::patients::Spread;
use crate::processor::{Meter, resident_bytes};
use crate::report::{self, Report};
use crate::series::{Comparison, Sample, Series, compare};
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
    let mut patience = options.patience();
    for scenario in &options.scenarios {
        for connections in &options.connections {
            stage.settle(runtime)?;
            comparisons.push(pairing(
                options,
                stage,
                *scenario,
                (*connections).max(1),
                &mut patience,
                runtime,
            )?);
        }
    }
    Ok(comparisons)
}

/// A scenario at a number of connections. The order alternates, so that a drift of the machine hits both alike. A pair of
/// rounds that something else disturbed is run again while patience lasts, whatever it showed.
fn pairing(
    options: &Options,
    stage: &mut Stage,
    scenario: Scenario,
    connections: usize,
    patience: &mut Duration,
    runtime: &Runtime,
) -> Result<Comparison> {
    let (mut bare, mut strongroom, mut openbao) = (Series::new()?, Series::new()?, Series::new()?);
    let own_dialect = if options.calibrate { Dialect::Bare } else { Dialect::Records };
    let entry_bytes = stage.entry_bytes;
    let (mut number, mut numbered_after) = (1, None);
    while number <= options.rounds() {
        let start = Instant::now();
        let first_is_bare = number % 2 == 1;
        let run = |contender: &Contender, dialect: Dialect| -> Result<(Sample, Round)> {
            let asked = Asked { scenario, connections, number, dialect, entry_bytes };
            let round = round(options, contender, &stage.postgres, asked)?;
            Ok((Sample::of(&round)?, round))
        };
        let own = if scenario == Scenario::ReadCold { stage.cold.as_ref() } else { None };
        let own = own.unwrap_or(&stage.strongroom);
        let early = if first_is_bare { Some(run(&stage.bare, Dialect::Bare)?) } else { None };
        let ours = run(own, own_dialect)?;
        if !options.calibrate {
            numbered_after = numbered_after.max(Some(stage.catch_up(runtime)?));
        }
        let theirs = early.map_or_else(|| run(&stage.bare, Dialect::Bare), Ok)?;
        let third = match stage.openbao.as_ref().filter(|_| scenario.is_of_a_store()) {
            Some(contender) => Some((run(contender, Dialect::Kv)?, contender.process)),
            None => None,
        };
        report::round(scenario.name(), connections, number, &theirs.0, &ours.0);
        let disturbed = theirs.0.others_percent.max(ours.0.others_percent) > report::DISTURBED_PERCENT;
        if disturbed && !patience.is_zero() {
            stage.check()?;
            *patience = patience.saturating_sub(start.elapsed());
            continue;
        }
        bare.add(theirs.0, &theirs.1, resident_bytes(stage.bare.process)?)?;
        strongroom.add(ours.0, &ours.1, resident_bytes(own.process)?)?;
        if let Some(((sample, round), process)) = third {
            openbao.add(sample, &round, resident_bytes(process)?)?;
        }
        stage.check()?;
        number += 1;
    }
    let openbao = (stage.openbao.is_some() && scenario.is_of_a_store()).then(|| openbao.figures());
    let compared = compare(scenario.name(), connections, bare.figures(), strongroom.figures(), openbao);
    let numbered_after_ms = numbered_after.map(|after| after.as_secs_f64() * 1e3);
    Ok(Comparison { numbered_after_ms, ..compared })
}

fn round(options: &Options, contender: &Contender, postgres: &Meter, asked: Asked) -> Result<Round> {
    let Asked { scenario, connections, number, .. } = asked;
    // The same seeds for all servers: they are asked the same.
    let mut seeds = Spread::new(seed(scenario, connections, number));
    let lanes = (0..connections).map(|lane| new_lane(asked, contender, seeds.next(), lane));
    let limits = Limits {
        warm_up: options.warm_up(),
        measured: options.measured(),
        requests: options.requests.unwrap_or(u64::MAX),
    };
    let meters = [Meter::Process(contender.process), postgres.clone(), Meter::own(), Meter::Machine];
    let mut round = generator::run(&contender.target, lanes.collect(), limits, &meters)?;
    if scenario == Scenario::Entries && matches!(asked.dialect, Dialect::Records) {
        round.requests *= u64::try_from(ReadMany::records(&contender.roster))?;
    }
    Ok(round)
}

/// How a server wants to be asked.
#[derive(Clone, Copy)]
enum Dialect {
    Records,
    /// The same, but for what it cannot do.
    Bare,
    Kv,
}

#[derive(Clone, Copy)]
struct Asked {
    scenario: Scenario,
    connections: usize,
    number: usize,
    dialect: Dialect,
    entry_bytes: usize,
}

fn new_lane(asked: Asked, contender: &Contender, seed: u64, lane: usize) -> Box<dyn Lane> {
    let (roster, lanes) = (&contender.roster, asked.connections);
    if matches!(asked.dialect, Dialect::Kv) {
        return Kv::lane(asked.scenario, roster, seed, lane, lanes);
    }
    match asked.scenario {
        Scenario::Read | Scenario::ReadCold => Read::lane(roster, seed),
        Scenario::Create => Create::lane(seed),
        Scenario::Append => Append::lane(roster, seed),
        Scenario::Update => Update::lane(roster, seed, lane, lanes),
        // It has no index but its primary key.
        Scenario::Search if matches!(asked.dialect, Dialect::Bare) => Read::lane(roster, seed),
        Scenario::Search => Search::lane(roster, seed),
        Scenario::Entries if matches!(asked.dialect, Dialect::Bare) => Enter::lane(asked.entry_bytes),
        Scenario::Entries => ReadMany::lane(roster, seed),
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
