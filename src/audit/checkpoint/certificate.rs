//! Certificates of erasure: a statement that a person was erased, and from when on no backup brings them back, signed by the
//! log's key as a note (C2SP signed-note). Whoever has the log's public key can check one without the service.

use super::key::{KeyKind, KeyName, VerifierKey};
use super::note::{Note, NoteFault, SignatureLine};
use super::signed::{InvalidSignature, made};
use super::trust::Trust;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ErasureId, SubjectId, TenantId};

/// The first line of what the log's key signs. With its spaces it is no checkpoint's first line, a name.
const CERTIFIED: &str = "strongroom erasure certificate v1";

/// Who was erased, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasureStatement {
    pub tenant: TenantId,
    pub subject: SubjectId,
    pub erasure: ErasureId,
    /// From when on nothing opened.
    pub approved_at: Timestamp,
    /// When the keys were gone.
    pub erased_at: Timestamp,
    /// From when on no backup of the key database has them.
    pub unrecoverable_from: Timestamp,
}

impl ErasureStatement {
    /// What the log's key signs: two lines that say what it is and whose, and one line of JSON.
    pub fn text(&self, origin: &KeyName) -> String {
        format!(
            "{CERTIFIED}\n{origin}\n{{\"approved_at\":\"{}\",\"erased_at\":\"{}\",\"erasure\":\"{}\",\"subject\":\"{}\",\
             \"tenant\":\"{}\",\"unrecoverable_from\":\"{}\"}}\n",
            self.approved_at.to_rfc3339(),
            self.erased_at.to_rfc3339(),
            self.erasure,
            self.subject,
            self.tenant,
            self.unrecoverable_from.to_rfc3339(),
        )
    }

    /// The certificate, if the signature is the key's over [`Self::text`] under its own name.
    pub fn certify(&self, key: &VerifierKey, signature: &[u8]) -> Result<String, InvalidSignature> {
        let mut note = Note::of_text(self.text(key.name()));
        if key.kind() != KeyKind::Log || key.check(note.text(), signature).is_none() {
            return Err(InvalidSignature);
        }
        note.put(SignatureLine { name: key.name().clone(), key_id: key.id(), signature: signature.to_vec() });
        Ok(note.to_string())
    }
}

/// Bytes are no certificate to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error(transparent)]
    Note(#[from] NoteFault),
    #[error("the note is no certificate of erasure")]
    NoCertificate,
    #[error("no known key of the log signed it")]
    Unsigned,
    #[error("a signature under a known key's name is not that key's")]
    Forged,
}

/// The statement of a certificate that a known key of its log signed, as JSON.
pub fn certified(bytes: &[u8], trust: &Trust) -> Result<serde_json::Value, CertificateFault> {
    let note = Note::parse(bytes)?;
    let mut lines = note.text().split_terminator('\n');
    let (Some(CERTIFIED), Some(origin), Some(statement), None) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err(CertificateFault::NoCertificate);
    };
    let statement = serde_json::from_str(statement).map_err(|_| CertificateFault::NoCertificate)?;
    let mut is_signed = false;
    for line in note.signatures() {
        let own = trust.logs().iter().find(|key| key.name().as_str() == origin && made(key, line));
        if let Some(key) = own {
            key.check(note.text(), &line.signature).ok_or(CertificateFault::Forged)?;
            is_signed = true;
        }
    }
    if is_signed { Ok(statement) } else { Err(CertificateFault::Unsigned) }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use uuid::Uuid;

    use super::*;
    use crate::audit::checkpoint::{Checkpoint, SignedCheckpoint};

    fn pair(seed: u8) -> (Ed25519KeyPair, VerifierKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let name = KeyName::parse("log.test/log").unwrap();
        let key = VerifierKey::new(name, KeyKind::Log, pair.public_key().as_ref().try_into().unwrap());
        (pair, key)
    }

    fn statement() -> ErasureStatement {
        ErasureStatement {
            tenant: TenantId::from_uuid(Uuid::from_u128(1)),
            subject: SubjectId::from_uuid(Uuid::from_u128(2)),
            erasure: ErasureId::from_uuid(Uuid::from_u128(3)),
            approved_at: Timestamp::from_micros(0),
            erased_at: Timestamp::from_micros(1),
            unrecoverable_from: Timestamp::from_micros(2),
        }
    }

    fn certificate(seed: u8) -> String {
        let (pair, key) = pair(seed);
        let signature = pair.sign(statement().text(key.name()).as_bytes());
        statement().certify(&key, signature.as_ref()).unwrap()
    }

    #[test]
    fn a_certificate_is_of_one_key_and_says_what_was_signed() {
        let trust = Trust::of_log(vec![pair(9).1]);
        let said = certified(certificate(9).as_bytes(), &trust).unwrap();
        assert_eq!(said["subject"], Uuid::from_u128(2).to_string());
        assert_eq!(said["unrecoverable_from"], "1970-01-01T00:00:00.000002Z");
        assert_eq!(certified(certificate(8).as_bytes(), &trust), Err(CertificateFault::Unsigned));
        let other = certificate(9).replace("1970-01-01T00:00:00.000002Z", "1970-01-01T00:00:00.000003Z");
        assert_eq!(certified(other.as_bytes(), &trust), Err(CertificateFault::Forged));
        assert!(statement().certify(&pair(9).1, &[0; 64]).is_err());
        assert!(matches!(certified(b"", &trust), Err(CertificateFault::Note(_))));
    }

    #[test]
    fn no_other_note_of_the_log_is_a_certificate() {
        let (pair, key) = pair(9);
        let trust = Trust::of_log(vec![key.clone()]);
        let root = crate::audit::tree::TreeHash::of_leaf(b"e");
        let checkpoint = Checkpoint::new("log.test/log", 1, root).unwrap();
        let signature = pair.sign(checkpoint.text().as_bytes());
        let signed = SignedCheckpoint::signed(checkpoint, &key, signature.as_ref()).unwrap().to_string();
        assert_eq!(certified(signed.as_bytes(), &trust), Err(CertificateFault::NoCertificate));
        assert!(SignedCheckpoint::parse(certificate(9).as_bytes()).is_err());
    }
}
