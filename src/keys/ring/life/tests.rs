use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;
use crate::domain::clock::Clock;
use crate::domain::random::{NoRandomness, Random};

const LIVES: Lives = Lives { soft_micros: 300_000_000, hard_micros: 3_600_000_000 };

struct ManualClock(AtomicI64);
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

struct Zeros;
impl Random for Zeros {
    fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness> {
        destination.fill(0);
        Ok(())
    }
}

/// Answers in the order given, one for each permit.
struct Script {
    answers: Mutex<VecDeque<Result<u32, KeyError>>>,
    gate: Semaphore,
    loads: AtomicUsize,
}

impl Loader for Arc<Script> {
    type Key = u8;
    type Value = u32;
    async fn load(&self, _: u8) -> Result<u32, KeyError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        let answer = self.answers.lock().unwrap().pop_front();
        answer.expect("a load the test did not foresee")
    }
}

struct Bench {
    cache: LifeCache<Arc<Script>>,
    script: Arc<Script>,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new(answers: &[Result<u32, KeyError>], permits: usize) -> Self {
        let clock = Arc::new(ManualClock(AtomicI64::new(1_000_000_000_000)));
        let script = Arc::new(Script {
            answers: Mutex::new(answers.iter().copied().collect()),
            gate: Semaphore::new(permits),
            loads: AtomicUsize::new(0),
        });
        let cache = LifeCache::new(Arc::clone(&script), LIVES, Arc::clone(&clock) as _, Arc::new(Zeros));
        Self { cache, script, clock }
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    async fn get(&self) -> Result<u32, KeyError> {
        self.cache.get(1).await.map(|loaded| loaded.value)
    }

    fn loads(&self) -> usize {
        self.script.loads.load(Ordering::SeqCst)
    }

    /// Until no load is under way and `count` have started.
    async fn settled(&self, count: usize) {
        let settled = async {
            while self.loads() < count || !lock(&self.cache.shared.flights).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), settled).await.expect("loads settle");
    }
}

#[tokio::test]
async fn a_fresh_entry_is_not_loaded_again() {
    let bench = Bench::new(&[Ok(1)], 9);
    assert_eq!(bench.get().await, Ok(1));
    bench.pass(299);
    assert_eq!(bench.get().await, Ok(1));
    assert_eq!(bench.loads(), 1);
}

#[tokio::test]
async fn after_the_soft_life_the_old_is_served_while_the_new_is_fetched() {
    let bench = Bench::new(&[Ok(1), Ok(2)], 1);
    assert_eq!(bench.get().await, Ok(1));
    bench.pass(300);
    for _ in 0..10 {
        assert_eq!(bench.get().await, Ok(1));
    }
    bench.script.gate.add_permits(1);
    bench.settled(2).await;
    assert_eq!(bench.get().await, Ok(2));
    assert_eq!(bench.loads(), 2);
}

#[tokio::test]
async fn after_the_hard_life_nothing_old_is_served() {
    let bench = Bench::new(&[Ok(1), Err(KeyError::Unavailable), Ok(3)], 9);
    assert_eq!(bench.get().await, Ok(1));
    bench.pass(3_600);
    assert_eq!(bench.get().await, Err(KeyError::Unavailable));
    assert_eq!(bench.get().await, Ok(3));
}

#[tokio::test]
async fn an_outage_is_ridden_out_with_pauses_and_errors_are_not_cached() {
    let bench = Bench::new(&[Ok(1), Err(KeyError::Unavailable), Err(KeyError::Unavailable), Ok(4)], 9);
    assert_eq!(bench.get().await, Ok(1));
    bench.pass(300);
    assert_eq!(bench.get().await, Ok(1));
    bench.settled(2).await;
    // Within the pause no new attempt is made.
    assert_eq!(bench.get().await, Ok(1));
    bench.settled(2).await;
    bench.pass(2);
    assert_eq!(bench.get().await, Ok(1));
    bench.settled(3).await;
    bench.pass(2);
    assert_eq!(bench.get().await, Ok(1));
    bench.settled(4).await;
    assert_eq!(bench.get().await, Ok(4));
    assert_eq!(bench.loads(), 4);
}

#[tokio::test]
async fn a_refusal_purges_at_once_and_ends_the_lease() {
    for refusal in [KeyError::Denied, KeyError::Missing, KeyError::TooOld, KeyError::Unusable] {
        let bench = Bench::new(&[Ok(1), Err(refusal), Err(refusal), Ok(5)], 9);
        let lease = bench.cache.get(1).await.map(|loaded| loaded.lease).ok().unwrap();
        bench.pass(300);
        assert_eq!(bench.get().await, Ok(1));
        bench.settled(2).await;
        assert_eq!(lease.age(bench.clock.now(), LIVES), Age::Dead);
        assert_eq!(bench.get().await, Err(refusal));
        // A key that comes back has a new lease: what hung on the old one stays gone.
        assert_eq!(bench.get().await, Ok(5));
        assert_eq!(lease.age(bench.clock.now(), LIVES), Age::Dead);
    }
}

#[tokio::test]
async fn one_load_for_many_callers_and_a_cancelled_one_does_not_stop_it() {
    let bench = Arc::new(Bench::new(&[Ok(1)], 0));
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.get().await })
        })
        .collect();
    while bench.loads() == 0 {
        tokio::task::yield_now().await;
    }
    // The one that started the load hangs up.
    callers[0].abort();
    bench.script.gate.add_permits(1);
    for caller in callers.into_iter().skip(1) {
        assert_eq!(caller.await.unwrap(), Ok(1));
    }
    assert_eq!(bench.loads(), 1);
}

#[tokio::test]
async fn a_loader_that_panics_leaves_no_flight_behind() {
    let bench = Bench::new(&[], 9);
    assert_eq!(bench.get().await, Err(KeyError::Unavailable));
    bench.script.answers.lock().unwrap_or_else(PoisonError::into_inner).push_back(Ok(2));
    bench.script.answers.clear_poison();
    assert_eq!(bench.get().await, Ok(2));
}

#[tokio::test]
async fn the_sweep_drops_what_nobody_asks_for() {
    let bench = Bench::new(&[Ok(1)], 9);
    assert_eq!(bench.get().await, Ok(1));
    bench.pass(3_599);
    bench.cache.sweep();
    assert_eq!(lock(&bench.cache.shared.entries).len(), 1);
    bench.pass(1);
    bench.cache.sweep();
    assert_eq!(lock(&bench.cache.shared.entries).len(), 0);
}

#[tokio::test]
async fn a_clock_set_back_asks_again() {
    let bench = Bench::new(&[Ok(1), Ok(2)], 9);
    assert_eq!(bench.get().await, Ok(1));
    bench.pass(-1_000);
    assert_eq!(bench.get().await, Ok(1));
    bench.settled(2).await;
    assert_eq!(bench.get().await, Ok(2));
}
