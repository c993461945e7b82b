//! A log, and everything that can be done to it by somebody who has its files and not its keys, or its keys as well.

mod expiry;
mod flushes;
mod log;

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::checkpoint::fixtures::Signer;
use crate::audit::export::tests::files as files_of;
use crate::audit::export::{Directory, LogWriter};
use crate::audit::fixtures::log_entries;
use crate::audit::tiles::TileId;
use log::Log;

#[test]
fn a_log_that_nobody_touched_holds() {
    let log = Log::usual("holds");
    let mut heard = Vec::new();
    let report = log.verification(3).run(&mut |done, of| heard.push((done, of))).unwrap();
    assert_eq!(report.findings, []);
    assert!(report.holds() && report.notes.is_empty());
    assert_eq!(
        (report.size, report.entries, report.start, report.checkpoints, report.chains),
        (1_000, 1_000, 0, 4, 2)
    );
    assert_eq!(report.witnesses, [(String::from("w"), 1_800_001_000)]);
    assert_eq!(heard, [(256, 1_000), (512, 1_000), (768, 1_000), (1_000, 1_000)]);
    let empty = Log::new("empty", &[], &[0]);
    assert!(empty.run(None).holds());
}

/// Partial files go when the full one is there, also while somebody reads.
#[test]
fn a_log_that_grows_meanwhile_holds() {
    let entries = log_entries(1_100);
    let log = Log::new("grows", &entries[..1_000], &[100, 800, 1_000]);
    let (partial, shorter) = (log.path("tile/entries/003.p/232"), log.path("tile/entries/003.p/32"));
    assert!(partial.exists() && shorter.exists());
    let mut grow = Some(|| {
        let mut writer = LogWriter::open(Directory::open(log.folder.path()).unwrap()).unwrap();
        writer.append(entries[1_000..].iter().map(Vec::as_slice)).unwrap();
        writer.publish(&log.head(writer.tail().size(), writer.tail().root())).unwrap();
        assert!(!partial.exists() && !shorter.exists());
    });
    // With one thread the first bundle is done before the last one is begun.
    let mut progress = |_, _| {
        if let Some(grow) = grow.take() {
            grow();
        }
    };
    let report = log.verification(1).run(&mut progress).unwrap();
    assert!(grow.is_none());
    assert_eq!((report.findings, report.entries), (vec![], 1_000));
    assert_eq!(log.run(None).entries, 1_100);
}

/// Whoever writes the files can write a checkpoint of any size; nobody is kept busy by it.
#[test]
fn an_entry_is_looked_for_where_there_are_files() {
    let log = Log::usual("endless");
    let size = u64::try_from(i64::MAX).unwrap();
    log.put("checkpoint", log.signer.sign(size, TreeHash::of_nothing()).to_string().as_bytes());
    for name in [EntryName::Id(Uuid::from_u128(1)), EntryName::Index(size)] {
        assert!(matches!(prove(log.folder.path(), name, 2), Err(ProveFault::NoEntry)));
    }
    assert!(matches!(prove(log.folder.path(), EntryName::Index(size - 1), 2), Err(ProveFault::Damaged)));
}

#[test]
fn an_entry_that_was_edited_is_named() {
    let log = Log::usual("edit");
    log.edit("tile/entries/001", |bytes| {
        let at = bytes.windows(5).position(|word| word == b"TREAT").unwrap();
        bytes[at..at + 5].copy_from_slice(b"HOPER");
    });
    assert_eq!(log.found(), ["entry 256: not what the tree has there"]);
    // With its hash in the tile, which is then not the tree's either.
    let log = Log::usual("edit-both");
    log.edit("tile/entries/001", |bytes| bytes[2 + 300] ^= 1);
    let entry = log.bytes("tile/entries/001");
    let length = usize::from(u16::from_be_bytes([entry[0], entry[1]]));
    let hash = TreeHash::of_leaf(&entry[2..2 + length]);
    log.edit("tile/0/001", |bytes| bytes[..32].copy_from_slice(hash.as_bytes()));
    assert_eq!(log.found(), ["tile/0/001: changed together with its entries, some of entries 256 to 511"]);
    // In the last, partial bundle, where no tile above knows it.
    let log = Log::usual("edit-last");
    log.edit("tile/entries/003.p/232", |bytes| bytes[2 + 300] ^= 1);
    assert_eq!(log.found(), ["entry 768: not what the tree has there"]);
}

