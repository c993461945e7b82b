//! `policy/limits.toml`: how much a client, and the person behind one, may ask for. Reviewed with the rules, loaded and
//! swapped with them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::domain::meter::Rate;

const MOST_REQUESTS_PER_MINUTE: u32 = 60_000_000;
const MOST_RECORDS_PER_HOUR: u32 = 1_000_000_000;
/// Glass is broken for minutes, not hours, and not of a ward.
const MOST_BREAK_GLASS_MINUTES: u32 = 240;
const MOST_BREAK_GLASS_SUBJECTS: u32 = 50;
const MOST_REVIEW_HOURS: u32 = 24 * 7;

/// What one client, or one person, may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub requests: Rate,
    /// Records revealed.
    pub records: Rate,
}

/// How far glass may be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassBounds {
    pub most_minutes: u32,
    pub most_subjects: u32,
    /// After so many hours it is shown that nobody has reviewed it.
    pub review_within_hours: u32,
}

/// The limits of a policy set.
#[derive(Clone, Debug)]
pub struct Limits {
    break_glass: BreakGlassBounds,
    default: Pair,
    roles: BTreeMap<String, Pair>,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    client: Allowance,
    person: Allowance,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    #[serde(default)]
    break_glass: BreakGlassBounds,
    default: DefaultTable,
    #[serde(default)]
    role: BTreeMap<String, RoleTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultTable {
    client: AllowanceTable,
    person: AllowanceTable,
}

/// What is left out is as in the default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleTable {
    client: Option<AllowanceTable>,
    person: Option<AllowanceTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowanceTable {
    requests_per_minute: u32,
    requests_at_once: u32,
    records_per_hour: u32,
    records_at_once: u32,
}

impl Limits {
    /// Whole or not at all; `known_roles` are the schema's. The error is a sentence for the person who edits the file.
    pub fn parse(text: &str, known_roles: &[Arc<str>]) -> Result<Self, String> {
        let file: LimitsFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let default = Pair {
            client: file.default.client.read().map_err(|why| format!("default.client: {why}"))?,
            person: file.default.person.read().map_err(|why| format!("default.person: {why}"))?,
        };
        let mut roles = BTreeMap::new();
        for (role, table) in file.role {
            if !known_roles.iter().any(|known| **known == *role) {
                return Err(format!("role.{role}: the schema has no such role"));
            }
            let refuse = |why: String| format!("role.{role}: {why}");
            let read = |table: Option<AllowanceTable>, default: Allowance| {
                table.map_or(Ok(default), |table| table.read())
            };
            let pair = Pair {
                client: read(table.client, default.client).map_err(refuse)?,
                person: read(table.person, default.person).map_err(refuse)?,
            };
            roles.insert(role, pair);
        }
        file.break_glass.check().map_err(|why| format!("break_glass: {why}"))?;
        Ok(Self { break_glass: file.break_glass, default, roles })
    }

    pub const fn break_glass(&self) -> BreakGlassBounds {
        self.break_glass
    }

    /// Of a client with these roles: the most that one of them gives, in each respect.
    pub fn of_client(&self, roles: &[Arc<str>]) -> Allowance {
        self.most(roles, |pair| pair.client)
    }

    /// Of a person with these roles, whatever client they use.
    pub fn of_person(&self, roles: &[Arc<str>]) -> Allowance {
        self.most(roles, |pair| pair.person)
    }

