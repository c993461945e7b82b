//! What a known caller sends and is refused for what stands in it: an attempt like any other, so each leaves one entry of the
//! act that it would have been, with the problem's code and nothing of what was sent.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::samples::{NOBODY, document, message, small_patient};
use crate::support::{Client, ServiceOptions, Strongroom, eventually, problem, request_id};

/// Stands in everything that is sent here.
const MARK: &str = "Zq7Mark";
const OCTETS: &str = "application/offset+octet-stream";

struct Scene {
    strongroom: Strongroom,
    portal: Client,
    patient: String,
    document: String,
    /// Of a document of nine bytes.
    upload: String,
}

/// A request and its refusal: the act that is on record, the collection and the record that it names.
struct Case {
    request: RequestBuilder,
    refused: (u16, &'static str),
    act: &'static str,
    object: Value,
}

impl Scene {
    async fn set() -> Self {
        let strongroom = Strongroom::start().await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let patient = portal.create_patient(small_patient()).await;
        let document = portal.create("documents", &document(&patient)).await;
        let document = document["id"].as_str().unwrap().to_owned();
        let upload = portal.start_upload(&format!("/api/v1/documents/{document}/files/content"), 9).await;
        Self { strongroom, portal, patient, document, upload }
    }

    fn request(&self, line: &str, headers: &[(&str, &str)], body: &str) -> RequestBuilder {
        let (method, path) = line.split_once(' ').unwrap();
        let path = path.replace("DOC", &self.document).replace("UPLOAD", &self.upload);
        let path = path.replace("ID", &self.patient);
        let request = self.portal.request(method.parse().unwrap(), &path).body(body.to_owned());
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// Bodies that are no JSON of the documented form, or none at all, to each operation that takes one.
    fn bodies(&self) -> Vec<Case> {
        let patients = json!([{ "collection": "patients" }]);
        let patient = json!([{ "collection": "patients", "record": self.patient }]);
        let messages = json!([{ "collection": "messages" }]);
        let kind = ("content-type", "application/json");
        let tagged = [kind, ("if-match", "\"1\"")];
        let post = "POST /api/v1/patients";
        let batch = "POST /api/v1/patients/batch";
        let many = "POST /api/v1/messages/batch/read";
        let patch = "PATCH /api/v1/patients/ID";
        let search = "POST /api/v1/patients/search";
        let mut cases = Vec::new();
        for (line, headers, act, object) in [
            (post, &[kind][..], "record.create", &patients),
            (batch, &[kind], "record.create", &patients),
            (many, &[kind], "record.read", &messages),
            (search, &[kind], "record.search", &patients),
            (patch, &tagged, "record.update", &patient),
        ] {
            let large = MARK.repeat(1_200_000);
            let other = ("content-type", "text/zq7mark");
            let rest = &headers[1..];
            for (headers, body, refused) in [
                (headers.to_vec(), MARK, (400, "body_not_json")),
                (headers.to_vec(), "{\"Zq7Mark\":1}", (400, "body_shape")),
                (headers.to_vec(), &*large, (413, "body_too_large")),
                ([&[other], rest].concat(), "{}", (415, "media_type_unsupported")),
                ([headers, &[("content-encoding", MARK)]].concat(), "{}", (415, "encoding_unsupported")),
            ] {
                let request = self.request(line, &headers, body);
                cases.push(Case { request, refused, act, object: object.clone() });
            }
            let request = self.request(line, headers, "").body(b"{\"Zq7Mark\xff\":1}".to_vec());
            cases.push(Case { request, refused: (400, "body_not_utf8"), act, object: object.clone() });
        }
        cases
    }

    /// Bodies whose form is right and whose content does not fit.
    fn contents(&self) -> Vec<Case> {
        let patients = json!([{ "collection": "patients" }]);
        let patient = json!([{ "collection": "patients", "record": self.patient }]);
        let messages = json!([{ "collection": "messages" }]);
        let unfit = json!({ "fields": { MARK: MARK, "sex": MARK } });
        let mut letter = message(&self.patient);
        letter.as_object_mut().unwrap().remove("subject");
        let own = json!({ "subject": NOBODY, "fields": small_patient() });
        let batch = |records: Value| json!({ "records": records });
        let twice = json!({ "ids": [MARK, MARK] });
        let no_field = json!({ "ids": [self.patient], "fields": [MARK] });
        let sought = json!({ "where": [{ "field": MARK, "match": "exact", "value": MARK }] });
        let (fields, size, rule) = ((422, "fields_invalid"), (422, "batch_size"), (422, "subject_rule"));
        let create = "record.create";
        let json_kind = ("content-type", "application/json");
        let case = |line: &str, body: &Value, refused, act, object: &Value| Case {
            request: self.request(line, &[json_kind, ("if-match", "\"1\"")], &body.to_string()),
            refused,
            act,
            object: object.clone(),
        };
        vec![
            case("POST /api/v1/patients", &unfit, fields, create, &patients),
            case("POST /api/v1/patients/batch", &batch(json!([unfit])), fields, create, &patients),
            case("PATCH /api/v1/patients/ID", &unfit, fields, "record.update", &patient),
            case("POST /api/v1/patients/batch", &batch(json!([])), size, create, &patients),
            case("POST /api/v1/messages/batch/read", &json!({ "ids": [] }), size, "record.read", &messages),
            case("POST /api/v1/messages/batch/read", &twice, size, "record.read", &messages),
            case(
                "POST /api/v1/patients/search",
                &sought,
                (422, "search_invalid"),
                "record.search",
                &patients,
            ),
            case("POST /api/v1/patients", &own, rule, create, &patients),
            case("POST /api/v1/messages", &letter, rule, create, &messages),
            case("POST /api/v1/messages/batch", &batch(json!([letter])), rule, create, &messages),
            case(
                "POST /api/v1/messages/batch/read",
                &no_field,
                (400, "body_shape"),
                "record.read",
                &messages,
            ),
        ]
    }

    /// Queries and headers, of each operation that has some.
    fn heads(&self) -> Vec<Case> {
        let patients = json!([{ "collection": "patients" }]);
        let patient = json!([{ "collection": "patients", "record": self.patient }]);
        let document = json!([{ "collection": "documents", "record": self.document }]);
        let file = "/api/v1/documents/DOC/files/content";
        let case = |line: &str, headers: &[(&str, &str)], refused, act, object: &Value| Case {
            request: self.request(line, headers, ""),
            refused,
            act,
            object: object.clone(),
        };
        let query = (400, "query_invalid");
        let (tag, no_tag) = ((400, "if_match_invalid"), (428, "if_match_required"));
        let (key, headers) = ((400, "idempotency_key_invalid"), (400, "upload_headers_invalid"));
        let tus = (412, "tus_version");
        let upload = "document.upload";
        let (marked_tag, marked_key) = (("if-match", MARK), ("idempotency-key", "Zq7Mark Zq7Mark"));
        let marked_tus = ("tus-resumable", MARK);
        vec![
            case("GET /api/v1/patients/ID?fields=Zq7Mark", &[], query, "record.read", &patient),
            case("GET /api/v1/%70atients/ID?Zq7Mark=%ff", &[], query, "record.read", &patient),
            case("GET /api/v1/patients/Zq7Mark?view=Zq7Mark", &[], query, "record.read", &patients),
            case("HEAD /api/v1/patients/ID?view=Zq7Mark", &[], query, "record.read", &patient),
            case("GET /api/v1/patients/ID/history?limit=Zq7Mark", &[], query, "record.history", &patient),
            case(&format!("GET {file}?version=Zq7Mark"), &[], query, "document.read", &document),
            case("PATCH /api/v1/patients/ID", &[marked_tag], tag, "record.update", &patient),
            case("PATCH /api/v1/patients/ID", &[], no_tag, "record.update", &patient),
            case("POST /api/v1/patients", &[marked_key], key, "record.create", &patients),
            case("POST /api/v1/patients/batch", &[marked_key], key, "record.create", &patients),
            case(&format!("POST {file}"), &[("upload-length", MARK)], headers, upload, &document),
            case(&format!("POST {file}"), &[marked_tus, ("upload-length", "1")], tus, upload, &document),
            case("HEAD UPLOAD", &[marked_tus], tus, upload, &document),
            case("DELETE UPLOAD", &[marked_tus], tus, upload, &document),
            case("PATCH UPLOAD", &[("upload-offset", MARK)], headers, upload, &document),
        ]
    }

    /// Files that are too large, or are no files.
    fn uploads(&self) -> Vec<Case> {
        let object = json!([{ "collection": "documents", "record": self.document }]);
        let case = |line: &str, headers: &[(&str, &str)], body: &str, refused| Case {
            request: self.request(line, headers, body),
            refused,
            act: "document.upload",
            object: object.clone(),
        };
        let large = (413, "document_too_large");
        let (begin, octets) = ("POST /api/v1/documents/DOC/files/content", ("content-type", OCTETS));
        let zero = ("upload-offset", "0");
        vec![
            case(begin, &[("upload-length", "104857601")], "", large),
            case("PATCH UPLOAD", &[zero, octets], "Zq7MarkZq7Mark", large),
            case(
                "PATCH UPLOAD",
                &[zero, octets, ("content-encoding", "gzip")],
                MARK,
                (415, "encoding_unsupported"),
            ),
            case(
                "PATCH UPLOAD",
                &[zero, ("content-type", "text/zq7mark")],
                MARK,
                (415, "media_type_unsupported"),
            ),
        ]
    }

    /// The refusal, and its one entry; the request's id.
    async fn check(&self, case: Case) {
        let built = case.request.try_clone().unwrap().build().unwrap();
        let what = format!("{} {} {:?}", built.method(), built.url().path(), case.refused);
        let answer = case.request.send().await.unwrap();
        let request = request_id(&answer);
        if *built.method() == Method::HEAD {
            assert_eq!(answer.status(), case.refused.0, "{what}");
        } else {
            assert_eq!(problem(answer).await, (case.refused.0, case.refused.1.to_owned()), "{what}");
        }
        let entry = self.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": case.refused.1 }), "{what}");
        assert_eq!((&entry["act"], &entry["obj"]), (&json!(case.act), &case.object), "{what}");
        assert_eq!((&entry["who"]["uid"], &entry["purpose"]), (&json!("portal"), &json!("TREAT")), "{what}");
        assert!(entry["basis"]["policy"].as_array().is_some_and(|ids| !ids.is_empty()), "{what}: {entry}");
        assert!(entry["req"]["route"].as_str().unwrap().contains("{collection}"), "{what}");
        for absent in ["asked", "n", "seals", "subj"] {
            assert_eq!(entry.get(absent), None, "{what}: {absent}");
        }
    }
}

#[tokio::test]
async fn each_refusal_of_what_was_sent_is_on_record_without_it() {
    let scene = Scene::set().await;
    let mut cases = scene.bodies();
    cases.extend(scene.contents());
    cases.extend(scene.heads());
    cases.extend(scene.uploads());
    for case in cases {
        scene.check(case).await;
    }
    // Whoever reads the log finds them, and nobody finds what was sent.
    let auditor = scene.strongroom.client("audit").await;
    let found: Value = auditor
        .with_purpose("HCOMPL")
        .get("/api/v1/audit/events?act=record.update&status=refused")
        .await
        .json()
        .await
        .unwrap();
    assert!(found["entries"].as_array().unwrap().len() > 5, "{found}");
    let kept = format!("{:?}{}", scene.strongroom.entries().await, scene.strongroom.log().join("\n"));
    assert!(kept.contains("record.create") && !kept.to_ascii_lowercase().contains("zq7mark"));
    // Nothing was changed on the way.
    let (_, etag) = scene.portal.read(&format!("/api/v1/patients/{}", scene.patient)).await;
    assert_eq!(etag, "\"1\"");
}

/// The log's own query is no different.
#[tokio::test]
async fn a_query_of_the_log_that_is_refused_is_on_record() {
    let strongroom = Strongroom::start().await;
    let auditor = strongroom.client("audit").await.with_purpose("HCOMPL");
    let answer = auditor.get("/api/v1/audit/events?act=Zq7Mark").await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (400, "query_invalid".into()));
    let entry = strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], entry.get("obj")), (&json!("audit.read"), None));
    assert_eq!(entry["out"], json!({ "status": "refused", "code": "query_invalid" }));
    let dashboard = strongroom.client("dashboard").await.with_purpose("HOPERAT");
    let answer = dashboard.get("/api/v1/patients?limit=Zq7Mark").await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (400, "query_invalid".into()));
    assert_eq!(strongroom.entry_of(&request).await["act"], "record.list");
}

