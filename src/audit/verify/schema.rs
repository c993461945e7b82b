//! `audit/entry.schema.json` made ready for reading entries: the same file that people review.
//!
//! Only the words that it uses are known; others make [`Schema::of_entries`] fail, which a test would show.

use serde_json::Value;

use super::pattern::Pattern;

const ENTRY: &str = include_str!("../../../audit/entry.schema.json");

/// References within references, at most.
const DEEPEST: usize = 16;

/// What is known of a value.
pub(super) enum Node {
    Object(Object),
    Array {
        item: Box<Node>,
        least: usize,
        slot: Option<Slot>,
    },
    /// The first that fits.
    Any(Vec<Node>),
    /// One of these, spelled canonically, strings with their quotes.
    Words(Vec<Vec<u8>>, Option<Slot>),
    Pattern(Pattern, Option<Slot>),
    Text,
    Integer {
        least: i64,
        most: i64,
        slot: Option<Slot>,
    },
}

pub(super) struct Object {
    /// In canonical order (RFC 8785 section 3.2.3).
    pub members: Vec<Member>,
    pub least: usize,
}

pub(super) struct Member {
    /// The name with its quotes and the colon.
    pub key: Vec<u8>,
    pub name: String,
    pub required: bool,
    pub node: Node,
}

/// Values that are looked at after the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Act,
    Id,
    Time,
    ChainSource,
    ChainNumber,
    ChainPrevious,
    EndedSource,
    EndedNumber,
    EndedDigest,
    ChainKey,
    ChainSignature,
    ChainWrites,
    InstanceKey,
    Attestation,
    Status,
    Kind,
}

impl Slot {
    const COUNT: usize = 16;
    /// The values of these places, of which an entry has at most one each.
    const PLACES: [(&'static str, Self); Self::COUNT] = [
        ("/act", Self::Act),
        ("/id", Self::Id),
        ("/ts", Self::Time),
        ("/chain/src", Self::ChainSource),
        ("/chain/seq", Self::ChainNumber),
        ("/chain/prev", Self::ChainPrevious),
        ("/obj/chain", Self::EndedSource),
        ("/obj/seq", Self::EndedNumber),
        ("/obj/sha256", Self::EndedDigest),
        ("/chain/key", Self::ChainKey),
        ("/chain/sig", Self::ChainSignature),
        ("/chain/writes", Self::ChainWrites),
        ("/obj/instance_key", Self::InstanceKey),
        ("/obj/attestation", Self::Attestation),
        ("/out/status", Self::Status),
        ("/who/kind", Self::Kind),
    ];

    fn at(path: &str) -> Option<Self> {
        Self::PLACES.iter().find(|(place, _)| *place == path).map(|(_, slot)| *slot)
    }
}

/// Where these values stand, by `Slot as usize`: from where to where, and nothing where both are 0, since nothing stands
/// before the first brace.
pub(super) type Slots = [(u32, u32); Slot::COUNT];

/// The compiled file.
pub(super) struct Schema {
    pub entry: Node,
}

impl Schema {
    /// `None` when the file uses a word that is not known here.
    pub fn of_entries() -> Option<Self> {
        let root: Value = serde_json::from_str(ENTRY).ok()?;
        Some(Self { entry: compile(&root, &root, "", DEEPEST)? })
    }
}

fn compile(root: &Value, schema: &Value, path: &str, depth: usize) -> Option<Node> {
    let depth = depth.checked_sub(1)?;
    if let Some(reference) = schema.get("$ref") {
        only(schema, &["$ref"])?;
        let name = reference.as_str()?.strip_prefix("#/$defs/")?;
        return compile(root, root.get("$defs")?.get(name)?, path, depth);
    }
    if let Some(branches) = schema.get("anyOf") {
        only(schema, &["anyOf"])?;
        let branches = branches.as_array()?.iter().map(|branch| compile(root, branch, path, depth));
        return Some(Node::Any(branches.collect::<Option<_>>()?));
    }
    let words =
        schema.get("const").map(std::slice::from_ref).or_else(|| Some(schema.get("enum")?.as_array()?));
    if let Some(words) = words {
        only(schema, &["const", "enum"])?;
        return Some(Node::Words(words.iter().map(word).collect::<Option<_>>()?, Slot::at(path)));
    }
    match schema.get("type")?.as_str()? {
        "object" => object(root, schema, path, depth),
        "array" => {
            only(schema, &["type", "items", "minItems"])?;
            let item = Box::new(compile(root, schema.get("items")?, path, depth)?);
            Some(Node::Array { item, least: count(schema, "minItems")?, slot: Slot::at(path) })
        }
        "string" => {
            only(schema, &["type", "pattern"])?;
            let Some(pattern) = schema.get("pattern") else { return Some(Node::Text) };
            Some(Node::Pattern(Pattern::parse(pattern.as_str()?)?, Slot::at(path)))
        }
        "integer" => {
            only(schema, &["type", "minimum", "maximum"])?;
            let bound = |name: &str, or: i64| schema.get(name).map_or(Some(or), Value::as_i64);
            let (least, most) = (bound("minimum", i64::MIN)?, bound("maximum", i64::MAX)?);
            Some(Node::Integer { least, most, slot: Slot::at(path) })
        }
        "boolean" => {
            only(schema, &["type"])?;
            Some(Node::Words(vec![b"true".to_vec(), b"false".to_vec()], Slot::at(path)))
        }
        _ => None,
    }
}

fn object(root: &Value, schema: &Value, path: &str, depth: usize) -> Option<Node> {
    only(schema, &["type", "properties", "required", "additionalProperties", "minProperties"])?;
    // Whoever reads the file must know that nothing else can be in an entry.
    (schema.get("additionalProperties")? == &Value::Bool(false)).then_some(())?;
    let required: Vec<&str> = match schema.get("required") {
        Some(names) => names.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    let mut members = Vec::new();
    for (name, member) in schema.get("properties")?.as_object()? {
        // Bytes sort plain names as RFC 8785 does, by UTF-16.
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            .then_some(())?;
        members.push(Member {
            key: format!("\"{name}\":").into_bytes(),
            name: format!("{path}/{name}"),
            required: required.contains(&name.as_str()),
            node: compile(root, member, &format!("{path}/{name}"), depth)?,
        });
    }
    members.sort_by(|one, other| one.name.cmp(&other.name));
    let known =
        required.iter().all(|name| members.iter().any(|member| member.name == format!("{path}/{name}")));
    known.then_some(Node::Object(Object { members, least: count(schema, "minProperties")? }))
}

/// The words of a constant in canonical spelling.
fn word(value: &Value) -> Option<Vec<u8>> {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match value {
        Value::String(text) if plain(text) => Some(format!("\"{text}\"").into_bytes()),
        Value::Number(number) if number.is_u64() => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

fn count(schema: &Value, name: &str) -> Option<usize> {
    schema.get(name).map_or(Some(0), |count| usize::try_from(count.as_u64()?).ok())
}

/// Nothing but these words and what is for people.
fn only(schema: &Value, words: &[&str]) -> Option<()> {
    let notes = ["description", "title", "$schema", "$id", "$defs"];
    let mut names = schema.as_object()?.keys().map(String::as_str);
    names.all(|name| words.contains(&name) || notes.contains(&name)).then_some(())
}
