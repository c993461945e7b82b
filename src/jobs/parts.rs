//! Looks at every part every few seconds, so that `/readyz` knows since when one is down although nobody asked, and the
//! service's own log says when it went and when it came back.

use std::sync::Arc;
use std::time::Duration;

use crate::service::Service;

const EVERY: Duration = Duration::from_secs(5);

/// Looks until it is dropped.
pub async fn watch(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.parts_down().await;
    }
}
