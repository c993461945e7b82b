//! What a database must look like for this build: its migrations, embedded, and the indexes that are built beside the
//! running service.

use tokio_postgres::Client;

use super::fitness::Weakness;
use super::pool::{Database, StorageError};

mod data {
    refinery::embed_migrations!("migrations/data");
}

mod keys {
    refinery::embed_migrations!("migrations/keys");
}

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Data,
    Keys,
}

impl Which {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Keys => "keys",
        }
    }

    pub(super) fn runner(self) -> refinery::Runner {
        in_any_order(match self {
            Self::Data => data::migrations::runner(),
            Self::Keys => keys::migrations::runner(),
        })
    }

    fn indexes(self) -> Vec<Index> {
        match self {
            Self::Data => parse(include_str!("../../migrations/indexes/data.sql")),
            // What the key database has serves its constraints.
            Self::Keys => Vec::new(),
        }
    }
}

/// Numbers say in which order migrations are applied that are missing, and no more: one that was finished later than a
/// higher one is applied all the same, where refinery would refuse it. Its name for that is a prefix; checksums do not
/// depend on it.
fn in_any_order(runner: refinery::Runner) -> refinery::Runner {
    let renamed = runner.get_migrations().iter().map(|migration| {
        let name = format!("U{}__{}", migration.version(), migration.name());
        refinery::Migration::unapplied(&name, migration.sql()?).ok()
    });
    match renamed.collect::<Option<Vec<_>>>() {
        Some(migrations) => refinery::Runner::new(&migrations),
        None => runner,
    }
}

/// An index and the statement that builds it.
struct Index {
    name: String,
    statement: String,
}

/// Statements end with a semicolon, comments stand on lines of their own.
fn parse(text: &str) -> Vec<Index> {
    let is_comment = |line: &&str| line.trim_start().starts_with("--");
    let bare: Vec<&str> = text.lines().filter(|line| !is_comment(line)).collect();
    let bare = bare.join("\n");
    let statements = bare.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    statements
        .filter_map(|statement| {
            let words = statement.strip_prefix("CREATE INDEX CONCURRENTLY ")?;
            let name = words.split_whitespace().next()?.to_owned();
            Some(Index { name, statement: statement.to_owned() })
        })
        .collect()
}

/// Builds the indexes that are missing, one after the other, without locking their tables. One that an interrupted build
/// left behind is dropped first, so that this can be broken off and repeated at will. Returns the names of those built.
pub(super) async fn build_indexes(
    client: &Client,
    which: Which,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<Vec<String>, StorageError> {
    // A guard keeps the log's tables from being changed by whoever does not say so.
    client.batch_execute("/* storage::schema */ SET strongroom.audit_migration = 'yes'").await?;
    let mut built = Vec::new();
    for Index { name, statement } in which.indexes() {
        match is_valid(client, &name).await? {
            Some(true) => continue,
            Some(false) => {
                let sql = format!("/* storage::schema */ DROP INDEX CONCURRENTLY public.{name}");
                client.batch_execute(&sql).await?;
            }
            None => {}
        }
        progress(&format!("building index {name}"));
        client.batch_execute(&format!("/* storage::schema */ {statement}")).await?;
        built.push(format!("index {name}"));
    }
    client.batch_execute("/* storage::schema */ RESET strongroom.audit_migration").await?;
    Ok(built)
}

/// `None` when there is no such index.
async fn is_valid(client: &Client, name: &str) -> Result<Option<bool>, StorageError> {
    let row = client
        .query_opt(
            "/* storage::schema */ SELECT i.indisvalid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relname = $1",
            &[&name],
        )
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

const OLDER: (&str, &str) = (
    "its schema is older than this build",
    "stop here, run `strongroom migrate` of this build, and start again",
);
const OTHER: (&str, &str) = (
    "its schema is newer than this build, or was migrated by another one",
    "start the build that migrated it",
);
const INDEXES: (&str, &str) =
    ("an index is missing or was left half built", "run `strongroom migrate`; the service may go on running");

impl Database {
    /// How the schema differs from this build's; empty if it does not.
    pub(super) async fn schema_weaknesses(
        &self,
        database: &'static str,
        which: Which,
    ) -> Result<Vec<Weakness>, StorageError> {
        let names: Vec<String> = which.indexes().into_iter().map(|index| index.name).collect();
        let (applied, indexes) = self
            .run("schema::weaknesses", async |client| {
                // Before the migration that lets the service read it, the history is not there for it.
                let may_read = client
                    .query_one(
                        "/* storage::schema::weaknesses */ SELECT coalesce(has_table_privilege( \
                         to_regclass('public.refinery_schema_history'), 'SELECT'), false), (SELECT count(*) \
                         FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid AND i.indisvalid \
                         JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public' \
                         WHERE c.relname = ANY ($1))",
                        &[&names],
                    )
                    .await?;
                let indexes: i64 = may_read.try_get(1)?;
                if !may_read.try_get::<_, bool>(0)? {
                    return Ok((Vec::new(), indexes));
                }
                let sql = "/* storage::schema::weaknesses */ SELECT version::bigint, checksum::text \
                           FROM refinery_schema_history";
                let rows = client.query(sql, &[]).await?;
                let applied = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
                Ok((applied.collect::<Result<Vec<(i64, String)>, StorageError>>()?, indexes))
            })
            .await?;
        let weakness = |is_unsafe, (found, advice)| Weakness { database, is_unsafe, found, advice };
        let mut weaknesses = Vec::new();
        let wanted: Vec<(i64, String)> = which
            .runner()
            .get_migrations()
            .iter()
            .map(|migration| (i64::from(migration.version()), migration.checksum().to_string()))
            .collect();
        if applied.iter().any(|migration| !wanted.contains(migration)) {
            weaknesses.push(weakness(true, OTHER));
        } else if applied.len() < wanted.len() {
            weaknesses.push(weakness(true, OLDER));
        }
        if usize::try_from(indexes).unwrap_or_default() < names.len() {
            weaknesses.push(weakness(false, INDEXES));
        }
        Ok(weaknesses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed over would never be built.
    #[test]
    fn every_statement_of_the_file_is_an_index() {
        let text = include_str!("../../migrations/indexes/data.sql");
        let statements = text.lines().filter(|line| !line.starts_with("--")).collect::<String>();
        let indexes = parse(text);
        assert_eq!(indexes.len(), statements.matches(';').count());
        for index in indexes {
            assert!(index.statement.contains(&format!(" {} ON public.", index.name)), "{}", index.statement);
        }
    }
}
