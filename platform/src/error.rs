//! One closed table of error kinds, and their way over gRPC to HTTP.
//!
//! A service keeps its own words in its own error type; at its edge they become an [`Error`]: a [`Kind`], which
//! decides the status, and a stable `reason`, which clients may rely on.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of the reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "coffer";

/// What went wrong, as far as a caller's next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is malformed or a field is invalid. Changing nothing will not help.
    InvalidArgument,
    /// The caller is not known.
    Unauthenticated,
    /// The caller is known and may not.
    PermissionDenied,
    /// There is no such thing, or the caller may not know of it.
    NotFound,
    /// A rule refused it, as things stand now.
    Conflict,
    /// The thing has changed since the caller read it.
    PreconditionFailed,
    /// The idempotency key was used before with another request.
    KeyReused,
    /// Too many requests.
    RateLimited,
    /// Not now; the same request may be sent again.
    Unavailable,
    /// No answer in time; with the same idempotency key the same request may be sent again.
    Timeout,
    /// A fault of ours.
    Internal,
}

/// The table: kind, gRPC code, HTTP status.
const TABLE: [(Kind, Code, u16); 11] = [
    (Kind::InvalidArgument, Code::InvalidArgument, 400),
    (Kind::Unauthenticated, Code::Unauthenticated, 401),
    (Kind::PermissionDenied, Code::PermissionDenied, 403),
    (Kind::NotFound, Code::NotFound, 404),
    (Kind::Conflict, Code::FailedPrecondition, 409),
    (Kind::PreconditionFailed, Code::Aborted, 412),
    (Kind::KeyReused, Code::AlreadyExists, 422),
    (Kind::RateLimited, Code::ResourceExhausted, 429),
    (Kind::Unavailable, Code::Unavailable, 503),
    (Kind::Timeout, Code::DeadlineExceeded, 503),
    (Kind::Internal, Code::Internal, 500),
];

impl Kind {
    /// The gRPC code of this kind.
    pub fn grpc(self) -> Code {
        self.row().1
    }

    /// The HTTP status of this kind.
    pub fn http(self) -> u16 {
        self.row().2
    }

    /// The kind that a gRPC code stands for.
    pub fn from_grpc(code: Code) -> Self {
        match code {
            Code::OutOfRange => Self::InvalidArgument,
            Code::Cancelled => Self::Timeout,
            _ => TABLE
                .iter()
                .find(|row| row.1 == code)
                .map_or(Self::Internal, |row| row.0),
        }
    }

    fn row(self) -> &'static (Kind, Code, u16) {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .unwrap_or(&TABLE[TABLE.len() - 1])
    }
}

/// One field of a request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field as the client wrote it, e.g. `amount.currency`.
    pub field: String,
    /// What is wrong, for a person.
    pub description: String,
}

impl FieldViolation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// What a caller gets instead of an answer.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    reason: Cow<'static, str>,
    message: String,
    violations: Vec<FieldViolation>,
    retry_after: Option<Duration>,
    source: Option<Arc<anyhow::Error>>,
}

impl Error {
    /// An error of a kind, with a stable reason in snake case and a message for a person.
    pub fn new(
        kind: Kind,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            reason: reason.into(),
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            source: None,
        }
    }

    /// `invalid_argument`: every field that is wrong.
    pub fn invalid(violations: Vec<FieldViolation>) -> Self {
        let message = match violations.as_slice() {
            [one] => format!("{} {}", one.field, one.description),
            many => format!("{} fields are invalid", many.len()),
        };
        Self {
            violations,
            ..Self::new(Kind::InvalidArgument, "invalid_argument", message)
        }
    }

    /// `invalid_argument`: one field that is wrong.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid(vec![FieldViolation::new(field, description)])
    }

    /// `not_found`: there is no such `what`.
    pub fn not_found(what: &str) -> Self {
        Self::new(
            Kind::NotFound,
            "not_found",
            format!("there is no such {what}"),
        )
    }

    /// Refused by a rule.
    pub fn conflict(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, reason, message)
    }

    /// Not now.
    pub fn unavailable(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, reason, message)
    }

    /// A fault of ours. The cause is logged when the error leaves the process and never sent.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self {
            source: Some(Arc::new(cause.into())),
            ..Self::new(
                Kind::Internal,
                "internal",
                "something went wrong on our side",
            )
        }
    }

    /// Tells the caller when to come back.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Names the fields that are wrong, for an error with a reason of its own.
    #[must_use]
    pub fn with_violations(mut self, violations: Vec<FieldViolation>) -> Self {
        self.violations = violations;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Stable reason in snake case.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Message for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The fields that are wrong; only for [`Kind::InvalidArgument`].
    pub fn violations(&self) -> &[FieldViolation] {
        &self.violations
    }

    /// When to come back, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The cause that is not shown to callers.
    pub fn cause(&self) -> Option<&anyhow::Error> {
        self.source.as_deref()
    }

    /// Reads an error that came over gRPC.
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let kind = Kind::from_grpc(status.code());
        let ours = details.error_info().filter(|info| info.domain == DOMAIN);
        let (reason, message) = match (ours, kind) {
            (Some(info), _) => (Cow::Owned(info.reason.clone()), status.message().to_owned()),
            // Words of a transport or a library say nothing that a caller should build on.
            (None, Kind::Unavailable) => (
                Cow::Borrowed("upstream_unavailable"),
                "the service does not answer".to_owned(),
            ),
            (None, Kind::Timeout) => (
                Cow::Borrowed("deadline_exceeded"),
                "no answer in time".to_owned(),
            ),
            (None, Kind::Internal) => (
                Cow::Borrowed("internal"),
                "something went wrong on our side".to_owned(),
            ),
            (None, _) => (Cow::Borrowed("refused"), status.message().to_owned()),
        };
        let violations = details.bad_request().map_or_else(Vec::new, |bad| {
            bad.field_violations
                .iter()
                .map(|one| FieldViolation::new(&one.field, &one.description))
                .collect()
        });
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        Self {
            kind,
            reason,
            message,
            violations,
            retry_after,
            source: None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)?;
        match &self.source {
            Some(cause) => write!(f, " ({cause:#})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if error.kind == Kind::Internal {
            tracing::error!(error.cause = %error, "internal error");
        }
        let mut details = ErrorDetails::new();
        details.set_error_info(error.reason.clone(), DOMAIN, []);
        if !error.violations.is_empty() {
            let violations = error
                .violations
                .iter()
                .map(|one| tonic_types::FieldViolation::new(&one.field, &one.description))
                .collect::<Vec<_>>();
            details.set_bad_request(violations);
        }
        if let Some(after) = error.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(error.kind.grpc(), error.message, details)
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let busy = match &error {
            DbErr::ConnectionAcquire(
                ConnAcquireErr::Timeout | ConnAcquireErr::ConnectionClosed,
            )
            | DbErr::Conn(_) => true,
            DbErr::Exec(RuntimeErr::SqlxError(inner))
            | DbErr::Query(RuntimeErr::SqlxError(inner)) => is_passing(inner),
            _ => false,
        };
        if busy {
            Self {
                source: Some(Arc::new(error.into())),
                ..Self::unavailable("database_unavailable", "the database does not answer")
                    .with_retry_after(Duration::from_secs(1))
            }
        } else {
            Self::internal(error)
        }
    }
}

