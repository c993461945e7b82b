//! A private CA for tests of the door: root, issuing CA, leaves and CRLs, made anew for each test.
//!
//! Dates are fixed and tests bring their own clock, so nothing here runs out. Also compiled into the unit tests of `tls`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Root → issuing CA → leaves.
pub struct Pki {
    root: Authority,
    issuing: Authority,
}

/// A certificate to be issued.
#[derive(Clone)]
pub struct Leaf<'a> {
    pub uris: Vec<&'a str>,
    pub purposes: Vec<ExtendedKeyUsagePurpose>,
    pub serial: &'a [u8],
    pub not_after: Day,
}

/// Year, month, day; midnight UTC.
pub type Day = (i32, u8, u8);

impl<'a> Leaf<'a> {
    pub fn client(uri: &'a str) -> Self {
        let purposes = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self { uris: vec![uri], purposes, serial: &[41], not_after: (2030, 1, 1) }
    }

    pub fn server() -> Self {
        let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Self { uris: vec![], purposes, serial: &[42], not_after: (2030, 1, 1) }
    }
}

/// An issued certificate with its issuer after it, and its key.
pub struct Issued {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub chain_pem: String,
    pub key_pem: String,
}

impl Clone for Issued {
    fn clone(&self) -> Self {
        let Self { chain, key, chain_pem, key_pem } = self;
        let (chain_pem, key_pem) = (chain_pem.clone(), key_pem.clone());
        Self { chain: chain.clone(), key: key.clone_key(), chain_pem, key_pem }
    }
}

/// A revocation list to be signed.
#[derive(Clone, Copy)]
pub struct Crl<'a> {
    pub number: u64,
    pub revoked: &'a [&'a [u8]],
    pub this_update: Day,
    pub next_update: Day,
}

impl Crl<'_> {
    pub fn first() -> Self {
        Self { number: 1, revoked: &[], this_update: (2026, 6, 1), next_update: (2026, 6, 3) }
    }
}

impl Pki {
    /// The serial number of the issuing CA's certificate, as its root's CRL would list it.
    pub const ISSUING_SERIAL: &'static [u8] = &[1, 7];

    pub fn new() -> Self {
        Self::named("Strongroom test")
    }

    /// A CA of its own, even where the name is another's.
    pub fn named(name: &str) -> Self {
        let root = Authority::self_signed(authority(&format!("{name} root"), &[1]), key()).unwrap();
        let issuing = authority(&format!("{name} issuing"), Self::ISSUING_SERIAL);
        let issuing = Authority::signed_by(issuing, key(), &root).unwrap();
        Self { root, issuing }
    }

    pub fn issuing_der(&self) -> &[u8] {
        self.issuing.der()
    }

    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        store.add(CertificateDer::from_pem_slice(self.root_pem().as_bytes()).unwrap()).unwrap();
        Arc::new(store)
    }

    pub fn leaf(&self, leaf: &Leaf<'_>) -> Issued {
        let key = key();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(leaf.not_after.0, leaf.not_after.1, leaf.not_after.2);
        params.serial_number = Some(SerialNumber::from_slice(leaf.serial));
        params.extended_key_usages = leaf.purposes.clone();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        for uri in &leaf.uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        // Servers are found by name and address; on a client certificate a further name is allowed and ignored.
        params.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()));
        let certificate = params.signed_by(&key, &self.issuing).unwrap();
        Issued {
            chain: vec![certificate.der().clone(), self.issuing.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            chain_pem: certificate.pem() + &self.issuing.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    pub fn root_crl(&self, crl: &Crl<'_>) -> CertificateRevocationListDer<'static> {
        sign(crl, &self.root)
    }

    pub fn issuing_crl(&self, crl: &Crl<'_>) -> CertificateRevocationListDer<'static> {
        sign(crl, &self.issuing)
    }
}

/// A folder of the test's own under the system's temporary directory, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("strongroom-door-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn authority(name: &str, serial: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn sign(crl: &Crl<'_>, authority: &Authority) -> CertificateRevocationListDer<'static> {
    let day = |(year, month, day): Day| date_time_ymd(year, month, day);
    let revoked_certs = crl.revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: day(crl.this_update),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: day(crl.this_update),
        next_update: day(crl.next_update),
        crl_number: SerialNumber::from(crl.number),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(authority).unwrap().der().clone()
}
