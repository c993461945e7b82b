//! Files of records: uploads that can be resumed, as tus 1.0.0 describes them (core protocol, creation, termination;
//! <https://tus.io/protocols/resumable-upload>), and downloads as streams.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Encoding};
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::App;
use super::body::check_headers;
use super::caller::Caller;
use super::door::PROGRESS_BYTES;
use super::operation::Operation;
use super::place::Place;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use super::records::{etag, parse_version};
use crate::domain::action::Action;
use crate::domain::id::FileId;
use crate::domain::value::DocumentLabel;
use crate::service::{Append, DocumentField, DocumentStream, UploadState};

static TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
static TUS_VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
static UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
static UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
static UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// How long one request may bring bytes; what is stored by then stays, and the client goes on from there.
const LONGEST: Duration = Duration::from_mins(10);

type FieldPath = Result<Path<(String, String, String)>, PathRejection>;
type UploadPath = Result<Path<(String, String, String, String)>, PathRejection>;

/// `?version=3`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileQuery {
    version: Option<String>,
}

/// `GET /api/v1/{collection}/{id}/files/{field}`: the file, of the current version or the one that is named.
pub async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: FieldPath,
    query: Result<Query<FileQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (collection, id, field) = path.map(|Path(names)| names).unwrap_or_default();
    let place = Place::find(&app, caller, Operation::ReadFile, Ok((collection, id))).await?;
    let bad_query = || Problem::of(ProblemKind::FileQueryInvalid);
    let Query(query) = query.map_err(|_| bad_query())?;
    let version =
        query.version.as_deref().map(|text| parse_version(text).ok_or_else(bad_query)).transpose()?;
    let record = place.record(&app, Action::Read).await?;
    let named = DocumentField { collection: &place.collection, record, field: &field };
    let answer = app.service.read_document(&place.context, named, version).await?;
    let media_type = HeaderValue::from_str(&answer.media_type);
    let mut response = Body::from_stream(chunks(answer.stream)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        media_type.unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(answer.bytes));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ETAG, etag(answer.version));
    // What a file says of itself is for people to save, not for a browser to run.
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn chunks(
    stream: DocumentStream,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, crate::service::Error>> {
    futures_util::stream::unfold(stream, async |mut stream| {
        let chunk = stream.next().await?;
        Some((chunk, stream))
    })
}

/// `POST /api/v1/{collection}/{id}/files/{field}` with `Upload-Length`, and what the file is in `Upload-Metadata`: 201 and
/// where to send it.
pub async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: FieldPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (collection, id, field) = path.map(|Path(names)| names).unwrap_or_default();
    let place = Place::find(&app, caller, Operation::StartUpload, Ok((collection, id))).await?;
    check_tus(&headers)?;
    let bytes = number(&headers, &UPLOAD_LENGTH).filter(|bytes| *bytes > 0).ok_or_else(bad_headers)?;
    let label = label(bytes, &headers)?;
    let record = place.record(&app, Action::Update).await?;
    let at = format!("/api/v1/{}/{}/files/{field}", place.collection.name().as_str(), record.as_str());
    let named = DocumentField { collection: &place.collection, record, field: &field };
    let file = app.service.start_upload(&place.context, named, label, app.document_bytes).await?;
    let mut response = tus(StatusCode::CREATED);
    if let Ok(location) = HeaderValue::from_str(&format!("{at}/{file}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `HEAD …/files/{field}/{upload}`: how far the upload has come.
pub async fn state(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: UploadPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let upload = Upload::find(&app, caller, Operation::UploadState, path, &headers).await?;
    let state = app.service.upload_state(&upload.place.context, upload.named(), upload.file).await?;
    let mut response = tus_state(StatusCode::OK, state);
    response.headers_mut().insert(&UPLOAD_LENGTH, HeaderValue::from(state.bytes));
    Ok(response)
}

/// `PATCH …/files/{field}/{upload}` with `Upload-Offset`: 204 and how far the upload has come; with the last byte, the
/// record has a new version, whose `ETag` this is.
pub async fn append(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: UploadPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let upload = Upload::find(&app, caller, Operation::AppendUpload, path, &headers).await?;
    let offset = number(&headers, &UPLOAD_OFFSET).ok_or_else(bad_headers)?;
    check_headers(&headers, &["application/offset+octet-stream"])?;
    let context = &upload.place.context;
    let mut append = app.service.append_upload(context, upload.named(), upload.file, offset).await?;
    let whole = tokio::time::timeout(LONGEST, take(&mut append, body, app.stall_timeout)).await;
    let is_clean = whole.unwrap_or(Ok(false))?;
    // It goes into the record whole or not at all, whatever becomes of this connection.
    let state = append.finish(is_clean).await?;
    Ok(tus_state(StatusCode::NO_CONTENT, state))
}

/// Takes a body in, at the client's pace but by [`PROGRESS_BYTES`] in each `stall` at least; whether it came to its end.
async fn take(append: &mut Append<'_>, mut body: Body, stall: Duration) -> Result<bool, Problem> {
    loop {
        let deadline = Instant::now() + stall;
        let mut bytes = 0;
        while bytes < PROGRESS_BYTES {
            match timeout_at(deadline, body.frame()).await {
                Ok(None) => return Ok(true),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        append.write(&data).await?;
                        bytes += data.len();
                    }
                }
                Ok(Some(Err(_))) | Err(_) => return Ok(false),
            }
        }
    }
}

/// `DELETE …/files/{field}/{upload}`: ends an upload that is under way.
pub async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: UploadPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let upload = Upload::find(&app, caller, Operation::CancelUpload, path, &headers).await?;
    app.service.cancel_upload(&upload.place.context, upload.named(), upload.file).await?;
    Ok(tus(StatusCode::NO_CONTENT))
}

