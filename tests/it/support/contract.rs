//! The service's OpenAPI document as a yardstick: what an answer may be, by whoever asked.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use strongroom::http::openapi::document;
use strongroom::policy::PolicySet;

/// The document of the policy that ships.
pub static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| document(&PolicySet::load(&super::policy_directory()).unwrap()));

/// The path of the document that a path of a request is one of, and its methods.
pub fn item(path: &str) -> Option<(&'static str, &'static Value)> {
    let asked: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let segments: Vec<&str> = template.split('/').collect();
        let is_same = |(own, asked): (&&str, &&str)| own.starts_with('{') || own == asked;
        segments.len() == asked.len() && segments.iter().zip(&asked).all(is_same)
    };
    let items = DOCUMENT["paths"].as_object().unwrap();
    // A path without variables comes before one with.
    let mut found: Vec<_> = items.iter().filter(|(template, _)| fits(template)).collect();
    found.sort_by_key(|(template, _)| template.matches('{').count());
    found.first().map(|(template, item)| (template.as_str(), *item))
}

/// What stands at a `$ref`, or the value itself.
pub fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(target) => DOCUMENT.pointer(target.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// A refusal is one that the document knows for a method of its path. Paths that are not in it are no operations.
pub fn check_problem(path: &str, status: u16, code: &str) {
    let Some((template, item)) = item(path) else { return };
    // The method is not in the document.
    if code == "method_not_allowed" {
        return;
    }
    let is_known = item.as_object().unwrap().values().any(|operation| {
        let answer = &operation["responses"][status.to_string()];
        !answer.is_null() && codes(resolved(answer)).contains(&code)
    });
    assert!(is_known, "{template} is not documented to answer {status} {code}");
}

/// The codes that a refusal may have.
pub fn codes(answer: &Value) -> Vec<&str> {
    let codes =
        &answer["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"]["enum"];
    codes.as_array().into_iter().flatten().map(|code| code.as_str().unwrap()).collect()
}

/// Whether an answer is what the document says: its status, its headers, its media type and its body; gives the body.
pub async fn check_answer(method: &Method, answer: Response) -> Value {
    let (status, path) = (answer.status(), answer.url().path().to_owned());
    let (template, item) = item(&path).unwrap_or_else(|| panic!("{path} is not documented"));
    let what = format!("{method} {template} {status}");
    let answers = &item[method.as_str().to_ascii_lowercase()]["responses"];
    let documented = answers.get(status.as_str()).unwrap_or_else(|| panic!("{what} is not documented"));
    let documented = resolved(documented);
    check_headers(&what, documented, answer.headers());
    let media_type = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let bytes = answer.bytes().await.unwrap();
    let Some(content) = documented["content"].as_object().filter(|_| method != Method::HEAD) else {
        assert!(bytes.is_empty(), "{what} has a body that is not documented");
        return Value::Null;
    };
    let media_type = media_type.unwrap_or_else(|| panic!("{what} has no media type"));
    let essence = media_type.split(';').next().unwrap();
    let schema = content.get(essence).or(content.get("*/*"));
    let schema = &schema.unwrap_or_else(|| panic!("{what}: {essence} is not documented"))["schema"];
    if !essence.ends_with("json") || content.contains_key("*/*") {
        return Value::Null;
    }
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    check_value(&what, schema, &body);
    body
}

fn check_headers(what: &str, documented: &Value, headers: &HeaderMap) {
    for (name, header) in documented["headers"].as_object().unwrap() {
        let header = DOCUMENT.pointer(header["$ref"].as_str().unwrap().trim_start_matches('#')).unwrap();
        let Some(sent) = headers.get(name) else {
            assert!(header["required"] != true, "{what} lacks {name}");
            continue;
        };
        let text = sent.to_str().unwrap();
        let value = match text.parse::<u64>() {
            Ok(number) if header["schema"]["type"] == "integer" => json!(number),
            _ => json!(text),
        };
        check_value(&format!("{what} {name}"), &header["schema"], &value);
    }
}

/// Whether a value fits a schema of the document.
#[track_caller]
pub fn check_value(what: &str, schema: &Value, value: &Value) {
    let faults = faults(schema, value);
    assert!(faults.is_empty(), "{what}: {}", faults.join("\n"));
}

/// What of a value does not fit a schema of the document.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let validator = validator(schema);
    let fault = |error: jsonschema::ValidationError<'_>| format!("{}: {error}", error.instance_path());
    validator.iter_errors(value).map(fault).collect()
}

/// Made once for each schema.
pub fn validator(schema: &Value) -> Arc<Validator> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap();
    let made = known.entry(schema.to_string()).or_insert_with(|| {
        // References lead from the document's root.
        let whole = json!({ "allOf": [schema], "components": DOCUMENT["components"] });
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
        Arc::new(options.should_validate_formats(true).build(&whole).unwrap())
    });
    Arc::clone(made)
}
