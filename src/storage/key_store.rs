//! The key database: wrapped tenant keys, wrapped subject keys, tombstones. Nothing here can open a key.
//!
//! Every method is one statement, one round trip, atomic by itself; in [`KeyDatabase::subject_keys`] and
//! [`KeyDatabase::insert_subject_keys`] those who call at once share it. Inserts return once their commit is durable.
//!
//! Not here: unwrapping and caching (`keys`).

use std::collections::HashSet;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::fitness::Weakness;
use super::key_finder::{FoundKeys, KeyFinder, KeyName};
use super::key_maker::KeyMaker;
use super::pool::{Database, StorageError};
use crate::crypto::{HEADER_BYTES, WrappedKey};
use crate::domain::class::DataClass;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, KeyOwner, RecordId, TenantId};

/// A tenant key was retired between a statement's beginning and its end, and its guard refused all of it: what is under that
/// key is left out the next time.
const RETIRED_MEANWHILE: &str = "40001";
/// That several are in that moment, one after the other, means that something else is wrong.
const INSERT_ATTEMPTS: u32 = 5;

/// The tables of the key database.
#[derive(Clone)]
pub struct KeyDatabase {
    database: Database,
    finder: KeyFinder,
    maker: KeyMaker,
}

/// A subject key's place and its wrapped bytes, to be inserted.
pub struct NewSubjectKey {
    pub owner: KeyOwner,
    pub class: DataClass,
    pub key_id: KeyId,
    pub tenant_key_id: KeyId,
    pub wrapped: WrappedKey,
}

/// A subject key as stored; not to be trusted before it opens.
pub struct FoundSubjectKey {
    pub class: DataClass,
    pub key_id: KeyId,
    pub tenant_key_id: KeyId,
    pub wrapped: WrappedKey,
}

/// A tenant key as stored; `wrapped` is for Vault.
pub struct FoundTenantKey {
    pub key_id: KeyId,
    pub wrapped: String,
}

/// The newest tenant keys of one tenant, class and purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantKeyState {
    pub active: Option<KeyId>,
    /// The highest number ever used that still has a row.
    pub highest: Option<KeyId>,
}

impl KeyDatabase {
    pub fn new(database: Database) -> Self {
        let (finder, maker) = (KeyFinder::new(database.clone()), KeyMaker::new(database.clone()));
        Self { database, finder, maker }
    }

    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    /// Tells the metrics how full the pool is.
    pub fn report(&self) {
        self.database.report("keys");
    }

    /// What is wrong with the key database; see [`Database::weaknesses`].
    pub async fn weaknesses(&self, now: Timestamp) -> Result<Vec<Weakness>, StorageError> {
        self.database.weaknesses("keys", now).await
    }

    /// Whether the key database answers.
    pub async fn ping(&self) -> Result<(), StorageError> {
        self.database.ping("key_store::ping").await
    }

