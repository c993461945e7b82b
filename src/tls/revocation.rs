//! What the CRLs say, as a table for questions about connections that are already open.
//!
//! The handshake does not use this table: there rustls checks the same CRLs, with their signatures, for the whole
//! chain. The door verifies open connections against those again whenever roots or CRLs change.

use std::collections::{HashMap, HashSet};

use rustls::pki_types::CertificateRevocationListDer;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate::{name_sha256, seconds, serial_hex};
use crate::domain::actor::CertificateFacts;
use crate::domain::clock::Timestamp;

/// What is known about one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    Revoked,
    /// There is no CRL of its issuer, or none in date.
    Unknown,
}

/// Issuer → revoked serial numbers. Immutable; looked up in constant time.
#[derive(Debug, Default)]
pub struct Revocations {
    issuers: HashMap<Box<str>, Issuer>,
}

#[derive(Debug)]
struct Issuer {
    serials: HashSet<Box<str>>,
    /// The earliest of its CRLs.
    next_update: Timestamp,
    age: CrlAge,
}

/// What orders the CRLs of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CrlAge {
    /// Big-endian, without leading zeros; RFC 5280 section 5.2.3 requires the number to grow.
    number: Vec<u8>,
    this_update: Timestamp,
}

impl CrlAge {
    /// Whether taking `self` where `other` was would go back in time.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        let rank = |age: &Self| (age.number.len(), age.number.clone());
        self.this_update < other.this_update || rank(self) < rank(other)
    }
}

/// A CRL that cannot be used; fetch it again from its issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlFault {
    #[error("the crl cannot be read")]
    Unreadable,
    #[error("the crl has no next update")]
    NoNextUpdate,
    #[error("the crl has no number")]
    NoNumber,
}

