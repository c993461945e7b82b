//! Looks at the data database again and again: whether it is still one that may be run on, whether what guards the log and
//! the history (roles, grants, triggers, functions, rules) is what it was when this instance started, and whether every month of
//! the log is there that was not pruned.

use std::sync::Arc;
use std::time::Duration;

use crate::service::{Alarm, Service};

const EVERY: Duration = Duration::from_secs(5);

/// Looks until it is dropped. A migration beside a running service is a change as well: the alarm ends with the next start.
pub async fn watch(service: Arc<Service>) {
    let mut first: Option<String> = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(now) = service.sequence().fingerprint().await else { continue };
        let Ok(weaknesses) = service.sequence().weaknesses(service.clock().now()).await else { continue };
        let Ok(lacks_month) = service.sequence().lacks_month().await else { continue };
        let is_unfit = weaknesses.iter().any(|weakness| weakness.is_unsafe);
        let is_other = first.get_or_insert_with(|| now.clone()) != &now;
        service.alarm_if(is_unfit || is_other || lacks_month, Alarm::DatabaseChanged).await;
    }
}
