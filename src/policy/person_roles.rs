//! The roles of people that rules ask for. Which of these somebody brought is all that a decision knows of their roles: the
//! others make no difference, so that people who bring them share what was decided.

use std::collections::BTreeSet;
use std::sync::Arc;

/// As many as there are bits in [`PersonRoles`].
const MOST_ASKED: usize = 16;

/// Some of the roles that are asked for, each by its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PersonRoles(u16);

/// Those that some rule asks for with `context.person in`, in the order of their names.
#[derive(Debug)]
pub(super) struct AskedRoles(Vec<Arc<str>>);

impl AskedRoles {
    pub fn new(names: &BTreeSet<String>) -> Result<Self, String> {
        if names.len() > MOST_ASKED {
            return Err(format!("ask context.person for {MOST_ASKED} roles at most"));
        }
        Ok(Self(names.iter().map(|name| Arc::from(name.as_str())).collect()))
    }

    /// What is asked for among the roles that somebody brought.
    pub fn among<'a>(&self, brought: impl IntoIterator<Item = &'a str>) -> PersonRoles {
        brought.into_iter().fold(PersonRoles::default(), |found, role| {
            let place = self.bits().find(|(_, known)| &***known == role).map_or(0, |(bit, _)| bit);
            PersonRoles(found.0 | place)
        })
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }

    pub fn names(&self, roles: PersonRoles) -> impl Iterator<Item = &Arc<str>> {
        self.bits().filter(move |(bit, _)| roles.0 & bit != 0).map(|(_, name)| name)
    }

    fn bits(&self) -> impl Iterator<Item = (u16, &Arc<str>)> {
        self.0.iter().enumerate().map(|(place, name)| (1 << place, name))
    }
}

/// What people can bring of these roles: nothing, up to so many at once, and all.
pub(super) fn combinations<'a>(names: &[&'a str], most: usize) -> Vec<Vec<&'a str>> {
    // More than are asked for cannot be told apart.
    let names = names.get(..MOST_ASKED).unwrap_or(names);
    let each = (0..1_u32 << names.len()).map(|chosen| {
        let places = names.iter().enumerate().filter(move |(place, _)| chosen >> place & 1 == 1);
        places.map(|(_, name)| *name).collect::<Vec<_>>()
    });
    let mut found: Vec<_> = each.filter(|some| some.len() <= most || some.len() == names.len()).collect();
    found.sort_by_key(Vec::len);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(names: &[&str]) -> Result<AskedRoles, String> {
        AskedRoles::new(&names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn only_what_is_asked_for_tells_people_apart() {
        let roles = asked(&["therapist", "clinician"]).unwrap();
        let names = |brought: &[&str]| {
            roles.names(roles.among(brought.iter().copied())).map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(&["clinician", "patient", "therapist"]), ["clinician", "therapist"]);
        assert_eq!(names(&["therapist"]), ["therapist"]);
        assert_eq!(roles.among(["patient"]), PersonRoles::default());
        assert_ne!(roles.among(["clinician"]), roles.among(["therapist"]));
        assert_eq!(asked(&[]).unwrap().among(["clinician"]), PersonRoles::default());
    }

    #[test]
    fn as_many_as_there_are_places() {
        let names: Vec<String> = (0..=MOST_ASKED).map(|number| format!("role-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let roles = asked(&names[1..]).unwrap();
        let each: BTreeSet<PersonRoles> = names[1..].iter().map(|name| roles.among([*name])).collect();
        assert_eq!((each.len(), each.contains(&PersonRoles::default())), (MOST_ASKED, false));
        assert!(asked(&names).unwrap_err().contains("16"));
    }

    #[test]
    fn people_bring_nothing_some_or_all() {
        assert_eq!(combinations(&[], 3), [Vec::<&str>::new()]);
        assert_eq!(combinations(&["a", "b"], 3), [vec![], vec!["a"], vec!["b"], vec!["a", "b"]]);
        let of_five = ["a", "b", "c", "d", "e"];
        assert_eq!(combinations(&of_five, 1).len(), 1 + 5 + 1);
        assert_eq!(combinations(&of_five, 3).len(), 1 + 5 + 10 + 10 + 1);
        assert_eq!(combinations(&of_five, usize::MAX).len(), 32);
    }
}
