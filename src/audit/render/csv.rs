//! A table (RFC 4180). A cell that a spreadsheet would take for a formula begins with an apostrophe.

use serde_json::Value;

use super::{Place, text, texts};

/// A column's name, and where it stands in an entry.
const COLUMNS: [(&str, &str); 20] = [
    ("id", "/id"),
    ("time", "/ts"),
    ("act", "/act"),
    ("status", "/out/status"),
    ("code", "/out/code"),
    ("tenant", "/tenant"),
    ("actor", "/who/uid"),
    ("kind", "/who/kind"),
    ("person", "/who/on_behalf_of/uid"),
    ("issuer", "/who/on_behalf_of/issuer"),
    ("department", "/who/on_behalf_of/department"),
    ("purpose", "/purpose"),
    ("subject", "/subj"),
    ("collection", "/obj/0/collection"),
    ("record", "/obj/0/record"),
    ("recipient", "/disc/recipient"),
    ("request", "/req/id"),
    ("route", "/req/route"),
    ("address", "/src/ip"),
    ("instance", "/dst/instance"),
];
const LISTS: [(&str, &str); 4] = [
    ("roles", "/who/roles"),
    ("fields", "/obj/0/fields"),
    ("masked", "/obj/0/masked"),
    ("policies", "/basis/policy"),
];
const NUMBERS: [(&str, &str); 2] = [("version", "/obj/0/version"), ("count", "/n")];

pub(super) fn heading() -> String {
    let names = COLUMNS.iter().chain(&LISTS).chain(&NUMBERS).map(|(name, _)| *name);
    ["log", "index"].into_iter().chain(names).collect::<Vec<_>>().join(",")
}

pub(super) fn row(place: Place<'_>, entry: &Value) -> String {
    let mut cells =
        vec![cell(place.origin), place.number.map_or_else(String::new, |number| number.to_string())];
    cells.extend(COLUMNS.iter().map(|(_, pointer)| cell(text(entry, pointer))));
    cells.extend(LISTS.iter().map(|(_, pointer)| cell(&texts(entry, pointer).join(" "))));
    let number =
        |pointer: &str| entry.pointer(pointer).and_then(Value::as_u64).map(|number| number.to_string());
    cells.extend(NUMBERS.iter().map(|(_, pointer)| number(pointer).unwrap_or_default()));
    cells.join(",")
}

fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !text.contains(['"', ',', '\n', '\r']) {
        return text.to_owned();
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}
