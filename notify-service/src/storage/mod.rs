//! The only place that knows SQL. It never begins or commits a transaction.

pub(crate) mod acknowledgements;
pub(crate) mod entities;
pub(crate) mod mails;
pub(crate) mod migrations;
pub(crate) mod notifications;
pub(crate) mod recipients;
pub(crate) mod streams;

/// Rows in one statement, so that the values of it stay below what the databases take.
const ROWS: usize = 1000;
