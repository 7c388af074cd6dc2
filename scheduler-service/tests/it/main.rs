//! The scheduler over gRPC, on an embedded database, with a clock that the tests move.

mod cancelling;
mod crashes;
mod creating;
mod fairness;
mod harness;
mod provider_contract;
mod quota;
mod reading;
mod schema;
mod sending;
mod uploading;
