//! Rotation of a tenant key whatever is killed, held or changed on the way, and on several instances.

use serde_json::{Value, json};

use crate::support::custody::{Custody, ROTATIONS};
use crate::support::{eventually, problem};

/// Keys of the second half are not to be had yet.
const STOP_HALFWAY: &str = "CREATE FUNCTION public.stop_here() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'not yet'; END $$; \
         CREATE TRIGGER stop_here BEFORE UPDATE ON subject_key FOR EACH ROW \
         WHEN (OLD.owner > '{middle}') EXECUTE FUNCTION public.stop_here(); \
         ALTER TABLE subject_key ENABLE ALWAYS TRIGGER stop_here";
const GO_ON: &str = "DROP TRIGGER stop_here ON subject_key; DROP FUNCTION public.stop_here";

#[tokio::test]
async fn a_rotation_goes_on_whatever_is_killed_between_its_steps() {
    let mut custody = Custody::open().await;
    let mut ids = custody.patients(2_000).await;
    ids.sort();
    let keys = custody.strongroom.keys().await;
    // The key database refuses to put the new key in force: asked for, and no further.
    let function = "FUNCTION replace_tenant_key";
    keys.batch_execute(&format!("REVOKE EXECUTE ON {function} FROM strongroom_key_rotator")).await.unwrap();
    let id = custody.rotate("phi").await;
    custody.strongroom.logs("that it does not go on", |line| line.contains("rotation.not_continued")).await;
    assert_eq!(custody.rotation(&id).await["state"], "requested");
    custody.strongroom.kill_and_restart().await;
    keys.batch_execute(&STOP_HALFWAY.replace("{middle}", &ids[1_000])).await.unwrap();
    keys.batch_execute(&format!("GRANT EXECUTE ON {function} TO strongroom_key_rotator")).await.unwrap();
    // Half of it is done: killed there, everything opens, and new people come under the new key.
    eventually("half of it is done", async || {
        let found = custody.rotation(&id).await;
        found["state"] == "rewrapping" && found["rewrapped"].as_u64().is_some_and(|keys| keys > 500)
    })
    .await;
    custody.strongroom.kill_and_restart().await;
    let found = custody.rotation(&id).await;
    let (rewrapped, left) = (found["rewrapped"].as_u64().unwrap(), found["left"].as_u64().unwrap());
    assert_eq!(rewrapped + left, 2_000, "{found}");
    assert!(left >= 999, "{found}");
    custody.all_open(&ids).await;
    ids.extend(custody.patients(5).await);
    assert_eq!(problem(custody.approve(&custody.bob, &id).await).await, (409, "key_in_use".into()));
    keys.batch_execute(GO_ON).await.unwrap();
    custody.is(&id, "rewrapped").await;
    assert_eq!(custody.rotation(&id).await["rewrapped"], json!(2_000));
    // The end is approved, and the database refuses it: killed there, it goes on.
    let function = "FUNCTION destroy_tenant_key";
    keys.batch_execute(&format!("REVOKE EXECUTE ON {function} FROM strongroom_key_rotator")).await.unwrap();
    custody.pass(14).await;
    assert_eq!(custody.approve(&custody.bob, &id).await.status(), 204);
    custody
        .strongroom
        .logs("that it was not destroyed", |line| line.contains("rotation.key_not_destroyed"))
        .await;
    assert_eq!(custody.rotation(&id).await["state"], "destroying");
    custody.strongroom.kill_and_restart().await;
    keys.batch_execute(&format!("GRANT EXECUTE ON {function} TO strongroom_key_rotator")).await.unwrap();
    custody.is(&id, "destroyed").await;
    assert_eq!(custody.stored("phi").await, [(2, "active".into(), 2_005)]);
    custody.all_open(&ids).await;
    for act in ["key.create", "key.rewrap", "key.destroy"] {
        assert_eq!(custody.strongroom.entries_of(act).await.len(), 1, "{act}");
    }
}

