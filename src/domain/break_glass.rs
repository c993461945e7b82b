//! Breaking the glass: seeing more than usual of somebody, for minutes, for a reason, with a review afterwards.

/// Why. Closed, so that a report can count on it and the log never holds a caller's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakGlassReason {
    /// Life or health is at stake.
    Emergency,
    /// Nobody of the care team can be reached.
    TeamUnavailable,
    /// The care team is not set right, and there is no time to wait until it is.
    TeamWrong,
}

impl BreakGlassReason {
    pub const ALL: [Self; 3] = [Self::Emergency, Self::TeamUnavailable, Self::TeamWrong];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::TeamUnavailable => "team_unavailable",
            Self::TeamWrong => "team_wrong",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// What the review found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Justified,
    /// To be followed up where people are responsible for it.
    NotJustified,
}

impl Verdict {
    pub const ALL: [Self; 2] = [Self::Justified, Self::NotJustified];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Justified => "justified",
            Self::NotJustified => "not_justified",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == word)
    }
}

/// Where the reason is written down: a number of a case or a ticket, 1 to 64 letters, digits, `.`, `_`, `/`, `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);

impl Reference {
    pub fn parse(text: String) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
        fits.then_some(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        for reason in BreakGlassReason::ALL {
            assert_eq!(BreakGlassReason::parse(reason.as_str()), Some(reason));
        }
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::parse(verdict.as_str()), Some(verdict));
        }
        assert_eq!((BreakGlassReason::parse("curiosity"), Verdict::parse("fine")), (None, None));
    }

    #[test]
    fn a_reference_is_no_text() {
        let parse = |text: &str| Reference::parse(text.to_owned());
        assert_eq!(parse("ED-2026/0117.a_1").unwrap().as_str(), "ED-2026/0117.a_1");
        for bad in ["", "Mr. Smith", "a\n", "é", &"x".repeat(65)] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
