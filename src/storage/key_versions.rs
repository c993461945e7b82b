//! What the key database tells of tenant keys and of what each of them wraps, for rotation. Nothing here changes anything.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::key_rotator::Succession;
use super::key_store::{FoundSubjectKey, KeyDatabase, found_subject_key};
use super::pool::StorageError;
use crate::domain::class::DataClass;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, KeyOwner, RecordId, SubjectId, TenantId};

/// Keys that one statement counts: a tenant may have more of them than can be counted within its time.
const COUNTED_AT_ONCE: i64 = 10_000;

/// A tenant key that wraps subject keys, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantKeyVersion {
    pub class: DataClass,
    pub key_id: KeyId,
    /// It wraps what is new.
    pub is_active: bool,
    pub created_at: Timestamp,
    /// When it was retired, where a rotation did that.
    pub retired_at: Option<Timestamp>,
    /// Subject keys that need it.
    pub wraps: u64,
    /// Those of them that were made before it, and wrapped again.
    pub rewrapped: u64,
}

/// A subject key and whose it is.
pub struct OwnedKey {
    pub owner: KeyOwner,
    pub key: FoundSubjectKey,
}

/// What a tenant key wraps of some keys.
struct Counted {
    class: DataClass,
    tenant_key: KeyId,
    wraps: u64,
    rewrapped: u64,
}

/// Where a look at the keys of a tenant goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPlace {
    owner: String,
    class: String,
    key_id: i64,
}

/// What a look at some keys of a tenant found.
#[derive(Default)]
pub struct StretchOfKeys {
    /// Under the old tenant key.
    pub due: Vec<OwnedKey>,
    /// Wrapped again by its successor before.
    pub rewrapped: u64,
    /// The next stretch begins after this; `None` when there was nothing any more.
    pub last: Option<KeyPlace>,
}

impl KeyDatabase {
    /// The tenant keys of one tenant that wrap subject keys, by class and number. Counts every key of the tenant, and takes a
    /// statement for each [`COUNTED_AT_ONCE`] of them.
    pub async fn tenant_key_versions(&self, tenant: TenantId) -> Result<Vec<TenantKeyVersion>, StorageError> {
        const SQL: &str = "/* storage::key_versions::tenant_key_versions */ \
            SELECT class, key_id, state = 'active', created_at, retired_at FROM tenant_key \
            WHERE tenant_id = $1 AND purpose = 'seal' ORDER BY class, key_id";
        let rows = self
            .database()
            .run("key_versions::tenant_key_versions", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &[tenant.as_uuid()]).await?)
            })
            .await?;
        let mut versions = rows.iter().map(version).collect::<Result<Vec<_>, _>>()?;
        let mut after = None;
        while let Some((counted, last)) = self.count_of_keys(tenant, after.as_ref()).await? {
            for Counted { class, tenant_key, wraps, rewrapped } in counted {
                let is_it =
                    |known: &&mut TenantKeyVersion| known.class == class && known.key_id == tenant_key;
                if let Some(known) = versions.iter_mut().find(is_it) {
                    known.wraps += wraps;
                    known.rewrapped += rewrapped;
                }
            }
            after = Some(last);
        }
        Ok(versions)
    }

    /// The key that is in force for a class, and the highest number that one has.
    pub async fn key_in_force(
        &self,
        tenant: TenantId,
        class: DataClass,
    ) -> Result<(Option<KeyId>, Option<KeyId>), StorageError> {
        const SQL: &str = "/* storage::key_versions::key_in_force */ \
            SELECT max(key_id) FILTER (WHERE state = 'active'), max(key_id) FROM tenant_key \
            WHERE tenant_id = $1 AND class = $2 AND purpose = 'seal'";
        let row = self
            .database()
            .run("key_versions::key_in_force", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_one(&statement, &[tenant.as_uuid(), &class.as_str()]).await?)
            })
            .await?;
        let id = |column| Ok::<_, StorageError>(row.try_get::<_, Option<i64>>(column)?.and_then(KeyId::new));
        Ok((id(0)?, id(1)?))
    }

    /// Counts the next keys of a tenant after a place, and says where the next go on; `None` when there was nothing any more.
    async fn count_of_keys(
        &self,
        tenant: TenantId,
        after: Option<&KeyPlace>,
    ) -> Result<Option<(Vec<Counted>, KeyPlace)>, StorageError> {
        const SQL: &str = "/* storage::key_versions::count_of_keys */ \
            WITH stretch AS MATERIALIZED ( \
                SELECT owner, class, key_id, tenant_key_id, created_at FROM subject_key \
                WHERE tenant_id = $1 AND (owner, class, key_id) > ($2, $3, $4) \
                ORDER BY owner, class, key_id LIMIT $5), \
            seen AS ( \
                SELECT owner, class, key_id FROM stretch ORDER BY owner DESC, class DESC, key_id DESC LIMIT 1) \
            SELECT s.class, s.tenant_key_id, count(*), count(*) FILTER (WHERE s.created_at < k.created_at), \
                   seen.owner, seen.class, seen.key_id \
            FROM seen, stretch s LEFT JOIN tenant_key k \
              ON k.tenant_id = $1 AND k.class = s.class AND k.purpose = 'seal' AND k.key_id = s.tenant_key_id \
            GROUP BY s.class, s.tenant_key_id, seen.owner, seen.class, seen.key_id";
        let beginning = KeyPlace::default();
        let KeyPlace { owner, class, key_id } = after.unwrap_or(&beginning);
        let parameters: [&(dyn ToSql + Sync); 5] = [tenant.as_uuid(), owner, class, key_id, &COUNTED_AT_ONCE];
        let rows = self
            .database()
            .run("key_versions::count_of_keys", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let last = KeyPlace { owner: first.try_get(4)?, class: first.try_get(5)?, key_id: first.try_get(6)? };
        let counted = rows.iter().filter_map(|row| counted(row).transpose());
        Ok(Some((counted.collect::<Result<_, _>>()?, last)))
    }

    /// Looks at the next `limit` keys of the tenant after a place, of whatever class and under whatever key, so that it takes
    /// as long wherever those are that are still to be done.
    pub async fn stretch_of_keys(
        &self,
        keys: &Succession,
        after: Option<&KeyPlace>,
        limit: i64,
    ) -> Result<StretchOfKeys, StorageError> {
        const SQL: &str = "/* storage::key_versions::stretch_of_keys */ \
            WITH stretch AS MATERIALIZED ( \
                SELECT owner, scope, class, key_id, tenant_key_id, header, wrapped, created_at FROM subject_key \
                WHERE tenant_id = $1 AND (owner, class, key_id) > ($5, $6, $7) \
                ORDER BY owner, class, key_id LIMIT $8), \
            seen AS ( \
                SELECT owner, class, key_id, ( \
                    SELECT count(*) FROM stretch s JOIN tenant_key k ON k.tenant_id = $1 AND k.class = s.class \
                      AND k.purpose = 'seal' AND k.key_id = s.tenant_key_id \
                    WHERE s.class = $2 AND s.tenant_key_id = $4 AND s.created_at < k.created_at) AS rewrapped \
                FROM stretch ORDER BY owner DESC, class DESC, key_id DESC LIMIT 1) \
            SELECT t.class, t.key_id, t.tenant_key_id, t.header, t.wrapped, t.owner, t.scope, \
                   seen.owner, seen.class, seen.key_id, seen.rewrapped \
            FROM seen LEFT JOIN stretch t ON t.class = $2 AND t.tenant_key_id = $3";
        let (class, from, to) = (keys.class.as_str(), keys.from.as_i64(), keys.to.as_i64());
        let beginning = KeyPlace::default();
        let KeyPlace { owner, class: of, key_id } = after.unwrap_or(&beginning);
        let parameters: [&(dyn ToSql + Sync); 8] =
            [keys.tenant.as_uuid(), &class, &from, &to, owner, of, key_id, &limit];
        let rows = self
            .database()
            .run("key_versions::stretch_of_keys", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query(&statement, &parameters).await?)
            })
            .await?;
        let Some(first) = rows.first() else { return Ok(StretchOfKeys::default()) };
        let due = rows.iter().filter_map(|row| owned(row).transpose());
        Ok(StretchOfKeys {
            due: due.collect::<Result<_, _>>()?,
            rewrapped: first.try_get::<_, i64>(10)?.unsigned_abs(),
            last: Some(KeyPlace {
                owner: first.try_get(7)?,
                class: first.try_get(8)?,
                key_id: first.try_get(9)?,
            }),
        })
    }

    /// Whether any key needs the old tenant key.
    pub async fn is_needed(&self, keys: &Succession) -> Result<bool, StorageError> {
        let mut after = None;
        while let Some((counted, last)) = self.count_of_keys(keys.tenant, after.as_ref()).await? {
            if counted.iter().any(|of| of.class == keys.class && of.tenant_key == keys.from) {
                return Ok(true);
            }
            after = Some(last);
        }
        Ok(false)
    }
}

