//! A container's files as a tar archive: all of them, or what its writable layer changes.
//!
//! Ids are the container's own. Sockets are left out, as tar has none; names that a file has several of are
//! hard links in the archive. Of extended attributes, those of users and capabilities of programs come along
//! (those that [`crate::unpack`] keeps).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};
use wharf_sys::landlock::Allowed;

use super::mounts::told;
use super::resolve::Links;
use super::{
    Root, RootError, capability, check_depth, descend, is_directory, is_opaque, is_whiteout, look, merged,
    names, refused,
};

/// Attributes of one file that come along.
const ATTRIBUTES_MAX_BYTES: usize = 64 << 10;

impl Root {
    /// Writes all that the container sees of its root as one archive. What is mounted in it is not part of it.
    ///
    /// # Errors
    /// [`RootError`]; what goes away meanwhile is left out.
    pub fn export(&self, out: impl Write + Send) -> Result<(), RootError> {
        self.within_walls(Allowed::Read, || {
            let mut archive = Archive::new(self, out);
            archive.all(&self.tops(), Path::new(""), 0)?;
            archive.finish()
        })
    }

    /// Writes one path, a directory with all that is in it, as an archive whose names begin with `name`: the
    /// path's last component when absent, nothing when empty. A link at its end is written as a link. Of a container
    /// that does not run, what is mounted below the path is not part of it.
    ///
    /// # Errors
    /// [`RootError`]; what goes away meanwhile, and what the kernel only shows as files, is left out.
    pub fn pack_path(
        &self,
        path: &Path,
        name: Option<&OsStr>,
        out: impl Write + Send,
    ) -> Result<(), RootError> {
        self.within_walls(Allowed::Read, || {
            let sought = self.seek(path, Links::Keep)?;
            let packed = sought.root.pack_found(&sought.path, name.or(sought.name.as_deref()), out);
            packed.map_err(told(&sought.path, path))
        })
    }

    fn pack_found(&self, path: &Path, name: Option<&OsStr>, out: impl Write) -> Result<(), RootError> {
        let place = self.resolve(path, Links::Keep)?;
        let Some(found) = &place.found else { return Err(RootError::Absent { path: path.to_owned() }) };
        let mut archive = Archive::new(self, out);
        let own = place.name.clone().unwrap_or_default();
        let inner = PathBuf::from(name.unwrap_or(&own));
        let parent = place.borrowed();
        if let (Some(directory), false) = (parent.get(found.at), inner.as_os_str().is_empty()) {
            let own = if own.is_empty() { OsStr::new(".") } else { &own };
            archive.entry(*directory, own, &inner, &found.stat)?;
        }
        if is_directory(&found.stat) {
            let opened = match &place.name {
                Some(name) => self.enter(&parent, found.at, name).map_err(refused("open", path))?,
                None => Vec::new(),
            };
            let within = if place.name.is_some() { opened.iter().map(AsFd::as_fd).collect() } else { parent };
            archive.all(&within, &inner, 0)?;
        }
        archive.finish()
    }

    /// Writes what the writable layer changes as a layer of an image: what is gone has a whiteout.
    ///
    /// # Errors
    /// [`RootError`]; a name that would hide others in a layer is refused.
    pub fn pack(&self, out: impl Write + Send) -> Result<(), RootError> {
        self.within_walls(Allowed::Read, || {
            let mut archive = Archive::new(self, out);
            if let Some(writable) = &self.writable {
                archive.upper(writable.as_fd(), Path::new(""), 0)?;
            }
            archive.finish()
        })
    }
}

