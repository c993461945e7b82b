//! The one integration test binary: a file per use case, against real parts.

#[cfg(test)]
mod devstack;
#[cfg(test)]
mod layout;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod source;
