//! What one client, or one person behind it, never has together: refused when policy or clients are loaded, and asked again
//! of each request.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use strongroom::policy::PolicySet;
use strongroom::service::check_clients;
use strongroom::tls::Identities;

use crate::parts::Folder;
use crate::support::people::{claims, issuer, read};
use crate::support::samples::small_patient;
use crate::support::tokens::{Signer, key_set};
use crate::support::{
    Client, ServiceOptions, Strongroom, copy_folder, eventually, policy_directory, problem, replace_file,
    request_id,
};

const TILL: &str = "spiffe://strongroom.internal/client/clinic-north/till";

const CARDS: &str = "name = \"cards\"\nabout = \"Payment cards\"\nsubject = \"refers\"\nkey_scope = \"record\"\nretired_ids = []\n\n\
    [[field]]\nid = 1\nname = \"number\"\ntype = \"code\"\nclass = \"chd\"\nmask = \"last-four\"\ncard = \"number\"\n\
    about = \"The number\"\n\n[[field]]\nid = 2\nname = \"fingerprint\"\ntype = \"code\"\nclass = \"chd\"\nmask = \"full\"\n\
    card = \"fingerprint\"\nabout = \"The same for the same number\"\n";

/// A cashier sees the end of a card's number, a matcher its fingerprint, and a greeter what people are called.
const RULES: &str = "@id(\"cashier-numbers\") permit (principal in Role::\"cashier\", action == Action::\"read_masked\", \
    resource == Field::\"cards.number\") when { context has purpose };\n\
    @id(\"matcher-fingerprints\") permit (principal in Role::\"matcher\", action == Action::\"read_plain\", \
    resource == Field::\"cards.fingerprint\") when { context has purpose };\n\
    @id(\"greeter-names\") permit (principal in Role::\"greeter\", action == Action::\"read_plain\", \
    resource == Field::\"patients.given_name\") when { context has purpose };\n";

const SAID: &str =
    "@allows(\"cardholder data beside health information\") permit (principal in Role::\"cashier\"";

/// The shipped folder with cards, these roles, and the client `till`.
fn add_cards(folder: &Path, roles: &str) {
    std::fs::write(folder.join("collections/cards.toml"), CARDS).unwrap();
    std::fs::write(folder.join("cards.cedar"), RULES).unwrap();
    let schema = folder.join("schema.cedarschema");
    let text = std::fs::read_to_string(&schema).unwrap();
    let words = "\"portal\", \"cashier\", \"matcher\", \"greeter\", \"shutter\"";
    replace_file(&schema, &text.replacen("\"portal\"", words, 1));
    let identities = folder.join("identities.toml");
    let text = std::fs::read_to_string(&identities).unwrap();
    replace_file(&identities, &(text + &till(roles)));
}

fn till(roles: &str) -> String {
    format!(
        "\n[[client]]\nname = \"till\"\ntenant = \"clinic-north\"\nkind = \"app\"\nsan = \"{TILL}\"\n{roles}\n"
    )
}

