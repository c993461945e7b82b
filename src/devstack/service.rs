//! `strongroom serve` as a process beside the parts: this same program, kept like them, so that it never outlives its
//! owner.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use rustix::process::Signal;

use super::error::DevStackError;
use super::keeper::{Keeper, Kept};
use super::place::write_private;
use super::processes::settle_orphan;
use super::slot::end;
use super::wheel::append;

/// A running service. Dropping it does not end it; `stop` does, and so does the end of its stack.
pub struct ServiceProcess {
    kept: Kept,
    log: PathBuf,
    log_starts_at: u64,
}

impl ServiceProcess {
    /// Starts it; what it logs is added to `service.log` in `directory`. It may not listen yet.
    pub(super) async fn start(
        keeper: &Arc<Keeper>,
        config_file: &Path,
        directory: &Path,
    ) -> Result<Self, DevStackError> {
        let program = std::env::current_exe()
            .map_err(|source| DevStackError::Spawn { program: "strongroom".to_owned(), source })?;
        let pid_file = directory.join("service.pid");
        settle_orphan(&pid_file, config_file).await?;
        let log = directory.join("service.log");
        let output = append(&log)?;
        let log_starts_at = output.metadata().map_err(DevStackError::file("read", &log))?.len();
        let kept = keeper.spawn(&program, |command| {
            command.args(["serve", "--config"]).arg(config_file).current_dir("/");
            command.stdout(std::process::Stdio::null()).stderr(output);
        })?;
        write_private(&pid_file, kept.id().to_string().as_bytes())?;
        Ok(Self { kept, log, log_starts_at })
    }

    pub fn process_id(&self) -> u32 {
        self.kept.id()
    }

    /// Its log, JSON lines, and where this run begins in it.
    pub fn log(&self) -> (&Path, u64) {
        (&self.log, self.log_starts_at)
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.kept.ended()
    }

    /// SIGTERM, and waits until it has drained and ended. Whether it reported success.
    pub async fn stop(&mut self) -> bool {
        end(&mut self.kept, Signal::TERM).await;
        self.kept.ended().is_some_and(|status| status.success())
    }
}
