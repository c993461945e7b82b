//! A month that may not go stays, and the operator is told why and what to do: nothing of it has changed then.

use serde_json::Value;

use crate::audit_prune::{Stand, prune_arguments};
use crate::support::old_log::write_late;
use crate::support::{ADMINISTRATOR, eventually, parts};

impl Stand {
    /// The first month stays for this reason, which says more.
    async fn refused(&self, more: &[&str], code: &str) -> Value {
        let (exit, report, error) = self.prune(more).await;
        assert_eq!((exit, error.as_str()), (Some(3), ""), "{report}");
        let month = report["months"][0].clone();
        assert_eq!(
            (&month["state"], &month["code"]),
            (&Value::from("stays"), &Value::from(code)),
            "{report}"
        );
        assert!(!month["why"].as_str().unwrap().is_empty() && !month["advice"].as_str().unwrap().is_empty());
        assert_eq!(self.tables().await.len(), 9);
        month
    }
}

/// Too few entries came after it for its last bundle to be whole; or one of its own came late.
#[tokio::test]
async fn a_month_stays_until_whole_bundles_of_the_files_have_it() {
    let mut stand = Stand::start().await;
    stand.exports(1_200).await;
    // The first month's bundles are whole by now; the last one of the second is not.
    let (exit, report, _) = stand.prune(&["--dry-run"]).await;
    let codes: Vec<&Value> =
        report["months"].as_array().unwrap().iter().map(|month| &month["code"]).collect();
    assert_eq!((exit, codes), (Some(3), vec![&Value::Null, &Value::from("export_behind")]));

    stand.fill().await;
    // An entry of long ago is committed now, while nobody numbers.
    stand.strongroom.kill();
    write_late(&stand.strongroom.databases, &stand.old[0]).await;
    stand.refused(&[], "entries_unnumbered").await;
    stand.strongroom.restart().await;
    let late = "SELECT max(idx) FROM audit_index WHERE entry_id < (SELECT audit_first_id(to_date($1, 'YYYY-MM') + interval '1 month'))";
    let late =
        async || stand.superuser.query_one(late, &[&stand.old[0].name]).await.unwrap().get::<_, i64>(0);
    eventually("it has its number", async || late().await > 1_300).await;
    stand.refused(&[], "export_behind").await;
    // Once its bundle is whole, the month goes, and what stays beside it is proven as before.
    stand.read(300).await;
    stand.exports(usize::try_from(late().await).unwrap() + 256).await;
    let (exit, report, error) = stand.prune(&[]).await;
    assert_eq!((exit, error.as_str()), (Some(0), ""), "{report}");
    assert_eq!(report["months"][0]["entries"], stand.old[0].entries + 1);
    stand.stays_quiet().await;
    stand.strongroom.kill_and_restart().await;
    stand.read(5).await;
    stand.stays_quiet().await;
}

/// A byte of any file that it takes, a file that is gone, a checkpoint that the log's key did not sign, and no files at all.
#[tokio::test]
async fn a_month_stays_where_the_files_are_not_what_was_signed() {
    let stand = Stand::start().await;
    stand.fill().await;
    let log = stand.strongroom.log_directory();
    let around = async |name: &str, change: &dyn Fn(&mut Vec<u8>), code: &str| -> Value {
        let path = log.join(name);
        let before = std::fs::read(&path).unwrap();
        let mut bytes = before.clone();
        change(&mut bytes);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let refused = stand.refused(&["--through", &stand.old[0].name], code).await;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &before).unwrap();
        refused
    };
    for (name, place) in [("tile/entries/001", 4_321), ("tile/0/002", 77), ("tile/entries/002", 0)] {
        let refused = around(name, &|bytes| bytes[place] ^= 1, "export_differs").await;
        assert!(refused["why"].as_str().unwrap().contains(name), "{refused}");
    }
    around("tile/entries/000", &|bytes| bytes.truncate(1_000), "export_differs").await;
    let gone = log.join("tile/entries/001");
    std::fs::rename(&gone, log.join("aside")).unwrap();
    stand.refused(&[], "export_differs").await;
    std::fs::rename(log.join("aside"), &gone).unwrap();

    stand.strongroom.kill();
    let checkpoint = log.join("checkpoint");
    let before = std::fs::read(&checkpoint).unwrap();
    let text = String::from_utf8(before.clone()).unwrap();
    let size = text.lines().nth(1).unwrap();
    std::fs::write(&checkpoint, text.replacen(size, "1300", 1)).unwrap();
    stand.refused(&[], "export_distrusted").await;
    std::fs::remove_file(&checkpoint).unwrap();
    stand.refused(&[], "not_exported").await;
    std::fs::write(&checkpoint, before).unwrap();
    let (exit, report, _) = stand.prune(&["--dry-run"]).await;
    assert_eq!(exit, Some(0), "{report}");
}

