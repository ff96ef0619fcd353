//! `WebSocket`s to an agent: the live topics, exec and attach, all in postcard frames.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
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
/// Frames of a split socket that the network has not taken yet; few, so that the sender feels it.
const QUEUE: usize = 4;
const SEND: &str = "send to the agent";
const SILENT: &str = "the agent does not answer any more";

/// A WebSocket that says `Out` and hears `In`.
pub(crate) struct Socket<In, Out> {
    inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: bool,
    frames: PhantomData<fn(Out) -> In>,
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
        let mut socket = Self { inner, asked: false, frames: PhantomData };
        socket.send(hello).await?;
        Ok(socket)
    }

    /// Says something.
    pub(crate) async fn send(&mut self, frame: &Out) -> Result<()> {
        self.inner.send(encode(frame)?).await.context(SEND)
    }

    /// Hears the next thing; `None` when the other side has ended it. Losing the race of a `select!`
    /// loses no frame: a frame is taken from the stream in one step.
    pub(crate) async fn next(&mut self) -> Result<Option<In>> {
        loop {
            let patience = if self.asked { ANSWER } else { QUIET };
            let message = match timeout(patience, self.inner.next()).await {
                Ok(message) => message,
                Err(_) if self.asked => bail!(SILENT),
                Err(_) => {
                    self.asked = true;
                    self.inner.send(Message::Ping(bytes::Bytes::new())).await.context(SEND)?;
                    continue;
                }
            };
            self.asked = false;
            match decode(message)? {
                Heard::Frame(frame) => return Ok(Some(frame)),
                Heard::Ended => return Ok(None),
                Heard::Nothing => {}
            }
        }
    }

    /// Makes one half for each way, so that neither has to wait for the other. The future carries
    /// what is said; it ends once the saying half is gone and all of it was taken.
    pub(crate) fn split(self) -> (Saying<Out>, Hearing<In>, impl Future<Output = ()>) {
        let (mut sink, stream) = self.inner.split();
        let (messages, mut queue) = mpsc::channel(QUEUE);
        let hearing = Hearing { stream, messages: messages.downgrade(), frames: PhantomData };
        let carry = async move {
            while let Some(message) = queue.recv().await {
                if sink.send(message).await.is_err() {
                    // The hearing half learns why, behind the last thing that was said to it.
                    std::future::pending::<()>().await;
                }
            }
        };
        (Saying { messages, frames: PhantomData }, hearing, carry)
    }
}

/// The half of a socket that says `Out`.
pub(crate) struct Saying<Out> {
    messages: mpsc::Sender<Message>,
    frames: PhantomData<fn(Out)>,
}

impl<Out: Serialize> Saying<Out> {
    /// Says something, as soon as what was said before leaves room for it.
    pub(crate) async fn send(&self, frame: &Out) -> Result<()> {
        self.messages.send(encode(frame)?).await.context(SEND)
    }

    /// Says something; `false` when there is no room for it.
    pub(crate) fn try_send(&self, frame: &Out) -> Result<bool> {
        match self.messages.try_send(encode(frame)?) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Full(_)) => Ok(false),
            Err(error @ mpsc::error::TrySendError::Closed(_)) => Err(error).context(SEND),
        }
    }
}

/// The half of a socket that hears `In`.
pub(crate) struct Hearing<In> {
    stream: SplitStream<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    messages: mpsc::WeakSender<Message>,
    frames: PhantomData<fn() -> In>,
}

impl<In: DeserializeOwned> Hearing<In> {
    /// Hears the next thing; `None` when the other side has ended it.
    pub(crate) async fn next(&mut self) -> Result<Option<In>> {
        let mut asked = false;
        loop {
            let patience = if asked { ANSWER } else { QUIET };
            let message = match timeout(patience, self.stream.next()).await {
                Ok(message) => message,
                Err(_) if asked => bail!(SILENT),
                Err(_) => {
                    // Behind input that the process does not take, a question would stay unheard;
                    // then the kernel's own patience has to do.
                    let ping = Message::Ping(bytes::Bytes::new());
                    asked = self.messages.upgrade().is_some_and(|messages| messages.try_send(ping).is_ok());
                    continue;
                }
            };
            asked = false;
            match decode(message)? {
                Heard::Frame(frame) => return Ok(Some(frame)),
                Heard::Ended => return Ok(None),
                Heard::Nothing => {}
            }
        }
    }
}

fn encode(frame: &impl Serialize) -> Result<Message> {
    Ok(Message::binary(postcard::to_allocvec(frame).context("encode a frame")?))
}

/// What a message says.
enum Heard<In> {
    Frame(In),
    Ended,
    /// A sign of life.
    Nothing,
}

fn decode<In: DeserializeOwned>(message: Option<Result<Message, SocketError>>) -> Result<Heard<In>> {
    let Some(message) = message else { return Ok(Heard::Ended) };
    Ok(match message.context("receive from the agent")? {
        Message::Binary(bytes) => Heard::Frame(
            postcard::from_bytes(&bytes)
                .context("understand the agent's frame; is it of another version?")?,
        ),
        Message::Close(_) => Heard::Ended,
        Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Heard::Nothing,
    })
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
