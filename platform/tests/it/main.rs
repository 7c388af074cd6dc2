//! The platform's promises, on the adapters of the embedded profile.

mod event_bus;
mod replicas;
mod work;
