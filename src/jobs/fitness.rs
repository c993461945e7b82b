//! Looks at the databases and at Vault's keys until each could be seen once. Until then the service is alive and not ready,
//! and nothing is served from what was not seen.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::random::Random;
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

/// Half of `longest` to all of it: instances that lost Vault together do not come back together.
fn jittered(longest: Duration, random: &dyn Random) -> Duration {
    let mut byte = [128_u8];
    // Without randomness the pause is three quarters: jitter is a courtesy, not a guard.
    let _ = random.fill(&mut byte);
    let [byte] = byte;
    longest / 2 + longest / 2 * u32::from(byte) / 255
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::random::NoRandomness;

    struct Byte(u8);
    impl Random for Byte {
        fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness> {
            destination.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn a_pause_is_half_to_all_of_the_longest() {
        assert_eq!(jittered(SHORTEST_PAUSE, &Byte(0)), SHORTEST_PAUSE / 2);
        assert_eq!(jittered(SHORTEST_PAUSE, &Byte(255)), SHORTEST_PAUSE);
    }
}
