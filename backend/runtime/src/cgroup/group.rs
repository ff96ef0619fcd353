//! One group: the same relative path in every hierarchy of the host.
//!
//! Nothing here moves a process by its number: on an idle host that waits for a grace period of the
//! kernel (milliseconds). Processes are born into the unified group (`CLONE_INTO_CGROUP`) and write
//! `0` into each v1 `tasks` themselves. Source: `cgroup-v2.rst`, `cgroup-v1/*.rst` of the kernel.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wharf_sys::SysError;

use super::{Controller, DeviceRule, Layout, LayoutKind, device_program};

/// How long freezing or killing a v1 group may take before it is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a container may make of a group that is its own to divide: more than any init system does, and no
/// burden for the kernel.
const DEPTH_MAX: &str = "16";
const DESCENDANTS_MAX: &str = "2048";
/// The group below a divided one that processes join from outside.
const JOINED: &str = "wharf.exec";

/// Marks a unified group that was killed, see [`Birth`].
const KILLED: &CStr = c"trusted.wharf.killed";

/// How a process gets into the unified group.
///
/// To be born there is exact and fast. But since Linux 6.14 a process is killed at birth by
/// `CLONE_INTO_CGROUP` when its new group has been killed another number of times than its parent's:
/// the kernel compares the wrong two counters (`kill_seq` in `cgroup_css_set_fork`). A group that was
/// killed is entered by the process itself, and so is one whose first child was stillborn because the
/// supervisor's own group was killed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Birth {
    /// `CLONE_INTO_CGROUP`.
    Inside,
    /// The process moves itself, as into a v1 hierarchy.
    Outside,
}

/// Why something could not be done to a group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The relative path is absolute, empty or leaves the hierarchy.
    #[error("{} is not a path of a group", .0.display())]
    BadPath(PathBuf),
    /// The group is in none of the hierarchies.
    #[error("there is no group {}", .0.display())]
    Missing(PathBuf),
    /// A directory could not be made.
    #[error("cannot make the group {}", path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {value:?} to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Directories that could not be removed; all others were.
    #[error("cannot remove {}", list(.0))]
    Remove(Vec<(PathBuf, Errno)>),
    /// The group did not reach the state in time.
    #[error("the group {} is not {state} after {} s", path.display(), PATIENCE.as_secs())]
    Timeout {
        /// The group.
        path: PathBuf,
        /// What was waited for.
        state: &'static str,
    },
    /// The v2 device program was refused.
    #[error("cannot restrict the devices of {}", path.display())]
    Devices {
        /// The group.
        path: PathBuf,
        /// What the kernel said.
        source: SysError,
    },
    /// This host has no way to do it.
    #[error("this host's cgroups cannot {0}")]
    Unsupported(&'static str),
}

fn list(failures: &[(PathBuf, Errno)]) -> String {
    let each: Vec<String> =
        failures.iter().map(|(path, errno)| format!("{} ({errno})", path.display())).collect();
    each.join(", ")
}

/// A group that exists.
#[derive(Debug, Clone)]
pub struct Cgroup {
    layout: Layout,
    relative: PathBuf,
}

impl Cgroup {
    /// Makes the group, and those above it, in every hierarchy; existing ones are kept.
    ///
    /// On a v2 host the controllers are switched on for it from the root down.
    ///
    /// # Errors
    /// When a directory cannot be made; those made by this call are removed again.
    pub fn create(layout: &Layout, relative: &Path) -> Result<Self, CgroupError> {
        let group = Self::at(layout, relative)?;
        let mut made = Vec::new();
        for root in layout.hierarchies() {
            if let Err(error) = group.create_in(root, &mut made) {
                for path in made.iter().rev() {
                    // Best effort: the first error is the one that tells.
                    drop(fs::remove_dir(path));
                }
                return Err(error);
            }
        }
        Ok(group)
    }

