//! What follows the approval of an erasure: whatever is killed on the way, and whoever writes at that moment.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::office::Office;
use crate::support::samples::{document, message};
use crate::support::{eventually, problem};

/// The end of an erasure cannot be stored.
const STOP_HERE: &str = "CREATE FUNCTION public.stop_here() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'not yet'; END $$; \
         CREATE TRIGGER stop_here BEFORE UPDATE OF erased_at ON erasure FOR EACH ROW EXECUTE FUNCTION public.stop_here(); \
         ALTER TABLE erasure ENABLE ALWAYS TRIGGER stop_here";

/// A key that was on its way while the first pass was made.
const LATE_KEY: &str = "INSERT INTO subject_key (tenant_id, owner, scope, class, key_id, tenant_key_id, header, wrapped) \
         SELECT t.tenant_id, t.owner, 'subject', 'phi', 9, k.key_id, decode(repeat('00', 66), 'hex'), \
                decode(repeat('00', 48), 'hex') \
         FROM tombstone t JOIN tenant_key k ON k.tenant_id = t.tenant_id AND k.class = 'phi' AND k.purpose = 'seal' \
         WHERE t.scope = 'subject'";

#[tokio::test]
async fn an_erasure_goes_on_whatever_is_killed_between_its_steps() {
    let mut office = Office::open().await;
    let keys = office.clinic.strongroom.keys().await;
    let data = office.clinic.strongroom.data().await;
    let one = async |sql: &str| data.query_one(sql, &[]).await.unwrap().get::<_, bool>(0);
    // The key database refuses: approved, and no further; but nothing opens, before and after the service was killed.
    keys.batch_execute("REVOKE EXECUTE ON FUNCTION destroy_subject_keys FROM strongroom_key_eraser")
        .await
        .unwrap();
    office.begin().await;
    office
        .clinic
        .strongroom
        .logs("that keys were not destroyed", |line| line.contains("erasure.keys_not_destroyed"))
        .await;
    office.check_unavailable().await;
    office.clinic.strongroom.kill_and_restart().await;
    office.clinic.strongroom.wait_until_ready().await;
    office.check_unavailable().await;
    assert_eq!(office.erasures().await[0]["state"], "erasing");
    assert!(office.keys().await.0 > 0 && one("SELECT confirmed_at IS NULL FROM erasure").await);
    // The first pass is done, the second is not due: killed there, it goes on.
    data.batch_execute(STOP_HERE).await.unwrap();
    keys.batch_execute("GRANT EXECUTE ON FUNCTION destroy_subject_keys TO strongroom_key_eraser")
        .await
        .unwrap();
    eventually("the first pass is confirmed", async || {
        one("SELECT confirmed_at IS NOT NULL FROM erasure").await
    })
    .await;
    assert_eq!(office.keys().await, (0, 2));
    office.clinic.strongroom.kill_and_restart().await;
    office.clinic.strongroom.wait_until_ready().await;
    office.check_unavailable().await;
    // A key that was on its way is gone after the second pass. The end cannot be stored: killed there, it goes on.
    keys.batch_execute(LATE_KEY).await.unwrap();
    eventually("the second pass is done", async || office.keys().await == (0, 2)).await;
    office
        .clinic
        .strongroom
        .logs("that it was not finished", |line| line.contains("erasure.not_continued"))
        .await;
    assert_eq!(office.erasures().await[0]["state"], "erasing");
    office.clinic.strongroom.kill_and_restart().await;
    office.clinic.strongroom.wait_until_ready().await;
    data.batch_execute("DROP TRIGGER stop_here ON erasure; DROP FUNCTION public.stop_here").await.unwrap();
    office.is("erased").await;
    assert!(office.erasures().await[0]["certificate"].is_string());
    assert_eq!(office.clinic.strongroom.entries_of("erasure.complete").await.len(), 1);
    office.check_unavailable().await;
}

/// Whoever writes at the time of an approval is through before it, or is refused; nothing is written after its answer.
#[tokio::test]
async fn no_write_happens_after_the_answer_to_an_approval() {
    let office = Office::open().await;
    let (clinic, alice) = (&office.clinic, &office.clinic.alice);
    let data = clinic.strongroom.data().await;
    let count = async || {
        let sql = "SELECT count(*), sum(version)::bigint FROM record WHERE subject_id = $1";
        let row = data.query_one(sql, &[&alice.parse::<uuid::Uuid>().unwrap()]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    let id = office.asked(alice).await;
    let body = message(alice);
    let change = json!({ "fields": { "read": true } });
    let writes = (0..16).map(async |number| {
        if number % 4 == 0 {
            clinic.portal.patch(&office.letter, "\"1\"", &change).await.status().as_u16()
        } else {
            clinic.portal.post("/api/v1/messages", &body).await.status().as_u16()
        }
    });
    let (early, stored) = tokio::join!(futures_util::future::join_all(writes), async {
        assert_eq!(office.approve(alice, &id, &office.other).await.status(), 204);
        let stored = count().await;
        office.check_unavailable().await;
        stored
    });
    assert!(early.iter().all(|status| [200, 201, 404, 412, 422].contains(status)), "{early:?}");
    assert_eq!(count().await, stored, "nothing was stored after the approval");

    // One that is under way when it comes is waited for.
    let id = {
        let answer = office.ask(&clinic.bob, &office.one).await;
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let bob: uuid::Uuid = clinic.bob.parse().unwrap();
    data.batch_execute("BEGIN").await.unwrap();
    data.execute("SELECT FROM subject WHERE subject_id = $1 FOR KEY SHARE", &[&bob]).await.unwrap();
    let watcher = clinic.strongroom.data().await;
    let (answer, ()) = tokio::join!(office.approve(&clinic.bob, &id, &office.other), async {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the approval waits", async || {
            watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
        data.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(answer.status(), 204);
}

#[tokio::test]
async fn an_upload_under_way_ends_with_the_person() {
    let office = Office::open().await;
    let (clinic, alice) = (&office.clinic, &office.clinic.alice);
    let portal = clinic.portal.with_purpose("TREAT");
    let made = portal.create("documents", &document(alice)).await;
    let path = format!("/api/v1/documents/{}/files/content", made["id"].as_str().unwrap());
    let bytes = vec![7_u8; 65_536 * 3];
    let upload = portal.start_upload(&path, bytes.len()).await;
    assert_eq!(portal.append(&upload, 0, bytes[..65_536].to_vec()).await.status(), 204);
    let data = clinic.strongroom.data().await;
    let parts =
        async || data.query_one("SELECT count(*) FROM file_part", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(parts().await, 2);
    office.begin().await;
    for answer in [portal.append(&upload, 65_536, bytes[65_536..].to_vec()).await, portal.get(&path).await] {
        assert_eq!(answer.status(), 404);
    }
    assert_eq!(parts().await, 2);
    let again = portal.request(Method::POST, &path).header("upload-length", "9").send().await.unwrap();
    assert_eq!(problem(again).await, (404, "record_not_found".into()));
}
