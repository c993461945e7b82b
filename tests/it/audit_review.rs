//! What is stored of the log is read again at its times, and a review that was not done shows.

use serde_json::Value;
use strongroom::domain::clock::{Clock, SystemClock};

use crate::support::samples::small_patient;
use crate::support::{Client, ServiceOptions, Strongroom, eventually};

async fn is_late(operator: &Client) -> bool {
    let Some(answer) = operator.try_get("/readyz").await else { return false };
    let ready: Value = answer.json().await.unwrap();
    ready["alarms"].as_array().unwrap().iter().any(|on| on["alarm"] == "log_not_reviewed")
}

/// The times and how far it is outlive the process: what is overdue is an alarm until it is done, and is not done twice.
#[tokio::test]
async fn a_review_that_is_overdue_is_an_alarm_until_it_is_done() {
    // No night begins while this goes on.
    let hours = SystemClock.now().as_micros() / 3_600_000_000;
    let settings =
        [("ENTRIES_PER_SECOND", "16".to_owned()), ("NIGHTLY_HOUR", ((hours + 12) % 24).to_string())];
    let setting = |(key, value)| (format!("STRONGROOM__AUDIT__REVIEW__{key}"), value);
    let options = ServiceOptions { settings: settings.map(setting).to_vec(), ..ServiceOptions::default() };
    let mut strongroom = Strongroom::start_with(options).await;
    let operator = strongroom.client("operator").await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    for _ in 0..12 {
        portal.create_patient(small_patient()).await;
    }
    assert!(!is_late(&operator).await);
    let data = strongroom.data().await;
    strongroom.kill();
    data.batch_execute("UPDATE audit_review SET done_at = now() - interval '10 days'").await.unwrap();
    strongroom.restart().await;
    eventually("it is overdue", async || is_late(&operator).await).await;
    let parts = "SELECT count(*) FROM audit_review WHERE done_at > now() - interval '1 hour'";
    let done = async || data.query_one(parts, &[]).await.unwrap().get::<_, i64>(0);
    eventually("the night is done", async || done().await >= 1).await;
    let recent = "SELECT size, done_at::text FROM audit_review WHERE part = 'recent'";
    let night = async || {
        let row = data.query_one(recent, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, String>(1))
    };
    let first = night().await;
    assert!(first.0 >= 12, "from the first entry to the head");
    eventually("all is done", async || !is_late(&operator).await).await;
    strongroom.kill_and_restart().await;
    let metrics = "/metrics";
    eventually("it leads again", async || {
        let text = operator.get(metrics).await.text().await.unwrap();
        text.contains("strongroom_audit_sequencer_leading 1")
    })
    .await;
    assert_eq!(night().await, first, "the night is over, whoever leads");
}