    fn create_in(&self, root: &Path, made: &mut Vec<PathBuf>) -> Result<(), CgroupError> {
        let v2 = self.layout.kind() == LayoutKind::V2;
        let leaf = root.join(&self.relative);
        if !v2 && self.layout.legacy(Controller::CpuSet) != Some(root) {
            // Nothing is to be done on the way, which is mostly there.
            match fs::create_dir(&leaf) {
                Ok(()) => {
                    made.push(leaf);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
                Err(_) => {}
            }
        }
        let cpuset = self.layout.legacy(Controller::CpuSet) == Some(root);
        let mut path = root.to_owned();
        for part in self.relative.components() {
            if v2 {
                hand_down(&path, &Controller::ALL)?;
            }
            let parent = path.clone();
            path.push(part);
            match fs::create_dir(&path) {
                Ok(()) => made.push(path.clone()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(CgroupError::Make { path, source }),
            }
            if cpuset {
                // A v1 cpuset takes no task before it has CPUs and memory nodes.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    write_file(&path.join(file), read_file(&parent.join(file))?.trim())?;
                }
            }
        }
        Ok(())
    }

    /// Takes the group as it is.
    ///
    /// # Errors
    /// When it is in none of the hierarchies.
    pub fn open(layout: &Layout, relative: &Path) -> Result<Self, CgroupError> {
        let group = Self::at(layout, relative)?;
        if group.dirs().iter().any(|dir| dir.is_dir()) {
            Ok(group)
        } else {
            Err(CgroupError::Missing(relative.to_owned()))
        }
    }

    fn at(layout: &Layout, relative: &Path) -> Result<Self, CgroupError> {
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || relative.as_os_str().is_empty() {
            return Err(CgroupError::BadPath(relative.to_owned()));
        }
        Ok(Self { layout: layout.clone(), relative: relative.to_owned() })
    }

    /// Returns the relative path.
    pub fn path(&self) -> &Path {
        &self.relative
    }

    /// Returns the directory that limits and counters of a controller are in, if the host has it.
    pub fn dir(&self, controller: Controller) -> Option<PathBuf> {
        self.layout.controller_root(controller).map(|root| root.join(&self.relative))
    }

    /// Returns the directory in the unified tree, if the host has one.
    pub fn unified_dir(&self) -> Option<PathBuf> {
        self.layout.unified().map(|root| root.join(&self.relative))
    }

    /// Returns the directory that a controller's limits are in, also where no v1 hierarchy has taken the
    /// controller: then it is had handed down from the root of the unified tree to this group. `None`
    /// when the host does not have it.
    pub(super) fn dir_of_any(&self, controller: Controller) -> Result<Option<PathBuf>, CgroupError> {
        let legacy = self.layout.legacy(controller).is_some();
        let Some(root) = self.layout.unified().filter(|_| !legacy) else { return Ok(self.dir(controller)) };
        if !offers(root, controller) {
            return Ok(None);
        }
        let mut path = root.to_owned();
        for part in self.relative.components() {
            hand_down(&path, &[controller])?;
            path.push(part);
        }
        Ok(Some(path))
    }

    fn dirs(&self) -> Vec<PathBuf> {
        self.layout.hierarchies().into_iter().map(|root| root.join(&self.relative)).collect()
    }

    /// Returns how a process is to get into the unified group.
    pub(crate) fn birth(&self) -> Birth {
        if self.was_killed() { Birth::Outside } else { Birth::Inside }
    }

    /// Returns whether [`Cgroup::kill`] was ever called for it, by whichever process.
    pub(crate) fn was_killed(&self) -> bool {
        self.unified_dir().is_some_and(|dir| wharf_sys::xattr::has(&dir, KILLED).unwrap_or(false))
    }

    /// Opens what a process needs to get into this group.
    pub(crate) fn entrance(&self, birth: Birth) -> Result<Entrance, CgroupError> {
        let read = |path: PathBuf, source| CgroupError::Read { path, source };
        let mut joins: Vec<PathBuf> = Vec::new();
        let mut unified = None;
        match (self.unified_entrance()?, birth) {
            (Some(path), Birth::Inside) => {
                let flags = nix::libc::O_DIRECTORY | nix::libc::O_PATH;
                let dir = OpenOptions::new().read(true).custom_flags(flags).open(&path);
                unified = Some(dir.map_err(|source| read(path, source))?.into());
            }
            (Some(path), Birth::Outside) => joins.push(path.join("cgroup.procs")),
            (None, _) => {}
        }
        let legacy = self.layout.legacy_hierarchies();
        joins.extend(legacy.iter().map(|(_, root)| root.join(&self.relative).join("tasks")));
        let open =
            |path: PathBuf| OpenOptions::new().write(true).open(&path).map_err(|source| read(path, source));
        Ok(Entrance { unified, joins: joins.into_iter().map(open).collect::<Result<_, _>>()? })
    }

    /// Sends SIGKILL to every process in the group and below it; does not wait for their end.
    ///
    /// # Errors
    /// When a file cannot be written, or on a v1 host when processes outlive a five seconds' effort.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Some(file) = self.unified_file("cgroup.kill") {
            if let Some(dir) = self.unified_dir() {
                // Best effort: where it fails, the next launch finds out the slow way.
                wharf_sys::xattr::set(&dir, KILLED, b"1").ok();
            }
            return write_file(&file, "1");
        }
        // Frozen tasks cannot fork; each round kills all that are there, until none is left.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let frozen = self.freeze();
            let pids = self.pids()?;
            for pid in &pids {
                match kill(Pid::from_raw(*pid), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => {
                        let (path, source) = (self.relative.clone(), std::io::Error::from(errno));
                        return Err(CgroupError::Write { path, value: format!("SIGKILL {pid}"), source });
                    }
                }
            }
            if frozen.is_ok() {
                self.thaw()?;
            }
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(CgroupError::Timeout { path: self.relative.clone(), state: "empty" });
            }
            pause();
        }
    }

    /// Stops every process of the group and waits until all have stopped.
    ///
    /// # Errors
    /// When they have not stopped within five seconds, or the host cannot freeze.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.is_frozen()? {
            if Instant::now() > deadline {
                self.set_frozen(false)?;
                return Err(CgroupError::Timeout { path: self.relative.clone(), state: "frozen" });
            }
            pause();
            if self.unified_file("cgroup.freeze").is_none() {
                // v1 catches a task that was forking only when it is told again.
                self.set_frozen(true)?;
            }
        }
        Ok(())
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// When the file cannot be written, or the host cannot freeze.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        if let Some(file) = self.unified_file("cgroup.freeze") {
            return write_file(&file, if frozen { "1" } else { "0" });
        }
        let file = self.freezer_file()?;
        write_file(&file, if frozen { "FROZEN" } else { "THAWED" })
    }

    /// Returns whether all processes are stopped.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        if let Some(file) = self.unified_file("cgroup.events") {
            return Ok(read_file(&file)?.lines().any(|line| line == "frozen 1"));
        }
        Ok(read_file(&self.freezer_file()?)?.trim() == "FROZEN")
    }

    fn freezer_file(&self) -> Result<PathBuf, CgroupError> {
        let root = self.layout.legacy(Controller::Freezer).ok_or(CgroupError::Unsupported("freeze"))?;
        Ok(root.join(&self.relative).join("freezer.state"))
    }

    /// Returns the file in the unified tree when this kernel has it.
    fn unified_file(&self, name: &str) -> Option<PathBuf> {
        self.unified_dir().map(|dir| dir.join(name)).filter(|file| file.exists())
    }

    /// Returns the processes of the group and of all below it.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = Vec::new();
        if let Some(dir) = self.dirs().into_iter().find(|dir| dir.is_dir()) {
            collect_pids(&dir, &mut pids)?;
        }
        Ok(pids)
    }

    /// Returns whether no process is in the group or below it.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn is_empty(&self) -> Result<bool, CgroupError> {
        if let Some(file) = self.unified_file("cgroup.events") {
            return Ok(read_file(&file)?.lines().any(|line| line == "populated 0"));
        }
        Ok(self.pids()?.is_empty())
    }

    /// Removes the group and all below it from every hierarchy; one that is not there is fine.
    ///
    /// # Errors
    /// The directories that are still there, after all others were removed (`EBUSY`: processes).
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut failures = Vec::new();
        for dir in self.dirs() {
            remove_tree(&dir, &mut failures);
        }
        if failures.is_empty() { Ok(()) } else { Err(CgroupError::Remove(failures)) }
    }

    /// Removes the group as [`Cgroup::remove`] does, once its last process has ended.
    ///
    /// # Errors
    /// When that is not so within five seconds; what [`Cgroup::remove`] says.
    pub fn remove_when_empty(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_empty()? {
            if Instant::now() > deadline {
                return Err(CgroupError::Timeout { path: self.relative.clone(), state: "empty" });
            }
            pause();
        }
        self.remove()
    }

    /// Hands the unified group over to a container's root (`cgroup-v2.rst`, "Delegation"): it may make groups
    /// below, within bounds, and move its own processes between them. Limits stay ours.
    ///
    /// # Errors
    /// When this host has no unified tree, or a file cannot be changed.
    pub fn delegate(&self, owner: u32) -> Result<(), CgroupError> {
        let dir = self.unified_dir().ok_or(CgroupError::Unsupported("divide a group"))?;
        for (name, most) in [("cgroup.max.depth", DEPTH_MAX), ("cgroup.max.descendants", DESCENDANTS_MAX)] {
            write_file(&dir.join(name), most)?;
        }
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            let path = dir.join(name);
            chown(&path, Some(owner), Some(owner)).map_err(|source| CgroupError::Write {
                path,
                value: format!("owner {owner}"),
                source,
            })?;
        }
        Ok(())
    }

    /// Where processes join the unified group: itself, or a group of ours below where the container has
    /// divided it, since then it takes none itself ("No Internal Process Constraint").
    fn unified_entrance(&self) -> Result<Option<PathBuf>, CgroupError> {
        let Some(dir) = self.unified_dir() else { return Ok(None) };
        let divided = self.layout.kind() == LayoutKind::V2
            && !read_file(&dir.join("cgroup.subtree_control"))?.trim().is_empty();
        if !divided {
            return Ok(Some(dir));
        }
        let path = dir.join(JOINED);
        match fs::create_dir(&path) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                Err(CgroupError::Make { path, source })
            }
            _ => Ok(Some(path)),
        }
    }

    /// Denies all devices but those of the rules, for all processes that are or will be in here.
    ///
    /// # Errors
    /// When the rules cannot be written or the program is refused.
    pub fn allow_devices(&self, rules: &[DeviceRule]) -> Result<(), CgroupError> {
        if let Some(root) = self.layout.legacy(Controller::Devices) {
            let dir = root.join(&self.relative);
            write_file(&dir.join("devices.deny"), "a")?;
            let path = dir.join("devices.allow");
            let failed = |value: &str, source| CgroupError::Write {
                path: path.clone(),
                value: value.to_owned(),
                source,
            };
            let mut file =
                OpenOptions::new().write(true).open(&path).map_err(|source| failed("rules", source))?;
            return rules.iter().try_for_each(|rule| {
                let line = rule.legacy_line();
                file.write_all(line.as_bytes()).map_err(|source| failed(&line, source))
            });
        }
        let Some(path) = self.unified_dir() else { return Err(CgroupError::Unsupported("restrict devices")) };
        let dir = File::open(&path).map_err(|source| CgroupError::Read { path: path.clone(), source })?;
        wharf_sys::bpf::load_device_program(&device_program(rules))
            .and_then(|program| wharf_sys::bpf::attach_device_program(dir.as_fd(), program.as_fd()))
            .map_err(|source| CgroupError::Devices { path, source })
    }
}

