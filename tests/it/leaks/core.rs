//! A crash: no core of the process is left, whoever allowed one.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use crate::parts::Folder;
use crate::support::{ServiceOptions, Strongroom, with_cores};

const ABORTED: i32 = 6;

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Whether a program that takes no measures leaves a core on this machine. (Some keep them from everybody; there is nothing
/// to see then but that the service does not do what nobody can.)
fn is_left_by_others() -> bool {
    let folder = Folder::new("core-of-another");
    let status: ExitStatus = with_cores(folder.path(), &["sh", "-c", "kill -ABRT $$"]).status().unwrap();
    assert_eq!(status.signal(), Some(ABORTED));
    // A pattern may send it elsewhere (core(5)); the kernel tells that it was made.
    assert!(status.core_dumped() || files(folder.path()) == 0);
    status.core_dumped()
}

#[tokio::test]
async fn a_crash_leaves_no_core() {
    let is_left_by_others = is_left_by_others();
    let folder = Folder::new("core");
    let core_directory = Some(folder.path().to_owned());
    let strongroom = Strongroom::start_with(ServiceOptions { core_directory, ..Default::default() }).await;
    let status = strongroom.crash().await;
    assert_eq!(status.signal(), Some(ABORTED));
    assert!(!status.core_dumped(), "a core was made");
    assert_eq!(files(folder.path()), 0, "something was left where it ran; of others: {is_left_by_others}");
}
