//! Makes the terms of records anew when the policy declares other indexes than they were stored under, and removes them when it
//! declares none.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::service::Service;

/// A look costs a few empty stretches of an index.
const EVERY: Duration = Duration::from_secs(5);
/// While all that is left does not open, and the policy is the same.
const LATER: Duration = Duration::from_mins(10);

/// Looks every few seconds. A failure is logged, and the next round goes on where this one ended.
pub async fn keep(service: Arc<Service>) {
    let mut left_over: Option<(String, Instant)> = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let policy = service.policy_hash();
        if left_over.as_ref().is_some_and(|(known, at)| *known == policy && at.elapsed() < LATER) {
            continue;
        }
        left_over = None;
        match service.reindex().await {
            Ok(round) if round.made > 0 => tracing::info!(records = round.made, "index.made"),
            Ok(round) if round.are_left && !round.is_overtaken => left_over = Some((policy, Instant::now())),
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %error, "index.not_made"),
        }
    }
}