/// Open files by which a process gets into a group.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// Directory to be born into.
    pub(crate) unified: Option<OwnedFd>,
    /// Files that the process writes `0` into, as its very first deed.
    joins: Vec<File>,
}

impl Entrance {
    /// Enters what the process was not born into: called by itself, while it has one thread.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        for mut file in &self.joins {
            file.write_all(b"0")
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
        }
        Ok(())
    }
}

/// Returns whether a group of the unified tree has a controller to give.
pub(super) fn offers(dir: &Path, controller: Controller) -> bool {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    available.split_whitespace().any(|name| Some(name) == controller.unified_name())
}

/// Hands those of the controllers that are available down to the children of a v2 group.
fn hand_down(dir: &Path, controllers: &[Controller]) -> Result<(), CgroupError> {
    let available = read_file(&dir.join("cgroup.controllers"))?;
    let active = read_file(&dir.join("cgroup.subtree_control"))?;
    let wanted: Vec<String> = controllers
        .iter()
        .filter_map(|controller| controller.unified_name())
        .filter(|name| available.split_whitespace().any(|other| other == *name))
        .filter(|name| active.split_whitespace().all(|other| other != *name))
        .map(|name| format!("+{name}"))
        .collect();
    if wanted.is_empty() {
        Ok(())
    } else {
        write_file(&dir.join("cgroup.subtree_control"), &wanted.join(" "))
    }
}

