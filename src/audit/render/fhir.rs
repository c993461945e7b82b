//! FHIR R4 `AuditEvent`, in the slices of IHE Basic Audit Log Patterns (BALP 1.1): client, server and user as agents; patient,
//! data and transaction as entities.

use serde_json::{Value, json};

use super::{Place, objects, text, texts};

const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const EVENT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
const BALP_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
const BALP: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit";

/// What an act is in FHIR: its action, its interaction, and BALP's pattern, if there is one for it.
fn kind(act: &str) -> (&'static str, Option<&'static str>, Option<&'static str>) {
    match act {
        "record.create" => ("C", Some("create"), Some("Create")),
        "record.read" | "document.read" => ("R", Some("read"), Some("Read")),
        "record.update" => ("U", Some("update"), Some("Update")),
        "record.delete" => ("D", Some("delete"), Some("Delete")),
        // BALP's pattern of a query wants the query itself, which the log does not hold.
        "record.list" | "record.search" | "audit.read" => ("E", Some("search-type"), None),
        "record.history" => ("R", Some("history-instance"), None),
        "audit.prune" | "audit.expire" => ("D", None, None),
        _ => ("E", None, None),
    }
}

pub(super) fn resource(place: Place<'_>, entry: &Value) -> Value {
    let act = text(entry, "/act");
    let (action, interaction, pattern) = kind(act);
    let mut subtype = vec![json!({ "system": "urn:strongroom:act", "code": act })];
    if let Some(code) = interaction {
        subtype.insert(0, json!({ "system": INTERACTION, "code": code }));
    }
    let (code, display) = if interaction.is_some() {
        ("rest", "Restful Operation")
    } else {
        ("110100", "Application Activity")
    };
    let system = if interaction.is_some() { EVENT_TYPE } else { DICOM };
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": text(entry, "/id"),
        "type": { "system": system, "code": code, "display": display },
        "subtype": subtype,
        "action": action,
        "recorded": text(entry, "/ts"),
        "outcome": outcome(text(entry, "/out/status")),
        "agent": agents(entry),
        "source": {
            "site": text(entry, "/dst/instance"),
            "observer": named("urn:strongroom:service", text(entry, "/dst/service")),
            "type": [{ "system": SOURCE_TYPE, "code": "4", "display": "Application Server" }],
        },
        "entity": entities(place, entry),
    });
    let mut put = |name: &str, value: Value| {
        if let Some(members) = event.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    let has_record = objects(entry).any(|object| object.get("record").is_some());
    if let Some(pattern) = pattern.filter(|_| has_record) {
        let patient = if text(entry, "/subj").is_empty() { "" } else { "Patient" };
        put("meta", json!({ "profile": [format!("{BALP}.{patient}{pattern}")] }));
    }
    match text(entry, "/out/code") {
        "" => {}
        code => put("outcomeDesc", json!(code)),
    }
    match text(entry, "/purpose") {
        "" => {}
        code => put("purposeOfEvent", json!([{ "coding": [{ "system": REASON, "code": code }] }])),
    }
    event
}

/// AuditEvent.outcome: success, a refusal as a minor, anything else as a serious failure.
fn outcome(status: &str) -> &'static str {
    match status {
        "success" => "0",
        "refused" => "4",
        _ => "8",
    }
}

fn agents(entry: &Value) -> Value {
    let person = text(entry, "/who/on_behalf_of/uid");
    let uid = match text(entry, "/who/uid") {
        "" => text(entry, "/who/kind"),
        uid => uid,
    };
    let mut client = json!({
        "type": coded(DICOM, "110153", "Source Role ID"),
        "who": named("urn:strongroom:client", uid),
        "requestor": person.is_empty(),
        "role": texts(entry, "/who/roles").iter().map(|role| json!({ "text": role })).collect::<Vec<_>>(),
        "policy": texts(entry, "/basis/policy").iter().map(|id| format!("urn:strongroom:policy:{id}")).collect::<Vec<_>>(),
    });
    if let Some(members) = client.as_object_mut() {
        members.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
        match text(entry, "/src/ip") {
            "" => {}
            // network-type: an address.
            ip => drop(members.insert("network".to_owned(), json!({ "address": ip, "type": "2" }))),
        }
    }
    let server = json!({
        "type": coded(DICOM, "110152", "Destination Role ID"),
        "who": named("urn:strongroom:instance", text(entry, "/dst/instance")),
        "requestor": false,
    });
    let mut agents = vec![client, server];
    if !person.is_empty() {
        let roles = texts(entry, "/who/on_behalf_of/roles");
        let mut user = json!({
            "type": coded(PARTICIPATION, "IRCP", "information recipient"),
            "who": named(&format!("urn:strongroom:issuer:{}", text(entry, "/who/on_behalf_of/issuer")), person),
            "requestor": true,
        });
        let mut roles: Vec<Value> = roles.iter().map(|role| json!({ "text": role })).collect();
        match text(entry, "/who/on_behalf_of/department") {
            "" => {}
            // FHIR R4, AuditEvent.agent.role: what the access control goes by, attributes as well as roles.
            code => {
                roles.push(json!({ "coding": [{ "system": "urn:strongroom:department", "code": code }] }));
            }
        }
        if let Some(members) = user.as_object_mut().filter(|_| !roles.is_empty()) {
            members.insert("role".to_owned(), json!(roles));
        }
        agents.push(user);
    }
    match text(entry, "/disc/recipient") {
        "" => {}
        recipient => agents.push(json!({
            "type": coded(PARTICIPATION, "IRCP", "information recipient"),
            "who": named("urn:strongroom:destination", recipient),
            "requestor": false,
        })),
    }
    json!(agents)
}

