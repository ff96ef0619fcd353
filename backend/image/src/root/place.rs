//! Unpacks an archive into a directory of a container, whether it runs or not.
//!
//! Where it runs, its own processes may change everything meanwhile; where not, the files go into its
//! writable layer and directories of the image come along as overlayfs copies them up. Directories are
//! entered one by one and never through a link, and each file is made under a name of its own and then moved
//! into place: what was there stays whole until the new one is, and is never written through.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;
use wharf_sys::fs_ids::FsIds;
use wharf_sys::landlock::Allowed;

use super::mounts::told;
use super::resolve::Links;
use super::{
    DIRECTORY, Found, OPAQUE, Root, RootError, capability, clones, is_directory, is_whiteout, look, refused,
    uppermost,
};
use crate::unpack::{Kind, Limits, Member, Members, UnpackError, check_name, decompress};

/// What the name of a file begins with that is on its way to its own.
const PART: &str = ".wharf-part-";
/// So many names are tried: each is one of 2^64, and only who knows it could have taken it.
const PART_TRIES: u8 = 4;
const COPY_BYTES: usize = 128 << 10;

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    /// Members of the archive.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

impl Root {
    /// Unpacks a tar archive, compressed or not, into a directory. All belongs to the container's root unless
    /// `keep_owners` says to heed the archive; a directory never takes a file's place, nor a file a directory's.
    /// What was unpacked before an error stays.
    ///
    /// # Errors
    /// [`RootError`]: the path is no directory, the archive is refused, or the disk is full.
    pub fn place(
        &self,
        directory: &Path,
        archive: impl Read + Send,
        limits: &Limits,
        keep_owners: bool,
    ) -> Result<Placed, RootError> {
        self.within_walls(Allowed::Fill, || {
            let sought = self.seek_writable(directory)?;
            let hidden = self.mounts_below(&sought);
            let placed = sought.root.place_all(&sought.path, archive, limits, keep_owners, hidden);
            placed.map_err(told(&sought.path, directory))
        })
    }

    fn place_all(
        &self,
        directory: &Path,
        archive: impl Read,
        limits: &Limits,
        keep_owners: bool,
        hidden: Vec<PathBuf>,
    ) -> Result<Placed, RootError> {
        let _ids = FsIds::assume(self.id_base, self.id_base).map_err(|error| RootError::Read {
            call: "make files in",
            path: directory.to_owned(),
            source: Errno::from_raw_os_error(error.raw()),
        })?;
        let base = self.writable_directory(directory)?;
        let mut placing = Placing {
            root: self,
            limits,
            keep_owners,
            hidden,
            base: Rc::new(base),
            parent: None,
            times: Vec::new(),
            placed: Placed::default(),
            buffer: vec![0; COPY_BYTES],
        };
        let (_, plain) = decompress(archive).map_err(|source| UnpackError::Read { source })?;
        let mut members = Members::new(plain);
        while let Some(member) = members.next()? {
            placing.add(&member, &mut members)?;
        }
        placing.finish()?;
        Ok(placing.placed)
    }

    /// The directories of a path, of which the first is the writable layer's: made there if need be.
    fn writable_directory(&self, path: &Path) -> Result<Vec<OwnedFd>, RootError> {
        let place = self.resolve(path, Links::Follow)?;
        let found = place.found.as_ref().ok_or_else(|| RootError::Absent { path: path.to_owned() })?;
        if !is_directory(&found.stat) {
            return Err(RootError::Unfit { path: path.to_owned(), problem: "is not a directory" });
        }
        if self.live {
            let Some(name) = &place.name else { return Ok(place.parent) };
            let opened = self.enter(&place.borrowed(), found.at, name).map_err(refused("open", path))?;
            return if opened.is_empty() {
                Err(RootError::Absent { path: path.to_owned() })
            } else {
                Ok(opened)
            };
        }
        let mut directories = clones(&self.tops()).map_err(refused("open", path))?;
        for name in &place.path {
            directories = self
                .open_or_make(&directories, name)?
                .ok_or_else(|| RootError::Absent { path: path.to_owned() })?;
        }
        Ok(directories)
    }

