//! The one integration test binary: a file per use case, against real parts.

// `cfg(test)` tells clippy that helpers are tests as well.
#![cfg(test)]

mod devstack;
mod layout;
mod parts;
mod source;
