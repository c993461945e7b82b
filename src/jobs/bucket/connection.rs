//! Requests to the store: signed with AWS Signature Version 4, over TLS to pinned roots, and with the lock of what they put.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Method};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpService,
};
use object_store::path::Path as Key;

use crate::audit::export::{CHECKPOINT, ExportError};
use crate::config::AuditBucketConfig;
use crate::domain::clock::{Clock, SystemClock};
use crate::tls::outgoing_tls;

/// What full files take the place of is wanted no longer than it takes to notice that they are not there.
const PARTIAL_DAYS: u64 = 30;

/// One store, by its address and our credentials for it.
#[derive(Clone)]
pub(super) struct Connection(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    credential: AwsCredential,
    region: String,
    /// The bucket's address.
    bucket: String,
    retention_days: u64,
}

impl Connection {
    /// Reads files.
    pub fn new(config: &AuditBucketConfig) -> Result<Self, ExportError> {
        let refuse = |why| ExportError::Bucket { what: "use", path: config.name.clone(), why };
        let tls = outgoing_tls(Some(&config.roots_file))
            .map_err(|_| refuse("audit.export.bucket.roots_file holds no roots that can be used"))?
            .with_no_client_auth();
        let timeout = Duration::from_millis(config.timeout_ms);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(timeout)
            .timeout(timeout)
            .build()
            .map_err(|_| refuse("no client could be made for it"))?;
        let read = |path| {
            let text = std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
            text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()))
        };
        let credential = AwsCredential {
            key_id: read(&config.access_key_id_file).ok_or_else(|| {
                refuse("audit.export.bucket.access_key_id_file cannot be read, or holds no id")
            })?,
            secret_key: read(&config.secret_access_key_file).ok_or_else(|| {
                refuse("audit.export.bucket.secret_access_key_file cannot be read, or holds no key")
            })?,
            token: None,
        };
        Ok(Self(Arc::new(Inner {
            http,
            credential,
            region: config.region.clone(),
            bucket: format!("{}/{}", config.endpoint.trim_end_matches('/'), config.name),
            retention_days: config.retention_days,
        })))
    }

    pub fn url(&self, key: &Key) -> String {
        format!("{}/{key}", self.0.bucket)
    }

    /// A request without a body; an answer that is no success has no headers worth a look.
    pub async fn ask(&self, method: Method, url: &str) -> Result<HttpResponse, HttpError> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        self.call(request).await
    }

    /// `x-amz-object-lock-retain-until-date` of what is put there; nothing for `checkpoint`, which is replaced each minute and
    /// kept in `checkpoints`.
    fn locked_until(&self, path: &str) -> Option<String> {
        let name = path.rsplit('/').next()?;
        if name == CHECKPOINT {
            return None;
        }
        let days = if path.contains(".p/") { PARTIAL_DAYS } else { self.0.retention_days };
        let until = (SystemClock.now().as_unix_millis() / 1_000).saturating_add(days.saturating_mul(86_400));
        let until = jiff::Timestamp::from_second(i64::try_from(until).ok()?).ok()?;
        Some(until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

/// Nothing of the credentials.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl HttpConnector for Connection {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connection {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if *request.method() == Method::PUT
            && let Some(until) = self.locked_until(request.uri().path())
        {
            let until = HeaderValue::from_str(&until)
                .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            let headers = request.headers_mut();
            headers.insert("x-amz-object-lock-mode", HeaderValue::from_static("COMPLIANCE"));
            // The body's SHA-256 is sent already; stores with locks ask for its name as well.
            headers.insert("x-amz-sdk-checksum-algorithm", HeaderValue::from_static("SHA256"));
            headers.insert("x-amz-object-lock-retain-until-date", until);
        }
        // A store that demands signed headers demands it of all that begin with x-amz-.
        AwsAuthorizer::new(&self.0.credential, "s3", &self.0.region)
            .try_authorize(&mut request, None)
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        HttpService::call(&self.0.http, request).await
    }
}

/// Why the store did not do it, in words of our own: theirs hold addresses and whole answers.
pub(super) fn why(error: &(dyn Error + 'static)) -> &'static str {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<object_store::Error>() {
            Some(
                object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. },
            ) => {
                return "the store refuses these credentials";
            }
            Some(object_store::Error::NotFound { .. }) => return "there is no such bucket",
            _ => {}
        }
        match error.downcast_ref::<HttpError>().map(HttpError::kind) {
            Some(HttpErrorKind::Connect) => {
                return "the store cannot be reached, or its certificate chains to none of roots_file";
            }
            Some(HttpErrorKind::Timeout) => return "the store does not answer in time",
            _ => {}
        }
        next = error.source();
    }
    "the store refuses it: has the bucket object lock?"
}
