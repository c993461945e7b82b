//! Keys of identity providers: rotated, taken away, not to be had; and a `people.toml` that changes under a running service.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::people::{Scene, claims, issuer};
use crate::support::tokens::{Signer, key_set};
use crate::support::{Provider, Says, eventually, problem, replace_file};

fn token(signer: &Signer) -> String {
    signer.sign(&claims(&json!({})))
}

/// A service whose issuer's keys come from this provider, with these lines besides.
async fn scene_of(provider: &Provider, lines: &str) -> Scene {
    let roots = provider.roots_pem.clone();
    Scene::start(&issuer(&format!("{}\n{lines}", provider.lines())), move |folder| {
        std::fs::write(folder.join("roots.pem"), roots).unwrap();
    })
    .await
}

async fn until(scene: &Scene, token: &str, expected: (u16, &str)) {
    eventually(expected.1, async || {
        let answer = scene.read(token).await;
        answer.status() == expected.0
            && (expected.0 == 200 || problem(answer).await == (expected.0, expected.1.to_owned()))
    })
    .await;
}

async fn loads(scene: &Scene, act: &str) -> Vec<Value> {
    let entries = scene.strongroom.entries_of(act).await;
    entries
        .into_iter()
        .map(|entry| json!([entry["out"], entry["tenant"], entry["basis"]["loaded"].is_string()]))
        .collect()
}

/// A new key is good at once, however seldom the set is looked at; a key that left the set is bad with all that it signed.
#[tokio::test]
async fn a_rotated_key_is_good_at_once_and_the_old_one_is_not() {
    let (first, second) = (Signer::new("ES256", "first"), Signer::new("ES256", "second"));
    let scene = Scene::with_keys(&[&first]).await;
    let (old, new) = (token(&first), token(&second));
    assert_eq!(scene.read(&old).await.status(), 200);
    let file = scene.strongroom.policy_directory.join("keys.json");
    replace_file(&file, &key_set(&[&first, &second]));
    assert_eq!(scene.read(&new).await.status(), 200, "the unknown key had the set looked at");
    assert_eq!(scene.read(&old).await.status(), 200);
    replace_file(&file, &key_set(&[&second]));
    until(&scene, &old, (401, "token_invalid")).await;
    assert_eq!(scene.read(&new).await.status(), 200);
    let load = json!([{ "status": "success" }, "0197a000-0000-7000-8000-00000000c001", true]);
    // Keys are in force before they are on record.
    eventually("both are on record", async || loads(&scene, "jwks.load").await.len() >= 2).await;
    assert_eq!(loads(&scene, "jwks.load").await, [load.clone(), load]);
    // A set that is broken leaves the last one, for its time.
    replace_file(&file, "{");
    eventually("it is in the log", async || {
        scene.strongroom.log().iter().any(|line| line.contains("people.keys_not_fetched"))
    })
    .await;
    assert_eq!(scene.read(&new).await.status(), 200);
}

/// Over TLS: the set is fetched when the service starts, and for an unknown key, but not for every stranger's.
#[tokio::test]
async fn an_unknown_key_has_the_set_fetched_and_strangers_do_not_hammer_the_provider() {
    let (first, second) = (Signer::new("ES256", "first"), Signer::new("RS256", "second"));
    let provider = Provider::start(Says::Keys(key_set(&[&first]))).await;
    let scene = scene_of(&provider, "").await;
    until(&scene, &token(&first), (200, "it is fetched")).await;
    assert_eq!(provider.asked(), 1);
    provider.say(Says::Keys(key_set(&[&second])));
    assert_eq!(scene.read(&token(&second)).await.status(), 200);
    assert_eq!(provider.asked(), 2);
    assert_eq!(problem(scene.read(&token(&first)).await).await, (401, "token_invalid".into()));
    for number in 0..5 {
        let stranger = Signer::new("ES256", &format!("stranger-{number}"));
        assert_eq!(problem(scene.read(&token(&stranger)).await).await, (401, "token_invalid".into()));
    }
    assert_eq!(provider.asked(), 2);
    assert_eq!(loads(&scene, "jwks.load").await.len(), 2);
}

