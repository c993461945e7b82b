//! Real parts for the tests: where Vault is, and databases of one's own.

use std::sync::atomic::{AtomicU32, Ordering};

use strongroom::config::DatabaseConfig;
use tokio_postgres::NoTls;

/// The two databases of one test.
pub struct Databases {
    pub keys: DatabaseConfig,
}

/// A superuser's connection to `database`, for what the service may not do.
pub async fn administrator(database: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(postgres_port())
        .user("postgres")
        .dbname(database)
        .connect(NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// Databases with the current schema, used by nobody else.
pub async fn fresh_databases() -> Databases {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let name = format!("it_keys_{}_{number}", std::process::id());
    administrator("postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let client = administrator(&name).await;
    client.batch_execute(include_str!("../../../migrations/keys/V1__keys.sql")).await.unwrap();
    let _ = client.batch_execute("ALTER ROLE strongroom_keys LOGIN").await;
    let password_file = std::env::temp_dir().join(format!("{name}.password"));
    std::fs::write(&password_file, "any").unwrap();
    let keys = DatabaseConfig {
        host: String::from("127.0.0.1"),
        port: postgres_port(),
        name,
        user: String::from("strongroom_keys"),
        password_file,
        roots_file: None,
        pool_connections: 8,
        timeout_ms: 3_000,
    };
    Databases { keys }
}

fn postgres_port() -> u16 {
    std::env::var("STRONGROOM_TEST_POSTGRES_PORT").unwrap().parse().unwrap()
}
