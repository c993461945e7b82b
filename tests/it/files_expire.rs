//! Uploads whose time is over, and documents whose record ends: what was acknowledged stays whole, whatever meets in that moment,
//! and what is removed is on record once, however many instances there are.

use reqwest::{Response, StatusCode};
use tokio_postgres::Client as Superuser;

use crate::support::export::Exported;
use crate::support::samples::{document, small_patient};
use crate::support::{Client, Databases, ServiceOptions, Strongroom, eventually, problem};

/// Enough for everything that has to meet: whoever waits for a row is not cut off before.
fn patient_options(databases: Option<Databases>) -> ServiceOptions {
    let settings = ["DATABASE__DATA__TIMEOUT_MS", "LIMITS__REQUEST_TIMEOUT_MS"];
    let settings = settings.map(|name| (format!("STRONGROOM__{name}"), "20000".to_owned()));
    ServiceOptions { settings: settings.into(), databases, ..Default::default() }
}

struct Scene {
    strongroom: Strongroom,
    portal: Client,
    files: String,
    record: String,
    superuser: Superuser,
}

impl Scene {
    async fn set() -> Self {
        let strongroom = Strongroom::start_with(patient_options(None)).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let subject = portal.create_patient(small_patient()).await;
        let created = portal.create("documents", &document(&subject)).await;
        let record = format!("/api/v1/documents/{}", created["id"].as_str().unwrap());
        let superuser = strongroom.data().await;
        Self { portal, files: format!("{record}/files/content"), record, superuser, strongroom }
    }

    /// Waits until so many statements of the service wait for somebody's lock.
    async fn are_waiting(&self, what: &str, count: i64) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock' AND query LIKE '%storage::records::%'";
        let watcher = self.strongroom.data().await;
        eventually(what, async || watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) >= count).await;
    }

    /// An upload whose one and last piece is on its way.
    async fn sent(&self, upload: &str, bytes: &'static [u8]) -> tokio::task::JoinHandle<Response> {
        let (portal, upload) = (self.portal.clone(), upload.to_owned());
        let sent = tokio::spawn(async move { portal.append(&upload, 0, bytes).await });
        self.are_waiting("its end waits", 1).await;
        sent
    }

    /// Somebody ends another upload, for which the service looks at once for those whose time is over.
    async fn cancel_another(&self, portal: &Client) {
        let other = portal.start_upload(&self.files, 1).await;
        assert_eq!(portal.delete(&other).await.status(), 204);
    }

    async fn count(&self, sql: &str) -> i64 {
        self.strongroom.data().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn removed(&self) -> usize {
        let entries = self.strongroom.entries_of("document.upload").await;
        entries.iter().filter(|entry| entry["out"]["code"] == "upload_removed").count()
    }
}

/// The last piece was stored before its time was over, and the removal meets what is not committed yet.
#[tokio::test]
async fn an_upload_that_is_completed_in_its_last_moment_stays() {
    let scene = Scene::set().await;
    let bytes = b"in the last moment";
    let upload = scene.portal.start_upload(&scene.files, bytes.len()).await;
    // Its transaction holds the upload, and waits for a place in the history that somebody else has taken.
    let lock = "BEGIN; INSERT INTO record_history (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                    sealed_values, created_at, updated_at, audit_entry_id) \
                SELECT tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, sealed_values, created_at, \
                    updated_at, audit_entry_id FROM record WHERE collection = 'documents'";
    scene.superuser.batch_execute(lock).await.unwrap();
    let data = scene.strongroom.data().await;
    data.batch_execute("UPDATE upload SET expires_at = now() + interval '8 s'").await.unwrap();
    let sent = scene.sent(&upload, bytes).await;
    eventually("its time is over", async || {
        scene.count("SELECT count(*) FROM upload WHERE expires_at <= now()").await == 1
    })
    .await;
    scene.cancel_another(&scene.portal).await;
    scene.are_waiting("the removal waits", 2).await;
    scene.superuser.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(sent.await.unwrap().status(), 204);
    eventually("only the other one is removed", async || {
        scene.count("SELECT count(*) FROM upload").await == 0 && scene.removed().await == 1
    })
    .await;
    let answer = scene.portal.get(&scene.files).await;
    assert_eq!((answer.status(), answer.bytes().await.unwrap().as_ref()), (StatusCode::OK, &bytes[..]));
}

