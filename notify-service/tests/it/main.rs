//! notify-service over gRPC, on the embedded adapters or on the servers that the environment names.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it did not expect must stop"
)]

mod helpers;

mod inbox;
mod mail;
mod mail_server;
mod migrations;
mod replicas;
mod retention;
#[path = "../kit/smtp_server.rs"]
mod smtp_server;
mod stream;
mod tellings;
