use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No answer came: nobody listens, or the connection broke. The request may have been carried out.
    #[error("no answer from {url}: {source}")]
    Unreachable {
        /// Address that was called.
        url: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The product answered with a problem.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The answer is not what the API promises.
    #[error("{0}")]
    Unexpected(String),
    /// The stream was closed, or did not bring what was waited for in time.
    #[error("stream: {0}")]
    Stream(String),
}

impl ApiError {
    /// The problem, when the product answered with one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the same request with the same key should be sent again: nothing is known of its fate.
    pub fn is_unanswered(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(problem) => {
                problem.status.is_server_error() || problem.code == "request_in_progress"
            }
            _ => false,
        }
    }
}

/// A body of `application/problem+json` (RFC 9457).
#[derive(Debug, Clone)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable word for what is wrong, e.g. `insufficient_funds`.
    pub code: String,
    /// For a person.
    pub detail: String,
    /// Every field that is wrong.
    pub violations: Vec<Violation>,
    /// Whether this is the stored refusal of an earlier request with the same key.
    pub replayed: bool,
    /// The whole body.
    pub body: Value,
}

/// One field of a request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Violation {
    /// Path of the field as the client wrote it, e.g. `amount.currency`.
    pub field: String,
    /// What is wrong, for a person.
    #[serde(alias = "message", alias = "detail")]
    pub description: String,
}

impl Problem {
    pub(super) fn read(status: StatusCode, replayed: bool, body: Value) -> Self {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let violations = ["violations", "errors"]
            .iter()
            .find_map(|name| Vec::<Violation>::deserialize(&body[*name]).ok())
            .unwrap_or_default();
        Self {
            status,
            code: text("code"),
            detail: text("detail"),
            violations,
            replayed,
            body,
        }
    }

    /// Whether a violation names this field.
    pub fn names(&self, field: &str) -> bool {
        self.violations
            .iter()
            .any(|violation| violation.field == field)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        for violation in &self.violations {
            write!(f, "; {} {}", violation.field, violation.description)?;
        }
        if self.code.is_empty() && self.detail.is_empty() {
            write!(f, ": {}", self.body)?;
        }
        Ok(())
    }
}
