use super::super::collection_file::read_collection;
use super::*;

const FILE: &str = r#"
[claims]
url = "https://claims.example/v1"
method = "POST"
timeout_ms = 10000
forward_headers = ["idempotency-key", "x-request-id"]
answer = ["/status", "/coverage/plan"]

[claims.credential]
header = "authorization"
prefix = "Bearer "
path = "claims/north"
key = "token"

[[claims.field]]
pointer = "/subscriber/ssn"
collection = "patients"
field = "ssn"

[[claims.field]]
pointer = "/visit/number"
collection = "encounters"
field = "visit_number"

[[claims.field]]
pointer = "/again/ssn"
collection = "patients"
field = "ssn"
"#;

fn collections() -> BTreeMap<String, Arc<Collection>> {
    let files = [
        ("patients", include_str!("../../policy/collections/patients.toml")),
        ("encounters", include_str!("../../policy/collections/encounters.toml")),
        ("documents", include_str!("../../policy/collections/documents.toml")),
    ];
    let read = |(name, text): (&str, &str)| (name.to_owned(), Arc::new(read_collection(name, text).unwrap()));
    files.into_iter().map(read).collect()
}

fn read(text: &str) -> Result<BTreeMap<String, Arc<Destination>>, String> {
    read_destinations(text, &collections())
}

/// The refusal of the file with this in place of that.
#[track_caller]
fn refused(from: &str, to: &str, why: &str) {
    assert!(FILE.contains(from), "{from}");
    let message = read(&FILE.replacen(from, to, 1)).err().expect("it is refused");
    assert!(message.contains(why), "{message}");
}

#[test]
fn a_destination_is_as_its_file_says() {
    let all = read(FILE).unwrap();
    let claims = &all["claims"];
    assert_eq!((claims.name().as_str(), claims.url().as_str()), ("claims", "https://claims.example/v1"));
    assert_eq!((claims.method(), claims.timeout()), (&Method::POST, Duration::from_secs(10)));
    let forwarded: Vec<&str> = claims.forward_headers().iter().map(HeaderName::as_str).collect();
    assert_eq!(forwarded, ["idempotency-key", "x-request-id"]);
    let answer: Vec<&str> = claims.answer().iter().map(Pointer::as_str).collect();
    assert_eq!(answer, ["/status", "/coverage/plan"]);
    let credential = claims.credential().unwrap();
    assert_eq!((credential.header.as_str(), credential.prefix.as_str()), ("authorization", "Bearer "));
    assert_eq!((credential.place.path(), credential.place.key()), ("claims/north", "token"));
    let pointers: Vec<&str> = claims.fields().iter().map(|field| field.pointer.as_str()).collect();
    assert_eq!(pointers, ["/subscriber/ssn", "/visit/number", "/again/ssn"]);
    let names: Vec<&str> = claims.collections().map(|collection| collection.name().as_str()).collect();
    assert_eq!(names, ["encounters", "patients"]);
    assert_eq!(claims.distinct_fields().count(), 2);
    let patients = &collections()["patients"];
    let field = |name: &str| patients.field(name).unwrap().id;
    assert!(claims.takes(patients.name(), field("ssn")) && !claims.takes(patients.name(), field("mrn")));
    assert!(!claims.takes(collections()["documents"].name(), field("ssn")));
    // A second one, and none at all.
    let two = format!("{FILE}{}", FILE.replace("claims", "labs"));
    assert_eq!(read(&two).unwrap().len(), 2);
    assert!(read("").unwrap().is_empty());
    let without = FILE.replacen("forward_headers = [\"idempotency-key\", \"x-request-id\"]\n", "", 1);
    assert!(read(&without).unwrap()["claims"].forward_headers().is_empty());
}

