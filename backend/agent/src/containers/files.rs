//! A container's files: what it changed, the whole as an archive, and a new image of it.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;
use wharf_image::{ChangeKind as Kind, CommitOptions, Image, Root, RootError, RunConfig};
use wharf_shared::container::{ChangeKind, ChangeView, ChangesView, CommitRequest, ContainerState};
use wharf_shared::image::ImageView;
use wharf_store::containers::ContainerRecord;
use wharf_store::tenants;

use super::Containers;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};
use crate::tasks::OnEnd;

/// Changes that one answer tells.
const CHANGES_MAX: usize = 100_000;
/// Chunks of an archive on their way; whoever reads slowly holds the writing up.
const CHUNKS: usize = 4;
const CHUNK_BYTES: usize = 256 * 1024;

impl Containers {
    /// What the container has changed in its image.
    pub(crate) async fn changes(&self, ctx: &Ctx, container: &str) -> Result<ChangesView> {
        let row = self.find(ctx, container).await?;
        let (root, _) = self.root(&row).await?;
        let (changes, more) = self.blocking(move || root.changes(CHANGES_MAX)).await?;
        let view = |change: wharf_image::Change| ChangeView {
            path: change.path.to_string_lossy().into_owned(),
            kind: match change.kind {
                Kind::Changed => ChangeKind::Changed,
                Kind::Added => ChangeKind::Added,
                Kind::Deleted => ChangeKind::Deleted,
            },
        };
        Ok(ChangesView { changes: changes.into_iter().map(view).collect(), more })
    }

    /// All files of its root, as a tar that is written while it is read. It breaks off where one cannot be
    /// read: a reader sees that the archive has no end.
    pub(crate) async fn export(
        &self,
        ctx: &Ctx,
        container: &str,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        let row = self.find(ctx, container).await?;
        let (root, _) = self.root(&row).await?;
        let (sender, mut receiver) = mpsc::channel(CHUNKS);
        let id = row.id.clone();
        self.deps.tasks.spawn("export container", OnEnd::Fine, async move {
            let failed = sender.clone();
            let exporting = tokio::task::spawn_blocking(move || {
                root.export(io::BufWriter::with_capacity(CHUNK_BYTES, Channel(sender)))
            });
            let error = match exporting.await {
                Ok(Ok(())) => return,
                Ok(Err(RootError::Write(_))) => {
                    tracing::debug!(container.id = %id, "an export was called off");
                    return;
                }
                Ok(Err(error)) => crate::error::chain(&error),
                Err(error) => error.to_string(),
            };
            tracing::warn!(container.id = %id, error, "an export broke off");
            // Nobody reads it any more, or learns it now.
            failed.send(Err(io::Error::other(error))).await.ok();
        });
        Ok(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
    }

    /// Makes an image of what the container has changed; it stands still meanwhile unless told otherwise.
    pub(crate) async fn commit(
        &self,
        ctx: &Ctx,
        container: &str,
        request: CommitRequest,
    ) -> Result<ImageView> {
        let row = self.find(ctx, container).await?;
        let reference = request
            .reference
            .parse::<wharf_image::ImageRef>()
            .map_err(|error| ServiceError::invalid_field("reference", error.to_string()))?;
        let (root, base) = self.root(&row).await?;
        let options = CommitOptions {
            reference,
            created: self.deps.clock.now().to_string(),
            author: request.author.clone(),
            message: request.message.clone(),
            run: run_config(&base.config.config, &request),
        };
        let pause = request.pause && row.observed.state == ContainerState::Running;
        if pause {
            self.pause(ctx, row.id.as_str()).await?;
        }
        let committed = self.deps.images.commit(ctx, &row.tenant, base, root, options).await;
        if pause {
            self.resume(ctx, row.id.as_str()).await?;
        }
        committed
    }

    /// Its layers, and the image that they begin with.
    async fn root(&self, row: &ContainerRecord) -> Result<(Root, Image)> {
        let images = &self.deps.images;
        let image = match &row.observed.image_digest {
            Some(digest) => images.of_container(&row.spec.image, digest).await?,
            None => images.ensure(&row.tenant, &row.spec.image).await?,
        };
        let layers = images.content().layer_paths(&image).await.map_err(crate::images::image_failed)?;
        let above = images.content().layers_root().to_owned();
        let layers: Vec<PathBuf> = layers.into_iter().map(|layer| above.join(layer)).collect();
        let id_base = {
            let mut tx = self.deps.db.read().await?;
            tenants::get(&mut tx, &row.tenant).await?.id_base
        };
        let Some(state) = self.deps.engine.state_dir(row.id.as_str()) else {
            return Err(ServiceError::conflict("the container has no directory"));
        };
        let writable = state.path().join("upper");
        let root = self.blocking(move || Root::open(&writable, &layers, id_base)).await?;
        Ok((root, image))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::result::Result<T, RootError> + Send + 'static,
    ) -> Result<T> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
            .map_err(|error| match error {
                RootError::Limit { .. } | RootError::Whiteout { .. } => {
                    ServiceError::conflict(crate::error::chain(&error))
                }
                error => ServiceError::internal("the container's files cannot be read", error),
            })
    }
}

/// The image's defaults with those that are given anew.
fn run_config(base: &RunConfig, request: &CommitRequest) -> RunConfig {
    let mut run = base.clone();
    for (key, value) in &request.env {
        run.env.retain(|pair| pair.split_once('=').is_none_or(|(known, _)| known != key));
        run.env.push(format!("{key}={value}"));
    }
    if let Some(entrypoint) = &request.entrypoint {
        run.entrypoint.clone_from(entrypoint);
        // As in a Dockerfile: what the command was given to is another now.
        run.cmd.clear();
    }
    if let Some(command) = &request.command {
        run.cmd.clone_from(command);
    }
    if let Some(workdir) = &request.workdir {
        run.working_dir.clone_from(workdir);
    }
    if let Some(user) = &request.user {
        run.user.clone_from(user);
    }
    run.labels.extend(request.labels.clone());
    run
}

/// Sends what is written as chunks, and fails once nobody reads.
struct Channel(mpsc::Sender<io::Result<Bytes>>);

impl Write for Channel {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let gone = |_closed| io::ErrorKind::BrokenPipe.into();
        self.0.blocking_send(Ok(Bytes::copy_from_slice(buffer))).map(|()| buffer.len()).map_err(gone)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_commit_changes_the_defaults_that_it_names_and_no_other() {
        let base = RunConfig {
            env: vec!["PATH=/bin".to_owned(), "A=1".to_owned()],
            cmd: vec!["old".to_owned()],
            user: "web".to_owned(),
            ..RunConfig::default()
        };
        assert_eq!(run_config(&base, &CommitRequest::default()), base);
        let request = CommitRequest {
            entrypoint: Some(vec!["/run".to_owned()]),
            env: BTreeMap::from([("A".to_owned(), "2".to_owned())]),
            ..CommitRequest::default()
        };
        let run = run_config(&base, &request);
        assert_eq!(run.env, ["PATH=/bin", "A=2"]);
        assert_eq!((run.entrypoint, run.cmd, run.user), (vec!["/run".to_owned()], vec![], "web".to_owned()));
    }
}
