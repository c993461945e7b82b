//! Erasing a person: for good, for everybody, with the keys of all that is kept of them.

/// Why. Closed, so that a report can count on it and the log never holds a caller's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureReason {
    /// The person asks for it, or takes back what they had agreed to (GDPR 17(1)(b), (c)).
    PersonRequest,
    /// It is not needed any more for what it was kept for (GDPR 17(1)(a)).
    NotNeeded,
    /// It was never to be kept (GDPR 17(1)(d)).
    Unlawful,
    /// A law or a court says so (GDPR 17(1)(e)).
    LegalDuty,
}

impl ErasureReason {
    pub const ALL: [Self; 4] = [Self::PersonRequest, Self::NotNeeded, Self::Unlawful, Self::LegalDuty];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PersonRequest => "person_request",
            Self::NotNeeded => "not_needed",
            Self::Unlawful => "unlawful",
            Self::LegalDuty => "legal_duty",
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
        for reason in ErasureReason::ALL {
            assert_eq!(ErasureReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(ErasureReason::parse("tidiness"), None);
    }
}
