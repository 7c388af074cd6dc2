use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{Api, ApiError};

const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A live stream of one user.
#[derive(Debug)]
pub struct EventStream {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    head: i64,
}

/// One event of a user's stream.
#[derive(Debug, Clone, Deserialize)]
pub struct StreamEvent {
    /// Rises by one per user, without gaps.
    pub seq: i64,
    /// `balance`, `transaction` or `notification`.
    pub topic: String,
    /// E.g. `transaction.created`.
    pub event: String,
    /// RFC 3339.
    #[serde(default)]
    pub at: String,
    /// What happened.
    pub data: Value,
    /// W3C trace context of the work that caused it.
    #[serde(default)]
    pub traceparent: Option<String>,
}

impl EventStream {
    /// Connects, says hello and waits for `ready`. `after` is the last number that the client has; absent
    /// means this device's last acknowledgement.
    ///
    /// # Errors
    /// [`ApiError::Stream`] with the close code when the product refuses.
    pub async fn open(api: &Api, token: &str, after: Option<i64>) -> Result<Self, ApiError> {
        let mut hello = json!({ "type": "hello", "token": token });
        if let Some(after) = after {
            hello["after"] = after.into();
        }
        Self::open_with(api, &hello).await
    }

    /// As [`EventStream::open`], with a first frame of the caller's making.
    ///
    /// # Errors
    /// [`ApiError::Stream`] with the close code when the product refuses.
    pub async fn open_with(api: &Api, hello: &Value) -> Result<Self, ApiError> {
        let connected = timeout(OPEN_TIMEOUT, connect_async(api.stream_url())).await;
        let (socket, _) = connected
            .map_err(|_| late("a connection"))?
            .map_err(broken)?;
        let mut stream = Self { socket, head: 0 };
        stream.send(hello).await?;
        let ready = stream.frame(OPEN_TIMEOUT, "ready").await?;
        if ready["type"] != "ready" {
            return Err(ApiError::Stream(format!("expected ready, got {ready}")));
        }
        stream.head = ready["seq"].as_i64().unwrap_or_default();
        Ok(stream)
    }

    /// Number of the newest event when the stream was opened.
    pub fn head(&self) -> i64 {
        self.head
    }

    /// The next event.
    ///
    /// # Errors
    /// [`ApiError::Stream`] when none comes within the deadline or the stream is closed.
    pub async fn next(&mut self, deadline: Duration) -> Result<StreamEvent, ApiError> {
        let frame = self.frame(deadline, "an event").await?;
        match frame["type"].as_str() {
            Some("event") => StreamEvent::deserialize(&frame)
                .map_err(|error| ApiError::Unexpected(format!("{error}: {frame}"))),
            _ => Err(ApiError::Stream(format!("expected an event, got {frame}"))),
        }
    }

    /// The next `count` events.
    ///
    /// # Errors
    /// As [`EventStream::next`]; the deadline holds for each.
    pub async fn take(
        &mut self,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<StreamEvent>, ApiError> {
        let mut events = Vec::new();
        while events.len() < count {
            let event = self.next(deadline).await.map_err(|error| {
                ApiError::Stream(format!(
                    "{} of {count} events came, then: {error}",
                    events.len()
                ))
            })?;
            events.push(event);
        }
        Ok(events)
    }

    /// Tells that every event up to and with this number has arrived.
    ///
    /// # Errors
    /// When the stream is broken.
    pub async fn acknowledge(&mut self, seq: i64) -> Result<(), ApiError> {
        self.send(&json!({ "type": "ack", "seq": seq })).await
    }

    /// Waits until the product closes the stream and gives its code.
    ///
    /// # Errors
    /// When the deadline passes first or the connection breaks without a code.
    pub async fn close_code(&mut self, deadline: Duration) -> Result<u16, ApiError> {
        let wait = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return Ok(u16::from(frame.code)),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(broken(error)),
                    None => return Err(ApiError::Stream("ended without a close code".into())),
                }
            }
        };
        timeout(deadline, wait)
            .await
            .map_err(|_| late("the close"))?
    }

    /// Closes the stream.
    pub async fn close(mut self) {
        // The other side may be gone already; then there is nobody to say goodbye to.
        let _ = timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }

    async fn send(&mut self, frame: &Value) -> Result<(), ApiError> {
        self.socket
            .send(Message::text(frame.to_string()))
            .await
            .map_err(broken)
    }

    async fn frame(&mut self, deadline: Duration, what: &str) -> Result<Value, ApiError> {
        let wait = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return serde_json::from_str(text.as_str()).map_err(|error| {
                            ApiError::Stream(format!("a frame is no JSON: {error}"))
                        });
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let why = frame.map_or_else(
                            || "without a code".to_owned(),
                            |frame| format!("{} {}", u16::from(frame.code), frame.reason),
                        );
                        return Err(ApiError::Stream(format!("closed: {why}")));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(broken(error)),
                    None => return Err(ApiError::Stream("ended".into())),
                }
            }
        };
        timeout(deadline, wait).await.map_err(|_| late(what))?
    }
}

fn broken(error: tokio_tungstenite::tungstenite::Error) -> ApiError {
    ApiError::Stream(error.to_string())
}

fn late(what: &str) -> ApiError {
    ApiError::Stream(format!("{what} did not come in time"))
}
