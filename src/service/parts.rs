//! Which of the parts that an answer depends on are down, and since when.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Service;
use crate::domain::clock::Timestamp;
use crate::keys::Health;
use crate::telemetry::metrics;

/// A part that does not answer within this is down, for whoever asks and for the watch: a hung part must not hang them.
const PATIENCE: Duration = Duration::from_secs(1);

const NAMES: [&str; 4] = ["data", "keys", "vault", "audit"];

/// A part that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartDown {
    /// `data`, `keys`, `vault` or `audit`.
    pub name: &'static str,
    /// When it was first seen down; the watch looks every few seconds.
    pub since: Timestamp,
}

/// One look at a time. Whoever asks is answered by one that began after it asked, its own or somebody else's.
#[derive(Debug, Default)]
pub(super) struct SharedLook(tokio::sync::Mutex<Option<(Instant, Vec<PartDown>)>>);

impl SharedLook {
    async fn since(&self, asked: Instant, look: impl Future<Output = Vec<PartDown>>) -> Vec<PartDown> {
        let mut last = self.0.lock().await;
        if let Some((_, down)) = last.as_ref().filter(|(began, _)| *began >= asked) {
            return down.clone();
        }
        let began = Instant::now();
        let down = look.await;
        *last = Some((began, down.clone()));
        down
    }
}

/// Since when each part, in the order of [`NAMES`], has been seen down.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<[Option<Timestamp>; NAMES.len()]>);

impl Seen {
    /// Takes in what is down now. A part that is up is forgotten; one that goes on being down keeps its first time.
    fn update(&self, is_down: [bool; NAMES.len()], now: Timestamp) -> Vec<PartDown> {
        // A panic elsewhere cannot leave the array half changed.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut down = Vec::new();
        for ((since, name), is_down) in seen.iter_mut().zip(NAMES).zip(is_down) {
            metrics::part(name, !is_down);
            match (is_down, *since) {
                (true, Some(since)) => down.push(PartDown { name, since }),
                (true, None) => {
                    *since = Some(now);
                    tracing::error!(part = name, "part.down");
                    down.push(PartDown { name, since: now });
                }
                (false, Some(from)) => {
                    *since = None;
                    let down_ms = now.as_micros().saturating_sub(from.as_micros()) / 1_000;
                    tracing::warn!(part = name, down_ms, "part.back");
                }
                (false, None) => {}
            }
        }
        down
    }
}

impl Service {
    /// Those that are down now, within little more than two seconds. However many ask, a part is asked by one at a time.
    pub async fn parts_down(&self) -> Vec<PartDown> {
        self.look.since(Instant::now(), self.look_at_parts()).await
    }

    async fn look_at_parts(&self) -> Vec<PartDown> {
        let (data, keys, vault) = tokio::join!(
            tokio::time::timeout(PATIENCE, self.records.ping()),
            tokio::time::timeout(PATIENCE, self.keys.ping()),
            tokio::time::timeout(PATIENCE, self.transit.health()),
        );
        let data = !matches!(data, Ok(Ok(())));
        let keys = !matches!(keys, Ok(Ok(())));
        let vault = !matches!(vault, Ok(Health::Ready)) || !self.gate.is_open_for_keys();
        let audit = self.gate.pass_without_keys().is_err() || self.audit.status().failing_since.is_some();
        self.parts_seen.update([data, keys, vault, audit], self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_asks_while_somebody_looks_waits_for_one_more_look() {
        let (shared, looks) = (SharedLook::default(), AtomicUsize::new(0));
        let (free, gate) = (Notify::new(), Notify::new());
        let ask = || {
            shared.since(Instant::now(), async {
                if looks.fetch_add(1, Ordering::Relaxed) == 0 {
                    free.notify_one();
                    gate.notified().await;
                }
                Vec::new()
            })
        };
        let others = async {
            free.notified().await;
            let all = tokio::join!(ask(), ask(), ask(), async { gate.notify_one() });
            drop(all);
        };
        tokio::join!(ask(), others);
        assert_eq!(looks.load(Ordering::Relaxed), 2);
        ask().await;
        assert_eq!(looks.load(Ordering::Relaxed), 3, "what was seen before is no answer");
    }

    #[test]
    fn a_part_is_down_since_it_was_first_seen_so() {
        let seen = Seen::default();
        let at = Timestamp::from_micros;
        assert_eq!(seen.update([false; 4], at(1)), []);
        let vault = PartDown { name: "vault", since: at(2) };
        assert_eq!(seen.update([false, false, true, false], at(2)), [vault]);
        let data = PartDown { name: "data", since: at(3) };
        assert_eq!(seen.update([true, false, true, false], at(3)), [data, vault]);
        assert_eq!(seen.update([true, false, false, false], at(4)), [data]);
        let again = PartDown { name: "vault", since: at(5) };
        assert_eq!(seen.update([false, false, true, false], at(5)), [again]);
    }
}
