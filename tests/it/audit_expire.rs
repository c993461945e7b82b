//! Entries that have been kept for six years leave the exported files, when nobody holds them and the database has let go of them;
//! whoever verifies the rest sees that it was right.

use serde_json::{Value, json};

use crate::support::export::Exported;
use crate::support::log::id;
use crate::support::old_log::{OldMonth, fill_month};
use crate::support::samples::small_patient;
use crate::support::{
    ADMINISTRATOR, Client, Databases, ServiceOptions, Strongroom, eventually, fresh_databases, parts,
};

/// A log of two months that are older than six years, and of one that is older than one.
struct Stand {
    strongroom: Strongroom,
    old: [OldMonth; 3],
    operator: Client,
}

impl Stand {
    async fn start() -> Self {
        let databases = fresh_databases().await;
        let old = [
            fill_month(&databases, 75, 590, 10).await,
            fill_month(&databases, 74, 495, 5).await,
            fill_month(&databases, 14, 395, 5).await,
        ];
        let on = Databases { data: databases.data.clone(), keys: databases.keys.clone() };
        let settings = vec![("STRONGROOM__AUDIT__REVIEW__ENTRIES_PER_SECOND".to_owned(), "5000".to_owned())];
        let options = ServiceOptions { databases: Some(on), settings, ..ServiceOptions::default() };
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let operator = strongroom.client("operator").await;
        // So many that the bundles of the old months are whole.
        let path = format!("/api/v1/patients/{}", portal.create_patient(small_patient()).await);
        for answer in futures_util::future::join_all((0..300).map(|_| portal.get(&path))).await {
            assert_eq!(answer.status(), 200);
        }
        let stand = Self { strongroom, old, operator };
        stand.exports(1_800).await;
        stand
    }

    async fn exports(&self, entries: usize) {
        eventually("the files have them", async || {
            let metrics = self.operator.get("/metrics").await.text().await.unwrap();
            let line =
                metrics.lines().find_map(|line| line.strip_prefix("strongroom_audit_exported_entries "));
            line.is_some_and(|count| count.parse::<usize>().unwrap() >= entries)
        })
        .await;
    }

    /// Exit code, what was said, and of a failure why.
    async fn audit(&self, arguments: &[&str]) -> (Option<i32>, Value, String) {
        let password = parts().text("/data/password_file");
        let administrator = ["--administrator", ADMINISTRATOR, "--data-password-file", password, "--json"];
        let arguments = [&["audit"][..], arguments, &administrator].concat();
        let (code, out, error) = self.strongroom.command(&arguments).await;
        (code, serde_json::from_str(&out).unwrap_or_default(), error)
    }

    async fn expire(&self, more: &[&str]) -> Value {
        let (code, told, error) = self.audit(&[&["expire"][..], more].concat()).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        told
    }

    fn has(&self, path: &str) -> bool {
        self.strongroom.log_directory().join(path).exists()
    }

    async fn removes_and_says_so(&self) {
        let told = self.expire(&[]).await;
        assert_eq!(of(&told), (&json!("expired"), &json!(0), &json!(768), &json!(6)));
        for (path, is_there) in [
            ("tile/entries/000", false),
            ("tile/entries/002", false),
            ("tile/0/002", false),
            ("tile/entries/003", true),
            ("tile/0/003", true),
        ] {
            assert_eq!(self.has(path), is_there, "{path}");
        }
        let entry = self.strongroom.entries_of("audit.expire").await.remove(0);
        let object = &entry["obj"][0];
        assert_eq!((&object["first"], &object["end"]), (&json!(0), &json!(768)));
        assert_eq!(object["by"], ADMINISTRATOR);
    }

    /// Who needs nothing else to see that it was right, and that nothing more went.
    async fn holds_for_an_auditor(&self) {
        let exported = Exported::of(&self.strongroom).await;
        let report = exported.verify();
        assert_eq!(report["start"], 768, "{report}");
        let note = report["notes"][0].as_str().unwrap();
        assert!(note.starts_with("entries 0 to 767 are gone"), "{note}");
        let log = exported.log.to_str().unwrap();
        let (code, report, _) =
            exported.run(&["verify", log, "--keys", "keys", "--kept-years", "7", "--json"]);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((code, &report["findings"][0]["kind"]), (3, &json!("entries_missing")), "{report}");
    }
}

