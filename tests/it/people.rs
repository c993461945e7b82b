//! The person behind a client: a good token opens what its person may see, any other is refused, and both ids are on
//! record.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use strongroom::http::Operation;

use crate::support::people::{ISSUER, Scene, claims, issuer, now, read};
use crate::support::samples::{NOBODY, small_patient};
use crate::support::tokens::{Signer, encode, key_set, signed_part};
use crate::support::{problem, request_id};

/// A refusal, whose answer and entry say what they must and nothing of the token.
async fn refused(scene: &Scene, answer: Response, expected: (u16, &str)) {
    let request = request_id(&answer);
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(challenge.is_some(), expected.0 == 401, "{expected:?}");
    assert!(challenge.is_none_or(|challenge| challenge == "Bearer error=\"invalid_token\""));
    assert_eq!(problem(answer).await, (expected.0, expected.1.to_owned()));
    let entry = scene.strongroom.entry_of(&request).await;
    assert_eq!(entry["act"], "access.denied", "{expected:?}");
    assert_eq!(entry["out"], json!({ "status": "refused", "code": expected.1 }));
    assert_eq!(entry["who"].get("on_behalf_of"), None, "nobody is believed to be behind it");
    assert_eq!(entry["req"]["route"], "/api/v1/{collection}/{id}");
}

#[tokio::test]
async fn a_good_token_opens_what_its_person_may_see_and_both_are_on_record() {
    let signers = ["RS256", "ES256", "EdDSA"].map(|algorithm| Signer::new(algorithm, algorithm));
    let scene = Scene::with_keys(&[&signers[0], &signers[1], &signers[2]]).await;
    // By itself the client may nothing.
    assert_eq!(problem(scene.kiosk.get(&scene.path).await).await, (403, "action_not_allowed".into()));
    for signer in &signers {
        // The second time it is remembered.
        for _ in 0..2 {
            let answer = scene.read(&signer.sign(&claims(&json!({})))).await;
            let request = request_id(&answer);
            assert_eq!(answer.status(), 200, "{}", signer.algorithm());
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["fields"], json!({ "given_name": "Žofie" }));
            let entry = scene.strongroom.entry_of(&request).await;
            let person = json!({ "issuer": "staff", "mfa": true, "roles": ["visitor"], "uid": "p-4711" });
            let who = json!({ "kind": "app", "on_behalf_of": person, "roles": ["doorway"], "uid": "kiosk" });
            assert_eq!(entry["who"], who);
            assert_eq!(entry["basis"]["policy"], json!(["visitor-reads-names"]));
        }
    }
    // Somebody whose claims are no role of the policy is known, and may no more than the client itself.
    let stranger = claims(&json!({ "sub": "jane@example.org", "roles": ["gardener"], "amr": null }));
    let answer = scene.read(&signers[1].sign(&stranger)).await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (403, "action_not_allowed".into()));
    let entry = scene.strongroom.entry_of(&request).await;
    let person = &entry["who"]["on_behalf_of"];
    assert_eq!((&person["mfa"], &person["roles"]), (&json!(false), &json!([])));
    assert!(person["uid"].as_str().unwrap().starts_with("sha256:"), "an address is not for the log");
    assert!(!scene.strongroom.log().iter().any(|line| line.contains("jane") || line.contains("p-4711")));
}

