//! Names of capabilities, limits and signals, and their numbers. Sources: `linux/capability.h`,
//! `asm-generic/resource.h`, signal(7).

use wharf_shared::container::CAPABILITIES;

/// Limits by number, without `RLIMIT_`.
const LIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// Signals by number from 1, without `SIG`.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Returns the number of a capability, written `CAP_KILL`.
pub(super) fn capability(name: &str) -> Option<u8> {
    let name = name.strip_prefix("CAP_")?;
    let at = CAPABILITIES.iter().position(|known| *known == name)?;
    u8::try_from(at).ok()
}

/// Returns the number of a limit, written `RLIMIT_NOFILE`.
pub(super) fn limit(name: &str) -> Option<u32> {
    let name = name.strip_prefix("RLIMIT_")?;
    let at = LIMITS.iter().position(|known| *known == name)?;
    u32::try_from(at).ok()
}

/// Returns the number of a signal, written `TERM`, `SIGTERM` or `15`.
pub(super) fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let at = SIGNALS.iter().position(|known| *known == name)?;
    i32::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        assert_eq!(capability("CAP_CHOWN"), Some(0));
        assert_eq!(capability("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(capability("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(limit("RLIMIT_NOFILE"), Some(7));
        assert_eq!(limit("RLIMIT_RTTIME"), Some(15));
        for text in ["15", "TERM", "SIGTERM", "sigterm"] {
            assert_eq!(signal(text), Some(15), "{text}");
        }
        assert_eq!(signal("SYS"), Some(31));
    }

    #[test]
    fn what_is_no_name_has_no_number() {
        for name in ["CAP_", "KILL", "CAP_FLY", "cap_kill"] {
            assert_eq!(capability(name), None, "{name}");
        }
        assert_eq!(limit("NOFILE"), None);
        for text in ["0", "65", "-9", "SIGNONE", ""] {
            assert_eq!(signal(text), None, "{text}");
        }
    }
}
