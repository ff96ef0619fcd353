//! The system call filter of a configuration: names to numbers, words to rules.
//!
//! A name that this architecture has not is passed over, as everywhere, because profiles name the calls of
//! all of them; but where all is permitted that is not named, it might be a call that is newer than this
//! program, and the profile is refused. The list of architectures is passed over as well: only this
//! kernel's own is ever permitted.

use std::str::FromStr as _;

use syscalls::Sysno;
use wharf_runtime::seccomp::{Action, Comparison, Condition, Profile, Rule, pack};
use wharf_runtime::spec::Seccomp;

use super::config::{Seccomp as Written, SeccompArgument, SeccompRule};
use super::translate::{ConfigError, bad};

const PROPERTY: &str = "linux.seccomp";
const EPERM: u16 = 1;

/// Compiles the filter.
pub(super) fn filter(written: &Written) -> Result<Seccomp, ConfigError> {
    if written.listener_path.0 {
        return Err(ConfigError::Unsupported(format!("{PROPERTY}.listenerPath")));
    }
    // A process with one thread has none to synchronise; the other makes a filter faster and weaker.
    let harmless = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"];
    if let Some(flag) = written.flags.iter().find(|flag| !harmless.contains(&flag.as_str())) {
        return Err(ConfigError::Unsupported(format!("{PROPERTY}.flags {flag:?}")));
    }
    let default = action(&written.default_action, written.default_errno_ret)?;
    let lax = matches!(default, Action::Allow | Action::Log);
    let rules = written.syscalls.iter().map(|rule| self::rule(rule, lax)).collect::<Result<_, _>>()?;
    let program = Profile { default, rules }.compile();
    program.map(|program| Seccomp::Program(pack(&program))).map_err(|error| bad(PROPERTY, error.to_string()))
}

fn rule(rule: &SeccompRule, lax: bool) -> Result<Rule, ConfigError> {
    let mut calls = Vec::with_capacity(rule.names.len());
    for name in &rule.names {
        match Sysno::from_str(name) {
            Ok(call) => calls.push(call.id().unsigned_abs()),
            Err(()) if !lax => {}
            Err(()) => {
                return Err(bad(PROPERTY, format!("denies {name:?}, of which this program knows nothing")));
            }
        }
    }
    Ok(Rule {
        calls,
        action: action(&rule.action, rule.errno_ret)?,
        conditions: rule.args.iter().map(condition).collect::<Result<_, _>>()?,
    })
}

fn action(name: &str, number: Option<u16>) -> Result<Action, ConfigError> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(number.unwrap_or(EPERM)),
        "SCMP_ACT_TRACE" => Action::Trace(number.unwrap_or(EPERM)),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_NOTIFY" => {
            return Err(ConfigError::Unsupported(format!("the action {name} of {PROPERTY}")));
        }
        _ => return Err(bad(PROPERTY, format!("has the unknown action {name:?}"))),
    })
}

fn condition(argument: &SeccompArgument) -> Result<Condition, ConfigError> {
    let mut value = argument.value;
    let comparison = match argument.op.as_str() {
        "SCMP_CMP_NE" => Comparison::NotEqual,
        "SCMP_CMP_LT" => Comparison::Less,
        "SCMP_CMP_LE" => Comparison::LessOrEqual,
        "SCMP_CMP_EQ" => Comparison::Equal,
        "SCMP_CMP_GE" => Comparison::GreaterOrEqual,
        "SCMP_CMP_GT" => Comparison::Greater,
        "SCMP_CMP_MASKED_EQ" => {
            value = argument.value_two;
            Comparison::MaskedEqual(argument.value)
        }
        other => return Err(bad(PROPERTY, format!("has the unknown comparison {other:?}"))),
    };
    Ok(Condition { argument: argument.index, comparison, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Seccomp, ConfigError> {
        filter(&serde_json::from_str(json).expect("profile"))
    }

    #[test]
    fn a_profile_becomes_a_program_and_foreign_calls_are_passed_over() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],
            "syscalls":[{"names":["read","exit_group","arm_fadvise64_64"],"action":"SCMP_ACT_ALLOW"},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW",
             "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let Ok(Seccomp::Program(program)) = of(profile) else { panic!("no program") };
        assert!(program.len() > 10, "{} instructions", program.len());
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        for bad in [
            r#"{"defaultAction":"SCMP_ACT_FLY"}"#,
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW",
                "syscalls":[{"names":["of_the_future"],"action":"SCMP_ACT_ERRNO"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW",
                "args":[{"index":9,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW",
                "args":[{"index":0,"value":0,"op":"SCMP_CMP_MAYBE"}]}]}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
