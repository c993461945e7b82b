//! Certificates, roots, CRLs and identities that change while the door is open.

use rustls::pki_types::CertificateDer;
use strongroom::http::door::HandshakeFailure;
use strongroom::tls::crl::{self, StoreError, Stored};
use strongroom::tls::{FileFault, Part};
use tokio::io::AsyncReadExt;

use crate::door_pki::{Crl, Leaf, Pki};
use crate::door_stand::{MOBILE, PORTAL, Stand, UNKNOWN_ROLE, eventually, get_request, text};

async fn ask(stand: &Stand, uri: &str) -> u16 {
    let mut sender = stand.http2(&stand.client(uri)).await;
    sender.send_request(get_request("/who")).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_new_server_certificate_is_shown_and_no_connection_is_dropped() {
    let stand = Stand::open().await;
    let client = stand.client(PORTAL);
    let mut sender = stand.http2(&client).await;
    assert_eq!(sender.send_request(get_request("/who")).await.unwrap().status(), 200);
    let renewed = stand.pki.leaf(&Leaf { serial: &[43], ..Leaf::server() });
    stand.write("server.pem", renewed.chain_pem.as_bytes());
    // Half of the pair: refused, and the old one is still shown.
    let (changes, errors) = stand.tls.poll();
    assert_eq!(changes, []);
    assert_eq!(errors[0].fault, FileFault::KeyMismatch);
    stand.write("server.key", renewed.key_pem.as_bytes());
    let (changes, errors) = stand.tls.poll();
    assert_eq!((changes[0].part, errors), (Part::ServerCertificate, vec![]));
    let stream = stand.connect(Some(&client), b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], renewed.chain[0]);
    assert_eq!(sender.send_request(get_request("/who")).await.unwrap().status(), 200);
    assert_eq!(stand.tls.generation(), 0, "nobody had to be verified again");
}

#[tokio::test]
async fn a_broken_part_does_not_hold_back_a_revocation() {
    let stand = Stand::open().await;
    stand.write("server.pem", b"-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n");
    stand.write("identities.toml", b"surprise = true");
    let client = stand.pki.leaf(&Leaf { serial: &[9], ..Leaf::client(PORTAL) });
    let crl = Crl { number: 2, revoked: &[&[9]], ..Crl::first() };
    stand.write("crl/issuing.crl", &stand.pki.issuing_crl(&crl));
    let (changes, errors) = stand.tls.poll();
    assert_eq!(changes.iter().map(|change| change.part).collect::<Vec<_>>(), [Part::Crls]);
    let parts: Vec<Part> = errors.iter().map(|error| error.part).collect();
    assert_eq!(parts, [Part::ServerCertificate, Part::Identities]);
    let mut stream = stand.connect(Some(&client), b"h2").await.unwrap();
    assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
    assert_eq!(stand.failure().await, HandshakeFailure::Revoked);
    assert_eq!(ask(&stand, MOBILE).await, 200);
}

#[tokio::test]
async fn an_older_crl_on_disk_is_not_taken_up() {
    let stand = Stand::open().await;
    let leaf = Leaf { serial: &[9], ..Leaf::client(PORTAL) };
    stand.revoke(&[&[9]]);
    stand.write("crl/issuing.crl", &stand.pki.issuing_crl(&Crl::first()));
    let (changes, errors) = stand.tls.poll();
    assert_eq!((changes, errors[0].fault.clone()), (vec![], FileFault::CrlRollback));
    let mut stream = stand.connect(Some(&stand.pki.leaf(&leaf)), b"h2").await.unwrap();
    assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
    assert_eq!(stand.failure().await, HandshakeFailure::Revoked);
}

#[tokio::test]
async fn a_fetched_crl_is_stored_and_taken_up_and_an_older_one_is_not() {
    let stand = Stand::open().await;
    let directory = stand.folder.path().join("crl");
    let issuing = CertificateDer::from(stand.pki.issuing_der().to_vec());
    let fetched =
        |crl: &Crl<'_>| crl::store(&directory, "issuing.crl", &stand.pki.issuing_crl(crl), Some(&issuing));
    assert_eq!(fetched(&Crl { number: 3, ..Crl::first() }), Ok(Stored::Replaced));
    assert_eq!(stand.tls.poll().0[0].part, Part::Crls);
    assert_eq!(fetched(&Crl { number: 2, ..Crl::first() }), Err(StoreError::Rollback));
    assert_eq!(stand.tls.poll(), (vec![], vec![]));
}

#[tokio::test]
async fn a_crl_that_the_verifier_does_not_take_keeps_the_old_ones() {
    let stand = Stand::open().await;
    stand.write("crl/issuing.crl", b"not a crl");
    let (changes, errors) = stand.tls.poll();
    assert_eq!((changes.len(), errors[0].part), (0, Part::Crls));
    assert_eq!(ask(&stand, PORTAL).await, 200);
}

#[tokio::test]
async fn identities_are_swapped_whole_if_the_policy_knows_their_roles() {
    let stand = Stand::open().await;
    let mut mobile = stand.http2(&stand.client(MOBILE)).await;
    assert_eq!(mobile.send_request(get_request("/who")).await.unwrap().status(), 200);
    let tenants = "[tenants]\nclinic-north = \"0197a000-0000-7000-8000-00000000c001\"\n";
    let portal = |role: &str| {
        format!(
            "{tenants}[[client]]\nname = \"web\"\ntenant = \"clinic-north\"\nkind = \"app\"\nsan = \"{PORTAL}\"\n\
             roles = [\"{role}\"]\n"
        )
    };
    let before = stand.tls.admission().identities().hash();
    stand.write("identities.toml", portal(UNKNOWN_ROLE).as_bytes());
    let (changes, errors) = stand.tls.poll();
    assert_eq!((changes.len(), errors[0].part), (0, Part::Identities));
    assert_eq!(stand.tls.admission().identities().hash(), before);
    stand.write("identities.toml", portal("portal").as_bytes());
    assert_eq!(stand.tls.poll().0[0].part, Part::Identities);
    assert_ne!(stand.tls.admission().identities().hash(), before);
    let answer = stand.http2(&stand.client(PORTAL)).await.send_request(get_request("/who")).await.unwrap();
    assert!(text(answer).await.starts_with("web "));
    eventually("the one that is no longer listed is closed", || mobile.is_closed()).await;
}

#[tokio::test]
async fn a_root_that_is_taken_away_takes_its_clients_with_it() {
    let stand = Stand::open().await;
    let sender = stand.http2(&stand.client(PORTAL)).await;
    eventually("it is in", || stand.open_connections() == 1).await;
    let other = Pki::new();
    stand.write("root.pem", other.root_pem().as_bytes());
    stand.reload();
    eventually("the connection is closed", || sender.is_closed()).await;
}
