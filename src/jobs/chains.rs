//! Asks again and again whether this process's own entries are still in the database: what somebody took away before it was
//! numbered leaves a gap only when the chain goes on, and this process knows how far it had come.

use std::sync::Arc;
use std::time::Duration;

use crate::service::{Alarm, Service};

const EVERY: Duration = Duration::from_secs(2);

/// Looks until it is dropped. What is gone does not come back: the alarm ends with the process.
pub async fn watch(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Before they are looked for: they only grow.
        let ends = service.chain_ends();
        if let Ok(true) = service.sequence().lacks(&ends).await {
            service.raise(Alarm::ChainsBroken).await;
        }
    }
}
