//! Keeping fetched CRLs on disk. Fetching them is a job's work; taking them up is [`super::LiveTls`]'s.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::revocation::{CrlFacts, CrlFault, read_crl};
use super::server_config::{client_verifier, provider};

/// What became of a fetched CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Replaced,
    /// The same bytes were there already.
    Unchanged,
}

/// Why a fetched CRL is not taken. The stored one stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("a crl's file name is lower-case letters, digits and hyphens, then .crl")]
    Name,
    #[error(transparent)]
    Crl(#[from] CrlFault),
    #[error("the client roots cannot be read: {0}")]
    Roots(io::ErrorKind),
    #[error("the ca certificate cannot be read")]
    Issuer,
    #[error("the crl is not the ca's")]
    Signature,
    #[error("the crl is of another kind than the verifier takes")]
    Kind,
    #[error("the crl is older than the stored one")]
    Rollback,
    #[error("the stored crl is another issuer's, give the ca certificate to replace it")]
    OtherIssuer,
    #[error("the ca certificate is not one of the client roots, nor issued by one")]
    Untrusted,
    #[error("the crl cannot be written: {0}")]
    Write(io::ErrorKind),
}

/// Replaces `directory/name` with `der`, atomically and durably (written aside, synced, renamed, directory synced),
/// after checking that it parses; that it is signed by `issuer` (DER) if that is given; and that neither its number nor
/// its `thisUpdate` goes back behind the stored one. A CRL that has run out is stored: it fails closed at use.
pub fn store(
    directory: &Path,
    name: &str,
    der: &[u8],
    issuer: Option<&CertificateDer<'_>>,
) -> Result<Stored, StoreError> {
    check_name(name)?;
    let crl = read_crl(der)?;
    if let Some(issuer) = issuer {
        check_signature(der, issuer)?;
    }
    let path = directory.join(name);
    match fs::read(&path) {
        Ok(stored) if stored == der => return Ok(Stored::Unchanged),
        // One that cannot be read protects nothing; it is replaced.
        Ok(stored) => {
            read_crl(&stored).map_or(Ok(()), |stored| check_order(&crl, &stored, issuer.is_some()))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::Write(error.kind())),
    }
    replace(directory, name, der).map_err(|error| StoreError::Write(error.kind()))?;
    Ok(Stored::Replaced)
}

/// Which authority a fetched CRL must come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// One of the client roots itself.
    Root,
    /// A CA that one of the client roots issued.
    Issuing,
}

/// Checks that `issuer` (DER) is what `authority` says, by the PEM roots that clients are verified against. Whoever hands
/// out CRLs hands out the CA's certificate as well; without this, a list by a CA of theirs would pass for the real one
/// and shut everyone out.
///
/// The certificate's dates are not looked at: the handshake does that, and an expired CA may still revoke.
pub fn check_issuer(
    issuer: &CertificateDer<'_>,
    authority: Authority,
    roots_file: &Path,
) -> Result<(), StoreError> {
    let roots = fs::read(roots_file).map_err(|error| StoreError::Roots(error.kind()))?;
    let roots: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&roots)
        .collect::<Result<_, _>>()
        .map_err(|_| StoreError::Roots(io::ErrorKind::InvalidData))?;
    let is_trusted = match authority {
        Authority::Root => roots.iter().any(|root| root == issuer),
        Authority::Issuing => roots.iter().any(|root| root != issuer && has_issued(root, issuer)),
    };
    if is_trusted { Ok(()) } else { Err(StoreError::Untrusted) }
}

/// RFC 5280 section 6.1.3 (a) and 6.1.4 (k) and (n), as far as they concern who signed what.
fn has_issued(root: &CertificateDer<'_>, issued: &CertificateDer<'_>) -> bool {
    let (Ok((_, root)), Ok((_, issued))) =
        (X509Certificate::from_der(root), X509Certificate::from_der(issued))
    else {
        return false;
    };
    let may_certify =
        root.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
    may_certify
        && issued.is_ca()
        && issued.issuer().as_raw() == root.subject().as_raw()
        && issued.verify_signature(Some(root.public_key())).is_ok()
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let stem = name.strip_suffix(".crl").unwrap_or_default();
    let fits = (1..=64).contains(&stem.len())
        && stem.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    fits.then_some(()).ok_or(StoreError::Name)
}

fn check_signature(der: &[u8], issuer: &CertificateDer<'_>) -> Result<(), StoreError> {
    let (_, crl) = CertificateRevocationList::from_der(der).map_err(|_| CrlFault::Unreadable)?;
    let (_, ca) = X509Certificate::from_der(issuer).map_err(|_| StoreError::Issuer)?;
    let may_sign = ca.key_usage().ok().flatten().is_none_or(|usage| usage.value.crl_sign());
    if crl.issuer().as_raw() != ca.subject().as_raw() || !may_sign {
        return Err(StoreError::Signature);
    }
    crl.verify_signature(ca.public_key()).map_err(|_| StoreError::Signature)?;
    // webpki takes fewer kinds than RFC 5280 has (no deltas, no unknown critical extensions): ask it now, not at the
    // next start.
    let mut roots = RootCertStore::empty();
    roots.add(issuer.clone().into_owned()).map_err(|_| StoreError::Issuer)?;
    let der = CertificateRevocationListDer::from(der.to_vec());
    client_verifier(&Arc::new(provider()), &Arc::new(roots), &[der]).map_err(|_| StoreError::Kind)?;
    Ok(())
}

