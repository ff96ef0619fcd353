//! Frames of either encoding on a WebSocket.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Whoever was told the last thing has this long to go.
const FAREWELL: Duration = Duration::from_secs(5);

/// A WebSocket with the encoding that was agreed on.
pub(super) struct Frames {
    socket: WebSocket,
    json: bool,
}

/// Its sending half.
pub(super) struct Sending {
    sink: SplitSink<WebSocket, Message>,
    json: bool,
}

/// Its receiving half.
pub(super) struct Receiving(SplitStream<WebSocket>);

/// What came, or why nothing comes any more.
pub(super) enum Incoming<T> {
    Frame(T),
    /// It was no frame of ours; the text says why.
    Garbage(String),
    Closed,
}

impl Frames {
    pub(super) fn new(socket: WebSocket, json: bool) -> Self {
        Self { socket, json }
    }

    pub(super) fn split(self) -> (Sending, Receiving) {
        let (sink, stream) = self.socket.split();
        (Sending { sink, json: self.json }, Receiving(stream))
    }
}

impl Sending {
    /// Sends a frame; `false` when the other side is gone.
    pub(super) async fn send(&mut self, frame: &impl Serialize) -> bool {
        let message = if self.json {
            serde_json::to_string(frame).map(|text| Message::Text(text.into())).ok()
        } else {
            postcard::to_allocvec(frame).map(|bytes| Message::Binary(bytes.into())).ok()
        };
        let Some(message) = message else {
            tracing::error!("a frame could not be encoded");
            return false;
        };
        self.sink.send(message).await.is_ok()
    }

    /// Asks for a sign of life; `false` when the other side is gone.
    pub(super) async fn ping(&mut self) -> bool {
        self.sink.send(Message::Ping(bytes::Bytes::new())).await.is_ok()
    }

    /// Says why, and closes.
    pub(super) async fn close(mut self, code: u16, reason: &'static str) {
        // A client that is gone already does not miss it.
        drop(self.sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await);
    }
}

impl Receiving {
    /// The next frame. Cancel-safe: a message is taken only when it is returned.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Incoming<T> {
        loop {
            return match self.0.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(frame) => Incoming::Frame(frame),
                    Err(error) => Incoming::Garbage(error.to_string()),
                },
                Some(Ok(Message::Binary(bytes))) => match postcard::from_bytes(&bytes) {
                    Ok(frame) => Incoming::Frame(frame),
                    Err(error) => Incoming::Garbage(error.to_string()),
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => Incoming::Closed,
            };
        }
    }

    /// Throws away what still comes until the other side is gone: closed over unread frames, the
    /// connection would be reset, and what was said last could be lost.
    pub(super) async fn drain(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.0.next().await {} };
        // A client that does not go has had its time.
        drop(tokio::time::timeout(FAREWELL, rest).await);
    }
}
