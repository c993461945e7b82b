//! The schema of audit entries, as `audit/entry.schema.json` has it for everybody who reads the log.

use serde_json::{Map, Value};

const SCHEMA: &str = include_str!("../../../audit/entry.schema.json");

/// Adds `AuditEntry`, and the definitions it refers to as `audit.{name}`.
pub(super) fn add_schemas(schemas: &mut Map<String, Value>) {
    let Ok(Value::Object(mut entry)) = serde_json::from_str(SCHEMA) else { return };
    entry.remove("$schema");
    entry.remove("$id");
    if let Some(Value::Object(definitions)) = entry.remove("$defs") {
        for (name, mut definition) in definitions {
            refer_to_components(&mut definition);
            schemas.insert(format!("audit.{name}"), definition);
        }
    }
    let mut entry = Value::Object(entry);
    refer_to_components(&mut entry);
    schemas.insert("AuditEntry".to_owned(), entry);
}

fn refer_to_components(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(target) if name == "$ref" => {
                        *target = target.replace("#/$defs/", "#/components/schemas/audit.");
                    }
                    other => refer_to_components(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(refer_to_components),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_taken_over_whole() {
        let mut schemas = Map::new();
        add_schemas(&mut schemas);
        let original: Value = serde_json::from_str(SCHEMA).unwrap();
        let properties = schemas["AuditEntry"]["properties"].as_object().unwrap();
        assert_eq!(properties.len(), original["properties"].as_object().unwrap().len());
        assert_eq!(schemas.len(), original["$defs"].as_object().unwrap().len() + 1);
        assert!(!Value::Object(schemas).to_string().contains("$defs"));
    }
}
