//! Looks for texts in every file below some folders, in the forms in which they could have got there: as they are, in
//! hexadecimal, in base64 at any offset.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};

/// Shorter texts occur by chance.
const SHORTEST: usize = 6;
/// Shorter pieces of base64 do.
const SHORTEST_BASE64: usize = 10;
const PAGE: usize = 8192;

/// What to look for.
#[derive(Default)]
pub(super) struct Needles {
    /// By the first two bytes.
    by_start: HashMap<u16, Vec<Needle>>,
    texts: usize,
}

struct Needle {
    bytes: Vec<u8>,
    text: usize,
}

/// What was looked through, and where something was found.
#[derive(Default)]
pub(super) struct Findings {
    pub files: usize,
    pub bytes: u64,
    /// Number of the text (as `add` gave it) and file.
    pub hits: Vec<(usize, PathBuf)>,
}

impl Needles {
    /// Adds a text in all its forms; a text that is too short to mean anything is not added. Gives its number.
    pub fn add(&mut self, text: &str) -> Option<usize> {
        if text.len() < SHORTEST {
            return None;
        }
        let number = self.texts;
        self.texts += 1;
        for bytes in forms(text.as_bytes()) {
            let Some(start) = bytes.first_chunk::<2>() else { continue };
            let needles = self.by_start.entry(u16::from_be_bytes(*start)).or_default();
            if !needles.iter().any(|needle| needle.bytes == bytes) {
                needles.push(Needle { bytes, text: number });
            }
        }
        Some(number)
    }

    /// Reads every file below `folders`. A file that goes away meanwhile is passed over; one that cannot be read is an
    /// error, since nothing can be said of it.
    pub fn search(&self, folders: &[PathBuf]) -> Result<Findings> {
        let mut findings = Findings::default();
        for folder in folders {
            self.search_folder(folder, &mut findings)?;
        }
        Ok(findings)
    }

    fn search_folder(&self, folder: &Path, findings: &mut Findings) -> Result<()> {
        let entries =
            std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                self.search_folder(&path, findings)?;
                continue;
            }
            match std::fs::read(&path) {
                Ok(content) => {
                    findings.files += 1;
                    findings.bytes += u64::try_from(content.len()).unwrap_or_default();
                    findings.hits.extend(self.find(&content).into_iter().map(|text| (text, path.clone())));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            }
        }
        Ok(())
    }

    /// The number of every text that occurs in `content`, once for each place.
    fn find(&self, content: &[u8]) -> Vec<usize> {
        // A bitmap, since this runs over hundreds of megabytes: most places are passed with one look.
        let mut begins = vec![false; 1 << 16];
        for start in self.by_start.keys() {
            if let Some(begins) = begins.get_mut(usize::from(*start)) {
                *begins = true;
            }
        }
        let mut found = Vec::new();
        for (number, page) in content.chunks(PAGE).enumerate() {
            // No needle begins with a zero, and files of PostgreSQL are zeros for the larger part.
            if page == ZEROS.get(..page.len()).unwrap_or_default() {
                continue;
            }
            let from = number * PAGE;
            let window = content.get(from..(from + PAGE + 1).min(content.len())).unwrap_or_default();
            for (at, pair) in window.windows(2).enumerate() {
                let &[first, second] = pair else { continue };
                let start = u16::from_be_bytes([first, second]);
                if begins.get(usize::from(start)) == Some(&true) {
                    self.compare(start, content.get(from + at..).unwrap_or_default(), &mut found);
                }
            }
        }
        found
    }

    fn compare(&self, start: u16, rest: &[u8], found: &mut Vec<usize>) {
        let needles = self.by_start.get(&start).into_iter().flatten();
        found.extend(needles.filter(|needle| rest.starts_with(&needle.bytes)).map(|needle| needle.text));
    }
}

static ZEROS: [u8; PAGE] = [0; PAGE];

fn forms(text: &[u8]) -> Vec<Vec<u8>> {
    let hex = to_hex(text);
    let mut forms = vec![text.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for offset in 0..3 {
        let mut shifted = vec![0; offset];
        shifted.extend_from_slice(text);
        // Only the letters that depend on nothing but the text: six bits each.
        let (first, end) = ((offset * 8).div_ceil(6), shifted.len() * 8 / 6);
        for encoded in [Base64Unpadded::encode_string(&shifted), Base64UrlUnpadded::encode_string(&shifted)] {
            let piece = encoded.as_bytes().get(first..end).unwrap_or_default();
            if piece.len() >= SHORTEST_BASE64 {
                forms.push(piece.to_vec());
            }
        }
    }
    forms
}

/// Lower-case hexadecimal.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &[u8]) -> usize {
        let mut needles = Needles::default();
        needles.add("Gusikowski").unwrap();
        needles.find(content).len()
    }

    #[test]
    fn every_form_is_found_wherever_it_stands() {
        assert_eq!(found(b"nothing of the kind, Gusikowsky"), 0);
        let plain = "Gusikowski";
        for form in [plain.to_owned(), "477573696b6f77736b69".into(), "477573696B6F77736B69".into()] {
            // Also over the edge of a page, and after pages of zeros.
            for before in [0, 1, PAGE - 5, PAGE - 1, 3 * PAGE] {
                let mut content = vec![0; before];
                content.extend_from_slice(form.as_bytes());
                content.extend_from_slice(&[0; 9]);
                assert_eq!(found(&content), 1, "{form} after {before}");
            }
        }
        for before in ["", "x", "xy", "xyz"] {
            for after in ["", "x", "xy"] {
                let text = format!("{before}{plain}{after}");
                for encoded in [
                    Base64Unpadded::encode_string(text.as_bytes()),
                    base64ct::Base64::encode_string(text.as_bytes()),
                ] {
                    assert_eq!(found(encoded.as_bytes()), 1, "{text}");
                }
            }
        }
    }

    #[test]
    fn short_texts_are_not_looked_for() {
        assert_eq!(Needles::default().add("Torp"), None);
    }
}
