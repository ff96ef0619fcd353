//! Profiles as Docker's users write them: JSON, by names of calls and capabilities.
//!
//! What a profile says depends on the container's capabilities, the kernel and the architecture
//! (`includes`, `excludes`); [`Written::profile`] settles that. As Docker and runc do: names that this
//! architecture has not are passed over, a rule with the default action says nothing, a rule without
//! conditions decides for its call before all with conditions, and of conditions on one and the same
//! argument each stands for itself. Only the kernel's own architecture is ever permitted, so
//! `architectures` and `archMap` change nothing. Source: `moby/profiles`, seccomp(2).

use std::str::FromStr as _;

use serde::Deserialize;
use syscalls::Sysno;

use super::profile::{Action, Comparison, Condition, Profile, ProfileError, Rule};

/// Most bytes of a profile's text; Docker's own has 17,000.
pub const PROFILE_MAX_BYTES: usize = 256 * 1024;

/// The largest error number that the kernel passes on (`MAX_ERRNO`).
const MAX_ERRNO: u16 = 4095;
const EPERM: u16 = 1;
/// This architecture, as Go calls it.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// What a profile is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// The container's capabilities, such as `CAP_CHOWN`.
    pub capabilities: Vec<String>,
    /// The kernel's version: major, minor.
    pub kernel: (u32, u32),
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WrittenError {
    /// It is too long.
    #[error("the profile has {0} bytes, at most {PROFILE_MAX_BYTES} are read")]
    TooLong(usize),
    /// It is no profile.
    #[error("this is no seccomp profile in Docker's JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// It wants an action that nobody here could answer.
    #[error("the action {0} needs a supervisor that answers for the kernel, which there is none of here")]
    NobodyAnswers(&'static str),
    /// An error number is none.
    #[error("errnoRet {0} is no error number; they end at {MAX_ERRNO}")]
    Errno(u16),
    /// Docker refuses this as well.
    #[error("{0} and {1} are given; use one of them")]
    Both(&'static str, &'static str),
    /// A minimal kernel cannot be read.
    #[error("minKernel {0:?} is no version such as 4.8")]
    Kernel(String),
    /// Where all is permitted that is not named, a name that is not known here may not be passed over.
    #[error(
        "the profile refuses {0:?}, a call that this version of Wharfage does not know, and permits what it \
         does not name; take the name out, or refuse by default"
    )]
    Unknown(String),
    /// No program could start under it.
    #[error(
        "the profile refuses execve, so that no program could be started under it; permit execve, and give \
         the container a program that goes on without it"
    )]
    NoExecve,
    /// The rules make no program.
    #[error("the profile cannot be compiled")]
    Compile(#[from] ProfileError),
}

