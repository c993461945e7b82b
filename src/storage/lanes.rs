//! Natural batches: requests that wait while statements are in flight share the next one.
//!
//! A round trip costs PostgreSQL and this process several times what the row itself does (figures: benches/README.md), so
//! under load one statement for all who wait is cheaper for each of them, and on an idle service nobody waits: while a
//! lane is free, a job starts at once. No timer.
//!
//! Not here: SQL, and what a batch means when it fails.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::pool::StorageError;

/// How often the others get to run, at most, before a batch is closed.
const YIELDS: u32 = 4;
/// The most jobs of one statement: enough to make the round trip cheap, few enough that none waits long for the rest.
const MOST_JOBS: usize = 64;

/// Work that can be done for many at once.
pub(super) trait Batched: Send + Sync + 'static {
    type Job: Send + 'static;

    /// Whether somebody still waits for it. What nobody waits for and was never begun is dropped.
    fn is_wanted(&self, job: &Self::Job) -> bool;

    /// Whether `job` may go into one statement with `taken`, which is never empty.
    fn joins(&self, taken: &[Self::Job], job: &Self::Job) -> bool;

    /// Does the work and tells each job how it ended. Ends by itself within a few seconds.
    fn run(&self, jobs: Vec<Self::Job>) -> impl Future<Output = ()> + Send;
}

/// What a job is told in the end, if that comes within `patience`.
pub(super) async fn answer<T>(
    reply: oneshot::Receiver<Result<T, StorageError>>,
    patience: Duration,
) -> Result<T, StorageError> {
    match tokio::time::timeout(patience, reply).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(StorageError::Unavailable),
        Err(_) => Err(StorageError::Timeout),
    }
}

/// A queue in front of a few lanes, each with one batch in flight. Cheap to clone.
pub(super) struct Lanes<B: Batched> {
    shared: Arc<Shared<B>>,
}

struct Shared<B: Batched> {
    work: B,
    lanes: usize,
    queue: Mutex<Queue<B::Job>>,
}

struct Queue<J> {
    waiting: VecDeque<J>,
    /// Jobs of batches that are being worked on.
    in_flight: usize,
    /// Lanes that are running, at most `Shared::lanes`.
    running: usize,
}

impl<J> Queue<J> {
    /// A second batch goes out beside one that is in flight when it is at least half as large; a smaller one waits for the
    /// end of the first. Under load the batches come out about equal, and as few as they can be.
    fn is_worth_a_batch(&self) -> bool {
        self.waiting.len() * 2 >= self.in_flight
    }
}

impl<B: Batched> Clone for Lanes<B> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<B: Batched> Lanes<B> {
    pub fn new(work: B, lanes: usize) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), in_flight: 0, running: 0 });
        Self { shared: Arc::new(Shared { work, lanes, queue }) }
    }

    /// Takes a job in. Must run within a tokio runtime. The queue is bounded by whoever puts in: each request waits for
    /// its one job.
    pub fn put(&self, job: B::Job) {
        let mut queue = self.shared.queue();
        queue.waiting.push_back(job);
        if queue.running < self.shared.lanes && queue.is_worth_a_batch() {
            queue.running += 1;
            drop(queue);
            tokio::spawn(run_lane(Arc::clone(&self.shared)));
        }
    }
}

impl<B: Batched> Shared<B> {
    fn queue(&self) -> MutexGuard<'_, Queue<B::Job>> {
        // A panic elsewhere cannot leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest job, and those behind it that may go with it. `None` ends the lane: under the same lock, so that a job
    /// that comes in right after it finds a lane free.
    fn take(&self) -> Option<Vec<B::Job>> {
        let mut queue = self.queue();
        let mut taken: Vec<B::Job> = Vec::new();
        let mut left = VecDeque::new();
        let waiting = if queue.is_worth_a_batch() { mem::take(&mut queue.waiting) } else { VecDeque::new() };
        for job in waiting {
            if !self.work.is_wanted(&job) {
                continue;
            }
            if taken.is_empty() || (taken.len() < MOST_JOBS && self.work.joins(&taken, &job)) {
                taken.push(job);
            } else {
                left.push_back(job);
            }
        }
        queue.waiting.append(&mut left);
        if taken.is_empty() {
            queue.running -= 1;
            return None;
        }
        queue.in_flight += taken.len();
        Some(taken)
    }
}

/// A running lane's place, given back by [`Shared::take`] at the lane's end, and by this if the lane panics.
struct Place<'a, B: Batched>(&'a Shared<B>);

impl<B: Batched> Drop for Place<'_, B> {
    fn drop(&mut self) {
        self.0.queue().running -= 1;
    }
}

/// The jobs of a batch, counted as in flight for as long as this lives.
struct Batch<'a, B: Batched>(&'a Shared<B>, usize);

impl<B: Batched> Drop for Batch<'_, B> {
    fn drop(&mut self) {
        self.0.queue().in_flight -= self.1;
    }
}

async fn run_lane<B: Batched>(shared: Arc<Shared<B>>) {
    let place = Place(&shared);
    loop {
        let_others_in(&shared).await;
        match shared.take() {
            Some(jobs) => {
                let _batch = Batch(&shared, jobs.len());
                shared.work.run(jobs).await;
            }
            None => return mem::forget(place),
        }
    }
}

