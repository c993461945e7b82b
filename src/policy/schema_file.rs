//! `schema.cedarschema`: parsed, and its closed lists held to the service's own.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy as cedar;

use super::bands::Bands;
use super::departments::Departments;
use super::words::RuleAction;
use crate::domain::actor::ClientKind;
use crate::domain::class::DataClass;
use crate::domain::purpose::Purpose;

/// What the schema says, and the lists that are its own.
pub(super) struct SchemaFile {
    pub schema: cedar::Schema,
    pub roles: Vec<Arc<str>>,
    pub departments: Departments,
}

/// Parses the schema and checks that its closed lists are the service's own.
pub(super) fn read_schema(text: &str, bands: &Bands) -> Result<SchemaFile, String> {
    let (fragment, warnings) =
        cedar::SchemaFragment::from_cedarschema_str(text).map_err(|error| error.to_string())?;
    if let Some(warning) = warnings.into_iter().next() {
        return Err(warning.to_string());
    }
    // The empty namespace is an empty member name.
    let json = fragment.clone().to_json_value().map_err(|error| error.to_string())?;
    let listed = |kind: &str| -> Vec<Arc<str>> {
        let words = json.pointer(&format!("//entityTypes/{kind}/enum")).and_then(|list| list.as_array());
        words.into_iter().flatten().filter_map(|word| word.as_str().map(Arc::from)).collect()
    };
    let same = |kind: &str, wanted: BTreeSet<&str>| {
        let found = listed(kind);
        let found: BTreeSet<&str> = found.iter().map(|word| &**word).collect();
        if found == wanted { Ok(()) } else { Err(format!("list exactly the service's own words in {kind}")) }
    };
    same("Purpose", Purpose::ALL.iter().map(|purpose| purpose.as_str()).collect())?;
    same("Class", DataClass::ALL.iter().map(|class| class.as_str()).collect())?;
    let kinds = [ClientKind::App, ClientKind::Auditor, ClientKind::Custodian, ClientKind::Operator];
    same("ClientKind", kinds.iter().map(|kind| kind.as_str()).collect())?;
    same("Hour", bands.hours().map(|(_, name)| &**name).collect())?;
    same("Source", bands.sources().map(|(_, name)| &**name).collect())?;
    let actions = json.pointer("//actions").and_then(|actions| actions.as_object());
    let missing = RuleAction::ALL
        .iter()
        .find(|action| !actions.is_some_and(|actions| actions.contains_key(action.as_str())));
    if let Some(action) = missing {
        return Err(format!("declare the action {}", action.as_str()));
    }
    let roles = listed("Role");
    if roles.is_empty() {
        return Err("list the roles in Role".to_owned());
    }
    let departments = Departments::new(listed("Department"))?;
    let schema = cedar::Schema::from_schema_fragments([fragment]).map_err(|error| error.to_string())?;
    Ok(SchemaFile { schema, roles, departments })
}
