//! Which tokens are good, and what they say.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::Token;
use super::provider::{encode, signed_part};
use super::*;

#[tokio::test]
async fn each_algorithm_is_good_and_the_claims_are_read() {
    let scene = Scene::new();
    let said = json!({
        "department": "Heart (2 West)", "clinic": { "teams": ["ward-3", "stroke", "ward-3"] },
        "https://login.test/subject": SUBJECT, "amr": ["pwd", "otp"], "aud": ["other", "vault"],
        "roles": "nurse patient doctor unheard-of",
    });
    for signer in [&*RSA, &P256, &ED25519] {
        let person = scene.judge(&signer.sign(&claims(&said))).await.unwrap();
        assert_eq!((&*person.issuer, &*person.id), ("staff", "p-4711"));
        let texts = |words: &[Arc<str>]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&person.roles), ["clinician", "patient"]);
        assert_eq!(texts(&person.care_teams), ["stroke", "ward-3"]);
        assert_eq!(person.department.as_deref(), Some("cardiology"));
        assert_eq!(person.subject.map(|id| id.to_string()).as_deref(), Some(SUBJECT));
        assert!(person.has_second_factor);
        assert_eq!(person.expires_at.as_seconds(), NOW + 540);
        let plain = scene.judge(&signer.sign(&claims(&json!({ "roles": null })))).await.unwrap();
        assert!(plain.roles.is_empty() && plain.care_teams.is_empty() && !plain.has_second_factor);
        assert!(plain.department.is_none() && plain.subject.is_none());
        // What the table does not list is no department, also where it is the policy's own word for one.
        for said in ["cardiology", "heart (2 west)", "Catering"] {
            let person = scene.judge(&signer.sign(&claims(&json!({ "department": said })))).await.unwrap();
            assert_eq!((person.department.as_ref(), person.roles.len()), (None, 1), "{said}");
        }
    }
}

#[tokio::test]
async fn claims_that_are_not_as_they_must_be() {
    let scene = Scene::new();
    let long = "x".repeat(129);
    let teams: Vec<String> = (0..65).map(|number| format!("team-{number}")).collect();
    for (changes, refusal) in [
        (json!({ "aud": "somebody-else" }), INVALID),
        (json!({ "aud": [] }), INVALID),
        (json!({ "aud": null }), INVALID),
        (json!({ "aud": ["strongroom", 7] }), INVALID),
        (json!({ "aud": "Strongroom" }), INVALID),
        (json!({ "iss": "https://login.test/staff/" }), INVALID),
        (json!({ "iss": ["https://login.test/staff"] }), INVALID),
        (json!({ "iss": null }), INVALID),
        (json!({ "sub": null }), INVALID),
        (json!({ "sub": "" }), INVALID),
        (json!({ "sub": "two words" }), INVALID),
        (json!({ "sub": "jürgen" }), INVALID),
        (json!({ "sub": "x".repeat(256) }), INVALID),
        (json!({ "sub": 4711 }), INVALID),
        (json!({ "exp": null }), INVALID),
        (json!({ "exp": (NOW + 540).to_string() }), INVALID),
        (json!({ "exp": 1e300 }), INVALID),
        (json!({ "exp": -1 }), INVALID),
        (json!({ "exp": i64::MAX }), INVALID),
        (json!({ "exp": NOW - 60 }), INVALID),
        (json!({ "iat": null }), INVALID),
        (json!({ "iat": 1.5 }), INVALID),
        (json!({ "iat": NOW + 31, "exp": NOW + 540 }), INVALID),
        (json!({ "nbf": NOW + 31 }), INVALID),
        (json!({ "nbf": "now" }), INVALID),
        (json!({ "iat": NOW - 3_600, "exp": NOW + 1 }), INVALID),
        (json!({ "exp": NOW + 3_541 }), INVALID),
        (json!({ "iat": NOW - 600, "exp": NOW - 30 }), EXPIRED),
        (json!({ "iat": 0, "exp": 60 }), EXPIRED),
        (json!({ "roles": 7 }), INVALID),
        (json!({ "roles": ["doctor", 7] }), INVALID),
        (json!({ "amr": { "mfa": true } }), INVALID),
        (json!({ "department": "" }), INVALID),
        (json!({ "department": ["a"] }), INVALID),
        (json!({ "department": "line\nline" }), INVALID),
        (json!({ "department": "x".repeat(129) }), INVALID),
        (json!({ "department": { "name": "ED" } }), INVALID),
        (json!({ "clinic": { "teams": [long] } }), INVALID),
        (json!({ "clinic": { "teams": teams } }), INVALID),
        (json!({ "https://login.test/subject": SUBJECT.to_uppercase() }), INVALID),
        (json!({ "https://login.test/subject": "p-1" }), INVALID),
    ] {
        let judged = scene.judge(&P256.sign(&claims(&changes))).await;
        assert_eq!(judged.err(), Some(refusal), "{changes}");
    }
    assert_eq!(scene.remembered(), 0, "what is refused is not remembered");
    for changes in [
        json!({ "iat": NOW + 30, "exp": NOW + 540 }),
        json!({ "nbf": NOW + 30 }),
        json!({ "iat": NOW - 600, "exp": NOW - 29 }),
        json!({ "exp": NOW + 3_540 }),
        json!({ "sub": "auth0|5f7c8ec7" }),
        json!({ "amr": "mfa" }),
    ] {
        assert!(scene.judge(&P256.sign(&claims(&changes))).await.is_ok(), "{changes}");
    }
}