/// Whoever has no key cannot have a tree of their own believed.
#[test]
fn a_log_that_was_written_anew_fits_no_checkpoint() {
    let log = Log::usual("anew");
    let mut entries = log_entries(1_000);
    let text = String::from_utf8(entries[300].clone()).unwrap();
    entries[300] = text.replacen("TREAT", "HOPER", 1).into_bytes();
    let other = Log::new("anew-other", &entries, &[100, 256, 700, 1_000]);
    for (path, bytes) in
        files_of(other.folder.path()).into_iter().filter(|(path, _)| path.starts_with("tile/"))
    {
        log.put(&path, &bytes);
    }
    let mut expected: Vec<String> = ["checkpoint", &log.kept("700"), &log.kept("x001/000")]
        .iter()
        .map(|path| {
            let size = if path.contains("700") { 700 } else { 1_000 };
            format!("{path}: signed for another log of {size} entries than this one")
        })
        .collect();
    let mut found = log.found();
    // The entry's own chain does not follow it any more.
    found.retain(|finding| !finding.starts_with("chain "));
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn an_entry_that_was_dropped_put_in_or_moved_is_named() {
    let log = Log::usual("drop");
    let mut entries = log_entries(1_000);
    entries.remove(300);
    log.rebundle(&entries);
    let found = log.found();
    assert_eq!(
        found,
        [
            "entries 300 to 767: one place early: an entry before is gone",
            "tile/entries/003.p/232: the bundle ends after 231 of its entries",
            "entries 768 to 998: one place early: an entry before is gone",
        ]
    );

    let log = Log::usual("insert");
    let mut entries = log_entries(1_000);
    entries.insert(300, entries[7].clone());
    log.rebundle(&entries);
    let found = log.found();
    assert_eq!(found[0], "entry 300: not what the tree has there");
    assert_eq!(found[1], "entries 301 to 767: one place late: something was put in before");
    let follow = "follow the last entry of the bundle";
    assert!(found[2].starts_with("tile/entries/003.p/232:") && found[2].ends_with(follow), "{found:?}");
    assert_eq!(found[3], "entries 768 to 999: one place late: something was put in before");
    assert_eq!(found.len(), 4, "{found:?}");

    let log = Log::usual("reorder");
    let mut entries = log_entries(1_000);
    entries.swap(300, 400);
    log.rebundle(&entries);
    let moved = |entry| format!("entry {entry}: at another place than in the tree");
    assert_eq!(log.found(), [moved(300), moved(400)]);
    entries.swap(300, 400);
    entries.swap(300, 301);
    log.rebundle(&entries);
    let found = log.found();
    assert_eq!(found[0], "entry 300: one place early: an entry before is gone");
    assert_eq!(found[1], "entry 301: one place late: something was put in before");
}

#[test]
fn a_log_that_was_cut_is_found() {
    let log = Log::usual("cut-file");
    log.edit("tile/entries/003.p/232", |bytes| bytes.truncate(5_000));
    let found = log.found();
    assert!(found[0].starts_with("tile/entries/003.p/232: the bundle ends after "), "{found:?}");

    let log = Log::usual("cut-bundles");
    fs::remove_file(log.path("tile/entries/002")).unwrap();
    fs::remove_dir_all(log.path("tile/entries/003.p")).unwrap();
    assert_eq!(log.found(), ["entries 512 to 999: missing"]);
    fs::remove_file(log.path("tile/0/002")).unwrap();
    fs::remove_dir_all(log.path("tile/0/003.p")).unwrap();
    let found = log.found();
    for expected in [
        "entries 512 to 767: missing",
        "entries 768 to 999: missing",
        "tile/0/002: missing",
        "tile/0/003.p/232: missing",
    ] {
        assert!(found.iter().any(|finding| finding == expected), "{found:?}");
    }

    // The newest checkpoint taken back as well.
    let log = Log::usual("rolled-back");
    let older = log.bytes(&log.kept("700"));
    log.put("checkpoint", &older);
    assert_eq!(log.found(), ["checkpoint: says 700 entries, but a checkpoint of 1000 was published"]);
    fs::remove_file(log.path("checkpoint")).unwrap();
    assert_eq!(log.found(), ["checkpoint: says 0 entries, but a checkpoint of 1000 was published"]);
}

/// With everything of the tail gone, the files alone cannot show it; a checkpoint from elsewhere does.
#[test]
fn a_tail_that_was_dropped_shows_beside_a_known_checkpoint() {
    let longer = Log::usual("tail-long");
    let known = longer.bytes("checkpoint");
    let log = Log::new("tail-short", &log_entries(700), &[100, 256, 700]);
    assert!(log.run(None).holds());
    let report = log.run(Some(&known));
    assert_eq!(report.findings, [Finding::Shrunk { size: 700, known: 1_000 }]);
}

#[test]
fn tiles_that_were_swapped_changed_or_lost_are_named() {
    let changed = |path: &str| format!("{path}: other hashes than the tree's");
    let log = Log::usual("swap");
    log.swap("tile/0/000", "tile/0/002");
    assert_eq!(log.found(), [changed("tile/0/000"), changed("tile/0/002")]);
    log.swap("tile/entries/000", "tile/entries/002");
    let both = |index, places| {
        format!("tile/0/00{index}: changed together with its entries, some of entries {places}")
    };
    assert_eq!(log.found(), [both(0, "0 to 255"), both(2, "512 to 767")]);
    log.swap("tile/0/000", "tile/0/002");
    let other = |places| format!("entries {places}: not what the tree has there");
    assert_eq!(log.found(), [other("0 to 255"), other("512 to 767")]);

    let log = Log::usual("tile");
    for path in ["tile/1/000.p/3", "tile/0/003.p/232", "tile/0/001"] {
        let before = log.bytes(path);
        log.edit(path, |bytes| bytes[40] ^= 1);
        assert_eq!(log.found(), [changed(path)]);
        log.edit(path, |bytes| bytes.truncate(60));
        let (hashes, bytes) = (before.len() / 32, before.len());
        assert_eq!(
            log.found(),
            [format!("{path}: a tile of {hashes} hashes has {bytes} bytes, and this has 60")]
        );
        fs::remove_file(log.path(path)).unwrap();
        assert_eq!(log.found(), [format!("{path}: missing")]);
        log.put(path, &before);
    }
    assert!(log.run(None).holds());
}

/// Where a tile is lost that would tell entries from tiles, the signed root still does.
#[test]
fn without_the_tile_above_the_signed_root_says_who_is_right() {
    let log = Log::usual("undecided");
    log.put("tile/1/000.p/3", &[7; 96]);
    log.edit("tile/entries/001", |bytes| bytes[2 + 300] ^= 1);
    let upper = "tile/1/000.p/3: other hashes than the tree's";
    assert_eq!(log.found(), [upper, "entry 256: not what the tree has there"]);
    log.edit("tile/entries/001", |bytes| bytes[2 + 300] ^= 1);
    log.edit("tile/0/001", |bytes| bytes[0] ^= 1);
    assert_eq!(log.found(), [upper, "tile/0/001: other hashes than the tree's"]);
}

#[test]
fn partial_files_that_are_still_there_are_held_against_the_full_ones() {
    let entries = log_entries(1_000);
    let log = Log::new("partial", &entries, &[800, 1_000]);
    assert!(log.path("tile/0/003.p/32").exists());
    for path in ["tile/0/003.p/32", "tile/entries/003.p/32"] {
        let before = log.bytes(path);
        for bytes in [&[7; 32 * 32][..], b"", &before[..40]] {
            log.put(path, bytes);
            assert_eq!(log.found(), [format!("{path}: not the beginning of what came after it")]);
        }
        log.put(path, &before);
    }
    fs::create_dir_all(log.path("tile/1/000.p")).unwrap();
    log.put("tile/1/000.p/2", &[7; 64]);
    assert_eq!(log.found(), ["tile/1/000.p/2: not the beginning of what came after it"]);
    let beginning = log.bytes("tile/1/000.p/3")[..64].to_vec();
    log.put("tile/1/000.p/2", &beginning);
    assert!(log.run(None).holds());
}

#[test]
fn checkpoints_that_are_not_to_be_believed_are_named() {
    let log = Log::usual("checkpoints");
    let (newest, kept) = (log.bytes("checkpoint"), log.kept("x001/000"));
    let root = SignedCheckpoint::parse(&newest).unwrap();
    let root = *root.checkpoint().root();

    log.edit("checkpoint", |bytes| {
        *bytes = String::from_utf8(bytes.clone()).unwrap().replacen("\n1000\n", "\n1001\n", 1).into();
    });
    assert_eq!(
        log.found(),
        [
            "checkpoint: the signature under the name strongroom.test/log is not that key's",
            "checkpoint: says 0 entries, but a checkpoint of 1000 was published",
        ]
    );
    log.put("checkpoint", b"nothing");
    assert!(log.found()[0].starts_with("checkpoint: the note has no empty line"));
    log.put("checkpoint", Signer::log(9).sign(1_000, root).to_string().as_bytes());
    assert_eq!(log.found()[0], "checkpoint: no known key of the log signed it");
    log.put("checkpoint", &newest);

    // Signed by the log itself, for another tree: by a thief of its key, or by its operator.
    let fork = log.head(700, TreeHash::of_leaf(b"another tree"));
    log.put("checkpoints/700-fork", fork.to_string().as_bytes());
    assert_eq!(log.found(), ["checkpoints/700-fork: signed for another log of 700 entries than this one"]);
    log.put("checkpoints/700-fork", log.head(0, TreeHash::of_leaf(b"another tree")).to_string().as_bytes());
    assert_eq!(log.found(), ["checkpoints/700-fork: signed for another log of 0 entries than this one"]);
    fs::remove_file(log.path("checkpoints/700-fork")).unwrap();

    let unseen = log.signer.sign(1_000, root);
    log.put("checkpoint", unseen.to_string().as_bytes());
    let few = "0 known witnesses have seen the log at 1000 entries, which is too few";
    assert_eq!(log.found(), [format!("checkpoint: {few}")]);
    log.put(&kept, unseen.to_string().as_bytes());
    log.put("checkpoint", &newest);
    assert_eq!(log.found(), [format!("{kept}: {few}")]);
}

#[test]
fn more_witnesses_than_the_policy_wants_can_be_demanded() {
    let log = Log::usual("witnesses");
    let verification = Verification {
        log: log.folder.path(),
        trust: &log.trust,
        witnesses: 2,
        from: None,
        kept_from: Timestamp::from_micros(0),
        threads: 1,
    };
    let report = verification.run(&mut |_, _| {}).unwrap();
    assert!(report.findings.iter().all(|finding| finding.kind() == "cosignatures_missing"));
    assert_eq!(report.findings_total, 5, "each checkpoint, and the newest twice");
}

#[test]
fn nothing_signed_is_nothing_verified() {
    let log = Log::usual("unsigned");
    let stranger = Trust::parse(format!("log {}\nquorum none", Signer::log(8).key).as_bytes()).unwrap();
    let verification = Verification {
        log: log.folder.path(),
        trust: &stranger,
        witnesses: 0,
        from: None,
        kept_from: Timestamp::from_micros(0),
        threads: 2,
    };
    let report = verification.run(&mut |_, _| {}).unwrap();
    assert_eq!((report.holds(), report.entries), (false, 0));
    assert_eq!(report.findings.last(), Some(&Finding::NothingSigned));
    let nowhere = Verification { log: &log.path("nowhere"), ..verification };
    assert!(matches!(nowhere.run(&mut |_, _| {}), Err(VerifyFault::Read(_))));
}

/// The tree is right and signed, and what was put into it is not.
#[test]
fn entries_that_no_service_wrote_are_named() {
    let entries = log_entries(20);
    let found = |name: &str, edit: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut entries = entries.clone();
        edit(&mut entries);
        Log::new(name, &entries, &[entries.len()]).found()
    };
    let text = |entry: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(entry.to_vec()).unwrap();
        assert!(text.contains(from));
        text.replacen(from, to, 1).into_bytes()
    };
    let broken = found("broken", &|entries| entries[4] = text(&entries[4], "TREAT", "HOPERAT"));
    let chain = "chain 019b76da-0000-7000-8000-0000000000e0";
    assert_eq!(broken, [format!("{chain}: entry 6, number 3, does not follow the one before it")]);
    let gap = found("gap", &|entries| drop(entries.remove(4)));
    assert_eq!(gap, [format!("{chain}: 2 to 2 are missing before entry 5")]);
    let twice = found("twice", &|entries| entries.insert(5, entries[4].clone()));
    let id =
        serde_json::from_slice::<serde_json::Value>(&entries[4]).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(
        twice,
        [
            format!("{chain}: entry 5 has the number 2, and the chain was past that"),
            format!("entries 4, 5: all have the id {id}"),
        ]
    );
    let swapped = found("swapped", &|entries| entries.swap(4, 6));
    assert_eq!(
        swapped,
        [
            format!("{chain}: 2 to 2 are missing before entry 4"),
            format!("{chain}: entry 6 has the number 2, and the chain was past that"),
        ]
    );
    let spaced = found("spaced", &|entries| entries[5] = text(&entries[5], "\"v\":1", "\"v\": 1"));
    assert!(spaced[0].starts_with("entry 5: not canonical JSON (RFC 8785) from byte "));
    let strange =
        found("strange", &|entries| entries[5] = text(&entries[5], "record.create", "record.steal"));
    assert_eq!(strange, ["entry 5: an act that audit/events.toml does not have"]);
    let nameless = found("nameless", &|entries| entries[5] = text(&entries[5], "\"dst\"", "\"dts\""));
    assert!(
        nameless[0].starts_with("entry 5: /dst is missing, or something unknown is in its place, at byte ")
    );
}

