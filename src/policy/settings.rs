//! What a change of the policy's tables would set anew: hours, networks, limits, masks, clients, identity providers. What
//! follows of rules is for [`super::differences`]; these are what the same rules are asked about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value as Json, json};
use toml::{Table, Value};

use super::set::{PolicyError, read_files};

/// One value, table or file that is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    file: String,
    /// The way to it, by names; empty where it is the whole file.
    setting: Vec<String>,
    /// As TOML; absent where there was none.
    before: Option<String>,
    after: Option<String>,
}

/// Everything in TOML files that is different, in the order of the files. Cases of `tests/` give nobody anything.
pub fn setting_changes(old: &Path, new: &Path) -> Result<Vec<SettingChange>, PolicyError> {
    let (old, new) = (tables(old)?, tables(new)?);
    let mut changes = Vec::new();
    for file in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let [before, after] = [&old, &new].map(|tables| tables.get(file));
        compare(&mut Place { file, way: Vec::new(), changes: &mut changes }, before, after);
    }
    Ok(changes)
}

fn tables(directory: &Path) -> Result<BTreeMap<String, Value>, PolicyError> {
    let mut texts = read_files(directory, "", "toml")?;
    texts.extend(read_files(directory, "collections/", "toml")?);
    let parse = |(file, text): (String, String)| {
        let table: Table = toml::from_str(&text)
            .map_err(|error| PolicyError::File { file: file.clone(), why: error.message().to_owned() })?;
        Ok((file, Value::Table(table)))
    };
    texts.into_iter().map(parse).collect()
}

struct Place<'a> {
    file: &'a str,
    way: Vec<String>,
    changes: &'a mut Vec<SettingChange>,
}

fn compare(place: &mut Place<'_>, before: Option<&Value>, after: Option<&Value>) {
    if before == after {
        return;
    }
    if let (Some(old), Some(new)) = (before.and_then(members), after.and_then(members)) {
        for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            place.way.push(name.clone());
            compare(place, old.get(name).copied(), new.get(name).copied());
            place.way.pop();
        }
        return;
    }
    place.changes.push(SettingChange {
        file: place.file.to_owned(),
        setting: place.way.clone(),
        before: before.map(ToString::to_string),
        after: after.map(ToString::to_string),
    });
}

/// Of a table, and of a list of tables by the names that they have, so that one more is no change of those behind it.
fn members(value: &Value) -> Option<BTreeMap<String, &Value>> {
    match value {
        Value::Table(table) => Some(table.iter().map(|(name, value)| (name.clone(), value)).collect()),
        Value::Array(items) => {
            let named = |item| Some((name_of(item)?, item));
            let named: BTreeMap<String, &Value> = items.iter().map(named).collect::<Option<_>>()?;
            (named.len() == items.len() && !items.is_empty()).then_some(named)
        }
        _ => None,
    }
}

/// Clients of two tenants may have one name.
fn name_of(item: &Value) -> Option<String> {
    let text = |member: &str| item.as_table()?.get(member)?.as_str();
    let name = text("name")?;
    Some(text("tenant").map_or_else(|| name.to_owned(), |tenant| format!("{tenant}/{name}")))
}

impl SettingChange {
    /// For people: `sets bands.toml: hour day from = "05:30" ("05:00" before)`.
    pub fn sentence(&self) -> String {
        let Self { file, before, after, .. } = self;
        if self.setting.is_empty() {
            return format!("{} {file}", if after.is_some() { "adds" } else { "removes" });
        }
        let place = format!("{file}: {}", self.setting.join(" "));
        let shown = |text: &Option<String>| text.as_ref().map_or(String::new(), |text| format!(" = {text}"));
        match before {
            Some(before) if after.is_some() => format!("sets {place}{} ({before} before)", shown(after)),
            Some(_) => format!("removes {place}{}", shown(before)),
            None => format!("adds {place}{}", shown(after)),
        }
    }

    pub fn to_json(&self) -> Json {
        json!({
            "change": "sets",
            "file": self.file,
            "setting": self.setting,
            "before": self.before,
            "after": self.after,
        })
    }
}
