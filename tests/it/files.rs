//! Documents: files come in pieces, are sealed in parts, and go out as they came; nobody meets a part of one.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::samples::{document, small_patient};
use crate::support::{Client, ServiceOptions, Strongroom, eventually, problem, request_id};

const CHUNK: usize = 65_536;

/// Bytes in which every chunk differs from every other.
fn file(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from((at / 251 + at / CHUNK * 7 + at % 251) % 256).unwrap()).collect()
}

struct Scene {
    strongroom: Strongroom,
    portal: Client,
    subject: String,
    id: String,
    record: String,
    files: String,
}

impl Scene {
    async fn set() -> Self {
        Self::set_with(ServiceOptions::default()).await
    }

    async fn set_with(options: ServiceOptions) -> Self {
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let subject = portal.create_patient(small_patient()).await;
        let created = portal.create("documents", &document(&subject)).await;
        let id = created["id"].as_str().unwrap().to_owned();
        let record = format!("/api/v1/documents/{id}");
        Self { strongroom, portal, subject, id, files: format!("{record}/files/content"), record }
    }

    async fn offset(&self, upload: &str) -> (StatusCode, Option<usize>) {
        let answer = self.portal.request(Method::HEAD, upload).send().await.unwrap();
        let offset = answer.headers().get("upload-offset");
        (answer.status(), offset.map(|offset| offset.to_str().unwrap().parse().unwrap()))
    }

    async fn download(&self) -> Vec<u8> {
        let answer = self.portal.get(&self.files).await;
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap().to_vec()
    }

    async fn sql(&self, sql: &str) {
        self.strongroom.data().await.batch_execute(sql).await.unwrap();
    }

