//! Who runs PostgreSQL when the owner is root: `initdb` and `postgres` refuse to.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::DevStackError;

/// An unprivileged account of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

/// The account to run PostgreSQL as, or `None` when this process is not root and runs it as itself.
pub(super) fn for_postgres() -> Result<Option<Account>, DevStackError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let path = Path::new("/etc/passwd");
    let accounts = std::fs::read_to_string(path).map_err(DevStackError::file("read", path))?;
    choose(&accounts).map(Some).ok_or(DevStackError::NoAccount)
}

impl Account {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes `command` run as this account, without root's supplementary groups.
    pub(super) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Whether a process of this account can work inside `directory`, found by starting one there.
    pub(super) fn can_enter(&self, directory: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ":"]).current_dir(directory).stdin(Stdio::null());
        self.apply(&mut command);
        command.status().is_ok_and(|status| status.success())
    }

    /// Makes this account the owner of `path` itself.
    pub(super) fn own(&self, path: &Path) -> Result<(), DevStackError> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .map_err(DevStackError::file("change the owner of", path))
    }

    pub(super) fn owns(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        // Not following a link: somebody else may have put one in the folder for temporary files.
        path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == self.uid)
    }
}

/// `postgres`, else `nobody`, else whoever comes first and is not root. (`initdb` asks for the account's name, so an
/// unlisted number would not do.)
fn choose(accounts: &str) -> Option<Account> {
    let accounts: Vec<Account> = accounts
        .lines()
        .filter_map(parse_line)
        .filter(|account| account.uid != 0 && account.gid != 0)
        .collect();
    let named = |name| accounts.iter().find(|account: &&Account| account.name == name);
    named("postgres").or_else(|| named("nobody")).or_else(|| accounts.first()).cloned()
}

fn parse_line(line: &str) -> Option<Account> {
    // passwd(5): name:password:UID:GID:…
    let mut parts = line.split(':');
    let name = parts.next()?.to_owned();
    let uid = parts.nth(1)?.parse().ok()?;
    let gid = parts.next()?.parse().ok()?;
    Some(Account { name, uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_postgres_or_nobody_or_any_but_root() {
        let name = |accounts: &str| choose(accounts).map(|account| account.name);
        let all =
            "root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/x\nnobody:x:65534:65534::/:/x\npostgres:x:101:104::/:/x";
        assert_eq!(name(all).as_deref(), Some("postgres"));
        assert_eq!(name(&all.replace("postgres", "other")).as_deref(), Some("nobody"));
        assert_eq!(name("root:x:0:0::/:/x\nweb:x:33:33::/:/x").as_deref(), Some("web"));
        assert_eq!(name("root:x:0:0::/:/x\nwheel:x:5:0::/:/x\nbroken\ntoor:x:zero:0"), None);
    }
}
