//! `relay.toml`: outside services, what of the records may be sent to each, and what of its answer comes back. Reviewed with
//! the rules, loaded and swapped with them. Who may have something sent is the rules' to say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use reqwest::Url;
use serde::Deserialize;

use super::collection::{Collection, Field};
use crate::domain::id::{CollectionName, DestinationName, FieldId};
use crate::domain::value::FieldType;
use crate::relay::{CredentialPlace, Pointer};

/// The most that a destination is waited for.
pub const LONGEST_RELAY: Duration = Duration::from_secs(25);
/// The least.
const SHORTEST_RELAY: Duration = Duration::from_millis(100);
const MOST_URL_BYTES: usize = 512;
const MOST_POINTERS: usize = 64;
const MOST_PREFIX_BYTES: usize = 64;
/// All that may go on of the caller's headers: whatever else a destination needs to hear is the service's or the credential's.
const FORWARDABLE: [&str; 5] =
    ["idempotency-key", "traceparent", "tracestate", "x-correlation-id", "x-request-id"];
/// Headers that say how a message is sent; a credential stands in none of them.
const OF_THE_MESSAGE: [&str; 14] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// An outside service; made only by loading a policy set.
pub struct Destination {
    name: DestinationName,
    url: Url,
    method: Method,
    timeout: Duration,
    forward_headers: Vec<HeaderName>,
    credential: Option<RelayCredential>,
    fields: Vec<RelayedField>,
    answer: Vec<Pointer>,
}

/// By what the service is known there.
pub struct RelayCredential {
    pub header: HeaderName,
    pub prefix: String,
    pub place: CredentialPlace,
}

/// Where in a body the value of a field may stand.
pub struct RelayedField {
    pub pointer: Pointer,
    pub collection: Arc<Collection>,
    pub field: Field,
}

impl Destination {
    pub const fn name(&self) -> &DestinationName {
        &self.name
    }

    /// `https`, without a user, a query or a fragment.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Until the whole answer is there.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Of the caller's headers.
    pub fn forward_headers(&self) -> &[HeaderName] {
        &self.forward_headers
    }

    pub const fn credential(&self) -> Option<&RelayCredential> {
        self.credential.as_ref()
    }

    /// As the file has them; none stands at or in the place of another.
    pub fn fields(&self) -> &[RelayedField] {
        &self.fields
    }

    /// What of an answer comes back; none is, or is in, another.
    pub fn answer(&self) -> &[Pointer] {
        &self.answer
    }

    /// Of which something may be sent there, each once, in the order of their names.
    pub fn collections(&self) -> impl Iterator<Item = &Arc<Collection>> {
        let named = self.fields.iter().map(|one| (one.collection.name(), &one.collection));
        named.collect::<BTreeMap<_, _>>().into_values()
    }

    /// Whether the field may be sent there, as far as the file says.
    pub(super) fn takes(&self, collection: &CollectionName, field: FieldId) -> bool {
        self.fields.iter().any(|one| one.collection.name() == collection && one.field.id == field)
    }

