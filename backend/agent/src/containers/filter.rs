//! A container's system call filter, from what was asked for.

use std::sync::OnceLock;

use wharf_runtime::seccomp::{Circumstances, Written, WrittenError, pack};
use wharf_runtime::spec::Seccomp;
use wharf_shared::container::{CAPABILITIES, ContainerSpec, SeccompMode};

use super::plan;

/// The filter of a container's processes.
pub(super) fn of(spec: &ContainerSpec) -> Result<Seccomp, WrittenError> {
    match &spec.seccomp {
        SeccompMode::Default if spec.privileged => Ok(Seccomp::Unconfined),
        SeccompMode::Default => Ok(Seccomp::Default),
        SeccompMode::Unconfined => Ok(Seccomp::Unconfined),
        SeccompMode::Profile(text) => {
            let names = plan::capabilities(spec).into_iter();
            let names = names.filter_map(|number| CAPABILITIES.get(usize::from(number)));
            let circumstances = Circumstances {
                capabilities: names.map(|name| format!("CAP_{name}")).collect(),
                kernel: kernel(),
            };
            let profile = Written::parse(text.as_bytes())?.profile(&circumstances)?;
            Ok(Seccomp::Program(pack(&profile.compile()?)))
        }
    }
}

/// The running kernel's version: major, minor. One that does not say is as old as can be.
fn kernel() -> (u32, u32) {
    static KERNEL: OnceLock<(u32, u32)> = OnceLock::new();
    *KERNEL.get_or_init(|| {
        let release = crate::checkpoints::kernel().unwrap_or_default();
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(profile: &str) -> Result<Seccomp, WrittenError> {
        of(&ContainerSpec { seccomp: SeccompMode::Profile(profile.to_owned()), ..ContainerSpec::default() })
    }

    #[test]
    fn a_profile_is_compiled_and_one_that_cannot_hold_is_refused() {
        let refuses_mkdir = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
        assert!(matches!(with(refuses_mkdir), Ok(Seccomp::Program(program)) if !program.is_empty()));
        let refuses_execve = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["execve"],"action":"SCMP_ACT_ERRNO"}]}"#;
        assert!(matches!(with(refuses_execve), Err(WrittenError::NoExecve)));
        assert!(matches!(with("{"), Err(WrittenError::Json(_))));
    }

    #[test]
    fn only_what_is_privileged_goes_without_unless_told_so() {
        assert!(matches!(of(&ContainerSpec::default()), Ok(Seccomp::Default)));
        let privileged = ContainerSpec { privileged: true, ..ContainerSpec::default() };
        assert!(matches!(of(&privileged), Ok(Seccomp::Unconfined)));
        assert!(kernel() > (5, 0));
    }
}
