//! Keeps the metrics small while nobody reads them.

use std::time::Duration;

use crate::telemetry::metrics::Renderer;

const EVERY: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub async fn keep(renderer: Renderer) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        renderer.keep_small();
    }
}
