//! Removes idempotency keys that have expired. They are dead by their time already; this frees their rows.

use std::sync::Arc;
use std::time::Duration;

use crate::service::Service;

const EVERY: Duration = Duration::from_mins(10);

/// Looks every ten minutes, first at the start. A failure is logged, and the next round tries again.
pub async fn keep(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match service.remove_expired_keys().await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "idempotency.expired"),
            Err(error) => tracing::warn!(error = %error, "idempotency.not_swept"),
        }
    }
}