/// Whether the same work may well succeed in a moment, on another connection.
fn is_passing(error: &sea_orm::sqlx::Error) -> bool {
    use sea_orm::sqlx::Error as Sqlx;
    match error {
        // A connection that was closed within a message, or torn down under its TLS, shows as one of these.
        Sqlx::Io(_)
        | Sqlx::Tls(_)
        | Sqlx::PoolTimedOut
        | Sqlx::PoolClosed
        | Sqlx::WorkerCrashed
        | Sqlx::BeginFailed => true,
        Sqlx::Database(inner) => inner.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

/// SQLite: the file is busy or locked. PostgreSQL, by SQLSTATE: connections that break (08), conflicts of transactions
/// (40), a server that is short of something (53), that ends a session or a statement (57), that gave up a lock (55P03)
/// or an idle transaction (25P03), that follows another one by now (25006), or whose disk fails (58).
fn is_passing_code(code: &str) -> bool {
    match code {
        "5" | "6" | "261" | "517" => true,
        "25006" | "25P03" | "55P03" => true,
        // A disk that is full, memory that is short: somebody else's statement may be the last one that fails.
        _ => {
            code.len() == 5
                && ["08", "40", "53", "57", "58"]
                    .iter()
                    .any(|class| code.starts_with(class))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire() {
        let error = Error::invalid(vec![
            FieldViolation::new("amount.currency", "is unknown"),
            FieldViolation::new("to", "is missing"),
        ])
        .with_retry_after(Duration::from_secs(3));
        let back = Error::from_status(&Status::from(error.clone()));
        assert_eq!(back.kind(), Kind::InvalidArgument);
        assert_eq!(back.reason(), "invalid_argument");
        assert_eq!(back.violations(), error.violations());
        assert_eq!(back.retry_after(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn every_kind_survives_the_wire() {
        for (kind, ..) in TABLE {
            let back = Error::from_status(&Status::from(Error::new(kind, "why", "because")));
            assert_eq!(
                (back.kind(), back.reason(), back.message()),
                (kind, "why", "because")
            );
        }
    }

    #[test]
    fn an_internal_cause_is_not_sent() {
        let status = Status::from(Error::internal(anyhow::anyhow!("password is hunter2")));
        assert!(!format!("{status:?}").contains("hunter2"));
    }

    #[test]
    fn words_of_a_transport_are_not_passed_on() {
        let error = Error::from_status(&Status::unavailable("tcp connect error 10.0.0.7:5432"));
        assert_eq!(error.reason(), "upstream_unavailable");
        assert!(!error.message().contains("10.0.0.7"));
    }

    #[test]
    fn what_passes_is_told_from_what_is_wrong() {
        for code in [
            "5", "517", "08006", "08P01", "25P03", "25006", "40001", "40P01", "40003", "53300",
            "53100", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58030",
        ] {
            assert!(is_passing_code(code), "{code}");
        }
        // A constraint, a syntax error, a value out of range, a transaction that has failed before, a row of SQLite.
        for code in [
            "23505", "23514", "42601", "22003", "22021", "25P02", "P0001", "19", "787", "1555",
            "57", "",
        ] {
            assert!(!is_passing_code(code), "{code}");
        }
    }

    #[test]
    fn a_pool_without_a_connection_is_no_fault_of_ours() {
        for error in [ConnAcquireErr::Timeout, ConnAcquireErr::ConnectionClosed] {
            let error = Error::from(DbErr::ConnectionAcquire(error));
            assert_eq!(
                (error.kind(), error.reason()),
                (Kind::Unavailable, "database_unavailable")
            );
            assert!(error.retry_after().is_some());
        }
        let lost = sea_orm::sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
        let lost = Error::from(DbErr::Query(RuntimeErr::SqlxError(lost.into())));
        assert_eq!(lost.reason(), "database_unavailable");
    }
}
