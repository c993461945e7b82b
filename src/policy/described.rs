//! A request in the words of the person who asks about it: in a test case, or on the command line.

use std::sync::Arc;

use super::cases::identity;
use super::circumstances::{Circumstances, PersonFacts};
use super::collection::Collection;
use super::relay_file::Destination;
use super::set::PolicySet;
use super::table::Asking;
use crate::domain::action::Action;
use crate::domain::actor::{ClientKind, Identity};
use crate::domain::purpose::Purpose;
use crate::domain::relationship::Relationship;

/// As it is described; nothing in it has been looked up.
#[derive(Clone, Debug)]
pub struct Described {
    pub roles: Vec<String>,
    pub kind: ClientKind,
    pub action: String,
    /// Left out where the action is not of a collection.
    pub collection: Option<String>,
    /// There where something is sent on.
    pub destination: Option<String>,
    pub purpose: Option<String>,
    pub person: bool,
    /// Those of the roles that the person brought; all of them where it is not said.
    pub person_roles: Option<Vec<String>>,
    pub second_factor: bool,
    pub relationship: Relationship,
    /// The person's, of those in the schema.
    pub department: Option<String>,
    /// Bands of `bands.toml`; without one, the first.
    pub hour: Option<String>,
    pub source: Option<String>,
}

/// The same in the words of one policy set.
pub(super) struct Resolved<'s> {
    pub set: &'s PolicySet,
    pub identity: Identity,
    pub action: Action,
    pub collection: Option<&'s Arc<Collection>>,
    pub destination: Option<&'s Arc<Destination>>,
    pub purpose: Option<Purpose>,
    pub circumstances: Circumstances,
}

impl Described {
    /// The error names what is not there.
    pub(super) fn resolve<'s>(&self, set: &'s PolicySet) -> Result<Resolved<'s>, String> {
        let action = Action::ALL.into_iter().find(|action| action.as_str() == self.action);
        let action = action.ok_or("there is no such action")?;
        let purpose = match &self.purpose {
            Some(code) => Some(Purpose::parse(code).ok_or("there is no such purpose")?),
            None => None,
        };
        let collection = match &self.collection {
            Some(name) => Some(set.collection(name).ok_or("there is no such collection")?),
            None => None,
        };
        if collection.is_some() != action.is_of_a_collection() {
            return Err("name a collection where the action is of one, and only there".to_owned());
        }
        let destination = match &self.destination {
            Some(name) => Some(set.destination(name).ok_or("there is no such destination")?),
            None => None,
        };
        if destination.is_some() != action.is_of_a_destination() {
            return Err("name a destination where the action is relay, and only there".to_owned());
        }
        if !self.roles.iter().all(|role| set.has_role(role)) {
            return Err("there is no such role".to_owned());
        }
        let identity = identity(self.kind, &self.roles);
        let circumstances = self.circumstances(set)?;
        Ok(Resolved { set, identity, action, collection, destination, purpose, circumstances })
    }

    fn circumstances(&self, set: &PolicySet) -> Result<Circumstances, String> {
        if self.relationship != Relationship::NONE && !self.person {
            return Err("only a person has to do with somebody".to_owned());
        }
        let bands = set.rules().bands();
        let hour = self.hour.as_ref().map(|name| bands.hour_named(name).ok_or("there is no such hour"));
        let source =
            self.source.as_ref().map(|name| bands.source_named(name).ok_or("there is no such source"));
        Ok(Circumstances {
            person: self.person(set)?,
            second_factor: self.second_factor,
            relationship: self.relationship,
            hour: hour.transpose()?.unwrap_or_default(),
            source: source.transpose()?.unwrap_or_default(),
        })
    }

    fn person(&self, set: &PolicySet) -> Result<Option<PersonFacts>, String> {
        let brought = self.person_roles.as_ref().unwrap_or(&self.roles);
        if !self.person && self.person_roles.is_some() {
            return Err("only a person brings roles".to_owned());
        }
        if !brought.iter().all(|role| self.roles.contains(role)) {
            return Err("name what a person brings among the roles".to_owned());
        }
        if self.department.is_some() && (!self.person || brought.is_empty()) {
            return Err("only a person who brings a role is of a department".to_owned());
        }
        let departments = set.rules().departments();
        let department = self.department.as_ref();
        let department = department.map(|name| departments.named(name).ok_or("there is no such department"));
        let roles = set.rules().asked_roles().among(brought.iter().map(String::as_str));
        let facts = PersonFacts { roles, department: department.transpose()? };
        Ok(self.person.then_some(facts))
    }
}

impl Resolved<'_> {
    pub fn asking(&self) -> Asking<'_> {
        Asking {
            rules: self.set.rules(),
            identity: &self.identity,
            collection: self.collection.map(AsRef::as_ref),
            destination: self.destination.map(AsRef::as_ref),
            action: self.action,
            circumstances: self.circumstances,
        }
    }
}