/// While the provider is away its keys are believed for a time, and then nobody's token is; unknown keys cannot be told from
/// new ones.
#[tokio::test]
async fn keys_that_cannot_be_fetched_are_believed_for_a_time_only() {
    let (first, other) = (Signer::new("EdDSA", "first"), Signer::new("EdDSA", "other"));
    let provider = Provider::start(Says::Keys(key_set(&[&first]))).await;
    let scene = scene_of(&provider, "refresh_seconds = 1\nstale_seconds = 8").await;
    let good = token(&first);
    until(&scene, &good, (200, "it is fetched")).await;
    provider.say(Says::Nothing);
    until(&scene, &token(&other), (503, "people_unavailable")).await;
    assert_eq!(scene.read(&good).await.status(), 200);
    until(&scene, &good, (503, "people_unavailable")).await;
    let operator = scene.strongroom.client("operator").await;
    let value = async |name: &str| {
        let metrics = operator.get("/metrics").await.text().await.unwrap();
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    // Told once a second.
    eventually("keys are old", async || value("strongroom_people_keys_age_seconds").await >= 8.0).await;
    assert!(value("strongroom_people_keys_failures_total").await >= 2.0);
    let entries = scene.strongroom.entries_of("access.denied").await;
    assert!(entries.iter().any(|entry| entry["out"]["code"] == "people_unavailable"));
    provider.say(Says::Keys(key_set(&[&first])));
    until(&scene, &good, (200, "it is back")).await;
    scene.strongroom.logs("that keys are back", |line| line.contains("people.keys_back")).await;
    assert_eq!(loads(&scene, "jwks.load").await.len(), 1, "the same keys as before");
}

/// What is no key set from where it was said to be is not taken, and the doctor says why.
#[tokio::test]
async fn keys_are_taken_from_the_provider_itself_or_not_at_all() {
    let signer = Signer::new("ES256", "first");
    let elsewhere = Provider::start(Says::Keys(key_set(&[&signer]))).await;
    let provider = Provider::start(Says::Nothing).await;
    let scene = scene_of(&provider, "refresh_seconds = 1").await;
    let doctor = async || {
        let (code, out, _) = scene.strongroom.command(&["doctor"]).await;
        assert_eq!(code, Some(0), "{out}");
        let about = out.lines().filter(|line| line.contains("staff: ")).collect::<Vec<_>>();
        about.join("\n")
    };
    let location = format!("\r\nlocation: https://localhost:{}/keys", elsewhere.address.port());
    let large = format!("{{\"keys\":[],\"padding\":\"{}\"}}", "x".repeat(256 * 1024));
    for (says, told) in [
        (Says::Nothing, "cannot be reached"),
        (Says::Status("302 Found", location.clone()), "status 302"),
        (Says::Status("307 Temporary Redirect", location), "status 307"),
        (Says::Status("500 Internal Server Error", String::new()), "status 500"),
        (Says::Status("204 No Content", String::new()), "status 204"),
        (Says::Keys(large), "larger"),
        (Says::Keys("<html>".to_owned()), "not a json object"),
    ] {
        provider.say(says);
        let about = doctor().await;
        assert!(about.starts_with("weak") && about.contains(told), "{about}");
        let before = provider.asked();
        eventually("the service has asked again", async || provider.asked() > before + 1).await;
        assert_eq!(
            problem(scene.read(&token(&signer)).await).await,
            (503, "people_unavailable".into()),
            "{told}"
        );
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect was followed");
    // Another CA's provider, at the same address as far as the file says.
    let file = scene.strongroom.policy_directory.join("people.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let port = |provider: &Provider| format!("localhost:{}/", provider.address.port());
    replace_file(&file, &text.replace(&port(&provider), &port(&elsewhere)));
    eventually("it was asked", async || elsewhere.asked() > 1).await;
    assert!(doctor().await.contains("does not chain to roots_file"));
    assert_eq!(problem(scene.read(&token(&signer)).await).await, (503, "people_unavailable".into()));
    // With its own roots it is believed; the file of roots is read at every fetch.
    replace_file(&scene.strongroom.policy_directory.join("roots.pem"), &elsewhere.roots_pem);
    until(&scene, &token(&signer), (200, "the right roots")).await;
    let mut odd = signer.jwk();
    odd["use"] = "enc".into();
    elsewhere.say(Says::Keys(json!({ "keys": [signer.jwk(), odd] }).to_string()));
    let about = doctor().await;
    assert!(about.contains("1 usable keys") && about.contains("key 1 of its set is not used"), "{about}");
    eventually("the ignored key is in the log", async || {
        scene.strongroom.log().iter().any(|line| line.contains("people.key_ignored"))
    })
    .await;
}

/// A table that is not valid changes nothing and is on record once; one that is valid is taken whole.
#[tokio::test]
async fn people_are_taken_up_whole_or_not_at_all_and_on_record() {
    let signer = Signer::new("ES256", "first");
    let scene = Scene::with_keys(&[&signer]).await;
    let file = scene.strongroom.policy_directory.join("people.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let known = token(&signer);
    assert_eq!(scene.read(&known).await.status(), 200);
    let changes = [
        ("\"ES256\"", "\"none\""),
        ("\"ES256\"", "\"HS256\""),
        ("\"visitor\"", "\"no-such-role\""),
        ("\"clinic-north\"", "\"clinic-nowhere\""),
        ("keys.json", "no-such-file.json"),
        ("leeway_seconds = 0", "leeway_seconds = 3600"),
        ("[[issuer]]", "surprise = 1\n[[issuer]]"),
    ];
    for (number, (from, to)) in changes.iter().enumerate() {
        assert!(good.contains(from), "{from}");
        replace_file(&file, &good.replace(from, to));
        eventually(to, async || loads(&scene, "people.load").await.len() > number).await;
        assert_eq!(scene.read(&known).await.status(), 200, "{to}");
    }
    // Other files are looked at as often: by the third change of these, the last refusal has been met again.
    let identities = scene.strongroom.policy_directory.join("identities.toml");
    for round in 1..=3 {
        let text = std::fs::read_to_string(&identities).unwrap();
        replace_file(&identities, &format!("{text}# Reviewed.\n"));
        eventually("a look", async || loads(&scene, "identity.load").await.len() == round).await;
    }
    let refusals = loads(&scene, "people.load").await;
    assert_eq!(refusals.len(), changes.len(), "each is on record once");
    let refusal = json!([{ "status": "failed", "code": "people_invalid" }, null, false]);
    assert!(refusals.iter().all(|load| *load == refusal), "{refusals:?}");

    replace_file(&file, &good.replace("[\"strongroom\"]", "[\"elsewhere\"]"));
    until(&scene, &known, (401, "token_invalid")).await;
    replace_file(&file, "");
    eventually("nobody is believed", async || loads(&scene, "people.load").await.len() == changes.len() + 2)
        .await;
    assert_eq!(problem(scene.read(&known).await).await, (401, "token_invalid".into()));
    replace_file(&file, &good);
    until(&scene, &known, (200, "the first table again")).await;
    let last = loads(&scene, "people.load").await.pop().unwrap();
    assert_eq!(last, json!([{ "status": "success" }, null, true]));
}

/// A role, the people who have it and the client that acts for them may come in one change.
#[tokio::test]
async fn a_table_that_names_a_new_role_waits_for_it() {
    let signer = Signer::new("ES256", "first");
    let scene = Scene::with_keys(&[&signer]).await;
    let folder = scene.strongroom.policy_directory.clone();
    let change = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(from), "{from}");
        replace_file(&folder.join(name), &text.replacen(from, to, 1));
    };
    change("people.toml", "porter = \"visitor\"", "porter = \"guest\"");
    eventually("it is refused", async || loads(&scene, "people.load").await.len() == 1).await;
    change("identities.toml", "acts_for = [\"visitor\"]", "acts_for = [\"guest\"]");
    change("schema.cedarschema", "\"visitor\"", "\"visitor\", \"guest\"");
    let rule = "@id(\"guest-reads-names\")\npermit (\n  principal in Role::\"guest\",\n  action == Action::\"read_plain\",\n  \
         resource == Field::\"patients.family_name\"\n);\n";
    write(&folder.join("guest.cedar"), rule);
    eventually("the new role is in force", async || {
        let answer = scene.read(&token(&signer)).await;
        answer.status() == 200
            && answer.json::<Value>().await.unwrap()["fields"] == json!({ "family_name": "Nováková" })
    })
    .await;
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}