fn entities(place: Place<'_>, entry: &Value) -> Value {
    let mut entities = Vec::new();
    match text(entry, "/subj") {
        "" => {}
        subject => entities.push(json!({
            "what": { "reference": format!("Patient/{subject}") },
            "type": { "system": ENTITY_TYPE, "code": "1", "display": "Person" },
            "role": { "system": OBJECT_ROLE, "code": "1", "display": "Patient" },
        })),
    }
    entities.extend(objects(entry).filter(|object| object.get("collection").is_some()).map(data));
    entities.extend(objects(entry).filter_map(of_what_is_kept));
    match text(entry, "/req/id") {
        "" => {}
        request => entities.push(json!({
            "what": named("urn:strongroom:request", request),
            "type": { "system": BALP_ENTITY, "code": "XrequestId" },
        })),
    }
    // Where its proof is found.
    entities.extend(place.number.map(|number| {
        json!({
            "what": named(&format!("urn:strongroom:log:{}", place.origin), &number.to_string()),
            "type": { "system": ENTITY_TYPE, "code": "2", "display": "System Object" },
            "role": { "system": OBJECT_ROLE, "code": "13", "display": "Security Resource" },
        })
    }));
    json!(entities)
}

fn data(object: &Value) -> Value {
    let record = match text(object, "/record") {
        "" => "all",
        record => record,
    };
    let mut details: Vec<Value> = ["fields", "masked"]
        .iter()
        .map(|name| (name, texts(object, &format!("/{name}"))))
        .filter(|(_, names)| !names.is_empty())
        .map(|(name, names)| json!({ "type": name, "valueString": names.join(" ") }))
        .collect();
    if let Some(version) = object.get("version").and_then(Value::as_u64) {
        details.push(json!({ "type": "version", "valueString": version.to_string() }));
    }
    let collection = format!("urn:strongroom:collection:{}", text(object, "/collection"));
    let mut data = json!({
        "what": named(&collection, record),
        "type": { "system": ENTITY_TYPE, "code": "2", "display": "System Object" },
        "role": { "system": OBJECT_ROLE, "code": "4", "display": "Domain Resource" },
    });
    if let Some(members) = data.as_object_mut().filter(|_| !details.is_empty()) {
        members.insert("detail".to_owned(), json!(details));
    }
    data
}

/// Months of the log itself, dropped or held; or a hold on what is kept of a person, or its erasure; or a rotation of a key.
fn of_what_is_kept(object: &Value) -> Option<Value> {
    let (system, value) = match (text(object, "/month"), text(object, "/hold")) {
        ("", "") => match text(object, "/erasure") {
            "" => match text(object, "/rotation") {
                "" => return None,
                rotation => ("urn:strongroom:key-rotation", rotation),
            },
            erasure => ("urn:strongroom:erasure", erasure),
        },
        ("", hold) if object.get("reference").is_some() => ("urn:strongroom:hold", hold),
        ("", hold) => ("urn:strongroom:log-hold", hold),
        (month, _) => ("urn:strongroom:log-month", month),
    };
    let details = object.as_object()?.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        json!({ "type": name, "valueString": value })
    });
    Some(json!({
        "what": named(system, value),
        "type": { "system": ENTITY_TYPE, "code": "2", "display": "System Object" },
        "role": { "system": OBJECT_ROLE, "code": "13", "display": "Security Resource" },
        "detail": details.collect::<Vec<_>>(),
    }))
}

fn named(system: &str, value: &str) -> Value {
    json!({ "identifier": { "system": system, "value": value } })
}

fn coded(system: &str, code: &str, display: &str) -> Value {
    json!({ "coding": [{ "system": system, "code": code, "display": display }] })
}
