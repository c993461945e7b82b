//! Randomness as a parameter.

use std::sync::Arc;

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