/// Whoever may not do it at all hears that, whatever else is wrong: a fault in the input opens no way around policy.
#[tokio::test]
async fn policy_is_heard_before_any_fault_of_the_input() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await;
    let patient = portal.with_purpose("TREAT").create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{patient}");
    let wrong = portal.with_purpose("HPAYMT");
    let operator = strongroom.client("operator").await.with_purpose("TREAT");
    for (request, code, act) in [
        (wrong.request(Method::GET, &format!("{path}?fields=Zq7Mark")), "purpose_not_allowed", "record.read"),
        (wrong.request(Method::PATCH, &path), "purpose_not_allowed", "record.update"),
        (
            operator.request(Method::PATCH, &path).header("if-match", MARK),
            "action_not_allowed",
            "record.update",
        ),
        (operator.request(Method::GET, "/api/v1/patients?limit=0"), "action_not_allowed", "record.list"),
        (operator.request(Method::GET, "/api/v1/audit/events?x=y"), "action_not_allowed", "audit.read"),
    ] {
        let answer = request.send().await.unwrap();
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (403, code.to_owned()));
        let entry = strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": code }));
        assert_eq!(entry["act"], act);
    }
}

/// Not even that its input was bad is told to a caller, while that cannot be put on record.
#[tokio::test]
async fn without_the_log_a_fault_is_not_told_either() {
    let settings = vec![("STRONGROOM__AUDIT__COMMIT_TIMEOUT_MS".to_owned(), "300".to_owned())];
    let strongroom = Strongroom::start_with(ServiceOptions { settings, ..Default::default() }).await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let patient = portal.create_patient(small_patient()).await;
    let holder = strongroom.data().await;
    holder.batch_execute("BEGIN; LOCK TABLE audit_entry IN SHARE MODE").await.unwrap();
    let bad = json!({ "fields": { "sex": MARK } });
    let answers = [
        portal.post("/api/v1/patients", &bad).await,
        portal.post("/api/v1/patients/batch", &json!({ "records": [] })).await,
        portal.get(&format!("/api/v1/patients/{patient}?view=Zq7Mark")).await,
        portal.patch(&format!("/api/v1/patients/{patient}"), MARK, &bad).await,
    ];
    for answer in answers {
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(problem(answer).await, (503, "audit_unavailable".into()));
    }
    holder.batch_execute("COMMIT").await.unwrap();
    // What hung is stored first, within its own deadline or not.
    eventually("it is told again", async || {
        let answer = problem(portal.post("/api/v1/patients", &bad).await).await;
        assert!(answer == (422, "fields_invalid".into()) || answer == (503, "audit_unavailable".into()));
        answer.0 == 422
    })
    .await;
}
