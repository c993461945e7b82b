//! Databases for the tests (for now: a cluster that is already running, named by environment variables).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use strongroom::config::DatabaseConfig;
use tokio_postgres::NoTls;

/// A data database of its own for one test, made from the migrated template.
pub struct Databases {
    data: DatabaseConfig,
}

impl Databases {
    /// The data database, as one of its roles or as its administrator (`postgres`).
    pub fn data_as(&self, role: &str) -> DatabaseConfig {
        DatabaseConfig { user: role.to_owned(), ..self.data.clone() }
    }
}

pub async fn fresh_databases() -> Databases {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let port = std::env::var("STRONGROOM_TEST_POSTGRES_PORT").expect("a port").parse().expect("a number");
    let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let server = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template_data")).await.unwrap();
    let data = DatabaseConfig {
        host: "127.0.0.1".into(),
        port,
        name,
        user: "postgres".into(),
        password_file: PathBuf::from("/dev/null"),
        roots_file: None,
        pool_connections: 4,
        timeout_ms: 3_000,
    };
    Databases { data }
}
