//! The interface as an OpenAPI 3.1 document, made from what runs it: the list of operations that the router is made of, the
//! collections of the policy in force, the tables of problems, acts and purposes, and the schema of audit entries.
//!
//! Written as JSON and not through a library's types: those have no `const` and nothing beside a `$ref`, both of which the
//! schema of audit entries uses, and drop what they do not know. `tests/it/openapi.rs` has the document checked by a
//! validator of the specification, and the answers of a running service by the document.

mod collections;
mod entries;
mod erasures;
mod export;
mod fields;
mod glass;
mod holds;
mod keys;
mod operations;
mod parameters;
mod problems;
mod relay;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::App;
use super::caller::Caller;
use super::operation::Operation;
use crate::domain::value::FieldType;
use crate::policy::{Collection, PolicySet};

const ABOUT: &str = "A private data vault. Every request comes over mutual TLS with a listed client certificate, is decided by \
policy field by field, and is on record before it is answered.\n\n\
`maxLength` counts characters and the service bytes of UTF-8, after spaces around a value were cut off and letters composed. \
`x-class`, `x-mask` and `x-type` say what the policy declares of a field. Whoever asks for a path that is not here hears \
`route_unknown`, with another method `method_not_allowed`.";

/// The document for a policy: everything that its operations take and answer.
pub fn document(policy: &PolicySet) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Strongroom",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "Where it was fetched" }],
        "tags": tags(policy),
        // A certificate always; beside it, where policy demands it, the token of the person behind the client.
        "security": [{ "mutualTLS": [] }, { "mutualTLS": [], "person": [] }],
        "paths": paths(policy),
        "components": {
            "securitySchemes": {
                "mutualTLS": { "type": "mutualTLS", "description": "A certificate of the private CA whose URI is listed." },
                "person": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
            "parameters": parameters::components(),
            "headers": parameters::answer_headers(),
            "responses": responses(),
            "schemas": schemas(policy),
        },
    })
}

fn tags(policy: &PolicySet) -> Vec<Value> {
    let collections = policy.collections();
    let each = |collection: &Arc<Collection>| json!({ "name": collection.name().as_str(), "description": collection.about() });
    let service = json!({ "name": "service", "description": "The log, and the service itself" });
    collections.map(each).chain([service]).collect()
}

fn paths(policy: &PolicySet) -> Map<String, Value> {
    let mut paths = Map::new();
    for operation in Operation::ALL {
        let route = operation.route();
        if !route.contains("{collection}") {
            // Where policy names no destination there is none to be found.
            let destination = relay::destination(policy);
            if *operation != Operation::Relay || destination.is_some() {
                let own = destination.filter(|_| *operation == Operation::Relay);
                add(&mut paths, route.to_owned(), *operation, (None, own));
            }
            continue;
        }
        for collection in policy.collections() {
            if has(collection, *operation) {
                let path = route.replace("{collection}", collection.name().as_str());
                add(&mut paths, path, *operation, (Some(collection), None));
            }
        }
    }
    paths
}

/// Files are where the collection has a field for them, and searches where one has an index; elsewhere there is none to be
/// found.
fn has(collection: &Collection, operation: Operation) -> bool {
    match operation {
        Operation::Search => collection.indexed().next().is_some(),
        _ => !operation.route().contains("/files/") || document_fields(collection).next().is_some(),
    }
}

fn add(
    paths: &mut Map<String, Value>,
    path: String,
    operation: Operation,
    (collection, destination): (Option<&Collection>, Option<Value>),
) {
    let mut shared: Vec<Value> = destination.into_iter().collect();
    let id = match operation {
        Operation::ReviewBreakGlass => "BreakGlassId",
        _ if collection.is_some() => "Id",
        _ => "SubjectId",
    };
    let others = [
        ("{upload}", "Upload"),
        ("{entry}", "Entry"),
        ("{hold}", "HoldId"),
        ("{erasure}", "ErasureId"),
        ("{rotation}", "RotationId"),
    ];
    for (segment, name) in [("{id}", id)].into_iter().chain(others) {
        if path.contains(segment) {
            shared.push(parameters::parameter(name));
        }
    }
    if let Some(collection) = collection.filter(|_| path.contains("{field}")) {
        shared.push(parameters::document_field(collection));
    }
    shared.extend(parameters::of_every_operation());
    let item = paths.entry(path).or_insert_with(|| json!({ "parameters": shared }));
    if let Some(item) = item.as_object_mut() {
        let method = operation.method().as_str().to_ascii_lowercase();
        item.insert(method, operations::describe(operation, collection));
    }
}

fn responses() -> Map<String, Value> {
    let mut responses = Map::new();
    for operation in Operation::ALL {
        problems::add_responses(*operation, &mut responses);
    }
    responses
}

fn schemas(policy: &PolicySet) -> Map<String, Value> {
    let mut schemas = operations::schemas();
    if let Value::Object(shared) = parameters::schemas() {
        schemas.extend(shared);
    }
    schemas.insert("Problem".to_owned(), problems::schema());
    schemas.insert("ProblemField".to_owned(), problems::field_schema());
    entries::add_schemas(&mut schemas);
    glass::add_schemas(&mut schemas);
    holds::add_schemas(&mut schemas);
    erasures::add_schemas(&mut schemas);
    keys::add_schemas(&mut schemas);
    export::add_schemas(policy, &mut schemas);
    relay::add_schemas(&mut schemas);
    for collection in policy.collections() {
        collections::add_schemas(collection, &mut schemas);
    }
    schemas
}

/// Names of the fields that hold documents.
fn document_fields(collection: &Collection) -> impl Iterator<Item = &str> {
    let fields = collection.fields().iter();
    fields.filter(|field| field.field_type == FieldType::Document).map(|field| field.name.as_str())
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

fn object(properties: Map<String, Value>, required: &[&str]) -> Value {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("required".to_owned(), json!(required));
    schema.into()
}

/// The document of the policy that was last asked about.
#[derive(Default)]
pub struct OpenApiCache(ArcSwapOption<Served>);

struct Served {
    policy: String,
    body: Bytes,
    etag: HeaderValue,
}

impl OpenApiCache {
    fn of(&self, policy: &PolicySet) -> Arc<Served> {
        if let Some(served) = self.0.load_full().filter(|served| served.policy == policy.hash()) {
            return served;
        }
        let body = Bytes::from(document(policy).to_string());
        let digest = ring::digest::digest(&ring::digest::SHA256, &body);
        let tag = digest.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        let etag =
            HeaderValue::from_str(&format!("\"{tag:032x}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        let served = Arc::new(Served { policy: policy.hash().to_owned(), body, etag });
        self.0.store(Some(Arc::clone(&served)));
        served
    }
}

/// `GET /api/v1/openapi.json`: for every listed client, since it tells of the policy's words and of no record; 304 where the
/// caller has it already.
pub async fn read(State(app): State<Arc<App>>, _: Caller, headers: HeaderMap) -> Response {
    let served = app.openapi.of(&app.service.policy_set());
    let mut known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut response = if known.any(|known| known == served.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = served.body.clone().into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    response.headers_mut().insert(header::ETAG, served.etag.clone());
    // Kept by the client, and asked about each time: the policy may have changed.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}
