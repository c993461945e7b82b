//! Looks at the databases and at Vault's keys until each could be seen once. Until then the service is alive and not ready,
//! and nothing is served from what was not seen.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::random::jittered;
use crate::service::{FitnessCheck, Service};

const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Ends well when all is as it must be, and with an error when something is not: the service must end then.
pub async fn run(service: Arc<Service>) -> Result<(), FitnessCheck> {
    let databases = until_seen(&service, "databases", Service::check_databases);
    let keys = until_seen(&service, "keys", Service::check_keys);
    tokio::try_join!(databases, keys).map(drop)
}

async fn until_seen(
    service: &Service,
    what: &'static str,
    check: impl AsyncFn(&Service) -> Result<(), FitnessCheck>,
) -> Result<(), FitnessCheck> {
    let mut longest = SHORTEST_PAUSE;
    loop {
        match check(service).await {
            Ok(()) => {
                tracing::info!(what, "fitness.checked");
                return Ok(());
            }
            Err(later) if later.is_for_now() => tracing::warn!(error = %later, "fitness.not_checked"),
            Err(unfit) => return Err(unfit),
        }
        tokio::time::sleep(jittered(longest, service.random())).await;
        longest = (longest * 2).min(LONGEST_PAUSE);
    }
}
