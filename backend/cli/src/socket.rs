//! `WebSocket`s to an agent: the live topics, exec and attach, all in postcard frames.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use wharf_shared::live::SUBPROTOCOL_POSTCARD;

use crate::client::{Client, problem_of};

/// The handshake may take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// After this much silence the other side is asked whether it is there…
const QUIET: Duration = Duration::from_secs(15);
/// …and has this long to answer.
const ANSWER: Duration = Duration::from_secs(15);

/// A WebSocket that says `Out` and hears `In`.
pub(crate) struct Socket<In, Out> {
    inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: bool,
    frames: std::marker::PhantomData<fn(Out) -> In>,
}

impl<In: DeserializeOwned, Out: Serialize> Socket<In, Out> {
    /// Opens a WebSocket at these segments of the API and says `hello`.
    pub(crate) async fn open(
        client: &Client,
        segments: &[&str],
        query: &[(&str, &str)],
        hello: &Out,
    ) -> Result<Self> {
        let mut url = client.url(segments);
        url.query_pairs_mut().extend_pairs(query);
        let inner = timeout(CONNECT_TIMEOUT, handshake(client, url.clone()))
            .await
            .with_context(|| format!("{} did not answer in time", url.path()))??;
        let mut socket = Self { inner, asked: false, frames: std::marker::PhantomData };
        socket.send(hello).await?;
        Ok(socket)
    }

    /// Says something.
    pub(crate) async fn send(&mut self, frame: &Out) -> Result<()> {
        let bytes = postcard::to_allocvec(frame).context("encode a frame")?;
        self.inner.send(Message::binary(bytes)).await.context("send to the agent")
    }

    /// Hears the next thing; `None` when the other side has ended it. Losing the race of a `select!`
    /// loses no frame: a frame is taken from the stream in one step.
    pub(crate) async fn next(&mut self) -> Result<Option<In>> {
        loop {
            let patience = if self.asked { ANSWER } else { QUIET };
            let message = match timeout(patience, self.inner.next()).await {
                Ok(Some(message)) => message.context("receive from the agent")?,
                Ok(None) => return Ok(None),
                Err(_) if self.asked => bail!("the agent does not answer any more"),
                Err(_) => {
                    self.asked = true;
                    self.inner.send(Message::Ping(bytes::Bytes::new())).await.context("send to the agent")?;
                    continue;
                }
            };
            self.asked = false;
            match message {
                Message::Binary(bytes) => {
                    let frame = postcard::from_bytes(&bytes)
                        .context("understand the agent's frame; is it of another version?")?;
                    return Ok(Some(frame));
                }
                Message::Close(_) => return Ok(None),
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

async fn handshake(client: &Client, mut url: Url) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
    let (scheme, connector) = match url.scheme() {
        "https" => ("wss", Connector::Rustls(Arc::new(client.tls().clone()))),
        _ => ("ws", Connector::Plain),
    };
    if url.set_scheme(scheme).is_err() {
        bail!("{url} cannot be a WebSocket's address");
    }
    let mut request = url.as_str().into_client_request().context("make the WebSocket request")?;
    let headers = request.headers_mut();
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL_POSTCARD));
    if let Some(token) = client.token() {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .context("send the token: it has odd characters")?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    match connect_async_tls_with_config(request, None, true, Some(connector)).await {
        Ok((socket, _)) => Ok(socket),
        Err(SocketError::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            Err(problem_of(response.status().as_u16(), body).into())
        }
        Err(error) => Err(error).with_context(|| format!("connect to {url}")),
    }
}
