//! Puts the numbers of refusals by a limit on record, when the flood that they were counted in is over.

use std::sync::Arc;
use std::time::Duration;

use crate::service::Service;

const LOOK: Duration = Duration::from_secs(10);

pub async fn keep(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.report_refusals(false).await;
    }
}