    /// Opens a directory within one, making it in the writable layer if it is not there; `None` when
    /// something else has the name.
    fn open_or_make(&self, directories: &[OwnedFd], name: &OsStr) -> Result<Option<Vec<OwnedFd>>, RootError> {
        let borrowed: Vec<BorrowedFd<'_>> = directories.iter().map(AsFd::as_fd).collect();
        let Some((writable, lower)) = borrowed.split_first() else { return Ok(None) };
        let failed = |call| move |errno| refused(call, Path::new(name))(errno);
        self.check_owned(*writable, name)?;
        let own = look(*writable, name).map_err(failed("look at"))?;
        let make = |mode, owner: (u32, u32)| -> Result<OwnedFd, Errno> {
            rustix::fs::mkdirat(*writable, name, Mode::from_raw_mode(0o700))?;
            let made = rustix::fs::openat(*writable, name, DIRECTORY, Mode::empty())?;
            // Another may have been put there meanwhile.
            if !self.owns(&rustix::fs::fstat(&made)?) {
                return Err(Errno::PERM);
            }
            rustix::fs::fchown(&made, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
            Ok(made)
        };
        let ours = (self.id_base, self.id_base);
        match own {
            Some(stat) if is_directory(&stat) => {
                let opened = self.enter(&borrowed, 0, name).map_err(failed("open"))?;
                Ok((!opened.is_empty()).then_some(opened))
            }
            Some(stat) if !self.live && is_whiteout(&stat) => {
                rustix::fs::unlinkat(*writable, name, AtFlags::empty()).map_err(failed("replace"))?;
                let made = make(0o755, ours).map_err(failed("make the directory"))?;
                rustix::fs::fsetxattr(&made, OPAQUE, b"y", XattrFlags::empty())
                    .map_err(failed("make opaque"))?;
                Ok(Some(vec![made]))
            }
            Some(_) => Ok(None),
            None => match uppermost(lower, name).map_err(failed("look at"))? {
                Some(Found { at, stat }) if is_directory(&stat) => {
                    let shown = self.enter(lower, at, name).map_err(failed("open"))?;
                    let owner = (self.host_id(stat.st_uid), self.host_id(stat.st_gid));
                    let made = make(stat.st_mode & 0o7777, owner).map_err(failed("copy up"))?;
                    Ok(Some(std::iter::once(made).chain(shown).collect()))
                }
                Some(Found { stat, .. }) if !is_whiteout(&stat) => Ok(None),
                _ => make(0o755, ours).map(|made| Some(vec![made])).map_err(failed("make the directory")),
            },
        }
    }

    /// Refuses what the container's root could not change itself.
    fn check_owned(&self, node: BorrowedFd<'_>, name: &OsStr) -> Result<(), RootError> {
        let stat = rustix::fs::fstat(node).map_err(refused("look at", Path::new(name)))?;
        if self.owns(&stat) {
            return Ok(());
        }
        let problem = "is in what belongs to the host, or belongs to it itself";
        Err(RootError::Unfit { path: PathBuf::from(name), problem })
    }

    /// The id on disk of one of the container's own.
    fn host_id(&self, id: u32) -> u32 {
        self.id_base.saturating_add(self.container_id(id))
    }
}

/// An archive on its way into a directory.
struct Placing<'a> {
    root: &'a Root,
    limits: &'a Limits,
    keep_owners: bool,
    /// Where something else is mounted, by whose own path it is copied into.
    hidden: Vec<PathBuf>,
    base: Rc<Vec<OwnedFd>>,
    /// Members come directory by directory: the last parent is mostly the next one's too.
    parent: Option<(Vec<OsString>, Rc<Vec<OwnedFd>>)>,
    /// Of directories, set at the end, because every later member of one changes its time.
    times: Vec<(OwnedFd, Timestamps)>,
    placed: Placed,
    buffer: Vec<u8>,
}

/// Directories whose times are kept until the end.
const TIMES_MAX: usize = 256;

