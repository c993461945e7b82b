//! `policy/tests/*.toml`: what a role gets and what it is refused, in the words of the person who reviews the rules.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use uuid::Uuid;

use super::collection::Collection;
use super::described::Described;
use super::permit::View;
use super::set::{PolicyError, PolicySet, read_files};
use super::table::{Table, compile};
use crate::domain::actor::{ClientKind, Identity, KeyKeeping};
use crate::domain::id::TenantId;
use crate::domain::relationship::Relationship;

/// How the cases of a folder went.
#[derive(Debug, Default)]
pub struct CaseReport {
    /// Cases run.
    pub cases: usize,
    /// One line for each case that did not hold: file, what it says, what is different.
    pub failures: Vec<String>,
}

/// Runs every case of `directory/tests/*.toml` against `set`. A file that cannot be read, or that names what is not
/// there, is an error; a case that does not hold is a line of the report.
pub fn run_cases(set: &PolicySet, directory: &Path) -> Result<CaseReport, PolicyError> {
    let mut report = CaseReport::default();
    for (file, text) in read_files(directory, "tests/", "toml")? {
        let refuse = |why: String| PolicyError::File { file: file.clone(), why };
        let parsed: CaseFile = toml::from_str(&text).map_err(|error| refuse(error.message().to_owned()))?;
        for case in parsed.case {
            report.cases += 1;
            let says = case.says.clone();
            let differences = case.run(set).map_err(|why| refuse(format!("{says}: {why}")))?;
            report.failures.extend(differences.into_iter().map(|why| format!("{file}: {says}: {why}")));
        }
    }
    Ok(report)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a circumstance of its own")]
struct Case {
    says: String,
    roles: Vec<String>,
    #[serde(default = "app")]
    kind: ClientKind,
    action: String,
    /// Left out for `read_audit` and `read_metrics`.
    collection: Option<String>,
    /// Of `relay` only.
    destination: Option<String>,
    purpose: Option<String>,
    /// The client acts for a person.
    #[serde(default)]
    person: bool,
    /// Which of the roles they brought; without it all.
    person_roles: Option<Vec<String>>,
    #[serde(default)]
    second_factor: bool,
    #[serde(default)]
    is_self: bool,
    #[serde(default)]
    in_care_team: bool,
    #[serde(default)]
    break_glass: bool,
    /// The person's.
    department: Option<String>,
    /// Bands of `bands.toml`; without one, the first.
    hour: Option<String>,
    source: Option<String>,
    /// The code of the denial that is expected, instead of any view.
    denied: Option<String>,
    #[serde(default)]
    plain: Vec<String>,
    #[serde(default)]
    masked: Vec<String>,
    #[serde(default)]
    absent: Vec<String>,
    /// The view of every field that the lists do not name.
    others: Option<String>,
    /// The ids of the deciding policies, all of them.
    by: Option<Vec<String>>,
}

const fn app() -> ClientKind {
    ClientKind::App
}

impl Case {
    /// What differs from the expectation; an error when the case names what is not there.
    fn run(&self, set: &PolicySet) -> Result<Vec<String>, String> {
        let resolved = self.described().resolve(set)?;
        let (collection, purpose) = (resolved.collection, resolved.purpose);
        let asking = resolved.asking();
        let decision = compile(&asking, purpose);
        let mut differences = Vec::new();
        let deciding = match (&decision, &self.denied) {
            (Ok(table), None) => {
                if let Some(collection) = collection {
                    self.compare_views(collection, table, &mut differences)?;
                }
                table.policies()
            }
            (Ok(table), Some(_)) => {
                differences.push("it is permitted".to_owned());
                table.policies()
            }
            (Err(denial), expected) => {
                if expected.as_deref() != Some(denial.code.as_str()) {
                    differences.push(format!("it is denied, {}", denial.code.as_str()));
                }
                &denial.policies
            }
        };
        if let Some(by) = &self.by
            && !by.iter().map(String::as_str).eq(deciding.iter().map(AsRef::as_ref))
        {
            differences.push(format!("it is decided by [{}]", deciding.join(" ")));
        }
        Ok(differences)
    }

    fn described(&self) -> Described {
        let Self { person, second_factor, is_self, in_care_team, break_glass, .. } = *self;
        Described {
            roles: self.roles.clone(),
            kind: self.kind,
            action: self.action.clone(),
            collection: self.collection.clone(),
            destination: self.destination.clone(),
            purpose: self.purpose.clone(),
            person,
            person_roles: self.person_roles.clone(),
            second_factor,
            relationship: Relationship { is_self, in_care_team, break_glass },
            department: self.department.clone(),
            hour: self.hour.clone(),
            source: self.source.clone(),
        }
    }

    fn compare_views(
        &self,
        collection: &Collection,
        table: &Table,
        differences: &mut Vec<String>,
    ) -> Result<(), String> {
        let listed = [(&self.plain, View::Plain), (&self.masked, View::Masked), (&self.absent, View::Absent)];
        let mut expected = Vec::new();
        for (names, view) in listed {
            for name in names {
                let field = collection.field(name).ok_or_else(|| format!("there is no field {name}"))?;
                expected.push((field, view));
            }
        }
        if let Some(word) = &self.others {
            let view =
                [View::Plain, View::Masked, View::Absent].into_iter().find(|view| view.as_str() == word);
            let view = view.ok_or("others is plain, masked or absent")?;
            let named: Vec<_> = expected.iter().map(|(field, _)| field.id).collect();
            let rest = collection.fields().iter().filter(|field| !named.contains(&field.id));
            expected.extend(rest.map(|field| (field, view)));
        }
        for (field, view) in expected {
            let found = table.view_of(field.id);
            if found != view {
                let name = field.name.as_str();
                differences.push(format!("{name} is {}, not {}", found.as_str(), view.as_str()));
            }
        }
        Ok(())
    }
}

/// A client that exists only to be asked about.
pub(super) fn identity(kind: ClientKind, roles: &[String]) -> Identity {
    let mut roles: Vec<Arc<str>> = roles.iter().map(|role| Arc::from(role.as_str())).collect();
    roles.sort();
    roles.dedup();
    Identity {
        client: Arc::from("case"),
        kind,
        tenant: TenantId::from_uuid(Uuid::nil()),
        roles: roles.into(),
        acts_for: Arc::from([]),
        key: KeyKeeping::File,
    }
}
