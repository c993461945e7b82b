//! Brings erasures that were approved to their end.

use std::sync::Arc;
use std::time::Duration;

use crate::service::Service;

/// While one is under way.
const SOON: Duration = Duration::from_secs(1);
/// Otherwise: another instance may have ended with one under way.
const LATER: Duration = Duration::from_secs(30);

/// Goes on with them until it is dropped. A failure is logged, and the next round tries again.
pub async fn keep(service: Arc<Service>) {
    loop {
        let pause = match service.continue_erasures().await {
            Ok(true) => SOON,
            Ok(false) => LATER,
            Err(error) => {
                tracing::warn!(%error, "erasures.not_continued");
                SOON * 5
            }
        };
        tokio::select! {
            () = service.erasure_approved() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
