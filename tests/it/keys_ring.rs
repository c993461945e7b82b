//! The key ring over a real key database and a real Vault API.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_join::join_all;
use serde_json::json;
use strongroom::config::CacheConfig;
use strongroom::crypto::{
    PlainField, SealPlace, StoredRecord, SubjectKey, WantedField, open_fields, seal_record,
};
use strongroom::domain::class::DataClass;
use strongroom::domain::clock::{Clock, Timestamp};
use strongroom::domain::id::{
    CollectionName, FieldId, KeyId, KeyOwner, RecordId, RecordVersion, SubjectId, TenantId,
};
use strongroom::domain::random::SystemRandom;
use strongroom::domain::secret::SecretBytes;
use strongroom::keys::{KeyError, KeyRing};
use strongroom::storage::{Database, KeyDatabase};
use uuid::Uuid;

use crate::keys_vault::{PrivateVault, eventually};
use crate::support::{Databases, administrator, fresh_databases};

mod futures_join {
    /// Runs all at once, on tasks of their own.
    pub async fn join_all<T: Send + 'static>(work: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
        let tasks: Vec<_> = work.into_iter().map(tokio::spawn).collect();
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap());
        }
        all
    }
}

struct ManualClock(AtomicI64);
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

struct Bench {
    vault: PrivateVault,
    databases: Databases,
    clock: Arc<ManualClock>,
}

impl Bench {
    async fn start() -> Self {
        let vault = PrivateVault::start().await;
        vault.set_up().await;
        let clock = Arc::new(ManualClock(AtomicI64::new(1_700_000_000_000_000)));
        Self { vault, databases: fresh_databases().await, clock }
    }

    /// Another instance of the service.
    fn ring(&self) -> KeyRing {
        let database = KeyDatabase::new(Database::open(&self.databases.keys).unwrap());
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        KeyRing::open(
            database,
            self.vault.service(),
            &CacheConfig::default(),
            clock,
            Arc::new(SystemRandom::default()),
        )
    }

    async fn sql(&self, statement: &str) {
        administrator(&self.databases.keys.name).await.batch_execute(statement).await.unwrap();
    }

    async fn count(&self, query: &str) -> i64 {
        administrator(&self.databases.keys.name).await.query_one(query, &[]).await.unwrap().get(0)
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

fn tenant() -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(7))
}

fn subject(number: u128) -> KeyOwner {
    KeyOwner::Subject(SubjectId::from_uuid(Uuid::from_u128(number)))
}

fn place() -> SealPlace {
    SealPlace {
        tenant: tenant(),
        collection: CollectionName::parse("patients").unwrap(),
        record: RecordId::parse("r1").unwrap(),
        version: RecordVersion::FIRST,
        subject: None,
    }
}

/// Two handles hold the same key when what one seals, the other opens.
fn is_same(one: &SubjectKey, other: &SubjectKey) -> bool {
    let id = FieldId(1);
    let field =
        PlainField { id, type_id: 1, class: DataClass::Phi, value: SecretBytes::new(b"value".to_vec()) };
    let sealed = seal_record(place(), &[field], |_| Some(one), &SystemRandom::default()).unwrap();
    let stored =
        StoredRecord { place: place(), seals: sealed.seals().to_vec(), fields: sealed.fields().to_vec() };
    let wanted = [WantedField { id, type_id: 1, class: DataClass::Phi }];
    open_fields(&stored, &wanted, |_, _| Some(other)).is_ok()
}