struct Archive<'a, W: Write> {
    root: &'a Root,
    builder: Builder<W>,
    /// First name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<'a, W: Write> Archive<'a, W> {
    fn new(root: &'a Root, out: W) -> Self {
        let mut builder = Builder::new(out);
        builder.sparse(false);
        Self { root, builder, links: HashMap::new() }
    }

    fn finish(mut self) -> Result<(), RootError> {
        let mut out =
            self.builder.finish().and_then(|()| self.builder.into_inner()).map_err(RootError::Write)?;
        out.flush().map_err(RootError::Write)
    }

    fn all(&mut self, directories: &[BorrowedFd<'_>], path: &Path, depth: usize) -> Result<(), RootError> {
        check_depth(depth, path)?;
        for (name, found) in merged(directories, path)? {
            let inner = path.join(&name);
            let Some(directory) = directories.get(found.at) else { continue };
            self.entry(*directory, &name, &inner, &found.stat)?;
            if is_directory(&found.stat) {
                let opened =
                    self.root.enter(directories, found.at, &name).map_err(refused("open", &inner))?;
                let opened: Vec<BorrowedFd<'_>> = opened.iter().map(AsFd::as_fd).collect();
                self.all(&opened, &inner, depth + 1)?;
            }
        }
        Ok(())
    }

    fn upper(&mut self, directory: BorrowedFd<'_>, path: &Path, depth: usize) -> Result<(), RootError> {
        check_depth(depth, path)?;
        let mut all = names(directory, path)?;
        all.sort();
        for name in all {
            let inner = path.join(&name);
            if name.as_bytes().starts_with(b".wh.") {
                return Err(RootError::Whiteout { path: inner });
            }
            let Some(stat) = look(directory, &name).map_err(refused("look at", &inner))? else { continue };
            if is_whiteout(&stat) {
                self.mark(&path.join(prefixed(b".wh.", &name)))?;
                continue;
            }
            self.entry(directory, &name, &inner, &stat)?;
            if is_directory(&stat) {
                let opened = descend(&[directory], 0, &name).map_err(refused("open", &inner))?;
                let Some(opened) = opened.first() else { continue };
                if is_opaque(opened.as_fd()) {
                    self.mark(&inner.join(".wh..wh..opq"))?;
                }
                self.upper(opened.as_fd(), &inner, depth + 1)?;
            }
        }
        Ok(())
    }

    /// An empty file whose name is its meaning.
    fn mark(&mut self, path: &Path) -> Result<(), RootError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(0);
        self.builder.append_data(&mut header, path, io::empty()).map_err(RootError::Write)
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        stat: &Stat,
    ) -> Result<(), RootError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut header = self.header(stat);
        match kind {
            FileType::Directory => {
                header.set_entry_type(EntryType::Directory);
                let opened = descend(&[directory], 0, name).map_err(refused("open", path))?;
                let attributes = opened.first().map(|fd| Self::attributes(fd.as_fd(), path)).transpose()?;
                self.extend(&attributes.unwrap_or_default())?;
                // Tar knows a directory by its slash.
                self.put(&mut header, &path.join(""), io::empty())
            }
            FileType::RegularFile => self.file(directory, name, path, header),
            FileType::Symlink => {
                let target = match rustix::fs::readlinkat(directory, name, Vec::new()) {
                    Ok(target) => target,
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                    Err(errno) => return Err(refused("read the link", path)(errno)),
                };
                header.set_entry_type(EntryType::Symlink);
                let target = OsStr::from_bytes(target.as_bytes());
                self.builder.append_link(&mut header, path, target).map_err(RootError::Write)
            }
            FileType::Fifo => {
                header.set_entry_type(EntryType::Fifo);
                self.put(&mut header, path, io::empty())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let character = kind == FileType::CharacterDevice;
                header.set_entry_type(if character { EntryType::Char } else { EntryType::Block });
                let numbers = header
                    .set_device_major(rustix::fs::major(stat.st_rdev))
                    .and_then(|()| header.set_device_minor(rustix::fs::minor(stat.st_rdev)));
                numbers.map_err(RootError::Write)?;
                self.put(&mut header, path, io::empty())
            }
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    fn file(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        mut header: Header,
    ) -> Result<(), RootError> {
        // What was a file a moment ago may be a pipe by now, whose opening would wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(refused("open", path)(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(refused("look at", path))?;
        let keeps = self.root.keeps_files(file.as_fd()).map_err(refused("look at", path))?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !regular || !keeps || !self.root.may_read(&stat) {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            let first = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_owned());
            if first != path {
                header.set_entry_type(EntryType::Link);
                let first = first.clone();
                return self.builder.append_link(&mut header, path, first).map_err(RootError::Write);
            }
        }
        let attributes = Self::attributes(file.as_fd(), path)?;
        self.extend(&attributes)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        self.put(&mut header, path, Exactly { file: File::from(file), left: size })
    }

    fn put(&mut self, header: &mut Header, path: &Path, data: impl Read) -> Result<(), RootError> {
        self.builder.append_data(header, path, data).map_err(RootError::Write)
    }

    fn header(&self, stat: &Stat) -> Header {
        let mut header = Header::new_gnu();
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(self.root.container_id(stat.st_uid).into());
        header.set_gid(self.root.container_id(stat.st_gid).into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        header
    }

    fn extend(&mut self, attributes: &[(String, Vec<u8>)]) -> Result<(), RootError> {
        if attributes.is_empty() {
            return Ok(());
        }
        let records = attributes.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records).map_err(RootError::Write)
    }

    /// What goes along, as records of an extended header.
    fn attributes(node: BorrowedFd<'_>, path: &Path) -> Result<Vec<(String, Vec<u8>)>, RootError> {
        let mut list = vec![0; ATTRIBUTES_MAX_BYTES];
        let length = match rustix::fs::flistxattr(node, list.as_mut_slice()) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => 0,
            Err(errno) => return Err(refused("list the attributes of", path)(errno)),
        };
        let mut found = Vec::new();
        for key in list.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
            let user = key.starts_with(b"user.") && !key.starts_with(b"user.overlay.");
            let Ok(text) = std::str::from_utf8(key) else { continue };
            if !user && key != capability::ATTRIBUTE {
                continue;
            }
            let mut value = vec![0; ATTRIBUTES_MAX_BYTES];
            match rustix::fs::fgetxattr(node, text, value.as_mut_slice()) {
                Ok(length) => value.truncate(length),
                Err(Errno::NODATA) => continue,
                Err(errno) => return Err(refused("read an attribute of", path)(errno)),
            }
            if key == capability::ATTRIBUTE {
                value = capability::for_archive(value);
            }
            found.push((format!("SCHILY.xattr.{text}"), value));
        }
        Ok(found)
    }
}

fn prefixed(prefix: &[u8], name: &OsStr) -> std::ffi::OsString {
    OsStr::from_bytes(&[prefix, name.as_bytes()].concat()).to_owned()
}

/// As many bytes as the header says, whatever a file that is written meanwhile has: zeros where it ends early.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most) else { return Ok(0) };
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = match self.file.read(buffer)? {
            0 => {
                buffer.fill(0);
                buffer.len()
            }
            count => count,
        };
        self.left = self.left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}
