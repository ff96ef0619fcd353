//! `wharf cp`: between this machine and a container, with the rules of `docker cp`.
//!
//! Archives wait in a file without a name, in either direction: what is sent is whole before it is sent, and
//! what a container says is whole before a file is made of it. Its archive is a stranger's; the tar crate
//! leaves no name, link or device lead out of the directory.

use std::fs::File;
use std::io::{IsTerminal as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use futures_util::TryStreamExt as _;
use reqwest::{Body, Method};
use rustix::io::Errno;
use tar::EntryType;
use tokio_util::io::ReaderStream;
use wharf_shared::container::{CopiedView, FileKind, FileView};
use wharf_shared::problem::ProblemKind;

use super::{Shell, save};
use crate::client::{Client, read};

/// Where an archive has a file's capabilities, as GNU tar and docker write them.
const CAPABILITY_RECORD: &str = "SCHILY.xattr.security.capability";
/// With the owner (`vfs_ns_cap_data` of `linux/capability.h`).
const CAPABILITY_MAX_BYTES: usize = 24;

/// A large directory takes a while.
const TIMEOUT: Duration = Duration::from_hours(6);

/// `wharf cp`.
#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// Keep owners; what is copied in belongs to root otherwise, and what is copied out to you.
    #[arg(short, long)]
    archive: bool,
    /// Follow a link that the source is.
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// What to copy: CONTAINER:PATH, a path of this machine, or `-` for a tar archive on standard input.
    source: String,
    /// Where to: CONTAINER:PATH, a path of this machine, or `-` for a tar archive on standard output.
    target: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Container { container: String, path: String },
    Local(String),
    Stream,
}

impl Side {
    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            // As docker tells them apart: `./a:b` and `/a:b` are files of this machine.
            Some((container, path))
                if !container.is_empty() && !container.contains('/') && !container.starts_with('.') =>
            {
                let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
                Self::Container { container: container.to_owned(), path }
            }
            _ if text == "-" => Self::Stream,
            _ => Self::Local(text.to_owned()),
        }
    }
}

/// Copies.
pub(crate) async fn copy(shell: &Shell, given: CopyArguments) -> Result<()> {
    let client = shell.client()?;
    match (Side::parse(&given.source), Side::parse(&given.target)) {
        (Side::Container { .. }, Side::Container { .. }) => {
            bail!("one side must be on this machine; copy out first, then in")
        }
        (Side::Container { container, path }, target) => {
            let remote = Remote { client: &client, container: &container };
            remote.copy_out(&path, target, &given).await
        }
        (source, Side::Container { container, path }) => {
            let remote = Remote { client: &client, container: &container };
            let copied = remote.copy_in(source, &path, &given).await?;
            let bytes = crate::quantity::show_bytes(copied.bytes);
            shell.output.outcome(&copied, &format!("{} copied, {bytes}", copied.entries))
        }
        _ => bail!("give a container on one side, as CONTAINER:PATH"),
    }
}

struct Remote<'a> {
    client: &'a Client,
    container: &'a str,
}

