//! A PostgreSQL data directory: made by `initdb` in one step, and the settings it runs with.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::cluster::ADMINISTRATOR;
use super::error::DevStackError;
use super::keeper::Keeper;
use super::place::{random_text, write_private};
use super::programs::Postgres;
use super::wheel::append;
use crate::domain::random::Random;

const INITDB_LIMIT: Duration = Duration::from_mins(3);

/// Durable as in production, silent about statements, and roomy enough for the tests' pools.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
password_encryption = 'scram-sha-256'
fsync = on
full_page_writes = on
synchronous_commit = on
shared_buffers = '256MB'
max_wal_size = '2GB'
timezone = 'UTC'
log_timezone = 'UTC'
log_statement = 'none'
log_min_duration_statement = -1
log_min_error_statement = 'panic'
log_error_verbosity = 'terse'
log_parameter_max_length_on_error = 0
";

/// What one data directory needs besides itself.
pub(super) struct ClusterFiles {
    pub(super) programs: Postgres,
    pub(super) account: Option<Account>,
    pub(super) data: PathBuf,
    pub(super) password_file: PathBuf,
    pub(super) log: PathBuf,
}

impl ClusterFiles {
    /// Makes the data directory and the administrator's password unless both exist.
    pub(super) async fn prepare(
        &self,
        keeper: &Arc<Keeper>,
        random: &dyn Random,
    ) -> Result<(), DevStackError> {
        match (self.data.exists(), self.password_file.exists()) {
            (true, true) => return Ok(()),
            (true, false) => return Err(DevStackError::Spoiled(self.data.clone())),
            (false, _) => {}
        }
        let password = random_text(random)?;
        // Made beside its place and renamed: an interrupted one is never taken for a whole one.
        let fresh = self.data.with_extension("new");
        if fresh.exists() {
            std::fs::remove_dir_all(&fresh).map_err(DevStackError::file("remove", &fresh))?;
        }
        std::fs::create_dir(&fresh).map_err(DevStackError::file("make", &fresh))?;
        self.give(&fresh)?;
        let pwfile = self.data.with_extension("pw");
        self.write_for_account(&pwfile, password.as_bytes())?;
        let made = self.initdb(&fresh, &pwfile, keeper).await;
        std::fs::remove_file(&pwfile).map_err(DevStackError::file("remove", &pwfile))?;
        made?;
        include_settings(&fresh)?;
        write_private(&self.password_file, password.as_bytes())?;
        std::fs::rename(&fresh, &self.data).map_err(DevStackError::file("make", &self.data))
    }

    /// Writes the settings; they take effect at the next start.
    pub(super) fn set_port(&self, port: u16) -> Result<(), DevStackError> {
        let path = self.data.join("strongroom.conf");
        self.write_for_account(&path, format!("{SETTINGS}port = {port}\n").as_bytes())
    }

    async fn initdb(
        &self,
        directory: &Path,
        pwfile: &Path,
        keeper: &Arc<Keeper>,
    ) -> Result<(), DevStackError> {
        let output = append(&self.log)?;
        let errors = output.try_clone().map_err(DevStackError::file("open", &self.log))?;
        let mut child = keeper.spawn(&self.programs.initdb, |command| {
            command.arg("--pgdata").arg(directory).arg("--pwfile").arg(pwfile).args([
                "--username",
                ADMINISTRATOR,
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--data-checksums",
                "--no-instructions",
            ]);
            command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
            command.current_dir("/").stdout(output).stderr(errors);
            if let Some(account) = &self.account {
                account.apply(command);
            }
        })?;
        match child.wait(INITDB_LIMIT).await {
            Some(status) if status.success() => Ok(()),
            _ => {
                child.signal(rustix::process::Signal::INT);
                Err(DevStackError::Failed { program: "initdb", log: self.log.clone() })
            }
        }
    }

    fn write_for_account(&self, path: &Path, bytes: &[u8]) -> Result<(), DevStackError> {
        use std::io::Write;
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).write(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
        };
        write().map_err(DevStackError::file("write", path))?;
        self.give(path)
    }

    fn give(&self, path: &Path) -> Result<(), DevStackError> {
        self.account.as_ref().map_or(Ok(()), |account| account.own(path))
    }
}

/// The version of the data that is already there, if any.
pub(super) fn data_major(data: &Path) -> Option<u32> {
    std::fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn include_settings(directory: &Path) -> Result<(), DevStackError> {
    use std::io::Write;
    let path = directory.join("postgresql.conf");
    std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"\n# Rewritten at every start.\ninclude = 'strongroom.conf'\n"))
        .map_err(DevStackError::file("write", &path))
}
