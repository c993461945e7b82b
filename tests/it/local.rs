//! `dev` and `demo` as children of a test: in an empty folder of their own, with the programs that the others use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::parts::Folder;

/// `strongroom ARGUMENTS` in `folder`, which is also its place for temporary files, as if it was called from a checkout.
pub fn strongroom(folder: &Folder, arguments: &[&str]) -> Command {
    let tools =
        std::env::var_os("STRONGROOM_TOOLS").map_or_else(|| project(".strongroom/tools"), PathBuf::from);
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command
        .args(arguments)
        .current_dir(folder.path())
        .env("TMPDIR", folder.path())
        .env("CARGO_MANIFEST_DIR", project(""))
        .env("STRONGROOM_TOOLS", std::path::absolute(tools).unwrap())
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    command
}

pub fn project(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// SIGINT or SIGTERM to one process.
pub fn signal(process_id: u32, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(i32::try_from(process_id).unwrap()).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

/// Command lines of every process that was started for `folder`: each has it in its arguments or its environment.
pub fn processes_of(folder: &Folder) -> Vec<String> {
    let mark = folder.path().to_str().unwrap().as_bytes();
    let mentions = |file: PathBuf| {
        std::fs::read(file).is_ok_and(|bytes| bytes.windows(mark.len()).any(|window| window == mark))
    };
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let ours =
        entries.filter(|process| mentions(process.join("cmdline")) || mentions(process.join("environ")));
    ours.map(|process| std::fs::read_to_string(process.join("cmdline")).unwrap_or_default()).collect()
}
