//! Revocation reaches connections that are already open.
//!
//! Every request is admitted anew by the router; the sweep is for connections that ask nothing, or stream an answer.
//! Each round asks [`crate::tls::Admission`] about every open connection; after a change of roots or CRLs, and when a
//! CRL has run out, the whole chain is verified again as in a handshake, which finds a revoked issuing CA as well. What
//! no longer passes is told to leave, and is cut at the next round if it has not. So is, by its [`super::pace`], a
//! connection whose client does not go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{MissedTickBehavior, interval};

use super::Hall;
use super::pace::Verdict;
use super::registry::{Open, Order};
use crate::domain::clock::Timestamp;
use crate::telemetry::metrics;
use crate::tls::Refusal;

/// Chains verified in a row before other tasks get their turn.
const CHAINS_IN_A_ROW: usize = 16;

pub(super) async fn run(hall: Arc<Hall>) {
    let mut rounds = interval(hall.door.limits.sweep_interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let all = hall.registry.all();
        report(&hall, &all);
        for (count, open) in all.iter().enumerate() {
            check(&hall, open);
            if count % CHAINS_IN_A_ROW == CHAINS_IN_A_ROW - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Tells the metrics what the door has seen.
fn report(hall: &Hall, all: &[Arc<Open>]) {
    let counters = &hall.door.counters;
    let first_expiry = all.iter().map(|open| open.facts.not_after.as_micros() / 1_000_000).min();
    metrics::door(metrics::DoorCounts {
        accepted: counters.accepted.load(Ordering::Relaxed),
        turned_away: counters.turned_away.load(Ordering::Relaxed),
        swept: counters.swept.load(Ordering::Relaxed),
        stalled: counters.stalled.load(Ordering::Relaxed),
        open: counters.open.load(Ordering::Relaxed),
        first_expiry: first_expiry.unwrap_or(0),
    });
}

fn check(hall: &Hall, open: &Open) {
    match verdict(hall, open, hall.door.clock.now()) {
        Ok(()) => hurry(hall, open),
        Err(Refusal::Unlisted) if is_being_answered(hall, open) => {}
        Err(refusal) => send_away(hall, open, refusal),
    }
}

fn verdict(hall: &Hall, open: &Open, now: Timestamp) -> Result<(), Refusal> {
    let tls = &hall.door.tls;
    let (seen, verified_at) = open.verified();
    // Read before the chain is verified: a change in between shows in the next round.
    let generation = tls.generation();
    if generation != seen || tls.admission().revocations().ran_out_between(verified_at, now) {
        tls.verify_again(&open.chain, now)?;
        open.note_verified(generation, now);
    }
    tls.admission().admit(&open.facts, now).map(|_| ())
}

/// A stranger is let in to hear the router's answer; it has as long as anybody to ask.
fn is_being_answered(hall: &Hall, open: &Open) -> bool {
    open.is_stranger && !open.is_answered() && open.opened.elapsed() < hall.door.limits.header_timeout
}

/// Ends what does not get on: politely where nothing is under way.
fn hurry(hall: &Hall, open: &Open) {
    let verdict = open.pace.verdict(&hall.door.limits);
    let order = match verdict {
        Verdict::Fine => return,
        Verdict::Idle => Order::Leave,
        Verdict::Lingers | Verdict::SlowHead | Verdict::Stalled => Order::Cut,
    };
    if open.ordered() < order {
        hall.door.counters.stalled.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            door.peer = %open.peer,
            door.san = %open.facts.san,
            door.why = verdict.code(),
            "door.connection_stalled"
        );
        open.order(order);
    }
}

fn send_away(hall: &Hall, open: &Open, refusal: Refusal) {
    let was_warned = open.warn();
    match (open.ordered(), was_warned) {
        (Order::Stay, _) => {
            hall.door.counters.swept.fetch_add(1, Ordering::Relaxed);
            tracing::info!(
                door.peer = %open.peer,
                door.san = %open.facts.san,
                door.refusal = refusal.code(),
                "door.connection_swept"
            );
            open.order(Order::Leave);
        }
        // Asked by somebody else since the last round: it gets a round as well.
        (Order::Leave, false) | (Order::Cut, _) => {}
        (Order::Leave, true) => open.order(Order::Cut),
    }
}
