//! Keyed digests of who asked for an erasure and of who approved it. The rows that say so are in the data database; these say
//! that the service stored them: whoever can write that database, and has not the key hierarchy, asks for no erasure in
//! somebody's name and approves none.
//!
//! ```text
//! key = HKDF-Expand-SHA256(root, "strongroom/erasure/v1", 32 bytes)
//! mac = HMAC-SHA256(key, step ‖ erasure ‖ subject ‖ requester ‖ u64 lapses at ‖ approver)
//! ```
//!
//! The step is one byte, 1 for a request, which has no approver, and 2 for an approval; ids are UUIDs, people 32-byte digests,
//! times Unix microseconds, integers big-endian: every part has its length.

use super::error::SealError;
use super::key::TenantKey;
use super::keyed_hash::{derive_key, hmac_sha256};
use crate::domain::clock::Timestamp;
use crate::domain::id::{ErasureId, SubjectId};

const LABEL: &str = "strongroom/erasure/v1";

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasureAsked {
    pub erasure: ErasureId,
    pub subject: SubjectId,
    pub requester_sha256: [u8; 32],
    pub lapses_at: Timestamp,
}

impl ErasureAsked {
    /// That it was asked for.
    pub fn request_mac(&self, root: &TenantKey) -> Result<[u8; 32], SealError> {
        self.mac(root, 1, &[])
    }

    /// That this person approved it.
    pub fn approval_mac(&self, root: &TenantKey, approver_sha256: &[u8; 32]) -> Result<[u8; 32], SealError> {
        self.mac(root, 2, approver_sha256)
    }

    fn mac(&self, root: &TenantKey, step: u8, approver: &[u8]) -> Result<[u8; 32], SealError> {
        let key = derive_key(root.secret(), LABEL, &[])?;
        let (erasure, subject) = (self.erasure.as_uuid().as_bytes(), self.subject.as_uuid().as_bytes());
        let lapses_at = self.lapses_at.as_micros().to_be_bytes();
        Ok(hmac_sha256(&key, &[&[step], erasure, subject, &self.requester_sha256, &lapses_at, approver]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Uuid;

    use super::*;
    use crate::domain::id::KeyId;
    use crate::domain::secret::Key256;

    fn asked(erasure: u128, subject: u128, requester: u8, lapses_at: i64) -> ErasureAsked {
        ErasureAsked {
            erasure: ErasureId::from_uuid(Uuid::from_u128(erasure)),
            subject: SubjectId::from_uuid(Uuid::from_u128(subject)),
            requester_sha256: [requester; 32],
            lapses_at: Timestamp::from_micros(lapses_at),
        }
    }

    #[test]
    fn every_part_counts() {
        let root = |byte| TenantKey::new(KeyId::FIRST, Key256::copied_from(&[byte; 32]).unwrap());
        let request = |asked: ErasureAsked, byte| asked.request_mac(&root(byte)).unwrap();
        let approval = |asked: ErasureAsked, approver| asked.approval_mac(&root(1), &[approver; 32]).unwrap();
        let all = [
            request(asked(1, 2, 3, 4), 1),
            request(asked(1, 2, 3, 4), 2),
            request(asked(2, 2, 3, 4), 1),
            request(asked(1, 3, 3, 4), 1),
            request(asked(1, 2, 4, 4), 1),
            request(asked(1, 2, 3, 5), 1),
            approval(asked(1, 2, 3, 4), 5),
            approval(asked(1, 2, 3, 4), 6),
            approval(asked(2, 2, 3, 4), 5),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(request(asked(1, 2, 3, 4), 1), all[0]);
    }
}
