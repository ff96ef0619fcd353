//! The program to execute: its arguments, its environment, and where it may lie.

use std::convert::Infallible;
use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::execve;

use crate::error::{AtStage, Stage, StepError};
use crate::spec::ProcessSpec;
use crate::user::Identity;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything for execve, made before the last privileges go.
#[derive(Debug)]
pub(crate) struct Program {
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Prepares the program; `HOME` is the user's unless the description sets it.
    pub(crate) fn prepare(spec: &ProcessSpec, identity: &Identity) -> Result<Self, StepError> {
        let mut environment = spec.env.clone();
        if !environment.iter().any(|pair| pair.starts_with("HOME=")) {
            environment.push(format!("HOME={}", identity.home.as_deref().unwrap_or("/")));
        }
        let name = spec.args.first().map(String::as_str).unwrap_or_default();
        let path = environment.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        let strings = |texts: &[String]| {
            let made: Result<Vec<CString>, _> =
                texts.iter().map(|text| CString::new(text.as_str())).collect();
            made.map_err(|_nul| Errno::EINVAL).at(Stage::Execute, name)
        };
        Ok(Self {
            candidates: strings(&candidates(name, path))?,
            arguments: strings(&spec.args)?,
            environment: strings(&environment)?,
        })
    }

    /// Becomes the program; returns only when none of the candidates can be executed.
    pub(crate) fn execute(&self) -> StepError {
        let mut worst = Errno::ENOENT;
        for candidate in &self.candidates {
            let result: Result<Infallible, Errno> = execve(candidate, &self.arguments, &self.environment);
            match result {
                Ok(never) => match never {},
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(Errno::EACCES) => worst = Errno::EACCES,
                Err(errno) => {
                    worst = errno;
                    break;
                }
            }
        }
        let detail = self.arguments.first().map(|name| name.to_string_lossy().into_owned());
        StepError { stage: Stage::Execute, detail: detail.unwrap_or_default(), errno: worst }
    }
}

/// Returns where a program may lie: itself when it has a slash, else in each directory of `PATH`.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    // An empty part means the working directory to the C library; here it means nothing.
    path.split(':').filter(|part| !part.is_empty()).map(|part| format!("{part}/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_in_path_and_a_path_is_not() {
        assert_eq!(candidates("sh", "/a::/b"), ["/a/sh", "/b/sh"]);
        assert_eq!(candidates("./sh", "/a"), ["./sh"]);
    }
}
