//! What `/proc` says about processes that are not this one's children: backends of PostgreSQL, leftovers of an owner
//! that was killed.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::error::DevStackError;

const ORPHAN_LIMIT: Duration = Duration::from_secs(30);

/// Stops `parent` and its children (so that none is made meanwhile), then sends `signal` to all of them.
pub(super) fn signal_family(parent: Pid, signal: Signal) {
    // Errors mean that a process ended first, which is as good.
    let _ = rustix::process::kill_process(parent, Signal::STOP);
    let children = children_of(parent);
    for child in children {
        let _ = rustix::process::kill_process(child, signal);
    }
    if signal != Signal::STOP {
        let _ = rustix::process::kill_process(parent, signal);
    }
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| parent_of(pid) == Some(parent.as_raw_nonzero().get()))
        .filter_map(Pid::from_raw)
        .collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): the name is in parentheses and may hold anything; state and parent follow the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Ends the process that `pid_file` names if its command line holds `mark`, then removes the file. A process id that
/// now belongs to something else is left alone; its stale file would keep PostgreSQL from starting.
pub(super) async fn settle_orphan(pid_file: &Path, mark: &Path) -> Result<(), DevStackError> {
    let Ok(text) = std::fs::read_to_string(pid_file) else {
        return Ok(());
    };
    let named = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
    if let Some(pid) = named.and_then(Pid::from_raw) {
        let force_at = Instant::now() + ORPHAN_LIMIT;
        let give_up_at = force_at + ORPHAN_LIMIT;
        if is_running(pid, mark) {
            let _ = rustix::process::kill_process(pid, Signal::INT);
            let _ = rustix::process::kill_process(pid, Signal::CONT);
        }
        while is_running(pid, mark) {
            if Instant::now() > give_up_at {
                return Err(DevStackError::Held(mark.to_owned()));
            }
            if Instant::now() > force_at {
                signal_family(pid, Signal::KILL);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    match std::fs::remove_file(pid_file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(DevStackError::file("remove", pid_file)(error))
        }
        _ => Ok(()),
    }
}

fn is_running(pid: Pid, mark: &Path) -> bool {
    // A zombie's command line is empty.
    std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).is_ok_and(|line| {
        line.split(|byte| *byte == 0).any(|word| word == mark.as_os_str().as_encoded_bytes())
    })
}
