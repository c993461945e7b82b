//! A witness's signature: over a checkpoint and the time at which it saw it (C2SP tlog-cosignature).

/// A cosignature as it stands in a note, after the key's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// Seconds since the epoch.
    pub time_s: u64,
    pub signature: [u8; 64],
}

impl Cosignature {
    /// tlog-cosignature, Format: `u64 timestamp`, at most 2^63 - 1, and `opaque ed25519_signature[64]`.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (time, signature) = bytes.split_first_chunk::<8>()?;
        let time_s = u64::from_be_bytes(*time);
        i64::try_from(time_s).ok()?;
        Some(Self { time_s, signature: signature.try_into().ok()? })
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.time_s.to_be_bytes().as_slice(), &self.signature].concat()
    }
}

/// What a witness signs: a line for the domain, a line for the time, and the whole text of the checkpoint
/// (tlog-cosignature, Ed25519 signed message).
pub fn cosigned_message(time_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}
