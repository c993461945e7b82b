//! An allowance that is used up and comes back with time: the generic cell rate algorithm (ITU-T I.371, annex A) in one
//! word of memory, in whole nanoseconds, with the time as a parameter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Timestamp;

/// The most that is ever taken at once: a batch.
const LARGEST: u32 = 500;

/// So much in so long, of which some may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Until one more may be taken.
    interval_ns: u64,
    at_once: u32,
}

impl Rate {
    /// `amount` in each `period`, and `at_once` where nothing was taken for long; both at least 1. More than one in a
    /// nanosecond counts as one.
    pub fn new(amount: u32, period: Duration, at_once: u32) -> Self {
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        Self { interval_ns: (period_ns / u64::from(amount.max(1))).max(1), at_once: at_once.max(1) }
    }

    /// The larger of both in each respect.
    #[must_use]
    pub fn or_more(self, other: Self) -> Self {
        Self {
            interval_ns: self.interval_ns.min(other.interval_ns),
            at_once: self.at_once.max(other.at_once),
        }
    }

    const fn cost_ns(self, amount: u32) -> u64 {
        self.interval_ns.saturating_mul(amount as u64)
    }
}

/// When everything that was taken will have come back, in nanoseconds of the clock that it is asked by.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// Takes `amount`, or says how long until that succeeds if nobody else takes any. What is larger than `rate` gives at
    /// once is taken where nothing is owed, and is owed then: it is slow, and not impossible.
    ///
    /// A clock that was set back, or a rate that was lowered, delays nobody longer than a whole allowance takes to come
    /// back.
    pub fn take(&self, rate: Rate, amount: u32, now: Timestamp) -> Result<(), Duration> {
        let now = nanoseconds(now);
        let (cost, room) = (rate.cost_ns(amount), rate.cost_ns(rate.at_once));
        let most_owed = room.max(rate.cost_ns(LARGEST));
        let mut stored = self.0.load(Ordering::Relaxed);
        loop {
            let owed_now = stored.saturating_sub(now);
            let owed = owed_now.min(most_owed);
            let owed_then = owed.saturating_add(cost);
            if owed_then > room && !(owed == 0 && cost > room) {
                let wait = if cost > room { owed } else { owed_then - room };
                if owed < owed_now {
                    // Else the rest would have to come back as well. Where another is ahead, it has seen to it.
                    let next = now.saturating_add(owed);
                    let _ = self.0.compare_exchange(stored, next, Ordering::Relaxed, Ordering::Relaxed);
                }
                return Err(Duration::from_nanos(wait));
            }
            let next = now.saturating_add(owed_then);
            match self.0.compare_exchange_weak(stored, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => stored = other,
            }
        }
    }

    /// Undoes a [`Self::take`] at the same rate. It never gives more than there is when nothing is owed.
    pub fn give_back(&self, rate: Rate, amount: u32) {
        let cost = rate.cost_ns(amount);
        let less = |stored: u64| Some(stored.saturating_sub(cost));
        // The closure always gives a value.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(0).saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;
    /// The tests' clock begins here.
    const START: i64 = 1_700_000_000 * SECOND;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(START + micros)
    }

    #[test]
    fn some_come_at_once_and_the_rest_with_time() {
        let (meter, rate) = (Meter::default(), Rate::new(60, Duration::from_mins(1), 3));
        for _ in 0..3 {
            assert_eq!(meter.take(rate, 1, at(0)), Ok(()));
        }
        assert_eq!(meter.take(rate, 1, at(0)), Err(Duration::from_secs(1)));
        assert_eq!(meter.take(rate, 2, at(0)), Err(Duration::from_secs(2)));
        assert_eq!(meter.take(rate, 1, at(SECOND - 1)), Err(Duration::from_micros(1)));
        assert_eq!(meter.take(rate, 1, at(SECOND)), Ok(()));
        assert_eq!(meter.take(rate, 1, at(SECOND)), Err(Duration::from_secs(1)));
        meter.give_back(rate, 1);
        assert_eq!(meter.take(rate, 1, at(SECOND)), Ok(()));
    }

    #[test]
    fn what_is_too_large_is_taken_when_nothing_is_owed_and_is_owed_then() {
        let (meter, rate) = (Meter::default(), Rate::new(60, Duration::from_mins(1), 3));
        assert_eq!(meter.take(rate, 500, at(0)), Ok(()));
        assert_eq!(meter.take(rate, 1, at(0)), Err(Duration::from_secs(498)));
        assert_eq!(meter.take(rate, 500, at(0)), Err(Duration::from_secs(500)));
        assert_eq!(meter.take(rate, 1, at(498 * SECOND)), Ok(()));
        assert_eq!(meter.take(rate, 4, at(498 * SECOND)), Err(Duration::from_secs(3)));
    }

    #[test]
    fn a_clock_set_back_or_a_lower_rate_delays_nobody_for_long() {
        let meter = Meter::default();
        let (fast, slow) =
            (Rate::new(1_000, Duration::from_secs(1), 5_000), Rate::new(1, Duration::from_secs(1), 2));
        assert_eq!(meter.take(fast, 5_000, at(3_600 * SECOND)), Ok(()));
        // As if five seconds were owed, and not an hour more.
        assert_eq!(meter.take(fast, 1, at(0)), Err(Duration::from_millis(1)));
        assert_eq!(meter.take(fast, 1, at(1_000)), Ok(()), "the wait that was told");
        assert_eq!(meter.take(fast, 5_000, at(3_600 * SECOND)), Ok(()));
        assert_eq!(meter.take(slow, 1, at(0)), Err(Duration::from_secs(499)));
        assert_eq!(meter.take(slow, 1, at(499 * SECOND)), Ok(()));
    }

    proptest! {
        /// In whatever stretch of time, no more is taken than comes back in it and one allowance, or one that is larger.
        #[test]
        fn no_stretch_of_time_gives_more(
            per_minute in 1..600_u32,
            at_once in 1..50_u32,
            steps in proptest::collection::vec((0..30 * SECOND, 1..60_u32), 1..60),
        ) {
            let (meter, rate) = (Meter::default(), Rate::new(per_minute, Duration::from_mins(1), at_once));
            let mut now = 0;
            let mut taken: Vec<(i64, u32)> = Vec::new();
            for (pause, amount) in steps {
                now += pause;
                if meter.take(rate, amount, at(now)).is_ok() {
                    taken.push((now, amount));
                }
            }
            for (first, (begin, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (end, amount) in &taken[first..] {
                    sum += u64::from(*amount);
                    let elapsed_ns = u64::try_from(end - begin).unwrap() * 1_000;
                    let back = elapsed_ns / rate.interval_ns;
                    prop_assert!(sum <= back + u64::from(at_once.max(60)) + 1, "{} in {} µs", sum, end - begin);
                }
            }
        }

        /// The wait that is told is exact, and what is given back may be taken again.
        #[test]
        fn the_wait_is_exact(
            per_minute in 1..6_000_u32,
            at_once in 1..50_u32,
            before in proptest::collection::vec(1..60_u32, 1..20),
            amount in 1..60_u32,
        ) {
            let (meter, rate) = (Meter::default(), Rate::new(per_minute, Duration::from_mins(1), at_once));
            for earlier in before {
                let _ = meter.take(rate, earlier, at(0));
            }
            if let Err(wait) = meter.take(rate, amount, at(0)) {
                // In the clock's whole microseconds.
                let micros = i64::try_from(wait.as_nanos().div_ceil(1_000)).unwrap();
                prop_assert!(meter.take(rate, amount, at(micros - 1)).is_err());
                prop_assert!(meter.take(rate, amount, at(micros)).is_ok());
                prop_assert!(meter.take(rate, 1, at(micros)).is_err());
                meter.give_back(rate, amount);
                prop_assert!(meter.take(rate, amount, at(micros)).is_ok());
            }
        }
    }
}