impl Placing<'_> {
    fn add(&mut self, member: &Member, data: &mut impl Read) -> Result<(), RootError> {
        self.placed.entries += 1;
        if self.placed.entries > self.limits.entries {
            return Err(UnpackError::Limit { what: "entries", limit: self.limits.entries }.into());
        }
        let mut components = check_name(&member.name, self.limits)?;
        let path: PathBuf = components.iter().collect();
        if self.hidden.iter().any(|target| path.starts_with(target)) {
            let why = "a volume is mounted there while the container runs; copy into that by its own path";
            return Err(UnpackError::refused(&member.name, why).into());
        }
        // The directory itself, which is there already and stays as it is.
        let Some(name) = components.pop() else { return Ok(()) };
        let refuse = |why| Err(RootError::from(UnpackError::refused(&member.name, why)));
        if matches!(member.kind, Kind::Fifo | Kind::Character { .. } | Kind::Block { .. }) {
            return refuse("only files, directories and links are copied");
        }
        let owner = self.owner(member)?;
        // Before the directories above it are made, which would stay when there is nothing to link to.
        let linked = match &member.kind {
            Kind::HardLink(target) => Some(self.linked(member, target)?),
            _ => None,
        };
        let parent = self.directory(components, &member.name)?;
        let Some(writable) = parent.first().map(AsFd::as_fd) else { return Ok(()) };
        if member.kind == Kind::Directory {
            let Some(opened) = self.root.open_or_make(&parent, &name)? else {
                return refuse("something that is no directory has its name in the container");
            };
            let Some(made) = opened.into_iter().next() else { return Ok(()) };
            self.root.check_owned(made.as_fd(), &name)?;
            finish(made.as_fd(), member, owner, None)?;
            if self.times.len() < TIMES_MAX {
                self.times.push((made, timestamps(member)));
            }
            return Ok(());
        }
        self.root.check_owned(writable, &name)?;
        let there: Vec<BorrowedFd<'_>> = parent.iter().map(AsFd::as_fd).collect();
        let found = uppermost(&there, &name).map_err(refused("look at", Path::new(&name)))?;
        if found.is_some_and(|found| is_directory(&found.stat)) {
            return refuse("a directory has its name in the container");
        }
        let failed = |call| move |errno: Errno| UnpackError::write(call, &member.name, errno);
        let (part, made) = match (&member.kind, linked) {
            (Kind::Symlink(target), _) => {
                let target = OsStr::from_bytes(target);
                let (part, ()) = make_part(|part| rustix::fs::symlinkat(target, writable, part))
                    .map_err(failed("make the symbolic link"))?;
                let owned = self.own_link(writable, &part, owner).map_err(failed("set the owner of"));
                (part, owned.map_err(RootError::from))
            }
            (_, Some((above, linked))) => {
                let link = |part: &str| rustix::fs::linkat(&above, &linked, writable, part, AtFlags::empty());
                let (part, ()) = make_part(link).map_err(failed("make the hard link"))?;
                (part, Ok(()))
            }
            _ => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let create = |part: &str| rustix::fs::openat(writable, part, flags, Mode::RUSR | Mode::WUSR);
                let (part, file) = make_part(create).map_err(failed("create"))?;
                (part, self.fill(File::from(file), member, owner, data))
            }
        };
        let moved = made.and_then(|()| {
            let moved = rustix::fs::renameat(writable, part.as_str(), writable, &name);
            moved.map_err(|errno| failed("put in place")(errno).into())
        });
        // A rename between two names of one file does nothing, and says nothing.
        if moved.is_err() || matches!(member.kind, Kind::HardLink(_)) {
            // That there is none is usual; what else is wrong was told.
            rustix::fs::unlinkat(writable, part.as_str(), AtFlags::empty()).ok();
        }
        moved
    }

    /// By its descriptor: another may have been put there meanwhile.
    fn own_link(&self, directory: BorrowedFd<'_>, part: &str, (uid, gid): (Uid, Gid)) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(directory, part, flags, Mode::empty())?;
        if !self.root.owns(&rustix::fs::fstat(&made)?) {
            return Err(Errno::PERM);
        }
        rustix::fs::chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
    }

    fn owner(&self, member: &Member) -> Result<(Uid, Gid), UnpackError> {
        const IDS: u64 = 65_536;
        let host = |id: u64| {
            let id = if self.keep_owners { id } else { 0 };
            u32::try_from(id).ok().filter(|id| u64::from(*id) < IDS).map(|id| self.root.host_id(id))
        };
        match (host(member.uid), host(member.gid)) {
            (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
            _ => Err(UnpackError::Owner {
                name: String::from_utf8_lossy(&member.name).into_owned(),
                uid: member.uid,
                gid: member.gid,
            }),
        }
    }

    /// Opens the directories of a name one by one, making those that are missing.
    fn directory(&mut self, path: Vec<OsString>, name: &[u8]) -> Result<Rc<Vec<OwnedFd>>, RootError> {
        if let Some((known, directories)) = &self.parent
            && *known == path
        {
            return Ok(Rc::clone(directories));
        }
        let mut directories = Rc::clone(&self.base);
        for component in &path {
            let opened = self.root.open_or_make(&directories, component)?;
            let why = "a directory above it is a link or no directory in the container";
            directories = Rc::new(opened.ok_or_else(|| UnpackError::refused(name, why))?);
        }
        self.parent = Some((path, Rc::clone(&directories)));
        Ok(directories)
    }

    fn fill(
        &mut self,
        mut file: File,
        member: &Member,
        owner: (Uid, Gid),
        data: &mut impl Read,
    ) -> Result<(), RootError> {
        self.placed.bytes = self.placed.bytes.saturating_add(member.size);
        if self.placed.bytes > self.limits.unpacked_bytes {
            return Err(
                UnpackError::Limit { what: "unpacked bytes", limit: self.limits.unpacked_bytes }.into()
            );
        }
        if member.sparse.is_some() {
            return Err(UnpackError::refused(
                &member.name,
                "files with holes are not copied; pack it without",
            )
            .into());
        }
        loop {
            let count = data.read(&mut self.buffer).map_err(|source| UnpackError::Read { source })?;
            if count == 0 {
                break;
            }
            file.write_all(self.buffer.get(..count).unwrap_or_default())
                .map_err(|source| UnpackError::write("write", &member.name, source))?;
        }
        finish(file.as_fd(), member, owner, Some(self.root.id_base))?;
        rustix::fs::futimens(&file, &timestamps(member))
            .map_err(|errno| UnpackError::write("set the time of", &member.name, errno).into())
    }

    /// What a hard link leads to, which must be there: its directory and its name.
    fn linked(&self, member: &Member, target: &[u8]) -> Result<(OwnedFd, OsString), RootError> {
        let refuse = || UnpackError::refused(&member.name, "a hard link to no file of the archive").into();
        let mut components = check_name(target, self.limits)?;
        let name = components.pop().ok_or_else(refuse)?;
        let failed = |errno| refused("open", Path::new(&name))(errno);
        let mut directory = self
            .base
            .first()
            .map(OwnedFd::try_clone)
            .transpose()
            .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        for component in &components {
            let Some(above) = directory else { break };
            directory = match self.root.enter(&[above.as_fd()], 0, component) {
                Err(errno) => return Err(failed(errno)),
                Ok(opened) => opened.into_iter().next(),
            };
        }
        let directory = directory.ok_or_else(refuse)?;
        self.root.check_owned(directory.as_fd(), &name)?;
        // A second name of what is the host's would be the container's to remove, and the host's to keep.
        let is_file = |stat: Stat| !is_directory(&stat) && !is_whiteout(&stat) && self.root.owns(&stat);
        if !look(directory.as_fd(), &name).map_err(refused("look at", Path::new(&name)))?.is_some_and(is_file)
        {
            return Err(refuse());
        }
        Ok((directory, name))
    }

    fn finish(&mut self) -> Result<(), RootError> {
        for (directory, times) in self.times.drain(..) {
            rustix::fs::futimens(&directory, &times).map_err(refused("set the time of", Path::new(".")))?;
        }
        Ok(())
    }
}

