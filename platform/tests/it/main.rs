//! The platform's promises, on the adapters of the embedded profile or on the servers that the environment names.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod event_bus;
mod lost_commit;
mod maintenance;
mod work;
