//! A legal hold on what is kept of a person: none of it is deleted, none expires, until the hold is released.

/// Why. Closed, so that a report can count on it and the log never holds a caller's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// A lawsuit, begun or expected.
    Litigation,
    /// The organisation looks into something itself.
    Investigation,
    Audit,
    /// An authority has asked for it.
    Regulator,
}

impl HoldReason {
    pub const ALL: [Self; 4] = [Self::Litigation, Self::Investigation, Self::Audit, Self::Regulator];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Litigation => "litigation",
            Self::Investigation => "investigation",
            Self::Audit => "audit",
            Self::Regulator => "regulator",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        for reason in HoldReason::ALL {
            assert_eq!(HoldReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(HoldReason::parse("because"), None);
    }
}
