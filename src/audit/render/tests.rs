//! Every example of `audit/examples` in every form, and what each form must have.

use std::path::Path;

use serde_json::{Value, json};

use super::Format;

fn examples() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("audit/examples");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files.map(|path| (name(&path), std::fs::read(&path).unwrap().trim_ascii_end().to_vec())).collect()
}

fn rendered(format: Format, name: &str) -> Value {
    let entry = examples().into_iter().find(|(other, _)| other == name).unwrap().1;
    serde_json::from_str(&format.line("log.test/a", Some(41), &entry).unwrap()).unwrap()
}

#[test]
fn every_entry_is_one_line_with_its_number_in_every_form() {
    let examples = examples();
    assert!(examples.len() >= 10);
    for format in Format::ALL {
        assert_eq!(Format::parse(format.as_str()), Some(format));
        for (name, entry) in &examples {
            let line = format.line("log.test/a", Some(41), entry).unwrap();
            assert!(
                !line.contains('\n') && line.contains("41") && line.contains("log.test/a"),
                "{name}: {line}"
            );
        }
        assert_eq!(format.line("log.test/a", Some(0), b"no json"), None);
        assert_eq!(format.line("log.test/a", Some(0), b"[]"), None);
    }
}

#[test]
fn the_table_has_as_many_cells_as_names_and_no_formulas() {
    let heading = Format::Csv.heading().unwrap();
    let columns = heading.split(',').count();
    for (name, entry) in examples() {
        let row = Format::Csv.line("log.test/a", Some(7), &entry).unwrap();
        assert_eq!(row.split(',').count(), columns, "{name}: {row}");
    }
    let evil = br#"{"act":"=1+1","id":"a,\"b\"","who":{"uid":"-2"}}"#;
    let row = Format::Csv.line("log.test/a", Some(7), evil).unwrap();
    assert!(
        row.starts_with("log.test/a,7,\"a,\"\"b\"\"\",,\"'=1+1\",") && row.contains(",\"'-2\","),
        "{row}"
    );
}

#[test]
fn json_lines_hold_the_entry_itself() {
    for (name, entry) in examples() {
        let line: Value = serde_json::from_str(&Format::Jsonl.line("l", Some(3), &entry).unwrap()).unwrap();
        assert_eq!(line["entry"], serde_json::from_slice::<Value>(&entry).unwrap(), "{name}");
        assert_eq!(line["index"], 3);
    }
}

/// FHIR R4: what is mandatory, and BALP's slices.
#[test]
fn audit_events_have_what_fhir_demands_and_the_slices_of_balp() {
    for (name, entry) in examples() {
        let event: Value =
            serde_json::from_str(&Format::Fhir.line("log.test/a", Some(41), &entry).unwrap()).unwrap();
        assert_eq!(event["resourceType"], "AuditEvent");
        for mandatory in
            ["/type/code", "/recorded", "/source/observer/identifier/value", "/agent/0/who/identifier/value"]
        {
            assert!(
                event.pointer(mandatory).and_then(Value::as_str).is_some_and(|text| !text.is_empty()),
                "{name} {mandatory}"
            );
        }
        let agents = event["agent"].as_array().unwrap();
        let requestors = agents.iter().filter(|agent| agent["requestor"] == true).count();
        assert_eq!(requestors, 1, "{name}");
        let codes: Vec<&Value> = agents.iter().map(|agent| &agent["type"]["coding"][0]["code"]).collect();
        assert!(codes[0] == "110153" && codes[1] == "110152", "{name}: source and destination");
        let text = event.to_string();
        assert!(
            !text.contains(":\"\"") && !text.contains(":[]") && !text.contains(":null"),
            "{name}: {text}"
        );
    }
    let read = rendered(Format::Fhir, "record.read.person");
    assert_eq!(
        read["meta"]["profile"][0],
        "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"
    );
    assert_eq!(
        (&read["action"], &read["outcome"], &read["subtype"][0]["code"]),
        (&"R".into(), &"0".into(), &"read".into())
    );
    assert_eq!(read["agent"][2]["type"]["coding"][0]["code"], "IRCP");
    let department = json!({ "coding": [{ "system": "urn:strongroom:department", "code": "cardiology" }] });
    assert_eq!(read["agent"][2]["role"], json!([{ "text": "clinician" }, department]));
    let patient = &read["entity"][0];
    assert!(patient["what"]["reference"].as_str().unwrap().starts_with("Patient/"));
    assert_eq!((&patient["type"]["code"], &patient["role"]["code"]), (&"1".into(), &"1".into()));
    assert_eq!(read["entity"][2]["type"]["code"], "XrequestId");
    assert_eq!(rendered(Format::Fhir, "record.read.refused")["outcome"], "4");
}

