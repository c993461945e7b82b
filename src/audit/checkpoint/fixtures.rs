//! Keys that sign, for tests.

use ring::signature::{Ed25519KeyPair, KeyPair};

use super::{Checkpoint, Cosignature, KeyKind, KeyName, SignedCheckpoint, VerifierKey, cosigned_message};
use crate::audit::tree::TreeHash;

pub const ORIGIN: &str = "strongroom.test/log";

pub struct Signer {
    pub pair: Ed25519KeyPair,
    pub key: VerifierKey,
}

impl Signer {
    fn new(name: &str, kind: KeyKind, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        Self { pair, key: VerifierKey::new(KeyName::parse(name).unwrap(), kind, public) }
    }

    pub fn log(seed: u8) -> Self {
        Self::new(ORIGIN, KeyKind::Log, seed)
    }

    pub fn witness(name: &str, seed: u8) -> Self {
        Self::new(name, KeyKind::Witness, seed)
    }

    pub fn sign(&self, size: u64, root: TreeHash) -> SignedCheckpoint {
        let checkpoint = Checkpoint::new(ORIGIN, size, root).unwrap();
        let signature = self.pair.sign(checkpoint.text().as_bytes());
        SignedCheckpoint::signed(checkpoint, &self.key, signature.as_ref()).unwrap()
    }

    pub fn cosignature(&self, signed: &SignedCheckpoint, time_s: u64) -> Cosignature {
        let message = cosigned_message(time_s, signed.note().text());
        let signature = self.pair.sign(message.as_bytes()).as_ref().try_into().unwrap();
        Cosignature { time_s, signature }
    }

    pub fn cosign(&self, signed: &mut SignedCheckpoint, time_s: u64) {
        signed.cosign(&self.key, self.cosignature(signed, time_s)).unwrap();
    }
}
