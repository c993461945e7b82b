//! Loading a policy folder whole, and the hash that names what was loaded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::bands::Bands;
use super::cedar::Rules;
use super::collection::Collection;
use super::collection_file::read_collection;
use super::conflict::RoleConflict;
use super::isolation::keep_classes_apart;
use super::limits::Limits;
use super::relay_file::{Destination, read_destinations};
use crate::domain::actor::Identity;

const MAX_FILE_BYTES: u64 = 1 << 20;
const SCHEMA_FILE: &str = "schema.cedarschema";
const LIMITS_FILE: &str = "limits.toml";
const BANDS_FILE: &str = "bands.toml";
/// May be left out: then nothing is sent on to anybody.
const RELAY_FILE: &str = "relay.toml";

/// Why a policy folder is refused. Names files and what to change in them; policy files hold no secrets.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: std::io::Error },
    #[error("{file}: {why}")]
    File { file: String, why: String },
    #[error("put at least one collection into collections/ and one policy beside {SCHEMA_FILE}")]
    Nothing,
}

/// Collections and rules as one folder holds them; never changes once loaded.
pub struct PolicySet {
    collections: BTreeMap<String, Arc<Collection>>,
    destinations: BTreeMap<String, Arc<Destination>>,
    rules: Rules,
    limits: Limits,
    hash: String,
}

impl PolicySet {
    /// Loads `collections/*.toml`, `schema.cedarschema`, `*.cedar`, `bands.toml`, `limits.toml` and, where there is one,
    /// `relay.toml` of `directory`, all of them valid together, or nothing. Files that begin with a full stop are skipped.
    pub fn load(directory: &Path) -> Result<Self, PolicyError> {
        let collection_files = read_files(directory, "collections/", "toml")?;
        let rule_files = read_files(directory, "", "cedar")?;
        let schema = text(directory, SCHEMA_FILE)?;
        if collection_files.is_empty() || rule_files.is_empty() {
            return Err(PolicyError::Nothing);
        }
        let mut collections = BTreeMap::new();
        for (file, text) in &collection_files {
            let stem = file.trim_start_matches("collections/").trim_end_matches(".toml");
            let collection =
                read_collection(stem, text).map_err(|why| PolicyError::File { file: file.clone(), why })?;
            collections.insert(stem.to_owned(), Arc::new(collection));
        }
        let bands_text = text(directory, BANDS_FILE)?;
        let bands = Bands::parse(&bands_text)
            .map_err(|why| PolicyError::File { file: BANDS_FILE.to_owned(), why })?;
        let relay_text = text_if_there(directory, RELAY_FILE)?;
        let destinations = relay_text.as_ref().map(|text| read_destinations(text, &collections));
        let destinations = destinations
            .transpose()
            .map_err(|why| PolicyError::File { file: RELAY_FILE.to_owned(), why })?
            .unwrap_or_default();
        let named = (&collections, &destinations);
        let rules = Rules::load((SCHEMA_FILE, &schema), &rule_files, named, bands)
            .map_err(|(file, why)| PolicyError::File { file, why })?;
        keep_classes_apart(&rules).map_err(|(file, why)| PolicyError::File { file, why })?;
        let limits_text = text(directory, LIMITS_FILE)?;
        let limits = Limits::parse(&limits_text, rules.roles())
            .map_err(|why| PolicyError::File { file: LIMITS_FILE.to_owned(), why })?;
        let mut all = collection_files;
        all.extend(rule_files);
        all.insert(SCHEMA_FILE.to_owned(), schema);
        all.insert(LIMITS_FILE.to_owned(), limits_text);
        all.insert(BANDS_FILE.to_owned(), bands_text);
        all.extend(relay_text.map(|text| (RELAY_FILE.to_owned(), text)));
        Ok(Self { collections, destinations, rules, limits, hash: hash_of(&all) })
    }

    pub fn collection(&self, name: &str) -> Option<&Arc<Collection>> {
        self.collections.get(name)
    }

    /// In the order of their names.
    pub fn collections(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.collections.values()
    }

    /// The destination of this name in `relay.toml`.
    pub fn destination(&self, name: &str) -> Option<&Arc<Destination>> {
        self.destinations.get(name)
    }

    /// In the order of their names.
    pub fn destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.destinations.values()
    }

    /// The roles that the schema lists; identities may have no other.
    pub fn roles(&self) -> &[Arc<str>] {
        self.rules.roles()
    }

    pub fn has_role(&self, role: &str) -> bool {
        self.roles().iter().any(|known| &**known == role)
    }

    /// Whether the schema lists the department; `people.toml` may name no other.
    pub fn has_department(&self, department: &str) -> bool {
        self.rules.departments().named(department).is_some()
    }

    /// Why a client may not have all the roles that it has and that people bring to it.
    pub fn client_conflict(&self, identity: &Identity) -> Option<RoleConflict> {
        self.rules.client_conflict(identity)
    }

    /// How much callers may ask for.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// SHA-256 over the names and contents of all loaded files, in lower-case hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub(super) const fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// The files of one folder with one extension, by their path within `directory`.
pub(super) fn read_files(
    directory: &Path,
    folder: &str,
    extension: &str,
) -> Result<BTreeMap<String, String>, PolicyError> {
    let read = |source| PolicyError::Read { file: format!("{folder}*.{extension}"), source };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory.join(folder)).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let path = Path::new(&name);
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if hidden || path.extension().is_none_or(|found| found != extension) {
            continue;
        }
        let Some(name) = name.to_str() else {
            return Err(PolicyError::File {
                file: format!("{folder}*.{extension}"),
                why: "name files in UTF-8".to_owned(),
            });
        };
        let file = format!("{folder}{name}");
        let contents = text(directory, &file)?;
        found.insert(file, contents);
    }
    Ok(found)
}

fn text(directory: &Path, file: &str) -> Result<String, PolicyError> {
    let path = directory.join(file);
    let read = |source| PolicyError::Read { file: file.to_owned(), source };
    if std::fs::metadata(&path).map_err(read)?.len() > MAX_FILE_BYTES {
        return Err(PolicyError::File {
            file: file.to_owned(),
            why: "keep policy files under 1 MiB".to_owned(),
        });
    }
    std::fs::read_to_string(&path).map_err(read)
}

/// `None` where there is no such file.
fn text_if_there(directory: &Path, file: &str) -> Result<Option<String>, PolicyError> {
    match text(directory, file) {
        Err(PolicyError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Names and contents are length-prefixed, so that no two folders share a hash.
fn hash_of(files: &BTreeMap<String, String>) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for part in files.iter().flat_map(|(name, contents)| [name, contents]) {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let mut hash = String::with_capacity(64);
    for byte in digest.finish().as_ref() {
        // Writing to a String does not fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}
