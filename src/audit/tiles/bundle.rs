//! The bytes of an entry bundle.

use super::BundleId;

/// An entry's length is a 16-bit number (tlog-tiles, Log entries).
pub const LARGEST_ENTRY_BYTES: usize = u16::MAX as usize;

/// An entry is longer than any log can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the log has at most 65535 bytes")]
pub struct TooLarge;

/// What stands in a bundle's file is not that bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleFault {
    /// The file ends within an entry or before the last one.
    #[error("the bundle ends after {entries} of its entries")]
    Short { entries: u16 },
    /// Something follows the last entry.
    #[error("{bytes} bytes follow the last entry of the bundle")]
    Long { bytes: usize },
}

/// Adds an entry to the bytes of a bundle: its length as two bytes, the higher first, and then itself.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TooLarge> {
    let length = u16::try_from(entry.len()).map_err(|_| TooLarge)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle, exactly as many as it has, and nothing else.
pub fn read_bundle(id: BundleId, bytes: &[u8]) -> Result<Vec<&[u8]>, BundleFault> {
    let (entries, rest) = read_entries(id.width(), bytes);
    match u16::try_from(entries.len()) {
        Ok(count) if count == id.width() && rest.is_empty() => Ok(entries),
        Ok(count) if count == id.width() => Err(BundleFault::Long { bytes: rest.len() }),
        count => Err(BundleFault::Short { entries: count.unwrap_or(0) }),
    }
}

/// As many entries as are there, up to `most`, and what follows them.
pub fn read_entries(most: u16, bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut entries = Vec::with_capacity(usize::from(most));
    let mut rest = bytes;
    while entries.len() < usize::from(most) {
        let Some((length, after)) = rest.split_first_chunk::<2>() else { break };
        let Some((entry, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            break;
        };
        entries.push(entry);
        rest = after;
    }
    (entries, rest)
}
