//! Whether a token tells of more than one factor.

use std::collections::BTreeSet;

/// What a value of `amr` (RFC 8176 section 2) shows that the person has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Knowledge,
    Possession,
    Inherence,
}

/// The values that are a factor of one kind. `mfa` is more than one by itself; `geo`, `mca`, `rba`, `user` and `wia` say
/// how somebody was asked, not with what they answered.
const KINDS: [(&str, Kind); 15] = [
    ("kba", Kind::Knowledge),
    ("pin", Kind::Knowledge),
    ("pwd", Kind::Knowledge),
    ("hwk", Kind::Possession),
    ("otp", Kind::Possession),
    ("pop", Kind::Possession),
    ("sc", Kind::Possession),
    ("sms", Kind::Possession),
    ("swk", Kind::Possession),
    ("tel", Kind::Possession),
    ("face", Kind::Inherence),
    ("fpt", Kind::Inherence),
    ("iris", Kind::Inherence),
    ("retina", Kind::Inherence),
    ("vbm", Kind::Inherence),
];

/// What of an issuer's `amr` counts as a second factor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Factors {
    /// `mfa`, or values of two kinds.
    Usual,
    /// Any of these, and nothing else.
    Listed(Box<[Box<str>]>),
}

impl Factors {
    pub fn new(listed: Option<&[String]>) -> Result<Self, &'static str> {
        let Some(listed) = listed else { return Ok(Self::Usual) };
        let fits =
            |value: &String| (1..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
        if listed.is_empty() || !listed.iter().all(fits) {
            return Err("list the values of `amr` that count in second_factor, or leave it out");
        }
        Ok(Self::Listed(listed.iter().map(|value| value.as_str().into()).collect()))
    }

    pub fn are_met_by(&self, amr: &[&str]) -> bool {
        match self {
            Self::Listed(listed) => amr.iter().any(|value| listed.iter().any(|counts| **counts == **value)),
            Self::Usual => {
                let kind = |value: &&str| KINDS.iter().find(|(word, _)| word == value).map(|(_, kind)| *kind);
                let kinds: BTreeSet<Kind> = amr.iter().filter_map(kind).collect();
                amr.contains(&"mfa") || kinds.len() > 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_kinds_or_a_word_for_it() {
        for (amr, met) in [
            (&["mfa"][..], true),
            (&["pwd", "otp"], true),
            (&["pin", "hwk"], true),
            (&["fpt", "swk"], true),
            (&["pwd", "mfa"], true),
            (&[], false),
            (&["pwd"], false),
            (&["hwk"], false),
            (&["pwd", "pin"], false),
            (&["otp", "sms"], false),
            (&["pwd", "geo"], false),
            (&["pwd", "user"], false),
            (&["MFA"], false),
            (&["pwd", "unheard-of"], false),
        ] {
            assert_eq!(Factors::Usual.are_met_by(amr), met, "{amr:?}");
        }
    }

    #[test]
    fn where_values_are_listed_no_other_counts() {
        let listed = Factors::new(Some(&["hwk".to_owned(), "urn:clinic:smartcard".to_owned()])).unwrap();
        assert!(listed.are_met_by(&["pwd", "hwk"]) && listed.are_met_by(&["urn:clinic:smartcard"]));
        assert!(!listed.are_met_by(&["mfa"]) && !listed.are_met_by(&["pwd", "otp"]));
        assert_eq!(Factors::new(None), Ok(Factors::Usual));
        for bad in [&[][..], &[String::new()], &["two words".to_owned()]] {
            assert!(Factors::new(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
