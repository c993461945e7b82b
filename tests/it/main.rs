//! The one integration test binary: a file per use case, against real parts.

// `cfg(test)` tells clippy that helpers are tests as well.
#[cfg(test)]
mod door_connections;
#[cfg(test)]
mod door_handshake;
#[cfg(test)]
mod door_pki;
#[cfg(test)]
mod door_reload;
#[cfg(test)]
mod door_stand;
