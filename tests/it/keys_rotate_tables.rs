//! What the databases see to when a tenant key is replaced, whatever the service's logins would do.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::support::custody::Custody;
use crate::support::{NORTH, eventually};

const ACTIVE: i64 = 2;

/// One person more under a tenant key, as a login that has the rights of the service would have it.
async fn insert(client: &Client, tenant: Uuid, owner: &str, tenant_key: i64) -> Result<u64, String> {
    let sql = "INSERT INTO subject_key (tenant_id, owner, scope, class, key_id, tenant_key_id, header, wrapped) \
               VALUES ($1, $2, 'subject', 'phi', 1, $3, $4, $5)";
    let bytes = (vec![1_u8; 66], vec![2_u8; 48]);
    let inserted = client.execute(sql, &[&tenant, &owner, &tenant_key, &bytes.0, &bytes.1]).await;
    inserted.map_err(|error| error.code().unwrap().code().to_owned())
}

async fn replace(client: &Client, tenant: Uuid, from: i64, to: i64) -> Result<bool, String> {
    let sql = "SELECT replace_tenant_key($1, 'phi', $2, $3, 'vault:v1:eA==')";
    let replaced = client.query_one(sql, &[&tenant, &from, &to]).await;
    replaced.map(|row| row.get(0)).map_err(|error| error.code().unwrap().code().to_owned())
}

async fn as_role(custody: &Custody, role: &str) -> Client {
    let client = custody.strongroom.keys().await;
    client.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
    client
}

/// The new header of a key under the tenant key of this number, as far as the database looks at it.
fn header(tenant_key: i64) -> Vec<u8> {
    let mut header = vec![9_u8; 66];
    header[2..10].copy_from_slice(&tenant_key.to_be_bytes());
    header
}