    async fn parts(&self) -> i64 {
        let row =
            self.strongroom.data().await.query_one("SELECT count(*) FROM file_part", &[]).await.unwrap();
        row.get(0)
    }
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_sent_whatever_its_size() {
    let scene = Scene::set().await;
    for (version, bytes) in (2..).zip([1, 15, CHUNK - 1, CHUNK, CHUNK + 1, 9 * CHUNK, 20 * CHUNK + 77]) {
        let sent = file(bytes);
        let (upload, etag) = scene.portal.upload(&scene.files, &sent).await;
        assert_eq!(etag, format!("\"{version}\""));
        assert_eq!(scene.offset(&upload).await, (StatusCode::OK, Some(bytes)), "a complete upload says so");
        assert!(scene.download().await == sent, "{bytes} bytes");
        let (record, _) = scene.portal.read(&scene.record).await;
        assert_eq!(
            record["fields"]["content"],
            json!({ "bytes": bytes, "media_type": "application/octet-stream" })
        );
        assert_eq!(record["fields"]["title"], "Discharge letter", "the other fields stay");
    }
    // Older versions keep their files.
    let old = scene.portal.get(&format!("{}?version=3", scene.files)).await;
    assert_eq!(old.headers()["etag"], "\"3\"");
    assert!(old.bytes().await.unwrap() == file(15));
    assert_eq!(
        problem(scene.portal.get(&format!("{}?version=1", scene.files)).await).await.1,
        "document_not_found"
    );
}

#[tokio::test]
async fn an_upload_is_resumed_where_it_broke_off() {
    let scene = Scene::set().await;
    let sent = file(30 * CHUNK + 5);
    let upload = scene.portal.start_upload(&scene.files, sent.len()).await;
    assert_eq!(scene.offset(&upload).await, (StatusCode::OK, Some(0)));

    // A request that ends between two chunks keeps the whole ones; the next goes on from there.
    let answer = scene.portal.append(&upload, 0, sent[..2 * CHUNK + 100].to_vec()).await;
    assert_eq!(
        (answer.status(), &answer.headers()["upload-offset"]),
        (StatusCode::NO_CONTENT, &"131072".parse().unwrap())
    );
    // Less than a chunk cannot be kept.
    let little = scene.portal.append(&upload, 2 * CHUNK, sent[2 * CHUNK..2 * CHUNK + 100].to_vec()).await;
    assert_eq!(problem(little).await, (422, "upload_too_little".into()));
    // From somewhere else it does not go on.
    for wrong in [0, 2 * CHUNK + 100, sent.len()] {
        let answer = scene.portal.append(&upload, wrong, sent[2 * CHUNK..].to_vec()).await;
        assert_eq!(problem(answer).await, (409, "upload_offset".into()));
    }

    // The line breaks in the middle of a request, when half a megabyte of it has come twice over: that is stored as it
    // comes, and nobody sees any of it yet.
    let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
    let pieces: Vec<Result<Frame<Bytes>, std::io::Error>> = sent[2 * CHUNK..20 * CHUNK]
        .chunks(10_000)
        .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let end = futures_util::stream::once(async {
        let _ = is_cut.await;
        Err(std::io::Error::other("cut"))
    });
    let body = StreamBody::new(futures_util::stream::iter(pieces).chain(Box::pin(end)));
    let broken = scene
        .portal
        .request(Method::PATCH, &upload)
        .header("upload-offset", 2 * CHUNK)
        .header("content-type", "application/offset+octet-stream")
        .body(reqwest::Body::wrap(body))
        .send();
    let broken = tokio::spawn(broken);
    eventually("what came is stored", async || scene.offset(&upload).await.1 == Some(18 * CHUNK)).await;
    cut.send(()).unwrap();
    assert!(broken.await.unwrap().is_err());
    let (record, etag) = scene.portal.read(&scene.record).await;
    assert_eq!((record["fields"].get("content"), etag.as_str()), (None, "\"1\""));
    assert_eq!(problem(scene.portal.get(&scene.files).await).await, (404, "document_not_found".into()));

    // Another field changes meanwhile, and the upload survives it.
    let change = json!({ "fields": { "title": "Letter" } });
    assert_eq!(scene.portal.patch(&scene.record, "\"1\"", &change).await.status(), 200);
    let mut at = 0;
    eventually("the broken request is over", async || {
        at = scene.offset(&upload).await.1.unwrap();
        scene.portal.append(&upload, at, sent[at..].to_vec()).await.status() == StatusCode::NO_CONTENT
    })
    .await;
    assert_eq!(at % CHUNK, 0);
    assert!(scene.download().await == sent);
    let (record, etag) = scene.portal.read(&scene.record).await;
    assert_eq!((record["fields"]["title"].as_str(), etag.as_str()), (Some("Letter"), "\"3\""));
}

#[tokio::test]
async fn what_a_file_is_comes_with_it_and_stays_sealed() {
    let scene = Scene::set().await;
    // filename "Befund Žofie.pdf", filetype "application/pdf".
    let start = scene
        .portal
        .request(Method::POST, &scene.files)
        .header("tus-resumable", "1.0.0")
        .header("upload-length", "4")
        .header("upload-metadata", "filename QmVmdW5kIMW9b2ZpZS5wZGY=,filetype YXBwbGljYXRpb24vcGRm");
    let started = start.send().await.unwrap();
    assert_eq!(
        (started.status(), &started.headers()["tus-resumable"]),
        (StatusCode::CREATED, &"1.0.0".parse().unwrap())
    );
    let upload = started.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(scene.portal.append(&upload, 0, b"%PDF".to_vec()).await.status(), 204);
    let (record, _) = scene.portal.read(&scene.record).await;
    assert_eq!(
        record["fields"]["content"],
        json!({ "bytes": 4, "media_type": "application/pdf", "name": "Befund Žofie.pdf" })
    );
    let answer = scene.portal.get(&scene.files).await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/pdf");
    assert_eq!(header("content-length"), "4");
    assert_eq!(
        (header("content-disposition"), header("x-content-type-options")),
        ("attachment".into(), "nosniff".into())
    );
    assert_eq!((header("cache-control"), header("etag")), ("no-store".into(), "\"2\"".into()));

    // The document can be taken away, but never comes in as JSON.
    let change = |value: Value| json!({ "fields": { "content": value } });
    let refused = scene.portal.patch(&scene.record, "\"2\"", &change(json!({ "bytes": 4 }))).await;
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["errors"], json!([{ "field": "content", "code": "upload_needed" }]));
    assert_eq!(scene.portal.patch(&scene.record, "\"2\"", &change(Value::Null)).await.status(), 200);
    assert_eq!(problem(scene.portal.get(&scene.files).await).await, (404, "document_not_found".into()));
}