/// The shipped policy with cards, changed.
fn policy(cards: &str, more: &str) -> PolicySet {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let folder = Folder::new(&format!("isolation-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    copy_folder(&policy_directory(), folder.path());
    add_cards(folder.path(), "roles = [\"greeter\"]");
    std::fs::write(folder.path().join("cards.cedar"), cards).unwrap();
    std::fs::write(folder.path().join("more.cedar"), more).unwrap();
    PolicySet::load(folder.path()).unwrap()
}

/// What loading says of a client with these roles.
fn judged(policy: &PolicySet, roles: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(policy_directory().join("identities.toml")).unwrap();
    let identities = Identities::parse(&(text + &till(roles))).unwrap();
    check_clients(policy, &identities).map_err(|error| error.to_string())
}

#[test]
fn no_client_comes_to_have_together_what_no_role_has() {
    let policy = policy(RULES, "");
    let refused = |roles: &str, why: &str| {
        let said = judged(&policy, roles).unwrap_err();
        assert!(said.starts_with("client clinic-north/till: ") && said.contains(why), "{said}");
        assert!(said.contains("give them to different clients"), "{said}");
    };
    let classes = "cashier and clinician together read cardholder data and health information";
    refused("roles = [\"cashier\", \"clinician\"]", classes);
    refused("roles = [\"cashier\"]\nacts_for = [\"clinician\"]", classes);
    refused("roles = [\"clinician\"]\nacts_for = [\"cashier\"]", classes);
    // Of two people one after the other, or of one who is both.
    refused(
        "roles = [\"greeter\"]\nacts_for = [\"cashier\", \"clinician\"]",
        "cashier and clinician and greeter",
    );
    refused(
        "roles = [\"cashier\", \"matcher\"]",
        "cashier and matcher together read card numbers and fingerprints",
    );
    refused("roles = [\"matcher\"]\nacts_for = [\"cashier\"]", "card numbers and fingerprints");
    for keeper in ["auditor", "custodian", "operator"] {
        let given = "together keep the service or its log and are given values";
        refused(&format!("roles = [\"{keeper}\", \"portal\"]"), given);
        refused(&format!("roles = [\"{keeper}\"]\nacts_for = [\"admin\"]"), given);
        refused(&format!("roles = [\"therapist\"]\nacts_for = [\"{keeper}\"]"), given);
    }
    for good in [
        "roles = [\"cashier\", \"greeter\"]",
        "roles = [\"matcher\", \"greeter\"]",
        "roles = [\"clinician\", \"portal\"]\nacts_for = [\"billing\"]",
        "roles = [\"auditor\", \"operator\"]",
        "roles = [\"greeter\"]\nacts_for = [\"cashier\"]",
    ] {
        judged(&policy, good).unwrap();
    }
}

/// A number that is shown to nobody but whoever brings a role: it counts where somebody can.
#[test]
fn what_a_role_sees_for_whoever_brings_another_counts_where_somebody_can() {
    let brought = RULES.replacen(
        "when { context has purpose }",
        "when { context has purpose && context has person && context.person in Role::\"shutter\" }",
        1,
    );
    let policy = policy(&brought, "");
    judged(&policy, "roles = [\"cashier\", \"matcher\"]").unwrap();
    judged(&policy, "roles = [\"cashier\", \"matcher\"]\nacts_for = [\"greeter\"]").unwrap();
    for roles in [
        "roles = [\"cashier\", \"matcher\"]\nacts_for = [\"shutter\"]",
        "roles = [\"cashier\"]\nacts_for = [\"matcher\", \"shutter\"]",
        "roles = [\"greeter\"]\nacts_for = [\"cashier\", \"matcher\", \"shutter\"]",
    ] {
        let said = judged(&policy, roles).unwrap_err();
        assert!(said.contains("card numbers and fingerprints"), "{said}");
    }
}

#[test]
fn what_a_role_is_given_in_as_many_words_its_client_may_have() {
    let said = policy(&RULES.replace("permit (principal in Role::\"cashier\"", SAID), "");
    judged(&said, "roles = [\"cashier\", \"clinician\"]").unwrap();
    judged(&said, "roles = [\"cashier\"]\nacts_for = [\"clinician\"]").unwrap();
    // Said of the classes, it is not said of the number and its fingerprint, nor of other roles.
    assert!(judged(&said, "roles = [\"cashier\", \"matcher\"]").is_err());
    assert!(judged(&said, "roles = [\"matcher\", \"clinician\"]").is_err());
    // A guard that takes it away from one of them, whoever has it, leaves nothing to keep apart.
    let guard = "@id(\"greeter-no-cards\") forbid (principal in Role::\"greeter\", action, resource in Class::\"chd\");";
    let (open, guarded) = (policy(RULES, ""), policy(RULES, guard));
    let together = "roles = [\"cashier\", \"clinician\", \"greeter\"]";
    assert!(judged(&open, together).is_err());
    judged(&guarded, together).unwrap();
    // But not where it is of a person's role, and somebody else comes without it.
    assert!(judged(&guarded, "roles = [\"cashier\"]\nacts_for = [\"clinician\", \"greeter\"]").is_err());
}

struct Scene {
    strongroom: Strongroom,
    till: Client,
    patient: String,
}

impl Scene {
    async fn with(roles: &'static str, more: impl FnOnce(&Path) + Send + 'static) -> Self {
        let change = move |folder: &Path| {
            add_cards(folder, roles);
            more(folder);
        };
        let options = ServiceOptions { policy: Some(Box::new(change)), ..Default::default() };
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let patient = format!("/api/v1/patients/{}", portal.create_patient(small_patient()).await);
        let (till, _) = strongroom.client_with("client", TILL).await;
        Self { strongroom, till: till.with_purpose("TREAT"), patient }
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.strongroom.policy_directory.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        replace_file(&path, &text.replace(from, to));
    }

    /// How loads of this act went, oldest first.
    async fn loads(&self, act: &str) -> Vec<String> {
        let entries = self.strongroom.entries_of(act).await;
        entries.iter().map(|entry| entry["out"]["status"].as_str().unwrap().to_owned()).collect()
    }

    async fn sees(&self) -> Vec<String> {
        let answer = self.till.get(&self.patient).await;
        if answer.status() != 200 {
            return Vec::new();
        }
        let body: Value = answer.json().await.unwrap();
        body["fields"].as_object().unwrap().keys().cloned().collect()
    }
}

/// A list of clients that would join them changes nothing, says which client and what to do, and is taken up when the policy
/// has it so in as many words.
#[tokio::test]
async fn clients_that_would_join_them_are_not_taken_up() {
    let scene = Scene::with("roles = [\"cashier\"]", |_| {}).await;
    assert!(scene.sees().await.is_empty());
    scene.edit("identities.toml", "roles = [\"cashier\"]", "roles = [\"cashier\", \"clinician\"]");
    eventually("the refusal is on record", async || scene.loads("identity.load").await == ["failed"]).await;
    let says = |line: &str| {
        line.contains("tls.reload_failed")
            && line.contains("client clinic-north/till: cashier and clinician together read cardholder data")
            && line.contains("different clients")
    };
    scene.strongroom.logs("which client", says).await;
    assert!(scene.sees().await.is_empty(), "the old list is in force");
    let other = scene.strongroom.client("billing").await.with_purpose("HPAYMT");
    assert_eq!(other.get(&scene.patient).await.status(), 200);
    scene.edit("cards.cedar", "permit (principal in Role::\"cashier\"", SAID);
    eventually("both are in force", async || scene.sees().await.contains(&"family_name".to_owned())).await;
    // A list of clients is in force before it is on record.
    let are_loaded = async || scene.loads("identity.load").await == ["failed", "success"];
    eventually("both are on record", are_loaded).await;
    assert_eq!(scene.loads("policy.load").await, ["success"]);
}

/// A policy that would join them for a client in force changes nothing, and is taken up when the client is another.
#[tokio::test]
async fn a_policy_that_would_join_them_for_a_client_is_not_taken_up() {
    let scene = Scene::with("roles = [\"cashier\", \"greeter\"]", |_| {}).await;
    assert_eq!(scene.sees().await, ["given_name"]);
    scene.edit("cards.cedar", "Field::\"patients.given_name\"", "Field::\"patients.notes\"");
    eventually("the refusal is on record", async || scene.loads("policy.load").await == ["failed"]).await;
    let says = |line: &str| {
        line.contains("policy.reload_refused")
            && line.contains("client clinic-north/till: cashier and greeter together read cardholder data")
    };
    scene.strongroom.logs("which client", says).await;
    assert_eq!(scene.sees().await, ["given_name"], "the old policy is in force");
    scene.edit("identities.toml", "roles = [\"cashier\", \"greeter\"]", "roles = [\"greeter\"]");
    eventually("both are in force", async || scene.loads("policy.load").await == ["failed", "success"]).await;
    eventually("the list is on record", async || scene.loads("identity.load").await == ["success"]).await;
}

/// What people bring is known when they come. A role whose guard kept the others apart may be missing then: the request is
/// refused whole, and the log says by which rule.
#[tokio::test]
async fn roles_that_come_together_in_a_token_are_kept_apart() {
    let signer = Signer::new("ES256", "first");
    let keys = key_set(&[&signer]);
    let people = issuer("jwks_file = \"keys.json\"").replace(
        "porter = \"visitor\"",
        "a = \"cashier\"\nb = \"matcher\"\nc = \"greeter\"\nd = \"shutter\"",
    );
    // A cashier who is a matcher besides sees the number; no two roles have both, and with all four cards are shut.
    let rules = "@id(\"cashier-who-matches\") permit (principal in Role::\"cashier\", action == Action::\"read_masked\", \
        resource == Field::\"cards.number\") when { principal in Role::\"matcher\" && context has purpose };\n\
        @id(\"greeter-notes\") permit (principal in Role::\"greeter\", action == Action::\"read_plain\", \
        resource == Field::\"patients.notes\") when { context has purpose };\n\
        @id(\"shutter\") forbid (principal in Role::\"shutter\", action, resource in Class::\"chd\");\n";
    let more = move |folder: &Path| {
        std::fs::write(folder.join("cards.cedar"), rules).unwrap();
        std::fs::write(folder.join("people.toml"), people).unwrap();
        std::fs::write(folder.join("keys.json"), keys).unwrap();
    };
    let scene = Scene::with(
        "roles = [\"shopper\"]\nacts_for = [\"cashier\", \"greeter\", \"matcher\", \"shutter\"]",
        move |folder| {
            let schema = folder.join("schema.cedarschema");
            let text = std::fs::read_to_string(&schema).unwrap();
            replace_file(&schema, &text.replacen("\"cashier\"", "\"cashier\", \"shopper\"", 1));
            more(folder);
        },
    )
    .await;
    let token = |roles: &[&str]| signer.sign(&claims(&json!({ "roles": roles })));
    for good in [&["c"][..], &["b", "c"], &["a", "c"], &["a", "b", "c", "d"]] {
        assert_eq!(read(&scene.till, &scene.patient, &token(good)).await.status(), 200, "{good:?}");
    }
    for path in [scene.patient.as_str(), "/api/v1/cards/x", "/api/v1/break-glass"] {
        let answer = read(&scene.till, path, &token(&["a", "b", "c"])).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (403, "roles_conflict".into()), "{path}");
        let entry = scene.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "roles_conflict" }));
        assert_eq!(entry["basis"]["policy"], json!(["isolation:classes"]));
        assert_eq!(entry["who"]["on_behalf_of"]["uid"], "p-4711");
    }
}
