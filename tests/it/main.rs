//! The one integration test binary: a file per use case, against real parts.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test; clippy.toml exempts only the test functions themselves"
)]

mod keys_bootstrap;
mod keys_ring;
mod keys_transit;
mod keys_vault;
mod support;