#[tokio::test]
async fn keys_are_made_once_committed_and_opened_by_another_instance() {
    let bench = Bench::start().await;
    let (one, two) = (bench.ring(), bench.ring());
    let owner = subject(1);
    let made = one.sealing_keys(tenant(), &owner, &DataClass::ALL, true).await.unwrap();
    assert_eq!(made.len(), 3);
    assert_eq!(bench.count("SELECT count(*) FROM subject_key").await, 3);
    for (class, key) in DataClass::ALL.into_iter().zip(&made) {
        let opened = two.subject_key(tenant(), &owner, class, key.id()).await.unwrap();
        assert!(is_same(key, &opened));
        assert!(is_same(key, &two.sealing_key(tenant(), &owner, class).await.unwrap()));
        assert!(
            Arc::ptr_eq(key, &one.subject_key(tenant(), &owner, class, key.id()).await.unwrap()),
            "cached"
        );
    }
    assert!(!is_same(&made[0], &made[1]), "a key of its own for each class");
    let record = KeyOwner::Record(RecordId::parse("tok_7k3m9q2w5x8z1c4v6b7n0p2r4t").unwrap());
    let card = one.sealing_key(tenant(), &record, DataClass::Chd).await.unwrap();
    assert!(is_same(&card, &two.subject_key(tenant(), &record, DataClass::Chd, KeyId::FIRST).await.unwrap()));
    assert_eq!(bench.count("SELECT count(*) FROM tenant_key").await, 3);
}

#[tokio::test]
async fn concurrent_creators_converge_on_one_key() {
    let bench = Bench::start().await;
    let rings = [bench.ring(), bench.ring()];
    // Half of them claim that the owner is new; nothing exists yet, not even the tenant's key.
    let work = (0..64)
        .map(|number| {
            let ring = rings[number % 2].clone();
            async move {
                ring.sealing_keys(tenant(), &subject(1), &[DataClass::Phi], number % 4 < 2).await.unwrap()
            }
        })
        .collect();
    let keys: Vec<Arc<SubjectKey>> = join_all(work).await.into_iter().flatten().collect();
    assert!(keys.iter().all(|key| is_same(&keys[0], key)));
    assert_eq!(bench.count("SELECT count(*) FROM subject_key").await, 1);
    assert_eq!(bench.count("SELECT count(*) FROM tenant_key").await, 1);
}

#[tokio::test]
async fn many_new_owners_share_commits() {
    let bench = Bench::start().await;
    let ring = bench.ring();
    ring.sealing_keys(tenant(), &subject(0), &DataClass::ALL, true).await.unwrap();
    let before =
        bench.count("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").await;
    let work = (1..=200)
        .map(|number| {
            let ring = ring.clone();
            async move {
                ring.sealing_keys(tenant(), &subject(number), &DataClass::ALL, true).await.unwrap().len()
            }
        })
        .collect();
    assert!(join_all(work).await.into_iter().all(|count| count == 3));
    assert_eq!(bench.count("SELECT count(*) FROM subject_key").await, 603);
    let transactions = bench.count("SELECT count(DISTINCT xmin::text) FROM subject_key").await;
    assert!(transactions < 100, "{transactions} transactions for 200 callers ({before} before)");
}

#[tokio::test]
async fn what_one_tenants_keys_are_refused_for_fails_nobody_elses() {
    let bench = Bench::start().await;
    let ring = bench.ring();
    let other = TenantId::from_uuid(Uuid::from_u128(8));
    for tenant in [tenant(), other] {
        ring.sealing_keys(tenant, &subject(0), &[DataClass::Phi], true).await.unwrap();
    }
    bench
        .sql(
            "ALTER TABLE subject_key ADD CHECK (tenant_id <> '00000000-0000-0000-0000-000000000008') NOT VALID",
        )
        .await;
    let work = (1..=100)
        .map(|number| {
            let ring = ring.clone();
            let tenant = if number % 2 == 0 { tenant() } else { other };
            async move {
                let made = ring.sealing_keys(tenant, &subject(number), &[DataClass::Phi], true).await;
                (tenant == other, made.is_err())
            }
        })
        .collect();
    for (is_others, is_refused) in join_all(work).await {
        assert_eq!(is_others, is_refused);
    }
    let kept = "SELECT count(*) FROM subject_key WHERE tenant_id = '00000000-0000-0000-0000-000000000007'";
    assert_eq!(bench.count(kept).await, 51);
    assert_eq!(bench.count("SELECT count(*) FROM subject_key").await, 52);
}

