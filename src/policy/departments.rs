//! The departments that `schema.cedarschema` lists and rules tell people apart by. A decision knows which one it is by its
//! place in the list: what a token says never gets that far, only what `people.toml` reads in it.

use std::collections::BTreeSet;
use std::sync::Arc;

const MOST_DEPARTMENTS: usize = 256;
const LONGEST_NAME: usize = 48;

/// One of the list, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Department(u8);

#[derive(Debug)]
pub(super) struct Departments(Vec<Arc<str>>);

impl Departments {
    pub fn new(names: Vec<Arc<str>>) -> Result<Self, String> {
        let distinct: BTreeSet<&Arc<str>> = names.iter().collect();
        if !(1..=MOST_DEPARTMENTS).contains(&names.len()) || distinct.len() != names.len() {
            return Err(format!("list 1 to {MOST_DEPARTMENTS} departments in Department, each once"));
        }
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            return Err(format!(
                "Department {name}: use 1 to {LONGEST_NAME} lower-case letters, digits, hyphens and underscores, a letter first"
            ));
        }
        Ok(Self(names))
    }

    /// In the order of the schema.
    pub fn all(&self) -> impl Iterator<Item = (Department, &Arc<str>)> {
        (0..=u8::MAX).map(Department).zip(&self.0)
    }

    pub fn named(&self, name: &str) -> Option<Department> {
        self.all().find(|(_, known)| &***known == name).map(|(department, _)| department)
    }

    pub fn name(&self, department: Department) -> Option<&Arc<str>> {
        self.0.get(usize::from(department.0))
    }
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    text.len() <= LONGEST_NAME
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && text.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Result<Departments, String> {
        Departments::new(names.iter().map(|name| Arc::from(*name)).collect())
    }

    #[test]
    fn each_has_a_place_and_its_name() {
        let departments = list(&["stroke_unit", "a-3", "cardiology"]).unwrap();
        for (department, name) in departments.all() {
            assert_eq!(departments.named(name), Some(department));
            assert_eq!(departments.name(department), Some(name));
        }
        assert_eq!(departments.all().count(), 3);
        assert_eq!(departments.named("Cardiology"), None);
        let shorter = list(&["stroke_unit"]).unwrap();
        assert_eq!(shorter.name(departments.named("cardiology").unwrap()), None, "of a longer list");
    }

    #[test]
    fn as_many_as_there_are_places() {
        let names: Vec<String> = (0..=MOST_DEPARTMENTS).map(|number| format!("d{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let all = list(&names[1..]).unwrap();
        let places: BTreeSet<Department> = all.all().map(|(department, _)| department).collect();
        assert_eq!(places.len(), MOST_DEPARTMENTS);
        assert!(list(&names).unwrap_err().contains("1 to 256"));
        assert!(list(&[]).unwrap_err().contains("1 to 256"));
    }

    #[test]
    fn names_are_words_and_stand_once() {
        assert!(list(&["cardiology", "cardiology"]).unwrap_err().contains("once"));
        let long = "x".repeat(LONGEST_NAME + 1);
        for bad in ["", "Cardiology", "3-west", "heart and lung", "n\u{e9}phrologie", "a;b", &long] {
            assert!(list(&["oncology", bad]).unwrap_err().contains("a letter first"), "{bad}");
        }
        assert!(list(&[&long[1..]]).is_ok());
    }
}
