//! Children that never outlive their owner.
//!
//! A parent-death signal would not do: it follows the thread, not the process, and reaches only the postmaster. Instead
//! one small shell in a process group of its own holds a pipe from the owner. When the pipe closes, because the owner
//! dropped it or was killed with SIGKILL, the shell ends what is still running. It needs `/proc`: Linux only.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::error::DevStackError;

const SCRIPT: &str = include_str!("keeper.sh");
/// Waits for the owner's word before it becomes the program: by then the keeper knows its process id.
const GATE: &str = r#"read -r _ && exec "$@" </dev/null"#;
const POLL: Duration = Duration::from_millis(20);

/// The pipe to the shell. Closing it, or dropping the last reference, ends all that it keeps.
pub(super) struct Keeper {
    shell: Mutex<Option<(ChildStdin, Child)>>,
}

impl Keeper {
    pub(super) fn start() -> Result<Arc<Self>, DevStackError> {
        let spawn = |source| DevStackError::Spawn { program: "sh".to_owned(), source };
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .current_dir("/")
            .spawn()
            .map_err(spawn)?;
        let stdin = shell.stdin.take().ok_or_else(|| spawn(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok(Arc::new(Self { shell: Mutex::new(Some((stdin, shell))) }))
    }

    /// Starts a program that is ended with this keeper. `shape` sets environment, directory, account and output;
    /// standard input is closed. A program that cannot be executed ends with status 126 or 127.
    pub(super) fn spawn(
        self: &Arc<Self>,
        program: &std::path::Path,
        shape: impl FnOnce(&mut Command),
    ) -> Result<Kept, DevStackError> {
        let failed = |source| DevStackError::Spawn { program: program.display().to_string(), source };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE, "sh"]).arg(program);
        shape(&mut command);
        let mut child = command.stdin(Stdio::piped()).process_group(0).spawn().map_err(failed)?;
        let gate = child.stdin.take();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (Some(mut gate), Some(pid)) = (gate, pid) else {
            return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
        };
        self.tell("keep", pid).map_err(failed)?;
        gate.write_all(b"\n").map_err(failed)?;
        Ok(Kept { child, pid, keeper: Arc::clone(self), ended: None })
    }

    /// Ends everything still kept and waits for it: at most 20 seconds, then by force.
    pub(super) fn close(&self) {
        let shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stdin, mut shell)) = shell {
            drop(stdin);
            // Nothing is left to do when the shell cannot be waited for: it works on alone.
            let _ = shell.wait();
        }
    }

    fn tell(&self, verb: &str, pid: Pid) -> std::io::Result<()> {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        let (stdin, _) = shell.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
        stdin.write_all(format!("{verb} {}\n", pid.as_raw_nonzero()).as_bytes())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.close();
    }
}

/// Closes a keeper when a stack is dropped, even while other handles still refer to the keeper.
pub(super) struct CloseOnDrop(pub(super) Arc<Keeper>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A kept child. Dropping it does not end it; the keeper does.
pub(super) struct Kept {
    child: Child,
    pid: Pid,
    keeper: Arc<Keeper>,
    ended: Option<ExitStatus>,
}

impl Kept {
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended = Some(status);
            // A keeper that is closed already knows nothing to forget.
            let _ = self.keeper.tell("done", self.pid);
        }
        self.ended
    }

    /// Waits until it has ended, at most `limit`. Polls, so that it works in whichever runtime the caller lives.
    pub(super) async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal unless it has ended: until it is reaped here, its process id is nobody else's.
    pub(super) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // It may end between the two lines; then there is nothing to signal.
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }
}
