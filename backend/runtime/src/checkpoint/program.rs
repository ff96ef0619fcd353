//! CRIU's program on this host: where it is, and whether it says that this kernel can do what it needs.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where Debian and those who build it themselves put it.
const PROGRAMS: [&str; 3] = ["/usr/local/sbin/criu", "/usr/sbin/criu", "/usr/bin/criu"];
/// `criu check` tries some forty things, each in milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks, in milliseconds.
const PAUSE_MS: u8 = 5;

/// Why there are no checkpoints on this host.
#[derive(Debug, thiserror::Error)]
pub enum CriuError {
    /// It is in none of the usual places, and none was named.
    #[error("CRIU is not installed; install criu 4.1 or later, or name it in checkpoints.criu")]
    NotInstalled,
    /// It cannot be started or waited for.
    #[error("{} cannot be executed", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not end.
    #[error("`criu check` does not come to an end")]
    Endless,
    /// Something that it needs is missing.
    #[error("`{} check` says: {said}", program.display())]
    Refused {
        /// The program.
        program: PathBuf,
        /// Its words, in one line.
        said: String,
    },
}

/// Returns CRIU's program, once `criu check` is content: the one that is set, those in the usual places when
/// that is empty. Takes some hundred milliseconds.
///
/// # Errors
/// Why there are no checkpoints here.
pub fn criu(set: &Path) -> Result<PathBuf, CriuError> {
    let mut usual = PROGRAMS.into_iter().map(PathBuf::from).filter(|path| path.is_file());
    let set = (!set.as_os_str().is_empty()).then(|| set.to_owned());
    let program = set.or_else(|| usual.next()).ok_or(CriuError::NotInstalled)?;
    let failed = |source| CriuError::Execute { program: program.clone(), source };
    // One pipe for both streams, in the order in which it writes.
    let (mut reader, writer) = io::pipe().map_err(failed)?;
    let mut check = Command::new(&program);
    check.arg("check").env_clear().stdin(Stdio::null());
    check.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    let mut child = check.spawn().map_err(failed)?;
    // Its copies of the pipe's end go with it, so that reading ends with the child.
    drop(check);
    let Some(status) = wait(&mut child).map_err(failed)? else {
        // It is ours and was not waited for: its number is still its own.
        child.kill().and_then(|()| child.wait()).map_err(failed)?;
        return Err(CriuError::Endless);
    };
    if status.success() {
        return Ok(program);
    }
    let mut said = Vec::new();
    reader.read_to_end(&mut said).map_err(failed)?;
    let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
    Err(CriuError::Refused { program, said })
}

/// Waits for the end of a program that writes less than a pipe holds.
fn wait(child: &mut std::process::Child) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        // An interrupted wait is only a shorter one.
        nix::poll::poll(&mut [], nix::poll::PollTimeout::from(PAUSE_MS)).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_is_taken_when_it_is_content_and_else_its_words_are_told_in_one_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("criu");
        let script = "#!/bin/sh\n[ -z \"$HOME\" ] || exit 2\n[ ! -e $0.bad ] || {\n\
            echo 'Error: no vdso'; echo 'no tun' >&2; exit 1\n}\n[ \"$1\" = check ]\n";
        std::fs::write(&program, script).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
        assert_eq!(criu(&program).expect("content"), program);
        std::fs::write(dir.path().join("criu.bad"), "").expect("written");
        let error = criu(&program).expect_err("refused");
        assert!(error.to_string().ends_with("check` says: Error: no vdso; no tun"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = criu(Path::new("/nowhere/criu")).expect_err("nothing to execute");
        assert!(error.to_string().contains("/nowhere/criu"), "{error}");
    }
}
