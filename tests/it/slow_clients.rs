//! Slow clients of the running service: who does not take a document, or does not bring what it announced, is cut in its time,
//! and costs nobody else anything. `door_slow.rs` has every way of being slow; here are the real answers and bodies.

use std::time::{Duration, Instant};

use reqwest::Version;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::samples::{document, small_patient};
use crate::support::{Client, Raw, RawAnswer, ServiceOptions, Strongroom, eventually};

/// More than loopback holds on the way.
const FILE_BYTES: usize = 24 << 20;
const STALL: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(10);

struct Scene {
    strongroom: Strongroom,
    portal: Client,
    raw: Raw,
    files: String,
}

impl Scene {
    async fn set() -> Self {
        let settings = ["STALL", "REQUEST"]
            .map(|which| (format!("STRONGROOM__LIMITS__{which}_TIMEOUT_MS"), STALL.as_millis().to_string()));
        let options = ServiceOptions { settings: settings.to_vec(), ..Default::default() };
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let subject = portal.create_patient(small_patient()).await;
        let created = portal.create("documents", &document(&subject)).await;
        let files = format!("/api/v1/documents/{}/files/content", created["id"].as_str().unwrap());
        let raw = strongroom.raw_client("portal").await;
        Self { strongroom, portal, raw, files }
    }

    /// How many connections were cut for it, as the service counts them.
    async fn stalled(&self) -> u64 {
        let text = self.strongroom.client("operator").await.get("/metrics").await.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with("strongroom_connections_stalled_total "));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Sends a head, and then a byte now and then until an answer comes.
    async fn trickle(&self, head: &str) -> (RawAnswer, Duration) {
        let (mut reader, mut writer) = tokio::io::split(self.raw.open().await);
        let head = format!("{head}\nhost: localhost\nconnection: close\n\n").replace('\n', "\r\n");
        let begun = Instant::now();
        writer.write_all(head.as_bytes()).await.unwrap();
        let bytes = async {
            let mut clock = tokio::time::interval(Duration::from_millis(100));
            while writer.write_all(b"{").await.is_ok() {
                clock.tick().await;
            }
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = bytes => {}
            // The server may close with some of it unread, which resets the connection after the answer.
            _ = reader.read_to_end(&mut answer) => {}
        }
        (RawAnswer::parse(&answer), begun.elapsed())
    }
}

#[tokio::test]
async fn who_does_not_take_a_document_is_cut_and_others_get_it() {
    let scene = Scene::set().await;
    let file = vec![b'x'; FILE_BYTES];
    scene.portal.upload(&scene.files, &file).await;
    // HTTP/1.1: nothing is read at all.
    let mut line = scene.raw.open().await;
    let head = format!("GET {} HTTP/1.1\r\nhost: localhost\r\nx-purpose-of-use: TREAT\r\n\r\n", scene.files);
    line.write_all(head.as_bytes()).await.unwrap();
    // HTTP/2: the head is read, and the connection lives and answers pings.
    let reader = scene.strongroom.client("portal").await.with_purpose("TREAT");
    let mut unread = reader.get(&scene.files).await;
    assert_eq!((unread.status().as_u16(), unread.version()), (200, Version::HTTP_2));
    eventually("both are cut", async || scene.stalled().await == 2).await;
    // What was on the way may still be read; it is a beginning, and not the whole.
    let mut taken = Vec::new();
    let _ = line.read_to_end(&mut taken).await;
    assert!(taken.len() < FILE_BYTES);
    let mut taken = 0;
    while let Ok(Some(chunk)) = unread.chunk().await {
        taken += chunk.len();
    }
    assert!(taken < FILE_BYTES);
    // It was on record before its first byte, and who takes it gets it.
    assert_eq!(scene.strongroom.entries_of("document.read").await.len(), 2);
    assert!(scene.portal.get(&scene.files).await.bytes().await.unwrap() == file);
}

#[tokio::test]
async fn who_brings_a_body_by_the_byte_is_cut() {
    let scene = Scene::set().await;
    let (answer, took) = scene
        .trickle("POST /api/v1/patients HTTP/1.1\nx-purpose-of-use: TREAT\ncontent-type: application/json\ncontent-length: 1000")
        .await;
    assert_eq!(answer.problem(), (503, "deadline_exceeded".into()));
    assert!(took >= STALL && took < PATIENCE, "{took:?}");
    let upload = scene.portal.start_upload(&scene.files, 1_000_000).await;
    let (answer, took) = scene
        .trickle(&format!(
            "PATCH {upload} HTTP/1.1\nx-purpose-of-use: TREAT\nupload-offset: 0\n\
             content-type: application/offset+octet-stream\ncontent-length: 1000000"
        ))
        .await;
    assert_eq!(answer.problem(), (400, "body_incomplete".into()));
    assert!(took >= STALL && took < PATIENCE, "{took:?}");
    let entry = scene.strongroom.entries_of("document.upload").await.pop().unwrap();
    assert_eq!(entry["out"], json!({ "status": "failed", "code": "body_incomplete" }));
}
