//! What a request to an outside service is made of, and the way there: a caller's JSON in which placeholders name records,
//! the body with the opened values in their places, TLS, and what of the answer goes back.
//!
//! [`Template`] parses what the caller sent; [`Template::fill`] makes a [`Filled`] of it, which nothing but
//! [`RelayClient::send`] takes; and what comes back is an [`Answer`], which has the members that were declared and nothing of
//! a value that was just filled in. So what is sent is what is looked for in the answer: no caller of these can forget it.
//!
//! What is sent is written anew from what was parsed. Text is never put into text, so a value can't become a member of its
//! own, and two readers can't see two requests. Numbers keep the digits that they came with.
//!
//! An answer that repeats a value is told by its letters and digits ([`RevealedValue`]): in other cases, with other
//! punctuation, within longer text. One that repeats it encoded, in parts, in reverse or in another calendar is not told:
//! which members come back is the policy's choice, and the destination is somebody who may have the value.
//!
//! Not here: which destinations there are, which fields and members are declared, who may relay (`policy`), the records, and
//! the log (`service`).

mod answer;
mod client;
mod credential;
mod json;
mod pointer;
mod revealed;
mod template;

pub use answer::{Answer, BrokenAnswer};
pub use client::{RelayClient, RelayClientFault, SendFailure, Target};
pub use credential::{CredentialPlace, credential_header};
pub use pointer::{Pointer, PointerFault};
pub use revealed::RevealedValue;
pub use template::{Filled, MOST_PLACEHOLDERS, Template, TemplateFault};