#[tokio::test]
async fn every_step_is_on_record() {
    let scene = Scene::set().await;
    let sent = file(17 * CHUNK);
    let upload = scene.portal.start_upload(&scene.files, sent.len()).await;
    scene.offset(&upload).await;
    assert_eq!(scene.portal.append(&upload, 0, sent[..16 * CHUNK].to_vec()).await.status(), 204);
    let last = scene.portal.append(&upload, 16 * CHUNK, sent[16 * CHUNK..].to_vec()).await;
    let completed = scene.strongroom.entry_of(&request_id(&last)).await;
    let read = scene.portal.get(&scene.files).await;
    let revealed = scene.strongroom.entry_of(&request_id(&read)).await;
    let codes: Vec<Value> = scene
        .strongroom
        .entries_of("document.upload")
        .await
        .iter()
        .map(|entry| entry["out"]["code"].clone())
        .collect();
    assert_eq!(
        codes,
        ["upload_started", "upload_asked", "upload_received"],
        "one for each request, not for each part"
    );
    let object = |version: u32| {
        json!([{ "collection": "documents", "record": scene.id, "version": version, "fields": ["content"],
                 "class": ["phi"] }])
    };
    assert_eq!(completed["act"], "record.update");
    assert_eq!(
        (&completed["obj"][0]["fields"], &completed["obj"][0]["version"]),
        (&json!(["content"]), &json!(2))
    );
    assert_eq!((&revealed["act"], &revealed["obj"]), (&json!("document.read"), &object(2)));
    assert_eq!((&revealed["subj"], &revealed["purpose"]), (&json!(scene.subject), &json!("TREAT")));
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let scene = Scene::set().await;
    let start = async |headers: &[(&str, &str)]| {
        let request = scene.portal.request(Method::POST, &scene.files);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        problem(request.send().await.unwrap()).await
    };
    for headers in [
        &[][..],
        &[("upload-length", "0")],
        &[("upload-length", "-1")],
        &[("upload-length", "007")],
        &[("upload-length", "1"), ("upload-length", "1")],
        &[("upload-length", "1"), ("upload-metadata", "filetype")],
        &[("upload-length", "1"), ("upload-metadata", "filetype dGV4dA==")],
        &[("upload-length", "1"), ("upload-metadata", "secret dGV4dA==")],
    ] {
        assert_eq!(start(headers).await, (400, "upload_headers_invalid".into()), "{headers:?}");
    }
    assert_eq!(
        start(&[("upload-length", "1"), ("tus-resumable", "0.2.2")]).await,
        (412, "tus_version".into())
    );
    assert_eq!(start(&[("upload-length", "104857601")]).await, (413, "document_too_large".into()));
    assert_eq!(scene.parts().await, 0);

    let upload = scene.portal.start_upload(&scene.files, 10).await;
    let more = scene.portal.append(&upload, 0, b"eleven bytes".to_vec()).await;
    assert_eq!(problem(more).await, (413, "document_too_large".into()));
    let as_json = scene.portal.request(Method::PATCH, &upload).header("upload-offset", 0).json(&json!({}));
    assert_eq!(problem(as_json.send().await.unwrap()).await, (415, "media_type_unsupported".into()));
    let nowhere = scene.portal.request(Method::PATCH, &upload).body("x");
    assert_eq!(problem(nowhere.send().await.unwrap()).await, (400, "upload_headers_invalid".into()));

    // Fields that hold no documents, uploads that are not there or are another record's.
    let get = async |path: String| problem(scene.portal.get(&path).await).await;
    for field in ["title", "nothing", "%00"] {
        let path = format!("{}/files/{field}", scene.record);
        assert_eq!(get(path).await, (404, "document_not_found".into()), "{field}");
    }
    assert_eq!(get(format!("{}?version=0", scene.files)).await, (400, "query_invalid".into()));
    let other = scene.portal.create("documents", &document(&scene.subject)).await;
    let (_, file) = upload.rsplit_once('/').unwrap();
    for path in [
        format!("/api/v1/documents/{}/files/content/{file}", other["id"].as_str().unwrap()),
        format!("{}/nothing", scene.files),
        format!("{}/{}", scene.files, crate::support::samples::NOBODY),
    ] {
        let answer = scene.portal.append(&path, 0, b"0123456789".to_vec()).await;
        assert_eq!(problem(answer).await, (404, "upload_not_found".into()), "{path}");
    }
    // What the portal may not see plain it may not have as a file either.
    let dashboard = scene.strongroom.client("dashboard").await.with_purpose("HOPERAT");
    let masked = dashboard.get(&scene.files).await;
    assert_eq!(problem(masked).await, (403, "field_not_allowed".into()));
}

