//! Python with packages of other people, installed by name where they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python of an environment of this name that has these packages, as wheels only.
pub fn python_with(name: &str, packages: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".strongroom/tools").join(name);
    let (python, marker) = (folder.join("bin/python"), folder.join("installed"));
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&marker).ok().as_ref() != Some(&wanted) {
        let run = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        run(Path::new("python3"), &["-m", "venv", "--clear", folder.to_str().unwrap()]);
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];
        run(&python, &[&pip[..], &["--only-binary=:all:"], packages].concat());
        std::fs::write(marker, wanted).unwrap();
    }
    python
}
