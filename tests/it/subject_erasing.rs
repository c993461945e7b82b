//! What follows the approval of an erasure: whatever is killed on the way, and whoever writes at that moment.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::office::Office;
use crate::support::samples::{document, message};
use crate::support::{eventually, problem, request_id};

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

/// An approval and a write that both wait for the person do not wait for each other.
#[tokio::test]
async fn an_approval_and_a_write_do_not_stand_in_each_others_way() {
    let office = Office::open().await;
    let (clinic, alice) = (&office.clinic, &office.clinic.alice);
    let id = office.asked(alice).await;
    let (data, watcher) = (clinic.strongroom.data().await, clinic.strongroom.data().await);
    let count = async |sql: &str| watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let before = count(deadlocks).await;
    data.batch_execute("BEGIN").await.unwrap();
    let subject: uuid::Uuid = alice.parse().unwrap();
    data.execute("SELECT FROM subject WHERE subject_id = $1 FOR UPDATE", &[&subject]).await.unwrap();
    let (own, change) = (format!("/api/v1/patients/{alice}"), json!({ "fields": { "language": "en" } }));
    let write = async {
        eventually("the approval waits", async || count(waiting).await > 0).await;
        clinic.portal.patch(&own, "\"1\"", &change).await.status().as_u16()
    };
    let release = async {
        eventually("the write waits as well", async || count(waiting).await > 1).await;
        data.batch_execute("COMMIT").await.unwrap();
    };
    let (approved, written, ()) = tokio::join!(office.approve(alice, &id, &office.other), write, release);
    assert_eq!(approved.status(), 204);
    assert!([404, 412].contains(&written), "{written}");
    assert_eq!(count(deadlocks).await, before);
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

/// Rows of the data database: from whoever can write it, and nothing else.
const FORGED: &str = "INSERT INTO erasure (tenant_id, erasure_id, subject_id, reason, reference, requested_by, requester_sha256, \
         requested_at, lapses_at, root_key_id, request_mac, approved_by, approver_sha256, approved_at, approval_mac) \
         SELECT s.tenant_id, gen_random_uuid(), s.subject_id, 'unlawful', CASE n WHEN 1 THEN 'Mr. Smith' ELSE 'X-1' END, 'privacy-desk', \
                decode(repeat('01', 32), 'hex'), now() - interval '1 day', now() + interval '1 day', 1, \
                decode(repeat('02', 32), 'hex'), 'privacy-desk', decode(repeat('03', 32), 'hex'), now() - interval '1 hour', \
                CASE WHEN n < 3 THEN NULL ELSE decode(repeat('04', 32), 'hex') END \
         FROM subject s, generate_series(1, 40) n WHERE s.subject_id = $1";

/// A row alone erases nobody, and however many there are that cannot be gone on with, others are.
#[tokio::test]
async fn a_row_that_no_two_people_stand_behind_erases_nobody() {
    let office = Office::open().await;
    let (clinic, alice) = (&office.clinic, &office.clinic.alice);
    let bob: uuid::Uuid = clinic.bob.parse().unwrap();
    let data = clinic.strongroom.data().await;
    assert_eq!(data.execute(FORGED, &[&bob]).await.unwrap(), 40);
    data.execute("UPDATE subject SET state = 'erasing' WHERE subject_id = $1", &[&bob]).await.unwrap();
    // Somebody's own request, as if somebody else had asked.
    let id = office.asked(alice).await;
    let other = "UPDATE erasure SET requester_sha256 = decode(repeat('05', 32), 'hex') WHERE erasure_id = $1";
    data.execute(other, &[&id.parse::<uuid::Uuid>().unwrap()]).await.unwrap();
    for token in [&office.one, &office.other] {
        let answer = office.approve(alice, &id, token).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (500, "record_unreadable".into()));
        let entry = clinic.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "failed", "code": "record_unreadable" }));
        assert_eq!((&entry["act"], &entry["subj"]), (&json!("erasure.approve"), &json!(alice)));
    }
    assert_eq!(clinic.portal.get(&office.letter).await.status(), 200);
    // What two people stand behind comes to its end.
    office.begin().await;
    office.is("erased").await;
    assert_eq!(clinic.strongroom.entries_of("erasure.complete").await.len(), 1);
    let forged = "SELECT count(*) FROM erasure WHERE subject_id = $1 AND (confirmed_at IS NOT NULL OR erased_at IS NOT NULL)";
    assert_eq!(data.query_one(forged, &[&bob]).await.unwrap().get::<_, i64>(0), 0);
    clinic.strongroom.logs("that it is forged", |line| line.contains("erasure.not_approved")).await;
    let keys = clinic.strongroom.keys().await;
    let of_bob = "SELECT count(*) FROM subject_key WHERE owner = $1";
    assert!(keys.query_one(of_bob, &[&clinic.bob]).await.unwrap().get::<_, i64>(0) > 0);
}