#[tokio::test]
async fn an_erased_owner_never_gets_a_key_again() {
    let bench = Bench::start().await;
    let ring = bench.ring();
    bench
        .sql(&format!(
            "INSERT INTO tombstone (tenant_id, owner, scope) VALUES ('{}', '{}', 'subject')",
            tenant(),
            subject(1).to_text()
        ))
        .await;
    for claims_new in [true, false] {
        let refused = ring.sealing_keys(tenant(), &subject(1), &DataClass::ALL, claims_new).await;
        assert_eq!(refused.err(), Some(KeyError::Erased));
    }
    // The same owner of another tenant is somebody else.
    let elsewhere = TenantId::from_uuid(Uuid::from_u128(8));
    assert!(ring.sealing_keys(elsewhere, &subject(1), &[DataClass::Phi], true).await.is_ok());
    assert_eq!(
        bench.count(&format!("SELECT count(*) FROM subject_key WHERE tenant_id = '{}'", tenant())).await,
        0
    );
}

#[tokio::test]
async fn a_wrong_claim_of_newness_finds_the_key_in_force() {
    let bench = Bench::start().await;
    let ring = bench.ring();
    let key = ring.sealing_key(tenant(), &subject(1), DataClass::Phi).await.unwrap();
    let other = bench.ring();
    let found =
        other.sealing_keys(tenant(), &subject(1), &[DataClass::Phi, DataClass::Pii], true).await.unwrap();
    assert!(is_same(&key, &found[0]));
    assert_eq!(bench.count("SELECT count(*) FROM subject_key").await, 2);
}

#[tokio::test]
async fn a_retired_tenant_key_wraps_nothing_new_and_stays_while_needed() {
    let bench = Bench::start().await;
    let ring = bench.ring();
    let old = ring.sealing_key(tenant(), &subject(1), DataClass::Phi).await.unwrap();
    bench.sql("UPDATE tenant_key SET state = 'retired'").await;
    // The ring still believes in the first one; the insert does not.
    let new = ring.sealing_keys(tenant(), &subject(2), &[DataClass::Phi], true).await.unwrap();
    assert_eq!(bench.count("SELECT max(tenant_key_id) FROM subject_key").await, 2);
    let fresh = bench.ring();
    let reopened = fresh.subject_key(tenant(), &subject(1), DataClass::Phi, old.id()).await.unwrap();
    assert!(is_same(&old, &reopened));
    assert!(!is_same(&old, &new[0]));
    let client = administrator(&bench.databases.keys.name).await;
    for statement in [
        "DELETE FROM tenant_key WHERE key_id = 1",
        "DELETE FROM tenant_key WHERE key_id = 2",
        "TRUNCATE tenant_key",
    ] {
        assert!(client.batch_execute(statement).await.is_err(), "{statement}");
    }
}

#[tokio::test]
async fn moved_or_altered_rows_do_not_open() {
    let bench = Bench::start().await;
    let ring = bench.ring();
    ring.sealing_keys(tenant(), &subject(1), &[DataClass::Phi], true).await.unwrap();
    bench.sql(&format!("UPDATE subject_key SET owner = '{}'", subject(2).to_text())).await;
    let moved = bench.ring().subject_key(tenant(), &subject(2), DataClass::Phi, KeyId::FIRST).await;
    assert_eq!(moved.err(), Some(KeyError::Unusable));
    let gone = bench.ring().subject_key(tenant(), &subject(1), DataClass::Phi, KeyId::FIRST).await;
    assert_eq!(gone.err(), Some(KeyError::Missing));
    // Nor does a tenant key given to another tenant.
    bench
        .sql(&format!(
            "UPDATE subject_key SET owner = '{}', tenant_id = '{}'",
            subject(1).to_text(),
            Uuid::from_u128(9)
        ))
        .await;
    bench.sql(&format!("UPDATE tenant_key SET tenant_id = '{}'", Uuid::from_u128(9))).await;
    let other = TenantId::from_uuid(Uuid::from_u128(9));
    let taken = bench.ring().subject_key(other, &subject(1), DataClass::Phi, KeyId::FIRST).await;
    assert_eq!(taken.err(), Some(KeyError::Unusable));
}

