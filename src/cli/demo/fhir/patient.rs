//! A FHIR Patient (US Core) as fields of `patients`.

use serde_json::{Value, json};

use super::{Fields, LeftOut, SampleError, coding, count_left_out, put, text};

const US_CORE: &str = "http://hl7.org/fhir/us/core/StructureDefinition/";

pub(super) fn map(patient: &Value, left_out: &mut LeftOut) -> Result<Fields, SampleError> {
    let mut fields = Fields::new();
    names(patient, &mut fields, left_out)?;
    let birth_date = text(patient, "/birthDate").ok_or(SampleError::Lacks("Patient", "birthDate"))?;
    put(&mut fields, "birth_date", Some(birth_date));
    put(&mut fields, "gender", text(patient, "/gender"));
    put(&mut fields, "active", patient.get("active").and_then(Value::as_bool));
    put(&mut fields, "deceased_at", text(patient, "/deceasedDateTime"));
    put(&mut fields, "marital_status", text(patient, "/maritalStatus/coding/0/code"));
    put(&mut fields, "language", text(patient, "/communication/0/language/coding/0/code"));
    put(&mut fields, "address", array(patient, "address").next().map(address));
    identifiers(patient, &mut fields, left_out)?;
    telecom(patient, &mut fields, left_out);
    extensions(patient, &mut fields);
    Ok(fields)
}

fn names(patient: &Value, fields: &mut Fields, left_out: &mut LeftOut) -> Result<(), SampleError> {
    let official = array(patient, "name").find(|name| text(name, "/use") == Some("official"));
    let name = official.ok_or(SampleError::Lacks("Patient", "official name"))?;
    let joined = |member| {
        let parts: Vec<&str> = array(name, member).filter_map(Value::as_str).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    };
    put(fields, "family_name", text(name, "/family"));
    put(fields, "given_name", joined("given"));
    put(fields, "name_prefix", joined("prefix"));
    count_left_out(left_out, "earlier names (no field for them)", array(patient, "name").count() - 1);
    Ok(())
}

fn identifiers(patient: &Value, fields: &mut Fields, left_out: &mut LeftOut) -> Result<(), SampleError> {
    for identifier in array(patient, "identifier") {
        // HL7 v2 table 0203.
        let field = match text(identifier, "/type/coding/0/code") {
            Some("MR") => "mrn",
            Some("SS") => "ssn",
            Some("DL") => "drivers_licence",
            Some("PPN") => {
                count_left_out(left_out, "passport numbers (no field for them)", 1);
                continue;
            }
            _ => continue,
        };
        put(fields, field, text(identifier, "/value"));
    }
    fields.contains_key("mrn").then_some(()).ok_or(SampleError::Lacks("Patient", "medical record number"))
}

fn telecom(patient: &Value, fields: &mut Fields, left_out: &mut LeftOut) {
    for contact in array(patient, "telecom") {
        let Some(value) = text(contact, "/value") else { continue };
        match text(contact, "/system") {
            Some("phone") => put(fields, "phone", Some(value)),
            // The service would refuse it, and the whole record with it.
            Some("email") if value.contains(char::is_whitespace) => {
                count_left_out(left_out, "e-mail addresses with a space in them", 1);
            }
            Some("email") => put(fields, "email", Some(value)),
            _ => {}
        }
    }
}

fn address(address: &Value) -> Value {
    let mut mapped = json!({});
    for (from, to) in [
        ("line", "line"),
        ("city", "city"),
        ("district", "district"),
        ("state", "state"),
        ("postalCode", "postal_code"),
        ("country", "country"),
    ] {
        if let (Some(value), Some(members)) = (address.get(from), mapped.as_object_mut()) {
            members.insert(to.to_owned(), value.clone());
        }
    }
    mapped
}

fn extensions(patient: &Value, fields: &mut Fields) {
    for extension in array(patient, "extension") {
        let Some(name) = text(extension, "/url").and_then(|url| url.strip_prefix(US_CORE)) else { continue };
        let category = || {
            array(extension, "extension")
                .find(|part| text(part, "/url") == Some("ombCategory"))
                .and_then(|part| coding(part.get("valueCoding")?))
        };
        match name {
            "us-core-birthsex" => put(fields, "sex", text(extension, "/valueCode")),
            "us-core-race" => put(fields, "race", category()),
            "us-core-ethnicity" => put(fields, "ethnicity", category()),
            _ => {}
        }
    }
}

fn array<'v>(value: &'v Value, member: &str) -> impl Iterator<Item = &'v Value> {
    value.get(member).and_then(Value::as_array).into_iter().flatten()
}
