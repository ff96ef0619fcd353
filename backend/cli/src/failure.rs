//! Errors and exit codes as people and scripts see them.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | refused or failed; one line on standard error says why |
//! | 2 | the command line could not be understood |
//! | 125 | `run`, `exec`: the agent could not do it |
//! | 126 | `run`, `exec`: the command cannot be executed |
//! | 127 | `run`, `exec`: the command was not found |
//! | other | `run`, `exec`, `wait`, `attach`: the process's own, 128 + the signal if one ended it |

use std::io::ErrorKind;

use anyhow::Error;
use wharf_shared::problem::Problem;

use crate::output::visible;

/// Refused or failed.
pub(crate) const FAILED: u8 = 1;
/// The agent could not start it.
pub(crate) const AGENT_FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// One line for the person. The agent's words may quote what a tenant chose.
pub(crate) fn line(error: &Error) -> String {
    match error.downcast_ref::<Problem>() {
        Some(problem) if problem.instance.is_empty() => visible(&format!("wharf: {problem}")),
        Some(problem) => visible(&format!("wharf: {problem} (request {})", problem.instance)),
        None => format!("wharf: {error:#}"),
    }
}

/// Whether nobody reads our output any more, as in `wharf logs x | head`: no failure of ours.
pub(crate) fn is_closed_pipe(error: &Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Docker's code for a command that did not start, from the words of the kernel's error.
pub(crate) fn start_code(why: &str) -> u8 {
    let why = why.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["no such file", "enoent", "not found in"]) {
        NOT_FOUND
    } else if says(&["permission denied", "eacces", "exec format", "enoexec", "is a directory"]) {
        NOT_EXECUTABLE
    } else {
        AGENT_FAILED
    }
}

/// A process's code as ours.
pub(crate) fn process_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use wharf_shared::problem::ProblemKind;

    use super::*;

    #[test]
    fn a_problem_is_one_line_with_its_request() {
        let mut problem = Problem::new(ProblemKind::NotFound, "no container \"web\"");
        assert_eq!(line(&problem.clone().into()), "wharf: Not found: no container \"web\"");
        problem.instance = "req_1".to_owned();
        let error = Error::from(problem);
        assert_eq!(line(&error), "wharf: Not found: no container \"web\" (request req_1)");
    }

    #[test]
    fn a_problem_cannot_drive_the_terminal() {
        let problem = Problem::new(ProblemKind::NotFound, "execute \u{1b}[2J/x");
        assert_eq!(line(&problem.into()), "wharf: Not found: execute \u{fffd}[2J/x");
    }

    #[test]
    fn an_error_of_our_own_shows_its_causes() {
        let error = std::io::Error::from(ErrorKind::NotFound);
        let error = Err::<(), _>(error).context("read x").expect_err("an error");
        assert_eq!(line(&error), "wharf: read x: entity not found");
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_errors() {
        assert!(is_closed_pipe(&Error::from(std::io::Error::from(ErrorKind::BrokenPipe))));
        assert!(!is_closed_pipe(&Error::from(std::io::Error::from(ErrorKind::NotFound))));
    }

    #[test]
    fn codes_for_commands_that_do_not_start_are_docker_s() {
        assert_eq!(start_code("execve /nope: No such file or directory (os error 2)"), 127);
        assert_eq!(start_code("execve /etc/passwd: Permission denied (os error 13)"), 126);
        assert_eq!(start_code("the cgroup could not be made"), 125);
        assert_eq!(process_code(3), 3);
        assert_eq!(process_code(-1), 255);
    }
}
