//! What each use case leaves in the log, member by member, and what is never in it.

use reqwest::Method;
use serde_json::{Value, json};
use strongroom::crypto::digest::{hex, sha256};
use strongroom::domain::class::DataClass;
use strongroom::storage::sealed_columns::decode_seals;

use crate::support::samples::{message, patient, small_patient};
use crate::support::{Client, Strongroom, request_id, site};

const NORTH: &str = "0197a000-0000-7000-8000-00000000c001";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";

/// A portal whose certificate's digest is known.
async fn portal(strongroom: &Strongroom, purpose: &str) -> (Client, Value) {
    let (client, files) = strongroom.client_with("client", PORTAL).await;
    let pem = std::fs::read(&files.certificate).unwrap();
    let leaf =
        <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&pem);
    let certificate = json!({ "cert_sha256": hex(&sha256(&leaf.unwrap())), "san": PORTAL });
    (client.with_purpose(purpose), certificate)
}

/// The entry without what differs in every run, which is checked for its form instead.
fn settled(mut entry: Value) -> Value {
    let members = entry.as_object_mut().unwrap();
    let id = members.remove("id").unwrap();
    let at = members.remove("ts").unwrap();
    let id = uuid::Uuid::parse_str(id.as_str().unwrap()).unwrap();
    let at: jiff::Timestamp = at.as_str().unwrap().parse().unwrap();
    // The id's time is the entry's (RFC 9562 section 5.7).
    assert_eq!((id.get_version_num(), id.as_u128() >> 80), (7, u128::try_from(at.as_millisecond()).unwrap()));
    let place = members.remove("dst").unwrap();
    assert_eq!((&place["service"], &place["instance"]), (&json!("strongroom"), &json!("dev-1")));
    let source = members["src"].as_object_mut().unwrap();
    assert!(source.remove("port").unwrap().as_u64().unwrap() > 1_023);
    if let Some(chain) = members.remove("chain") {
        assert!(chain["src"].is_string());
        assert_eq!(chain["prev"].is_string(), chain["seq"].as_u64().unwrap() > 1, "{chain}");
    }
    entry
}

/// A message that was created, read masked, changed and deleted; the requests by which it was.
struct Life {
    subject: String,
    message: String,
    certificate: Value,
    created: String,
    read: String,
    updated: String,
    deleted: String,
}

impl Life {
    async fn live(strongroom: &Strongroom) -> Self {
        let (portal, certificate) = portal(strongroom, "PATRQT").await;
        let subject = portal.create_patient(small_patient()).await;
        let send = async |request: reqwest::RequestBuilder, status: u16| {
            let answer = request
                .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), status);
            let request = request_id(&answer);
            (request, serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap_or_default())
        };
        let create = portal.request(Method::POST, "/api/v1/messages").json(&message(&subject));
        let (created, body) = send(create, 201).await;
        let id = body["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/messages/{id}");
        let read = portal.request(Method::GET, &format!("{path}?fields=sender,body&view=masked"));
        let (read, _) = send(read, 200).await;
        let change = json!({ "fields": { "read": true, "reply_email": null } });
        let update = portal.request(Method::PATCH, &path).header("if-match", "\"1\"").json(&change);
        let (updated, _) = send(update, 200).await;
        let (deleted, _) = send(portal.request(Method::DELETE, &path), 204).await;
        Self { subject, message: id, certificate, created, read, updated, deleted }
    }

    /// The whole entry of one of these requests, but for what `settled` takes out; `object` and `more` are added.
    fn entry(&self, act: &str, request: &str, policy: &str, object: &Value, more: &Value) -> Value {
        let route = if act == "record.create" { "/api/v1/{collection}" } else { "/api/v1/{collection}/{id}" };
        let mut entry = json!({
            "act": act, "v": 1, "out": { "status": "success" }, "tenant": NORTH, "subj": self.subject,
            "purpose": "PATRQT", "who": { "kind": "app", "roles": ["portal"], "uid": "portal" },
            "client": self.certificate, "src": { "ip": "127.0.0.1" }, "basis": { "policy": [policy] },
            "obj": [{ "collection": "messages", "record": self.message }],
            "req": { "id": request, "route": route, "trace": TRACE }
        });
        let members = |value: &Value| value.as_object().unwrap().clone();
        entry["obj"][0].as_object_mut().unwrap().extend(members(object));
        entry.as_object_mut().unwrap().extend(members(more));
        entry
    }
}