#[tokio::test]
async fn headers_and_signatures_that_do_not_count() {
    let scene = Scene::new();
    let good = claims(&json!({}));
    let under = |signer: &Signer, header: Value| signer.sign_under(&header, &good);
    let other = Signer::new("ES256", "p256");
    let p256 = P256.sign(&good);
    let (signed, signature) = p256.rsplit_once('.').unwrap();
    let none = signed_part(&json!({ "alg": "none" }), &good);
    // The public key as the secret of an HMAC: what every verifier that trusts the header would take.
    let confused = |header: Value, secret: &str| {
        let signed = signed_part(&header, &good);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        format!("{signed}.{}", encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref()))
    };
    let modulus = RSA.jwk()["n"].as_str().unwrap().to_owned();
    let own_key = json!({ "alg": "ES256", "typ": "JWT", "jwk": other.jwk(), "jku": "http://127.0.0.1:1/" });
    for (what, token) in [
        ("another key under the same id", other.sign(&good)),
        ("no signature", format!("{signed}.")),
        ("none, unsigned", format!("{none}.")),
        ("none, signed", format!("{none}.{signature}")),
        ("None", under(&P256, json!({ "alg": "None", "kid": "p256" }))),
        ("hmac under the modulus", confused(json!({ "alg": "HS256", "kid": "rsa" }), &modulus)),
        ("hmac said to be rsa", confused(json!({ "alg": "RS256", "kid": "rsa" }), &modulus)),
        (
            "hmac under the key as json",
            confused(json!({ "alg": "HS256", "kid": "rsa" }), &RSA.jwk().to_string()),
        ),
        ("an rsa key under es256", under(&RSA, json!({ "alg": "ES256", "kid": "rsa" }))),
        ("a p-256 key under rs256", under(&P256, json!({ "alg": "RS256", "kid": "p256" }))),
        ("an ed25519 key under es256", under(&ED25519, json!({ "alg": "ES256", "kid": "ed25519" }))),
        ("es256 by an ed25519 key under its id", under(&ED25519, json!({ "alg": "ES256", "kid": "p256" }))),
        ("an algorithm nobody offers", under(&RSA, json!({ "alg": "RS384", "kid": "rsa" }))),
        ("pss", under(&RSA, json!({ "alg": "PS256", "kid": "rsa" }))),
        ("no algorithm", under(&P256, json!({ "kid": "p256" }))),
        ("two algorithms", raw(&P256, "{\"alg\":\"ES256\",\"alg\":\"ES256\",\"kid\":\"p256\"}", &good)),
        (
            "critical extensions",
            under(&P256, json!({ "alg": "ES256", "kid": "p256", "crit": ["b64"], "b64": false })),
        ),
        (
            "a token for something else",
            under(&P256, json!({ "alg": "ES256", "kid": "p256", "typ": "logout+jwt" })),
        ),
        ("a key of its own", other.sign_under(&own_key, &good)),
        ("claims that are no object", P256.sign(&json!(["iss"]))),
        ("four parts", format!("{p256}.{signature}")),
        ("two parts", signed.to_owned()),
        ("a space before", format!(" {p256}")),
        ("padding", format!("{p256}=")),
        ("too long", P256.sign(&claims(&json!({ "padding": "x".repeat(8_192) })))),
        ("nothing", String::new()),
    ] {
        assert_eq!(scene.judge(&token).await.err(), Some(INVALID), "{what}");
    }
}

