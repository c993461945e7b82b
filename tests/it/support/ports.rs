//! Ports for what is started again at the same place, or told where to listen before it does.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the stack takes (`src/devstack/place.rs`), and so below those that a system hands to outgoing connections: nobody
/// else gets one while whoever had it is down.
const FIRST: u32 = 8_000;
const PAIRS: u32 = 6_000;

/// A port that is free, as the next one is (a Vault server takes that as well), and that nobody else in this process is given.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let offset = std::process::id().wrapping_mul(97);
    for _ in 0..PAIRS {
        let pair = offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PAIRS;
        let port = u16::try_from(FIRST + 2 * pair).unwrap();
        if [port, port + 1].into_iter().all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return port;
        }
    }
    panic!("no port is free");
}
