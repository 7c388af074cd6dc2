//! A small typed client of the public API: HTTP and WebSocket only, nothing of the inside.
//!
//! The demo plays with it, and so do the end-to-end tests: what they prove, they prove from outside.

mod error;
mod identity;
mod mailbox;
mod schedules;
mod stream;
mod wallet;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::{ApiError, Problem, Violation};
pub use identity::{NewPerson, Session, Tokens, User};
pub use mailbox::Mailbox;
pub use schedules::{
    FINAL_STATES, NewSmsSchedule, RecipientReport, SmsMessage, SmsProgress, SmsSchedule,
};
pub use stream::{EventStream, StreamEvent};
pub use wallet::{Account, Money, Party, Transaction};

/// A little longer than the gateway takes for its longest answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the product answers.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
}

/// An answer that was a success.
#[derive(Debug, Clone)]
pub struct Reply<T> {
    /// HTTP status.
    pub status: StatusCode,
    /// Whether this is the stored answer of an earlier request with the same key.
    pub replayed: bool,
    /// Decoded body.
    pub body: T,
}

/// One page of a list.
#[derive(Debug, Clone, Deserialize)]
pub struct Page<T> {
    /// Newest first, unless the list says otherwise.
    pub data: Vec<T>,
    /// Where the next page starts; absent or empty on the last.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The cursor of the page after this one.
    pub fn next(&self) -> Option<&str> {
        self.next_cursor
            .as_deref()
            .filter(|cursor| !cursor.is_empty())
    }
}

impl Api {
    /// A client of the product at `base`, e.g. `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When `base` is no `http://` address.
    pub fn new(base: &str) -> Result<Self, ApiError> {
        let base = base.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            return Err(ApiError::Unexpected(format!(
                "{base} is not an address that starts with http://"
            )));
        }
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| ApiError::Unexpected(error.to_string()))?;
        Ok(Self { http, base })
    }

    /// The address without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The address of the live stream.
    pub fn stream_url(&self) -> String {
        format!("ws{}/v1/stream", self.base.trim_start_matches("http"))
    }

    /// Whether the product takes requests.
    ///
    /// # Errors
    /// [`ApiError::Unreachable`] when nobody listens, [`ApiError::Refused`] while a part is not ready.
    pub async fn ready(&self) -> Result<(), ApiError> {
        self.send(self.request(Method::GET, "/health/ready"))
            .await
            .map(drop)
    }

    /// A request for a path, to be completed and handed to [`Api::send`] or [`Api::call`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request and decodes the JSON answer.
    ///
    /// # Errors
    /// Every kind of [`ApiError`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Reply<T>, ApiError> {
        let reply = self.send(request).await?;
        let body = T::deserialize(&reply.body).map_err(|error| {
            ApiError::Unexpected(format!(
                "the answer cannot be read ({error}): {}",
                reply.body
            ))
        })?;
        Ok(Reply {
            status: reply.status,
            replayed: reply.replayed,
            body,
        })
    }

    /// Sends a request. The body of the answer is `null` when there is none.
    ///
    /// # Errors
    /// Every kind of [`ApiError`].
    pub async fn send(&self, request: RequestBuilder) -> Result<Reply<Value>, ApiError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let replayed = response
            .headers()
            .get("idempotency-replayed")
            .is_some_and(|value| value.as_bytes() == b"true");
        let bytes = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(error))?;
        let body: Value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        };
        if status.is_success() {
            Ok(Reply {
                status,
                replayed,
                body,
            })
        } else {
            Err(ApiError::Refused(Box::new(Problem::read(
                status, replayed, body,
            ))))
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> ApiError {
        ApiError::Unreachable {
            url: self.base.clone(),
            source: error,
        }
    }
}