#[tokio::test]
async fn an_upload_that_is_not_finished_leaves_nothing() {
    let scene = Scene::set().await;
    let sent = file(40 * CHUNK);
    let upload = scene.portal.start_upload(&scene.files, sent.len()).await;
    assert_eq!(scene.portal.append(&upload, 0, sent[..39 * CHUNK].to_vec()).await.status(), 204);
    let forgotten = scene.portal.start_upload(&scene.files, sent.len()).await;
    let (kept, _) = scene.portal.upload(&scene.files, &file(3)).await;
    scene.sql("UPDATE upload SET expires_at = now() WHERE parts <= 2").await;
    assert_eq!(scene.portal.delete(&upload).await.status(), 204);
    for gone in [&upload, &forgotten, &kept] {
        assert_eq!(scene.offset(gone).await.0, 404);
    }
    eventually("its parts are gone", async || scene.parts().await == 2).await;
    eventually("both are on record", async || {
        let entries = scene.strongroom.entries_of("document.upload").await;
        entries.iter().filter(|entry| entry["out"]["code"] == "upload_removed").count() == 2
    })
    .await;
    assert_eq!(scene.download().await, file(3), "what belongs to a record stays");
    let refused = scene.strongroom.data().await.batch_execute("DELETE FROM file_part").await.unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("belongs to a record"));
    // A complete upload is not cancelled: the document is the record's.
    let (whole, _) = scene.portal.upload(&scene.files, &file(4)).await;
    assert_eq!(problem(scene.portal.delete(&whole).await).await, (404, "upload_not_found".into()));
}

/// A slow line is no reason to cut an upload, a silent one is: what came is kept.
#[tokio::test]
async fn an_upload_takes_its_time_but_makes_no_pause() {
    let settings = vec![("STRONGROOM__LIMITS__STALL_TIMEOUT_MS".into(), "4000".into())];
    let scene = Scene::set_with(ServiceOptions { settings, ..Default::default() }).await;
    let sent = file(6 * CHUNK);
    let pieces: Vec<Bytes> = sent.chunks(CHUNK).map(Bytes::copy_from_slice).collect();
    let framed = |piece: Bytes| Ok::<_, std::convert::Infallible>(Frame::data(piece));
    let silent =
        futures_util::stream::iter([framed(pieces[0].clone())]).chain(futures_util::stream::pending());
    let upload = scene.portal.start_upload(&scene.files, sent.len()).await;
    let answer = scene.portal.append(&upload, 0, reqwest::Body::wrap(StreamBody::new(silent))).await;
    assert_eq!(
        (answer.status(), &answer.headers()["upload-offset"]),
        (StatusCode::NO_CONTENT, &"65536".parse().unwrap())
    );
    let upload = scene.portal.start_upload(&scene.files, sent.len()).await;
    let slow = futures_util::stream::unfold(
        (pieces.into_iter(), tokio::time::interval(Duration::from_millis(1_500))),
        move |(mut pieces, mut clock)| async move {
            let piece = pieces.next()?;
            clock.tick().await;
            Some((framed(piece), (pieces, clock)))
        },
    );
    let started = std::time::Instant::now();
    let answer = scene.portal.append(&upload, 0, reqwest::Body::wrap(StreamBody::new(Box::pin(slow)))).await;
    assert_eq!(
        (answer.status(), &answer.headers()["etag"]),
        (StatusCode::NO_CONTENT, &"\"2\"".parse().unwrap())
    );
    assert!(started.elapsed() > Duration::from_secs(6), "it was not slow");
    assert!(scene.download().await == sent);
}

#[tokio::test]
async fn two_requests_do_not_mix_one_upload() {
    let scene = Scene::set().await;
    let sent = file(4 * CHUNK);
    let upload = scene.portal.start_upload(&scene.files, sent.len()).await;
    let rounds = (0..4).map(|_| scene.portal.append(&upload, 0, sent.clone()));
    let answers = futures_util::future::join_all(rounds).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409, 409, 409]);
    assert!(scene.download().await == sent);
    assert_eq!(scene.parts().await, 5);
}

