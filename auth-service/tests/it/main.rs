//! auth-service over gRPC, on SQLite.

mod keys;
mod login;
mod logout;
mod migrations;
mod profile;
mod refresh;
mod register;
mod resend_verification;
mod search_users;
mod sweep;
mod verify_email;
mod watch_revocations;
mod world;
