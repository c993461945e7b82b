//! How the person behind a request stands to the person whose record it is about.

use super::id::SubjectId;
use super::person::Person;
use super::purpose::Purpose;

/// What policy hears of it: never who the two are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relationship {
    /// It is the person's own record.
    pub is_self: bool,
    /// The person belongs to a care team of the subject's.
    pub in_care_team: bool,
    /// The person broke the glass for the subject, and it has not ended.
    pub break_glass: bool,
}

impl Relationship {
    /// To nobody: of a request that is about no single subject, or of a client that acts for itself.
    pub const NONE: Self = Self { is_self: false, in_care_team: false, break_glass: false };

    /// Of this person to this subject, who is looked after by these teams.
    pub fn of<'t>(person: &Person, subject: SubjectId, mut teams: impl Iterator<Item = &'t str>) -> Self {
        let belongs = |team: &str| person.care_teams.binary_search_by(|own| (**own).cmp(team)).is_ok();
        let is_self = person.subject == Some(subject);
        Self { is_self, in_care_team: teams.any(belongs), break_glass: false }
    }

    /// All that this person can be to somebody. Broken glass counts for who says that they act under it.
    pub fn most_possible_of(person: Option<&Person>, purpose: Option<Purpose>) -> Self {
        Self {
            is_self: person.is_some_and(|person| person.subject.is_some()),
            in_care_team: person.is_some_and(|person| !person.care_teams.is_empty()),
            break_glass: person.is_some() && purpose == Some(Purpose::Btg),
        }
    }

    /// This one and every one that is less, this one last.
    pub fn at_most(self) -> impl Iterator<Item = Self> {
        let some_of = |is_possible: bool| if is_possible { &[false, true][..] } else { &[false] };
        some_of(self.is_self).iter().flat_map(move |is_self| {
            some_of(self.in_care_team).iter().flat_map(move |in_care_team| {
                let (is_self, in_care_team) = (*is_self, *in_care_team);
                let each = some_of(self.break_glass).iter();
                each.map(move |break_glass| Self { is_self, in_care_team, break_glass: *break_glass })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::domain::clock::Timestamp;

    fn person(subject: Option<u128>, teams: &[&str]) -> Person {
        Person {
            issuer: "staff".into(),
            id: "p-1".into(),
            roles: Arc::from([]),
            department: None,
            care_teams: teams.iter().map(|team| Arc::from(*team)).collect(),
            subject: subject.map(|number| SubjectId::from_uuid(Uuid::from_u128(number))),
            has_second_factor: false,
            expires_at: Timestamp::from_micros(0),
        }
    }

    #[test]
    fn a_person_is_themselves_and_in_the_teams_that_the_token_names() {
        let of = |person: &Person, number, teams: &[&str]| {
            let subject = SubjectId::from_uuid(Uuid::from_u128(number));
            let relationship = Relationship::of(person, subject, teams.iter().copied());
            (relationship.is_self, relationship.in_care_team)
        };
        let nurse = person(Some(1), &["ward-1", "ward-3"]);
        assert_eq!(of(&nurse, 1, &[]), (true, false));
        assert_eq!(of(&nurse, 2, &["ward-2", "ward-3"]), (false, true));
        assert_eq!(of(&nurse, 1, &["ward-1"]), (true, true));
        assert_eq!(of(&nurse, 2, &["ward-2", "ward-", "ward-11", "Ward-1"]), (false, false));
        assert_eq!(of(&person(None, &[]), 1, &["ward-1"]), (false, false));
    }

    #[test]
    fn whatever_it_turns_out_to_be_was_asked_about() {
        let possible = |person: Option<&Person>| {
            Relationship::most_possible_of(person, None).at_most().collect::<Vec<_>>()
        };
        assert_eq!(possible(None), [Relationship::NONE]);
        assert_eq!(possible(Some(&person(None, &[]))), [Relationship::NONE]);
        for (who, count) in
            [(person(Some(1), &[]), 2), (person(None, &["a"]), 2), (person(Some(1), &["a"]), 4)]
        {
            let asked = possible(Some(&who));
            assert_eq!(
                (asked.len(), asked.last()),
                (count, Some(&Relationship::most_possible_of(Some(&who), None)))
            );
            for number in [1, 2] {
                let subject = SubjectId::from_uuid(Uuid::from_u128(number));
                for teams in [&[][..], &["a"]] {
                    assert!(asked.contains(&Relationship::of(&who, subject, teams.iter().copied())));
                }
            }
        }
    }

    #[test]
    fn broken_glass_is_for_people_who_say_so() {
        let possible =
            |person: Option<&Person>, purpose| Relationship::most_possible_of(person, purpose).break_glass;
        let nurse = person(None, &[]);
        assert!(possible(Some(&nurse), Some(Purpose::Btg)));
        assert!(!possible(Some(&nurse), Some(Purpose::Treat)) && !possible(Some(&nurse), None));
        assert!(!possible(None, Some(Purpose::Btg)));
        assert_eq!(
            Relationship::most_possible_of(Some(&person(Some(1), &["a"])), Some(Purpose::Btg))
                .at_most()
                .count(),
            8
        );
    }
}
