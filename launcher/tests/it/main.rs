//! End-to-end journeys over HTTP, and the tests that hold the whole house together.

mod architecture;
mod bad_input;
mod journey;
mod kill;
mod restart;
mod support;
mod trace;
