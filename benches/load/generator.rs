//! The closed loop: each connection sends its next request when the answer to the last one has been checked.
//!
//! It runs on one thread of its own and in another process than the servers, so that their processor time is theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::connection::{Call, Connection, Target};
use crate::processor::{Meter, Usage};

/// What one connection asks and how its answers are judged.
pub trait Lane: Send {
    /// Writes the next request, or says that there is none.
    fn next(&mut self, call: &mut Call) -> bool;

    /// An error ends the whole run: a server that answers wrongly fast is not fast.
    fn check(&mut self, call: &Call, status: u16, body: &[u8]) -> Result<()>;
}

/// How long a round lasts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Not counted: connections, statement caches and branch predictors settle.
    pub warm_up: Duration,
    pub measured: Duration,
    /// Ends the measured part early.
    pub requests: u64,
}

impl Limits {
    /// Until every lane has nothing more to ask.
    pub const UNTIL_DONE: Self =
        Self { warm_up: Duration::ZERO, measured: Duration::from_hours(1), requests: u64::MAX };
}

/// What a round showed.
pub struct Round {
    pub requests: u64,
    pub elapsed: Duration,
    /// Of a request, in microseconds.
    pub latency: Histogram<u64>,
    /// One per meter, in the order given.
    pub usage: Vec<Usage>,
}

const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

/// Above what any answer takes before the servers' own deadlines.
const LONGEST_MICROS: u64 = 60_000_000;

struct Shared {
    phase: AtomicU8,
    requests: AtomicU64,
    limit: u64,
    enough: Notify,
}

/// Runs one round with a connection per lane. Blocks the calling thread.
pub fn run(target: &Target, lanes: Vec<Box<dyn Lane>>, limits: Limits, meters: &[Meter]) -> Result<Round> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(round(target, lanes, limits, meters))
        });
        thread.join().map_err(|_| anyhow!("the load generator's thread ended by itself"))?
    })
}

async fn round(
    target: &Target,
    lanes: Vec<Box<dyn Lane>>,
    limits: Limits,
    meters: &[Meter],
) -> Result<Round> {
    let connections = open(target, lanes.len()).await?;
    let shared = Arc::new(Shared {
        phase: AtomicU8::new(WARM_UP),
        requests: AtomicU64::new(0),
        limit: limits.requests,
        enough: Notify::new(),
    });
    if limits.warm_up.is_zero() {
        // Before the first request, so that every one is counted.
        shared.phase.store(MEASURED, Ordering::Relaxed);
    }
    let (done, mut ended) = mpsc::channel(lanes.len().max(1));
    let mut tasks = JoinSet::new();
    for (connection, lane) in connections.into_iter().zip(lanes) {
        let (shared, done) = (Arc::clone(&shared), done.clone());
        tasks.spawn(async move {
            let result = drive(connection, lane, &shared).await;
            // Nobody listens any more once the round is over.
            let _ = done.send(result.is_ok()).await;
            result
        });
    }
    drop(done);
    tokio::select! {
        () = tokio::time::sleep(limits.warm_up) => {}
        () = failure_or_end(&mut ended) => {}
    }
    let before = meters.iter().map(Meter::read).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    shared.phase.store(MEASURED, Ordering::Relaxed);
    tokio::select! {
        () = tokio::time::sleep(limits.measured) => {}
        () = shared.enough.notified() => {}
        () = failure_or_end(&mut ended) => {}
    }
    shared.phase.store(OVER, Ordering::Relaxed);
    let elapsed = start.elapsed();
    let after = meters.iter().map(Meter::read).collect::<Result<Vec<_>>>()?;
    let usage = before.iter().zip(&after).map(|(before, after)| after.since(before)).collect();
    let mut latency = empty_histogram()?;
    while let Some(task) = tasks.join_next().await {
        latency.add(task.context("a connection's task")??)?;
    }
    Ok(Round { requests: latency.len(), elapsed, latency, usage })
}

/// Four at a time, below the servers' limit of handshakes.
async fn open(target: &Target, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    while connections.len() < count {
        let batch = (count - connections.len()).min(4);
        let mut opening = JoinSet::new();
        for _ in 0..batch {
            let target = target.clone();
            opening.spawn(async move { Connection::open(&target).await });
        }
        while let Some(opened) = opening.join_next().await {
            connections.push(opened??);
        }
    }
    Ok(connections)
}

/// One lane that fails ends a round; lanes that have nothing more to ask end it together.
async fn failure_or_end(ended: &mut mpsc::Receiver<bool>) {
    while ended.recv().await == Some(true) {}
}

async fn drive(
    mut connection: Connection,
    mut lane: Box<dyn Lane>,
    shared: &Shared,
) -> Result<Histogram<u64>> {
    let mut latency = empty_histogram()?;
    let mut call = Call::default();
    while shared.phase.load(Ordering::Relaxed) != OVER && lane.next(&mut call) {
        let start = Instant::now();
        let (status, body) = connection.exchange(&call).await?;
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(LONGEST_MICROS);
        lane.check(&call, status, body)?;
        if shared.phase.load(Ordering::Relaxed) == MEASURED {
            latency.saturating_record(micros);
            if shared.requests.fetch_add(1, Ordering::Relaxed) + 1 == shared.limit {
                shared.enough.notify_one();
            }
        }
    }
    Ok(latency)
}

/// Three digits from 1 µs up: what a table shows, and a few KiB a connection.
pub fn empty_histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST_MICROS, 3)?)
}
