use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::audit::checkpoint::Trust;
use crate::audit::checkpoint::fixtures::Signer;
use crate::audit::fixtures::{Folder, log_entries};
use crate::audit::tiles::TileId;
use crate::audit::tree::TreeHash;
use crate::audit::verify::{Finding, Verification};
use crate::domain::clock::Timestamp;

fn open(root: &Path) -> Result<LogWriter<Directory>, ExportError> {
    LogWriter::open(Directory::open(root)?)
}

fn append(writer: &mut LogWriter<Directory>, entries: &[Vec<u8>]) -> Result<(), ExportError> {
    writer.append(entries.iter().map(Vec::as_slice))
}

fn publish(writer: &mut LogWriter<Directory>) -> Result<(), ExportError> {
    let signed = Signer::log(1).sign(writer.tail().size(), writer.tail().root());
    writer.publish(&signed)
}

/// Every file of a log by its path, but for what only the writer needs.
pub fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.file_name().unwrap().to_str().unwrap().starts_with('.') {
                continue;
            }
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let name = entry.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(entry).unwrap());
            }
        }
    }
    found
}

/// What a verifier says of a log.
fn found(root: &Path) -> Vec<Finding> {
    let trust = Trust::parse(format!("log {}\nquorum none", Signer::log(1).key).as_bytes()).unwrap();
    let verification = Verification {
        log: root,
        trust: &trust,
        witnesses: 0,
        from: None,
        kept_from: Timestamp::from_micros(0),
        threads: 2,
    };
    verification.run(&mut |_, _| {}).unwrap().findings
}

/// Without partial tiles: which of them are there depends on where it stopped.
fn lasting(root: &Path) -> BTreeMap<String, Vec<u8>> {
    files(root)
        .into_iter()
        .filter(|(path, _)| !path.contains(".p/") && !path.starts_with("checkpoint"))
        .collect()
}

#[test]
fn a_log_is_the_files_of_the_specification() {
    let folder = Folder::new("layout");
    let root = folder.path().join("log");
    let mut writer = open(&root).unwrap();
    let entries = log_entries(300);
    append(&mut writer, &entries[..100]).unwrap();
    publish(&mut writer).unwrap();
    append(&mut writer, &entries[100..]).unwrap();
    assert!(root.join("tile/0/000.p/100").exists(), "needed as long as the checkpoint of 100 is the newest");
    publish(&mut writer).unwrap();
    writer.keep_key(&LogFile::of_log_key(&Signer::log(1).key)).unwrap();
    // One that the policy has by another name by now is the same key.
    writer.keep_key(&LogFile::of_witness_key("elsewhere", &Signer::log(1).key)).unwrap();
    let found = files(&root);
    let paths: Vec<&str> =
        found.keys().map(String::as_str).filter(|path| !path.starts_with("checkpoints/")).collect();
    let key = format!("keys/{:08x}", Signer::log(1).key.id());
    let expected = [
        "checkpoint",
        key.as_str(),
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ];
    assert_eq!(paths, expected);
    let kept: Vec<&String> = found.keys().filter(|path| path.starts_with("checkpoints/")).collect();
    assert!(
        kept.len() == 2 && kept[0].starts_with("checkpoints/100-") && kept[1].starts_with("checkpoints/300-")
    );
    assert_eq!(found["checkpoint"], found[kept[1]]);
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("tile/0/000"), mode("checkpoint"), mode("tile/entries")), (0o440, 0o440, 0o750));
}

#[test]
fn a_file_is_written_once_and_other_bytes_are_refused() {
    let folder = Folder::new("once");
    let entries = log_entries(300);
    let mut writer = open(folder.path()).unwrap();
    append(&mut writer, &entries).unwrap();
    drop(writer);
    // No checkpoint: the same entries again are the same files.
    let mut writer = open(folder.path()).unwrap();
    assert_eq!(writer.tail().size(), 0);
    append(&mut writer, &entries).unwrap();
    drop(writer);
    let mut writer = open(folder.path()).unwrap();
    let mut others = entries.clone();
    others[7] = entries[8].clone();
    let before = files(folder.path());
    let refused = append(&mut writer, &others).unwrap_err();
    assert!(matches!(&refused, ExportError::Different { path } if path == "tile/entries/000"), "{refused}");
    assert_eq!(writer.tail().size(), 0);
    assert_eq!(files(folder.path()), before);
    append(&mut writer, &entries).unwrap();
    publish(&mut writer).unwrap();
}

#[test]
fn a_folder_is_synced_when_it_has_a_new_name_and_made_again_when_it_is_gone() {
    let folder = Folder::new("folders");
    let mut directory = Directory::open(folder.path()).unwrap();
    let file = |path: &str| LogFile { path: path.to_owned(), bytes: vec![1] };
    // As many steps as a sync takes: one for each folder.
    let synced = |directory: &mut Directory| {
        directory.steps_left = Some(u32::MAX);
        directory.sync().unwrap();
        u32::MAX - directory.steps_left.take().unwrap()
    };
    synced(&mut directory);
    directory.put(&[file("tile/0/000.p/1")]).unwrap();
    assert_eq!(synced(&mut directory), 4, "the root and all below it: each may hold a name that is new");
    directory.put(&[file("tile/0/000.p/2")]).unwrap();
    assert_eq!(synced(&mut directory), 1);
    directory.put(&[file("tile/0/001.p/1")]).unwrap();
    assert_eq!(synced(&mut directory), 2, "the new folder, and the one that has its name");
    assert_eq!(synced(&mut directory), 0);
    directory.try_remove("tile/0/000.p");
    directory.put(&[file("tile/0/000.p/3")]).unwrap();
    assert_eq!(synced(&mut directory), 2);
    assert_eq!(files(folder.path()).into_keys().collect::<Vec<_>>(), ["tile/0/000.p/3", "tile/0/001.p/1"]);
}

