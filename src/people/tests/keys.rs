//! Key sets: what of them is used.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};

use super::super::{Algorithm, IgnoredKey, KeySet, KeySetFault};
use super::provider::encode;
use super::*;

const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

fn parse(keys: &[Value], algorithms: &[Algorithm]) -> (KeySet, Vec<IgnoredKey>) {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), algorithms).unwrap()
}

fn changed(signer: &Signer, name: &str, value: &Value) -> Value {
    let mut jwk = signer.jwk();
    if value.is_null() {
        jwk.as_object_mut().unwrap().remove(name);
    } else {
        jwk[name] = value.clone();
    }
    jwk
}

#[test]
fn keys_that_are_for_something_else_are_left_out_and_named() {
    let numbers = |bits: usize| json!(encode(&vec![0xff; bits / 8]));
    let unusable = [
        json!({ "kty": "oct", "k": encode(&[7; 32]), "kid": "shared" }),
        json!({ "kty": "EC", "crv": "P-384", "x": encode(&[7; 48]), "y": encode(&[7; 48]) }),
        json!({ "kty": "EC", "crv": "secp256k1", "x": encode(&[7; 32]), "y": encode(&[7; 32]) }),
        json!({ "kty": "OKP", "crv": "X25519", "x": encode(&[7; 32]) }),
        json!({ "kty": "OKP", "crv": "P-256", "x": encode(&[7; 32]) }),
        json!("text"),
        json!({}),
        changed(&P256, "use", &json!("enc")),
        changed(&P256, "key_ops", &json!(["sign"])),
        changed(&P256, "alg", &json!("ES384")),
        changed(&P256, "alg", &json!("HS256")),
        changed(&P256, "alg", &json!("RS256")),
        changed(&P256, "x", &Value::Null),
        changed(&P256, "x", &json!(encode(&[7; 31]))),
        changed(&P256, "y", &json!(encode(&[7; 33]))),
        changed(&P256, "kid", &json!("")),
        changed(&P256, "kid", &json!("k".repeat(256))),
        changed(&P256, "d", &json!(encode(&[7; 32]))),
        changed(&ED25519, "x", &json!("not base64")),
        changed(&RSA, "alg", &json!("RS512")),
        changed(&RSA, "alg", &json!("RSA-OAEP")),
        changed(&RSA, "n", &numbers(1_024)),
        changed(&RSA, "n", &json!(encode(&[&[0x7f][..], &[0xff; 255]].concat()))),
        changed(&RSA, "n", &numbers(8_200)),
        changed(&RSA, "n", &json!(encode(&[0; 256]))),
        changed(&RSA, "e", &json!("AQ")),
        changed(&RSA, "e", &json!(encode(&[4]))),
        changed(&RSA, "e", &json!(encode(&[1, 0, 0, 0, 1]))),
        changed(&RSA, "e", &Value::Null),
    ];
    for jwk in &unusable {
        let (keys, ignored) = parse(&[P256.jwk(), jwk.clone(), ED25519.jwk()], &ALL);
        assert_eq!((keys.len(), ignored.len()), (2, 1), "{jwk}");
        assert_eq!(ignored[0].place, 1);
    }
    for (name, value) in [
        ("use", Value::Null),
        ("alg", Value::Null),
        ("kid", Value::Null),
        ("key_ops", json!(["verify"])),
        ("x5c", json!(["passed over"])),
        ("exp", json!(7)),
    ] {
        let (keys, ignored) = parse(&[changed(&P256, name, &value)], &ALL);
        assert_eq!((keys.len(), ignored.len()), (1, 0), "{name}");
    }
    let (keys, ignored) = parse(&[RSA.jwk(), P256.jwk(), ED25519.jwk()], &[Algorithm::ES256]);
    assert_eq!((keys.len(), ignored.len()), (1, 2));
}

#[test]
fn a_set_is_the_same_in_another_order_and_another_with_another_key() {
    let (first, second) = (P256.jwk(), ED25519.jwk());
    let digest = |keys: &[Value]| parse(keys, &ALL).0.sha256();
    let both = digest(&[first.clone(), second.clone()]);
    assert_eq!(both, digest(&[second.clone(), first.clone()]));
    assert_eq!(both, digest(&[second.clone(), changed(&P256, "use", &Value::Null), json!({})]));
    assert_ne!(both, digest(std::slice::from_ref(&first)));
    assert_ne!(both, digest(&[changed(&P256, "kid", &json!("other")), second]));
    assert!(parse(&[], &ALL).0.is_empty());
}

#[test]
fn a_set_that_is_none_is_refused_whole() {
    let many = json!({ "keys": vec![P256.jwk(); 65] }).to_string();
    for (text, fault) in [
        ("", KeySetFault::Shape),
        ("[]", KeySetFault::Shape),
        ("{}", KeySetFault::Shape),
        ("{\"keys\":{}}", KeySetFault::Shape),
        ("{\"keys\":[]} {}", KeySetFault::Shape),
        (&many, KeySetFault::TooMany),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes(), &ALL).err(), Some(fault), "{text}");
    }
}

/// Leading zeros are some providers' habit, and not part of the number.
#[test]
fn a_modulus_with_leading_zeros_is_the_same_key() {
    let jwk = RSA.jwk();
    let n = Base64UrlUnpadded::decode_vec(jwk["n"].as_str().unwrap()).unwrap();
    let padded = changed(&RSA, "n", &json!(encode(&[&[0, 0][..], &n].concat())));
    assert_eq!(parse(&[padded], &ALL).0.sha256(), parse(&[jwk], &ALL).0.sha256());
}

#[tokio::test]
async fn of_keys_under_one_id_the_one_of_the_algorithm_is_meant() {
    let scene = Scene::new();
    let (p256, ed25519) = (Signer::new("ES256", "same"), Signer::new("EdDSA", "same"));
    scene.set_keys(&[&p256, &ed25519]);
    scene.people.fetch_keys(&scene.people.sources()[0], &scene.clock).await.unwrap();
    for signer in [&p256, &ed25519] {
        assert!(scene.judge(&signer.sign(&claims(&json!({})))).await.is_ok());
    }
    // Without an id it is clear for each algorithm; with two of one it is not.
    let header = json!({ "alg": "ES256" });
    assert!(scene.judge(&p256.sign_under(&header, &claims(&json!({})))).await.is_ok());
    let another = Signer::new("ES256", "another");
    scene.set_keys(&[&p256, &another]);
    scene.people.fetch_keys(&scene.people.sources()[0], &scene.clock).await.unwrap();
    assert_eq!(scene.judge(&p256.sign_under(&header, &claims(&json!({})))).await.err(), Some(INVALID));
}
