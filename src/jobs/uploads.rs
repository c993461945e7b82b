//! Removes what is left of uploads that were cancelled, or that nobody finished in time.

use std::sync::Arc;
use std::time::Duration;

use crate::service::Service;

const EVERY: Duration = Duration::from_mins(1);

/// Looks every minute, and at once when an upload was cancelled. A failure is logged, and the next round tries again.
pub async fn keep(service: Arc<Service>) {
    loop {
        let pause = match service.remove_uploads().await {
            Ok(0) => EVERY,
            Ok(uploads) => {
                tracing::info!(uploads, "uploads.removed");
                Duration::ZERO
            }
            Err(error) => {
                tracing::warn!(error = %error, "uploads.not_removed");
                EVERY
            }
        };
        tokio::select! {
            () = service.upload_ended() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
