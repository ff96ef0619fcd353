//! Making, watching and signalling processes.
//!
//! A copy of a process may only go on in Rust (and allocate) when the original had one thread:
//! another thread could have held the allocator's lock, for ever held in the copy. So [`clone3`],
//! [`fork`] and [`fork_sibling`] ask the kernel, and refuse when there is a second thread. They run a
//! closure in the copy and end it with `_exit`, so that a copy never returns into its parent's code.
//! Sources: clone(2), `close_range(2)`, `pidfd_open(2)`, `PIDFD_GET_INFO` in `linux/pidfd.h`.

// UNSAFETY: makes processes and adopts descriptors that the kernel has just made.
#![expect(
    unsafe_code,
    reason = "clone3, fork, close_range, waitid's last argument and the pidfd calls are not in nix"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::error::{SysError, check, check_int};

/// Exit status of a copy whose closure panicked.
const PANICKED: i32 = 70;

/// `CLONE_INTO_CGROUP`, which does not fit the `c_int` that libc gives it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a copy gets of its own.
#[derive(Debug, Clone, Copy)]
pub struct CloneArgs<'fd> {
    /// `CLONE_NEW*` flags.
    pub namespaces: CloneFlags,
    /// Directory of the cgroup v2 group that the copy is born in (Linux 5.7).
    pub cgroup: Option<BorrowedFd<'fd>>,
}

/// Clones this process, runs `child` in the copy and ends the copy with the returned status.
///
/// # Errors
/// `EBUSY` when this process has more than one thread, else what clone3(2) says.
pub fn clone3(args: CloneArgs<'_>, child: impl FnOnce() -> i32) -> Result<(i32, OwnedFd), SysError> {
    require_one_thread("clone3")?;
    let mut pidfd: RawFd = -1;
    let namespaces = u64::from(args.namespaces.bits().cast_unsigned());
    let into_cgroup = if args.cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let raw = libc::clone_args {
        flags: namespaces | u64::from(libc::CLONE_PIDFD.cast_unsigned()) | into_cgroup,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        cgroup: args.cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
        ..NO_CLONE
    };
    let pid = copy(&raw, child)?;
    // SAFETY: with CLONE_PIDFD the kernel wrote a new descriptor, owned by nobody else, to `pidfd`.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((pid, pidfd))
}

/// Clones this process into a child of its own parent, runs `child` in the copy and ends the copy with the
/// returned status. Who started this process is told of the copy's end, by the signal of its own.
///
/// # Errors
/// As for [`clone3`].
pub fn fork_sibling(child: impl FnOnce() -> i32) -> Result<i32, SysError> {
    require_one_thread("clone3")?;
    let raw = libc::clone_args { flags: u64::from(libc::CLONE_PARENT.cast_unsigned()), ..NO_CLONE };
    copy(&raw, child)
}

/// A copy without anything of its own.
const NO_CLONE: libc::clone_args = libc::clone_args {
    flags: 0,
    pidfd: 0,
    child_tid: 0,
    parent_tid: 0,
    exit_signal: 0,
    stack: 0,
    stack_size: 0,
    tls: 0,
    set_tid: 0,
    set_tid_size: 0,
    cgroup: 0,
};

/// The caller has made sure that this process has one thread, and asks neither for shared memory nor for a
/// stack.
fn copy(raw: &libc::clone_args, child: impl FnOnce() -> i32) -> Result<i32, SysError> {
    // SAFETY: `raw` is a valid clone_args of the passed size that lives over the call; without
    // CLONE_VM and with a null stack the copy goes on on its own copy of this stack (as fork does);
    // this process has one thread, so no lock is held by a thread that the copy lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const *raw, size_of_val(raw)) };
    if check("clone3", pid)? == 0 {
        run_and_exit(child);
    }
    i32::try_from(pid).map_err(|_too_big| SysError::new("clone3", Errno::EOVERFLOW))
}

/// Forks this process by the C library, runs `child` in the copy and ends the copy with the returned
/// status.
///
/// # Errors
/// `EBUSY` when this process has more than one thread, else what fork(2) says.
pub fn fork(child: impl FnOnce() -> i32) -> Result<i32, SysError> {
    require_one_thread("fork")?;
    // SAFETY: this process has one thread, so the copy finds no lock held by a thread that it lacks.
    let pid = check_int("fork", unsafe { libc::fork() })?;
    if pid == 0 {
        run_and_exit(child);
    }
    Ok(pid)
}

