//! Randomness as a parameter.

use std::sync::Arc;
use std::time::Duration;

use ring::rand::SecureRandom;

/// A cryptographically secure source of bytes.
pub trait Random: Send + Sync + 'static {
    /// Fills `destination`, or says that the system has no randomness to give; the caller then refuses the work.
    fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system's random source failed")]
pub struct NoRandomness;

/// The operating system's generator.
pub struct SystemRandom(ring::rand::SystemRandom);

impl Default for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "the one home of system randomness")]
    fn default() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Random for SystemRandom {
    fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness> {
        self.0.fill(destination).map_err(|_| NoRandomness)
    }
}

pub type SharedRandom = Arc<dyn Random>;

/// Half of `longest` to all of it: instances that lost a part together do not come back to it together.
pub fn jittered(longest: Duration, random: &dyn Random) -> Duration {
    let mut byte = [128_u8];
    // Without randomness the pause is three quarters: jitter is a courtesy, not a guard.
    let _ = random.fill(&mut byte);
    let [byte] = byte;
    longest / 2 + longest / 2 * u32::from(byte) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_half_to_all_of_the_longest() {
        struct Byte(u8);
        impl Random for Byte {
            fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness> {
                destination.fill(self.0);
                Ok(())
            }
        }
        let longest = Duration::from_millis(250);
        assert_eq!(jittered(longest, &Byte(0)), longest / 2);
        assert_eq!(jittered(longest, &Byte(255)), longest);
    }
}
