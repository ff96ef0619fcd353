//! How a launch fails: at which step, on what, and with which error number.
//!
//! The child has no way to return a Rust error to its parent, so a failed step crosses the sync
//! socket as a number, an error number and a short text, and becomes a [`StepError`] again there.

use nix::errno::Errno;
use wharf_sys::SysError;

use crate::cgroup::{CgroupError, LayoutError};
use crate::spec::SpecError;

/// The steps of a launch or an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Talking with the process that is being made.
    Sync,
    /// Making the process.
    Clone,
    /// Entering its cgroup.
    EnterCgroup,
    /// Mapping its user ids.
    MapIds,
    /// Becoming root of its user namespace.
    BecomeRoot,
    /// Entering the namespaces of a running container.
    EnterNamespaces,
    /// Making the root file system.
    MakeRootfs,
    /// Making the devices.
    MakeDevices,
    /// Mounting.
    Mount,
    /// Hiding a path.
    Mask,
    /// Changing the root.
    PivotRoot,
    /// Setting the host name.
    SetHostname,
    /// Setting a kernel parameter.
    SetParameter,
    /// Switching the loopback interface on.
    SetLoopback,
    /// Opening the terminal.
    OpenTerminal,
    /// Connecting standard input and output.
    ConnectStreams,
    /// Looking up the user.
    FindUser,
    /// Entering the working directory.
    EnterDirectory,
    /// Setting a resource limit.
    SetLimit,
    /// Giving privileges up.
    DropPrivileges,
    /// Loading the seccomp filter.
    LoadSeccomp,
    /// Executing the program.
    Execute,
    /// Restoring a checkpoint.
    Restore,
}

impl Stage {
    const ALL: [Self; 23] = [
        Self::Sync,
        Self::Clone,
        Self::EnterCgroup,
        Self::MapIds,
        Self::BecomeRoot,
        Self::EnterNamespaces,
        Self::MakeRootfs,
        Self::MakeDevices,
        Self::Mount,
        Self::Mask,
        Self::PivotRoot,
        Self::SetHostname,
        Self::SetParameter,
        Self::SetLoopback,
        Self::OpenTerminal,
        Self::ConnectStreams,
        Self::FindUser,
        Self::EnterDirectory,
        Self::SetLimit,
        Self::DropPrivileges,
        Self::LoadSeccomp,
        Self::Execute,
        Self::Restore,
    ];

    /// Returns the number that stands for the step between processes.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the step of a number; unknown ones are [`Stage::Sync`].
    pub fn of_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Sync)
    }

    /// Returns what is being done, to follow "cannot".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Sync => "talk with the new process",
            Self::Clone => "make the process",
            Self::EnterCgroup => "enter the cgroup",
            Self::MapIds => "map user ids",
            Self::BecomeRoot => "become the container's root",
            Self::EnterNamespaces => "enter the container's namespaces",
            Self::MakeRootfs => "make the root file system",
            Self::MakeDevices => "make device nodes",
            Self::Mount => "mount",
            Self::Mask => "hide or protect",
            Self::PivotRoot => "change the root",
            Self::SetHostname => "set the host name",
            Self::SetParameter => "set the kernel parameter",
            Self::SetLoopback => "switch on the loopback interface",
            Self::OpenTerminal => "open the terminal",
            Self::ConnectStreams => "connect standard input and output",
            Self::FindUser => "find the user",
            Self::EnterDirectory => "enter the working directory",
            Self::SetLimit => "set the resource limit",
            Self::DropPrivileges => "give up privileges",
            Self::LoadSeccomp => "load the seccomp filter",
            Self::Execute => "execute",
            Self::Restore => "restore the checkpoint",
        }
    }
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {}{}{detail}", stage.describe(), if detail.is_empty() { "" } else { " " })]
pub struct StepError {
    /// Which.
    pub stage: Stage,
    /// On what: a path, a name; may be empty.
    pub detail: String,
    /// What the kernel said.
    #[source]
    pub errno: Errno,
}

/// Why a container or exec did not come to life.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The description cannot work.
    #[error("the description of the container cannot be used")]
    Spec(#[from] SpecError),
    /// The host's cgroups are not as they must be.
    #[error("the host's cgroups are not usable")]
    Layout(#[from] LayoutError),
    /// The container's cgroup is not as it must be.
    #[error("the container's cgroup is not usable")]
    Cgroup(#[from] CgroupError),
    /// CRIU did not restore the checkpoint.
    #[error("CRIU cannot restore the processes: {reason}")]
    Restore {
        /// In its own words.
        reason: String,
    },
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl LaunchError {
    /// Returns the step, for those errors that have one.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Step(step) => Some(step.stage),
            Self::Layout(_) | Self::Cgroup(_) => Some(Stage::EnterCgroup),
            Self::Restore { .. } => Some(Stage::Restore),
            Self::Spec(_) => None,
        }
    }

    /// Returns the kernel's error number, for those errors that have one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Step(step) => Some(SysError::new("", step.errno).raw()),
            Self::Spec(_) | Self::Layout(_) | Self::Cgroup(_) | Self::Restore { .. } => None,
        }
    }
}

/// Puts a step to a bare error.
pub(crate) trait AtStage<T> {
    /// Names the step and what it was done on.
    fn at(self, stage: Stage, detail: impl Into<String>) -> Result<T, StepError>;
}

impl<T, E: AsErrno> AtStage<T> for Result<T, E> {
    fn at(self, stage: Stage, detail: impl Into<String>) -> Result<T, StepError> {
        self.map_err(|error| StepError { stage, detail: detail.into(), errno: error.as_errno() })
    }
}

/// An error that is or has an error number.
pub(crate) trait AsErrno {
    /// Returns the number; `EIO` when there is none.
    fn as_errno(&self) -> Errno;
}

impl AsErrno for Errno {
    fn as_errno(&self) -> Errno {
        *self
    }
}

impl AsErrno for SysError {
    fn as_errno(&self) -> Errno {
        self.errno
    }
}

impl AsErrno for std::io::Error {
    fn as_errno(&self) -> Errno {
        self.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_crosses_as_its_number() {
        for stage in Stage::ALL {
            assert_eq!(Stage::of_number(stage.number()), stage);
        }
        assert_eq!(Stage::of_number(200), Stage::Sync);
    }

    #[test]
    fn an_error_tells_what_was_attempted_and_keeps_the_cause_apart() {
        let error = StepError { stage: Stage::Mount, detail: "/proc".into(), errno: Errno::EPERM };
        assert_eq!(error.to_string(), "cannot mount /proc");
        assert!(std::error::Error::source(&error).is_some());
    }
}
