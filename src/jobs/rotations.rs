//! Brings rotations of tenant keys on.

use std::sync::Arc;
use std::time::Duration;

use crate::service::{Rotating, Service};

/// While one goes on.
const SOON: Duration = Duration::from_secs(1);
/// While another instance does it, or what is left cannot be done.
const WHILE_WAITING: Duration = Duration::from_secs(10);
/// Otherwise: another instance may have ended with one under way.
const LATER: Duration = Duration::from_secs(30);

/// Goes on with them until it is dropped. A failure is logged, and the next round tries again.
pub async fn keep(service: Arc<Service>) {
    loop {
        let pause = match service.continue_rotations().await {
            Ok(Rotating::Moving) => SOON,
            Ok(Rotating::Waiting) => WHILE_WAITING,
            Ok(Rotating::Idle) => LATER,
            Err(error) => {
                tracing::warn!(%error, "rotations.not_continued");
                SOON * 5
            }
        };
        tokio::select! {
            () = service.rotation_wanted() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
