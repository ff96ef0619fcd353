//! AppArmor: the profile that containers get, and how a process comes by it.
//!
//! The profile is one more wall behind those of namespaces, capabilities and system call filter, equal in
//! effect to Docker's `docker-default`: no mounts, no writes to the kernel's own files, and no tracing of or
//! signals to what is not in it too. A process asks for it while it still sees the host's own `/proc`, and gets
//! it when it executes its program.
//! Sources: apparmor.d(5), `apparmor_parser(8)`, `security/apparmor/lsm.c` (`apparmor_setprocattr`),
//! [docker-default](https://github.com/moby/profiles/blob/main/apparmor/template.go).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{AtStage, Stage, StepError};

/// Where Debian and others put the program that compiles and loads profiles.
const PARSERS: [&str; 3] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/bin/apparmor_parser"];
/// What it reads.
const DEFAULT: &str = include_str!("apparmor/default.profile");
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const FILE_SYSTEM: &str = "/sys/kernel/security/apparmor";

/// Whether profiles hold on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The kernel has no AppArmor, or it is switched off.
    Off,
    /// It is on, and none can be loaded.
    Unusable {
        /// Why.
        problem: &'static str,
        /// The way out.
        remedy: &'static str,
    },
    /// They can be loaded.
    Usable {
        /// By this program.
        parser: PathBuf,
    },
}

/// Looks at this host.
pub fn standing() -> Standing {
    let is_on = fs::read_to_string(ENABLED).is_ok_and(|text| text.starts_with('Y'));
    let parser = PARSERS.into_iter().map(PathBuf::from).find(|path| path.is_file());
    standing_of(is_on, Path::new(FILE_SYSTEM).is_dir(), parser)
}

fn standing_of(is_on: bool, is_mounted: bool, parser: Option<PathBuf>) -> Standing {
    match (is_on, is_mounted, parser) {
        (false, ..) => Standing::Off,
        (true, false, _) => Standing::Unusable {
            problem: "its file system is not mounted",
            remedy: "mount -t securityfs securityfs /sys/kernel/security, and start the agent again",
        },
        (true, true, None) => Standing::Unusable {
            problem: "apparmor_parser is not installed",
            remedy: "install the package apparmor, and start the agent again",
        },
        (true, true, Some(parser)) => Standing::Usable { parser },
    }
}

/// A profile was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its program cannot be executed.
    #[error("{} cannot be executed", parser.display())]
    Execute {
        /// The program.
        parser: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program or the kernel refused it.
    #[error("{} says: {said}", parser.display())]
    Refused {
        /// The program.
        parser: PathBuf,
        /// Its words, in one line.
        said: String,
    },
}

/// Loads the default profile under a name, in the place of one that has it. What runs in that one goes on.
///
/// # Errors
/// When it is refused.
pub fn load(parser: &Path, name: &str) -> Result<(), LoadError> {
    let failed = |source| LoadError::Execute { parser: parser.to_owned(), source };
    let mut command = Command::new(parser);
    // Nothing of the host's own configuration has a say, and no copy is kept.
    command.args(["--replace", "--skip-cache"]).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    // All of it fits the pipe. Who does not read it says why below.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text(name).as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return written.map_err(failed);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(LoadError::Refused { parser: parser.to_owned(), said })
}

/// The default profile under this name.
fn text(name: &str) -> String {
    DEFAULT.replace("@NAME@", name)
}

/// Lets this process have a profile from its next execve on. To be called while it still sees the host's
/// `/proc`: a container's may lie.
///
/// # Errors
/// `ENOENT` when no profile of the name is loaded, or the kernel has no AppArmor.
pub(crate) fn take_on_exec(profile: Option<&str>) -> Result<(), StepError> {
    let Some(profile) = profile else { return Ok(()) };
    open("exec")
        .and_then(|file| write(&file, "exec", profile))
        .at(Stage::DropPrivileges, format!("for the AppArmor profile {profile}"))
}

/// The own profile of a process that executes nothing, to be taken later.
#[derive(Debug)]
pub(crate) struct Later<'name> {
    file: File,
    profile: &'name str,
}

impl<'name> Later<'name> {
    /// Opens what is written when it is taken. The host's `/proc` again.
    pub(crate) fn prepare(profile: Option<&'name str>) -> Result<Option<Self>, StepError> {
        let Some(profile) = profile else { return Ok(None) };
        let file =
            open("current").at(Stage::DropPrivileges, format!("for the AppArmor profile {profile}"))?;
        Ok(Some(Self { file, profile }))
    }

    /// Takes it.
    pub(crate) fn take(&self) -> Result<(), StepError> {
        write(&self.file, "changeprofile", self.profile)
            .at(Stage::DropPrivileges, format!("for the AppArmor profile {}", self.profile))
    }
}

/// Opens one of this thread's own attributes; before Linux 5.8 they are not by module.
fn open(attribute: &str) -> Result<File, Errno> {
    let in_directory = |directory: &str| {
        File::options().write(true).open(format!("/proc/thread-self/attr/{directory}{attribute}"))
    };
    let opened = match in_directory("apparmor/") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => in_directory(""),
        other => other,
    };
    let file = opened.map_err(|error| errno_of(&error))?;
    if fstatfs(&file)?.filesystem_type() == PROC_SUPER_MAGIC { Ok(file) } else { Err(Errno::ENODEV) }
}

/// The kernel takes one order by one write.
fn write(mut file: &File, order: &str, profile: &str) -> Result<(), Errno> {
    file.write_all(format!("{order} {profile}").as_bytes()).map_err(|error| errno_of(&error))
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_way_out() {
        assert_eq!(standing_of(false, true, Some("/p".into())), Standing::Off);
        assert_eq!(standing_of(true, true, Some("/p".into())), Standing::Usable { parser: "/p".into() });
        let unusable = |mounted, parser| match standing_of(true, mounted, parser) {
            Standing::Unusable { remedy, .. } => remedy,
            other => panic!("{other:?}"),
        };
        assert!(unusable(false, Some("/p".into())).contains("securityfs"));
        assert!(unusable(true, None).contains("package apparmor"));
    }

    #[test]
    fn the_profile_is_named_wherever_it_names_itself() {
        let text = text("wharf-default-x");
        assert!(text.contains("\nprofile wharf-default-x flags=") && !text.contains('@'), "{text}");
        assert_eq!(text.matches("peer=wharf-default-x,").count(), 2);
    }

    #[test]
    fn a_parser_that_refuses_is_told_in_its_own_words() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("directory");
        let parser = dir.path().join("parser");
        fs::write(&parser, "#!/bin/sh\nread -r first\necho bad >&2\necho line >&2\nexit 1\n").expect("file");
        fs::set_permissions(&parser, fs::Permissions::from_mode(0o755)).expect("mode");
        let error = load(&parser, "x").expect_err("refused");
        assert!(error.to_string().ends_with("says: bad; line"), "{error}");
    }
}