    /// Which tenant key wraps new subject keys, and which number would be next.
    pub async fn tenant_key_state(
        &self,
        tenant: TenantId,
        class: &str,
        purpose: &str,
    ) -> Result<TenantKeyState, StorageError> {
        const SQL: &str = "/* storage::key_store::tenant_key_state */ \
            SELECT max(key_id) FILTER (WHERE state = 'active'), max(key_id) \
            FROM tenant_key WHERE tenant_id = $1 AND class = $2 AND purpose = $3";
        let row = self
            .database
            .run("key_store::tenant_key_state", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_one(&statement, &[tenant.as_uuid(), &class, &purpose]).await?)
            })
            .await?;
        Ok(TenantKeyState { active: optional_key_id(&row, 0)?, highest: optional_key_id(&row, 1)? })
    }

    /// One tenant key by its number, active or retired.
    pub async fn tenant_key(
        &self,
        tenant: TenantId,
        class: &str,
        purpose: &str,
        key_id: KeyId,
    ) -> Result<Option<FoundTenantKey>, StorageError> {
        const SQL: &str = "/* storage::key_store::tenant_key */ \
            SELECT wrapped FROM tenant_key \
            WHERE tenant_id = $1 AND class = $2 AND purpose = $3 AND key_id = $4";
        let row = self
            .database
            .run("key_store::tenant_key", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 4] =
                    [tenant.as_uuid(), &class, &purpose, &key_id.as_i64()];
                Ok(client.query_opt(&statement, &parameters).await?)
            })
            .await?;
        row.map(|row| Ok(FoundTenantKey { key_id, wrapped: row.try_get(0)? })).transpose()
    }

    /// Adds a tenant key as the active one, unless another is active already or has this number; then nothing
    /// changes, and the caller reads who won.
    pub async fn insert_tenant_key(
        &self,
        tenant: TenantId,
        class: &str,
        purpose: &str,
        key: &FoundTenantKey,
    ) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::key_store::insert_tenant_key */ \
            INSERT INTO tenant_key (tenant_id, class, purpose, key_id, wrapped) \
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        self.database
            .run("key_store::insert_tenant_key", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 5] =
                    [tenant.as_uuid(), &class, &purpose, &key.key_id.as_i64(), &key.wrapped];
                client.execute(&statement, &parameters).await?;
                Ok(())
            })
            .await
    }

    /// Subject keys by their numbers, in the order in which they are asked for; `None` for one that there is not. Who asks
    /// while others do shares their statement.
    pub async fn subject_keys(
        &self,
        tenant: TenantId,
        wanted: Vec<KeyName>,
    ) -> Result<FoundKeys, StorageError> {
        self.finder.find(tenant, wanted).await
    }

    /// The sealing keys of an owner: the highest active version of each class that has one. An owner with a tombstone
    /// has none, whatever rows are left.
    pub async fn active_subject_keys(
        &self,
        tenant: TenantId,
        owner: &KeyOwner,
        classes: &[DataClass],
    ) -> Result<Vec<FoundSubjectKey>, StorageError> {
        const SQL: &str = "/* storage::key_store::active_subject_keys */ \
            SELECT DISTINCT ON (class) class, key_id, tenant_key_id, header, wrapped FROM subject_key s \
            WHERE tenant_id = $1 AND owner = $2 AND class = ANY ($3) AND state = 'active' \
              AND NOT EXISTS (SELECT FROM tombstone t WHERE t.tenant_id = s.tenant_id AND t.owner = s.owner \
                              AND t.scope = s.scope) \
            ORDER BY class, key_id DESC";
        let words: Vec<&str> = classes.iter().map(|class| class.as_str()).collect();
        let rows = self
            .database
            .run("key_store::active_subject_keys", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[tenant.as_uuid(), &owner.to_text(), &words]).await?)
            })
            .await?;
        rows.iter().map(found_subject_key).collect()
    }

    /// Whether an owner was erased.
    pub async fn is_buried(&self, tenant: TenantId, owner: &KeyOwner) -> Result<bool, StorageError> {
        const SQL: &str = "/* storage::key_store::is_buried */ \
            SELECT EXISTS (SELECT FROM tombstone WHERE tenant_id = $1 AND owner = $2 AND scope = $3)";
        self.database
            .run("key_store::is_buried", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client
                    .query_one(&statement, &[tenant.as_uuid(), &owner.to_text(), &owner.scope()])
                    .await?
                    .try_get(0)?)
            })
            .await
    }

    /// Inserts first keys of an owner, and says after the commit which of them are in; the others were left out because the
    /// owner has a tombstone, has a key of this class already, or because the tenant key is no longer active. Who inserts
    /// while others do shares their statement and its commit. An error leaves open whether they are in: they are then found by
    /// whoever needs them next.
    pub async fn insert_subject_keys(
        &self,
        tenant: TenantId,
        keys: Vec<NewSubjectKey>,
    ) -> Result<Vec<bool>, StorageError> {
        self.maker.insert(tenant, keys).await
    }

    /// Buries records and deletes their keys; durable on return. An insert that began earlier may still bring a key in:
    /// call again once [`Self::statement_timeout`] has passed twice. Keys of subjects cannot be reached from here.
    pub async fn destroy_record_keys(&self, records: &[(TenantId, RecordId)]) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::key_store::destroy_record_keys */ SELECT destroy_record_keys($1, $2)";
        let tenants: Vec<Uuid> = records.iter().map(|(tenant, _)| *tenant.as_uuid()).collect();
        let owners: Vec<&str> = records.iter().map(|(_, record)| record.as_str()).collect();
        self.database
            .run("key_store::destroy_record_keys", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                client.execute(&statement, &[&tenants, &owners]).await?;
                Ok(())
            })
            .await
    }

    /// No statement of this service on the key database runs for longer.
    pub const fn statement_timeout(&self) -> Duration {
        self.database.timeout()
    }
}

/// The rows of keys by their numbers, in one statement; `None` in the place of one that there is not.
pub(super) async fn find_subject_keys(
    database: &Database,
    tenant: TenantId,
    wanted: &[&KeyName],
) -> Result<FoundKeys, StorageError> {
    // One look-up by the whole key for each, as in `records::batch`: a join may read all keys of the tenant for each of them, where it
    // was planned while nobody had analysed the table.
    const SQL: &str = "/* storage::key_store::subject_keys */ \
        SELECT s.class, s.key_id, s.tenant_key_id, s.header, s.wrapped, w.place \
        FROM unnest($2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS w (owner, class, key_id, place) \
        CROSS JOIN LATERAL (SELECT * FROM subject_key o WHERE o.tenant_id = $1 AND o.owner = w.owner \
                            AND o.class = w.class AND o.key_id = w.key_id LIMIT 1) AS s";
    let owners: Vec<String> = wanted.iter().map(|(owner, ..)| owner.to_text()).collect();
    let classes: Vec<&str> = wanted.iter().map(|(_, class, _)| class.as_str()).collect();
    let ids: Vec<i64> = wanted.iter().map(|(.., id)| id.as_i64()).collect();
    let rows = database
        .run("key_store::subject_keys", async |client| {
            let statement = client.prepare_cached(SQL).await?;
            Ok(client.query(&statement, &[tenant.as_uuid(), &owners, &classes, &ids]).await?)
        })
        .await?;
    let mut found: FoundKeys = wanted.iter().map(|_| Ok(None)).collect();
    for row in &rows {
        // Counted from 1.
        let place = usize::try_from(row.try_get::<_, i64>(5)?).ok().and_then(|place| place.checked_sub(1));
        let place = place.and_then(|place| found.get_mut(place)).ok_or(StorageError::Malformed("place"))?;
        *place = found_subject_key(row).map(Some);
    }
    Ok(found)
}