#[test]
fn only_the_head_that_was_written_is_published() {
    let folder = Folder::new("head");
    let mut writer = open(folder.path()).unwrap();
    append(&mut writer, &log_entries(10)).unwrap();
    let root = writer.tail().root();
    for other in [Signer::log(1).sign(9, root), Signer::log(1).sign(10, TreeHash::of_nothing())] {
        assert!(matches!(writer.publish(&other), Err(ExportError::OtherHead)));
    }
    assert!(!folder.path().join("checkpoint").exists());
    // A heartbeat: the same head, seen by a witness meanwhile.
    publish(&mut writer).unwrap();
    let mut seen = Signer::log(1).sign(10, root);
    Signer::witness("w", 3).cosign(&mut seen, 60);
    writer.publish(&seen).unwrap();
    assert_eq!(writer.published(), Some(&seen));
    assert_eq!(fs::read_dir(folder.path().join("checkpoints")).unwrap().count(), 2);
}

#[test]
fn one_process_writes_at_a_time() {
    let folder = Folder::new("lock");
    let first = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(ExportError::Locked)));
    drop(first);
    open(folder.path()).unwrap();
}

#[test]
fn a_damaged_log_is_not_continued() {
    let folder = Folder::new("damaged");
    let mut writer = open(folder.path()).unwrap();
    append(&mut writer, &log_entries(300)).unwrap();
    publish(&mut writer).unwrap();
    drop(writer);
    let refusal = |path: &str, bytes: Option<&[u8]>| {
        let full = folder.path().join(path);
        let before = fs::read(&full).unwrap();
        fs::remove_file(&full).unwrap();
        if let Some(bytes) = bytes {
            fs::write(&full, bytes).unwrap();
        }
        let refusal = open(folder.path()).err().unwrap();
        let _ = fs::remove_file(&full);
        fs::write(&full, before).unwrap();
        refusal.to_string()
    };
    let root = "the stored tiles do not lead to the checkpoint's root";
    assert_eq!(refusal("tile/0/001.p/44", Some(&[7; 44 * 32])), root);
    assert_eq!(
        refusal("tile/0/001.p/44", Some(&[7; 44 * 32 - 1])),
        "tile/0/001.p/44 is missing or not what it should be"
    );
    assert_eq!(refusal("tile/1/000.p/1", None), "tile/1/000.p/1 is missing or not what it should be");
    let entries = "the stored entries are not those of the stored tiles";
    assert_eq!(refusal("tile/entries/001.p/44", Some(&[0; 88])), entries);
    assert_eq!(refusal("tile/entries/001.p/44", Some(b"\0")), entries);
    assert_eq!(refusal("checkpoint", Some(b"300")), "checkpoint is missing or not what it should be");
    open(folder.path()).unwrap();
}

/// A log whose partial tiles became full meanwhile is continued from the full ones.
#[test]
fn a_full_tile_serves_for_its_partial_ones() {
    let folder = Folder::new("full");
    let entries = log_entries(400);
    let mut writer = open(folder.path()).unwrap();
    append(&mut writer, &entries[..200]).unwrap();
    publish(&mut writer).unwrap();
    append(&mut writer, &entries[200..]).unwrap();
    drop(writer);
    fs::remove_dir_all(folder.path().join("tile/0/000.p")).unwrap();
    fs::remove_dir_all(folder.path().join("tile/entries/000.p")).unwrap();
    let mut writer = open(folder.path()).unwrap();
    assert_eq!(writer.tail().size(), 200);
    append(&mut writer, &entries[200..]).unwrap();
    publish(&mut writer).unwrap();
}

/// Killed at every single step between one checkpoint and the next: the log then is at one of the two, and goes on from
/// there to the very same files, whatever the steps in which it grows this time.
#[test]
fn a_kill_at_any_step_leaves_a_log_that_goes_on() {
    let entries = log_entries(600);
    let whole = Folder::new("whole");
    let mut writer = open(whole.path()).unwrap();
    append(&mut writer, &entries).unwrap();
    let expected = lasting(whole.path());
    let mut deaths = 0;
    for steps in 0.. {
        let folder = Folder::new(&format!("kill-{steps}"));
        let mut writer = open(folder.path()).unwrap();
        append(&mut writer, &entries[..200]).unwrap();
        publish(&mut writer).unwrap();
        writer.die_after(steps);
        let finished = append(&mut writer, &entries[200..540]).and_then(|()| publish(&mut writer));
        drop(writer);
        assert_eq!(found(folder.path()), [], "after {steps} steps");
        let mut writer = open(folder.path()).unwrap();
        let size = writer.tail().size();
        assert!(
            if finished.is_ok() { size == 540 } else { size == 200 || size == 540 },
            "{size} after {steps}"
        );
        for chunk in entries[usize::try_from(size).unwrap()..].chunks(70) {
            append(&mut writer, chunk).unwrap();
            publish(&mut writer).unwrap();
        }
        assert_eq!(lasting(folder.path()), expected, "after {steps} steps");
        assert_eq!(found(folder.path()), [], "after {steps} steps");
        assert!(TileId::partial_of(600).iter().all(|id| folder.path().join(id.to_string()).exists()));
        deaths += 1;
        if finished.is_ok() {
            break;
        }
    }
    assert!(deaths > 50, "only {deaths}");
}