fn check_order(new: &CrlFacts, stored: &CrlFacts, is_signed: bool) -> Result<(), StoreError> {
    if new.issuer_sha256 != stored.issuer_sha256 {
        return if is_signed { Ok(()) } else { Err(StoreError::OtherIssuer) };
    }
    if new.age.is_older_than(&stored.age) { Err(StoreError::Rollback) } else { Ok(()) }
}

fn replace(directory: &Path, name: &str, der: &[u8]) -> io::Result<()> {
    // Not *.crl: a reader of the directory never sees it.
    let aside = directory.join(format!(".{name}.new"));
    let mut file = File::create(&aside)?;
    file.write_all(der)?;
    file.sync_all()?;
    fs::rename(&aside, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::pki::{Crl, Folder, Leaf, Pki};
    use super::*;

    #[test]
    fn newer_lists_replace_and_older_ones_are_refused() {
        let (pki, folder) = (Pki::new(), Folder::new());
        let issuing = CertificateDer::from(pki.issuing_der().to_vec());
        let first = pki.issuing_crl(&Crl::first());
        let second = pki.issuing_crl(&Crl { number: 2, revoked: &[&[7]], ..Crl::first() });
        let keep = |der: &[u8]| store(folder.path(), "issuing.crl", der, Some(&issuing));
        assert_eq!(keep(&first), Ok(Stored::Replaced));
        assert_eq!(keep(&first), Ok(Stored::Unchanged));
        assert_eq!(keep(&second), Ok(Stored::Replaced));
        assert_eq!(keep(&first), Err(StoreError::Rollback));
        assert_eq!(fs::read(folder.path().join("issuing.crl")).unwrap(), second.to_vec());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_list_that_only_claims_a_higher_number_is_refused() {
        let (pki, folder) = (Pki::new(), Folder::new());
        let later = Crl { this_update: (2026, 5, 31), ..Crl::first() };
        store(folder.path(), "issuing.crl", &pki.issuing_crl(&later), None).unwrap();
        let earlier = Crl { number: 9, this_update: (2026, 5, 30), ..Crl::first() };
        let refused = store(folder.path(), "issuing.crl", &pki.issuing_crl(&earlier), None);
        assert_eq!(refused, Err(StoreError::Rollback));
    }

    #[test]
    fn the_signature_is_checked_against_the_ca() {
        let (pki, other, folder) = (Pki::new(), Pki::new(), Folder::new());
        let issuing = CertificateDer::from(pki.issuing_der().to_vec());
        let crl = pki.issuing_crl(&Crl::first());
        let mut bent = crl.to_vec();
        *bent.last_mut().unwrap() ^= 1;
        let keep = |der: &[u8]| store(folder.path(), "issuing.crl", der, Some(&issuing));
        assert_eq!(keep(&bent), Err(StoreError::Signature));
        assert_eq!(keep(&other.issuing_crl(&Crl::first())), Err(StoreError::Signature));
        assert_eq!(keep(&pki.root_crl(&Crl::first())), Err(StoreError::Signature));
        assert_eq!(keep(&crl), Ok(Stored::Replaced));
    }

    #[test]
    fn only_the_roots_and_what_they_issued_may_revoke() {
        let (pki, other, folder) = (Pki::new(), Pki::new(), Folder::new());
        let roots = folder.path().join("roots.pem");
        fs::write(&roots, pki.root_pem()).unwrap();
        let root = |pki: &Pki| CertificateDer::from_pem_slice(pki.root_pem().as_bytes()).unwrap();
        let check =
            |der: &[u8], authority| check_issuer(&CertificateDer::from(der.to_vec()), authority, &roots);
        assert_eq!(check(&root(&pki), Authority::Root), Ok(()));
        assert_eq!(check(pki.issuing_der(), Authority::Issuing), Ok(()));
        // The same names, other keys.
        assert_eq!(check(&root(&other), Authority::Root), Err(StoreError::Untrusted));
        assert_eq!(check(other.issuing_der(), Authority::Issuing), Err(StoreError::Untrusted));
        // One authority does not speak for the other: its own list would go missing.
        assert_eq!(check(pki.issuing_der(), Authority::Root), Err(StoreError::Untrusted));
        assert_eq!(check(&root(&pki), Authority::Issuing), Err(StoreError::Untrusted));
        // A client's certificate is issued by the CA and is none.
        let leaf = pki.leaf(&Leaf::client("spiffe://x/client/n/a"));
        assert_eq!(check(&leaf.chain[0], Authority::Issuing), Err(StoreError::Untrusted));
        fs::remove_file(&roots).unwrap();
        assert!(matches!(check(&root(&pki), Authority::Root), Err(StoreError::Roots(_))));
    }

    #[test]
    fn names_and_issuers_stay_in_their_place() {
        let (pki, folder) = (Pki::new(), Folder::new());
        let crl = pki.issuing_crl(&Crl::first());
        for name in ["../issuing.crl", "issuing", ".crl", "A.crl", "a/b.crl"] {
            assert_eq!(store(folder.path(), name, &crl, None), Err(StoreError::Name), "{name}");
        }
        store(folder.path(), "issuing.crl", &crl, None).unwrap();
        let root = pki.root_crl(&Crl::first());
        assert_eq!(store(folder.path(), "issuing.crl", &root, None), Err(StoreError::OtherIssuer));
    }
}