#[tokio::test]
async fn tokens_that_do_not_count_are_refused_and_on_record() {
    let signer = Signer::new("ES256", "first");
    let rsa = Signer::new("RS256", "rsa");
    let south = Signer::new("ES256", "south");
    let other_issuer = "https://login.clinic-south.test/staff";
    let of_south = issuer("jwks_file = \"south.json\"")
        .replace("\"staff\"", "\"south\"")
        .replace("\"clinic-north\"", "\"clinic-south\"")
        .replace(ISSUER, other_issuer);
    let (keys, keys_of_south) = (key_set(&[&signer, &rsa]), key_set(&[&south]));
    let scene = Scene::start(&(issuer("jwks_file = \"keys.json\"") + &of_south), move |folder| {
        std::fs::write(folder.join("keys.json"), keys).unwrap();
        std::fs::write(folder.join("south.json"), keys_of_south).unwrap();
    })
    .await;
    let with = |changes: Value| signer.sign(&claims(&changes));
    let good = with(json!({}));
    assert_eq!(scene.read(&good).await.status(), 200);
    let hmac = |header: Value| {
        let message = signed_part(&header, &claims(&json!({})));
        let secret = rsa.jwk()["n"].as_str().unwrap().to_owned();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        format!("{message}.{}", encode(ring::hmac::sign(&key, message.as_bytes()).as_ref()))
    };
    let none = signed_part(&json!({ "alg": "none" }), &claims(&json!({})));
    let now = now();
    let invalid = (401, "token_invalid");
    let mut sent = vec![good.clone()];
    for (what, token, refusal) in [
        ("forged", Signer::new("ES256", "first").sign(&claims(&json!({}))), invalid),
        ("an unknown key", Signer::new("ES256", "other").sign(&claims(&json!({}))), invalid),
        ("expired", with(json!({ "iat": now - 120, "exp": now - 60 })), (401, "token_expired")),
        ("not yet valid", with(json!({ "nbf": now + 60 })), invalid),
        ("from the future", with(json!({ "iat": now + 60 })), invalid),
        ("too long a life", with(json!({ "iat": now, "exp": now + 3_601 })), invalid),
        ("for somebody else", with(json!({ "aud": "billing" })), invalid),
        ("of another issuer", with(json!({ "iss": "https://login.example.org" })), invalid),
        ("of another tenant's issuer", south.sign(&claims(&json!({ "iss": other_issuer }))), invalid),
        ("signed by another tenant's issuer", south.sign(&claims(&json!({}))), invalid),
        (
            "bound to another certificate",
            with(json!({ "cnf": { "x5t#S256": encode(&[7; 32]) } })),
            (401, "token_not_bound"),
        ),
        ("a public key as a shared secret", hmac(json!({ "alg": "HS256", "kid": "rsa" })), invalid),
        ("the same, said to be rsa", hmac(json!({ "alg": "RS256", "kid": "rsa" })), invalid),
        ("not signed", format!("{none}."), invalid),
        ("a subject that is none", with(json!({ "sub": "two words" })), invalid),
        ("too large", with(json!({ "padding": "x".repeat(6_000) })), invalid),
        ("no token", "nonsense".to_owned(), invalid),
    ] {
        let answer = scene.read(&token).await;
        assert_eq!(answer.status(), refusal.0, "{what}");
        refused(&scene, answer, refusal).await;
        sent.push(token);
    }
    assert_eq!(scene.read(&good).await.status(), 200);
    // Nothing of any of them is anywhere. Whole parts: three letters stand in a signature by chance.
    let written = format!("{:?}{:?}", scene.strongroom.log(), scene.strongroom.entries().await);
    for part in sent.iter().flat_map(|token| token.split('.')).filter(|part| !part.is_empty()) {
        assert!(part.len() >= "nonsense".len() && !written.contains(part), "{part}");
    }
}

#[tokio::test]
async fn one_header_from_a_client_that_may_act_for_people() {
    let signer = Signer::new("ES256", "first");
    let scene = Scene::with_keys(&[&signer]).await;
    let token = signer.sign(&claims(&json!({})));
    let bearer = format!("Bearer {token}");
    let get = || scene.kiosk.request(Method::GET, &scene.path);
    let send = async |request: RequestBuilder| request.send().await.unwrap();
    assert_eq!(send(get().header("authorization", bearer.replace("Bearer", "bearer"))).await.status(), 200);
    for request in [
        get().header("authorization", &bearer).header("authorization", &bearer),
        get().header("authorization", &bearer).header("authorization", "Basic YTpi"),
        get().basic_auth("a", Some("b")),
        get().header("authorization", &token),
        get().header("authorization", "Bearer"),
        get().header("authorization", ""),
        get().header("authorization", format!("{bearer} ")),
        get().header("authorization", format!("Bearer {}", "x".repeat(8_193))),
    ] {
        refused(&scene, send(request).await, (401, "token_invalid")).await;
    }
    // A purpose that nobody knows is told to whoever is believed.
    let answer = send(get().header("authorization", &bearer).header("x-purpose-of-use", "NONE")).await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (400, "purpose_unknown".into()));
    assert_eq!(scene.strongroom.entry_of(&request).await["who"]["on_behalf_of"]["uid"], "p-4711");

    // Clients that may act for nobody are told so, whatever they send, and everywhere.
    let import = scene.strongroom.client("records-import").await.with_purpose("TREAT");
    for token in [&*token, "nonsense"] {
        refused(&scene, read(&import, &scene.path, token).await, (403, "person_not_allowed")).await;
    }
    assert_eq!(read(&import, "/livez", &token).await.status(), 403);
    assert_eq!(import.get("/livez").await.status(), 200);
}

