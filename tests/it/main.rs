//! The one integration test binary: a file per use case, against real parts.

mod door_connections;
mod door_handshake;
mod door_pki;
mod door_reload;
mod door_stand;