fn collect_pids(dir: &Path, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
    pids.extend(read_file(&dir.join("cgroup.procs"))?.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(dir) {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(dir: &Path, failures: &mut Vec<(PathBuf, Errno)>) {
    let removed = match fs::remove_dir(dir) {
        // Only few have groups below; to look first would cost all of them.
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            for child in children(dir) {
                remove_tree(&child, failures);
            }
            fs::remove_dir(dir)
        }
        other => other,
    };
    match removed {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            failures.push((dir.to_owned(), Errno::from_raw(error.raw_os_error().unwrap_or_default())));
        }
    }
}

fn read_file(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })
}

/// Writes a control file in one write, as the kernel wants it.
fn write_file(path: &Path, value: &str) -> Result<(), CgroupError> {
    let written =
        OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| CgroupError::Write { path: path.to_owned(), value: value.to_owned(), source })
}

/// Waits a millisecond between two looks at a state that the kernel does not announce on v1.
fn pause() {
    // An interrupted wait is only a shorter one.
    nix::poll::poll(&mut [], nix::poll::PollTimeout::from(1_u8)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_hierarchy_is_refused() {
        let layout = Layout::of(Some(PathBuf::from("/nowhere")), std::collections::BTreeMap::new());
        for bad in ["", "/abs", "../up", "a/../b", "."] {
            assert!(matches!(Cgroup::create(&layout, Path::new(bad)), Err(CgroupError::BadPath(_))), "{bad}");
        }
        assert!(matches!(Cgroup::open(&layout, Path::new("a")), Err(CgroupError::Missing(_))));
    }
}