/// The other instance has the old key in memory as the one in force, and keys that it opened: it makes new ones under the new
/// key at once, and goes on opening, before and after the old key is gone.
#[tokio::test]
async fn another_instance_opens_throughout_and_makes_nothing_under_the_old_key() {
    let custody = Custody::open().await;
    let mut ids = custody.patients(40).await;
    let second = custody.second().await;
    ids.extend(second.patients(3).await);
    second.all_open(&ids).await;
    let id = custody.rotate("phi").await;
    custody.is(&id, "rewrapped").await;
    ids.extend(second.patients(3).await);
    assert_eq!(custody.stored("phi").await, [(1, "retired".into(), 0), (2, "active".into(), 46)]);
    custody.all_open(&ids).await;
    second.all_open(&ids).await;
    custody.complete(&id).await;
    second.all_open(&ids).await;
    custody.all_open(&ids).await;
    let third = custody.second().await;
    third.all_open(&ids).await;
    ids.extend(third.patients(1).await);
    assert_eq!(custody.stored("phi").await, [(2, "active".into(), 47)]);
}

/// A wrapping that somebody changed is not wrapped again, and keeps the old key; the rest is done, and it is told.
#[tokio::test]
async fn a_key_that_does_not_open_keeps_the_old_one_and_is_told() {
    let custody = Custody::open().await;
    let ids = custody.patients(300).await;
    let keys = custody.strongroom.keys().await;
    let turn = |id: &str| {
        format!(
            "UPDATE subject_key SET wrapped = set_byte(wrapped, 7, get_byte(wrapped, 7) # 1) \
             WHERE owner = '{id}' AND class = 'phi'"
        )
    };
    keys.batch_execute(&turn(&ids[7])).await.unwrap();
    let id = custody.rotate("phi").await;
    eventually("the others are done", async || custody.rotation(&id).await["rewrapped"] == 299).await;
    custody.strongroom.logs("that one is left", |line| line.contains("rotation.keys_left")).await;
    assert_eq!(custody.rotation(&id).await["state"], "rewrapping");
    assert_eq!(problem(custody.approve(&custody.bob, &id).await).await, (409, "key_in_use".into()));
    custody.pass(1).await;
    let operator = custody.strongroom.client("operator").await;
    let alarms = async || {
        let ready: Value = operator.get("/readyz").await.json().await.unwrap();
        let alarms = ready["alarms"].as_array().unwrap().clone();
        alarms.iter().any(|one| one["alarm"] == "rotation_stalled")
    };
    eventually("it is told that it stands still", alarms).await;
    let metrics = operator.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("strongroom_key_rotations_open 1"), "{metrics}");
    assert!(metrics.contains("strongroom_keys_rewrapped_total 299"), "{metrics}");
    // Put right, it goes on by itself, and the alarm ends.
    keys.batch_execute(&turn(&ids[7])).await.unwrap();
    custody.is(&id, "rewrapped").await;
    eventually("the alarm is over", async || !alarms().await).await;
    custody.all_open(&ids).await;
    assert_eq!(custody.alice.get(ROTATIONS).await.status(), 200);
}

/// A person who is erased while their key is about to be wrapped again stays erased, and a key that somebody holds is not
/// forgotten.
#[tokio::test]
async fn a_key_that_is_destroyed_or_held_meanwhile_is_neither_brought_back_nor_lost() {
    let custody = Custody::open().await;
    let ids = custody.patients(20).await;
    let keys = custody.strongroom.keys().await;
    keys.batch_execute("BEGIN").await.unwrap();
    keys.execute("SELECT FROM subject_key WHERE owner = $1 FOR UPDATE", &[&ids[3]]).await.unwrap();
    let id = custody.rotate("phi").await;
    eventually("the others are done", async || custody.rotation(&id).await["left"] == 1).await;
    assert_eq!(custody.rotation(&id).await["rewrapped"], 19);
    let sql = "SELECT destroy_subject_keys($1, $2, '{}')";
    let tenant = custody.strongroom.tenant(crate::support::NORTH);
    keys.execute(sql, &[&tenant, &ids[3]]).await.unwrap();
    keys.batch_execute("COMMIT").await.unwrap();
    custody.is(&id, "rewrapped").await;
    assert_eq!(custody.stored("phi").await, [(1, "retired".into(), 0), (2, "active".into(), 19)]);
    let count = "SELECT count(*) FROM subject_key WHERE owner = $1";
    assert_eq!(keys.query_one(count, &[&ids[3]]).await.unwrap().get::<_, i64>(0), 0);
}
