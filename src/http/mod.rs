//! HTTP: the door that lets connections in.

pub mod door;