/// `None` of a class that there is not: nobody's keys.
fn counted(row: &Row) -> Result<Option<Counted>, StorageError> {
    let (class, tenant_key) = (DataClass::parse(row.try_get(0)?), KeyId::new(row.try_get(1)?));
    let (wraps, rewrapped): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
    let of = |(class, tenant_key)| Counted {
        class,
        tenant_key,
        wraps: wraps.unsigned_abs(),
        rewrapped: rewrapped.unsigned_abs(),
    };
    Ok(class.zip(tenant_key).map(of))
}

fn version(row: &Row) -> Result<TenantKeyVersion, StorageError> {
    let malformed = StorageError::Malformed;
    let at = |at: jiff::Timestamp| Timestamp::from_micros(at.as_microsecond());
    Ok(TenantKeyVersion {
        class: DataClass::parse(row.try_get(0)?).ok_or(malformed("tenant_key.class"))?,
        key_id: KeyId::new(row.try_get(1)?).ok_or(malformed("tenant_key.key_id"))?,
        is_active: row.try_get(2)?,
        created_at: at(row.try_get(3)?),
        retired_at: row.try_get::<_, Option<jiff::Timestamp>>(4)?.map(at),
        wraps: 0,
        rewrapped: 0,
    })
}

/// `None` in a row that says only how far the stretch goes.
fn owned(row: &Row) -> Result<Option<OwnedKey>, StorageError> {
    let Some(owner) = row.try_get::<_, Option<&str>>(5)? else { return Ok(None) };
    let owner = match row.try_get::<_, &str>(6)? {
        "subject" => Uuid::try_parse(owner).ok().map(SubjectId::from_uuid).map(KeyOwner::Subject),
        _ => RecordId::parse(owner).map(KeyOwner::Record),
    };
    let owner = owner.ok_or(StorageError::Malformed("subject_key.owner"))?;
    Ok(Some(OwnedKey { owner, key: found_subject_key(row)? }))
}
