//! Purpose of use: HL7 v3 `PurposeOfUse` codes, sent in `X-Purpose-Of-Use`.

/// Why a caller wants access. The closed list that policy files may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Treatment.
    Treat,
    /// Emergency treatment.
    Etreat,
    /// Break the glass.
    Btg,
    /// Health care payment.
    Hpaymt,
    /// Health care operations.
    Hoperat,
    /// Patient's own request.
    Patrqt,
    /// Care coordination.
    Coc,
    /// Public health.
    Pubhlth,
    /// Health care research.
    Hresch,
    /// Health care marketing.
    Hmarkt,
    /// System administration.
    Sysadmin,
    /// Compliance and audit of health care operations.
    Hcompl,
}

impl Purpose {
    pub const ALL: [Self; 12] = [
        Self::Treat,
        Self::Etreat,
        Self::Btg,
        Self::Hpaymt,
        Self::Hoperat,
        Self::Patrqt,
        Self::Coc,
        Self::Pubhlth,
        Self::Hresch,
        Self::Hmarkt,
        Self::Sysadmin,
        Self::Hcompl,
    ];

    /// The HL7 code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Treat => "TREAT",
            Self::Etreat => "ETREAT",
            Self::Btg => "BTG",
            Self::Hpaymt => "HPAYMT",
            Self::Hoperat => "HOPERAT",
            Self::Patrqt => "PATRQT",
            Self::Coc => "COC",
            Self::Pubhlth => "PUBHLTH",
            Self::Hresch => "HRESCH",
            Self::Hmarkt => "HMARKT",
            Self::Sysadmin => "SYSADMIN",
            Self::Hcompl => "HCOMPL",
        }
    }

    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == code)
    }
}
