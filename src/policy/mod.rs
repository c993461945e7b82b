//! Who may see what, and why: collections and their fields from `policy/collections/*.toml`, Cedar rules from
//! `policy/*.cedar`, destinations from `policy/relay.toml`, and the authoriser, the only maker of the [`Permit`] that revealing and storing demand.
//!
//! A [`PolicySet`] is loaded whole or not at all and never changes. An [`Authoriser`] belongs to one set; a reload makes
//! a new one, with an empty cache, and swaps it in.
//!
//! Not here: who a client is (`tls` reads `identities.toml`), the audit of decisions, or the reload itself.
//!
//! A permit cannot be made by hand:
//!
//! ```compile_fail,E0451
//! fn forge(permit: strongroom::policy::Permit) -> strongroom::policy::Permit {
//!     strongroom::policy::Permit { ..permit }
//! }
//! ```
//!
//! ```compile_fail,E0451
//! fn forge(permit: strongroom::policy::AuditPermit) -> strongroom::policy::AuditPermit {
//!     strongroom::policy::AuditPermit { ..permit }
//! }
//! ```
//!
//! nor copied, so that one decision stands behind one use:
//!
//! ```compile_fail,E0599
//! fn copy(permit: &strongroom::policy::Permit) -> strongroom::policy::Permit {
//!     permit.clone()
//! }
//! ```

mod authoriser;
mod bands;
mod cases;
mod cedar;
mod circumstances;
mod collection;
mod collection_file;
mod conflict;
mod departments;
mod described;
mod diff;
mod entities;
mod explain;
mod fields;
mod index_file;
mod isolation;
mod limits;
mod matrix;
mod permit;
mod person_roles;
mod reach;
mod relay_file;
mod review;
mod rule_files;
mod schema_file;
mod set;
mod settings;
mod table;
mod words;

pub use authoriser::Authoriser;
pub use cases::{CaseReport, run_cases};
pub use collection::{Collection, Field, KeyScope, SubjectRule};
pub use conflict::RoleConflict;
pub use described::Described;
pub use diff::{Change, differences};
pub use explain::{Explanation, explain};
pub use fields::{FieldFault, FieldFaultCode, FieldFaults, ParseMode, ParsedField, ParsedFields};
pub use limits::{Allowance, BreakGlassBounds, Limits};
pub use matrix::matrix;
pub use permit::{
    AuditPermit, Denial, DenialCode, Dependent, KeysPermit, Permit, Prospect, SubjectPermit, View,
};
pub use relay_file::{Destination, LONGEST_RELAY, RelayCredential, RelayedField};
pub use review::idle_permits;
pub use set::{PolicyError, PolicySet};
pub use settings::{SettingChange, setting_changes};
