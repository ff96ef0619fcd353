//! Standard input on its way to a process.
//!
//! What the process does not take yet is kept, up to a limit: so a process that never reads its input
//! keeps neither its own output nor a signal waiting.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use crate::terminal::Terminal;

/// Kept for a process that does not take it; then the client waits.
const KEPT_MAX_BYTES: usize = 256 * 1024;

/// Where input goes.
pub(super) enum Target {
    Terminal(Arc<Terminal>),
    Pipe(pipe::Sender),
    /// It is closed: what comes is thrown away.
    Nowhere,
}

/// Input, and where it goes.
pub(super) struct Input {
    /// `None` while the process does not run yet.
    target: Option<Target>,
    kept: VecDeque<u8>,
    /// Nothing comes behind what is kept.
    ends: bool,
    /// The terminal's, rows and columns, if it was said before there was a terminal.
    size: Option<(u16, u16)>,
}

impl Input {
    /// For a process that does not run yet.
    pub(super) fn early() -> Self {
        Self { target: None, kept: VecDeque::new(), ends: false, size: None }
    }

    pub(super) fn to(target: Target) -> Self {
        Self { target: Some(target), ..Self::early() }
    }

    /// Whether the process does not run yet.
    pub(super) fn is_early(&self) -> bool {
        self.target.is_none()
    }

    /// Whether the client has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= KEPT_MAX_BYTES
    }

    /// The process runs.
    pub(super) fn connect(&mut self, target: Target) {
        self.target = Some(target);
        if let Some((rows, columns)) = self.size.take() {
            self.resize(rows, columns);
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.ends && !matches!(self.target, Some(Target::Nowhere)) {
            self.kept.extend(bytes);
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        self.ends = true;
    }

    pub(super) fn resize(&mut self, rows: u16, columns: u16) {
        match &self.target {
            Some(Target::Terminal(terminal)) => terminal.resize(rows, columns),
            Some(_) => {}
            None => self.size = Some((rows, columns)),
        }
    }

    /// Passes on some of what is kept; `true` once, when the input has come to its end. Without
    /// anything to pass on it never returns. Cancel-safe: a byte that was passed on is forgotten in
    /// the same step.
    pub(super) async fn flow(&mut self) -> bool {
        let (bytes, _) = self.kept.as_slices();
        let written = match &mut self.target {
            Some(_) if bytes.is_empty() && self.ends => {
                self.ends = false;
                self.target = Some(Target::Nowhere);
                return true;
            }
            Some(Target::Terminal(terminal)) if !bytes.is_empty() => terminal.write(bytes).await,
            Some(Target::Pipe(pipe)) if !bytes.is_empty() => pipe.write(bytes).await,
            _ => std::future::pending().await,
        };
        match written {
            Ok(count) => drop(self.kept.drain(..count)),
            // The process closed its input; it may go on without.
            Err(_closed) => {
                self.kept.clear();
                self.target = Some(Target::Nowhere);
            }
        }
        false
    }
}