/// Ends this process at once: no destructors, no buffers, no exit handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes any status and does not return.
    unsafe { libc::_exit(status) }
}

fn run_and_exit(child: impl FnOnce() -> i32) -> ! {
    exit_now(catch_unwind(AssertUnwindSafe(child)).unwrap_or(PANICKED))
}

/// Refuses with `EBUSY` unless this process has one thread, and its memory for itself.
///
/// To unshare what a thread shares does nothing for a process with one, and is refused for others
/// (unshare(2), `CLONE_THREAD`). Behind a system call filter that question may be refused too; then
/// `/proc/self/status` is asked, which takes longer.
fn require_one_thread(call: &'static str) -> Result<(), SysError> {
    let one = match nix::sched::unshare(CloneFlags::CLONE_THREAD) {
        Ok(()) => true,
        Err(Errno::EINVAL) => false,
        Err(_) => {
            let status = std::fs::read_to_string("/proc/self/status")
                .map_err(|error| SysError::from_io(call, &error))?;
            status.lines().any(|line| line.strip_prefix("Threads:").is_some_and(|n| n.trim() == "1"))
        }
    };
    if one { Ok(()) } else { Err(SysError::new(call, Errno::EBUSY)) }
}

/// Returns a descriptor of a running process.
///
/// # Errors
/// `ESRCH` when there is none; what `pidfd_open(2)` says.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, SysError> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = check("pidfd_open", unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    crate::socket::adopt("pidfd_open", fd)
}

/// Signals the process of a pidfd; 0 only asks whether it can be signalled.
///
/// # Errors
/// `ESRCH` when it has ended and was waited for; what `pidfd_send_signal(2)` says.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), SysError> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open as long as it is borrowed; a null siginfo is allowed.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    check("pidfd_send_signal", done).map(drop)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It returned this status.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl Ended {
    /// Decodes the status word of wait(2).
    pub fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }
}

/// Returns how the process of a pidfd ended, though it is not our child.
///
/// `None` while it runs, or before its parent (or the kernel, for an orphan) has reaped it.
///
/// # Errors
/// `ENOTTY` before Linux 6.13, `EINVAL` where the kernel cannot tell exits (before 6.15).
pub fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> Result<Option<Ended>, SysError> {
    let mut info = PidfdInfo { mask: u64::from(libc::PIDFD_INFO_EXIT), ..PidfdInfo::default() };
    // SAFETY: `info` is a writable struct of PIDFD_INFO_SIZE_VER0 bytes, the size in the number.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    match check_int("pidfd_get_info", done) {
        Ok(_) if info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0 => {
            Ok(Some(Ended::from_wait_status(info.exit_code)))
        }
        Ok(_) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `struct pidfd_info`, version 0; libc's own is `non_exhaustive` and cannot be made.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// A child that was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// How it ended.
    pub ended: Ended,
    /// CPU time of its threads, and of the children that it waited for itself.
    pub cpu: Duration,
}

/// Reaps the child of a pidfd; `None` while it runs.
///
/// As wait4(2), which cannot take a pidfd, it tells what the child used: the last argument of the
/// kernel's `waitid`, which the C library leaves out.
///
/// # Errors
/// `ECHILD` when it is no child of this process any more; what `waitid(2)` says.
pub fn try_reap(pidfd: BorrowedFd<'_>) -> Result<Option<Reaped>, SysError> {
    // SAFETY: both are plain C structs, for which all zero is a value.
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG;
    // SAFETY: both structs are writable and of the kernel's form; the descriptor is open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            &raw mut info,
            options,
            &raw mut usage,
        )
    };
    check("waitid", done)?;
    // SAFETY: waitid fills this field, or leaves it zero when no child has ended.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // SAFETY: as above; a child has ended.
    let status = unsafe { info.si_status() };
    let ended = if info.si_code == libc::CLD_EXITED { Ended::Code(status) } else { Ended::Signal(status) };
    Ok(Some(Reaped { ended, cpu: duration(usage.ru_utime) + duration(usage.ru_stime) }))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}

/// Sets close-on-exec on every descriptor from `first` up (Linux 5.11).
///
/// # Errors
/// What `close_range(2)` says.
pub fn close_on_exec_from(first: u32) -> Result<(), SysError> {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing, so no owned descriptor becomes dangling.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check("close_range", done).map(drop)
}

