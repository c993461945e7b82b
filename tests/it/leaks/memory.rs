//! A live process's memory. What is searched is all that it could write to or read and that is in memory, code left out: whatever a core
//! would hold (`core(5)`: mappings that are anonymous, or private and changed), and more.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::search::Search;

const PAGE: u64 = 4096;

/// What is found in everything that the process can read and that is in memory, its code left out, and where. What goes under the search
/// is searched as far as it can be read.
pub fn found(process_id: u32, search: &Search) -> Vec<String> {
    let proc = PathBuf::from(format!("/proc/{process_id}"));
    let maps = std::fs::read_to_string(proc.join("maps")).unwrap();
    let memory = File::open(proc.join("mem")).unwrap();
    let pages = File::open(proc.join("pagemap")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (range, rights) = (words[0], words[1]);
        if !rights.starts_with('r') || rights.contains('x') {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let region = words.get(5).copied().unwrap_or("anonymous");
        for (start, end) in present(&pages, start, end) {
            let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
            if memory.read_exact_at(&mut bytes, start).is_err() {
                continue;
            }
            for (name, at) in search.all_in(&bytes) {
                found.push(format!("{name} at {start:#x}+{at:#x} of {region}"));
            }
        }
    }
    found
}

/// Runs of pages that are there (`proc_pid_pagemap(5)`: bit 63). An allocator reserves far more than it uses.
fn present(pages: &File, start: u64, end: u64) -> Vec<(u64, u64)> {
    let mut entries = vec![0; usize::try_from((end - start) / PAGE * 8).unwrap()];
    if pages.read_exact_at(&mut entries, start / PAGE * 8).is_err() {
        return Vec::new();
    }
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (entry, page) in entries.chunks_exact(8).zip((start / PAGE)..) {
        if entry[7] & 0x80 == 0 {
            continue;
        }
        match runs.last_mut() {
            Some((_, end)) if *end == page * PAGE => *end += PAGE,
            _ => runs.push((page * PAGE, (page + 1) * PAGE)),
        }
    }
    runs
}

/// Nobody but root can look.
pub fn is_closed(process_id: u32) {
    let error = File::open(format!("/proc/{process_id}/mem")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}
