//! The wallet over gRPC, on embedded adapters or on the servers that the environment names.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod helpers;

mod accounts;
mod contention;
mod deposit;
mod events;
mod history;
mod idempotency;
mod ledger;
mod lost_database;
mod replicas;
mod requests;
mod restart;
mod transfer;
