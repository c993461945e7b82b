//! Replacing tenant keys in the key database, as the role that can do this and nothing else. Nothing here can read a key.
//!
//! One instance at a time: the turn is an advisory lock that PostgreSQL keeps with a session, and everything is done in that
//! session, so that one that stood still and goes on does nothing more.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::fitness::Weakness;
use super::pool::{Database, Session, StorageError};
use crate::crypto::WrappedKey;
use crate::domain::class::DataClass;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, KeyOwner, TenantId};

/// "rotate" in the key space of PostgreSQL's advisory locks.
const LOCK: i64 = 0x726f_7461_7465;
/// The turn ends by itself when nothing is said for so long: an instance that hangs is replaced.
const SESSION: &str = "/* storage::key_rotator */ SET synchronous_commit = on; SET idle_session_timeout = '10s'; SET statement_timeout = '5min'; \
     SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off";

/// For a statement: nobody waits for it, and the last look before a key is destroyed goes through all keys of the tenant.
const PATIENCE: Duration = Duration::from_mins(5);

/// Needs the role `strongroom_key_rotator`.
#[derive(Clone)]
pub struct KeyRotator {
    database: Database,
}

/// Which tenant key takes the place of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Succession {
    pub tenant: TenantId,
    pub class: DataClass,
    pub from: KeyId,
    pub to: KeyId,
}

/// A subject key with another wrapping.
pub struct Rewrapped {
    pub owner: KeyOwner,
    pub key_id: KeyId,
    /// What must still be there.
    pub old: WrappedKey,
    pub new: WrappedKey,
}

/// While this lives, no other instance replaces keys.
pub struct Turn {
    session: Session,
}

impl KeyRotator {
    pub const fn new(database: Database) -> Self {
        Self { database }
    }

    /// What is wrong with the key database as this role sees it.
    pub async fn weaknesses(&self, now: Timestamp) -> Result<Vec<Weakness>, StorageError> {
        self.database.weaknesses("key_rotator", now).await
    }

    /// Takes the turn, unless another instance has it.
    pub async fn turn(&self) -> Result<Option<Turn>, StorageError> {
        let session = self.database.session("key_rotator::turn", SESSION).await?;
        let is_free = session
            .run("key_rotator::turn", async |client| {
                let sql = "/* storage::key_rotator::turn */ SELECT pg_try_advisory_lock($1)";
                Ok(client.query_one(sql, &[&LOCK]).await?.try_get::<_, bool>(0)?)
            })
            .await?;
        Ok(is_free.then(|| Turn { session: session.lasting(PATIENCE) }))
    }
}

impl Turn {
    /// Makes the successor the key that wraps what is new, and retires the other; durable on return. Done before, nothing
    /// changes. Whether the successor is in force now.
    pub async fn replace(&self, keys: &Succession, wrapped: &str) -> Result<bool, StorageError> {
        const SQL: &str = "/* storage::key_rotator::replace */ SELECT replace_tenant_key($1, $2, $3, $4, $5)";
        let (class, from, to) = (keys.class.as_str(), keys.from.as_i64(), keys.to.as_i64());
        let parameters: [&(dyn ToSql + Sync); 5] = [keys.tenant.as_uuid(), &class, &from, &to, &wrapped];
        self.session
            .run("key_rotator::replace", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_one(&statement, &parameters).await?.try_get(0)?)
            })
            .await
    }

    /// Says something, so that the turn does not end for silence; an error when it has.
    pub async fn keep(&self) -> Result<(), StorageError> {
        self.session
            .run("key_rotator::keep", async |client| {
                Ok(client.batch_execute("/* storage::key_rotator::keep */ SELECT").await?)
            })
            .await
    }

    /// Puts other wrappings in the place of those that are still there; durable on return. How many: a key that was destroyed
    /// meanwhile, or that somebody holds, is passed over.
    pub async fn rewrap(&self, keys: &Succession, rewrapped: &[Rewrapped]) -> Result<u64, StorageError> {
        const SQL: &str = "/* storage::key_rotator::rewrap */ \
            SELECT rewrap_subject_keys($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let (class, from, to) = (keys.class.as_str(), keys.from.as_i64(), keys.to.as_i64());
        let owners: Vec<String> = rewrapped.iter().map(|key| key.owner.to_text()).collect();
        let ids: Vec<i64> = rewrapped.iter().map(|key| key.key_id.as_i64()).collect();
        let column = |of: fn(&Rewrapped) -> &[u8]| rewrapped.iter().map(of).collect::<Vec<&[u8]>>();
        let (old_headers, old_wraps) = (column(|key| &key.old.header), column(|key| &key.old.wrapped));
        let (new_headers, new_wraps) = (column(|key| &key.new.header), column(|key| &key.new.wrapped));
        let parameters: [&(dyn ToSql + Sync); 10] = [
            keys.tenant.as_uuid(),
            &class,
            &from,
            &to,
            &owners,
            &ids,
            &old_headers,
            &old_wraps,
            &new_headers,
            &new_wraps,
        ];
        let done: i64 = self
            .session
            .run("key_rotator::rewrap", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                Ok(client.query_one(&statement, &parameters).await?.try_get(0)?)
            })
            .await?;
        Ok(done.unsigned_abs())
    }

    /// Deletes the old key, which the database refuses while anything needs it ([`StorageError::Refused`]); durable on return.
    /// Done before, nothing changes.
    pub async fn destroy(&self, keys: &Succession) -> Result<(), StorageError> {
        const SQL: &str = "/* storage::key_rotator::destroy */ SELECT destroy_tenant_key($1, $2, $3)";
        let (class, from) = (keys.class.as_str(), keys.from.as_i64());
        self.session
            .run("key_rotator::destroy", async |client| {
                let statement = client.prepare_cached(SQL).await?;
                client.execute(&statement, &[keys.tenant.as_uuid(), &class, &from]).await?;
                Ok(())
            })
            .await
    }
}
