//! The entities of `schema.cedarschema` as a request has them. Who a client is is in its id, since one has its own decisions;
//! which person, record or subject it is about is asked by nobody, so that each of these has one name for all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy as cedar;
use cedar_policy::{EntityUid, RestrictedExpression};

use super::collection::{Collection, Field};
use super::relay_file::Destination;
use super::words::{Kind, Names};
use crate::domain::actor::Identity;
use crate::domain::id::{CollectionName, DestinationName};

/// What is asked about.
#[derive(Clone, Copy)]
pub(super) enum RuleResource<'a> {
    Field(&'a Collection, &'a Field),
    /// One that may be sent to the destination.
    RelayedField(&'a DestinationName, &'a Collection, &'a Field),
    Collection(&'a CollectionName),
    /// One of the collection, whichever.
    Record(&'a CollectionName),
    AuditLog,
    Metrics,
    Subject,
    Keys,
}

impl RuleResource<'_> {
    pub fn uid(self, names: &Names) -> EntityUid {
        match self {
            Self::Field(collection, field) => names.uid(Kind::Field, &field_literal(collection, field)),
            Self::RelayedField(destination, collection, field) => {
                let id = format!("{}/{}", destination.as_str(), field_literal(collection, field));
                names.uid(Kind::RelayedField, &id)
            }
            Self::Collection(name) => names.uid(Kind::Collection, name.as_str()),
            Self::Record(name) => names.uid(Kind::Record, name.as_str()),
            Self::AuditLog => names.uid(Kind::AuditLog, "log"),
            Self::Metrics => names.uid(Kind::Metrics, "metrics"),
            Self::Subject => names.uid(Kind::Subject, "subject"),
            Self::Keys => names.uid(Kind::Keys, "keys"),
        }
    }
}

/// The name of a field's entity.
pub(super) fn field_literal(collection: &Collection, field: &Field) -> String {
    format!("{}.{}", collection.name().as_str(), field.name.as_str())
}

/// The person behind a client.
pub(super) fn person_uid(names: &Names) -> EntityUid {
    names.uid(Kind::Person, "person")
}

/// What there is whoever asks: collections, records, fields, destinations with what may be sent there, and actions.
pub(super) fn standing_entities(
    schema: &cedar::Schema,
    names: &Names,
    collections: &BTreeMap<String, Arc<Collection>>,
    destinations: &BTreeMap<String, Arc<Destination>>,
) -> Result<cedar::Entities, String> {
    let alone = |resource: RuleResource<'_>| cedar::Entity::new_no_attrs(resource.uid(names), HashSet::new());
    let mut all = vec![alone(RuleResource::Metrics), alone(RuleResource::Subject), alone(RuleResource::Keys)];
    for collection in collections.values() {
        let (name, whole) = (collection.name(), RuleResource::Collection(collection.name()));
        let within = |resource: RuleResource<'_>, others: &[EntityUid]| {
            let parents = others.iter().cloned().chain([whole.uid(names)]).collect();
            cedar::Entity::new_no_attrs(resource.uid(names), parents)
        };
        all.extend([alone(whole), within(RuleResource::Record(name), &[])]);
        for field in collection.fields() {
            let class = names.uid(Kind::Class, field.class.as_str());
            all.push(within(RuleResource::Field(collection, field), &[class]));
        }
    }
    for destination in destinations.values() {
        let whole = names.uid(Kind::Destination, destination.name().as_str());
        all.push(cedar::Entity::new_no_attrs(whole.clone(), HashSet::new()));
        for (collection, field) in destination.distinct_fields() {
            let relayed = RuleResource::RelayedField(destination.name(), collection, field).uid(names);
            let field = RuleResource::Field(collection, field).uid(names);
            all.push(cedar::Entity::new_no_attrs(relayed, HashSet::from([whole.clone(), field])));
        }
    }
    let actions = schema.action_entities().map_err(|error| error.to_string())?;
    all.extend(actions.iter().cloned());
    cedar::Entities::from_entities(all, Some(schema)).map_err(|error| error.to_string())
}

/// The client, with its roles and those that somebody brought; and the log of its tenant. `None` is a defect, and refuses.
pub(super) fn client_and_log(
    names: &Names,
    identity: &Identity,
    roles: &HashSet<EntityUid>,
) -> Option<[cedar::Entity; 2]> {
    let word = |name: &str, uid| (name.to_owned(), RestrictedExpression::new_entity_uid(uid));
    let tenant = || word("tenant", names.uid(Kind::Tenant, &identity.tenant.to_string()));
    let uid = names.uid(Kind::Client, &format!("{}/{}", identity.tenant, identity.client));
    let kind = word("kind", names.uid(Kind::OfClient, identity.kind.as_str()));
    let client = cedar::Entity::new(uid, HashMap::from([tenant(), kind]), roles.clone()).ok()?;
    let log = RuleResource::AuditLog.uid(names);
    let log = cedar::Entity::new(log, HashMap::from([tenant()]), HashSet::new()).ok()?;
    Some([client, log])
}

/// The person, with what they brought. `None` is a defect, and refuses.
pub(super) fn person<'a>(
    names: &Names,
    roles: impl Iterator<Item = &'a Arc<str>>,
    department: Option<&str>,
) -> Option<cedar::Entity> {
    let of = |name: &str| {
        let department = names.uid(Kind::Department, name);
        ("department".to_owned(), RestrictedExpression::new_entity_uid(department))
    };
    let attributes = department.into_iter().map(of).collect();
    let roles = roles.map(|role| names.uid(Kind::Role, role)).collect();
    cedar::Entity::new(person_uid(names), attributes, roles).ok()
}