/// Somebody changed an entry in the database: it is kept as it is, for whoever investigates.
#[tokio::test]
async fn a_month_stays_where_the_database_is_not_what_was_signed() {
    let stand = Stand::start().await;
    stand.fill().await;
    let change = "BEGIN; SET LOCAL strongroom.audit_migration = 'yes'; \
        ALTER TABLE audit_entry DISABLE TRIGGER USER; \
        UPDATE audit_entry SET entry = overlay(entry placing '\\x41'::bytea from 20 for 1) WHERE entry_id = \
            (SELECT entry_id FROM audit_index WHERE idx = 300); \
        ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_refuse_statement; \
        ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_refuse_row; COMMIT";
    stand.superuser.batch_execute(change).await.unwrap();
    let refused = stand.refused(&[], "database_differs").await;
    assert!(refused["why"].as_str().unwrap().contains("entry 300 "), "{refused}");
}

#[tokio::test]
async fn a_month_stays_while_it_is_young_or_held() {
    let stand = Stand::start().await;
    stand.fill().await;
    let young = stand.refused(&["--through", &stand.old[2].name], "month_too_young").await;
    assert_eq!(young["month"], stand.old[2].name);
    stand.refused(&["--through", "2001-01"], "month_unknown").await;

    let password = parts().text("/data/password_file");
    let administrator = ["--administrator", ADMINISTRATOR, "--data-password-file", password, "--json"];
    let add = [
        "audit",
        "hold",
        "add",
        "--from",
        &stand.old[0].name,
        "--until",
        &stand.old[0].name,
        "--reason",
        "CV-2026/117",
    ];
    let (code, out, error) = stand.strongroom.command(&[&add[..], &administrator].concat()).await;
    assert_eq!(code, Some(0), "{error}");
    let placed: Value = serde_json::from_str(&out).unwrap();
    let hold = placed["hold"].as_str().unwrap();
    let refused = stand.refused(&[], "month_held").await;
    assert!(
        refused["why"].as_str().unwrap().contains(hold)
            && refused["why"].as_str().unwrap().contains("CV-2026/117")
    );
    let (code, _, error) =
        stand.strongroom.command(&[&["audit", "hold", "release", hold][..], &administrator].concat()).await;
    assert_eq!(code, Some(0), "{error}");
    let (code, report, error) = stand.prune(&[]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{report}");
    assert_eq!(stand.tables().await.len(), 3);
    stand.stays_quiet().await;
}

/// Neither a stranger nor one of the service's own roles.
#[tokio::test]
async fn only_who_may_act_for_the_owner_prunes() {
    let stand = Stand::start().await;
    let app = stand.strongroom.site().await.config.database.data.password_file.display().to_string();
    let sequencer = app.replace("data.password", "sequencer.password");
    for (role, file, said) in [
        (ADMINISTRATOR, app.as_str(), "the password does not fit"),
        ("strongroom_app", app.as_str(), "may not act for strongroom_owner"),
        ("strongroom_sequencer", sequencer.as_str(), "may not act for strongroom_owner"),
        (ADMINISTRATOR, "/no/such/file", "password file"),
    ] {
        let (code, _, error) = stand.prune_as(role, file, &[]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains(said), "{role}: {error}");
    }
    for wrong in [&["--through", "2025-13"][..], &["--through", "yesterday"], &["--month", "2025-01"]] {
        let (code, _, _) = stand.prune(wrong).await;
        assert_eq!(code, Some(2), "{wrong:?}");
    }
    let without: Vec<&str> = prune_arguments(ADMINISTRATOR, "x")
        .into_iter()
        .filter(|word| !["x", "--data-password-file"].contains(word))
        .collect();
    assert_eq!(stand.strongroom.command(&without).await.0, Some(2));
    assert_eq!(stand.tables().await.len(), 9);
}