fn of(told: &Value) -> (&Value, &Value, &Value, &Value) {
    (&told["state"], &told["first"], &told["minimum_index"], &told["files"])
}

#[tokio::test]
async fn what_was_kept_for_six_years_goes_and_the_log_holds() {
    let stand = Stand::start().await;
    let nothing = json!("may_go");
    // The database has all of it still.
    let told = stand.expire(&["--dry-run"]).await;
    assert_eq!(of(&told), (&nothing, &json!(0), &json!(0), &json!(0)));
    assert_eq!(stand.audit(&["prune"]).await.0, Some(0));
    // Somebody holds the second month, and then the first as well.
    let (_, second, _) =
        stand.audit(&["hold", "add", "--from", &stand.old[1].name, "--reason", "CV-1"]).await;
    let told = stand.expire(&["--dry-run"]).await;
    assert_eq!(
        of(&told),
        (&nothing, &json!(0), &json!(256), &json!(2)),
        "600 entries are two bundles and more"
    );
    let (_, first, _) = stand
        .audit(&[
            "hold",
            "add",
            "--from",
            &stand.old[0].name,
            "--until",
            &stand.old[0].name,
            "--reason",
            "CV-2",
        ])
        .await;
    assert_eq!(stand.expire(&["--dry-run"]).await["files"], 0);
    for hold in [first, second] {
        assert_eq!(stand.audit(&["hold", "release", hold["hold"].as_str().unwrap()]).await.0, Some(0));
    }
    // So does whoever holds what is kept of a person for their entries, of whom one is in the third bundle.
    let data = stand.strongroom.data().await;
    let (tenant, person) = (id(0xa), id(550));
    data.execute("INSERT INTO subject (tenant_id, subject_id) VALUES ($1, $2)", &[&tenant, &person])
        .await
        .unwrap();
    let place = "INSERT INTO subject_hold (tenant_id, subject_id, hold_id, reason, reference, placed_by, placed_at) \
                 VALUES ($1, $2, gen_random_uuid(), 'litigation', 'CV-3', 'privacy-desk', now())";
    data.execute(place, &[&tenant, &person]).await.unwrap();
    let told = stand.expire(&["--dry-run"]).await;
    assert_eq!(of(&told), (&nothing, &json!(0), &json!(256), &json!(2)));
    data.execute("UPDATE subject_hold SET released_at = now(), released_by = 'privacy-desk'", &[])
        .await
        .unwrap();
    // 1,100 entries are four bundles and more, of which the last whole one stays.
    let told = stand.expire(&["--dry-run"]).await;
    assert_eq!(of(&told), (&nothing, &json!(0), &json!(768), &json!(6)));
    assert!(stand.has("tile/entries/000"), "nothing was removed");
    assert_eq!(stand.strongroom.entries_of("audit.expire").await.len(), 0);
    stand.removes_and_says_so().await;
    stand.holds_for_an_auditor().await;
    // Again nothing is old enough.
    let told = stand.expire(&[]).await;
    assert_eq!(of(&told), (&json!("expired"), &json!(768), &json!(768), &json!(0)));
    let entries = stand.strongroom.entries_of("audit.expire").await;
    assert_eq!(entries.len(), 1, "nothing was done, so nothing is said");
}

#[tokio::test]
async fn files_that_do_not_hold_stay_as_they_are() {
    let stand = Stand::start().await;
    assert_eq!(stand.audit(&["prune"]).await.0, Some(0));
    let path = stand.strongroom.log_directory().join("tile/entries/001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[300] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let (code, _, _) = stand.audit(&["expire"]).await;
    assert_eq!(code, Some(3));
    assert!(stand.has("tile/entries/000"));
    assert_eq!(stand.strongroom.entries_of("audit.expire").await.len(), 0);
}
