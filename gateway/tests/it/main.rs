//! The gateway against small stand-ins for the services, which record what reaches them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "helpers of tests may fail as tests do"
)]

mod auth;
mod bodies;
mod connections;
mod documents;
mod doors;
mod fakes;
mod harness;
mod limits;
mod money;
mod outages;
mod shared_limits;
mod streams;
mod uploads;
mod upstreams;
