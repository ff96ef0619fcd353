//! Writes members beneath one directory, by descriptors only.
//!
//! Each parent directory is opened with `openat2` beneath the root, refusing symbolic links, and the
//! member is made in it by its last component alone. Nobody else writes there, so what was checked
//! stays true until it is used.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::members::{Kind, Member};
use super::name::{self, Meaning, Name, lossy};
use super::pax::Time;
use super::{Limits, UnpackError};

/// Ids that a container has; its range on the host is mapped onto just these.
const CONTAINER_IDS: u64 = 65_536;
/// Directory names whose times wait for the end: this many bytes are kept in memory.
const DIRECTORY_NAMES_MAX_BYTES: usize = 64 << 20;
const COPY_BYTES: usize = 128 << 10;
const LINK_TARGET_MAX_BYTES: usize = 4095;
const OPAQUE: &str = "trusted.overlay.opaque";

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory being filled.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    limits: &'a Limits,
    entries: u64,
    written_bytes: u64,
    opaque_root: bool,
    /// Set at the end, because every later member of a directory changes its time.
    directory_times: BTreeMap<Vec<u8>, Time>,
    directory_names_bytes: usize,
    /// Members come directory by directory: the last parent is mostly the next one's too.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    buffer: Vec<u8>,
}

/// What to do with an extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Keep,
    Drop,
    Refuse,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, limits: &'a Limits) -> Self {
        Self {
            root,
            limits,
            entries: 0,
            written_bytes: 0,
            opaque_root: false,
            directory_times: BTreeMap::new(),
            directory_names_bytes: 0,
            parent: None,
            buffer: vec![0; COPY_BYTES],
        }
    }

    /// Adds one member, reading its data from `data`.
    pub(super) fn add(&mut self, member: &Member, data: &mut impl Read) -> Result<(), UnpackError> {
        self.count_entry()?;
        match name::interpret(name::check(&member.name, self.limits)?)? {
            Meaning::Member(name) => self.add_member(&name, member, data),
            Meaning::Whiteout(name) => self.add_whiteout(&name),
            Meaning::Opaque(directory) => {
                self.opaque_root |= directory.is_empty();
                let directory = self.open_directory(&directory)?;
                set_opaque(directory.as_fd(), &member.name)
            }
            Meaning::Ignored => Ok(()),
        }
    }

    /// Sets the directories' times; returns the files' bytes, and whether the root is opaque.
    pub(super) fn finish(mut self) -> Result<(u64, bool), UnpackError> {
        self.parent = None;
        for (name, time) in std::mem::take(&mut self.directory_times) {
            match rustix::fs::openat2(self.root, dot_if_empty(&name), DIRECTORY, Mode::empty(), BENEATH) {
                Ok(directory) => {
                    rustix::fs::futimens(&directory, &timestamps(time))
                        .map_err(|errno| UnpackError::write("set the time of", &name, errno))?;
                }
                // A later member took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(UnpackError::write("open", &name, errno)),
            }
        }
        Ok((self.written_bytes, self.opaque_root))
    }

    fn add_member(&mut self, name: &Name, member: &Member, data: &mut impl Read) -> Result<(), UnpackError> {
        let owner = Owner::of(name, member)?;
        for (attribute, _) in &member.xattrs {
            if judge(attribute) == Attribute::Refuse {
                return Err(UnpackError::Attribute {
                    name: lossy(name.bytes()),
                    attribute: lossy(attribute),
                });
            }
        }
        if member.kind == Kind::Directory {
            let directory = self.replace_by_directory(name)?;
            finish_node(directory.as_fd(), name, member, owner)?;
            return self.remember_time(name.bytes(), member.mtime);
        }
        if name.is_root() {
            return refuse(name, "the root must be a directory");
        }
        let parent = self.open_directory(name.parent())?;
        let parent = parent.as_fd();
        match &member.kind {
            Kind::Directory => Ok(()),
            Kind::File => {
                self.clear(parent, name)?;
                self.write_file(parent, name, member, owner, data)
            }
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() > LINK_TARGET_MAX_BYTES || target.contains(&0) {
                    return refuse(name, "a symbolic link to no possible name");
                }
                self.clear(parent, name)?;
                rustix::fs::symlinkat(OsStr::from_bytes(target), parent, name.last())
                    .map_err(|errno| UnpackError::write("make the symbolic link", name.bytes(), errno))?;
                finish_name(parent, name, member, owner)
            }
            Kind::HardLink(target) => self.add_hard_link(parent, name, target),
            Kind::Fifo => self.add_node(parent, name, member, owner, (FileType::Fifo, 0)),
            Kind::Character { major: 0, minor: 0 } => {
                refuse(name, "a device 0:0, which would act as a whiteout")
            }
            Kind::Character { major, minor } => {
                let device = device(name, *major, *minor)?;
                self.add_node(parent, name, member, owner, (FileType::CharacterDevice, device))
            }
            Kind::Block { major, minor } => {
                let device = device(name, *major, *minor)?;
                self.add_node(parent, name, member, owner, (FileType::BlockDevice, device))
            }
        }
    }

    fn write_file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &Name,
        member: &Member,
        owner: Owner,
        data: &mut impl Read,
    ) -> Result<(), UnpackError> {
        self.written_bytes = self.written_bytes.saturating_add(member.size);
        if self.written_bytes > self.limits.unpacked_bytes {
            return Err(UnpackError::Limit { what: "unpacked bytes", limit: self.limits.unpacked_bytes });
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name.last(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| UnpackError::write("create", name.bytes(), errno))?;
        let mut file = File::from(file);
        let failed = |source| UnpackError::write("write", name.bytes(), source);
        if let Some(pieces) = &member.sparse {
            for (offset, length) in pieces {
                let (mut at, end) = (*offset, offset + length);
                while at < end {
                    let want = self.buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                    let chunk = self.buffer.get_mut(..want).unwrap_or_default();
                    data.read_exact(chunk).map_err(super::members::read_error)?;
                    file.write_all_at(chunk, at).map_err(failed)?;
                    at += chunk.len() as u64;
                }
            }
            file.set_len(member.size).map_err(failed)?;
        } else {
            loop {
                match data.read(&mut self.buffer).map_err(super::members::read_error)? {
                    0 => break,
                    count => file.write_all(self.buffer.get(..count).unwrap_or_default()).map_err(failed)?,
                }
            }
        }
        finish_node(file.as_fd(), name, member, owner)?;
        rustix::fs::futimens(&file, &timestamps(member.mtime))
            .map_err(|errno| UnpackError::write("set the time of", name.bytes(), errno))
    }

    fn add_hard_link(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &Name,
        target: &[u8],
    ) -> Result<(), UnpackError> {
        let refuse =
            |why| Err(UnpackError::HardLink { name: lossy(name.bytes()), target: lossy(target), why });
        let Ok(Meaning::Member(target_name)) = name::check(target, self.limits).and_then(name::interpret)
        else {
            return refuse("the target's name is not allowed");
        };
        if target_name == *name {
            return refuse("it links to itself");
        }
        let target_parent = match self.resolve(target_name.parent()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return refuse("the target is not in this layer"),
            Err(Errno::LOOP | Errno::XDEV) => return refuse("the target is below a symbolic link"),
            Err(errno) => return Err(UnpackError::write("open the directory of", target, errno)),
        };
        match rustix::fs::statat(&target_parent, target_name.last(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return refuse("the target is a directory");
            }
            // A second name for a whiteout would hide a second file.
            Ok(stat) if is_whiteout(&stat) => return refuse("the target is not in this layer"),
            Ok(_) => {}
            Err(Errno::NOENT) => return refuse("the target is not in this layer"),
            Err(errno) => return Err(UnpackError::write("look at", target, errno)),
        }
        self.clear(parent, name)?;
        // Without AT_SYMLINK_FOLLOW a link to a symbolic link links the symbolic link itself. The
        // clearing may have removed the target, if that was below a directory of the link's name.
        match rustix::fs::linkat(&target_parent, target_name.last(), parent, name.last(), AtFlags::empty()) {
            Err(Errno::NOENT) => refuse("the target is not in this layer"),
            linked => linked.map_err(|errno| UnpackError::write("make the hard link", name.bytes(), errno)),
        }
    }

    fn add_node(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &Name,
        member: &Member,
        owner: Owner,
        (kind, device): (FileType, u64),
    ) -> Result<(), UnpackError> {
        self.clear(parent, name)?;
        rustix::fs::mknodat(parent, name.last(), kind, Mode::RUSR | Mode::WUSR, device)
            .map_err(|errno| UnpackError::write("make the node", name.bytes(), errno))?;
        finish_name(parent, name, member, owner)?;
        // The name was made by us a moment ago and is no symbolic link.
        rustix::fs::chmodat(parent, name.last(), Mode::from_raw_mode(member.mode), AtFlags::empty())
            .map_err(|errno| UnpackError::write("set the mode of", name.bytes(), errno))?;
        rustix::fs::utimensat(parent, name.last(), &timestamps(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| UnpackError::write("set the time of", name.bytes(), errno))
    }

    /// Whiteouts speak of lower layers only: what this layer itself has under the name stays.
    fn add_whiteout(&mut self, name: &Name) -> Result<(), UnpackError> {
        let parent = self.open_directory(name.parent())?;
        match rustix::fs::statat(&parent, name.last(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => make_whiteout(parent.as_fd(), name),
            Err(errno) => Err(UnpackError::write("look at", name.bytes(), errno)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                set_opaque(self.open_directory(name.bytes())?.as_fd(), name.bytes())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Opens a directory of the layer, making it and those above it where they are missing.
    fn open_directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        if let Some((cached, directory)) = &self.parent
            && cached == path
        {
            return Ok(Rc::clone(directory));
        }
        let directory = match self.resolve(path) {
            Ok(directory) => Rc::new(directory),
            // Something is missing or in the way: the directory above decides, then this one is made.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !path.is_empty() => {
                let name = name::check(path, self.limits)?;
                let parent = self.open_directory(name.parent())?;
                self.make_directory(parent.as_fd(), &name)?;
                Rc::new(self.resolve(path).map_err(|errno| UnpackError::write("open", path, errno))?)
            }
            Err(errno) => return Err(UnpackError::write("open", path, errno)),
        };
        self.parent = Some((path.to_vec(), Rc::clone(&directory)));
        Ok(directory)
    }

    /// Opens a directory that is itself a member: unlike a mere parent it takes the place of a file or
    /// symbolic link of its name.
    fn replace_by_directory(&mut self, name: &Name) -> Result<Rc<OwnedFd>, UnpackError> {
        if !name.is_root() {
            let parent = self.open_directory(name.parent())?;
            match rustix::fs::statat(&parent, name.last(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
                // Left for `make_directory`, which makes the new directory opaque.
                Ok(stat) if is_whiteout(&stat) => {}
                Err(Errno::NOENT) => {}
                Ok(_) => self.clear(parent.as_fd(), name)?,
                Err(errno) => return Err(UnpackError::write("look at", name.bytes(), errno)),
            }
        }
        self.open_directory(name.bytes())
    }

    fn make_directory(&mut self, parent: BorrowedFd<'_>, name: &Name) -> Result<(), UnpackError> {
        let existing = match rustix::fs::statat(parent, name.last(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(UnpackError::write("look at", name.bytes(), errno)),
        };
        let over_whiteout = existing.as_ref().is_some_and(is_whiteout);
        match existing.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            None => {}
            Some(_) if over_whiteout => self.clear(parent, name)?,
            Some(kind) => {
                let parent = if kind == FileType::Symlink { "a symbolic link" } else { "not a directory" };
                return Err(UnpackError::Parent { name: lossy(name.bytes()), parent });
            }
        }
        self.count_entry()?;
        rustix::fs::mkdirat(parent, name.last(), Mode::from_raw_mode(0o755))
            .map_err(|errno| UnpackError::write("make the directory", name.bytes(), errno))?;
        let made = rustix::fs::openat(parent, name.last(), DIRECTORY, Mode::empty())
            .map_err(|errno| UnpackError::write("open", name.bytes(), errno))?;
        // Whatever umask the agent has.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))
            .map_err(|errno| UnpackError::write("set the mode of", name.bytes(), errno))?;
        if over_whiteout { set_opaque(made.as_fd(), name.bytes()) } else { Ok(()) }
    }

    /// Removes what an earlier member left under this name.
    fn clear(&mut self, parent: BorrowedFd<'_>, name: &Name) -> Result<(), UnpackError> {
        match rustix::fs::unlinkat(parent, name.last(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                // The remembered parent may be below it.
                self.parent = None;
                let below = format!("/proc/self/fd/{}", parent.as_raw_fd());
                std::fs::remove_dir_all(std::path::Path::new(&below).join(name.last()))
                    .map_err(|source| UnpackError::write("replace", name.bytes(), source))
            }
            Err(errno) => Err(UnpackError::write("replace", name.bytes(), errno)),
        }
    }

    fn resolve(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(self.root, dot_if_empty(path), DIRECTORY, Mode::empty(), BENEATH)
    }

    fn count_entry(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::Limit { what: "entries", limit: self.limits.entries });
        }
        Ok(())
    }

    fn remember_time(&mut self, path: &[u8], time: Time) -> Result<(), UnpackError> {
        self.directory_names_bytes += path.len();
        if self.directory_names_bytes > DIRECTORY_NAMES_MAX_BYTES {
            let limit = DIRECTORY_NAMES_MAX_BYTES as u64;
            return Err(UnpackError::Limit { what: "bytes in directory names", limit });
        }
        self.directory_times.insert(path.to_vec(), time);
        Ok(())
    }
}

/// An owner within the container's ids.
#[derive(Clone, Copy, Debug)]
struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    fn of(name: &Name, member: &Member) -> Result<Self, UnpackError> {
        let within = |id: u64| u32::try_from(id).ok().filter(|id| u64::from(*id) < CONTAINER_IDS);
        match (within(member.uid), within(member.gid)) {
            (Some(uid), Some(gid)) => Ok(Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) }),
            _ => Err(UnpackError::Owner { name: lossy(name.bytes()), uid: member.uid, gid: member.gid }),
        }
    }
}