impl Remote<'_> {
    async fn stat(&self, path: &str, follow: bool) -> Result<Option<FileView>> {
        let query = [("path", path), ("follow", if follow { "true" } else { "false" })];
        match self.client.get(&["containers", self.container, "files", "stat"], &query).await {
            Ok(view) => Ok(Some(view)),
            Err(error) if is_absent(&error, path) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn copy_in(&self, source: Side, path: &str, given: &CopyArguments) -> Result<CopiedView> {
        let there = self.stat(path, true).await?.map(|view| view.kind);
        let (directory, body) = match source {
            Side::Local(source) => {
                let (directory, name) =
                    placed(&source, local_kind(&source, given.follow_link)?, path, there)?;
                let follow = given.follow_link;
                let file = tokio::task::spawn_blocking(move || pack(&source, &name, follow))
                    .await
                    .context("pack the files")??;
                (directory, Body::wrap_stream(ReaderStream::new(tokio::fs::File::from_std(file))))
            }
            _ if there != Some(FileKind::Directory) => bail!("{path} is no directory of the container"),
            _ => (path.to_owned(), Body::wrap_stream(ReaderStream::new(tokio::io::stdin()))),
        };
        let keep = if given.archive { "true" } else { "false" };
        let request = self
            .client
            .request(Method::PUT, &["containers", self.container, "files"])
            .query(&[("path", directory.as_str()), ("keep_owners", keep)])
            .header("content-type", "application/x-tar")
            .timeout(TIMEOUT)
            .body(body);
        read(self.client.send(request).await?).await
    }

    async fn copy_out(&self, path: &str, target: Side, given: &CopyArguments) -> Result<()> {
        let Some(view) = self.stat(path, given.follow_link).await? else {
            bail!("there is no {path} in the container")
        };
        let mut query = vec![("path", path.to_owned())];
        // The archive is of the link itself; one that is followed is asked for as a directory is, or by its end.
        let link =
            given.follow_link && self.stat(path, false).await?.is_some_and(|at| at.kind == FileKind::Link);
        if link {
            query = vec![("path", self.followed(path).await?)];
        }
        let Side::Local(target) = target else {
            if std::io::stdout().is_terminal() {
                bail!("an archive is nothing for a terminal; redirect the output");
            }
            return save(self.archive(&query).await?, None).await;
        };
        let there = local_kind(&target, true).ok();
        let source = if view.name.is_empty() { "/.".to_owned() } else { path.to_owned() };
        let (directory, name) = placed(&source, view.kind, &target, there)?;
        query.push(("name", name));
        let mut body = self.archive(&query).await?.bytes_stream();
        let mut file = tempfile::tempfile().context("make a temporary file")?;
        while let Some(bytes) = body.try_next().await.context("the archive broke off")? {
            file.write_all(&bytes).context("write the temporary file")?;
        }
        let owners = given.archive;
        tokio::task::spawn_blocking(move || unpack(file, Path::new(&directory), owners))
            .await
            .context("unpack the archive")?
    }

    /// Where the links at the end of a path lead.
    async fn followed(&self, path: &str) -> Result<String> {
        let mut path = PathBuf::from(path);
        for _ in 0..40 {
            let text = path.to_string_lossy().into_owned();
            match self.stat(&text, false).await? {
                Some(FileView { target: Some(target), .. }) => {
                    path = path.parent().unwrap_or(Path::new("/")).join(target);
                }
                Some(_) => return Ok(text),
                None => bail!("the link leads to {text}, and there is none in the container"),
            }
        }
        bail!("too many links follow each other")
    }

    async fn archive(&self, query: &[(&str, String)]) -> Result<reqwest::Response> {
        let request = self.client.request(Method::GET, &["containers", self.container, "files"]);
        self.client.send(request.query(query).timeout(TIMEOUT)).await
    }
}

/// That the container is not there is something else.
fn is_absent(error: &anyhow::Error, path: &str) -> bool {
    error.downcast_ref::<wharf_shared::problem::Problem>().is_some_and(|problem| {
        problem.kind == ProblemKind::NotFound && problem.detail.contains(path.trim_end_matches('/'))
    })
}

/// Into which directory it goes, and under which name; without a name, what is in it goes there.
fn placed(source: &str, kind: FileKind, target: &str, there: Option<FileKind>) -> Result<(String, String)> {
    let contents = source.ends_with("/.") || source == ".";
    let (parent, last) = split(target);
    let is_directory = kind == FileKind::Directory;
    match there {
        Some(FileKind::Directory) if is_directory && contents => Ok((target.to_owned(), String::new())),
        Some(FileKind::Directory) => Ok((target.to_owned(), split(source).1)),
        Some(_) if is_directory => bail!("a directory cannot take the place of the file {target}"),
        None if !is_directory && target.ends_with('/') => bail!("there is no directory {target}"),
        _ => Ok((parent, last)),
    }
}

/// The directory above, and the last component.
fn split(path: &str) -> (String, String) {
    let trimmed = path.trim_end_matches("/.").trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some(("", last)) => ("/".to_owned(), last.to_owned()),
        Some((parent, last)) => (parent.to_owned(), last.to_owned()),
        None if path.starts_with('/') => ("/".to_owned(), String::new()),
        None => (".".to_owned(), trimmed.to_owned()),
    }
}

