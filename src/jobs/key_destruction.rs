//! Destroys the keys of deleted records.

use std::sync::Arc;
use std::time::Duration;

use crate::service::Service;

/// While something is on the list.
const SOON: Duration = Duration::from_secs(1);
/// Otherwise: another instance may have ended with something on it.
const LATER: Duration = Duration::from_secs(30);

/// Works through the list until it is dropped. A failure is logged, and the next round tries again.
pub async fn keep(service: Arc<Service>) {
    loop {
        let pause = match service.destroy_keys().await {
            Ok(true) => SOON,
            Ok(false) => LATER,
            Err(error) => {
                tracing::warn!(error = %error, "keys.not_destroyed");
                SOON * 5
            }
        };
        tokio::select! {
            () = service.key_destruction_wanted() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
