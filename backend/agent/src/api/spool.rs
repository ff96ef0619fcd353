//! Archives that clients send, in a file without a future: received whole before anything is done with them.

use axum::body::Body;
use futures_util::StreamExt as _;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use wharf_shared::problem::ProblemKind;

use crate::app::App;
use crate::error::{Result, ServiceError};

/// Receives a body. The file goes with what is returned, whatever happens.
pub(super) async fn receive(app: &App, body: Body) -> Result<NamedTempFile> {
    let most = app.images.import_max_bytes();
    let disk = |error: std::io::Error| {
        let full = error.raw_os_error() == Some(nix::libc::ENOSPC);
        let kind = if full { ProblemKind::InsufficientStorage } else { ProblemKind::Internal };
        ServiceError::new(kind, "the archive could not be kept while it was received").because(error)
    };
    let spool = app.config.state_dir.join("spool");
    let file = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&spool)?;
        NamedTempFile::new_in(spool)
    })
    .await
    .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
    .map_err(disk)?;
    let mut sink = tokio::fs::File::from_std(file.reopen().map_err(disk)?);
    let mut received = 0_u64;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            ServiceError::new(ProblemKind::Malformed, "the archive broke off").because(error)
        })?;
        received += chunk.len() as u64;
        if received > most {
            return Err(ServiceError::new(
                ProblemKind::TooLarge,
                format!("an archive may have {most} bytes"),
            ));
        }
        sink.write_all(&chunk).await.map_err(disk)?;
    }
    sink.flush().await.map_err(disk)?;
    Ok(file)
}
