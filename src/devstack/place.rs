//! A stack's directory: the lock that keeps two owners apart, ports that a restart takes again, secrets in 0600 files,
//! and a second folder for PostgreSQL's data when its account cannot enter the first.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::account::Account;
use super::error::DevStackError;
use crate::domain::random::Random;

const STATE_FILE: &str = "stack.json";
/// Below the ports that systems hand to outgoing connections (Linux: from 32768), so that a stopped part's port is
/// still free when it starts again.
const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 12_000;

/// What a restart needs to know. Nothing secret.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct State {
    pub(super) data_port: Option<u16>,
    pub(super) keys_port: Option<u16>,
    pub(super) vault_port: Option<u16>,
    pub(super) vault_peer_port: Option<u16>,
    pub(super) service_port: Option<u16>,
    /// Where the data directories are when they cannot be in the stack's own directory.
    pub(super) cluster_home: Option<PathBuf>,
}

/// A directory held by this process.
pub(super) struct Place {
    directory: PathBuf,
    _lock: File,
}

impl Place {
    /// Makes the directory if needed, and locks it until this value is dropped or the process ends.
    pub(super) fn hold(directory: &Path, account: Option<&Account>) -> Result<Self, DevStackError> {
        // As root, PostgreSQL's account must get through to its data, but need not see what else there is.
        let mode = if account.is_some() { 0o711 } else { 0o700 };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(directory)
            .map_err(DevStackError::file("make", directory))?;
        let directory = directory.canonicalize().map_err(DevStackError::file("find", directory))?;
        let path = directory.join("lock");
        let lock = lock_file(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(DevStackError::Held(directory)),
            Err(std::fs::TryLockError::Error(error)) => Err(DevStackError::file("lock", &path)(error)),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn state(&self) -> Result<State, DevStackError> {
        read_state(&self.directory)
    }

    pub(super) fn save(&self, state: &State) -> Result<(), DevStackError> {
        let text = serde_json::to_vec_pretty(state).unwrap_or_default();
        write_private(&self.path(STATE_FILE), &text)
    }

    /// Where PostgreSQL's data goes: here, unless its account cannot reach this directory (somebody's home, say). Then
    /// a private folder among the temporary files, which `state` remembers.
    pub(super) fn cluster_home(
        &self,
        state: &mut State,
        account: Option<&Account>,
        random: &dyn Random,
    ) -> Result<PathBuf, DevStackError> {
        let Some(account) = account else {
            return Ok(self.directory.clone());
        };
        if let Some(home) = &state.cluster_home {
            if account.owns(home) {
                return Ok(home.clone());
            }
            // Cleared by a reboot, or never ours. The keys in Vault are of no use to new, empty databases.
            return Err(DevStackError::Lost { home: home.clone(), directory: self.directory.clone() });
        }
        if account.can_enter(&self.directory) {
            return Ok(self.directory.clone());
        }
        let home = std::env::temp_dir().join(format!("strongroom-{}", &*random_text(random)?));
        // Fails when the name exists, also as a link.
        DirBuilder::new().mode(0o700).create(&home).map_err(DevStackError::file("make", &home))?;
        account.own(&home)?;
        state.cluster_home = Some(home.clone());
        self.save(state)?;
        Ok(home)
    }
}

/// Opens, and makes if needed, a file to lock: what is in it does not matter.
pub(super) fn lock_file(path: &Path) -> Result<File, DevStackError> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(false).open(path).map_err(DevStackError::file("open", path))
}

/// Removes a stack that does not run: its directory and, if there is one, the second folder.
pub fn remove(directory: &Path) -> Result<(), DevStackError> {
    let home = read_state(directory).unwrap_or_default().cluster_home;
    for directory in home.iter().map(PathBuf::as_path).chain([directory]) {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DevStackError::file("remove", directory)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_state(directory: &Path) -> Result<State, DevStackError> {
    let path = directory.join(STATE_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| DevStackError::Spoiled(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(DevStackError::file("read", &path)(error)),
    }
}

/// Replaces a file, in one step, with one that only its owner can read.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DevStackError> {
    let fresh = path.with_added_extension("new");
    let write = || {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    write().map_err(DevStackError::file("write", path))
}

/// 128 random bits as text, for passwords and names.
pub(super) fn random_text(random: &dyn Random) -> Result<Zeroizing<String>, DevStackError> {
    use std::fmt::Write;
    let mut bytes = Zeroizing::new([0_u8; 16]);
    random.fill(&mut *bytes)?;
    let mut text = Zeroizing::new(String::with_capacity(32));
    for byte in *bytes {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// `wanted` if nothing listens there, else another port. Somebody may take it before the part does: try again then.
pub(super) fn free_port(wanted: Option<u16>) -> Result<u16, DevStackError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if let Some(port) = wanted.filter(|port| is_free(*port)) {
        return Ok(port);
    }
    // Owners start at different places, so that those that start together seldom meet.
    let offset = std::process::id().wrapping_mul(97);
    for _ in 0..PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + offset.wrapping_add(step) % PORTS;
        if let Some(port) = u16::try_from(port).ok().filter(|port| is_free(*port)) {
            return Ok(port);
        }
    }
    Err(DevStackError::NoPort)
}

pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::random::SystemRandom;

    #[test]
    fn a_port_is_taken_again_unless_somebody_listens_there() {
        let first = free_port(None).unwrap();
        assert_eq!(free_port(Some(first)).unwrap(), first);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert_ne!(free_port(Some(first)).unwrap(), first);
    }

    #[test]
    fn a_directory_has_one_owner_and_keeps_its_state() {
        let name = format!("strongroom-place-{}", &*random_text(&SystemRandom::default()).unwrap());
        let directory = std::env::temp_dir().join(name);
        let place = Place::hold(&directory, None).unwrap();
        assert!(matches!(Place::hold(&directory, None), Err(DevStackError::Held(_))));
        place.save(&State { data_port: Some(20_001), ..State::default() }).unwrap();
        drop(place);
        let place = Place::hold(&directory, None).unwrap();
        assert_eq!(place.state().unwrap().data_port, Some(20_001));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
