//! A container's files: what it changed, the whole as an archive, a new image of it, and copies in and out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;
use wharf_image::{
    ChangeKind as Kind, CommitOptions, FileStat, Image, Mount, Mounted, Placed, Root, RootError, RunConfig,
    UnpackError,
};
use wharf_shared::container::{
    ChangeKind, ChangeView, ChangesView, CommitRequest, ContainerState, CopiedView, FileKind, FileView,
};
use wharf_shared::image::ImageView;
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::time::Timestamp;
use wharf_shared::volume::VolumeSource;
use wharf_store::containers::ContainerRecord;
use wharf_store::tenants;

use super::Containers;
use super::actor::Command;
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
    pub(crate) async fn export(&self, ctx: &Ctx, container: &str) -> Result<Chunks> {
        let row = self.find(ctx, container).await?;
        let (root, _) = self.root(&row).await?;
        Ok(self.archive(&row, move |out| root.export(out)))
    }

    /// What a path of it is.
    pub(crate) async fn stat_file(
        &self,
        ctx: &Ctx,
        container: &str,
        path: &str,
        follow: bool,
    ) -> Result<FileView> {
        let row = self.find(ctx, container).await?;
        let root = self.visible_root(&row, path).await?;
        let path = PathBuf::from(path);
        self.blocking(move || root.stat(&path, follow)).await.map(file_view)
    }

    /// A path of it as a tar, whether it runs or not; `name` is what its members' names begin with.
    pub(crate) async fn copy_out(
        &self,
        ctx: &Ctx,
        container: &str,
        path: &str,
        name: Option<String>,
    ) -> Result<Chunks> {
        let row = self.find(ctx, container).await?;
        let root = self.visible_root(&row, path).await?;
        let path = PathBuf::from(path);
        // What is wrong with the path is told now, and not by an archive that breaks off.
        let (root, path) = self.blocking(move || root.stat(&path, false).map(|_| (root, path))).await?;
        self.audit(ctx, "container.copy_out", &row, detail(&path.to_string_lossy())).await?;
        Ok(self.archive(&row, move |out| root.pack_path(&path, name.as_deref().map(OsStr::new), out)))
    }

    /// Unpacks an archive into a directory of it, whether it runs or not.
    pub(crate) async fn copy_in(
        &self,
        ctx: &Ctx,
        container: &str,
        directory: &str,
        archive: File,
        keep_owners: bool,
    ) -> Result<CopiedView> {
        ctx.require(Permission::TenantWrite)?;
        let row = self.find(ctx, container).await?;
        // Who starts it meanwhile waits; whoever was quicker has a running container to copy into.
        let held = match self.live_root(&row).await? {
            Some(_) => None,
            None => Some(self.ask(ctx, row.id.as_str(), Command::StandStill).await?),
        };
        let row = self.find(ctx, row.id.as_str()).await?;
        let root = match &held {
            None => self.visible_root(&row, directory).await?,
            // Into a volume, or not at all.
            Some(_) if row.spec.read_only => self.visible_root(&row, directory).await?,
            Some(_) => {
                let ensured = self.deps.engine.ensure_writable(row.id.as_str(), self.id_base(&row).await?);
                ensured.await.map_err(super::launch::engine_failed)?;
                self.visible_root(&row, directory).await?
            }
        };
        self.audit(ctx, "container.copy_in", &row, detail(directory)).await?;
        let directory = PathBuf::from(directory);
        let limits = *self.deps.images.content().limits();
        // Held until it is done, and not only until the client goes away.
        let place = move || {
            let placed = root.place(&directory, archive, &limits, keep_owners);
            drop(held);
            placed
        };
        self.blocking(place).await.map(|Placed { entries, bytes }| CopiedView { entries, bytes })
    }

    /// What the container sees as `/` while it runs; its layers and volumes otherwise.
    async fn visible_root(&self, row: &ContainerRecord, path: &str) -> Result<Root> {
        if !path.starts_with('/') {
            return Err(ServiceError::invalid_field("path", "give an absolute path"));
        }
        if let Some(root) = self.live_root(row).await? {
            return Ok(root);
        }
        let (root, _) = self.root(row).await?;
        let id_base = self.id_base(row).await?;
        let mut mounts = Vec::new();
        for mount in &row.spec.volumes {
            let what = match &mount.source {
                VolumeSource::Volume(name) => {
                    volume(self.deps.volumes.directory(&row.tenant, name).await?, mount.read_only)
                }
                VolumeSource::Host(path) => {
                    Source { path: path.into(), id_base, filled: false, read_only: mount.read_only }
                }
                VolumeSource::Tmpfs(_) => {
                    mounts.push((mount.target.clone(), None));
                    continue;
                }
            };
            mounts.push((mount.target.clone(), Some(what)));
        }
        for (target, path) in self.deps.volumes.anonymous_of(row).await? {
            mounts.push((target, Some(volume(path, false))));
        }
        let read_only = row.spec.read_only;
        self.blocking(move || Ok(root.with_mounts(mounts.into_iter().map(mounted).collect(), read_only)))
            .await
    }

    async fn live_root(&self, row: &ContainerRecord) -> Result<Option<Root>> {
        let Some(pid) = row.observed.pid.filter(|_| row.observed.state.is_live()) else { return Ok(None) };
        let cgroup =
            self.deps.engine.container_cgroup(row.tenant.as_str(), row.id.as_str(), row.observed.generation);
        let id_base = self.id_base(row).await?;
        let found = self.deps.engine.root_of(cgroup, pid).await.map_err(super::launch::engine_failed)?;
        Ok(found.map(|root| Root::live(root, id_base)))
    }

    async fn id_base(&self, row: &ContainerRecord) -> Result<u32> {
        let mut tx = self.deps.db.read().await?;
        let of_tenant = tenants::get(&mut tx, &row.tenant).await?.id_base;
        Ok(super::plan::id_base(&row.spec, of_tenant).unwrap_or(0))
    }

    /// What is written, in chunks as they are read.
    fn archive(
        &self,
        row: &ContainerRecord,
        write: impl FnOnce(io::BufWriter<Channel>) -> std::result::Result<(), RootError> + Send + 'static,
    ) -> Chunks {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let id = row.id.clone();
        self.deps.tasks.spawn("write archive", OnEnd::Fine, async move {
            let failed = sender.clone();
            let exporting = tokio::task::spawn_blocking(move || {
                write(io::BufWriter::with_capacity(CHUNK_BYTES, Channel(sender)))
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
        Chunks(receiver)
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
            None => images.ensure(&row.tenant, &row.spec.image).await?.0,
        };
        let layers = images.content().layer_paths(&image).await.map_err(crate::images::image_failed)?;
        let above = images.content().layers_root().to_owned();
        let layers: Vec<PathBuf> = layers.into_iter().map(|layer| above.join(layer)).collect();
        let id_base = self.id_base(row).await?;
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
                RootError::Limit { .. } | RootError::Whiteout { .. } | RootError::Unfit { .. } => {
                    ServiceError::conflict(crate::error::chain(&error))
                }
                RootError::Absent { .. } => ServiceError::new(ProblemKind::NotFound, error.to_string()),
                RootError::Unpack(UnpackError::DiskFull { .. }) => {
                    ServiceError::new(ProblemKind::InsufficientStorage, crate::error::chain(&error))
                }
                // The kernel's words for a path of theirs: read-only, in use, over a quota.
                RootError::Unpack(_) => ServiceError::new(ProblemKind::Invalid, crate::error::chain(&error)),
                RootError::Read { source, .. } => match io::Error::from(source).kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        ServiceError::new(ProblemKind::InsufficientStorage, crate::error::chain(&error))
                    }
                    io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::PermissionDenied => ServiceError::conflict(crate::error::chain(&error)),
                    _ => ServiceError::internal("the container's files cannot be read", error),
                },
                error @ (RootError::Write(_) | RootError::Walls(_)) => {
                    ServiceError::internal("the container's files cannot be read", error)
                }
            })
    }
}