/// Whoever watches hears of an erasure that does not come to its end, and when it has.
#[tokio::test]
async fn an_erasure_that_does_not_come_to_its_end_shows() {
    let office = Office::open().await;
    let (strongroom, keys) = (&office.clinic.strongroom, office.clinic.strongroom.keys().await);
    let operator = strongroom.client("operator").await;
    let overdue = async || operator.gauge("strongroom_erasures_overdue").await;
    keys.batch_execute("REVOKE EXECUTE ON FUNCTION destroy_subject_keys FROM strongroom_key_eraser")
        .await
        .unwrap();
    office.begin().await;
    strongroom.logs("that it does not go on", |line| line.contains("erasure.not_continued")).await;
    eventually("it is counted", async || overdue().await.is_some()).await;
    assert_eq!(overdue().await, Some(0), "it may take a while");
    // Ten minutes later.
    let age = "ALTER TABLE erasure DISABLE TRIGGER erasure_goes_on; \
               UPDATE erasure SET approved_at = approved_at - interval '10 minutes'; \
               ALTER TABLE erasure ENABLE ALWAYS TRIGGER erasure_goes_on";
    strongroom.data().await.batch_execute(age).await.unwrap();
    eventually("it is overdue", async || overdue().await == Some(1)).await;
    let ready = office.desk.get("/readyz").await.json::<Value>().await.unwrap();
    assert_eq!(ready["status"], "ready", "that is for people to see to");
    strongroom.logs("that it is overdue", |line| line.contains("erasures.overdue")).await;
    keys.batch_execute("GRANT EXECUTE ON FUNCTION destroy_subject_keys TO strongroom_key_eraser")
        .await
        .unwrap();
    office.is("erased").await;
    eventually("it is not overdue any more", async || overdue().await == Some(0)).await;
}

/// Neither who asks about one person nor who looks for what is unfinished reads through all that was ever erased.
#[tokio::test]
async fn what_was_erased_before_slows_nothing_down() {
    let office = Office::open().await;
    let data = office.clinic.strongroom.data().await;
    let many = "WITH others AS (INSERT INTO subject (tenant_id, subject_id, state) \
                    SELECT tenant_id, gen_random_uuid(), 'erased' FROM subject, generate_series(1, 5000) \
                    WHERE subject_id = $1 RETURNING *) \
                INSERT INTO erasure (tenant_id, erasure_id, subject_id, reason, reference, requested_by, requester_sha256, \
                    requested_at, lapses_at, root_key_id, request_mac, approved_by, approver_sha256, approved_at, confirmed_at, \
                    erased_at, certificate, approval_mac) \
                SELECT tenant_id, gen_random_uuid(), subject_id, 'unlawful', 'X-1', 'desk', decode(repeat('01', 32), 'hex'), \
                    now(), now() + interval '1 day', 1, decode(repeat('02', 32), 'hex'), 'desk', decode(repeat('03', 32), 'hex'), \
                    now(), now(), now(), 'a certificate', decode(repeat('04', 32), 'hex') FROM others";
    let alice: uuid::Uuid = office.clinic.alice.parse().unwrap();
    assert_eq!(data.execute(many, &[&alice]).await.unwrap(), 5_000);
    data.batch_execute("ANALYZE erasure; ANALYZE subject; SELECT pg_stat_force_next_flush()").await.unwrap();
    let scans = async || {
        let sql = "SELECT (SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'erasure'), \
                   (SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'erasure_of_subject'), \
                   (SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'erasure_unfinished')";
        let row = data.query_one(sql, &[]).await.unwrap();
        [row.get::<_, i64>(0), row.get(1), row.get(2)]
    };
    let before = scans().await;
    for _ in 0..20 {
        assert!(office.erasures().await.is_empty());
    }
    // A session tells what it has read within seconds.
    eventually("the scans are counted", async || {
        let now = scans().await;
        now[1] >= before[1] + 20 && now[2] > before[2]
    })
    .await;
    assert_eq!(scans().await[0], before[0], "nothing is read through");
}
