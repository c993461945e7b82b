//! Keys and tables that change while they are used.

use serde_json::json;

use super::super::FetchFault;
use super::*;

#[tokio::test]
async fn a_key_that_leaves_the_set_takes_its_remembered_tokens_with_it() {
    let scene = Scene::new();
    let source = scene.people.sources().remove(0);
    let (first, second) = (Signer::new("ES256", "first"), Signer::new("ES256", "second"));
    let token = |signer: &Signer| signer.sign(&claims(&json!({})));
    scene.set_keys(&[&first]);
    let first_set = scene.people.fetch_keys(&source, &scene.clock).await.unwrap();
    let change = first_set.change.unwrap();
    assert_eq!((change.tenant, first_set.usable), (TenantId::parse(NORTH).unwrap(), 1));
    assert!(scene.judge(&token(&first)).await.is_ok());
    assert_eq!(scene.remembered(), 1);
    // The same again is no change, and nothing is forgotten.
    let again = scene.people.fetch_keys(&source, &scene.clock).await.unwrap();
    assert_eq!((again.change, scene.remembered()), (None, 1));
    scene.set_keys(&[&second]);
    let next = scene.people.fetch_keys(&source, &scene.clock).await.unwrap().change.unwrap();
    assert_ne!(next.sha256, change.sha256);
    assert_eq!(scene.remembered(), 0);
    assert!(scene.judge(&token(&second)).await.is_ok());
    assert_eq!(scene.judge(&token(&first)).await.err(), Some(INVALID));
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_believed_for_a_time() {
    let scene = Scene::with(&issuer("refresh_seconds = 10\nstale_seconds = 60\nmax_age_seconds = 3600"));
    let source = scene.people.sources().remove(0);
    let token = P256.sign(&claims(&json!({ "exp": NOW + 3_000 })));
    assert!(scene.judge(&token).await.is_ok());
    std::fs::write(scene.folder.join("keys.json"), "{").unwrap();
    scene.set_time(NOW + 60);
    assert!(matches!(scene.people.fetch_keys(&source, &scene.clock).await, Err(FetchFault::KeySet(_))));
    assert!(scene.judge(&token).await.is_ok(), "remembered");
    let other = P256.sign(&claims(&json!({ "exp": NOW + 3_000, "jti": "other" })));
    assert!(scene.judge(&other).await.is_ok(), "not remembered");
    scene.set_time(NOW + 61);
    let third = P256.sign(&claims(&json!({ "exp": NOW + 3_000, "jti": "third" })));
    for token in [&token, &other, &third] {
        assert_eq!(scene.judge(token).await.err(), Some(Refusal::Unavailable));
    }
    assert_eq!(source.age_seconds(scene.clock.now()), 61);
    scene.set_keys(&[&P256]);
    scene.people.fetch_keys(&source, &scene.clock).await.unwrap();
    assert!(scene.judge(&third).await.is_ok());
    assert_eq!(source.age_seconds(scene.clock.now()), 0);
}

/// An unknown key id asks for a fetch once, everybody who comes meanwhile waits for the same one, and then not again for
/// a while.
#[tokio::test]
async fn unknown_keys_are_asked_for_once_in_a_while() {
    let scene = Scene::new();
    let source = scene.people.sources().remove(0);
    let signed = |signer: &Signer| signer.sign(&claims(&json!({})));
    let (newer, stranger) = (Signer::new("ES256", "newer"), signed(&Signer::new("ES256", "stranger")));
    let (token, client, certificate) = (signed(&newer), identity(NORTH, &["clinician"]), certificate());
    let ask = || scene.people.authenticate(&token, &client, &certificate, &scene.clock);
    let fetches = AtomicU64::new(0);
    let fetch = async {
        loop {
            source.wanted().await;
            fetches.fetch_add(1, Ordering::Relaxed);
            scene.set_keys(&[&newer]);
            scene.people.fetch_keys(&source, &scene.clock).await.unwrap();
        }
    };
    let together = async { tokio::join!(ask(), ask(), ask()) };
    let (first, second, third) = tokio::select! {
        judged = together => judged,
        () = fetch => unreachable!("it does not end"),
    };
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
    // Within the pause nothing is asked for: a fetch would find the file gone.
    std::fs::remove_file(scene.folder.join("keys.json")).unwrap();
    scene.set_time(NOW + 9);
    assert_eq!(scene.judge(&stranger).await.err(), Some(INVALID));
    assert!(!source.is_failing());
    // While fetches fail it cannot be told whether a key is unknown or new.
    scene.set_time(NOW + 10);
    assert_eq!(scene.judge(&stranger).await.err(), Some(Refusal::Unavailable));
    assert!(source.is_failing());
    scene.set_keys(&[&newer]);
    scene.set_time(NOW + 20);
    assert_eq!(scene.judge(&stranger).await.err(), Some(INVALID));
}

/// One that began before is not what was asked for: it may bring the keys of before.
#[tokio::test]
async fn a_fetch_that_is_under_way_answers_nobody_who_comes_later() {
    let scene = Scene::new();
    let source = scene.people.sources().remove(0);
    let newer = Signer::new("ES256", "newer");
    let (token, client, certificate) =
        (newer.sign(&claims(&json!({}))), identity(NORTH, &["clinician"]), certificate());
    source.begin_attempt();
    let ask = scene.people.authenticate(&token, &client, &certificate, &scene.clock);
    let fetches = async {
        source.wanted().await;
        source.note_attempt(Some(scene.clock.now()));
        // Whoever was let go on has gone on.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        scene.set_keys(&[&newer]);
        scene.people.fetch_keys(&source, &scene.clock).await.unwrap();
    };
    let (judged, ()) = tokio::join!(ask, fetches);
    assert!(judged.is_ok());
}

#[tokio::test]
async fn a_new_table_is_taken_whole_or_not_at_all_and_keeps_keys_that_come_from_the_same_place() {
    let scene = Scene::new();
    let token = P256.sign(&claims(&json!({})));
    assert!(scene.judge(&token).await.is_ok());
    let reload = || known(|known| scene.people.reload(known, scene.clock.now()));
    let write = |text: &str| std::fs::write(scene.folder.join("people.toml"), text).unwrap();
    let before = scene.people.in_force.load().sha256;
    write(&issuer("").replace("clinician", "no-such-role"));
    assert!(matches!(reload(), Err(PeopleError::Role(..))));
    assert_eq!((scene.people.in_force.load().sha256, scene.remembered()), (before, 1));
    write(&issuer("").replace("[\"strongroom\", \"vault\"]", "[\"elsewhere\"]"));
    assert_ne!(reload().unwrap(), Some(before));
    assert_eq!(reload(), Ok(None), "the same file again");
    assert_eq!(scene.remembered(), 0);
    assert_eq!(scene.judge(&token).await.err(), Some(INVALID));
    write("");
    reload().unwrap().unwrap();
    assert_eq!(scene.judge(&token).await.err(), Some(INVALID), "no issuers, nobody");

    // Keys from a URL are kept over a change of the rest, and not where they come from somewhere else.
    let url = |port: u16| {
        issuer("").replace("jwks_file = \"keys.json\"", &format!("jwks_url = \"http://127.0.0.1:{port}/\""))
    };
    write(&url(1));
    reload().unwrap();
    assert_eq!(scene.judge(&token).await.err(), Some(Refusal::Unavailable), "never fetched");
    let source = scene.people.sources().remove(0);
    scene.people.take_keys(&source, key_set(&[&P256]).as_bytes()).unwrap().change.unwrap();
    assert!(scene.judge(&token).await.is_ok());
    write(&url(1).replace("\"vault\"", "\"vault\", \"third\""));
    reload().unwrap();
    assert!(scene.judge(&token).await.is_ok());
    write(&url(2));
    reload().unwrap();
    assert_eq!(scene.judge(&token).await.err(), Some(Refusal::Unavailable));
    // What is fetched for an issuer of the table before changes nothing in this one.
    assert_eq!(scene.people.take_keys(&source, key_set(&[&P256]).as_bytes()).unwrap().change, None);
    assert_eq!(scene.judge(&token).await.err(), Some(Refusal::Unavailable));
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let scene = Scene::new();
    for number in 0..5_000 {
        let token = ED25519.sign(&claims(&json!({ "jti": number })));
        assert!(scene.judge(&token).await.is_ok());
    }
    assert!(scene.remembered() <= super::super::live::REMEMBERED_TOKENS);
}
