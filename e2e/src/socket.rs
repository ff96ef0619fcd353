//! The WebSockets of exec and attach as a test speaks to them: text frames, each wait with a deadline.

use anyhow::{Context as _, Result, bail, ensure};
use wharf_shared::container::ExecView;
use wharf_shared::live::{StreamInput, StreamOutput};

use crate::client::Api;
use crate::live::TextSocket;

/// One open exec or attach.
#[derive(Debug)]
pub struct Socket {
    socket: TextSocket,
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
        let mut socket = Self { socket: TextSocket::open(api, path)?, output: String::new() };
        socket.send(&StreamInput::Hello { ticket: None })?;
        Ok(socket)
    }

    /// Sends one frame.
    pub fn send(&mut self, frame: &StreamInput) -> Result<()> {
        self.socket.send(frame)
    }

    /// Types.
    pub fn stdin(&mut self, text: &str) -> Result<()> {
        self.send(&StreamInput::Stdin(text.as_bytes().to_vec()))
    }

    /// The next frame; `None` when the socket was closed.
    pub fn frame(&mut self) -> Result<Option<StreamOutput>> {
        let frame = self.socket.frame().with_context(|| format!("so far came {:?}", self.output))?;
        if let Some(StreamOutput::Stdout(bytes) | StreamOutput::Stderr(bytes)) = &frame {
            self.output.push_str(&String::from_utf8_lossy(bytes));
        }
        Ok(frame)
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
