//! The `coffer` command: the whole product in one process, and a client that plays with it.
//!
//! [`up`] is the composition root of the embedded profile: it starts the same services that run apart in the
//! distributed profile, and they talk over gRPC on loopback. [`client`] and [`demo`] know only the public API.

pub mod client;
pub mod commands;
pub mod config;
pub mod demo;
pub mod up;