#[test]
fn ocsf_events_have_what_the_class_demands() {
    for (name, entry) in examples() {
        let event: Value =
            serde_json::from_str(&Format::Ocsf.line("log.test/a", Some(41), &entry).unwrap()).unwrap();
        for mandatory in ["activity_id", "category_uid", "class_uid", "severity_id", "time", "type_uid"] {
            assert!(event[mandatory].is_u64() || event[mandatory].is_i64(), "{name} {mandatory}");
        }
        for mandatory in ["actor", "api", "metadata", "src_endpoint"] {
            assert!(event[mandatory].is_object(), "{name} {mandatory}");
        }
        assert_eq!(event["type_uid"], 600_300 + event["activity_id"].as_u64().unwrap());
        assert_eq!(event["metadata"]["sequence"], 41);
        let entry: Value = serde_json::from_slice(&entry).unwrap();
        assert_eq!(event["metadata"]["uid"], entry["id"]);
        assert_eq!(event["time"], 1_767_225_600_123_i64, "{name}");
    }
}

#[test]
fn the_department_of_a_person_is_in_every_form() {
    let user = &rendered(Format::Ocsf, "record.read.person")["actor"]["user"];
    assert_eq!(
        user["org"],
        json!({ "uid": "019b76da-0000-7000-8000-00000000000a", "ou_name": "cardiology" })
    );
    assert_eq!(rendered(Format::Ocsf, "record.read")["actor"]["user"].get("org"), None);
    let entry = examples().into_iter().find(|(name, _)| name == "record.read.person").unwrap().1;
    let heading = Format::Csv.heading().unwrap();
    let place = heading.split(',').position(|name| name == "department").unwrap();
    let row = Format::Csv.line("log.test/a", Some(7), &entry).unwrap();
    assert_eq!(row.split(',').nth(place), Some("cardiology"));
}

#[test]
fn what_has_no_number_yet_says_none() {
    let entry = examples().into_iter().find(|(name, _)| name == "record.read").unwrap().1;
    let line = |format: Format| format.line("log.test/a", None, &entry).unwrap();
    assert!(line(Format::Csv).starts_with("log.test/a,,"));
    let value = |format| serde_json::from_str::<Value>(&line(format)).unwrap();
    assert_eq!(value(Format::Jsonl).get("index"), None);
    assert_eq!(value(Format::Ocsf)["metadata"].get("sequence"), None);
    assert!(!line(Format::Fhir).contains("Security Resource"));
}

#[test]
fn lines_are_documents_of_their_form() {
    let lines = |format: Format| {
        let each = examples().into_iter().zip(0..);
        each.map(|((_, entry), number)| format.line("l", Some(number), &entry).unwrap()).collect::<Vec<_>>()
    };
    let count = examples().len();
    let csv = Format::Csv.document(&lines(Format::Csv));
    assert_eq!(csv.split_terminator("\r\n").count(), count + 1);
    assert_eq!(Format::Jsonl.document(&lines(Format::Jsonl)).lines().count(), count);
    let json = |format: Format| serde_json::from_str::<Value>(&format.document(&lines(format))).unwrap();
    let bundle = json(Format::Fhir);
    assert_eq!((&bundle["resourceType"], &bundle["type"]), (&"Bundle".into(), &"collection".into()));
    assert_eq!(bundle["entry"].as_array().unwrap().len(), count);
    assert_eq!(json(Format::Ocsf).as_array().unwrap().len(), count);
    let empty: Value = serde_json::from_str(&Format::Fhir.document(&[])).unwrap();
    assert_eq!(empty.get("entry"), None);
}

#[test]
fn who_was_sent_something_is_in_every_form() {
    let agents = rendered(Format::Fhir, "record.relay")["agent"].clone();
    let recipient = json!({
        "type": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP", "display": "information recipient" }] },
        "who": { "identifier": { "system": "urn:strongroom:destination", "value": "claims-clearinghouse" } },
        "requestor": false,
    });
    assert_eq!(agents.as_array().unwrap().last(), Some(&recipient));
    let event = rendered(Format::Ocsf, "record.relay");
    assert_eq!(event["unmapped"]["disc"], json!({ "recipient": "claims-clearinghouse" }));
    let entry = examples().into_iter().find(|(name, _)| name == "record.relay").unwrap().1;
    let heading = Format::Csv.heading().unwrap();
    let place = heading.split(',').position(|name| name == "recipient").unwrap();
    let row = Format::Csv.line("log.test/a", Some(7), &entry).unwrap();
    assert_eq!(row.split(',').nth(place), Some("claims-clearinghouse"));
}
