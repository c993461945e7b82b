//! The row as PostgreSQL holds it, looked at around the service, as the superuser of both clusters would.

use anyhow::{Context, Result};
use tokio_postgres::{Client, NoTls};
use zeroize::Zeroizing;

use super::super::local::Local;
use super::search::to_hex;
use super::tale::{Tale, cell};
use crate::crypto::HEADER_BYTES;
use crate::devstack::{ADMINISTRATOR, Cluster};
use crate::policy::Collection;
use crate::storage::sealed_columns::{decode_fields, decode_seals};

pub(super) async fn row(tale: &mut Tale, local: &Local, patients: &Collection, id: &str) -> Result<()> {
    let client = superuser(&local.stack.data, &local.site.config.database.data.name).await?;
    tale.show(&format!("strongroom_data=# SELECT * FROM record WHERE record_id = '{id}';"));
    let row = client
        .query_one(
            "SELECT tenant_id::text, collection, version::text, subject_id::text, created_at::text, \
             audit_entry_id::text, seal_headers, sealed_values \
             FROM record WHERE record_id = $1",
            &[&id],
        )
        .await
        .context("the record is not in its table")?;
    for (at, column) in ["tenant_id", "collection", "version", "subject_id", "created_at", "audit_entry_id"]
        .iter()
        .enumerate()
    {
        tale.show(&line(column, row.try_get::<_, &str>(at)?));
    }
    let seals = decode_seals(row.try_get(6)?)?;
    for seal in &seals {
        tale.show(&line("seal_header", &format!("{}  {}", seal.class.as_str(), hex(&seal.header))));
    }
    let values = decode_fields(row.try_get(7)?)?;
    for value in &values {
        let field = patients.fields().iter().find(|field| field.id == value.id);
        let name = field.map_or("?", |field| field.name.as_str());
        let class = seals.get(usize::from(value.seal)).map_or("?", |seal| seal.class.as_str());
        let (id, bytes) = (value.id.0, value.bytes.len());
        let text = format!("{id:>2} {} {class} {bytes:>4} bytes  {}", cell(name, 16), hex(&value.bytes));
        tale.show(&line("sealed_value", &text));
    }
    tale.check(
        !seals.is_empty() && seals.iter().all(|seal| seal.header.starts_with(&[1, 1])),
        &format!("one seal header of {HEADER_BYTES} bytes for each data class: version 1, suite 1"),
    )?;
    // 16 bytes of padding and 16 of the tag are the least that a sealed value has.
    tale.check(
        !values.is_empty() && values.iter().all(|value| value.bytes.len() >= 32),
        &format!("{} values, each sealed and padded on its own", values.len()),
    )
}

pub(super) async fn keys(tale: &mut Tale, local: &Local, subject: &str) -> Result<()> {
    let client = superuser(&local.stack.keys, &local.site.config.database.keys.name).await?;
    tale.show("strongroom_keys=# SELECT * FROM tenant_key; -- wrapped by Vault, which alone can open them");
    let mut only_wrapped = true;
    for row in
        client.query("SELECT class, purpose, key_id::text, wrapped FROM tenant_key ORDER BY 1", &[]).await?
    {
        let (class, purpose, id, wrapped): (&str, &str, &str, &str) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        only_wrapped &= wrapped.starts_with("vault:v");
        tale.show(&line("tenant_key", &format!("{class}  {purpose}  {id}  {wrapped}")));
    }
    tale.show(&format!("strongroom_keys=# SELECT * FROM subject_key WHERE owner LIKE '%{subject}%';"));
    let query =
        "SELECT class, key_id::text, header, wrapped FROM subject_key WHERE owner LIKE '%' || $1 ORDER BY 1";
    let rows = client.query(query, &[&subject]).await?;
    for row in &rows {
        let (class, id, header, wrapped): (&str, &str, &[u8], &[u8]) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        only_wrapped &= header.len() == HEADER_BYTES;
        tale.show(&line("subject_key", &format!("{class}  {id}  {} bytes  {}", wrapped.len(), hex(wrapped))));
    }
    tale.check(
        only_wrapped && !rows.is_empty(),
        "the keys are in another cluster, the tenant's wrapped by Vault, the patient's wrapped by the tenant's",
    )
}

/// Writes everything that is still in PostgreSQL's memory to its files.
pub(super) async fn flush(cluster: &Cluster) -> Result<()> {
    let client = superuser(cluster, "postgres").await?;
    client.batch_execute("CHECKPOINT").await.context("PostgreSQL did not write a checkpoint")
}

async fn superuser(cluster: &Cluster, database: &str) -> Result<Client> {
    let password =
        Zeroizing::new(std::fs::read(cluster.password_file()).context("cannot read a password file")?);
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(cluster.port())
        .user(ADMINISTRATOR)
        .password(password.as_slice())
        .dbname(database)
        .connect(NoTls)
        .await
        .context("PostgreSQL cannot be reached")?;
    // Ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

fn line(column: &str, value: &str) -> String {
    format!("{} | {value}", cell(column, 14))
}

/// As psql shows bytea.
fn hex(bytes: &[u8]) -> String {
    format!("\\x{}", to_hex(bytes))
}
