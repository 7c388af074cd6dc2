//! auth-service over gRPC, on SQLite or on the server that the environment names.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails like the test itself"
)]

mod keys;
mod login;
mod logout;
mod migrations;
mod profile;
mod refresh;
mod register;
mod replicas;
mod resend_verification;
mod search_users;
mod sweep;
mod verify_email;
mod watch_revocations;
mod world;