/// The last piece comes in time, and waits until the upload was removed.
#[tokio::test]
async fn an_upload_that_was_removed_is_not_completed() {
    let scene = Scene::set().await;
    let upload = scene.portal.start_upload(&scene.files, 4).await;
    scene.superuser.batch_execute("BEGIN; SELECT FROM record FOR UPDATE").await.unwrap();
    let sent = scene.sent(&upload, b"late").await;
    let data = scene.strongroom.data().await;
    data.batch_execute("UPDATE upload SET expires_at = now()").await.unwrap();
    scene.cancel_another(&scene.portal).await;
    eventually("it is removed", async || scene.count("SELECT count(*) FROM upload").await == 0).await;
    scene.superuser.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(problem(sent.await.unwrap()).await, (404, "upload_not_found".into()));
    let (_, etag) = scene.portal.read(&scene.record).await;
    assert_eq!((etag.as_str(), scene.count("SELECT count(*) FROM file_part").await), ("\"1\"", 0));
}

/// Two instances meet over the same upload: one removes it and says so, and neither tells the log of an entry that is not there.
#[tokio::test]
async fn of_two_instances_one_removes_an_upload() {
    let scene = Scene::set().await;
    let held = &scene.strongroom.databases;
    let databases = Databases { data: held.data.clone(), keys: held.keys.clone() };
    let second = Strongroom::start_with(patient_options(Some(databases))).await;
    let other = second.client("portal").await.with_purpose("TREAT");
    let upload = scene.portal.start_upload(&scene.files, 200_000).await;
    assert_eq!(scene.portal.append(&upload, 0, vec![7; 150_000]).await.status(), 204);
    let exported = Exported::of(&scene.strongroom).await;
    for sql in
        ["UPDATE upload SET expires_at = now() - interval '1 h'", "BEGIN; SELECT FROM upload FOR UPDATE"]
    {
        scene.superuser.batch_execute(sql).await.unwrap();
    }
    scene.cancel_another(&scene.portal).await;
    scene.cancel_another(&other).await;
    scene.are_waiting("both are at it", 2).await;
    scene.superuser.batch_execute("COMMIT").await.unwrap();
    eventually("all three are removed", async || {
        scene.count("SELECT count(*) FROM upload").await == 0 && scene.removed().await == 3
    })
    .await;
    assert_eq!(scene.count("SELECT count(*) FROM file_part").await, 0);
    // What either saw committed is listed by the next flush of its chain.
    for portal in [&scene.portal, &other] {
        portal.read(&scene.record).await;
    }
    exported.has_everything(&scene.strongroom).await;
    exported.verify();
}

/// Whoever is reading it when the record is deleted gets no further, and the log does not say that somebody changed it.
#[tokio::test]
async fn a_deleted_records_file_is_not_read_to_its_end() {
    let scene = Scene::set().await;
    let sent = vec![7; 16 << 20];
    scene.portal.upload(&scene.files, &sent).await;
    let mut reading = scene.strongroom.client("portal").await.with_purpose("TREAT").get(&scene.files).await;
    assert_eq!(reading.status(), 200);
    let patient = scene.portal.with_purpose("PATRQT");
    assert_eq!(patient.delete(&scene.record).await.status(), 204);
    let mut taken = 0;
    while let Ok(Some(chunk)) = reading.chunk().await {
        taken += chunk.len();
    }
    assert!(taken < sent.len(), "all of it was read");
    scene.strongroom.logs("that it was cut", |line| line.contains("document.cut")).await;
    let entries = scene.strongroom.entries_of("document.read").await;
    assert_eq!(entries.len(), 1, "nobody changed it: {entries:#?}");
}
