//! Read-only views.

pub mod profile;
pub mod search_users;