#[tokio::test]
async fn headers_that_do() {
    let (scene, good) = (Scene::new(), claims(&json!({})));
    for header in [
        json!({ "alg": "ES256", "kid": "p256", "typ": "at+jwt" }),
        json!({ "alg": "ES256", "kid": "p256", "typ": "application/AT+JWT" }),
        json!({ "alg": "ES256", "kid": "p256", "x5t": "unknown members are passed over" }),
        // There is one key of this algorithm.
        json!({ "alg": "ES256" }),
    ] {
        assert!(scene.judge(&P256.sign_under(&header, &good)).await.is_ok(), "{header}");
    }
}

/// The header as text, for what a JSON library would not write.
fn raw(signer: &Signer, header: &str, claims: &Value) -> String {
    // Signed over other bytes: refused for the header or for the signature, never taken.
    let token = signer.sign(claims);
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", encode(header.as_bytes()))
}

#[tokio::test]
async fn an_algorithm_that_is_not_the_issuers_is_refused_whatever_its_keys() {
    let scene = Scene::with(&issuer("").replace("[\"RS256\", \"ES256\", \"EdDSA\"]", "[\"ES256\"]"));
    assert!(scene.judge(&P256.sign(&claims(&json!({})))).await.is_ok());
    for signer in [&*RSA, &ED25519] {
        assert_eq!(scene.judge(&signer.sign(&claims(&json!({})))).await.err(), Some(INVALID));
    }
}

#[tokio::test]
async fn a_binding_is_honoured_and_can_be_demanded() {
    let bound = encode(&[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(4));
    let other = encode(&[7; 32]);
    let token = |cnf: Value| P256.sign(&claims(&json!({ "cnf": cnf })));
    let wrong = [
        json!({ "x5t#S256": other }),
        json!({ "x5t#S256": &bound[1..] }),
        json!({ "x5t#S256": 7 }),
        json!({ "jkt": bound }),
        json!({ "x5t#S256": bound, "jkt": other }),
        json!({}),
    ];
    let (honoured, required) = (Scene::new(), Scene::with(&issuer("binding = \"required\"")));
    for scene in [&honoured, &required] {
        // Twice: the second is remembered, and looked at as closely.
        for _ in 0..2 {
            assert!(scene.judge(&token(json!({ "x5t#S256": bound }))).await.is_ok());
        }
        for cnf in &wrong {
            assert_eq!(scene.judge(&token(cnf.clone())).await.err(), Some(NOT_BOUND), "{cnf}");
        }
        assert_eq!(scene.judge(&token(json!("text"))).await.err(), Some(INVALID));
    }
    let unbound = P256.sign(&claims(&json!({})));
    assert!(honoured.judge(&unbound).await.is_ok());
    assert_eq!(required.judge(&unbound).await.err(), Some(NOT_BOUND));
    // Known from one client, and no better with another's certificate.
    let bound = token(json!({ "x5t#S256": bound }));
    let thief = CertificateFacts { sha256: "00".repeat(32), ..certificate() };
    let judged = honoured.judge_from(&bound, &identity(NORTH, &["clinician"]), &thief).await;
    assert_eq!(judged.err(), Some(NOT_BOUND));
}

#[tokio::test]
async fn a_person_is_of_one_tenant_and_of_clients_that_may_act_for_people() {
    let scene = Scene::new();
    let token = P256.sign(&claims(&json!({})));
    let from = async |tenant: &str, acts_for: &[&str]| {
        scene.judge_from(&token, &identity(tenant, acts_for), &certificate()).await.err()
    };
    for _ in 0..2 {
        assert_eq!(from(SOUTH, &["clinician"]).await, Some(INVALID));
        assert_eq!(from(NORTH, &[]).await, Some(Refusal::NotAllowed));
        assert_eq!(from(NORTH, &["patient"]).await, None);
    }
    assert_eq!(scene.remembered(), 1);
    assert_eq!(from(SOUTH, &["clinician"]).await, Some(INVALID), "remembered, and of another tenant");
}

#[tokio::test]
async fn a_remembered_token_expires_in_its_time() {
    let scene = Scene::new();
    let token = P256.sign(&claims(&json!({})));
    assert!(scene.judge(&token).await.is_ok());
    scene.set_time(NOW + 569);
    scene.people.sources()[0].note_attempt(Some(scene.clock.now()));
    assert!(scene.judge(&token).await.is_ok());
    scene.set_time(NOW + 570);
    assert_eq!(scene.judge(&token).await.err(), Some(EXPIRED));
    scene.set_time(NOW - 91);
    assert_eq!(scene.judge(&token).await.err(), Some(INVALID), "a clock that was set back");
}

/// Whatever is changed in a good token, it is good no more, and nothing breaks.
#[test]
fn no_other_text_is_the_token() {
    let (scene, good) = (Scene::new(), P256.sign(&claims(&json!({}))));
    proptest!(many(), |(at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f, how in 0..3_u8)| {
        let mut changed = good.clone().into_bytes();
        let at = at.index(changed.len());
        match how {
            0 => changed[at] = byte,
            1 => changed.insert(at, byte),
            _ => drop(changed.remove(at)),
        }
        let changed = String::from_utf8(changed).unwrap();
        prop_assume!(changed != good);
        prop_assert_eq!(scene.judge_now(&changed).err(), Some(INVALID));
    });
}

/// Whatever an issuer puts into its claims, they are read or refused, and what is read keeps its bounds.
#[test]
fn any_claims_are_read_or_refused() {
    let scene = Scene::new();
    proptest!(many(), |(changes in proptest::collection::vec((claim_name(), any_json()), 0..4))| {
        let changes: serde_json::Map<String, Value> = changes.into_iter().collect();
        let token = ED25519.sign(&claims(&Value::Object(changes)));
        if let Ok(person) = scene.judge_now(&token) {
            prop_assert!((1..=255).contains(&person.id.len()) && person.id.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!(person.roles.iter().all(|role| ["clinician", "patient"].contains(&&**role)));
            prop_assert!(person.department.as_ref().is_none_or(|name| ["cardiology", "emergency"].contains(&&**name)));
            prop_assert!(person.roles.windows(2).all(|two| two[0] < two[1]));
            prop_assert!(person.care_teams.len() <= 64 && person.care_teams.windows(2).all(|two| two[0] < two[1]));
            prop_assert!(person.expires_at.as_seconds() > NOW - 30 && person.expires_at.as_seconds() <= NOW + 3_630);
        }
    });
}

fn many() -> ProptestConfig {
    ProptestConfig::with_cases(512)
}

impl Scene {
    fn judge_now(&self, token: &str) -> Result<Arc<Person>, Refusal> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.judge(token))
    }
}