#[tokio::test]
async fn a_life_leaves_these_entries_and_no_others() {
    let strongroom = Strongroom::start().await;
    let life = Life::live(&strongroom).await;
    let seals = seals_of(&strongroom, &life.message).await;
    let classes = ["phi", "pii"];
    let all = message(&life.subject)["fields"].as_object().unwrap().len();

    let mut found = settled(strongroom.entry_of(&life.created).await);
    let fields = found["obj"][0].as_object_mut().unwrap().remove("fields").unwrap();
    assert_eq!(
        (fields.as_array().unwrap().len(), &fields[0], &fields[11]),
        (all, &json!("sent_at"), &json!("attachments"))
    );
    let object = json!({ "class": classes, "version": 1 });
    let more = json!({ "seals": seals[0].0 });
    assert_eq!(found, life.entry("record.create", &life.created, "portal-writes", &object, &more));

    let object = json!({ "class": classes, "masked": ["sender", "body"], "version": 1 });
    let more = json!({ "asked": ["sender", "body"] });
    let found = settled(strongroom.entry_of(&life.read).await);
    assert_eq!(found, life.entry("record.read", &life.read, "portal-reads", &object, &more));

    let object = json!({ "class": classes, "fields": ["reply_email", "read"], "version": 2 });
    let more = json!({ "seals": seals[1].0 });
    let found = settled(strongroom.entry_of(&life.updated).await);
    assert_eq!(found, life.entry("record.update", &life.updated, "portal-writes", &object, &more));

    // A tombstone has no seals, and its digest is that of nothing.
    assert_eq!(seals[2].0, hex(&sha256(b"")));
    let more = json!({ "seals": seals[2].0 });
    let found = settled(strongroom.entry_of(&life.deleted).await);
    assert_eq!(
        found,
        life.entry(
            "record.delete",
            &life.deleted,
            "portal-deletes-what-was-sent",
            &json!({ "version": 3 }),
            &more
        )
    );

    // Every stored version names its entry, and no entry of a write is without a version.
    for (request, (_, named)) in [&life.created, &life.updated, &life.deleted].into_iter().zip(&seals) {
        assert_eq!(strongroom.entry_of(request).await["id"], json!(named));
    }
    let acts: Vec<_> = strongroom.entries().await.iter().map(|entry| entry["act"].clone()).collect();
    let writes = ["record.create", "record.create"];
    assert_eq!(
        acts,
        [&["service.start"], &writes[..], &["record.read", "record.update", "record.delete"]].concat()
    );
}

/// For each version of a record, oldest first: SHA-256 of its stored seal headers by class, and the entry that it names.
async fn seals_of(strongroom: &Strongroom, id: &str) -> Vec<(String, String)> {
    let sql = "SELECT seal_headers, audit_entry_id FROM (
                   SELECT version, seal_headers, audit_entry_id, record_id FROM record UNION ALL
                   SELECT version, seal_headers, audit_entry_id, record_id FROM record_history) AS every
               WHERE record_id = $1 ORDER BY version";
    let rows = strongroom.data().await.query(sql, &[&id]).await.unwrap();
    rows.iter()
        .map(|row| {
            let seals = decode_seals(row.get(0)).unwrap();
            let of = |class| seals.iter().find(|seal| seal.class == class).map(|seal| seal.header);
            let bytes: Vec<u8> = DataClass::ALL.into_iter().filter_map(of).flatten().collect();
            (hex(&sha256(&bytes)), row.get::<_, uuid::Uuid>(1).to_string())
        })
        .collect()
}

#[tokio::test]
async fn no_value_is_in_the_log_however_it_was_sent() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(patient()).await;
    portal.read(&format!("/api/v1/patients/{id}")).await;
    portal.get(&format!("/api/v1/patients/{id}?fields=Nováková")).await;
    portal.get("/api/v1/patients/987-65-4320").await;
    portal.get("/api/v1/penicillin/MRN-0012345678").await;
    let everything = format!("{:?}{}", strongroom.entries().await, strongroom.log().join("\n"));
    assert!(everything.contains("record.read") && site().await.directory.is_dir());
    for value in ["Nováková", "987-65-4320", "MRN-0012345678", "penicillin", "zofie", "Springfield"] {
        assert!(!everything.contains(value), "{value}");
    }
}