/// Everything that somebody who owns the database can do to a file, and the answer: nothing, or a file that ends early.
#[tokio::test]
async fn a_changed_file_does_not_open() {
    let changes = [
        (
            "a part changed",
            "UPDATE file_part SET sealed = set_byte(sealed, 9, get_byte(sealed, 9) # 1) WHERE part = 1",
        ),
        (
            "a header changed",
            "UPDATE file_part SET header = set_byte(header, 40, get_byte(header, 40) # 1) WHERE part = 2",
        ),
        ("the last part gone", "DELETE FROM file_part WHERE part = 3"),
        ("a part in the middle gone", "DELETE FROM file_part WHERE part = 2"),
        (
            "a part more",
            "INSERT INTO file_part SELECT tenant_id, file_id, 4, header, sealed FROM file_part WHERE part = 3",
        ),
        (
            "two parts in each other's place",
            "UPDATE file_part f SET header = o.header, sealed = o.sealed FROM file_part o \
             WHERE f.tenant_id = o.tenant_id AND f.file_id = o.file_id AND f.part + o.part = 3 AND f.part IN (1, 2)",
        ),
    ];
    for (what, sql) in changes {
        let scene = Scene::set().await;
        scene.portal.upload(&scene.files, &file(2 * CHUNK + 9)).await;
        let free = "ALTER TABLE file_part DISABLE TRIGGER USER";
        scene.sql(free).await;
        scene.sql(sql).await;
        let answer = scene.portal.get(&scene.files).await;
        if answer.status() == StatusCode::OK {
            // Nothing was sent before the first chunk opened; later the connection breaks, so that no client takes a
            // beginning for the whole.
            assert!(answer.bytes().await.is_err(), "{what}");
            eventually("the break is in the log", async || {
                scene.strongroom.log().iter().any(|line| line.contains("document.cut"))
            })
            .await;
        } else {
            assert_eq!(problem(answer).await, (500, "record_unreadable".into()), "{what}");
        }
        let entries = scene.strongroom.entries_of("document.read").await;
        let last = entries.last().unwrap();
        assert_eq!(last["out"], json!({ "status": "failed", "code": "record_unreadable" }), "{what}");
    }
}

#[tokio::test]
async fn a_part_sent_twice_counts_once() {
    let scene = Scene::set().await;
    let (first, second) = (file(CHUNK + 1), vec![9; CHUNK + 1]);
    scene.portal.upload(&scene.files, &first).await;
    scene.portal.upload(&scene.files, &second).await;
    // Sealed for the same field and place by the same key, but for another file.
    scene.sql("ALTER TABLE file_part DISABLE TRIGGER USER").await;
    scene
        .sql(
            "WITH ids AS (SELECT min(file_id::text)::uuid AS a, max(file_id::text)::uuid AS b FROM file_part) \
             UPDATE file_part f SET header = o.header, sealed = o.sealed FROM file_part o, ids \
             WHERE f.file_id = ids.b AND o.file_id = ids.a AND f.part = o.part",
        )
        .await;
    assert_eq!(problem(scene.portal.get(&scene.files).await).await, (500, "record_unreadable".into()));
}

#[tokio::test]
async fn a_deleted_records_file_is_gone_for_good() {
    let scene = Scene::set().await;
    scene.portal.upload(&scene.files, &file(2 * CHUNK)).await;
    let patient = scene.portal.with_purpose("PATRQT");
    assert_eq!(patient.delete(&scene.record).await.status(), 204);
    assert_eq!(problem(scene.portal.get(&scene.files).await).await, (404, "record_not_found".into()));
    // Its parts are there, and the key that opens them is not.
    eventually("the record's keys are destroyed", async || {
        let keys = scene.strongroom.keys().await;
        let left = format!("SELECT count(*) FROM subject_key WHERE owner = '{}'", scene.id);
        keys.query_one(&left, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    assert_eq!(scene.parts().await, 3);
}

/// Buffers, pools and the allocator's pages come with the first files; after that, one of any size needs no more.
#[tokio::test]
async fn a_file_is_never_whole_in_memory() {
    const PIECE: usize = 1 << 20;
    const LARGE: usize = 48;
    let scene = Scene::set().await;
    let mut peaks = Vec::new();
    for pieces in [4, 8, LARGE] {
        let upload = scene.portal.start_upload(&scene.files, pieces * PIECE).await;
        let body = (0..pieces).map(|at| {
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![
                u8::try_from(at).unwrap();
                PIECE
            ])))
        });
        let body = reqwest::Body::wrap(StreamBody::new(futures_util::stream::iter(body)));
        assert_eq!(scene.portal.append(&upload, 0, body).await.status(), 204);
        let mut answer = scene.portal.get(&scene.files).await;
        let mut received = 0;
        while let Some(chunk) = answer.chunk().await.unwrap() {
            // Chunks do not span pieces: both are powers of two.
            let expected = u8::try_from(received / PIECE).unwrap();
            assert!(chunk.iter().all(|byte| *byte == expected));
            received += chunk.len();
        }
        assert_eq!(received, pieces * PIECE);
        peaks.push(scene.strongroom.peak_memory_kib());
    }
    // Locked pages are never given back, and of 2 MiB each far fewer would be used (proc(5): 0 where they are turned off).
    assert_ne!(scene.strongroom.process_status("THP_enabled").as_deref(), Some("1"));
    let grown = peaks[2] - peaks[1];
    // Locked pages are never given back, so that the allocator's own spread counts as well (20 MiB, whatever the size).
    assert!(grown < 32 * 1024, "the service took {grown} KiB more for a file of {LARGE} MiB: {peaks:?}");
}