impl Revocations {
    pub fn parse(crls: &[CertificateRevocationListDer<'_>]) -> Result<Self, CrlFault> {
        let mut table = Self::default();
        for der in crls {
            table.add(&read_crl(der)?);
        }
        Ok(table)
    }

    pub fn standing(&self, certificate: &CertificateFacts, now: Timestamp) -> Standing {
        match self.issuers.get(certificate.issuer_sha256.as_str()) {
            None => Standing::Unknown,
            // An old list can be trusted in what it revoked, not in what it leaves out.
            Some(issuer) if issuer.serials.contains(certificate.serial.as_str()) => Standing::Revoked,
            Some(issuer) if now >= issuer.next_update => Standing::Unknown,
            Some(_) => Standing::Good,
        }
    }

    /// Whether a CRL ran out after `since` and at or before `now`: then every chain needs a fresh look.
    pub fn ran_out_between(&self, since: Timestamp, now: Timestamp) -> bool {
        self.issuers.values().any(|issuer| since < issuer.next_update && issuer.next_update <= now)
    }

    /// When the first of the CRLs runs out; `None` without CRLs. For readiness and metrics.
    pub fn next_update(&self) -> Option<Timestamp> {
        self.issuers.values().map(|issuer| issuer.next_update).min()
    }

    pub fn revoked_entries(&self) -> usize {
        self.issuers.values().map(|issuer| issuer.serials.len()).sum()
    }

    /// Whether an issuer's CRL is older here than in `earlier`.
    pub(super) fn goes_back_from(&self, earlier: &Self) -> bool {
        earlier.issuers.iter().any(|(name, before)| {
            self.issuers.get(name).is_some_and(|after| after.age.is_older_than(&before.age))
        })
    }

    fn add(&mut self, crl: &CrlFacts) {
        let issuer = self.issuers.entry(crl.issuer_sha256.clone().into()).or_insert_with(|| Issuer {
            serials: HashSet::new(),
            next_update: crl.next_update,
            age: crl.age.clone(),
        });
        issuer.next_update = issuer.next_update.min(crl.next_update);
        if issuer.age.is_older_than(&crl.age) {
            issuer.age = crl.age.clone();
        }
        issuer.serials.extend(crl.serials.iter().map(|serial| serial.as_str().into()));
    }
}

/// One CRL, read.
pub(super) struct CrlFacts {
    pub issuer_sha256: String,
    pub next_update: Timestamp,
    pub age: CrlAge,
    serials: Vec<String>,
}

pub(super) fn read_crl(der: &[u8]) -> Result<CrlFacts, CrlFault> {
    let (rest, crl) = CertificateRevocationList::from_der(der).map_err(|_| CrlFault::Unreadable)?;
    if !rest.is_empty() {
        return Err(CrlFault::Unreadable);
    }
    Ok(CrlFacts {
        issuer_sha256: name_sha256(crl.issuer()),
        // RFC 5280 section 5.1.2.5: conforming issuers always say when the next one comes.
        next_update: crl.next_update().map(|at| seconds(at.timestamp())).ok_or(CrlFault::NoNextUpdate)?,
        age: CrlAge {
            number: crl
                .crl_number()
                .map(x509_parser::num_bigint::BigUint::to_bytes_be)
                .ok_or(CrlFault::NoNumber)?,
            this_update: seconds(crl.last_update().timestamp()),
        },
        serials: crl.iter_revoked_certificates().map(|entry| serial_hex(entry.raw_serial())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::certificate::certificate_facts;
    use super::super::pki::{Crl, Leaf, Pki};
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn standing_of_good_revoked_and_unknown_certificates() {
        let pki = Pki::new();
        let now = at("2026-06-01T12:00:00Z");
        let leaf = pki.leaf(&Leaf { serial: &[7], ..Leaf::client("spiffe://x/client/n/a") });
        let facts = certificate_facts(&leaf.chain[0]).unwrap();
        let clean = Revocations::parse(&[pki.issuing_crl(&Crl::first())]).unwrap();
        assert_eq!(clean.standing(&facts, now), Standing::Good);
        let listed = Crl { number: 2, revoked: &[&[9], &[7]], ..Crl::first() };
        let revoked = Revocations::parse(&[pki.issuing_crl(&listed)]).unwrap();
        assert_eq!(revoked.standing(&facts, now), Standing::Revoked);
        assert_eq!(revoked.revoked_entries(), 2);
        let foreign = Revocations::parse(&[pki.root_crl(&Crl::first())]).unwrap();
        assert_eq!(foreign.standing(&facts, now), Standing::Unknown);
        assert_eq!(Revocations::default().standing(&facts, now), Standing::Unknown);
    }

    #[test]
    fn a_list_is_out_of_date_from_its_next_update_on() {
        let pki = Pki::new();
        let leaf = pki.leaf(&Leaf::client("spiffe://x/client/n/a"));
        let facts = certificate_facts(&leaf.chain[0]).unwrap();
        let table = Revocations::parse(&[pki.issuing_crl(&Crl::first())]).unwrap();
        let end = table.next_update().unwrap();
        assert_eq!(table.standing(&facts, end.plus_seconds(-1)), Standing::Good);
        assert_eq!(table.standing(&facts, end), Standing::Unknown);
        assert!(table.ran_out_between(end.plus_seconds(-1), end));
        assert!(!table.ran_out_between(end, end.plus_seconds(1)));
    }

    #[test]
    fn garbage_and_trailing_bytes_are_refused() {
        let pki = Pki::new();
        let mut der = pki.issuing_crl(&Crl::first()).to_vec();
        der.push(0);
        assert_eq!(read_crl(&der).err(), Some(CrlFault::Unreadable));
        assert_eq!(read_crl(b"-----BEGIN X509 CRL-----").err(), Some(CrlFault::Unreadable));
    }

    #[test]
    fn age_compares_numbers_as_numbers() {
        let age = |number: &[u8], unix| CrlAge { number: number.to_vec(), this_update: seconds(unix) };
        assert!(age(&[255], 1).is_older_than(&age(&[1, 0], 1)));
        assert!(!age(&[1, 0], 1).is_older_than(&age(&[255], 1)));
        assert!(age(&[2], 0).is_older_than(&age(&[1], 1)));
        assert!(!age(&[1], 1).is_older_than(&age(&[1], 1)));
    }
}
