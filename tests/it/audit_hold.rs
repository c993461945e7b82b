//! Holds on months of the log: placed and released by an administrator, each on record, and never taken off it.

use serde_json::Value;

use crate::support::{ADMINISTRATOR, Strongroom, parts};

async fn hold(strongroom: &Strongroom, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let password = parts().text("/data/password_file");
    let administrator = ["--administrator", ADMINISTRATOR, "--data-password-file", password, "--json"];
    let (code, out, error) =
        strongroom.command(&[&["audit", "hold"][..], arguments, &administrator].concat()).await;
    (code, serde_json::from_str(&out).unwrap_or_default(), error)
}

#[tokio::test]
async fn a_hold_is_placed_released_once_and_never_forgotten() {
    let strongroom = Strongroom::start().await;
    assert_eq!(hold(&strongroom, &["list"]).await, (Some(0), Value::Array(vec![]), String::new()));
    let (code, open, error) =
        hold(&strongroom, &["add", "--from", "2025-03", "--reason", "CV-2026/117"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let months = ["--from", "2025-01", "--until", "2025-02"];
    let (_, closed, _) =
        hold(&strongroom, &[&["add"][..], &months, &["--reason", "OCR_44.b-1"]].concat()).await;
    let id = |hold: &Value| hold["hold"].as_str().unwrap().to_owned();
    assert_eq!((&open["until"], &open["released_at"]), (&Value::Null, &Value::Null));
    assert_eq!((&closed["until"], &closed["placed_by"]), (&"2025-02".into(), &ADMINISTRATOR.into()));

    let (code, released, error) = hold(&strongroom, &["release", &id(&closed)]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(released["released_by"], ADMINISTRATOR);
    let (code, _, error) = hold(&strongroom, &["release", &id(&closed)]).await;
    assert!(code == Some(1) && error.contains("was released before"), "{error}");
    let (code, _, error) = hold(&strongroom, &["release", "019b76da-0000-7000-8000-000000000001"]).await;
    assert!(code == Some(1) && error.contains("no such hold"), "{error}");
    let (_, list, _) = hold(&strongroom, &["list"]).await;
    assert_eq!(list, Value::from(vec![open.clone(), released]));

    // Each is on record, in full.
    let of = async |act: &str| strongroom.entries_of(act).await;
    let placed = of("audit.hold").await;
    assert_eq!(placed.len(), 2);
    let object = &placed[0]["obj"][0];
    assert_eq!(
        (&object["hold"], &object["from"], &object["reason"]),
        (&open["hold"], &"2025-03".into(), &"CV-2026/117".into())
    );
    assert_eq!((&object["by"], object.get("until")), (&ADMINISTRATOR.into(), None));
    let released = of("audit.release").await;
    assert_eq!((released.len(), &released[0]["obj"][0]["until"]), (1, &"2025-02".into()));
}

#[tokio::test]
async fn nobody_changes_a_hold_around_the_command() {
    let strongroom = Strongroom::start().await;
    let (_, placed, _) = hold(&strongroom, &["add", "--from", "2025-03", "--reason", "CV-1"]).await;
    let superuser = strongroom.data().await;
    for role in ["RESET ROLE", "SET ROLE strongroom_owner"] {
        superuser.batch_execute(role).await.unwrap();
        for sql in [
            "UPDATE audit_hold SET from_month = '2026-01-01'",
            "UPDATE audit_hold SET reason = 'CV-2'",
            "UPDATE audit_hold SET released_at = now(), released_by = 'x', released_entry = hold_id, reason = 'x'",
            "DELETE FROM audit_hold",
            "TRUNCATE audit_hold",
            "DROP TABLE audit_hold",
        ] {
            let error = superuser.batch_execute(sql).await.expect_err(sql);
            assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{sql}");
        }
    }
    for role in ["strongroom_app", "strongroom_audit_reader", "strongroom_sequencer"] {
        superuser.batch_execute(&format!("RESET ROLE; SET ROLE {role}")).await.unwrap();
        for sql in
            ["SELECT * FROM audit_hold", "DELETE FROM audit_hold", "INSERT INTO audit_hold DEFAULT VALUES"]
        {
            let error = superuser.batch_execute(sql).await.expect_err(sql);
            assert_eq!(
                error.code().map(tokio_postgres::error::SqlState::code),
                Some("42501"),
                "{role}: {sql}"
            );
        }
    }
    let (_, list, _) = hold(&strongroom, &["list"]).await;
    assert_eq!(list, Value::from(vec![placed]));
}

/// A case's number, and no prose; months, and in their order; an administrator.
#[tokio::test]
async fn what_is_no_hold_is_refused() {
    let strongroom = Strongroom::start().await;
    for (arguments, code) in [
        (&["add", "--from", "2025-03", "--reason", "the case of Mr. Smith"][..], 2),
        (&["add", "--from", "2025-3", "--reason", "CV-1"], 2),
        (&["add", "--reason", "CV-1"], 2),
        (&["add", "--from", "2025-03"], 2),
        (&["add", "--from", "2025-03", "--until", "2025-02", "--reason", "CV-1"], 1),
        (&["release", "first"], 2),
        (&["release"], 2),
    ] {
        let (exit, _, error) = hold(&strongroom, arguments).await;
        assert_eq!(exit, Some(code), "{arguments:?}: {error}");
        assert!(!error.contains("Smith") || code == 2, "{error}");
    }
    let password = strongroom.site().await.config.database.data.password_file.display().to_string();
    let role = ["--administrator", "strongroom_app", "--data-password-file", &password];
    let add = ["audit", "hold", "add", "--from", "2025-03", "--reason", "CV-1"];
    let (code, _, error) = strongroom.command(&[&add[..], &role].concat()).await;
    assert!(code == Some(1) && error.contains("may not act for strongroom_owner"), "{error}");
    assert_eq!(hold(&strongroom, &["list"]).await.1, Value::Array(vec![]));
    assert!(strongroom.entries_of("audit.hold").await.is_empty());
}
