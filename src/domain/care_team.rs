//! The care teams that look after a subject, by name.

/// Of one subject, and of one person's token.
pub const MOST_CARE_TEAMS: usize = 64;
const LONGEST_NAME: usize = 128;

/// Names of teams: sorted, each once, at most [`MOST_CARE_TEAMS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CareTeams(Vec<String>);

impl CareTeams {
    /// `None` when a name is none, there are too many, or one is there twice.
    pub fn parse(mut names: Vec<String>) -> Option<Self> {
        names.sort_unstable();
        let fits = names.len() <= MOST_CARE_TEAMS
            && names.iter().all(|name| is_name(name))
            && names.windows(2).all(|pair| pair.first() != pair.last());
        fits.then_some(Self(names))
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// Whether a text can name a team: 1 to 128 bytes, no control characters.
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_once() {
        let parse = |names: &[&str]| CareTeams::parse(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(parse(&["ward-3", "Ward 1"]).unwrap().names(), ["Ward 1", "ward-3"]);
        assert_eq!(parse(&[]), Some(CareTeams::default()));
        let long = "x".repeat(LONGEST_NAME + 1);
        for bad in [&["a", "b", "a"][..], &[""], &["a\n"], &[&long]] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        let many: Vec<String> = (0..=MOST_CARE_TEAMS).map(|number| format!("t{number}")).collect();
        assert_eq!(CareTeams::parse(many.clone()), None);
        assert!(CareTeams::parse(many[1..].to_vec()).is_some());
    }
}
