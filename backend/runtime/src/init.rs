//! A small pid 1: runs the program as its child, forwards signals, reaps what nobody waits for.
//!
//! It is already confined like the program itself. It keeps none of the supervisor's descriptors,
//! and its memory is not readable from inside (not dumpable). It ends as its child ended: with the
//! child's status, or with 128 plus the signal's number, as shells say it.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use wharf_sys::process::{close_and_run, fork, reset_signals};

use crate::apparmor::Later;
use crate::error::{AtStage, Stage, StepError};
use crate::program::Program;
use crate::sync::Channel;

/// Leads a new session, with the terminal on standard input where there is one.
pub(crate) fn lead_session(terminal: bool) -> Result<(), StepError> {
    setsid().at(Stage::OpenTerminal, "session")?;
    if terminal {
        wharf_sys::tty::set_controlling(std::io::stdin().as_fd()).at(Stage::OpenTerminal, "")?;
    }
    Ok(())
}

/// Runs the program below this process, and ends when it has ended.
pub(crate) fn run(
    program: &Program,
    channel: &Channel,
    terminal: bool,
    label: Option<&Later<'_>>,
) -> StepError {
    // A session of its own, so that no signal to the supervisor's group comes here.
    if let Err(error) = lead_session(false) {
        return error;
    }
    // Blocked before the fork, so that no signal is lost between it and the first wait.
    if let Err(error) = SigSet::all().thread_set_mask().at(Stage::Execute, "signals") {
        return error;
    }
    let child = fork(|| {
        let error = lead_session(terminal)
            .and_then(|()| reset_signals().at(Stage::Execute, "signals"))
            .map_or_else(|error| error, |()| program.execute());
        channel.failed(&error);
        127
    });
    // Not before the fork: the child has asked for its profile, and may not ask from within one.
    if let Err(error) = label.map_or(Ok(()), Later::take) {
        return error;
    }
    match child.at(Stage::Clone, "") {
        Ok(child) => close_and_run(3, move || supervise(Pid::from_raw(child))),
        Err(error) => error,
    }
}

fn supervise(child: Pid) -> i32 {
    let all = SigSet::all();
    loop {
        match all.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(status) = reap(child) {
                    return status;
                }
            }
            // The child may be gone already; then its SIGCHLD is on its way.
            Ok(signal) => {
                kill(child, signal).ok();
            }
            // A real-time signal, which this enum cannot name.
            Err(_) => {}
        }
    }
}

/// Reaps everything that has ended; returns the status to end with when the child is among it.
fn reap(child: Pid) -> Option<i32> {
    let mut ended = None;
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => ended = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                ended = Some(128 + wharf_sys::signal_number(signal));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return ended,
        }
    }
}