/// Inserts first keys of a tenant's owners, many owners in one statement and one commit. Returns the headers (each is unique by
/// its random salt) of those that are in.
pub(super) async fn insert_subject_keys(
    database: &Database,
    tenant: TenantId,
    keys: &[&NewSubjectKey],
) -> Result<HashSet<[u8; HEADER_BYTES]>, StorageError> {
    // In the order of the primary key, so that two lanes or instances never wait for each other in a circle. OFFSET 0 keeps what
    // there must not be a look-up of its own by the whole key; without, it is planned as a join, as above.
    const SQL: &str = "/* storage::key_store::insert_subject_keys */ \
        INSERT INTO subject_key (tenant_id, owner, scope, class, key_id, tenant_key_id, header, wrapped) \
        SELECT $1, a.* FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bytea[], \
                                   $8::bytea[]) \
            AS a (owner, scope, class, key_id, tenant_key_id, header, wrapped) \
        WHERE NOT EXISTS (SELECT FROM tombstone t WHERE t.tenant_id = $1 AND t.owner = a.owner \
                          AND t.scope = a.scope OFFSET 0) \
          AND NOT EXISTS (SELECT FROM subject_key s WHERE s.tenant_id = $1 AND s.owner = a.owner \
                          AND s.class = a.class OFFSET 0) \
          AND EXISTS (SELECT FROM tenant_key k WHERE k.tenant_id = $1 AND k.class = a.class \
                      AND k.purpose = 'seal' AND k.key_id = a.tenant_key_id AND k.state = 'active') \
        ORDER BY a.owner COLLATE \"C\", a.class COLLATE \"C\", a.key_id \
        ON CONFLICT DO NOTHING RETURNING header";
    let columns = Columns::of(tenant, keys);
    for _ in 0..INSERT_ATTEMPTS {
        let inserted = database
            .run("key_store::insert_subject_keys", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &columns.parameters()).await?)
            })
            .await;
        match inserted {
            Err(StorageError::Refused { code }) if code == RETIRED_MEANWHILE => {}
            inserted => return inserted?.iter().map(|row| header(row, 0)).collect(),
        }
    }
    Err(StorageError::Unavailable)
}

/// The arrays of an `unnest`.
struct Columns<'a> {
    tenant: Uuid,
    owners: Vec<String>,
    scopes: Vec<&'static str>,
    classes: Vec<&'static str>,
    key_ids: Vec<i64>,
    tenant_key_ids: Vec<i64>,
    headers: Vec<&'a [u8]>,
    wrapped: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(tenant: TenantId, keys: &[&'a NewSubjectKey]) -> Self {
        Self {
            tenant: *tenant.as_uuid(),
            owners: keys.iter().map(|key| key.owner.to_text()).collect(),
            scopes: keys.iter().map(|key| key.owner.scope()).collect(),
            classes: keys.iter().map(|key| key.class.as_str()).collect(),
            key_ids: keys.iter().map(|key| key.key_id.as_i64()).collect(),
            tenant_key_ids: keys.iter().map(|key| key.tenant_key_id.as_i64()).collect(),
            headers: keys.iter().map(|key| key.wrapped.header.as_slice()).collect(),
            wrapped: keys.iter().map(|key| key.wrapped.wrapped.as_slice()).collect(),
        }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 8] {
        [
            &self.tenant,
            &self.owners,
            &self.scopes,
            &self.classes,
            &self.key_ids,
            &self.tenant_key_ids,
            &self.headers,
            &self.wrapped,
        ]
    }
}

/// Of a row that begins with class, number, tenant key, header and wrapping.
pub(super) fn found_subject_key(row: &Row) -> Result<FoundSubjectKey, StorageError> {
    let class: &str = row.try_get(0)?;
    Ok(FoundSubjectKey {
        class: DataClass::parse(class).ok_or(StorageError::Malformed("subject_key.class"))?,
        key_id: optional_key_id(row, 1)?.ok_or(StorageError::Malformed("subject_key.key_id"))?,
        tenant_key_id: optional_key_id(row, 2)?
            .ok_or(StorageError::Malformed("subject_key.tenant_key_id"))?,
        wrapped: WrappedKey { header: header(row, 3)?, wrapped: row.try_get(4)? },
    })
}

fn header(row: &Row, column: usize) -> Result<[u8; HEADER_BYTES], StorageError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| StorageError::Malformed("subject_key.header"))
}

fn optional_key_id(row: &Row, column: usize) -> Result<Option<KeyId>, StorageError> {
    let number: Option<i64> = row.try_get(column)?;
    number.map(|number| KeyId::new(number).ok_or(StorageError::Malformed("key_id"))).transpose()
}
