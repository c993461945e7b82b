//! Counts broken glass that nobody has reviewed in time, for whoever watches the service.

use std::sync::Arc;
use std::time::Duration;

use crate::service::Service;

const EVERY: Duration = Duration::from_secs(5);

/// Looks every few seconds, first at the start. Told once as more become overdue. A failure is logged once, and the next
/// round tries again.
pub async fn keep(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut told, mut is_failing) = (0, false);
    loop {
        ticks.tick().await;
        match service.count_overdue_reviews().await {
            Ok(overdue) => {
                if overdue > told {
                    tracing::error!(overdue, "break_glass.not_reviewed");
                }
                (told, is_failing) = (overdue, false);
            }
            Err(error) => {
                if !is_failing {
                    tracing::warn!(error = %error, "break_glass.not_counted");
                }
                is_failing = true;
            }
        }
    }
}
