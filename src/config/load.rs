//! Reading the file and laying the environment over it.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::audit::ONE_PLACE;
use super::sections::Config;
use super::witness::WitnessConfig;

const PREFIX: &str = "STRONGROOM__";

/// Why a configuration is refused. Messages name keys, never values: a value may be a misplaced secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file: {0}")]
    Read(std::io::Error),
    #[error("the configuration file is not valid: {0}")]
    Syntax(String),
    #[error("{PREFIX}{key} does not fit: {why}")]
    Override { key: String, why: &'static str },
    #[error("{key}: {why}")]
    Value { key: &'static str, why: &'static str },
}

/// Reads `path`, applies the `STRONGROOM__SECTION__KEY` variables of this process and checks the result.
/// Relative paths in the file are taken from the file's folder.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(ConfigError::Read)?;
    parse(&text, variables(), folder(path))
}

/// The configuration of a witness, read in the same way.
pub fn load_witness(path: &Path) -> Result<WitnessConfig, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(ConfigError::Read)?;
    let mut config: WitnessConfig = typed(&text, variables())?;
    config.resolve_paths(folder(path));
    Ok(config)
}

fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with(PREFIX))
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}

/// The pure part of [`load`].
pub fn parse(
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
    base: &Path,
) -> Result<Config, ConfigError> {
    let mut config: Config = typed(text, variables)?;
    config.resolve_paths(base);
    config.check()?;
    Ok(config)
}

/// The file with the variables over it.
fn typed<T: DeserializeOwned>(
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error: toml::de::Error| syntax(text, &error))?;
    for (name, value) in variables {
        override_key(&mut table, &name, &value)?;
    }
    table.try_into().map_err(|error: toml::de::Error| shape(&error))
}

/// The line of a text that is not TOML, without quoting it.
fn syntax(text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
    ConfigError::Syntax(format!("it is not TOML at line {}", before.lines().count().max(1)))
}

/// Where a key is unknown or missing serde's message names it; where a value is of the wrong kind, the message quotes
/// the value, so only the key is told.
fn shape(error: &toml::de::Error) -> ConfigError {
    let message = error.message();
    let names_keys = ["unknown field", "missing field", "duplicate field"];
    if names_keys.iter().any(|words| message.starts_with(words)) || message == ONE_PLACE {
        return ConfigError::Syntax(message.to_owned());
    }
    let text = error.to_string();
    let key = text.lines().find_map(|line| line.strip_prefix("in `")).and_then(|rest| rest.strip_suffix('`'));
    ConfigError::Syntax(format!("{} is not of the kind that is expected there", key.unwrap_or("a value")))
}

fn override_key(table: &mut toml::Table, name: &str, value: &str) -> Result<(), ConfigError> {
    let key = name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase();
    let refuse = |why| ConfigError::Override { key: key.to_ascii_uppercase(), why };
    let mut parts: Vec<&str> = key.split("__").collect();
    let last = parts.pop().filter(|last| !last.is_empty()).ok_or_else(|| refuse("the name has no key"))?;
    let mut place = table;
    for part in parts {
        place = place
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| refuse("it names a key inside a value that is not a section"))?;
    }
    place.insert(last.to_owned(), to_value(value));
    Ok(())
}

