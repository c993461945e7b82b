//! A record of each collection with every field set, each value in its canonical spelling.

use serde_json::{Value, json};

/// An id that nothing has.
pub const NOBODY: &str = "0192f0c1-0000-7000-8000-000000000001";

/// The least that a patient needs.
pub fn small_patient() -> Value {
    json!({ "family_name": "Nováková", "given_name": "Žofie", "birth_date": "1984-02-29", "mrn": "MRN-0012345678" })
}

pub fn patient() -> Value {
    json!({
        "family_name": "Nováková", "given_name": "Žofie 佐藤", "name_prefix": "Dr.", "birth_date": "1984-02-29",
        "sex": "F", "gender": "female", "email": "zofie.novakova@example.org", "phone": "+15550101234",
        "address": { "line": ["1 Main Street", "Apartment \"4\""], "city": "Springfield", "state": "MA",
                     "postal_code": "01101", "country": "US", "district": "Hampden" },
        "ssn": "987-65-4320", "mrn": "MRN-0012345678", "drivers_licence": "S99912345", "language": "cs-CZ",
        "marital_status": "M", "race": "urn:oid:2.16.840.1.113883.6.238|2106-3",
        "ethnicity": "urn:oid:2.16.840.1.113883.6.238|2186-5",
        "insurance": { "payer": "Example Health", "member": "XK-77", "copay": 12.5, "riders": [true, null, "dental"] },
        "emergency_contact": "Karel Novák", "emergency_phone": "+420601123456",
        "deceased_at": "2031-05-06T07:08:09.000010Z", "active": true,
        "notes": "Allergic to penicillin.\n\tAsks for an interpreter: \u{1f9d1}\u{200d}⚕\u{fe0f} \\ \"quoted\""
    })
}

pub fn encounter(subject: &str) -> Value {
    json!({ "subject": subject, "fields": {
        "started_at": "2026-01-02T03:04:05.678900Z", "ended_at": "2026-01-02T04:00:00.000000Z", "status": "finished",
        "kind": "AMB", "type_code": "http://snomed.info/sct|185349003", "reason": "Cough, three weeks",
        "diagnoses": ["Acute bronchitis (disorder)", "Fever"], "procedures": [], "medications": ["Amoxicillin 500 mg"],
        "allergies": ["Latex"], "vitals": { "8302-2": { "unit": "cm", "value": 172.5 }, "8867-4": [71, 70, 1e-7] },
        "weight_kg": "68.40", "note": "Chest clear.\nReview in two weeks.", "clinician_name": "Dr. A. Mensah",
        "facility": "North Clinic", "follow_up_on": "2026-01-16", "emergency": false,
        "visit_number": 9_007_199_254_740_991_i64, "documents": [{ "id": "d-1" }]
    }})
}

pub fn message(subject: &str) -> Value {
    json!({ "subject": subject, "fields": {
        "sent_at": "2026-02-03T04:05:06.000000Z", "sender": "Žofie Nováková", "recipient": "Care team",
        "direction": "to-care-team", "subject_line": "Refill", "body": "May I have a refill?\nThank you.",
        "thread": "thread-1", "priority": -1, "read": false, "reply_email": "zofie@example.org",
        "callback_phone": "+15550109876", "attachments": []
    }})
}

/// What a document is; its file comes by an upload.
pub fn document(subject: &str) -> Value {
    json!({ "subject": subject, "fields": {
        "written_at": "2026-06-01T08:00:00.000000Z", "type_code": "http://loinc.org|18842-5",
        "title": "Discharge letter", "author": "Dr. A. Mensah"
    }})
}

pub fn note(subject: &str) -> Value {
    json!({ "subject": subject, "fields": {
        "written_at": "2026-05-11T16:20:00.000000Z", "author": "Ngozi Adeyemi",
        "note": "Sleeps better since the move; speaks of the brother for the first time.",
        "themes": ["sleep", "family"]
    }})
}

/// A visit without what a clinician does not write.
pub fn visit(subject: &str) -> Value {
    let mut visit = encounter(subject);
    visit["fields"].as_object_mut().unwrap().remove("charge_usd");
    visit
}
