//! Kernel parameters that a container may have of its own.
//!
//! Only those that belong to one of its own namespaces; all others are the host's. The file is
//! reached beneath the container's own procfs by descriptor, never through a path of the image
//! (CVE-2022-0811 gave a container the host's `core_pattern` by a value with a `+`).

/// Returns the path below `/proc/sys` of a permitted parameter, `None` for all others.
pub(crate) fn path_of(key: &str, own_network: bool) -> Option<String> {
    let name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if !key.split('.').all(name) {
        return None;
    }
    let ipc = ["kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"];
    let message = ["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem"];
    let permitted = (own_network && key.starts_with("net."))
        || key.starts_with("fs.mqueue.")
        || ipc.contains(&key)
        || message.contains(&key);
    permitted.then(|| key.replace('.', "/"))
}

/// Returns whether a value is one line of plain words and numbers.
pub(crate) fn is_value(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'\t' | b'-' | b',' | b'.' | b'_');
    value.len() <= 256 && value.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attacks: D13.
    #[test]
    fn only_parameters_of_own_namespaces_are_permitted() {
        assert_eq!(path_of("net.ipv4.ip_forward", true).as_deref(), Some("net/ipv4/ip_forward"));
        assert_eq!(path_of("fs.mqueue.msg_max", true).as_deref(), Some("fs/mqueue/msg_max"));
        for refused in
            ["kernel.core_pattern", "vm.overcommit_memory", "net..x", "net./../kernel.x", "net", ""]
        {
            assert_eq!(path_of(refused, true), None, "{refused}");
        }
        assert_eq!(path_of("net.ipv4.ip_forward", false), None, "the host's network");
    }

    /// Attacks: D13.
    #[test]
    fn a_value_with_a_line_break_or_sign_is_refused() {
        assert!(is_value("0 2147483647"));
        for refused in ["1\n2", "a+b", "a=b", "|/bin/sh"] {
            assert!(!is_value(refused), "{refused}");
        }
    }
}