#[test]
fn a_log_is_verified_from_a_known_checkpoint_on() {
    let log = Log::usual("from");
    let known = log.bytes(&log.kept("700"));
    // Pruned, as far as a log may be that publishes nothing below 512.
    for path in ["tile/entries/000", "tile/entries/001", "tile/0/000", "tile/0/001"] {
        fs::remove_file(log.path(path)).unwrap();
    }
    let report = log.run(Some(&known));
    assert_eq!(report.findings, []);
    assert_eq!((report.start, report.entries, report.size), (512, 488, 1_000));
    let found = log.found();
    assert_eq!(found[0], "entries 0 to 255: missing");
    log.edit("tile/entries/003.p/232", |bytes| bytes[2 + 300] ^= 1);
    assert_eq!(log.run(Some(&known)).findings.len(), 1);
    log.edit("tile/entries/003.p/232", |bytes| bytes[2 + 300] ^= 1);
    let on_a_tile = log.bytes(&log.kept("256"));
    log.put("tile/1/000.p/3", &[log.bytes("tile/1/000.p/3")[..32].to_vec(), vec![7; 64]].concat());
    let report = log.run(Some(&on_a_tile));
    assert!(!report.holds() && report.start == 256);

    let log = Log::usual("from-fork");
    for (size, from) in [(700, 512), (256, 256)] {
        let fork = log.head(size, TreeHash::of_leaf(b"another tree")).to_string();
        let report = log.run(Some(fork.as_bytes()));
        assert_eq!(report.findings, [Finding::Forked { path: String::from("the known checkpoint"), size }]);
        assert_eq!(report.start, from);
    }
    let unseen = log.signer.sign(700, TreeHash::of_nothing()).to_string();
    let run = |from: &[u8]| {
        let from = Some(from);
        let verification = Verification {
            log: log.folder.path(),
            trust: &log.trust,
            witnesses: 1,
            from,
            kept_from: Timestamp::from_micros(0),
            threads: 1,
        };
        verification.run(&mut |_, _| {}).unwrap_err().to_string()
    };
    assert!(run(unseen.as_bytes()).starts_with("the known checkpoint is not to be believed"));
    assert!(run(b"nothing").starts_with("the known checkpoint is not to be believed"));
}

