//! A policy folder is loaded whole or not at all: each change that a reviewer might get wrong is refused with words.

#![cfg(test)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use strongroom::domain::value::FieldType;
use strongroom::policy::PolicySet;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A copy of the shipped folder that a test may spoil.
struct Folder(PathBuf);

impl Folder {
    fn shipped() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("strongroom-policy-{}-{number}", std::process::id()));
        copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policy")), &path);
        Self(path)
    }

    fn edit(self, file: &str, from: &str, to: &str) -> Self {
        let path = self.0.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        self
    }

    fn add(self, file: &str, text: &str) -> Self {
        std::fs::write(self.0.join(file), text).unwrap();
        self
    }

    fn load(&self) -> Result<PolicySet, String> {
        PolicySet::load(&self.0).map_err(|error| error.to_string())
    }

    /// The refusal names `file` and says something like `why`.
    #[track_caller]
    fn refused(&self, file: &str, why: &str) {
        let message = self.load().err().expect("it is refused");
        assert!(message.contains(file) && message.contains(why), "{message}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn with_policy(text: &str) -> Folder {
    Folder::shipped().add("extra.cedar", text)
}

#[test]
fn the_hash_names_the_contents() {
    let first = Folder::shipped().load().unwrap().hash().to_owned();
    assert_eq!(first.len(), 64);
    assert_eq!(Folder::shipped().load().unwrap().hash(), first);
    let edited = Folder::shipped().edit("guards.cedar", "// Marketing", "// marketing");
    assert_ne!(edited.load().unwrap().hash(), first);
    let edited = Folder::shipped().edit("collections/messages.toml", "routine", "normal");
    assert_ne!(edited.load().unwrap().hash(), first);
    // What is not policy does not count.
    assert_eq!(Folder::shipped().add("README.md", "other").load().unwrap().hash(), first);
}

#[test]
fn every_type_is_used() {
    let set = Folder::shipped().load().unwrap();
    for field_type in FieldType::ALL {
        let used = set.collections().any(|c| c.fields().iter().any(|field| field.field_type == field_type));
        assert!(used, "{}", field_type.as_str());
    }
}

#[test]
fn collections_are_strict() {
    let patients = "collections/patients.toml";
    let edit = |from: &str, to: &str| Folder::shipped().edit(patients, from, to);
    edit("class = \"pii\"\n", "").refused(patients, "class");
    edit("class = \"pii\"", "class = \"public\"").refused(patients, "public");
    edit("id = 2\n", "id = 1\n").refused(patients, "id that no field has");
    edit("id = 2\n", "id = 0\n").refused(patients, "choose an id");
    edit("retired_ids = []", "retired_ids = [2]").refused(patients, "id that no field has or had");
    edit("retired_ids = []", "retired_ids = [90, 90]").refused(patients, "once");
    edit("name = \"given_name\"", "name = \"family_name\"").refused(patients, "name that no other");
    edit("name = \"given_name\"", "name = \"GivenName\"").refused(patients, "lower-case");
    edit("type = \"name\"", "type = \"string\"").refused(patients, "types");
    edit("mask = \"initial\"", "mask = \"hidden\"").refused(patients, "masks");
    edit("mask = \"year-only\"", "mask = \"last-four\"").refused(patients, "does not fit");
    edit("required = true", "requird = true").refused(patients, "requird");
    edit("required = true", "max_bytes = 0").refused(patients, "max_bytes");
    edit("required = true", "max_bytes = 257").refused(patients, "max_bytes");
    edit("required = true", "max_items = 3").refused(patients, "max_items");
    edit("required = true", "country = \"+1\"").refused(patients, "phone");
    edit("country = \"+1\"", "country = \"+44\"").refused(patients, "+1");
    edit("required = true", "values = [\"a\"]").refused(patients, "code fields");
    edit("[\"F\", \"M\"", "[\"F\", \"F\"").refused(patients, "distinct");
    edit("[\"F\", \"M\"", "[\"F\", \" M\"").refused(patients, "distinct");
    edit("subject = \"owns\"", "subject = \"has\"").refused(patients, "has");
    edit("key_scope = \"subject\"", "key_scope = \"tenant\"").refused(patients, "tenant");
    edit("key_scope = \"subject\"", "key_scope = \"record\"").refused(patients, "refer to a subject");
    edit("name = \"patients\"", "name = \"people\"").refused(patients, "as the file");
    edit("about = \"People", "about = \"\"\nabout2 = \"People").refused(patients, "about2");
    edit("[[field]]", "[[field").refused(patients, "");
}

/// The shipped folder with an index for a field, and the file that has it.
fn with_index(collection: &str, field: &str, lines: &str) -> (Folder, String) {
    let file = format!("collections/{collection}.toml");
    let folder = Folder::shipped();
    let text = std::fs::read_to_string(folder.0.join(&file)).unwrap();
    let at = text.find(&format!("name = \"{field}\"\n")).unwrap();
    let end = text[at..].find("\n\n").map_or(text.len(), |end| at + end);
    let table = format!("\n\n[field.index]\n{lines}\n");
    std::fs::write(folder.0.join(&file), format!("{}{table}{}", &text[..end], &text[end..])).unwrap();
    (folder, file)
}

fn refused_index(collection: &str, field: &str, lines: &str, why: &str) {
    let (folder, file) = with_index(collection, field, lines);
    folder.refused(&file, why);
}

const EXACT: &str = "match = [\"exact\"]\nrows = 200_000";

/// What an index would tell too much of, or could not compare, is refused with the reason.
#[test]
fn what_cannot_be_looked_for_safely_has_no_index() {
    for (collection, field) in
        [("patients", "sex"), ("patients", "active"), ("encounters", "emergency"), ("encounters", "status")]
    {
        refused_index(collection, field, EXACT, "how often each occurs would tell which it is");
    }
    refused_index("patients", "language", EXACT, "how many different values");
    refused_index("patients", "language", &format!("{EXACT}\nvalues = 255"), "how often each occurs");
    refused_index("patients", "race", &format!("{EXACT}\nvalues = 40"), "how often each occurs");
    for (collection, field) in [
        ("patients", "address"),
        ("patients", "insurance"),
        ("patients", "notes"),
        ("encounters", "weight_kg"),
        ("encounters", "diagnoses"),
        ("documents", "content"),
    ] {
        refused_index(collection, field, EXACT, "no one spelling");
    }
    refused_index("patients", "deceased_at", EXACT, "match = [\"date\"]");
}

/// What an index says of itself must be whole and fit its field.
#[test]
fn an_index_that_does_not_fit_is_refused() {
    refused_index("patients", "drivers_licence", "match = [\"date\"]\nrows = 200_000", "dates and moments");
    refused_index(
        "patients",
        "drivers_licence",
        "match = [\"prefix\"]\nlengths = [3]\nrows = 200_000",
        "for names",
    );
    for lengths in [
        "",
        "lengths = []",
        "lengths = [2]",
        "lengths = [17]",
        "lengths = [3, 3]",
        "lengths = [3, 4, 5, 6, 7]",
    ] {
        let lines = format!("match = [\"prefix\"]\nrows = 200_000\n{lengths}");
        refused_index("patients", "emergency_contact", &lines, "3 to 16 characters");
    }
    let contact = |lines: &str, why: &str| refused_index("patients", "emergency_contact", lines, why);
    contact(&format!("{EXACT}\nlengths = [3]"), "where it has prefix and only there");
    contact("match = []\nrows = 200_000", "one at least");
    contact("match = [\"exact\", \"exact\"]\nrows = 200_000", "at most once");
    contact("match = [\"like\"]\nrows = 200_000", "like");
    contact("match = [\"exact\"]", "unique = true, or in rows");
    contact("match = [\"exact\"]\nrows = 999", "from 1000");
    contact(&format!("{EXACT}\nunique = true"), "unique = true, or in rows");
    contact(&format!("{EXACT}\nvalues = 1_000"), "codes and integers");
    contact(&format!("{EXACT}\nbits = 8"), "bits");
    let (good, _) = with_index("patients", "language", &format!("{EXACT}\nvalues = 256"));
    good.load().unwrap();
}

#[test]
fn paths_of_the_interface_are_no_collections() {
    for name in ["subjects", "relay", "intake", "audit", "keys", "break-glass", "openapi.json"] {
        let folder = Folder::shipped();
        let text = std::fs::read_to_string(folder.0.join("collections/messages.toml")).unwrap();
        let text = text.replacen("\"messages\"", &format!("\"{name}\""), 1);
        let file = format!("collections/{name}.toml");
        folder.add(&file, &text).refused(&file, "path of the interface");
    }
}

#[test]
fn what_a_policy_names_must_exist() {
    let policy = |scope: &str| with_policy(&format!("@id(\"extra\") permit ({scope});"));
    let read = "action == Action::\"read_plain\"";
    policy(&format!("principal in Role::\"portal\", {read}, resource == Field::\"patients.ssn\""))
        .load()
        .unwrap();
    for (scope, named) in [
        (
            format!("principal in Role::\"portal\", {read}, resource == Field::\"patients.snn\""),
            "patients.snn",
        ),
        (format!("principal in Role::\"portal\", {read}, resource in Collection::\"cards\""), "cards"),
        (format!("principal in Role::\"portal\", {read}, resource in Class::\"public\""), "public"),
        (format!("principal in Role::\"nurse\", {read}, resource in Collection::\"patients\""), "nurse"),
        (format!("principal in Department::\"cardiology\", {read}, resource"), "extra"),
        ("principal in Role::\"portal\", action == Action::\"copy\", resource".to_owned(), "copy"),
        (format!("principal == Client::\"portal\", {read}, resource"), "portal"),
        (format!("principal == User::\"portal\", {read}, resource"), "User"),
        // Which record it is nobody asks, not even by the name that all of them have.
        ("principal in Role::\"portal\", action, resource == Record::\"r-1\"".to_owned(), "Record r-1"),
        (
            "principal in Role::\"portal\", action, resource == Record::\"patients\"".to_owned(),
            "Record patients",
        ),
    ] {
        policy(&scope).refused(".cedar", named);
    }
    with_policy(
        "@id(\"extra\") permit (principal in Role::\"portal\", action, resource)
         when { context has purpose && context.purpose == Purpose::\"FUN\" };",
    )
    .refused(".cedar", "FUN");
    with_policy(
        "@id(\"extra\") permit (principal in Role::\"portal\", action, resource)
         when { principal.tenant == Tenant::\"acme\" };",
    )
    .refused("extra.cedar", "Tenant");
    for condition in [
        "context.person == Person::\"p-4711\"",
        "context.person == Person::\"person\"",
        "[Person::\"p-4711\"].contains(context.person)",
        "context.person in Person::\"p-4711\"",
    ] {
        with_policy(&format!(
            "@id(\"extra\") permit (principal in Role::\"portal\", action, resource) \
             when {{ context has person && {condition} }};"
        ))
        .refused("extra.cedar", "Person p");
    }
}

#[test]
fn policies_are_validated_strictly() {
    let scope = "principal in Role::\"portal\", action, resource";
    for (text, why) in [
        (format!("permit ({scope});"), "@id"),
        (format!("@id(\"Extra\") permit ({scope});"), "@id"),
        (format!("@id(\"portal-reads\") permit ({scope});"), "@id of its own"),
        (
            format!("@id(\"extra\") permit ({scope}) when {{ context.purpose == Purpose::\"TREAT\" }};"),
            "purpose",
        ),
        (format!("@id(\"extra\") permit ({scope}) when {{ principal.department == \"x\" }};"), "department"),
        (format!("@id(\"extra\") permit ({scope}) when {{ 1 == \"one\" }};"), ""),
        // A policy that can never hold is a warning to Cedar, an error here.
        (format!("@id(\"extra\") permit ({scope}) when {{ false }};"), "impossible"),
        ("@id(\"extra\") permit (principal == ?principal, action, resource);".to_owned(), "template"),
        ("@id(\"extra\") permit (principal".to_owned(), ""),
    ] {
        with_policy(&text).refused(".cedar", why);
    }
}

/// Whatever the files say, a keeper of the service and whoever reads the log are never given a value.
#[test]
fn no_files_give_a_value_to_an_auditor() {
    for role in ["auditor", "custodian", "operator"] {
        let guard =
            format!("forbid (\n  principal in Role::\"{role}\",\n  action in [\n    Action::\"create\"");
        let edit = |from: &str, to: &str| Folder::shipped().edit("guards.cedar", from, to);
        // Gone, for another role, of fewer actions, under a condition.
        edit(&guard, &guard.replace(&format!("Role::\"{role}\""), "Role::\"admin\"")).refused(".cedar", role);
        edit(&guard, &guard.replace("create", "read_audit")).refused(".cedar", "");
        let text = std::fs::read_to_string(Folder::shipped().0.join("guards.cedar")).unwrap();
        let from = text.find(&guard).unwrap();
        let whole = &text[from..from + text[from..].find(");").unwrap() + 2];
        edit(whole, &whole.replace(");", ")\nunless { context has person };")).refused(".cedar", role);
        edit(whole, &whole.replace("  resource\n", "  resource in Class::\"phi\"\n")).refused(".cedar", "");
    }
    // Somebody else who reads the log would be an auditor without the guard.
    let log = "action == Action::\"read_audit\", resource";
    for (principal, actions) in
        [("principal in Role::\"billing\"", log), ("principal", log), ("principal", "action, resource")]
    {
        with_policy(&format!("@id(\"extra\") permit ({principal}, {actions});"))
            .refused(".cedar", "reads the log");
    }
    with_policy(&format!("@id(\"extra\") permit (principal in Role::\"custodian\", {log});")).load().unwrap();
}

const CARDS: &str = r#"
name = "cards"
about = "Payment cards"
subject = "refers"
key_scope = "record"
retired_ids = []

[[field]]
id = 1
name = "number"
type = "code"
class = "chd"
mask = "last-four"
card = "number"
about = "The number"

[[field]]
id = 2
name = "fingerprint"
type = "code"
class = "chd"
mask = "full"
card = "fingerprint"
about = "The same for the same number"
"#;

/// A folder with cards, and one more policy.
fn with_cards(policy: &str) -> Folder {
    with_policy(policy).add("collections/cards.toml", CARDS)
}

#[test]
fn cardholder_data_and_health_information_are_for_different_roles() {
    let permit = |annotation: &str, role: &str, action: &str, field: &str| {
        let scope = format!(
            "principal in Role::\"{role}\", action == Action::\"{action}\", resource == Field::\"{field}\""
        );
        let when = "when { context has purpose && context.purpose == Purpose::\"HPAYMT\" }";
        format!("@id(\"extra-{}\") {annotation} permit ({scope}) {when};\n", field.replace('.', "-"))
    };
    with_cards("").load().unwrap();
    // Billing reads what was done, a masked number is a number, and it is seen whatever the circumstances are.
    with_cards(&permit("", "billing", "read_masked", "cards.number"))
        .refused(".cedar", "billing reads cardholder data");
    let hidden = permit("", "billing", "read_plain", "cards.number")
        .replace("when {", "when { context has person && context.hour == Hour::\"night\" && ");
    with_cards(&hidden).refused(".cedar", "billing reads cardholder data");
    let said = "@allows(\"cardholder data beside health information\")";
    with_cards(&permit(said, "billing", "read_masked", "cards.number")).load().unwrap();
    with_cards(&permit("@allows(\"both\")", "billing", "read_masked", "cards.number"))
        .refused(".cedar", "billing");
    // Said by one role, it is not said for another.
    let both = permit(said, "billing", "read_plain", "cards.number")
        + &permit("", "portal", "read_plain", "cards.number").replace("extra", "more");
    with_cards(&both).refused(".cedar", "portal reads cardholder data");
    // A role that does nothing else may.
    with_cards(&permit("", "operator", "read_plain", "cards.number")).load().unwrap();
    let writes = permit("", "billing", "create", "cards.number");
    with_cards(&writes).load().unwrap();
}

#[test]
fn a_fingerprint_and_a_part_of_its_number_are_for_different_roles() {
    let permit = |action: &str, field: &str| {
        let scope = format!(
            "principal in Role::\"therapist\", action == Action::\"{action}\", resource == Field::\"{field}\""
        );
        format!(
            "@id(\"extra-{}\") @allows(\"cardholder data beside health information\") permit ({scope});\n",
            field.replace('.', "-")
        )
    };
    with_cards(&permit("read_masked", "cards.number")).load().unwrap();
    let both = permit("read_masked", "cards.number") + &permit("read_plain", "cards.fingerprint");
    with_cards(&both).refused(".cedar", "therapist reads card numbers and fingerprints");
    let only = "card = \"number\"";
    Folder::shipped()
        .edit("collections/patients.toml", "required = true", only)
        .refused("patients", "class chd");
    Folder::shipped()
        .edit("collections/patients.toml", "required = true", "card = \"pin\"")
        .refused("patients", "pin");
}

#[test]
fn bands_and_codes_are_the_files_own() {
    let schema = "schema.cedarschema";
    Folder::shipped().edit(schema, "\"night\"", "\"evening\"").refused(schema, "Hour");
    Folder::shipped().edit(schema, "\"elsewhere\"", "\"outside\"").refused(schema, "Source");
    Folder::shipped().edit("bands.toml", "name = \"day\"", "name = \"days\"").refused(schema, "Hour");
    Folder::shipped().edit("bands.toml", "05:00", "5 am").refused("bands.toml", "hour day");
    let scope = "principal in Role::\"portal\", action, resource";
    let guard = |code: &str| {
        format!(
            "@id(\"extra\") @code(\"{code}\") forbid ({scope}) when {{ context.hour == Hour::\"night\" }};"
        )
    };
    with_policy(&guard("hour_not_allowed")).load().unwrap();
    with_policy(&guard("closed")).refused("extra.cedar", "@code");
    with_policy(&guard("action_not_allowed")).refused("extra.cedar", "@code");
    with_policy(&guard("hour_not_allowed").replace("forbid", "permit")).refused("extra.cedar", "@code");
    with_policy(&guard("hour_not_allowed").replace("night", "noon")).refused(".cedar", "noon");
}

#[test]
fn departments_are_the_schemas() {
    let schema = "schema.cedarschema";
    let rule = |name: &str| {
        format!(
            "@id(\"extra\") permit (principal in Role::\"portal\", action == Action::\"list\", resource) \
             when {{ context has person && context.person has department && \
             context.person.department == Department::\"{name}\" }};"
        )
    };
    let set = with_policy(&rule("cardiology")).load().unwrap();
    assert!(set.has_department("cardiology") && !set.has_department("Cardiology"));
    with_policy(&rule("catering")).refused(".cedar", "catering");
    for asked in ["context has person && ", "context.person has department && "] {
        with_policy(&rule("cardiology").replace(asked, "")).refused(".cedar", "extra");
    }
    with_policy(&rule("cardiology").replace("Department::", "Role::")).refused(".cedar", "cardiology");
    let edit = |from: &str, to: &str| Folder::shipped().edit(schema, from, to);
    edit("  \"cardiology\",\n", "").add("extra.cedar", &rule("cardiology")).refused(".cedar", "cardiology");
    edit("\"cardiology\"", "\"oncology\"").refused(schema, "each once");
    edit("\"cardiology\"", "\"Cardiology\"").refused(schema, "Cardiology");
    edit("entity Department", "entity Ward").refused(schema, "Department");
    let guard = rule("cardiology").replace("permit", "@code(\"department_not_allowed\") forbid");
    with_policy(&guard.replace("when", "unless")).load().unwrap();
}

#[test]
fn the_schema_speaks_the_services_words() {
    let schema = "schema.cedarschema";
    let edit = |from: &str, to: &str| Folder::shipped().edit(schema, from, to);
    edit("  \"HCOMPL\"", "  \"HCOMPLY\"").refused(schema, "Purpose");
    edit("  \"SYSADMIN\",\n", "").refused(schema, "Purpose");
    edit("\"chd\"", "\"pan\"").refused(schema, "Class");
    edit("\"operator\"];", "\"robot\"];").refused(schema, "ClientKind");
    edit("action read_audit", "action read_log").refused(schema, "read_audit");
    edit("entity AuditLog", "entity Log").refused(schema, "AuditLog");
    // What rules are validated by is what they are asked.
    edit("person?: Person", "person: Bool").refused(".cedar", "clinician-lists");
    edit("person?: Person", "person?: Person,\n  ward?: Department").load().unwrap();
    edit("person?: Person", "person?: Person,\n  ward: Department").refused(schema, "requests");
    edit("department?: Department", "ward?: Department").refused(schema, "Person");
    edit("entity Record in [Collection]", "entity Record").refused(".cedar", "integration-deletes");
    edit("resource: Record", "resource: Collection").refused(schema, "requests");
    edit("entity Person in [Role]", "entity Human in [Role]").refused(schema, "Person");
    edit("entity Tenant;", "entity Tenant").refused(schema, "");
}

#[test]
fn an_empty_folder_is_no_policy() {
    let folder = Folder::shipped();
    for entry in std::fs::read_dir(&folder.0).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            std::fs::remove_file(path).unwrap();
        }
    }
    folder.refused("collections", "at least one");
    assert!(PolicySet::load(Path::new("/nonexistent")).is_err());
}
