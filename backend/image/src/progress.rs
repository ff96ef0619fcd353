//! How far a pull or import has come, as a value that always is the latest.
//!
//! A `watch` channel and not a queue: a slow reader sees fewer steps, never old ones, and the work never
//! waits for it.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::digest::Digest;

/// Receives the state of all layers, lowest first, whenever one changes.
pub type ProgressSender = watch::Sender<Vec<Progress>>;

/// How far one layer has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The layer's digest, as the manifest names it.
    pub layer: Digest,
    /// What is happening to it.
    pub phase: Phase,
    /// Compressed bytes received, or unpacked in [`Phase::Extracting`].
    pub current_bytes: u64,
    /// Compressed bytes in all.
    pub total_bytes: u64,
}

/// What is happening to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Others come first, or somebody else is fetching it.
    Waiting,
    /// Bytes arrive and are unpacked as they do.
    Downloading,
    /// All bytes are here; the rest is being unpacked.
    Extracting,
    /// It was unpacked.
    Done,
    /// It was here already.
    Exists,
}

/// One layer's place in the shared list.
#[derive(Clone, Debug)]
pub(crate) struct LayerProgress {
    sender: Option<ProgressSender>,
    index: usize,
}

/// Begins the list: every layer waits.
pub(crate) fn begin(sender: Option<&ProgressSender>, layers: impl Iterator<Item = (Digest, u64)>) {
    if let Some(sender) = sender {
        let waiting = layers
            .map(|(layer, total_bytes)| Progress {
                layer,
                phase: Phase::Waiting,
                current_bytes: 0,
                total_bytes,
            })
            .collect();
        sender.send_replace(waiting);
    }
}

impl LayerProgress {
    pub(crate) fn new(sender: Option<&ProgressSender>, index: usize) -> Self {
        Self { sender: sender.cloned(), index }
    }

    pub(crate) fn set(&self, phase: Phase, current_bytes: u64) {
        if let Some(sender) = &self.sender {
            sender.send_if_modified(|layers| {
                let Some(layer) = layers.get_mut(self.index) else { return false };
                let changed = (layer.phase, layer.current_bytes) != (phase, current_bytes);
                (layer.phase, layer.current_bytes) = (phase, current_bytes);
                changed
            });
        }
    }

    /// Sets a phase in which the layer is complete.
    pub(crate) fn complete(&self, phase: Phase) {
        if let Some(sender) = &self.sender {
            let total_bytes = sender.borrow().get(self.index).map_or(0, |layer| layer.total_bytes);
            self.set(phase, total_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_latest_state_of_every_layer() {
        let (sender, receiver) = watch::channel(Vec::new());
        begin(Some(&sender), [(Digest::of(b"a"), 10), (Digest::of(b"b"), 20)].into_iter());
        LayerProgress::new(Some(&sender), 1).set(Phase::Downloading, 5);
        LayerProgress::new(Some(&sender), 0).complete(Phase::Exists);
        LayerProgress::new(Some(&sender), 7).complete(Phase::Done);
        let seen = receiver.borrow();
        let state: Vec<_> =
            seen.iter().map(|layer| (layer.phase, layer.current_bytes, layer.total_bytes)).collect();
        assert_eq!(state, [(Phase::Exists, 10, 10), (Phase::Downloading, 5, 20)]);
    }
}