/// Callers that were answered together come back together: whoever is ready to run now gets to run, for as long as that
/// brings jobs.
async fn let_others_in<B: Batched>(shared: &Shared<B>) {
    let mut before = shared.queue().waiting.len();
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
        let now = shared.queue().waiting.len();
        if now == before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use tokio::sync::Semaphore;

    use super::*;

    /// Answers each job with the jobs of its batch; jobs of another parity do not go together, and 13 breaks everything.
    struct Work {
        gate: Arc<Semaphore>,
        begun: Arc<AtomicUsize>,
    }

    type Job = (u32, oneshot::Sender<Vec<u32>>);

    impl Batched for Work {
        type Job = Job;

        fn is_wanted(&self, job: &Job) -> bool {
            !job.1.is_closed()
        }

        fn joins(&self, taken: &[Job], job: &Job) -> bool {
            taken.iter().all(|other| other.0 % 2 == job.0 % 2)
        }

        async fn run(&self, jobs: Vec<Job>) {
            self.begun.fetch_add(1, Ordering::SeqCst);
            let numbers: Vec<u32> = jobs.iter().map(|job| job.0).collect();
            assert!(!numbers.contains(&13), "told to break");
            self.gate.acquire().await.unwrap().forget();
            for (_, reply) in jobs {
                let _ = reply.send(numbers.clone());
            }
        }
    }

    struct Stand {
        lanes: Lanes<Work>,
        gate: Arc<Semaphore>,
        begun: Arc<AtomicUsize>,
    }

    impl Stand {
        fn new(lanes: usize) -> Self {
            let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
            let work = Work { gate: Arc::clone(&gate), begun: Arc::clone(&begun) };
            Self { lanes: Lanes::new(work, lanes), gate, begun }
        }

        fn put(&self, number: u32) -> oneshot::Receiver<Vec<u32>> {
            let (reply, answer) = oneshot::channel();
            self.lanes.put((number, reply));
            answer
        }

        async fn until_begun(&self, batches: usize) {
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.begun.load(Ordering::SeqCst) < batches {
                assert!(Instant::now() < deadline, "never began {batches}");
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn what_waits_while_one_is_in_flight_goes_together_and_in_order() {
        let stand = Stand::new(1);
        let first = stand.put(1);
        stand.until_begun(1).await;
        let others = [stand.put(3), stand.put(4), stand.put(5), stand.put(6)];
        stand.gate.add_permits(3);
        assert_eq!(first.await.unwrap(), [1]);
        let mut answers = Vec::new();
        for other in others {
            answers.push(other.await.unwrap());
        }
        assert_eq!(answers, [[3, 5], [4, 6], [3, 5], [4, 6]]);
        assert_eq!(stand.begun.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_second_lane_starts_for_half_as_many_and_no_third() {
        let stand = Stand::new(2);
        let mut waiting = vec![stand.put(1), stand.put(3), stand.put(5), stand.put(7)];
        stand.until_begun(1).await;
        waiting.push(stand.put(9));
        // One beside four: not worth a statement of its own.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(stand.begun.load(Ordering::SeqCst), 1);
        waiting.push(stand.put(11));
        stand.until_begun(2).await;
        for number in [15, 17, 19, 21, 23, 25] {
            waiting.push(stand.put(number));
        }
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(stand.begun.load(Ordering::SeqCst), 2, "two lanes, two in flight");
        stand.gate.add_permits(10);
        let mut sizes = Vec::new();
        for answer in waiting {
            sizes.push(answer.await.unwrap().len());
        }
        assert_eq!(sizes, [4, 4, 4, 4, 2, 2, 6, 6, 6, 6, 6, 6]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_begun() {
        let stand = Stand::new(1);
        let first = stand.put(1);
        stand.until_begun(1).await;
        drop(stand.put(3));
        let wanted = stand.put(5);
        stand.gate.add_permits(2);
        assert_eq!(first.await.unwrap(), [1]);
        assert_eq!(wanted.await.unwrap(), [5]);
    }

    #[tokio::test]
    async fn a_batch_that_panics_takes_no_lane_with_it() {
        let stand = Stand::new(1);
        assert!(stand.put(13).await.is_err(), "whoever waited hears of it");
        stand.gate.add_permits(1);
        assert_eq!(stand.put(1).await.unwrap(), [1]);
        let queue = stand.lanes.shared.queue();
        assert_eq!((queue.in_flight, queue.waiting.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_batch_has_a_largest_size() {
        let stand = Stand::new(1);
        let first = stand.put(1);
        stand.until_begun(1).await;
        let others: Vec<_> = (0..100).map(|number| stand.put(number * 2)).collect();
        stand.gate.add_permits(3);
        first.await.unwrap();
        let mut sizes = Vec::new();
        for other in others {
            sizes.push(other.await.unwrap().len());
        }
        assert_eq!(sizes, [vec![MOST_JOBS; MOST_JOBS], vec![100 - MOST_JOBS; 100 - MOST_JOBS]].concat());
    }
}
