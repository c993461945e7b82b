//! The class of a value decides which key-encryption key stands behind it.

use serde::{Deserialize, Serialize};

/// A data class: each has a key-encryption key of its own in Vault (`strongroom-phi`, `-pii`, `-chd`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataClass {
    /// Protected health information (45 CFR 160.103).
    Phi,
    /// Personal data that is not health information.
    Pii,
    /// Cardholder data (PCI DSS).
    Chd,
}

impl DataClass {
    pub const ALL: [Self; 3] = [Self::Phi, Self::Pii, Self::Chd];

    /// The word used in keys' associated data, in the database and in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Phi => "phi",
            Self::Pii => "pii",
            Self::Chd => "chd",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}