#[tokio::test]
async fn nothing_new_comes_under_a_retired_key() {
    let custody = Custody::open().await;
    custody.patients(2).await;
    let tenant = custody.strongroom.tenant(NORTH);
    let service = as_role(&custody, "strongroom_keys").await;
    let rotator = as_role(&custody, "strongroom_key_rotator").await;
    // One that is on its way is waited for, and then counts; for a second, and then the key stays in force.
    service.batch_execute("BEGIN").await.unwrap();
    insert(&service, tenant, "late", 1).await.unwrap();
    assert_eq!(replace(&rotator, tenant, 1, ACTIVE).await, Err("55P03".to_owned()));
    assert_eq!(custody.stored("phi").await, [(1, "active".into(), 2)]);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let watcher = custody.strongroom.keys().await;
    let are_waiting = async || watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0;
    assert!(!are_waiting().await);
    let (replaced, ()) = tokio::join!(replace(&rotator, tenant, 1, ACTIVE), async {
        eventually("it waits", are_waiting).await;
        service.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(replaced, Ok(true));
    assert_eq!(custody.stored("phi").await, [(1, "retired".into(), 3), (2, "active".into(), 0)]);
    // From here on none.
    assert_eq!(insert(&service, tenant, "stale", 1).await, Err("40001".to_owned()));
    assert_eq!(insert(&service, tenant, "unknown", 7).await, Err("40001".to_owned()));
    assert_eq!(insert(&service, tenant, "new", ACTIVE).await, Ok(1));
    // Again changes nothing, and what is not in force is not replaced.
    assert_eq!(replace(&rotator, tenant, 1, ACTIVE).await, Ok(true));
    assert_eq!(replace(&rotator, tenant, 1, 3).await, Ok(false));
    assert_eq!(replace(&rotator, tenant, 9, 10).await, Ok(false));
}

#[tokio::test]
async fn a_wrapping_takes_the_place_of_the_one_that_was_read_and_of_no_other() {
    let custody = Custody::open().await;
    let ids = custody.patients(4).await;
    let tenant = custody.strongroom.tenant(NORTH);
    let rotator = as_role(&custody, "strongroom_key_rotator").await;
    let superuser = custody.strongroom.keys().await;
    let read = async |owner: &str| {
        let sql = "SELECT header, wrapped FROM subject_key WHERE owner = $1 AND class = 'phi'";
        let row = superuser.query_one(sql, &[&owner]).await.unwrap();
        (row.get::<_, Vec<u8>>(0), row.get::<_, Vec<u8>>(1))
    };
    let rewrap = async |owner: &str, (from, to): (i64, i64), old: (Vec<u8>, Vec<u8>), new: Vec<u8>| {
        let sql = "SELECT rewrap_subject_keys($1, 'phi', $2, $3, $4, '{1}', $5, $6, $7, $8)";
        let (owners, wrapped) = (vec![owner], vec![vec![3_u8; 48]]);
        let (old_headers, old_wraps, headers) = (vec![old.0], vec![old.1], vec![new]);
        let parameters: [&(dyn ToSql + Sync); 8] =
            [&tenant, &from, &to, &owners, &old_headers, &old_wraps, &headers, &wrapped];
        let done = rotator.query_one(sql, &parameters).await;
        done.map(|row| row.get::<_, i64>(0)).map_err(|error| error.code().unwrap().code().to_owned())
    };
    let refused = Err("23001".to_owned());
    let first = read(&ids[0]).await;
    // Not before the old key is retired, not to another key than the one in force, and not under a header of another key.
    assert_eq!(rewrap(&ids[0], (1, ACTIVE), first.clone(), header(ACTIVE)).await, refused);
    assert_eq!(replace(&rotator, tenant, 1, ACTIVE).await, Ok(true));
    assert_eq!(rewrap(&ids[0], (ACTIVE, 1), first.clone(), header(1)).await, refused);
    assert_eq!(rewrap(&ids[0], (1, 3), first.clone(), header(3)).await, refused);
    assert_eq!(rewrap(&ids[0], (1, ACTIVE), first.clone(), header(1)).await, refused);
    assert_eq!(rewrap(&ids[0], (1, ACTIVE), first.clone(), vec![9; 66]).await, refused);
    assert_eq!(read(&ids[0]).await, first);
    // What is not what was read stays.
    let mut other = first.clone();
    other.1[0] ^= 1;
    assert_eq!(rewrap(&ids[0], (1, ACTIVE), other, header(ACTIVE)).await, Ok(0));
    assert_eq!(rewrap(&ids[1], (1, ACTIVE), first.clone(), header(ACTIVE)).await, Ok(0));
    assert_eq!(read(&ids[0]).await, first);
    // What was is done once.
    assert_eq!(rewrap(&ids[0], (1, ACTIVE), first.clone(), header(ACTIVE)).await, Ok(1));
    assert_eq!(rewrap(&ids[0], (1, ACTIVE), first, header(ACTIVE)).await, Ok(0));
    assert_eq!(read(&ids[0]).await, (header(ACTIVE), vec![3; 48]));
    // A key that was destroyed is not brought back; one that somebody holds is passed over and waits for nobody.
    let second = read(&ids[1]).await;
    superuser.execute("SELECT destroy_subject_keys($1, $2, '{}')", &[&tenant, &ids[1]]).await.unwrap();
    assert_eq!(rewrap(&ids[1], (1, ACTIVE), second, header(ACTIVE)).await, Ok(0));
    let third = read(&ids[2]).await;
    superuser.batch_execute("BEGIN").await.unwrap();
    superuser.execute("SELECT FROM subject_key WHERE owner = $1 FOR UPDATE", &[&ids[2]]).await.unwrap();
    assert_eq!(rewrap(&ids[2], (1, ACTIVE), third.clone(), header(ACTIVE)).await, Ok(0));
    superuser.batch_execute("COMMIT").await.unwrap();
    assert_eq!(rewrap(&ids[2], (1, ACTIVE), third, header(ACTIVE)).await, Ok(1));
    assert_eq!(custody.stored("phi").await, [(1, "retired".into(), 1), (2, "active".into(), 2)]);
}

/// Where nobody has analysed the table, as after it was restored, each key is gone to by itself all the same, and not past all keys
/// of the tenant.
#[tokio::test]
async fn keys_are_gone_to_one_by_one_in_a_table_that_was_not_analysed() {
    let custody = Custody::open().await;
    custody.patients(1_000).await;
    let (data, keys) = (custody.strongroom.data().await, custody.strongroom.keys().await);
    let counted = async |column: &str| -> i64 {
        let sql = format!(
            "SELECT {column} FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid) \
             WHERE t.relname = 'subject_key'"
        );
        keys.query_one(&sql, &[]).await.unwrap().get(0)
    };
    // A session tells what it has made and read within seconds.
    eventually("what was made is counted", async || counted("n_tup_ins").await == 2_000).await;
    let before = counted("idx_tup_read").await;
    custody.rotate("phi").await;
    eventually("it is done", async || {
        let sql = "SELECT rewrapped_keys FROM key_rotation";
        data.query_one(sql, &[]).await.unwrap().get::<_, Option<i64>>(0) == Some(1_000)
    })
    .await;
    eventually("what was wrapped again is counted", async || counted("n_tup_upd").await == 1_000).await;
    // All keys of the tenant are passed, whether the old key is still needed is looked for, and those of the class are gone to.
    // For each 512 that are passed, all of them twice more would be 12,000.
    let places = counted("idx_tup_read").await - before;
    assert!(places <= 4 * 2_000, "{places} places for 1,000 keys");
}

#[tokio::test]
async fn a_key_that_is_needed_or_in_force_is_not_destroyed() {
    let custody = Custody::open().await;
    custody.patients(2).await;
    let tenant = custody.strongroom.tenant(NORTH);
    let rotator = as_role(&custody, "strongroom_key_rotator").await;
    let destroy = async |key: i64| {
        let done = rotator.execute("SELECT destroy_tenant_key($1, 'phi', $2)", &[&tenant, &key]).await;
        done.map(drop).map_err(|error| error.code().unwrap().code().to_owned())
    };
    assert_eq!(destroy(1).await, Err("23001".to_owned()));
    assert_eq!(replace(&rotator, tenant, 1, ACTIVE).await, Ok(true));
    assert_eq!(destroy(1).await, Err("23001".to_owned()));
    assert_eq!(destroy(ACTIVE).await, Err("23001".to_owned()));
    let superuser = custody.strongroom.keys().await;
    superuser.batch_execute("UPDATE subject_key SET tenant_key_id = 2 WHERE class = 'phi'").await.unwrap();
    assert_eq!(destroy(1).await, Ok(()));
    assert_eq!(destroy(1).await, Ok(()), "again changes nothing");
    assert_eq!(custody.stored("phi").await, [(2, "active".into(), 2)]);
}

#[tokio::test]
async fn no_login_does_more_than_its_part_of_a_rotation() {
    let custody = Custody::open().await;
    custody.patients(1).await;
    let id = custody.rotate("phi").await;
    custody.is(&id, "rewrapped").await;
    let (replace, rewrap, destroy) = (
        "SELECT replace_tenant_key(gen_random_uuid(), 'phi', 1, 2, 'vault:v1:eA==')",
        "SELECT rewrap_subject_keys(gen_random_uuid(), 'phi', 1, 2, '{}', '{}', '{}', '{}', '{}', '{}')",
        "SELECT destroy_tenant_key(gen_random_uuid(), 'phi', 1)",
    );
    for (role, statements) in [
        (
            "strongroom_key_rotator",
            &[
                "SELECT FROM tenant_key",
                "SELECT FROM subject_key",
                "UPDATE tenant_key SET state = 'active'",
                "UPDATE subject_key SET wrapped = header",
                "DELETE FROM tenant_key",
                "DELETE FROM subject_key",
                "INSERT INTO tenant_key (tenant_id, class, purpose, key_id, wrapped) \
                 VALUES (gen_random_uuid(), 'phi', 'seal', 1, 'vault:v1:eA==')",
                "SELECT destroy_subject_keys(gen_random_uuid(), 'x', '{}')",
                "SELECT destroy_record_keys('{}', '{}')",
            ][..],
        ),
        ("strongroom_keys", &[replace, rewrap, destroy]),
        ("strongroom_key_eraser", &[replace, rewrap, destroy]),
    ] {
        let client = as_role(&custody, role).await;
        for sql in statements {
            let error = client.execute(*sql, &[]).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "42501", "{role}: {sql}");
        }
    }
    // What was asked for and approved goes on, and never back; nobody approves their own.
    let data = custody.strongroom.data().await;
    data.batch_execute("SET ROLE strongroom_app").await.unwrap();
    for (sql, code) in [
        ("UPDATE key_rotation SET began_at = now()", "42501"),
        ("UPDATE key_rotation SET rewrapped_at = now() - interval '1 year'", "42501"),
        ("UPDATE key_rotation SET rewrapped_keys = 0", "42501"),
        ("UPDATE key_rotation SET requested_by = 'x'", "42501"),
        ("UPDATE key_rotation SET to_key = 9", "42501"),
        ("DELETE FROM key_rotation", "42501"),
        ("UPDATE key_rotation SET approved_by = 'custodian-alice', approved_at = now()", "23514"),
        ("UPDATE key_rotation SET destroyed_at = now()", "23514"),
    ] {
        let error = data.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{sql}");
    }
}
