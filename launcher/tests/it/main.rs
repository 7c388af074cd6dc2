//! End-to-end journeys over HTTP, and the tests that hold the whole house together.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test tells what it saw, and ends by panic"
)]

mod architecture;
mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod journey;
mod kill;
mod restart;
mod support;
mod trace;
