//! Where a tenant key belongs, and the words that bind it to that place in Vault.
//!
//! Not here: keys themselves.

use ring::digest;

use crate::domain::class::DataClass;
use crate::domain::id::{KeyId, TenantId};

/// What a tenant key is for. Decides its key-encryption key in Vault and two of the words in its derivation context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TenantKeyKind {
    /// Wraps subject keys of one data class.
    Seal(DataClass),
    /// The root of the digests that stand for idempotency keys and the bodies sent with them.
    Requests,
    /// The root of the terms that records are found by.
    Terms,
}

impl TenantKeyKind {
    /// The class word: in the context and in `tenant_key.class`.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Seal(class) => class.as_str(),
            Self::Requests | Self::Terms => "index",
        }
    }

    /// The purpose word: in the context and in `tenant_key.purpose`.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Seal(_) => "seal",
            Self::Requests => "requests",
            Self::Terms => "terms",
        }
    }

    /// The name of the key-encryption key in Vault's transit engine.
    pub const fn transit_key(self) -> &'static str {
        match self {
            Self::Seal(DataClass::Phi) => "strongroom-phi",
            Self::Seal(DataClass::Pii) => "strongroom-pii",
            Self::Seal(DataClass::Chd) => "strongroom-chd",
            Self::Requests | Self::Terms => "strongroom-index",
        }
    }
}

/// One tenant key's place: a wrapped key moved to another place does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantKeyPlace {
    pub tenant: TenantId,
    pub kind: TenantKeyKind,
    pub key_id: KeyId,
}

impl TenantKeyPlace {
    /// Transit's `context`: SHA-256(lp(environment) ‖ lp(tenant) ‖ lp(class) ‖ lp(purpose) ‖ u64 key id), where
    /// lp(x) = u32 length ‖ x and integers are big-endian. Transit ignores it unless the key is derived, which
    /// `Transit::check_keys` makes sure of.
    pub fn context(&self, environment: &str) -> [u8; 32] {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [
            environment.as_bytes(),
            self.tenant.as_uuid().as_bytes(),
            self.kind.class().as_bytes(),
            self.kind.purpose().as_bytes(),
        ] {
            // An environment has at most 64 bytes (`config`), the others fewer: the length always fits.
            hash.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(part);
        }
        hash.update(&self.key_id.as_u64().to_be_bytes());
        let mut context = [0_u8; 32];
        context.copy_from_slice(hash.finish().as_ref());
        context
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn place(tenant: u128, class: DataClass, key_id: i64) -> TenantKeyPlace {
        TenantKeyPlace {
            tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
            kind: TenantKeyKind::Seal(class),
            key_id: KeyId::new(key_id).unwrap(),
        }
    }

    /// Known answer made with Python's hashlib from the formula in the design, not with this code.
    #[test]
    fn context_follows_the_formula() {
        let place = place(0x0192_f0c1_0000_7000_8000_0000_0000_0001, DataClass::Phi, 1);
        let expected = [
            0x50, 0x08, 0x13, 0x16, 0x20, 0x3e, 0x80, 0xff, 0x7e, 0xba, 0x9d, 0xce, 0x19, 0x18, 0x17, 0xd4,
            0xef, 0x56, 0xa7, 0x15, 0xfc, 0xb9, 0x17, 0xe3, 0x2e, 0xf6, 0x9e, 0xf2, 0x15, 0x20, 0x26, 0xad,
        ];
        assert_eq!(place.context("production"), expected);
    }

    #[test]
    fn every_part_changes_the_context() {
        let base = place(1, DataClass::Phi, 1);
        let all = [
            base.context("a"),
            base.context("b"),
            place(2, DataClass::Phi, 1).context("a"),
            place(1, DataClass::Pii, 1).context("a"),
            place(1, DataClass::Phi, 2).context("a"),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|other| other != one));
        }
    }
}
