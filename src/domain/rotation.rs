//! Replacing a tenant key by a new one, of which the old one is destroyed in the end.

/// Why. Closed, so that a report can count on it and the log never holds a caller's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationReason {
    /// Its time is over (PCI DSS 3.7.4).
    Scheduled,
    /// Somebody who knew of keys has left (PCI DSS 3.7.5).
    CustodianLeft,
    /// It may be known to somebody who must not know it (PCI DSS 3.7.5).
    Compromise,
}

impl RotationReason {
    pub const ALL: [Self; 3] = [Self::Scheduled, Self::CustodianLeft, Self::Compromise];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::CustodianLeft => "custodian_left",
            Self::Compromise => "compromise",
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
        for reason in RotationReason::ALL {
            assert_eq!(RotationReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(RotationReason::parse("boredom"), None);
    }
}
