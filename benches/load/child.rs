//! The servers as child processes that do not outlive the bench, however it ends.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A running server. Dropped, it is stopped and waited for.
pub struct Server {
    name: &'static str,
    child: Child,
}

impl Server {
    /// Starts `program` through this executable's `leash` command; its output goes to `log`. To be called on the main
    /// thread: the leash is tied to the thread that starts it.
    pub fn start(name: &'static str, program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        Self::start_with(name, program, arguments, &[], log)
    }

    /// The same with variables added to its environment.
    pub fn start_with(
        name: &'static str,
        program: &Path,
        arguments: &[String],
        variables: &[(&str, String)],
        log: &Path,
    ) -> Result<Self> {
        let log = File::create(log).context("creating a log file")?;
        let child = Command::new(std::env::current_exe()?)
            .arg("leash")
            .arg(program)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { name, child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error once the server has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status})", self.name),
        }
    }

    fn end(&mut self) {
        // The bare server ends when its standard input does, Strongroom on SIGTERM.
        drop(self.child.stdin.take());
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::TERM);
        }
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Becomes `program`, to be ended with SIGTERM when the parent goes. Returns only an error.
pub fn leash(program: &Path, arguments: &[String]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("tying the server to the bench")?;
    Err(Command::new(program).args(arguments).exec()).context("starting the server")
}

/// An address on loopback that was free a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
