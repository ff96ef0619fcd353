//! The multiplexed WebSocket as a test speaks to it.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use wharf_shared::live::{ClientFrame, SUBPROTOCOL_JSON, ServerFrame, Topic, TopicItem};

use crate::client::Api;

const PATIENCE: Duration = Duration::from_secs(20);

/// A WebSocket with text frames, each wait with a deadline.
#[derive(Debug)]
pub(crate) struct TextSocket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    runtime: Rc<Runtime>,
}

impl TextSocket {
    /// Opens a socket below `/api/v1`.
    pub(crate) fn open(api: &Api, path: &str) -> Result<Self> {
        let url = format!("{}/api/v1{path}", api.base().replacen("http", "ws", 1));
        let mut request = url.into_client_request().context("make the upgrade request")?;
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL_JSON));
        if let Some(token) = api.token() {
            headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}"))?);
        }
        let runtime = Rc::clone(api.runtime());
        let (stream, _) = runtime
            .block_on(async { timeout(PATIENCE, connect_async(request)).await })
            .context("open the socket in time")?
            .with_context(|| format!("open the socket {path}"))?;
        Ok(Self { stream, runtime })
    }

    /// Sends one frame.
    pub(crate) fn send(&mut self, frame: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(frame)?;
        self.runtime.block_on(async { self.stream.send(Message::text(text)).await }).context("send a frame")
    }

    /// The next frame; `None` when the socket was closed.
    pub(crate) fn frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            let message = self
                .runtime
                .block_on(async { timeout(PATIENCE, self.stream.next()).await })
                .context("wait for a frame")?;
            return match message {
                Some(Ok(Message::Text(text))) => serde_json::from_str(&text)
                    .with_context(|| format!("understand the frame {text}"))
                    .map(Some),
                Some(Ok(Message::Close(_))) | None => Ok(None),
                Some(Ok(_)) => continue,
                Some(Err(error)) => Err(error).context("read a frame"),
            };
        }
    }
}

/// The socket `/live`.
#[derive(Debug)]
pub struct Live(TextSocket);

impl Live {
    /// Opens it and waits for the welcome.
    pub fn open(api: &Api) -> Result<Self> {
        let mut socket = TextSocket::open(api, "/live")?;
        socket.send(&ClientFrame::Hello { ticket: None })?;
        match socket.frame()? {
            Some(ServerFrame::Welcome { .. }) => Ok(Self(socket)),
            other => bail!("no welcome came, but {other:?}"),
        }
    }

    /// Asks for a topic.
    pub fn subscribe(&mut self, sub: u32, topic: Topic) -> Result<()> {
        self.0.send(&ClientFrame::Subscribe { sub, topic })
    }

    /// Asks for no more of it.
    pub fn unsubscribe(&mut self, sub: u32) -> Result<()> {
        self.0.send(&ClientFrame::Unsubscribe { sub })
    }

    /// The next frame.
    pub fn frame(&mut self) -> Result<ServerFrame> {
        self.0.frame()?.context("the agent closed the socket")
    }

    /// Reads until `enough` says so; every item is shown to it with its topic's number.
    pub fn items_until(&mut self, mut enough: impl FnMut(u32, TopicItem) -> bool) -> Result<()> {
        loop {
            match self.frame()? {
                ServerFrame::Items { sub, items } => {
                    let mut last = false;
                    for item in items {
                        last |= enough(sub, item);
                    }
                    if last {
                        return Ok(());
                    }
                }
                ServerFrame::Refused { problem, .. } => bail!("refused: {problem}"),
                ServerFrame::End { sub } => bail!("topic {sub} has ended"),
                ServerFrame::Welcome { .. } | ServerFrame::Pong => {}
            }
        }
    }
}
