//! The wallet over gRPC, on embedded adapters.

mod helpers;

mod accounts;
mod contention;
mod deposit;
mod events;
mod history;
mod idempotency;
mod ledger;
mod requests;
mod transfer;