/// A directory of the host that is mounted in a container.
struct Source {
    path: PathBuf,
    /// First id of the container's range in it.
    id_base: u32,
    filled: bool,
    read_only: bool,
}

/// A volume has the container's own ids on disk.
fn volume(path: PathBuf, read_only: bool) -> Source {
    Source { path, id_base: 0, filled: true, read_only }
}

fn mounted((target, source): (String, Option<Source>)) -> Mount {
    let what = match source {
        None => Mounted::Absent("is in memory while the container runs; start it to copy there"),
        Some(Source { path, id_base, filled, read_only }) => match open_directory(&path) {
            Ok(directory) => Mounted::Directory { root: Root::live(directory, id_base), read_only, filled },
            Err(_) => Mounted::Absent("is no directory of the host now; start the container to copy there"),
        },
    };
    Mount { target: target.into(), what }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = nix::libc::O_DIRECTORY;
    File::options().read(true).custom_flags(flags).open(path).map(OwnedFd::from)
}

fn detail(path: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("path".to_owned(), path.to_owned())])
}

fn file_view(stat: FileStat) -> FileView {
    FileView {
        name: stat.name.to_string_lossy().into_owned(),
        kind: match stat.kind {
            wharf_image::FileKind::File => FileKind::File,
            wharf_image::FileKind::Directory => FileKind::Directory,
            wharf_image::FileKind::Link => FileKind::Link,
            wharf_image::FileKind::Special => FileKind::Special,
        },
        size_bytes: stat.size_bytes,
        mode: stat.mode,
        modified_at: Timestamp(stat.modified_s.saturating_mul(1_000_000)),
        target: stat.target.map(|target| target.to_string_lossy().into_owned()),
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

/// An archive as it is written.
#[derive(Debug)]
pub(crate) struct Chunks(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Chunks {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
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