/// The upload that a path names.
struct Upload {
    place: Place,
    record: crate::domain::id::RecordId,
    field: String,
    file: FileId,
}

impl Upload {
    async fn find(
        app: &App,
        caller: Caller,
        operation: Operation,
        path: UploadPath,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let (collection, id, field, upload) = path.map(|Path(names)| names).unwrap_or_default();
        let place = Place::find(app, caller, operation, Ok((collection, id))).await?;
        check_tus(headers)?;
        let record = place.record(app, Action::Update).await?;
        let Some(file) = FileId::parse(&upload) else {
            let named = DocumentField { collection: &place.collection, record, field: &field };
            return Err(app.service.impossible_upload(&place.context, named).await.into());
        };
        Ok(Self { place, record, field, file })
    }

    fn named(&self) -> DocumentField<'_> {
        DocumentField { collection: &self.place.collection, record: self.record.clone(), field: &self.field }
    }
}

/// Another version of the protocol is refused; none at all is taken as this one.
fn check_tus(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get_all(&TUS_RESUMABLE).iter().all(|version| version == TUS_VERSION) {
        Ok(())
    } else {
        Err(Problem::of(ProblemKind::TusVersion))
    }
}

const fn bad_headers() -> Problem {
    Problem::of(ProblemKind::UploadHeadersInvalid)
}

/// A decimal number in its one spelling, in a header that comes once.
fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = only(headers, name)?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

/// What `Upload-Metadata` says: pairs of a key and a value in base64, by commas. `filetype` and `filename` are taken, and
/// anything else is refused rather than dropped.
fn label(bytes: u64, headers: &HeaderMap) -> Result<DocumentLabel, Problem> {
    let (mut media_type, mut name) = (None, None);
    if headers.contains_key(&UPLOAD_METADATA) {
        for pair in only(headers, &UPLOAD_METADATA).ok_or_else(bad_headers)?.split(',') {
            let (key, value) = pair.trim().split_once(' ').ok_or_else(bad_headers)?;
            let slot = match key {
                "filetype" => &mut media_type,
                "filename" => &mut name,
                _ => return Err(bad_headers()),
            };
            let decoded = Base64::decode_vec(value.trim()).map(Zeroizing::new).map_err(|_| bad_headers())?;
            if slot.replace(decoded).is_some() {
                return Err(bad_headers());
            }
        }
    }
    let text = |bytes: &Option<Zeroizing<Vec<u8>>>| match bytes {
        None => Ok(None),
        Some(bytes) => std::str::from_utf8(bytes).map(|text| Some(Zeroizing::new(text.to_owned()))),
    };
    let media_type = text(&media_type).map_err(|_| bad_headers())?;
    let name = text(&name).map_err(|_| bad_headers())?;
    let media_type = media_type.as_ref().map_or("application/octet-stream", |text| text.as_str());
    DocumentLabel::new(bytes, media_type, name.as_ref().map(|text| text.as_str())).map_err(|_| bad_headers())
}

fn tus(status: StatusCode) -> Response {
    let mut response = status.into_response();
    response.headers_mut().insert(&TUS_RESUMABLE, TUS_VERSION.clone());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn tus_state(status: StatusCode, state: UploadState) -> Response {
    let mut response = tus(status);
    response.headers_mut().insert(&UPLOAD_OFFSET, HeaderValue::from(state.received));
    if let Some(version) = state.completed {
        response.headers_mut().insert(header::ETAG, etag(version));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn metadata_is_what_tus_clients_send() {
        let read = |text: &str| {
            label(7, &headers(&[(&UPLOAD_METADATA, text)]))
                .map(|label| String::from_utf8(label.to_canonical().to_vec()).unwrap())
                .map_err(|problem| problem.code())
        };
        let pdf = "filetype YXBwbGljYXRpb24vcGRm";
        assert_eq!(read(pdf).unwrap(), r#"{"bytes":7,"media_type":"application/pdf"}"#);
        let named = format!("filename QmVmdW5kLnBkZg==,{pdf}");
        assert_eq!(
            read(&named).unwrap(),
            r#"{"bytes":7,"media_type":"application/pdf","name":"Befund.pdf"}"#
        );
        for bad in ["", "filetype", "filetype %%%", "other YQ==", "filetype YQ==", "filename /w=="] {
            assert_eq!(read(bad), Err("upload_headers_invalid"), "{bad}");
        }
        assert_eq!(read(&format!("{pdf},{pdf}")), Err("upload_headers_invalid"));
        let none = label(7, &HeaderMap::new()).unwrap();
        assert_eq!(none.media_type(), "application/octet-stream");
    }

    #[test]
    fn numbers_have_one_spelling() {
        let read = |text: &str| number(&headers(&[(&UPLOAD_OFFSET, text)]), &UPLOAD_OFFSET);
        assert_eq!((read("0"), read("65536")), (Some(0), Some(65_536)));
        for bad in ["", "00", "07", "-1", "+1", "1.0", "18446744073709551616", " 1 2"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let mut twice = headers(&[(&UPLOAD_OFFSET, "1")]);
        twice.append(&UPLOAD_OFFSET, HeaderValue::from_static("1"));
        assert_eq!(number(&twice, &UPLOAD_OFFSET), None);
    }

    #[test]
    fn only_this_version_of_tus() {
        let check = |text: &str| check_tus(&headers(&[(&TUS_RESUMABLE, text)])).is_ok();
        assert!(check("1.0.0") && !check("0.2.2") && check_tus(&HeaderMap::new()).is_ok());
    }
}
