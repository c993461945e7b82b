//! Bytes that must not be printed, compared carelessly or left in memory.

use zeroize::Zeroizing;

/// Secret bytes of any length: a field's plaintext, a token, a password. Wiped on drop; no `Debug`, `Display`,
/// `Serialize` or `Clone`, so it cannot reach a log or an error by accident.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership; the caller must not have left copies behind (a `Vec` that grew has).
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Every caller states why it may look (`clippy.toml` bans the rest).
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Zeroizing<Vec<u8>>> for SecretBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

/// A 256-bit key, boxed so that moving it leaves no copy on the stack of the mover. Wiped on drop.
pub struct Key256(Box<Zeroizing<[u8; 32]>>);

impl Key256 {
    /// Fills a fresh box in place; `fill` may fail (no randomness) and then nothing is kept.
    pub fn filled<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = Box::new(Zeroizing::new([0_u8; 32]));
        fill(&mut key)?;
        Ok(Self(key))
    }

    /// Copies from a slice of exactly 32 bytes; the source stays the caller's to wipe.
    pub fn copied_from(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 32 {
            return None;
        }
        let mut key = Box::new(Zeroizing::new([0_u8; 32]));
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    /// The key itself; only `crypto` and `keys` may look.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}
