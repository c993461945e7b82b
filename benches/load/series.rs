//! Rounds of two servers in turn, and what they say together.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::generator::{Round, empty_histogram};

/// One server's figures in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub requests: u64,
    pub per_second: f64,
    /// Processor time of the server's process for each request.
    pub server_cpu_us: f64,
    /// The same of PostgreSQL, all of its processes.
    pub postgres_cpu_us: f64,
    /// The same of the load generator, which shares the machine.
    pub generator_cpu_us: f64,
    /// The share of the machine that went to neither of these: what disturbed the round.
    pub others_percent: f64,
}

/// One server's figures over all rounds of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub server_cpu_us: f64,
    pub postgres_cpu_us: f64,
    pub generator_cpu_us: f64,
    pub others_percent: f64,
    pub resident_mib: f64,
    pub rounds: Vec<Sample>,
}

/// Two servers side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub scenario: &'static str,
    pub connections: usize,
    pub bare: Figures,
    pub strongroom: Figures,
    pub openbao: Option<Figures>,
    /// Strongroom's median throughput over OpenBao's.
    pub over_openbao: Option<f64>,
    /// Strongroom's median throughput over the bare server's.
    pub ratio: f64,
    /// The same of neighbouring rounds: the lowest and the highest.
    pub ratio_lowest: f64,
    pub ratio_highest: f64,
    /// How long after its last answer every entry of a round had its number in the log, at most.
    pub numbered_after_ms: Option<f64>,
}

impl Sample {
    /// Of a round whose meters were the server, PostgreSQL, the generator and the machine.
    pub fn of(round: &Round) -> Result<Self> {
        let requests = float(round.requests);
        let used = |index: usize| round.usage.get(index).map_or(0.0, |usage| usage.processor.as_secs_f64());
        let cpu = |index: usize| used(index) * 1e6 / requests.max(1.0);
        let seconds = round.elapsed.as_secs_f64().max(1e-9);
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let others = (used(3) - used(0) - used(1) - used(2)).max(0.0);
        Ok(Self {
            requests: round.requests,
            per_second: requests / seconds,
            server_cpu_us: cpu(0),
            postgres_cpu_us: cpu(1),
            generator_cpu_us: cpu(2),
            others_percent: 100.0 * others / (seconds * float(u64::try_from(processors)?)),
        })
    }
}

/// Collects the rounds of one server.
pub struct Series {
    samples: Vec<Sample>,
    latency: Histogram<u64>,
    resident_bytes: u64,
}

impl Series {
    pub fn new() -> Result<Self> {
        Ok(Self { samples: Vec::new(), latency: empty_histogram()?, resident_bytes: 0 })
    }

    pub fn add(&mut self, sample: Sample, round: &Round, resident_bytes: u64) -> Result<()> {
        self.latency.add(&round.latency)?;
        self.resident_bytes = self.resident_bytes.max(resident_bytes);
        self.samples.push(sample);
        Ok(())
    }

    pub fn figures(self) -> Figures {
        let middle = |pick: fn(&Sample) -> f64| median(&self.samples.iter().map(pick).collect::<Vec<_>>());
        let millis = |quantile| float(self.latency.value_at_quantile(quantile)) / 1e3;
        Figures {
            per_second: middle(|sample| sample.per_second),
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            p999_ms: millis(0.999),
            server_cpu_us: middle(|sample| sample.server_cpu_us),
            postgres_cpu_us: middle(|sample| sample.postgres_cpu_us),
            generator_cpu_us: middle(|sample| sample.generator_cpu_us),
            others_percent: middle(|sample| sample.others_percent),
            resident_mib: float(self.resident_bytes) / 1_048_576.0,
            rounds: self.samples,
        }
    }
}

pub fn compare(
    scenario: &'static str,
    connections: usize,
    bare: Figures,
    strongroom: Figures,
    openbao: Option<Figures>,
) -> Comparison {
    let ratios: Vec<f64> = bare
        .rounds
        .iter()
        .zip(&strongroom.rounds)
        .map(|(bare, strongroom)| ratio(strongroom.per_second, bare.per_second))
        .collect();
    Comparison {
        scenario,
        connections,
        ratio: ratio(strongroom.per_second, bare.per_second),
        ratio_lowest: ratios.iter().copied().reduce(f64::min).unwrap_or(0.0),
        ratio_highest: ratios.iter().copied().reduce(f64::max).unwrap_or(0.0),
        over_openbao: openbao.as_ref().map(|openbao| ratio(strongroom.per_second, openbao.per_second)),
        bare,
        strongroom,
        openbao,
        numbered_after_ms: None,
    }
}

pub fn ratio(value: f64, base: f64) -> f64 {
    if base > 0.0 { value / base } else { 0.0 }
}

/// The middle one, or the mean of the two in the middle; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) }
}

/// Counts and microseconds here are far below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "a figure for a table, far below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}
