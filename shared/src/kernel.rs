//! What a container may ask of the kernel for itself: resource limits and parameters.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::container::NetworkMode;

/// Limits of a process by name and kernel number (getrlimit(2)), by the names that `docker run` takes.
pub const RLIMITS: [(&str, u32); 15] = [
    ("core", 4),
    ("cpu", 0),
    ("data", 2),
    ("fsize", 1),
    ("locks", 10),
    ("memlock", 8),
    ("msgqueue", 12),
    ("nice", 13),
    ("nofile", 7),
    ("nproc", 6),
    ("rss", 5),
    ("rtprio", 14),
    ("rttime", 15),
    ("sigpending", 11),
    ("stack", 3),
];

/// Those with which a process could take the CPU from all others of the host.
pub const RLIMITS_OF_OPERATORS: [&str; 2] = ["nice", "rtprio"];

/// A limit of every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// What holds; `null` is no limit.
    pub soft: Option<u64>,
    /// Up to where a process may raise it; `null` is no limit.
    pub hard: Option<u64>,
}

/// The kernel's number of a limit given as `nofile`.
pub fn rlimit_number(name: &str) -> Option<u32> {
    RLIMITS.into_iter().find_map(|(known, number)| (known == name).then_some(number))
}

/// Checks a limit.
///
/// # Errors
/// In words, what is wrong.
pub fn check_ulimit(name: &str, limit: Ulimit) -> Result<(), String> {
    if rlimit_number(name).is_none() {
        let names: Vec<_> = RLIMITS.into_iter().map(|(name, _)| name).collect();
        return Err(format!("{name:?} is no limit; give one of {}", names.join(", ")));
    }
    match (limit.soft, limit.hard) {
        (Some(soft), Some(hard)) if soft > hard => {
            Err(format!("{name}: the soft limit {soft} is greater than the hard limit {hard}"))
        }
        (None, Some(hard)) => Err(format!("{name}: no soft limit is greater than the hard limit {hard}")),
        _ => Ok(()),
    }
}

/// Most numbers of CPUs that a kernel can be built for (`NR_CPUS`).
const CPUS_MAX: u32 = 8_192;

/// The numbers of a list as the kernel writes them: `0-2,7`.
///
/// # Errors
/// In words, what is wrong.
pub fn number_list(text: &str) -> Result<BTreeSet<u32>, String> {
    let bad = || format!("{text:?} is no list; write numbers and ranges, such as 0-2,7");
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse::<u32>().ok()).flatten();
        number.filter(|number| *number < CPUS_MAX).ok_or_else(bad)
    };
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad());
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

/// Bytes of a huge page by the kernel's name for its size, such as `2MB`.
pub fn huge_page_bytes(size: &str) -> Option<u64> {
    let (number, unit) = size.split_at_checked(size.len().checked_sub(2)?)?;
    let unit: u64 = match unit {
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    let plain = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| plain)?.checked_mul(unit)
}

/// Checks a kernel parameter: only those of the container's own namespaces may be set.
///
/// # Errors
/// In words, what is wrong.
pub fn check_sysctl(key: &str, value: &str, network: NetworkMode) -> Result<(), String> {
    const OWN: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    let word = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let of_network = key.starts_with("net.");
    let known = OWN.contains(&key) || key.starts_with("fs.mqueue.") || of_network;
    if !known || !key.split('.').all(word) {
        return Err(format!(
            "{key:?} is not a parameter of the container's own; net.*, fs.mqueue.*, kernel.shm*, kernel.msg* \
             and kernel.sem can be set"
        ));
    }
    if of_network && network == NetworkMode::Host {
        return Err(format!("{key:?} is the host's in the host's network"));
    }
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'\t' | b'-' | b',' | b'.' | b'_');
    if value.len() > 256 || !value.bytes().all(plain) {
        return Err(format!("{key}: the value is one line of plain words and numbers"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_own_namespaces_can_be_set() {
        let check = |key: &str, value: &str| check_sysctl(key, value, NetworkMode::Tenant);
        assert_eq!(check("net.core.somaxconn", "1024"), Ok(()));
        assert_eq!(check("kernel.sem", "250 32000 100 128"), Ok(()));
        for key in ["kernel.core_pattern", "vm.swappiness", "kernel.shmx", "net", "net..x", "net./x", ""] {
            assert!(check(key, "1").is_err(), "{key}");
        }
        for value in ["|/bin/sh", "1\n2", "a+b", "a=b"] {
            assert!(check("kernel.shmmax", value).is_err(), "{value}");
        }
        assert!(check_sysctl("net.core.somaxconn", "1", NetworkMode::Host).is_err());
    }

    #[test]
    fn lists_of_numbers_and_sizes_of_huge_pages_are_read_as_the_kernel_writes_them() {
        assert_eq!(number_list("0-2,7"), Ok(BTreeSet::from([0, 1, 2, 7])));
        assert_eq!(number_list("3"), Ok(BTreeSet::from([3])));
        for bad in ["", ",", "1,", "a", "2-1", "-1", "0-", "+1", "0-4294967295", " 1", "1\n", "0-3:1/2"] {
            assert!(number_list(bad).is_err(), "{bad:?}");
        }
        assert_eq!(huge_page_bytes("2MB"), Some(2 << 20));
        assert_eq!(["64KB", "1GB"].map(huge_page_bytes), [Some(64 << 10), Some(1 << 30)]);
        for bad in ["", "MB", "2M", "2mb", "02MB", "0MB", "+2MB", "2.5MB", "99999999999999999999GB", "2é"] {
            assert_eq!(huge_page_bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_soft_limit_is_not_greater_than_the_hard_one() {
        let limit = |soft, hard| check_ulimit("nofile", Ulimit { soft, hard });
        assert_eq!(limit(Some(1), Some(1)), Ok(()));
        assert_eq!(limit(None, None), Ok(()));
        assert_eq!(limit(Some(1), None), Ok(()));
        assert!(limit(Some(2), Some(1)).is_err() && limit(None, Some(1)).is_err());
        assert!(check_ulimit("NOFILE", Ulimit { soft: None, hard: None }).is_err());
        assert!(RLIMITS_OF_OPERATORS.iter().all(|name| rlimit_number(name).is_some()));
    }
}
