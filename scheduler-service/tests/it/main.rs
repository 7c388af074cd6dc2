//! The scheduler over gRPC, on an embedded database or on PostgreSQL, with a clock that the tests move.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report, also in its helpers"
)]

mod cancelling;
mod crashes;
mod creating;
mod fairness;
mod harness;
mod provider_contract;
mod providers;
mod quota;
mod reading;
mod replicas;
mod revocations;
mod schema;
mod sending;
mod suspended;
mod uploading;
