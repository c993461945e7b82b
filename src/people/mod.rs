//! The person behind a client: whose signed token is believed, for which tenant, and what it says.
//!
//! [`People`] holds `policy/people.toml` and the key sets of its issuers, both swapped whole, and judges a token on every
//! request: signature, issuer, audience, times, binding to the client's certificate. A token that was judged once is
//! remembered until the table or a key set changes, so that a repeat costs a digest and a look-up.
//!
//! Signatures are checked by `ring`, in three algorithms that are spelled out in [`Algorithm`]: there is no word for
//! `none` or for a shared secret, and a key is good for the one algorithm that its type has.
//!
//! Not here: HTTP and its headers (`http`), which role may do what (`policy`), when key sets are fetched (`jobs`), and
//! whether a client may act for a person at all ([`crate::domain::actor`]).

/// Its name in the policy's folder.
pub const FILE: &str = "people.toml";

mod claims;
mod factor;
mod fetch;
mod file;
mod jwk;
mod live;
mod source;
#[cfg(test)]
mod tests;
mod token;

pub use claims::TokenFault;
pub use fetch::FetchFault;
pub use file::{Algorithm, Binding, Issuer, Known, PeopleError, parse};
pub use jwk::{IgnoredKey, KeySet, KeySetFault};
pub use live::{KeyChange, KeysTaken, People, Refusal};
pub use source::Source;
pub use token::Token;
