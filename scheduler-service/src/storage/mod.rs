//! The only place that knows SQL. One form for SQLite and PostgreSQL.
//!
//! One rule keeps counts exact and deadlocks away: whoever moves messages first locks their schedules, in the order of
//! their ids (`FOR UPDATE` on PostgreSQL; on SQLite a writing transaction is alone anyway and sea-query leaves it out).
//! Who takes what is due passes over what others have locked (`SKIP LOCKED`) and so waits for nobody while it holds locks.
//! Leases ([`claims`]) move without the schedule's lock, since they move no message.

pub(crate) mod claims;
pub(crate) mod messages;
pub(crate) mod migrations;
pub(crate) mod quotas;
pub(crate) mod schedules;
pub(crate) mod uploads;

use jiff::Timestamp;
use platform::time;

/// A column's time, if it has one.
fn instant(micros: Option<i64>) -> Option<Timestamp> {
    micros.map(time::from_micros)
}

/// A time for a column, if there is one.
fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(time::to_micros)
}