    fn most(&self, roles: &[Arc<str>], which: impl Fn(&Pair) -> Allowance) -> Allowance {
        let each = roles.iter().map(|role| which(self.roles.get(&**role).unwrap_or(&self.default)));
        each.reduce(Allowance::or_more).unwrap_or_else(|| which(&self.default))
    }
}

impl Allowance {
    fn or_more(self, other: Self) -> Self {
        Self { requests: self.requests.or_more(other.requests), records: self.records.or_more(other.records) }
    }
}

/// Of a file that does not say.
impl Default for BreakGlassBounds {
    fn default() -> Self {
        Self { most_minutes: 60, most_subjects: 10, review_within_hours: 24 }
    }
}

impl BreakGlassBounds {
    fn check(self) -> Result<(), String> {
        check("most_minutes", self.most_minutes, MOST_BREAK_GLASS_MINUTES)?;
        check("most_subjects", self.most_subjects, MOST_BREAK_GLASS_SUBJECTS)?;
        check("review_within_hours", self.review_within_hours, MOST_REVIEW_HOURS)
    }
}

fn check(name: &str, number: u32, most: u32) -> Result<(), String> {
    if (1..=most).contains(&number) { Ok(()) } else { Err(format!("choose {name} from 1 to {most}")) }
}

impl AllowanceTable {
    fn read(&self) -> Result<Allowance, String> {
        check("requests_per_minute", self.requests_per_minute, MOST_REQUESTS_PER_MINUTE)?;
        check("requests_at_once", self.requests_at_once, MOST_REQUESTS_PER_MINUTE)?;
        check("records_per_hour", self.records_per_hour, MOST_RECORDS_PER_HOUR)?;
        check("records_at_once", self.records_at_once, MOST_RECORDS_PER_HOUR)?;
        Ok(Allowance {
            requests: Rate::new(self.requests_per_minute, Duration::from_mins(1), self.requests_at_once),
            records: Rate::new(self.records_per_hour, Duration::from_hours(1), self.records_at_once),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
        [break_glass]
        most_minutes = 30
        most_subjects = 5
        review_within_hours = 24
        [default.client]
        requests_per_minute = 600
        requests_at_once = 60
        records_per_hour = 1000
        records_at_once = 100
        [default.person]
        requests_per_minute = 60
        requests_at_once = 6
        records_per_hour = 100
        records_at_once = 10
        [role.portal.client]
        requests_per_minute = 6000
        requests_at_once = 1
        records_per_hour = 1
        records_at_once = 1
        [role.clinician.person]
        requests_per_minute = 120
        requests_at_once = 12
        records_per_hour = 200
        records_at_once = 20
    ";

    fn roles(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn known() -> Vec<Arc<str>> {
        roles(&["portal", "clinician", "billing"])
    }

    fn allowance(requests: u32, at_once: u32, records: u32, records_at_once: u32) -> Allowance {
        Allowance {
            requests: Rate::new(requests, Duration::from_mins(1), at_once),
            records: Rate::new(records, Duration::from_hours(1), records_at_once),
        }
    }

    #[test]
    fn a_role_has_its_own_limits_and_several_have_the_most_of_each() {
        let limits = Limits::parse(FILE, &known()).unwrap();
        assert_eq!(limits.of_client(&roles(&["billing"])), allowance(600, 60, 1_000, 100));
        assert_eq!(limits.of_client(&roles(&["portal"])), allowance(6_000, 1, 1, 1));
        assert_eq!(limits.of_client(&roles(&["billing", "portal"])), allowance(6_000, 60, 1_000, 100));
        assert_eq!(limits.of_person(&roles(&[])), allowance(60, 6, 100, 10));
        assert_eq!(limits.of_person(&roles(&["portal"])), allowance(60, 6, 100, 10));
        assert_eq!(limits.of_person(&roles(&["clinician", "portal"])), allowance(120, 12, 200, 20));
        let bounds = BreakGlassBounds { most_minutes: 30, most_subjects: 5, review_within_hours: 24 };
        assert_eq!(limits.break_glass(), bounds);
        let (_, rest) = FILE.split_once("[default.client]").unwrap();
        let unsaid = Limits::parse(&format!("[default.client]{rest}"), &known()).unwrap();
        assert_eq!(unsaid.break_glass(), BreakGlassBounds::default());
    }

    #[test]
    fn files_are_strict() {
        let refused = |from: &str, to: &str| {
            assert!(FILE.contains(from));
            Limits::parse(&FILE.replacen(from, to, 1), &known()).expect_err("it is refused")
        };
        assert!(refused("most_minutes = 30", "most_minutes = 241").contains("most_minutes"));
        assert!(refused("most_subjects = 5", "most_subjects = 0").contains("most_subjects"));
        assert!(
            refused("review_within_hours = 24", "review_within_hours = 169").contains("review_within_hours")
        );
        assert!(refused("review_within_hours = 24\n", "").contains("review_within_hours"));
        assert!(refused("role.portal", "role.portall").contains("no such role"));
        assert!(refused("records_per_hour = 1000", "records_per_hour = 0").contains("records_per_hour"));
        assert!(refused("requests_at_once = 60", "requests_at_once = -1").contains("-1"));
        assert!(refused("requests_at_once = 60", "requests_at_onc = 60").contains("requests_at_onc"));
        assert!(refused("requests_per_minute = 600\n", "").contains("requests_per_minute"));
        assert!(refused("[default.person]", "[default.people]").contains("people"));
        assert!(refused("[role.portal.client]", "[role.portal.tenant]").contains("tenant"));
        assert!(
            refused("requests_per_minute = 600\n", "requests_per_minute = 60000001\n").contains("60000000")
        );
    }
}
