//! What clients send as values.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde_json::value::RawValue;
use strongroom::domain::value::{FieldType, Mask, ValueLimits, mask_value, parse_value, render_value};
use strongroom::policy::{Collection, ParseMode, PolicySet};

const MASKS: [Mask; 6] =
    [Mask::Full, Mask::LastFour, Mask::FormatKept, Mask::Initial, Mask::YearOnly, Mask::DomainOnly];

/// The first byte chooses a type; the rest is the value's JSON.
#[expect(clippy::disallowed_methods, reason = "made-up bytes, looked at to compare them")]
pub fn values(data: &[u8]) {
    let Some((choice, json)) = data.split_first() else { return };
    let field_type = FieldType::ALL[usize::from(*choice) % FieldType::ALL.len()];
    let Some(sent) = as_json(json) else { return };
    let limits = ValueLimits::of(field_type);
    let Ok(value) = parse_value(field_type, &limits, &sent) else { return };
    let canonical = value.expose();
    assert!(canonical.len() <= field_type.max_bytes(), "longer than its type allows");
    let mut rendered = Vec::new();
    render_value(field_type, canonical, &mut rendered).expect("a canonical value renders");
    let again = as_json(&rendered).expect("what is rendered is JSON");
    let again = parse_value(field_type, &limits, &again).expect("what is rendered parses");
    assert!(again.expose() == canonical, "a canonical value parses to itself");
    for mask in MASKS.into_iter().filter(|mask| mask.fits(field_type)) {
        let mut masked = Vec::new();
        mask_value(field_type, mask, canonical, &mut masked);
        assert!(as_json(&masked).is_some(), "what is masked is JSON");
    }
}

static COLLECTIONS: LazyLock<Vec<Arc<Collection>>> = LazyLock::new(|| {
    // Of the project, or of the crate below it that has the libFuzzer targets.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = if own.ends_with("fuzz") { own.parent().expect("a project") } else { own };
    let set = PolicySet::load(&project.join("policy")).expect("the shipped policy loads");
    set.collections().cloned().collect()
});

/// The first byte chooses a collection and how it is written to; the rest is the `fields` object.
pub fn fields(data: &[u8]) {
    let Some((choice, json)) = data.split_first() else { return };
    let collection = &COLLECTIONS[usize::from(*choice >> 1) % COLLECTIONS.len()];
    let mode = if choice & 1 == 0 { ParseMode::Create } else { ParseMode::Patch };
    let Some(sent) = as_json(json) else { return };
    match collection.parse_fields(&sent, mode) {
        Ok(parsed) => {
            let mut ids: Vec<u32> = parsed.set.iter().map(|field| field.id.0).collect();
            ids.extend(parsed.removed.iter().map(|id| id.0));
            ids.sort_unstable();
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "a field twice");
            let required = |id: u32| ids.binary_search(&id).is_ok();
            let missing = collection.fields().iter().filter(|field| field.required && !required(field.id.0));
            assert!(mode == ParseMode::Patch || missing.count() == 0, "a required field is missing");
            for field in &parsed.set {
                let declared = collection.field_by_id(field.id).expect("a declared field");
                assert_eq!((declared.field_type.type_id(), declared.class), (field.type_id, field.class));
            }
        }
        Err(faults) => assert!((1..=64).contains(&faults.faults().len())),
    }
}

fn as_json(json: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(std::str::from_utf8(json).ok()?.to_owned()).ok()
}