proptest! {
    #![proptest_config(many())]

    /// A token has one spelling: what can be taken apart is, put together again, the same text.
    #[test]
    fn a_token_has_one_spelling(text in "[A-Za-z0-9_-]{0,9}(\\.[A-Za-z0-9_.-]{0,12}){0,3}", claims in "\\{\"a\":\"[a-z]{0,4}\"\\}") {
        let header = encode(b"{\"alg\":\"EdDSA\"}");
        let built = format!("{header}.{}.{}", encode(claims.as_bytes()), &text);
        for text in [text, built] {
            if let Some(token) = Token::parse(&text) {
                prop_assert_eq!(format!("{}.{}", std::str::from_utf8(token.signed).unwrap(), encode(&token.signature)), text);
            }
        }
    }
}

fn claim_name() -> impl Strategy<Value = String> {
    const NAMES: [&str; 13] = [
        "iss",
        "aud",
        "sub",
        "iat",
        "exp",
        "nbf",
        "roles",
        "department",
        "clinic",
        "https://login.test/subject",
        "amr",
        "cnf",
        "jti",
    ];
    prop::sample::select(&NAMES[..]).prop_map(str::to_owned)
}

fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![NOW - 4_000..NOW + 4_000, any::<i64>()];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        number.prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(doctor|patient|ED|mfa|pwd|otp|strongroom|[ -~]{0,9})".prop_map(Value::from),
        "\\PC{0,5}".prop_map(Value::from),
        Just(Value::from(SUBJECT)),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("teams|x5t#S256|[a-z]{0,3}", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[test]
fn refusals_have_words_of_their_own() {
    let words: HashSet<String> = [INVALID, EXPIRED, NOT_BOUND, Refusal::NotAllowed, Refusal::Unavailable]
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(words.len(), 5);
}
