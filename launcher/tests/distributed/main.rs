//! The product as separate processes on real servers: the same journeys, and the faults that only several have.
//!
//! `deploy/local/local.sh` starts and stops all of it, so these tests also hold that script to its word.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test tells what it saw, and ends by panic"
)]

mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod journey;
mod kill;
mod rate_limit;
mod roll;
mod trace;
