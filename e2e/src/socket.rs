//! The WebSockets of exec and attach as a test speaks to them: text frames, each wait with a deadline.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use wharf_shared::container::ExecView;
use wharf_shared::live::{SUBPROTOCOL_JSON, StreamInput, StreamOutput};

use crate::client::Api;

const PATIENCE: Duration = Duration::from_secs(20);

/// One open exec or attach.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    runtime: Rc<Runtime>,
    /// Everything from standard output and standard error so far.
    pub output: String,
}

impl Socket {
    /// Prepares an exec and opens its socket.
    pub fn exec(api: &Api, container: &str, spec: &serde_json::Value) -> Result<Self> {
        let exec: ExecView = api.post(&format!("/containers/{container}/exec"), spec)?;
        Self::open(api, &format!("/containers/{container}/exec/{}", exec.exec_id))
    }

    /// Opens a socket below `/api/v1` and says hello.
    pub fn open(api: &Api, path: &str) -> Result<Self> {
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
        let mut socket = Self { stream, runtime, output: String::new() };
        socket.send(&StreamInput::Hello { ticket: None })?;
        Ok(socket)
    }

    /// Sends one frame.
    pub fn send(&mut self, frame: &StreamInput) -> Result<()> {
        let text = serde_json::to_string(frame)?;
        self.runtime.block_on(async { self.stream.send(Message::text(text)).await }).context("send a frame")
    }

    /// Types.
    pub fn stdin(&mut self, text: &str) -> Result<()> {
        self.send(&StreamInput::Stdin(text.as_bytes().to_vec()))
    }

    /// The next frame; `None` when the socket was closed.
    pub fn frame(&mut self) -> Result<Option<StreamOutput>> {
        loop {
            let message = self
                .runtime
                .block_on(async { timeout(PATIENCE, self.stream.next()).await })
                .with_context(|| format!("wait for a frame; so far came {:?}", self.output))?;
            let frame: StreamOutput = match message {
                Some(Ok(Message::Text(text))) => serde_json::from_str(&text).context("understand a frame")?,
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(error).context("read a frame"),
            };
            if let StreamOutput::Stdout(bytes) | StreamOutput::Stderr(bytes) = &frame {
                self.output.push_str(&String::from_utf8_lossy(bytes));
            }
            return Ok(Some(frame));
        }
    }

    /// Reads until the output contains this.
    pub fn until(&mut self, wanted: &str) -> Result<()> {
        while !self.output.contains(wanted) {
            match self.frame()? {
                Some(StreamOutput::Refused(problem)) => bail!("refused: {problem}"),
                Some(StreamOutput::Exited(code)) => bail!("ended with {code}, printed {:?}", self.output),
                Some(_) => {}
                None => bail!("closed; printed {:?}", self.output),
            }
        }
        Ok(())
    }

    /// Reads to the end and returns the exit code.
    pub fn exit_code(&mut self) -> Result<i32> {
        loop {
            match self.frame()? {
                Some(StreamOutput::Exited(code)) => return Ok(code),
                Some(StreamOutput::Refused(problem)) => bail!("refused: {problem}"),
                Some(_) => {}
                None => bail!("closed without an exit code; printed {:?}", self.output),
            }
        }
    }

    /// Runs a command in a container and returns what it printed; it must succeed.
    pub fn output_of(api: &Api, container: &str, command: &[&str]) -> Result<String> {
        let mut socket = Self::exec(api, container, &serde_json::json!({ "command": command }))?;
        let code = socket.exit_code()?;
        ensure!(code == 0, "{command:?} ended with {code}: {}", socket.output);
        Ok(socket.output)
    }
}