    /// Each once, wherever it may stand.
    pub(super) fn distinct_fields(&self) -> impl Iterator<Item = (&Collection, &Field)> {
        let named = self
            .fields
            .iter()
            .map(|one| ((one.collection.name(), one.field.id), (one.collection.as_ref(), &one.field)));
        named.collect::<BTreeMap<_, _>>().into_values()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DestinationEntry {
    url: String,
    method: MethodWord,
    timeout_ms: u64,
    #[serde(default)]
    forward_headers: Vec<String>,
    answer: Vec<String>,
    credential: Option<CredentialEntry>,
    field: Vec<FieldEntry>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum MethodWord {
    Post,
    Put,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialEntry {
    header: String,
    #[serde(default)]
    prefix: String,
    path: String,
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldEntry {
    pointer: String,
    collection: String,
    field: String,
}

/// Whole or not at all. The error is a sentence for the person who edits the file.
pub(super) fn read_destinations(
    text: &str,
    collections: &BTreeMap<String, Arc<Collection>>,
) -> Result<BTreeMap<String, Arc<Destination>>, String> {
    let file: BTreeMap<String, DestinationEntry> =
        toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let read = |(name, entry): (String, DestinationEntry)| {
        let destination = read_one(&name, entry, collections).map_err(|why| format!("{name}: {why}"))?;
        Ok((name, Arc::new(destination)))
    };
    file.into_iter().map(read).collect()
}

fn read_one(
    name: &str,
    entry: DestinationEntry,
    collections: &BTreeMap<String, Arc<Collection>>,
) -> Result<Destination, String> {
    let name = DestinationName::parse(name)
        .ok_or("name the destination in lower-case letters, digits and hyphens, letter first, at most 48")?;
    let timeout = Duration::from_millis(entry.timeout_ms);
    if !(SHORTEST_RELAY..=LONGEST_RELAY).contains(&timeout) {
        let (least, most) = (SHORTEST_RELAY.as_millis(), LONGEST_RELAY.as_millis());
        return Err(format!("choose a timeout_ms from {least} to {most}"));
    }
    let answer: Vec<Pointer> = entry
        .answer
        .iter()
        .map(|text| pointer(text))
        .collect::<Result<_, _>>()
        .map_err(in_member("answer"))?;
    apart(answer.iter()).map_err(in_member("answer"))?;
    let field = |entry: &FieldEntry| read_field(entry, collections);
    let fields: Vec<RelayedField> =
        entry.field.iter().map(field).collect::<Result<_, _>>().map_err(in_member("field"))?;
    if fields.is_empty() {
        return Err("field: name one at least, there is nothing else to send".to_owned());
    }
    apart(fields.iter().map(|one| &one.pointer)).map_err(in_member("field"))?;
    Ok(Destination {
        name,
        url: read_url(&entry.url).map_err(in_member("url"))?,
        method: match entry.method {
            MethodWord::Post => Method::POST,
            MethodWord::Put => Method::PUT,
        },
        timeout,
        forward_headers: read_forwarded(&entry.forward_headers).map_err(in_member("forward_headers"))?,
        credential: entry.credential.map(read_credential).transpose().map_err(in_member("credential"))?,
        fields,
        answer,
    })
}

fn in_member(member: &'static str) -> impl Fn(String) -> String {
    move |why| format!("{member}: {why}")
}

fn read_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    if url.scheme() != "https" || text.len() > MOST_URL_BYTES || has_user {
        return Err(format!("use https, no user and at most {MOST_URL_BYTES} bytes"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("leave out query and fragment".to_owned());
    }
    Ok(url)
}

fn read_forwarded(names: &[String]) -> Result<Vec<HeaderName>, String> {
    let mut read = Vec::with_capacity(names.len());
    for name in names {
        let known = FORWARDABLE.iter().find(|known| *known == name).copied();
        let name = known.map(HeaderName::from_static).filter(|name| !read.contains(name));
        read.push(name.ok_or_else(|| format!("only these go on, each once: {}", FORWARDABLE.join(", ")))?);
    }
    Ok(read)
}

fn read_credential(entry: CredentialEntry) -> Result<RelayCredential, String> {
    let CredentialEntry { header, prefix, path, key } = entry;
    let name = HeaderName::from_bytes(header.as_bytes()).ok().filter(|name| name.as_str() == header);
    let name = name.filter(|name| !FORWARDABLE.contains(&name.as_str()));
    let name = name.filter(|name| !OF_THE_MESSAGE.contains(&name.as_str()));
    let header = name.ok_or("choose a header in lower case that says nothing else")?;
    if prefix.len() > MOST_PREFIX_BYTES || !prefix.is_ascii() || HeaderValue::from_str(&prefix).is_err() {
        return Err(format!("write the prefix in at most {MOST_PREFIX_BYTES} visible ASCII characters"));
    }
    let place = CredentialPlace::parse(&path, &key)
        .ok_or("write path and key in letters, digits, - and _, the parts of the path with / between")?;
    Ok(RelayCredential { header, prefix, place })
}

fn read_field(
    entry: &FieldEntry,
    collections: &BTreeMap<String, Arc<Collection>>,
) -> Result<RelayedField, String> {
    let label = format!("{}.{}", entry.collection, entry.field);
    let collection = collections.get(&entry.collection);
    let field = collection.and_then(|collection| Some((collection, collection.field(&entry.field)?)));
    let (collection, field) = field.ok_or_else(|| format!("there is no {label}"))?;
    if !is_scalar(field.field_type) {
        return Err(format!("{label} is no text, number or boolean"));
    }
    let pointer = pointer(&entry.pointer)?;
    Ok(RelayedField { pointer, collection: Arc::clone(collection), field: field.clone() })
}

/// Whether a value of the type is one string, number or boolean.
const fn is_scalar(field_type: FieldType) -> bool {
    match field_type {
        FieldType::Text
        | FieldType::Name
        | FieldType::Date
        | FieldType::DateTime
        | FieldType::Email
        | FieldType::Phone
        | FieldType::Ssn
        | FieldType::Mrn
        | FieldType::Code
        | FieldType::Integer
        | FieldType::Decimal
        | FieldType::Boolean => true,
        FieldType::Address | FieldType::List | FieldType::Json | FieldType::Document => false,
    }
}

fn pointer(text: &str) -> Result<Pointer, String> {
    Pointer::parse(text).map_err(|fault| format!("{text} is no JSON pointer (RFC 6901): {fault}"))
}

/// None is another, or inside of one.
fn apart<'p>(pointers: impl Iterator<Item = &'p Pointer>) -> Result<(), String> {
    let pointers: Vec<&Pointer> = pointers.collect();
    if pointers.len() > MOST_POINTERS {
        return Err(format!("name at most {MOST_POINTERS} places"));
    }
    for (place, one) in pointers.iter().enumerate() {
        let others = pointers.iter().enumerate().filter(|(other, _)| *other != place);
        if let Some((_, other)) = others.into_iter().find(|(_, other)| one.is_within(other)) {
            return Err(format!("{} is at or in the place of {}", one.as_str(), other.as_str()));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "relay_file_tests.rs"]
mod tests;
