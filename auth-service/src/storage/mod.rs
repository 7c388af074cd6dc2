//! The only place that knows SQL. Functions take the connection or transaction that the caller holds.

pub mod attempts;
pub mod email_tokens;
pub mod migrations;
pub mod refresh_tokens;
pub mod revocations;
pub mod sessions;
pub mod sweep;
pub mod users;

use jiff::Timestamp;
use platform::time::to_micros;
use sea_orm::Value;
use sea_orm::sea_query::Expr;

/// A time as a value of a statement.
fn at(time: Timestamp) -> Expr {
    Expr::value(to_micros(time))
}

/// A value of a statement.
fn val(value: impl Into<Value>) -> Expr {
    Expr::value(value)
}