#[tokio::test]
async fn an_outage_of_vault_is_ridden_out_until_the_hard_life() {
    let bench = Bench::start().await;
    let ring = bench.ring();
    let key = ring.sealing_key(tenant(), &subject(1), DataClass::Phi).await.unwrap();
    bench.vault.seal().await;
    bench.pass(3_599);
    assert!(ring.subject_key(tenant(), &subject(1), DataClass::Phi, key.id()).await.is_ok());
    assert!(ring.sealing_keys(tenant(), &subject(2), &[DataClass::Phi], true).await.is_ok());
    bench.pass(1);
    let late = ring.subject_key(tenant(), &subject(1), DataClass::Phi, key.id()).await;
    assert_eq!(late.err(), Some(KeyError::Unavailable));
    bench.vault.unseal().await;
    eventually("back", async || {
        ring.subject_key(tenant(), &subject(1), DataClass::Phi, key.id()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_refusal_by_vault_closes_everything_under_the_key() {
    let bench = Bench::start().await;
    let ring = bench.ring();
    let key = ring.sealing_key(tenant(), &subject(1), DataClass::Phi).await.unwrap();
    bench.vault.admin("DELETE", "sys/policies/acl/strongroom-service", None).await;
    bench.pass(299);
    assert!(ring.subject_key(tenant(), &subject(1), DataClass::Phi, key.id()).await.is_ok());
    bench.pass(1);
    eventually("closed", async || {
        let found = ring.subject_key(tenant(), &subject(1), DataClass::Phi, key.id()).await;
        found.err() == Some(KeyError::Denied)
    })
    .await;
}

#[tokio::test]
async fn the_service_role_only_finds_and_adds() {
    let bench = Bench::start().await;
    let ring = bench.ring();
    ring.sealing_keys(tenant(), &subject(1), &[DataClass::Phi], true).await.unwrap();
    let client = administrator(&bench.databases.keys.name).await;
    client.batch_execute("SET ROLE strongroom_keys").await.unwrap();
    for statement in [
        "UPDATE tenant_key SET state = 'retired'",
        "DELETE FROM tenant_key",
        "UPDATE subject_key SET owner = 'x'",
        "DELETE FROM subject_key",
        "TRUNCATE subject_key",
        "INSERT INTO tombstone (tenant_id, owner, scope) VALUES (gen_random_uuid(), 'x', 'record')",
        "DELETE FROM tombstone",
        "ALTER TABLE tombstone DISABLE TRIGGER ALL",
        "CREATE TABLE mine (x int)",
    ] {
        let refused = client.batch_execute(statement).await.unwrap_err();
        assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{statement}");
    }
    let memberships = "SELECT count(*) FROM pg_auth_members WHERE member = 'strongroom_keys'::regrole";
    assert_eq!(bench.count(memberships).await, 0);
    client.batch_execute("RESET ROLE").await.unwrap();
    client
        .batch_execute(
            "INSERT INTO tombstone (tenant_id, owner, scope) VALUES (gen_random_uuid(), 'x', 'subject')",
        )
        .await
        .unwrap();
    for statement in ["UPDATE tombstone SET owner = 'y'", "DELETE FROM tombstone", "TRUNCATE tombstone"] {
        assert!(client.batch_execute(statement).await.is_err(), "{statement}");
    }
    let plain = json!(bench.count("SELECT count(*) FROM tenant_key WHERE wrapped LIKE 'vault:v1:%'").await);
    assert_eq!(plain, 1);
}
