//! A disk that a test can fill without filling anybody else's.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, mounted over a directory whose files it holds. Unmounted with this value.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Moves the directory's files onto it; nobody may use them meanwhile. `None` for a user who may not mount.
    pub fn under(directory: &Path, bytes: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let aside = directory.with_extension("aside");
        run(Command::new("mv").arg(directory).arg(&aside));
        std::fs::create_dir(directory).unwrap();
        let size = format!("size={bytes}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory));
        let disk = Self(directory.to_owned());
        run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(directory));
        std::fs::remove_dir_all(aside).unwrap();
        Some(disk)
    }

    /// Until not another byte fits.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![0x5a; size];
            let full = loop {
                if let Err(error) = ballast.write_all(&piece) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server may still have files open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