/// Closes every descriptor from `first` up, runs `last`, and ends this process with its status.
///
/// For a process that never executes another program: it must not keep its parent's files open.
/// `last` may not borrow, so that it cannot use a descriptor that is closed now.
pub fn close_and_run(first: u32, last: impl FnOnce() -> i32 + 'static) -> ! {
    // SAFETY: every owner of a closed descriptor is on a stack that is never returned to, and `last`
    // borrows from none of them; nothing is dropped before `_exit`.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    run_and_exit(last)
}

/// Gives every signal its default action again and blocks none, as a new program expects.
///
/// Ignored signals (Rust ignores `SIGPIPE`) and the mask would outlive execve(2).
///
/// # Errors
/// What sigprocmask(2) says.
pub fn reset_signals() -> Result<(), SysError> {
    // `struct sigaction` of the kernel (its largest form): all zero is SIG_DFL without flags. The raw
    // call, because the C library keeps two real-time signals to itself that can be ignored all the same.
    let default = [0_u64; 4];
    let old: *mut u64 = std::ptr::null_mut();
    for signal in 1..=64 {
        // SAFETY: `default` is at least as long as the kernel's struct; no handler of ours is installed.
        // SIGKILL and SIGSTOP are refused, which is as good.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8) };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask().map_err(SysError::on("sigprocmask"))
}

/// Gives `SIGCHLD` its default action again: where it is ignored, children leave no status behind.
///
/// # Errors
/// What sigaction(2) says.
pub fn heed_children() -> Result<(), SysError> {
    // See `reset_signals`.
    let default = [0_u64; 4];
    let old: *mut u64 = std::ptr::null_mut();
    let signal = libc::SIGCHLD;
    // SAFETY: `default` is at least as long as the kernel's struct; no handler of ours is installed.
    let done = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8) };
    check("rt_sigaction", done).map(drop)
}

/// Puts `fd` in place of descriptor `number` (0, 1 or 2), without close-on-exec.
///
/// # Errors
/// `EINVAL` for another number; what dup2(2) says.
pub fn set_standard_stream(fd: BorrowedFd<'_>, number: i32) -> Result<(), SysError> {
    if !(0..=2).contains(&number) {
        return Err(SysError::new("dup2", Errno::EINVAL));
    }
    if fd.as_raw_fd() == number {
        return nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .map(drop)
            .map_err(SysError::on("fcntl"));
    }
    // SAFETY: replacing a standard stream is what std's own types expect at any time; both numbers
    // are plain integers to the kernel.
    check_int("dup2", unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Test programs have threads, which is the very case that must be refused.
    #[test]
    fn clone3_and_fork_refuse_a_process_with_threads() {
        let other = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| other.wait());
            let args = CloneArgs { namespaces: CloneFlags::empty(), cgroup: None };
            assert_eq!(clone3(args, || 0).expect_err("two threads").errno, Errno::EBUSY);
            assert_eq!(fork(|| 0).expect_err("two threads").errno, Errno::EBUSY);
            other.wait();
        });
    }

    #[test]
    fn a_pidfd_of_this_process_can_be_probed_with_signal_zero() {
        let own = pidfd_open(i32::try_from(std::process::id()).expect("pid")).expect("pidfd");
        pidfd_send_signal(own.as_fd(), 0).expect("signal 0");
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "waiting for it is what is tested")]
    fn a_child_is_reaped_once_with_its_status_and_its_cpu_time() {
        let spin = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; read x; exit 7";
        let mut child = std::process::Command::new("sh")
            .args(["-c", spin])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh");
        let pidfd = pidfd_open(i32::try_from(child.id()).expect("pid")).expect("pidfd");
        assert_eq!(try_reap(pidfd.as_fd()).expect("runs"), None);
        drop(child.stdin.take());
        let reaped = loop {
            match try_reap(pidfd.as_fd()).expect("a child") {
                Some(reaped) => break reaped,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(reaped.ended, Ended::Code(7));
        assert!(reaped.cpu > Duration::from_micros(500), "{:?}", reaped.cpu);
        assert_eq!(try_reap(pidfd.as_fd()).expect_err("it is gone").errno, Errno::ECHILD);
    }

    #[test]
    fn a_wait_status_tells_codes_from_signals() {
        assert_eq!(Ended::from_wait_status(0x0700), Ended::Code(7));
        assert_eq!(Ended::from_wait_status(9), Ended::Signal(9));
        assert_eq!(Ended::from_wait_status(0x8b), Ended::Signal(11), "core bit is not part of it");
    }
}
