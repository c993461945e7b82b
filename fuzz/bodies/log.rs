//! What an auditor, a witness or somebody with a proof is handed: all of it may come from whom they check.

use std::sync::OnceLock;

use strongroom::audit::checkpoint::{EntryProof, Note, SignatureLine, SignedCheckpoint, Trust, VerifierKey};
use strongroom::audit::tiles::{BundleId, Tile, TileId, push_entry, read_bundle};
use strongroom::audit::verify::EntryReader;
use strongroom::audit::witness::AddCheckpoint;

/// What is read comes back byte for byte: nobody signs one text and has another one read.
pub fn checkpoints(data: &[u8]) {
    if let Ok(note) = Note::parse(data) {
        assert_eq!(note.to_string().as_bytes(), data);
    }
    if let Ok(signed) = SignedCheckpoint::parse(data) {
        assert_eq!(signed.to_string().as_bytes(), data);
        assert_eq!(signed.checkpoint().text(), signed.note().text());
    }
    if let Ok(request) = AddCheckpoint::parse(data) {
        assert_eq!(request.to_string().as_bytes(), data);
        assert!(request.old_size() <= request.checkpoint().checkpoint().size());
    }
    if let Some(lines) = std::str::from_utf8(data).ok().and_then(|text| SignatureLine::parse_all(text).ok()) {
        let text: String = lines.iter().map(ToString::to_string).collect();
        assert_eq!(text.as_bytes(), data);
    }
}

pub fn proofs(data: &[u8]) {
    let Ok(proof) = EntryProof::parse(data) else { return };
    assert_eq!(proof.to_string().as_bytes(), data);
    assert!(proof.check(b"an entry of nobody").is_err());
}

/// A policy makes nobody trusted whom no line names, and a key has one spelling.
pub fn trust(data: &[u8]) {
    if let Some(key) = std::str::from_utf8(data).ok().and_then(|text| VerifierKey::parse(text).ok()) {
        assert_eq!(key.to_string().as_bytes(), data);
    }
    let Ok(trust) = Trust::parse(data) else { return };
    let text = String::from_utf8_lossy(data);
    assert!(!trust.logs().is_empty());
    let keys = trust.logs().iter().chain(trust.witnesses().iter().map(|(_, key)| key));
    assert!(keys.map(ToString::to_string).all(|key| text.contains(&key)), "a key of nowhere");
}

/// The first byte is the width; the rest is a bundle, a tile, or a path of either.
pub fn bundles(data: &[u8]) {
    let Some((width, bytes)) = data.split_first() else { return };
    let width = u16::from(*width) + 1;
    let bundle = BundleId::new(0, width).expect("a width");
    if let Ok(entries) = read_bundle(bundle, bytes) {
        let mut again = Vec::new();
        for entry in &entries {
            push_entry(&mut again, entry).expect("an entry that was read");
        }
        assert_eq!((entries.len(), again.as_slice()), (usize::from(width), bytes));
    }
    if let Ok(tile) = Tile::from_bytes(bundle.tile().expect("a tile"), bytes) {
        assert_eq!(tile.to_bytes(), bytes);
    }
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    assert!(TileId::parse(path).is_none_or(|id| id.to_string() == path));
    assert!(BundleId::parse(path).is_none_or(|id| id.to_string() == path));
}

/// Whatever is taken for an entry is JSON that others write with the same bytes.
pub fn entries(data: &[u8]) {
    static READER: OnceLock<EntryReader> = OnceLock::new();
    let reader = READER.get_or_init(|| EntryReader::new().expect("the form of entries"));
    if reader.check(data).is_ok() {
        let value: serde_json::Value = serde_json::from_slice(data).expect("JSON");
        assert_eq!(serde_json::to_vec(&value).expect("JSON"), data);
    }
}