#[test]
fn names_places_and_times_are_strict() {
    let all = FILE.replace("claims", "Claims");
    assert!(read(&all).err().unwrap().contains("lower-case letters, digits and hyphens"));
    for (from, to) in [("10000", "99"), ("10000", "25001"), ("10000", "0")] {
        refused(from, to, "timeout_ms from 100 to 25000");
    }
    refused("\"POST\"", "\"GET\"", "GET");
    refused("method = \"POST\"\n", "", "method");
    refused("timeout_ms", "timeout_s", "timeout_s");
    for url in [
        "http://claims.example/v1",
        "https://user@claims.example/v1",
        "https://user:word@claims.example/v1",
        "ftp://claims.example/v1",
    ] {
        refused("https://claims.example/v1", url, "use https");
    }
    for url in ["https://claims.example/v1?a=b", "https://claims.example/v1#a", "https://claims.example/v1?"]
    {
        refused("https://claims.example/v1", url, "leave out query and fragment");
    }
    refused("https://claims.example/v1", "claims.example/v1", "url:");
    refused(
        "https://claims.example/v1",
        &format!("https://claims.example/{}", "v".repeat(600)),
        "at most 512",
    );
}

#[test]
fn a_header_says_one_thing() {
    for name in [
        "authorization",
        "cookie",
        "host",
        "content-type",
        "connection",
        "x-purpose-of-use",
        "Idempotency-Key",
    ] {
        refused("\"x-request-id\"", &format!("\"{name}\""), "only these go on");
    }
    refused("\"x-request-id\"", "\"idempotency-key\"", "each once");
    for name in ["host", "content-length", "connection", "idempotency-key", "Authorization", "two words", ""]
    {
        refused("header = \"authorization\"", &format!("header = \"{name}\""), "choose a header");
    }
    refused("\"Bearer \"", "\"Bearer\\n\"", "visible ASCII");
    refused("\"Bearer \"", &format!("\"{}\"", "b".repeat(65)), "at most 64");
    for path in ["", "/claims", "claims/", "claims//north", "../claims", "claims?version=1"] {
        refused("\"claims/north\"", &format!("\"{path}\""), "write path and key");
    }
    refused("key = \"token\"", "key = \"a/b\"", "write path and key");
    refused("key = \"token\"", "keys = \"token\"", "keys");
}

#[test]
fn what_is_sent_and_what_comes_back_have_places_of_their_own() {
    refused("\"/subscriber/ssn\"", "\"/again/ssn\"", "is at or in the place of");
    refused("\"/subscriber/ssn\"", "\"/again\"", "is at or in the place of");
    refused("\"/subscriber/ssn\"", "\"/again/ssn/digits\"", "is at or in the place of");
    refused("\"/subscriber/ssn\"", "\"subscriber\"", "no JSON pointer");
    refused("\"/subscriber/ssn\"", "\"\"", "no JSON pointer");
    refused("\"/coverage/plan\"", "\"/status\"", "is at or in the place of");
    refused("\"/coverage/plan\"", "\"/status/code\"", "is at or in the place of");
    refused("\"/coverage/plan\"", "\"/a~2b\"", "no JSON pointer");
    let many: Vec<String> = (0..65).map(|place| format!("\"/{place}\"")).collect();
    refused("\"/status\", \"/coverage/plan\"", &many.join(", "), "at most 64");
    // The beginning of a name is no place.
    assert!(read(&FILE.replacen("\"/coverage/plan\"", "\"/status2\"", 1)).is_ok());
    assert!(
        read(&FILE.replacen("\"/status\", \"/coverage/plan\"", "", 1)).unwrap()["claims"].answer().is_empty()
    );
}

#[test]
fn a_field_is_there_and_is_one_value() {
    refused("field = \"ssn\"", "field = \"number\"", "there is no patients.number");
    refused("collection = \"patients\"", "collection = \"people\"", "there is no people.ssn");
    refused("collection = \"patients\"", "table = \"patients\"", "table");
    for (from, collection, field) in [
        ("field = \"ssn\"", "patients", "address"),
        ("field = \"ssn\"", "patients", "insurance"),
        ("field = \"visit_number\"", "encounters", "diagnoses"),
    ] {
        let why = format!("{collection}.{field} is no text, number or boolean");
        refused(from, &format!("field = \"{field}\""), &why);
    }
    let document =
        FILE.replacen("\"encounters\"\nfield = \"visit_number\"", "\"documents\"\nfield = \"content\"", 1);
    assert!(read(&document).err().unwrap().contains("documents.content is no text"));
    let head = FILE.split("[[").next().unwrap();
    let none = head.replacen("answer", "field = []\nanswer", 1);
    assert!(read(&none).err().unwrap().contains("name one at least"));
}