#[test]
fn what_is_not_signed_yet_and_what_is_not_of_the_log_is_noted() {
    let log = Log::usual("notes");
    let mut writer = LogWriter::open(Directory::open(log.folder.path()).unwrap()).unwrap();
    writer.append(log_entries(1_100)[1_000..].iter().map(Vec::as_slice)).unwrap();
    drop(writer);
    log.put("tile/0/notes.txt", b"");
    let report = log.run(None);
    assert_eq!(report.findings, []);
    let stray = Note::Strays { count: 1, path: String::from("tile/0/notes.txt") };
    assert_eq!(report.notes, [Note::Unsigned { reach: 1_100 }, stray]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 32, ..ProptestConfig::default() })]

    /// No bit of any file can be turned without a finding. The keys beside a log are nobody's word.
    #[test]
    fn no_bit_of_a_log_can_be_turned_unnoticed(file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8_u8, number in any::<u64>()) {
        let log = Log::new(&format!("bit-{number:x}"), &log_entries(300), &[100, 260, 300]);
        let files: Vec<(String, Vec<u8>)> = files_of(log.folder.path()).into_iter().collect();
        let (path, bytes) = file.get(&files);
        let at = at.index(bytes.len());
        log.edit(path, |bytes| bytes[at] ^= 1 << bit);
        prop_assert!(!log.run(None).holds(), "{} at {}", path, at);
    }
}

/// Without any one file, but for kept checkpoints, of which nobody knows how many there were, and partial tiles that a log
/// may drop.
#[test]
fn no_file_of_a_log_can_be_taken_away_unnoticed() {
    let log = Log::usual("lost");
    let newest = TileId::partial_of(1_000);
    for (path, bytes) in files_of(log.folder.path()) {
        fs::remove_file(log.path(&path)).unwrap();
        let is_older = TileId::parse(&path).is_some_and(|id| !id.is_full() && !newest.contains(&id));
        assert_eq!(log.run(None).holds(), path.starts_with("checkpoints/") || is_older, "{path}");
        log.put(&path, &bytes);
    }
}
