//! The platform's promises, on the adapters of both profiles.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail as tests do"
)]

mod event_bus;
mod fanout;
mod rate_limit;
mod redis_client;
mod redis_server;
mod replicas;
mod work;
