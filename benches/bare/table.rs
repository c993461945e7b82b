//! The bare server's database: beside Strongroom's own in the same PostgreSQL server, so that both meet the same disk,
//! settings and checkpoints.

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, Config, NoTls};
use uuid::{Uuid, uuid};

pub const DATABASE: &str = "bare";

/// Every row has it: the primary key has the same columns as Strongroom's `record`.
pub const TENANT: Uuid = uuid!("0197a000-0000-7000-8000-00000000ba4e");

pub const SELECT: &str =
    "SELECT answer, rest FROM record WHERE tenant_id = $1 AND collection = $2 AND record_id = $3";
pub const INSERT: &str =
    "INSERT INTO record (tenant_id, collection, record_id, answer, rest) VALUES ($1, $2, $3, $4, $5)";
pub const UPDATE: &str =
    "UPDATE record SET rest = $4 WHERE tenant_id = $1 AND collection = $2 AND record_id = $3";

const SCHEMA: &str = "
    CREATE TABLE record (
        tenant_id uuid NOT NULL,
        collection text COLLATE \"C\" NOT NULL,
        record_id text COLLATE \"C\" NOT NULL,
        answer bytea NOT NULL,
        rest bytea NOT NULL,
        PRIMARY KEY (tenant_id, collection, record_id)
    );
    ALTER TABLE record ALTER COLUMN answer SET STORAGE EXTERNAL, ALTER COLUMN rest SET STORAGE EXTERNAL;";

/// An administrator's connection to the bare table.
pub struct Table {
    client: Client,
}

impl Table {
    /// Makes the database and the table. `server` names host, port, user and password.
    pub async fn create(server: &Config) -> Result<Self> {
        let postgres = connect(server, "postgres").await?;
        postgres.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        let client = connect(server, DATABASE).await?;
        client.batch_execute(SCHEMA).await?;
        Ok(Self { client })
    }

    /// The bytes of a row's `answer` and `rest` together that make it as large as `stored_bytes`, which is what
    /// PostgreSQL says of one of Strongroom's rows.
    pub async fn row_bytes(&self, stored_bytes: usize, id: &str) -> Result<usize> {
        const SQL: &str = "SELECT pg_column_size(r) FROM (SELECT $1::uuid, 'patients'::text, $2::text, \
                           decode(repeat('00', 200), 'hex'), decode(repeat('00', 200), 'hex')) AS r";
        let size: i32 = self.client.query_one(SQL, &[&TENANT, &id]).await?.try_get(0)?;
        let fixed = usize::try_from(size)?.saturating_sub(400);
        stored_bytes.checked_sub(fixed).context("the stored row is smaller than its key")
    }

    /// Loads answers under their ids, each filled up with `filler` to its size.
    pub async fn load(&self, ids: &[String], answers: &[Vec<u8>], filler: &[u8]) -> Result<()> {
        const SQL: &str =
            "INSERT INTO record SELECT $1, 'patients', * FROM unnest($2::text[], $3::bytea[], $4::bytea[])";
        let statement = self.client.prepare(SQL).await?;
        for (ids, answers) in ids.chunks(1_000).zip(answers.chunks(1_000)) {
            let rests: Vec<&[u8]> = answers
                .iter()
                .map(|answer| filler.get(..filler.len().saturating_sub(answer.len())).unwrap_or_default())
                .collect();
            let loaded = self.client.execute(&statement, &[&TENANT, &ids, &answers, &rests]).await?;
            ensure!(loaded == u64::try_from(ids.len())?, "the bare table was not loaded whole");
        }
        self.client.batch_execute("VACUUM ANALYZE record").await?;
        Ok(())
    }
}

/// A connection whose task ends with it.
pub async fn connect(server: &Config, database: &str) -> Result<Client> {
    let mut config = server.clone();
    config.dbname(database);
    let (client, connection) = config.connect(NoTls).await.context("connecting to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}
