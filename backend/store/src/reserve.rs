//! Room on the journal's disk that is kept for last readings.
//!
//! A file of zeros beside the journal. When the disk is full it is removed, which lets containers
//! that run be read to their end; nothing new is to start until it could be made again.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

/// Room for some thousand readings, and for SQLite's log of them.
const BYTES: usize = 8 << 20;
/// Written at a time.
const CHUNK_BYTES: usize = 256 << 10;

#[derive(Debug, Clone)]
pub(crate) struct Reserve(PathBuf);

impl Reserve {
    pub(crate) fn beside(journal: &Path) -> Self {
        Self(journal.with_extension("reserve"))
    }

    /// Whether the room is there.
    pub(crate) async fn is_whole(&self) -> bool {
        let length = fs::metadata(&self.0).await.map(|found| found.len());
        length.is_ok_and(|length| usize::try_from(length) == Ok(BYTES))
    }

    /// Makes it if it is not there; returns whether it is now.
    pub(crate) async fn ensure(&self) -> bool {
        if self.is_whole().await {
            return true;
        }
        let made = self.make().await.is_ok();
        if !made {
            // A part of it would only take room from those who need it now.
            self.give_up().await;
        }
        made
    }

    async fn make(&self) -> std::io::Result<()> {
        let mut file = File::create(&self.0).await?;
        let zeros = vec![0_u8; CHUNK_BYTES];
        for _ in 0..BYTES / CHUNK_BYTES {
            file.write_all(&zeros).await?;
        }
        // Only then does the file system know whether it has the room.
        file.sync_all().await
    }

    /// Gives the room to whoever writes next; returns whether there was any.
    pub(crate) async fn give_up(&self) -> bool {
        match fs::remove_file(&self.0).await {
            Ok(()) => true,
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }
}
