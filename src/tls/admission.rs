//! Whether a certificate still passes, and whose it is. Asked for every request and for every open connection.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::identity::Identities;
use super::revocation::{Revocations, Standing};
use crate::domain::actor::{CertificateFacts, Identity};
use crate::domain::clock::Timestamp;

/// Why a certificate that once passed the handshake does not pass now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the certificate's name is not listed")]
    Unlisted,
    #[error("the certificate is revoked")]
    Revoked,
    #[error("the certificate has expired")]
    Expired,
    /// Also when there is no CRL of the issuer at all: a status that is not known is a refusal.
    #[error("the certificate's revocation status is not known, its crl has expired")]
    CrlExpired,
}

impl Refusal {
    /// A stable code for logs and audit entries.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unlisted => "unlisted",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::CrlExpired => "crl_expired",
        }
    }
}

/// The tables of identities and revocations, each swapped whole.
pub struct Admission {
    identities: ArcSwap<Identities>,
    revocations: ArcSwap<Revocations>,
}

impl Admission {
    pub fn new(identities: Identities, revocations: Arc<Revocations>) -> Self {
        Self { identities: ArcSwap::from_pointee(identities), revocations: ArcSwap::new(revocations) }
    }

    /// Three look-ups in memory, no I/O, no allocation: well under a microsecond.
    pub fn admit(&self, certificate: &CertificateFacts, now: Timestamp) -> Result<Arc<Identity>, Refusal> {
        // RFC 5280 section 4.1.2.5: valid through notAfter, inclusive, in whole seconds.
        if now.as_seconds() > certificate.not_after.as_seconds() {
            return Err(Refusal::Expired);
        }
        match self.revocations.load().standing(certificate, now) {
            Standing::Good => {}
            Standing::Revoked => return Err(Refusal::Revoked),
            Standing::Unknown => return Err(Refusal::CrlExpired),
        }
        self.identities.load().find(&certificate.san).cloned().ok_or(Refusal::Unlisted)
    }

    pub fn identities(&self) -> Arc<Identities> {
        self.identities.load_full()
    }

    pub fn revocations(&self) -> Arc<Revocations> {
        self.revocations.load_full()
    }

    pub(super) fn replace_identities(&self, identities: Arc<Identities>) {
        self.identities.store(identities);
    }

    pub(super) fn replace_revocations(&self, revocations: Arc<Revocations>) {
        self.revocations.store(revocations);
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::certificate_facts;
    use super::super::pki::{Crl, Leaf, Pki};
    use super::*;

    const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-06-01T12:00:00Z").unwrap()
    }

    fn admission(pki: &Pki, crl: &Crl) -> Admission {
        let identities = Identities::parse(include_str!("../../policy/identities.toml")).unwrap();
        Admission::new(identities, Arc::new(Revocations::parse(&[pki.issuing_crl(crl)]).unwrap()))
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let pki = Pki::new();
        let leaf = pki.leaf(&Leaf { serial: &[7], ..Leaf::client(PORTAL) });
        let facts = certificate_facts(&leaf.chain[0]).unwrap();
        let open = admission(&pki, &Crl::first());
        assert_eq!(&*open.admit(&facts, now()).unwrap().client, "portal");
        let late = facts.not_after;
        // Both have run out by then; the certificate's own date comes first.
        assert_eq!(open.admit(&facts, late.plus_seconds(1)), Err(Refusal::Expired));
        assert_eq!(open.admit(&facts, late), Err(Refusal::CrlExpired));
        let closed = admission(&pki, &Crl { revoked: &[&[7]], ..Crl::first() });
        assert_eq!(closed.admit(&facts, now()), Err(Refusal::Revoked));
        let stranger =
            CertificateFacts { san: "spiffe://strongroom.internal/client/clinic-north/x".into(), ..facts };
        assert_eq!(open.admit(&stranger, now()), Err(Refusal::Unlisted));
    }
}