fn local_kind(path: &str, follow: bool) -> Result<FileKind> {
    let found = if follow { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
    let kind = found.with_context(|| format!("look at {path}"))?.file_type();
    Ok(match (kind.is_dir(), kind.is_file(), kind.is_symlink()) {
        (true, ..) => FileKind::Directory,
        (_, true, _) => FileKind::File,
        (.., true) => FileKind::Link,
        _ => FileKind::Special,
    })
}

fn pack(source: &str, name: &str, follow: bool) -> Result<File> {
    let failed = || format!("pack {source}");
    let mut archive = tar::Builder::new(tempfile::tempfile().context("make a temporary file")?);
    archive.sparse(false);
    // Only a link that is the source itself is followed.
    archive.follow_symlinks(false);
    let path =
        if follow { std::fs::canonicalize(source).with_context(failed)? } else { PathBuf::from(source) };
    append(&mut archive, &path, Path::new(name)).with_context(failed)?;
    let mut file = archive.into_inner().with_context(failed)?;
    file.rewind().context("read the temporary file")?;
    Ok(file)
}

/// Adds what is at `path`, and all below it, with the capabilities of its files.
fn append(archive: &mut tar::Builder<File>, path: &Path, name: &Path) -> std::io::Result<()> {
    let kind = std::fs::symlink_metadata(path)?.file_type();
    if !kind.is_dir() {
        if kind.is_file()
            && let Some(value) = capability(path)?
        {
            archive.append_pax_extensions([(CAPABILITY_RECORD, value.as_slice())])?;
        }
        return archive.append_path_with_name(path, name);
    }
    // The contents of a directory go without it.
    if !name.as_os_str().is_empty() {
        archive.append_dir(name, path)?;
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        append(archive, &entry.path(), &name.join(entry.file_name()))?;
    }
    Ok(())
}

/// A file's capabilities as the kernel keeps them.
fn capability(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; CAPABILITY_MAX_BYTES];
    match rustix::fs::lgetxattr(path, "security.capability", value.as_mut_slice()) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What comes out of a container gets no capabilities: they would be rights on this machine, given by a stranger.
fn unpack(mut file: File, directory: &Path, owners: bool) -> Result<()> {
    file.rewind().context("read the temporary file")?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    archive.set_preserve_ownerships(owners);
    archive.set_preserve_permissions(owners);
    let mut skipped = 0_u64;
    for entry in archive.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link => {
                let name = entry.path().map(|path| path.display().to_string()).unwrap_or_default();
                let into = || format!("unpack {name} in {}", directory.display());
                if !entry.unpack_in(directory).with_context(into)? {
                    bail!("the archive has a name that leads out of it: {}", crate::output::visible(&name));
                }
            }
            _ => skipped += 1,
        }
    }
    if skipped > 0 {
        crate::output::note(&format!("{skipped} pipes and devices were not copied"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_s_side_has_a_name_before_its_colon() {
        let web = |path: &str| Side::Container { container: "web".to_owned(), path: path.to_owned() };
        assert_eq!(Side::parse("web:/etc"), web("/etc"));
        assert_eq!(Side::parse("web:etc"), web("/etc"));
        assert_eq!(Side::parse("-"), Side::Stream);
        for local in ["./web:etc", "/web:etc", "etc", ":x", "../a:b"] {
            assert_eq!(Side::parse(local), Side::Local(local.to_owned()));
        }
    }

    #[test]
    fn names_and_places_are_docker_s() {
        use FileKind::{Directory, File};
        let ok = |source, kind, target, there| placed(source, kind, target, there).expect("a place");
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        // Into what is there; as what is not.
        assert_eq!(ok("a/f", File, "/d", Some(Directory)), pair("/d", "f"));
        assert_eq!(ok("a/f", File, "/d/g", Some(File)), pair("/d", "g"));
        assert_eq!(ok("a/f", File, "/d/new", None), pair("/d", "new"));
        assert_eq!(ok("a/d", Directory, "/x", Some(Directory)), pair("/x", "d"));
        assert_eq!(ok("a/d/", Directory, "/x/", Some(Directory)), pair("/x/", "d"));
        assert_eq!(ok("a/d/.", Directory, "/x", Some(Directory)), pair("/x", ""));
        assert_eq!(ok("a/d", Directory, "/new", None), pair("/", "new"));
        assert_eq!(ok("a/d/.", Directory, "new/", None), pair(".", "new"));
        assert_eq!(ok("/.", Directory, "out", Some(Directory)), pair("out", ""));
        for (kind, target, there) in [(Directory, "/f", Some(File)), (File, "/none/", None)] {
            assert!(placed("a", kind, target, there).is_err(), "{target}");
        }
    }
}