/// Owner, mode and attributes of an open file or directory. In this order: a change of owner clears
/// set-id bits and capabilities.
fn finish_node(node: BorrowedFd<'_>, name: &Name, member: &Member, owner: Owner) -> Result<(), UnpackError> {
    rustix::fs::fchown(node, Some(owner.uid), Some(owner.gid))
        .map_err(|errno| UnpackError::write("set the owner of", name.bytes(), errno))?;
    rustix::fs::fchmod(node, Mode::from_raw_mode(member.mode))
        .map_err(|errno| UnpackError::write("set the mode of", name.bytes(), errno))?;
    for (attribute, value) in &member.xattrs {
        let of_files_only = attribute == b"security.capability" && member.kind != Kind::File;
        if judge(attribute) == Attribute::Keep && !of_files_only {
            rustix::fs::fsetxattr(node, OsStr::from_bytes(attribute), value, XattrFlags::empty())
                .map_err(|errno| UnpackError::write("set an attribute of", name.bytes(), errno))?;
        }
    }
    Ok(())
}

/// Owner and time of what cannot be opened.
fn finish_name(
    parent: BorrowedFd<'_>,
    name: &Name,
    member: &Member,
    owner: Owner,
) -> Result<(), UnpackError> {
    rustix::fs::chownat(parent, name.last(), Some(owner.uid), Some(owner.gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| UnpackError::write("set the owner of", name.bytes(), errno))?;
    rustix::fs::utimensat(parent, name.last(), &timestamps(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| UnpackError::write("set the time of", name.bytes(), errno))
}

fn judge(attribute: &[u8]) -> Attribute {
    if attribute.contains(&0) || attribute.starts_with(b"trusted.") || attribute.starts_with(b"user.overlay.")
    {
        Attribute::Refuse
    } else if attribute == b"security.capability" || attribute.starts_with(b"user.") {
        Attribute::Keep
    } else {
        Attribute::Drop
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn make_whiteout(parent: BorrowedFd<'_>, name: &Name) -> Result<(), UnpackError> {
    rustix::fs::mknodat(parent, name.last(), FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(|errno| UnpackError::write("make the whiteout", name.bytes(), errno))
}

fn set_opaque(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), UnpackError> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
        .map_err(|errno| UnpackError::write("make opaque", name, errno))
}

fn device(name: &Name, major: u64, minor: u64) -> Result<u64, UnpackError> {
    // The kernel's own widths: 12 and 20 bits.
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) if major < 1 << 12 && minor < 1 << 20 => Ok(rustix::fs::makedev(major, minor)),
        _ => refuse(name, "an impossible device number"),
    }
}

fn refuse<T>(name: &Name, why: &'static str) -> Result<T, UnpackError> {
    Err(UnpackError::Member { name: lossy(name.bytes()), why })
}

fn timestamps(time: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    }
}

fn dot_if_empty(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(if path.is_empty() { b"." } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_overlay_obeys_are_refused_and_foreign_ones_dropped() {
        for (attribute, judged) in [
            ("security.capability", Attribute::Keep),
            ("user.mime_type", Attribute::Keep),
            ("trusted.overlay.redirect", Attribute::Refuse),
            ("trusted.anything", Attribute::Refuse),
            ("user.overlay.opaque", Attribute::Refuse),
            ("user.a\0trusted.b", Attribute::Refuse),
            ("security.selinux", Attribute::Drop),
            ("system.posix_acl_access", Attribute::Drop),
        ] {
            assert_eq!(judge(attribute.as_bytes()), judged, "{attribute}");
        }
    }
}
