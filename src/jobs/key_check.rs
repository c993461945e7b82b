//! Looks at the configuration of Vault's keys until it could be seen once. Until then the service is alive and not ready,
//! and nothing is sealed or opened.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::random::Random;
use crate::service::{KeyCheck, Service};

const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Ends well when the keys are as they must be, and with an error when they are not: the service must end then.
pub async fn run(service: Arc<Service>) -> Result<(), KeyCheck> {
    let mut longest = SHORTEST_PAUSE;
    loop {
        match service.check_keys().await {
            Ok(()) => {
                tracing::info!("keys.checked");
                return Ok(());
            }
            Err(KeyCheck::NotYet(error)) => tracing::warn!(error = %error, "keys.not_checked"),
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