/// A profile as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    default_action: WrittenAction,
    default_errno_ret: Option<u16>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<serde_json::Value>>,
    syscalls: Option<Vec<Call>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: WrittenAction,
    errno_ret: Option<u16>,
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Operator,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum WrittenAction {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

impl Written {
    /// Reads a profile.
    ///
    /// # Errors
    /// Text that is too long or no profile.
    pub fn parse(text: &[u8]) -> Result<Self, WrittenError> {
        if text.len() > PROFILE_MAX_BYTES {
            return Err(WrittenError::TooLong(text.len()));
        }
        serde_json::from_slice(text).map_err(WrittenError::Json)
    }

    /// Returns what it says under these circumstances.
    ///
    /// # Errors
    /// A profile that cannot be held, or under which no program could start.
    pub fn profile(&self, circumstances: &Circumstances) -> Result<Profile, WrittenError> {
        let given = |list: bool, name| list.then_some(name);
        let architectures = self.architectures.as_ref().is_some_and(|list| !list.is_empty());
        let map = self.arch_map.as_ref().is_some_and(|list| !list.is_empty());
        if let (Some(one), Some(other)) = (given(architectures, "architectures"), given(map, "archMap")) {
            return Err(WrittenError::Both(one, other));
        }
        let default = action(self.default_action, self.default_errno_ret)?;
        let mut rules = Vec::new();
        for call in self.syscalls.iter().flatten() {
            if call.applies(circumstances)? {
                rules.extend(call.rules(default)?);
            }
        }
        // Stable, so that otherwise their order stays.
        rules.sort_by_key(|rule| !rule.conditions.is_empty());
        let profile = Profile { default, rules };
        if may_execute(&profile) { Ok(profile) } else { Err(WrittenError::NoExecve) }
    }
}

/// Whether execve is carried out for some arguments at least.
fn may_execute(profile: &Profile) -> bool {
    let permits = |action: Action| matches!(action, Action::Allow | Action::Log);
    let execve = Sysno::execve.id().unsigned_abs();
    let mut rules = profile.rules.iter().filter(|rule| rule.calls.contains(&execve)).peekable();
    match rules.peek() {
        Some(first) if first.conditions.is_empty() => permits(first.action),
        _ => permits(profile.default) || rules.any(|rule| permits(rule.action)),
    }
}

impl Call {
    /// Docker's conditions: all of `includes`, none of `excludes`.
    fn applies(&self, circumstances: &Circumstances) -> Result<bool, WrittenError> {
        let has = |name: &String| circumstances.capabilities.contains(name);
        let here = |name: &String| name == ARCHITECTURE;
        if let Some(excludes) = &self.excludes {
            let kernel = excludes.min_kernel.as_deref().map(version).transpose()?;
            if excludes.arches.iter().flatten().any(here)
                || excludes.caps.iter().flatten().any(has)
                || kernel.is_some_and(|least| circumstances.kernel >= least)
            {
                return Ok(false);
            }
        }
        let Some(includes) = &self.includes else { return Ok(true) };
        let kernel = includes.min_kernel.as_deref().map(version).transpose()?;
        let arches = includes.arches.as_ref().filter(|list| !list.is_empty());
        Ok(arches.is_none_or(|list| list.iter().any(here))
            && includes.caps.iter().flatten().all(has)
            && kernel.is_none_or(|least| circumstances.kernel >= least))
    }

    fn rules(&self, default: Action) -> Result<Vec<Rule>, WrittenError> {
        if self.name.is_some() && self.names.is_some() {
            return Err(WrittenError::Both("name", "names"));
        }
        let action = action(self.action, self.errno_ret)?;
        let lax = matches!(default, Action::Allow | Action::Log);
        let mut calls = Vec::new();
        for name in self.name.iter().chain(self.names.iter().flatten()) {
            match Sysno::from_str(name) {
                Ok(call) => calls.push(call.id().unsigned_abs()),
                Err(()) if lax && !is_foreign(name) => return Err(WrittenError::Unknown(name.clone())),
                Err(()) => {}
            }
        }
        if action == default || calls.is_empty() {
            return Ok(Vec::new());
        }
        let conditions: Vec<Condition> = self.args.iter().flatten().map(condition).collect();
        let twice = (0..=u8::MAX)
            .any(|argument| conditions.iter().filter(|condition| condition.argument == argument).count() > 1);
        let rule = |conditions| Rule { calls: calls.clone(), action, conditions };
        Ok(if twice {
            conditions.into_iter().map(|condition| rule(vec![condition])).collect()
        } else {
            vec![rule(conditions)]
        })
    }
}

fn action(written: WrittenAction, number: Option<u16>) -> Result<Action, WrittenError> {
    Ok(match written {
        WrittenAction::Allow => Action::Allow,
        WrittenAction::Log => Action::Log,
        WrittenAction::Errno => match number.unwrap_or(EPERM) {
            number @ 0..=MAX_ERRNO => Action::Errno(number),
            number => return Err(WrittenError::Errno(number)),
        },
        WrittenAction::Trap => Action::Trap,
        WrittenAction::KillThread => Action::KillThread,
        WrittenAction::KillProcess => Action::KillProcess,
        WrittenAction::Trace => return Err(WrittenError::NobodyAnswers("SCMP_ACT_TRACE")),
        WrittenAction::Notify => return Err(WrittenError::NobodyAnswers("SCMP_ACT_NOTIFY")),
    })
}

fn condition(argument: &Argument) -> Condition {
    let (comparison, value) = match argument.op {
        Operator::NotEqual => (Comparison::NotEqual, argument.value),
        Operator::Less => (Comparison::Less, argument.value),
        Operator::LessOrEqual => (Comparison::LessOrEqual, argument.value),
        Operator::Equal => (Comparison::Equal, argument.value),
        Operator::GreaterOrEqual => (Comparison::GreaterOrEqual, argument.value),
        Operator::Greater => (Comparison::Greater, argument.value),
        // libseccomp lets the mask reach the value as well.
        Operator::MaskedEqual => {
            (Comparison::MaskedEqual(argument.value), argument.value_two & argument.value)
        }
    };
    Condition { argument: argument.index, comparison, value }
}

/// Calls of other architectures, which a profile for all of them may well refuse.
fn is_foreign(name: &str) -> bool {
    const ELSEWHERE: [&str; 14] = [
        "breakpoint",
        "cacheflush",
        "socketcall",
        "ipc",
        "stime",
        "umount",
        "nice",
        "waitpid",
        "sigreturn",
        "sigprocmask",
        "swapcontext",
        "set_tls",
        "send",
        "recv",
    ];
    let family = ["arm_", "s390_", "riscv_", "ppc_", "spu_", "_llseek", "_newselect", "old"];
    ELSEWHERE.contains(&name)
        || family.iter().any(|start| name.starts_with(start))
        || name.ends_with("32")
        || name.ends_with("64")
}

/// Reads `4.8` or `5.10.1`.
fn version(text: &str) -> Result<(u32, u32), WrittenError> {
    let mut parts = text.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(WrittenError::Kernel(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, capabilities: &[&str], kernel: (u32, u32)) -> Result<Profile, WrittenError> {
        let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
        Written::parse(text.as_bytes())?.profile(&Circumstances { capabilities, kernel })
    }

    fn number(call: Sysno) -> u32 {
        call.id().unsigned_abs()
    }

    #[test]
    fn capabilities_kernel_and_architecture_decide_which_rules_hold() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
            {"names":["execve"],"action":"SCMP_ACT_ALLOW","includes":{},"excludes":{}},
            {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN","CAP_CHOWN"]}},
            {"names":["clone3"],"action":"SCMP_ACT_LOG","excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
            {"names":["kcmp"],"action":"SCMP_ACT_ALLOW","excludes":{"minKernel":"4.8.1"}},
            {"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}},
            {"names":["write"],"action":"SCMP_ACT_ALLOW","excludes":{"arches":["s390x"]}}]}"#;
        let calls = |capabilities: &[&str], kernel| -> Vec<u32> {
            let profile = read(profile, capabilities, kernel).expect("profile");
            assert_eq!(profile.default, Action::Errno(38));
            profile.rules.into_iter().flat_map(|rule| rule.calls).collect()
        };
        let (execve, write) = (number(Sysno::execve), number(Sysno::write));
        let (ptrace, kcmp) = (number(Sysno::ptrace), number(Sysno::kcmp));
        let (clone3, mount) = (number(Sysno::clone3), number(Sysno::mount));
        assert_eq!(calls(&["CAP_CHOWN"], (6, 18)), [execve, clone3, ptrace, write]);
        assert_eq!(calls(&["CAP_CHOWN", "CAP_SYS_ADMIN"], (4, 7)), [execve, mount, kcmp, write]);
    }

    #[test]
    fn what_cannot_be_held_is_refused_in_words() {
        let rule = |rule: &str| {
            format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                    {{"names":["execve"],"action":"SCMP_ACT_ALLOW"}},{rule}]}}"#
            )
        };
        let lax = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["chown32","call_of_the_future"],"action":"SCMP_ACT_ERRNO"}]}"#;
        for (profile, word) in [
            ("[]".to_owned(), "Docker's JSON"),
            (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#.to_owned(), "SCMP_ACT_MAYBE"),
            (rule(r#"{"names":["read"],"action":"SCMP_ACT_NOTIFY"}"#), "SCMP_ACT_NOTIFY"),
            (rule(r#"{"names":["read"],"action":"SCMP_ACT_TRACE"}"#), "SCMP_ACT_TRACE"),
            (rule(r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5000}"#), "5000"),
            (rule(r#"{"name":"read","names":["read"],"action":"SCMP_ACT_ALLOW"}"#), "use one"),
            (
                rule(r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"new"}}"#),
                "no version",
            ),
            (r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#.to_owned(), "execve"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                    {"names":["execve"],"action":"SCMP_ACT_KILL"}]}"#
                    .to_owned(),
                "execve",
            ),
            (lax.to_owned(), "call_of_the_future"),
            (" ".repeat(PROFILE_MAX_BYTES + 1), "262145 bytes"),
        ] {
            let error = read(&profile, &[], (6, 18)).expect_err(&profile);
            assert!(error.to_string().contains(word), "{error}: {word}");
        }
    }

    #[test]
    fn conditions_on_one_argument_each_stand_for_themselves() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["socket"],
            "action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":38,"op":"SCMP_CMP_EQ"},
            {"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]}"#;
        let rules = read(profile, &[], (6, 18)).expect("profile").rules;
        assert_eq!(rules.iter().map(|rule| rule.conditions[0].value).collect::<Vec<_>>(), [38, 40]);
    }
}
