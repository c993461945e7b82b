//! `strongroom migrate`: what it leaves, repeated, broken off, and beside a running service.

use serde_json::{Value, json};

use crate::support::samples::small_patient;
use crate::support::{ADMINISTRATOR, Strongroom, eventually, parts};

/// Exit code, what was done by database, and what was said.
async fn migrate(strongroom: &Strongroom) -> (Option<i32>, Value, String) {
    let password = parts().text("/data/password_file");
    let passwords = ["--data-password-file", password, "--keys-password-file", password];
    let arguments = [["migrate", "--json", "--administrator", ADMINISTRATOR].as_slice(), &passwords].concat();
    let (code, out, error) = strongroom.command(&arguments).await;
    (code, serde_json::from_str(&out).unwrap_or_default(), error)
}

fn done(data: &[&str]) -> Value {
    json!([{ "applied": data, "database": "data" }, { "applied": [], "database": "keys" }])
}

#[tokio::test]
async fn a_second_run_does_nothing() {
    let strongroom = Strongroom::start().await;
    assert_eq!(migrate(&strongroom).await, (Some(0), done(&[]), String::new()));
    strongroom.wait_until_ready().await;
}

/// An index build waits for a transaction and holds nobody back; broken off, it leaves an index that nothing uses, which
/// the service and the doctor see and the next run builds anew.
#[tokio::test]
async fn a_broken_off_index_build_is_taken_up_beside_a_running_service() {
    let mut strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let superuser = strongroom.data().await;
    superuser.batch_execute("DROP INDEX record_by_subject").await.unwrap();
    let transaction = strongroom.data().await;
    transaction.batch_execute("BEGIN; LOCK TABLE record IN ROW EXCLUSIVE MODE").await.unwrap();

    let (broken, ()) = tokio::join!(migrate(&strongroom), async {
        let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock' AND query LIKE '%INDEX CONCURRENTLY record_by_subject%'";
        let builds =
            async || superuser.query(waiting, &[]).await.unwrap().first().map(|row| row.get::<_, i32>(0));
        eventually("the build waits", async || builds().await.is_some()).await;
        portal.create_patient(small_patient()).await;
        superuser.execute("SELECT pg_terminate_backend($1)", &[&builds().await.unwrap()]).await.unwrap();
    });
    assert_eq!(broken.0, Some(1), "{}", broken.2);
    assert!(broken.2.contains("cannot migrate"), "{}", broken.2);
    transaction.batch_execute("COMMIT").await.unwrap();

    strongroom.kill_and_restart().await;
    let is_told = |line: &str| line.contains("an index is missing or was left half built");
    strongroom.logs("that an index is missing", is_told).await;
    let (code, out, _) = strongroom.command(&["doctor"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.lines().any(|line| line.starts_with("weak") && line.contains("an index is missing")),
        "{out}"
    );

    assert_eq!(migrate(&strongroom).await, (Some(0), done(&["index record_by_subject"]), String::new()));
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'record_by_subject'::regclass";
    assert!(superuser.query_one(valid, &[]).await.unwrap().get::<_, bool>(0));
    let (_, out, _) = strongroom.command(&["doctor"]).await;
    assert!(!out.contains("half built"), "{out}");
}

/// Two runs at once: one waits for the other, also while that one builds indexes, and then has nothing to do.
#[tokio::test]
async fn two_runs_at_once_do_the_work_once() {
    let strongroom = Strongroom::start().await;
    let superuser = strongroom.data().await;
    superuser.batch_execute("DROP INDEX record_by_subject, idempotency_key_expiry").await.unwrap();
    let (one, other) = tokio::join!(migrate(&strongroom), migrate(&strongroom));
    for (code, _, error) in [&one, &other] {
        assert_eq!((*code, error.as_str()), (Some(0), ""));
    }
    let both = done(&["index record_by_subject", "index idempotency_key_expiry"]);
    let reports = [one.1, other.1];
    assert!(reports.contains(&both) && reports.contains(&done(&[])), "{reports:?}");
}

/// Two branches may land in either order: what has a lower number and comes later is applied then, and once.
#[tokio::test]
async fn a_migration_that_comes_later_than_a_higher_one_is_applied() {
    let strongroom = Strongroom::start().await;
    let superuser = strongroom.data().await;
    superuser.execute("DELETE FROM refinery_schema_history WHERE version = 7", &[]).await.unwrap();
    assert_eq!(migrate(&strongroom).await, (Some(0), done(&["V7__schema_version"]), String::new()));
    assert_eq!(migrate(&strongroom).await, (Some(0), done(&[]), String::new()));
}