/// Whoever sends a token says that they act for somebody: if that is not so, nothing is answered, not even that the service
/// lives.
#[tokio::test]
async fn every_operation_refuses_a_token_that_does_not_count() {
    let signer = Signer::new("ES256", "first");
    let scene = Scene::with_keys(&[&signer]).await;
    let expired = signer.sign(&claims(&json!({ "iat": now() - 120, "exp": now() - 60 })));
    let import = scene.strongroom.client("records-import").await;
    let place = |route: &str| {
        let names = [
            ("{collection}", "patients"),
            ("{field}", "content"),
            ("{id}", NOBODY),
            ("{upload}", NOBODY),
            ("{entry}", NOBODY),
            ("{hold}", NOBODY),
            ("{destination}", "claims-clearinghouse"),
            ("{erasure}", NOBODY),
            ("{rotation}", NOBODY),
        ];
        names.iter().fold(route.to_owned(), |path, (name, value)| path.replace(name, value))
    };
    for operation in Operation::ALL {
        for (client, expected) in [(&scene.kiosk, "token_expired"), (&import, "person_not_allowed")] {
            let path = place(operation.route());
            assert!(!path.contains('{'), "{path}");
            let request = client.request(operation.method(), &path).bearer_auth(&expired);
            let answer = request.send().await.unwrap();
            let request = request_id(&answer);
            assert_eq!(answer.status(), if expected == "token_expired" { 401 } else { 403 }, "{operation:?}");
            let entry = scene.strongroom.entry_of(&request).await;
            assert_eq!(
                (&entry["act"], &entry["req"]["route"]),
                (&json!("access.denied"), &json!(operation.route()))
            );
            assert_eq!(entry["out"], json!({ "status": "refused", "code": expected }));
        }
    }
}

#[tokio::test]
async fn a_token_bound_to_a_certificate_is_good_from_that_client_only() {
    let signer = Signer::new("ES256", "first");
    let keys = key_set(&[&signer]);
    let lines = "jwks_file = \"keys.json\"\nbinding = \"required\"\nsecond_factor = [\"hwk\"]";
    let scene = Scene::start(&issuer(lines), move |folder| {
        std::fs::write(folder.join("keys.json"), keys).unwrap();
    })
    .await;
    let bound = |thumbprint: &str| signer.sign(&claims(&json!({ "cnf": { "x5t#S256": thumbprint } })));
    let token = bound(&scene.thumbprint());
    let answer = scene.read(&token).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 200);
    let entry = scene.strongroom.entry_of(&request).await;
    assert_eq!(entry["who"]["on_behalf_of"]["mfa"], false, "only a key in hardware counts with this issuer");
    // The same client with another certificate, and a token that is bound to none.
    let uri = "spiffe://strongroom.internal/client/clinic-north/kiosk";
    let (renewed, _) = scene.strongroom.client_with("client", uri).await;
    refused(
        &scene,
        read(&renewed.with_purpose("TREAT"), &scene.path, &token).await,
        (401, "token_not_bound"),
    )
    .await;
    refused(&scene, scene.read(&signer.sign(&claims(&json!({})))).await, (401, "token_not_bound")).await;
}

#[tokio::test]
async fn what_people_write_is_theirs_and_auditors_find_it() {
    let signer = Signer::new("EdDSA", "first");
    let scene = Scene::with_keys(&[&signer]).await;
    let create = async |sub: &str, key: &str| {
        let token = signer.sign(&claims(&json!({ "sub": sub })));
        let request = scene.kiosk.request(Method::POST, "/api/v1/patients").bearer_auth(token);
        let body = json!({ "fields": small_patient() });
        request.header("idempotency-key", key).json(&body).send().await.unwrap()
    };
    let id = async |answer: Response| {
        assert_eq!(answer.status(), 201);
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let first = create("p-1", "monday").await;
    let entry = scene.strongroom.entry_of(&request_id(&first)).await;
    assert_eq!(entry["who"]["on_behalf_of"]["uid"], "p-1");
    let first = id(first).await;
    // A repeat is the same person's; the same key of somebody else behind the same client is another.
    assert_eq!(id(create("p-1", "monday").await).await, first);
    let other = create("auth0|2", "monday").await;
    let held = scene.strongroom.entry_of(&request_id(&other)).await["who"]["on_behalf_of"]["uid"].clone();
    assert_ne!(id(other).await, first);

    let auditor = scene.strongroom.client("audit").await;
    let found = async |query: &str| {
        let answer = auditor.get(&format!("/api/v1/audit/events?{query}")).await;
        assert_eq!(answer.status(), 200, "{query}");
        answer.json::<Value>().await.unwrap()["entries"].as_array().unwrap().len()
    };
    assert_eq!(found("person=p-1").await, 2);
    assert_eq!(found("person=p-1&actor=kiosk").await, 2);
    assert_eq!(found("person=p-1&actor=portal").await, 0);
    assert_eq!(found("person=p-1&status=success&act=record.create").await, 2);
    assert_eq!(found("person=p-3").await, 0);
    // As it is, and as the entry holds it.
    assert_eq!(found("person=auth0%7C2").await, 1);
    assert_eq!(found(&format!("person={}", held.as_str().unwrap())).await, 1);
    for query in ["person=", "person=a&person=b", &format!("person={}", "x".repeat(256))] {
        let answer = auditor.get(&format!("/api/v1/audit/events?{query}")).await;
        assert_eq!(problem(answer).await, (400, "query_invalid".into()), "{query}");
    }
}
