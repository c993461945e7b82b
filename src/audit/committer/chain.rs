//! Numbering and linking: `seq` without gaps, `prev` the SHA-256 of the entry before.

use uuid::Uuid;

use super::sink::{Batch, ChainedEntry};
use crate::audit::encode::Encoded;
use crate::audit::instance::InstanceKey;
use crate::domain::id::EntryId;

/// The end of a chain as confirmed.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub src: Uuid,
    /// Number of the last confirmed entry; 0 when there is none.
    pub seq: i64,
    pub head: Option<[u8; 32]>,
    /// That entry's id.
    pub last: Option<EntryId>,
}

impl Chain {
    pub const fn begin(src: Uuid) -> Self {
        Self { src, seq: 0, head: None, last: None }
    }

    /// The entries as the chain's next ones, and the chain as it will be once they are confirmed. `self` stays as it
    /// is: it moves on confirmation only. The last of them is signed and lists `writes`.
    pub fn extend<'a>(
        &self,
        encoded: impl Iterator<Item = &'a Encoded>,
        key: &InstanceKey,
        writes: &[EntryId],
    ) -> (Batch, Self) {
        let mut end = self.clone();
        let mut entries = Vec::new();
        let mut encoded = encoded.peekable();
        while let Some(each) = encoded.next() {
            end.seq += 1;
            let (seq, head) = (end.seq.unsigned_abs(), end.head.as_ref());
            let bytes = if encoded.peek().is_some() {
                each.chained(&end.src, seq, head)
            } else {
                each.flushed(&end.src, seq, head, key, writes)
            };
            let sha256 = sha256(&bytes);
            (end.head, end.last) = (Some(sha256), Some(each.id));
            entries.push(ChainedEntry { id: each.id, tenant: each.tenant, seq: end.seq, bytes, sha256 });
        }
        (Batch { src: end.src, entries }, end)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    out
}