/// Numbers, booleans and arrays as TOML writes them; everything else is text.
fn to_value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../infra/strongroom.sample.toml");

    fn sample_with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        parse(SAMPLE, variables, Path::new("/etc/strongroom"))
    }

    #[test]
    fn the_sample_is_valid_and_paths_are_relative_to_it() {
        let config = sample_with(&[]).unwrap();
        assert!(config.policy.directory.starts_with("/etc/strongroom"));
    }

    /// With its commented keys put in force it is the same configuration: they show the defaults.
    #[test]
    fn the_sample_shows_every_default() {
        let is_key = |text: &str| {
            let key = text.split_once(" = ").map_or("", |(key, _)| key);
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        let lines: Vec<&str> = SAMPLE
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|text| is_key(text)).unwrap_or(line))
            .collect();
        let stated = parse(&lines.join("\n"), std::iter::empty(), Path::new("/etc/strongroom")).unwrap();
        let silent = sample_with(&[]).unwrap();
        let optional = |config: &Config| {
            let Config { limits, cache, erasure, rotation, audit, vault, server, database, .. } = config;
            let pki_mounts = (&vault.pki_root_mount, &vault.pki_issuing_mount);
            let mounts = (&vault.transit_mount, pki_mounts, &vault.credentials_mount);
            let data = (database.data.pool_connections, database.data.timeout_ms);
            format!(
                "{limits:?} {cache:?} {erasure:?} {rotation:?} {audit:?} {mounts:?} {data:?} {} {}",
                vault.timeout_ms, server.crl_refresh_seconds
            )
        };
        assert_eq!(optional(&stated), optional(&silent));
        assert!(stated.vault.roots_file.is_some() && silent.vault.roots_file.is_none());
        assert!(stated.relay.ca_file.is_some() && silent.relay.ca_file.is_none());
    }

    /// The log's bucket, which stands in the sample in place of the directory, as comments set in by two more.
    #[test]
    fn the_samples_bucket_is_valid_and_shows_every_default() {
        let (before, rest) = SAMPLE.split_once("directory = \"log\"\n").unwrap();
        let (bucket, after) = rest.split_once("# Witnesses").unwrap();
        let of_bucket = |is_stated: bool| {
            let lines = bucket.lines().filter_map(|line| line.strip_prefix("#   "));
            let stated =
                |line: &&str| is_stated || !line.starts_with("retention") && !line.starts_with("timeout");
            let lines: Vec<&str> = lines.filter(stated).collect();
            let text = format!("{before}{}\n# Witnesses{after}", lines.join("\n"));
            parse(&text, std::iter::empty(), Path::new("/etc/strongroom"))
        };
        let stated = of_bucket(true).unwrap();
        assert_eq!(format!("{:?}", stated.audit), format!("{:?}", of_bucket(false).unwrap().audit));
        assert!(stated.audit.export.is_some_and(|export| export.directory().is_none()));
        let name = "STRONGROOM__AUDIT__EXPORT__DIRECTORY".to_owned();
        let both = [(name, "log".to_owned())];
        let text = format!("{before}{}# Witnesses{after}", bucket.replace("#   ", ""));
        let refusal = parse(&text, both.into_iter(), Path::new("/etc/strongroom")).unwrap_err().to_string();
        assert!(refusal.contains("name a directory or a bucket"), "{refusal}");
    }

    #[test]
    fn the_sample_of_a_witness_is_valid_and_strict() {
        let sample = include_str!("../../infra/witness.sample.toml");
        let mut config: WitnessConfig = typed(sample, std::iter::empty()).unwrap();
        config.resolve_paths(Path::new("/etc/witness"));
        assert!(config.key_file.starts_with("/etc/witness") && config.server.identities_file.is_absolute());
        let unknown = [(String::from("STRONGROOM__SERVER__LISTENN"), String::from("hunter2"))];
        let error = typed::<WitnessConfig>(sample, unknown.into_iter()).unwrap_err().to_string();
        assert!(error.contains("unknown field") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn variables_override_keys() {
        let config = sample_with(&[("STRONGROOM__SERVER__LISTEN", "127.0.0.1:9999")]).unwrap();
        assert_eq!(config.server.listen.port(), 9999);
        let config = sample_with(&[("STRONGROOM__CACHE__SUBJECT_KEYS_OWNERS", "7")]).unwrap();
        assert_eq!(config.cache.subject_keys_owners, 7);
    }

    /// What must be kept for six years is, whoever would keep it for less.
    #[test]
    fn six_years_of_the_log_stay_in_files() {
        let years = |years: &str| sample_with(&[("STRONGROOM__AUDIT__RETENTION__FILE_YEARS", years)]);
        for fits in ["6", "10", "100"] {
            assert_eq!(years(fits).unwrap().audit.retention.file_years.to_string(), fits);
        }
        for wrong in ["0", "5", "101", "-6"] {
            let error = years(wrong).err().unwrap().to_string();
            assert!(error.contains("file_years"), "{error}");
        }
    }

    /// Twelve months of the log stay where they can be searched, whoever would have fewer.
    #[test]
    fn a_year_of_the_log_stays_online() {
        let months = |months: &str| sample_with(&[("STRONGROOM__AUDIT__RETENTION__ONLINE_MONTHS", months)]);
        for fits in ["12", "13", "1200"] {
            assert_eq!(months(fits).unwrap().audit.retention.online_months.to_string(), fits);
        }
        for wrong in ["0", "3", "11", "1201", "-12"] {
            let error = months(wrong).err().unwrap().to_string();
            assert!(error.contains("online_months"), "{error}");
        }
    }

    #[test]
    fn unknown_keys_and_wrong_kinds_are_refused_without_their_value() {
        let unknown = sample_with(&[("STRONGROOM__SERVER__LISTENN", "hunter2")]).err().unwrap();
        assert!(!unknown.to_string().contains("hunter2"));
        let wrong = sample_with(&[("STRONGROOM__CACHE__SUBJECT_KEYS_OWNERS", "hunter2")]).err().unwrap();
        assert!(!wrong.to_string().contains("hunter2"), "{wrong}");
        let nested = sample_with(&[("STRONGROOM__ENVIRONMENT__DEEP", "1")]);
        assert!(nested.is_err());
    }

    #[test]
    fn the_roots_of_destinations_are_a_file_or_left_out() {
        let named = |text: &str| sample_with(&[("STRONGROOM__RELAY__CA_FILE", text)]);
        let config = named("tls/roots.pem").unwrap();
        assert_eq!(config.relay.ca_file.as_deref(), Some(Path::new("/etc/strongroom/tls/roots.pem")));
        let error = named("\"\"").err().unwrap().to_string();
        assert!(error.starts_with("relay.ca_file: "), "{error}");
        assert!(sample_with(&[("STRONGROOM__RELAY__ROOTS_FILE", "r")]).is_err());
    }

    #[test]
    fn plain_connections_are_for_loopback_only() {
        for (key, value) in [
            ("STRONGROOM__VAULT__ADDRESS", "http://vault.internal:8200"),
            ("STRONGROOM__DATABASE__DATA__HOST", "db.internal"),
        ] {
            assert!(
                matches!(
                    sample_with(&[(key, value), ("STRONGROOM__DATABASE__DATA__ROOTS_FILE", "\"\"")]),
                    Err(ConfigError::Value { .. })
                ),
                "{key}"
            );
        }
    }
}
