//! A live process's memory: what a core of it would hold.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use super::search::Search;

/// What is found in everything that the process can write to, and where. A region that changes under the search, or goes,
/// is searched as far as it can be read.
pub fn found(process_id: u32, search: &Search) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{process_id}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process_id}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (range, rights) = (words[0], words[1]);
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        let region = words.get(5).copied().unwrap_or("anonymous");
        for (name, at) in search.all_in(&bytes) {
            let around = &bytes[at.saturating_sub(64)..bytes.len().min(at + 96)];
            found.push(format!("{name} at {at:#x} of {region} {range}: {}", around.escape_ascii()));
        }
    }
    found
}

/// Nobody but root can look.
pub fn is_closed(process_id: u32) {
    let error = File::open(format!("/proc/{process_id}/mem")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}