/// Makes something under a name that nothing has, and returns that name.
fn make_part<T>(make: impl Fn(&str) -> Result<T, Errno>) -> Result<(String, T), Errno> {
    for _ in 0..PART_TRIES {
        let number = getrandom::u64().map_err(|_no_source| Errno::IO)?;
        let name = format!("{PART}{number:016x}");
        match make(&name) {
            Err(Errno::EXIST) => {}
            made => return made.map(|made| (name, made)),
        }
    }
    Err(Errno::EXIST)
}

/// Owner, mode and attributes, in this order: a change of owner clears set-id bits and capabilities, which only a
/// file has. `root` is the container's, in which they hold.
fn finish(
    node: BorrowedFd<'_>,
    member: &Member,
    (uid, gid): (Uid, Gid),
    root: Option<u32>,
) -> Result<(), UnpackError> {
    let failed = |call| move |errno: Errno| UnpackError::write(call, &member.name, errno);
    rustix::fs::fchown(node, Some(uid), Some(gid)).map_err(failed("set the owner of"))?;
    rustix::fs::fchmod(node, Mode::from_raw_mode(member.mode)).map_err(failed("set the mode of"))?;
    for (attribute, value) in &member.xattrs {
        if let (capability::ATTRIBUTE, Some(root)) = (attribute.as_slice(), root) {
            let value = capability::for_disk(value.clone(), root).ok_or_else(|| {
                UnpackError::refused(&member.name, "its capabilities are in a form that is not known")
            })?;
            rustix::fs::fsetxattr(node, OsStr::from_bytes(attribute), &value, XattrFlags::empty())
                .map_err(failed("set the capabilities of"))?;
        }
        // What overlayfs obeys is its own.
        let ours = attribute.starts_with(b"user.") && !attribute.starts_with(b"user.overlay.");
        if ours && !attribute.contains(&0) {
            rustix::fs::fsetxattr(node, OsStr::from_bytes(attribute), value, XattrFlags::empty())
                .map_err(failed("set an attribute of"))?;
        }
    }
    Ok(())
}

fn timestamps(member: &Member) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: member.mtime.seconds,
            tv_nsec: member.mtime.nanoseconds.into(),
        },
    }
}
