//! `people.toml`: what is refused in it.

use std::path::Path;

use super::super::file::parse;
use super::*;

fn read(text: &str) -> Result<usize, PeopleError> {
    known(|known| parse(text, Path::new("/etc/strongroom/policy"), known)).map(|issuers| issuers.len())
}

#[test]
fn the_file_in_the_repository_is_valid_and_its_example_as_well() {
    let shipped = include_str!("../../../policy/people.toml");
    assert_eq!(read(shipped), Ok(0));
    // What is commented out is what an operator begins with.
    let is_setting = |line: &str| line.starts_with('[') || line.contains(" = ");
    let example: String = shipped
        .lines()
        .filter_map(|line| line.strip_prefix("# ").map(str::trim_start).filter(|line| is_setting(line)))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(read(&example), Ok(1), "{example}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let good =
        issuer("leeway_seconds = 30\nmax_age_seconds = 3600\nrefresh_seconds = 300\nstale_seconds = 3600");
    assert_eq!(read(&good), Ok(1));
    assert_eq!(read(""), Ok(0));
    let other = good.replace("\"staff\"", "\"others\"");
    let own = other.replace("https://login.test/staff", "https://login.test/others");
    assert_eq!(read(&format!("{good}\n{own}")), Ok(2));
    for twice in [&good, &other, &own.replace("\"others\"", "\"staff\"")] {
        assert!(matches!(read(&format!("{good}\n{twice}")), Err(PeopleError::Issuer(..))));
    }
    for (from, to) in [
        ("name = \"staff\"", "name = \"Staff\""),
        ("name = \"staff\"", "name = \"\""),
        ("\"clinic-north\"", "\"clinic-nowhere\""),
        ("\"https://login.test/staff\"", "\"\""),
        ("[\"strongroom\", \"vault\"]", "[]"),
        ("[\"strongroom\", \"vault\"]", "[\"\"]"),
        ("[\"RS256\", \"ES256\", \"EdDSA\"]", "[]"),
        ("[\"RS256\", \"ES256\", \"EdDSA\"]", "[\"ES256\", \"ES256\"]"),
        ("leeway_seconds = 30", "leeway_seconds = 121"),
        ("max_age_seconds = 3600", "max_age_seconds = 59"),
        ("max_age_seconds = 3600", "max_age_seconds = 86401"),
        ("refresh_seconds = 300", "refresh_seconds = 0"),
        ("stale_seconds = 3600", "stale_seconds = 299"),
        ("stale_seconds = 3600", "stale_seconds = 86401"),
        ("roles_claim = \"roles\"", "roles_claim = \"\""),
        ("department_claim = \"department\"", "department_claim = \"/\""),
        ("department_claim = \"department\"\n", ""),
        ("[issuer.departments]\n\"Heart (2 West)\" = \"cardiology\"\nED = \"emergency\"\n", ""),
        ("ED = \"emergency\"", "\"\" = \"emergency\""),
        ("leeway_seconds = 30", "second_factor = []"),
        ("doctor = \"clinician\"\nnurse = \"clinician\"\npatient = \"patient\"\n", ""),
        ("jwks_file = \"keys.json\"\n", ""),
        ("jwks_file = \"keys.json\"", "jwks_file = \"\""),
        ("jwks_file = \"keys.json\"", "jwks_file = \"keys.json\"\nroots_file = \"roots.pem\""),
        ("jwks_file = \"keys.json\"", "jwks_file = \"keys.json\"\njwks_url = \"http://127.0.0.1/\""),
    ] {
        assert!(good.contains(from), "{from}");
        let error = read(&good.replace(from, to)).unwrap_err();
        assert!(matches!(error, PeopleError::Issuer(..)), "{to}: {error}");
    }
    assert_eq!(
        read(&good.replace("patient = \"patient\"", "patient = \"owner\"")),
        Err(PeopleError::Role("staff".into(), "owner".into()))
    );
    assert_eq!(
        read(&good.replace("ED = \"emergency\"", "ED = \"Emergency\"")),
        Err(PeopleError::Department("staff".into(), "Emergency".into()))
    );
}

#[test]
fn what_cannot_be_spelled_is_refused() {
    let good = issuer("leeway_seconds = 30");
    assert_eq!(read(&good), Ok(1));
    for (from, to) in [
        ("\"ES256\"", "\"none\""),
        ("\"ES256\"", "\"HS256\""),
        ("\"ES256\"", "\"ES384\""),
        ("leeway_seconds = 30", "leeway_seconds = -1"),
        ("leeway_seconds = 30", "binding = \"maybe\""),
        ("leeway_seconds = 30", "surprise = 1"),
        ("audience = [\"strongroom\", \"vault\"]\n", ""),
        ("[issuer.roles]", "[issuer.rolls]"),
        ("ED = \"emergency\"", "ED = \"emergency\"\nED = \"cardiology\""),
        ("ED = \"emergency\"", "ED = [\"emergency\"]"),
    ] {
        let error = read(&good.replace(from, to)).unwrap_err();
        assert!(matches!(error, PeopleError::Syntax(_)), "{to}: {error}");
    }
}

#[test]
fn keys_come_from_a_file_or_over_tls_or_from_this_host() {
    let with = |lines: &str| read(&issuer("").replace("jwks_file = \"keys.json\"", lines));
    for good in [
        "jwks_url = \"https://login.clinic.internal/keys\"\nroots_file = \"login-roots.pem\"",
        "jwks_url = \"http://127.0.0.1:8080/keys\"",
        "jwks_url = \"http://[::1]:8080/keys\"",
    ] {
        assert_eq!(with(good), Ok(1), "{good}");
    }
    for bad in [
        "jwks_url = \"https://login.clinic.internal/keys\"",
        "jwks_url = \"https://login.clinic.internal/keys\"\nroots_file = \"\"",
        "jwks_url = \"http://login.clinic.internal/keys\"",
        "jwks_url = \"http://10.0.0.1/keys\"",
        "jwks_url = \"http://localhost/keys\"",
        "jwks_url = \"http://127.0.0.1.example/keys\"",
        "jwks_url = \"http://127.0.0.1/keys\"\nroots_file = \"roots.pem\"",
        "jwks_url = \"https://user:word@login.internal/\"\nroots_file = \"roots.pem\"",
        "jwks_url = \"file:///etc/keys.json\"",
        "jwks_url = \"nonsense\"",
    ] {
        assert!(matches!(with(bad), Err(PeopleError::Issuer(..))), "{bad}");
    }
}

#[test]
fn a_file_that_is_named_must_be_there_and_be_what_it_is_said_to_be() {
    let folder = folder();
    let now = Timestamp::from_micros(NOW * 1_000_000);
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    assert!(matches!(open(&folder, now), Err(PeopleError::Read(_))));
    write("people.toml", &issuer(""));
    assert!(matches!(open(&folder, now), Err(PeopleError::Keys(..))), "no key file");
    write("keys.json", "{");
    assert!(matches!(open(&folder, now), Err(PeopleError::Keys(..))), "no key set");
    write("keys.json", &" ".repeat(256 * 1024 + 1));
    assert!(matches!(open(&folder, now), Err(PeopleError::Keys(..))), "too large");
    write("keys.json", "{\"keys\":[]}");
    assert!(open(&folder, now).is_ok());
    let url = "jwks_url = \"https://login.internal/\"\nroots_file = \"roots.pem\"";
    write("people.toml", &issuer("").replace("jwks_file = \"keys.json\"", url));
    assert!(matches!(open(&folder, now), Err(PeopleError::Keys(..))), "no roots");
    write("roots.pem", "no certificate");
    assert!(matches!(open(&folder, now), Err(PeopleError::Keys(..))), "no certificate in it");
    std::fs::remove_dir_all(folder).unwrap();
}
