//! An application as it would be: reqwest over mutual TLS.

use std::net::SocketAddr;
use std::path::Path;

use reqwest::{Method, RequestBuilder, Response, Version};
use serde_json::{Value, json};
use strongroom::devstack::ClientFiles;

/// A client with its own connection pool.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    purpose: Option<String>,
}

impl Client {
    /// Speaks HTTP/2, as the server prefers.
    pub fn new(address: SocketAddr, roots: &Path, files: Option<&ClientFiles>) -> Self {
        Self::speaking(Version::HTTP_2, address, roots, files)
    }

    pub fn speaking(
        version: Version,
        address: SocketAddr,
        roots: &Path,
        files: Option<&ClientFiles>,
    ) -> Self {
        super::install_provider();
        let root = reqwest::Certificate::from_pem(&std::fs::read(roots).unwrap()).unwrap();
        let mut builder = reqwest::Client::builder().tls_certs_only([root]).no_proxy().https_only(true);
        if version == Version::HTTP_11 {
            builder = builder.http1_only();
        }
        if let Some(files) = files {
            let mut pem = std::fs::read(&files.certificate).unwrap();
            pem.extend(std::fs::read(&files.private_key).unwrap());
            builder = builder.identity(reqwest::Identity::from_pem(&pem).unwrap());
        }
        let http = builder.build().unwrap();
        Self { http, base: format!("https://localhost:{}", address.port()), purpose: None }
    }

    /// The same client, stating a purpose of use on every request.
    #[must_use]
    pub fn with_purpose(&self, code: &str) -> Self {
        Self { purpose: Some(code.to_owned()), ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.purpose {
            Some(code) => request.header("x-purpose-of-use", code),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// `None` when there was no answer at all.
    pub async fn try_get(&self, path: &str) -> Option<Response> {
        self.request(Method::GET, path).send().await.ok()
    }

    /// Creates a record, expects 201 and gives the answer's body.
    pub async fn create(&self, collection: &str, body: &Value) -> Value {
        let answer = self.post(&format!("/api/v1/{collection}"), body).await;
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// Creates a patient and gives its id.
    pub async fn create_patient(&self, fields: Value) -> String {
        let created = self.create("patients", &json!({ "fields": fields })).await;
        created["id"].as_str().unwrap().to_owned()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    pub async fn patch(&self, path: &str, etag: &str, body: &Value) -> Response {
        self.request(Method::PATCH, path).header("if-match", etag).json(body).send().await.unwrap()
    }

    /// A record's fields as this client sees them, with the ETag.
    pub async fn read(&self, path: &str) -> (Value, String) {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        (answer.json().await.unwrap(), etag)
    }

    /// Brings a whole document in one request; where the upload is, and the record's new `ETag`.
    pub async fn upload(&self, path: &str, bytes: &[u8]) -> (String, String) {
        let upload = self.start_upload(path, bytes.len()).await;
        let answer = self.append(&upload, 0, bytes.to_vec()).await;
        assert_eq!(answer.status(), 204);
        (upload, answer.headers()["etag"].to_str().unwrap().to_owned())
    }

    pub async fn start_upload(&self, path: &str, bytes: usize) -> String {
        let request = self.request(Method::POST, path).header("upload-length", bytes);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    pub async fn append(&self, upload: &str, offset: usize, body: impl Into<reqwest::Body>) -> Response {
        self.request(Method::PATCH, upload)
            .header("upload-offset", offset)
            .header("content-type", "application/offset+octet-stream")
            .body(body)
            .send()
            .await
            .unwrap()
    }

    /// What the metrics say of a gauge without labels.
    pub async fn gauge(&self, name: &str) -> Option<u64> {
        let text = self.get("/metrics").await.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|number| number.parse().unwrap())
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).send().await.unwrap()
    }
}

/// A problem document: checks its form, and that the OpenAPI document knows it where it came from; gives status and code.
pub async fn problem(answer: Response) -> (u16, String) {
    let (status, path) = (answer.status().as_u16(), answer.url().path().to_owned());
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["status"], status);
    assert!(body["title"].is_string() && body["detail"].is_string());
    let code = body["code"].as_str().unwrap().to_owned();
    super::contract::check_problem(&path, status, &code);
    (status, code)
}

/// The id under which the audit log knows the request.
pub fn request_id(answer: &Response) -> String {
    answer.headers()["x-request-id"].to_str().unwrap().to_owned()
}
