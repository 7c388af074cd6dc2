//! notify-service over gRPC, on SQLite and the in-process adapters.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it did not expect must stop"
)]

mod helpers;

mod inbox;
mod mail;
mod migrations;
mod retention;
mod stream;
mod tellings;
