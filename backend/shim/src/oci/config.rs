//! The parts of an OCI `config.json` that mean something here, as they are written.
//!
//! Properties that the specification does not know are ignored, as it demands. Those that it knows and we do
//! not support are read as [`Given`], so that a configuration that relies on one is refused and not run
//! as something else. Source: the OCI runtime specification 1.2, `config.md` and `config-linux.md`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A whole configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    pub(super) oci_version: String,
    pub(super) process: Option<Process>,
    pub(super) root: Option<Root>,
    #[serde(default)]
    pub(super) hostname: String,
    #[serde(default)]
    pub(super) domainname: Given,
    #[serde(default)]
    pub(super) mounts: Vec<Mount>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) hooks: Given,
    pub(super) linux: Option<Linux>,
    #[serde(default)]
    pub(super) windows: Given,
    #[serde(default)]
    pub(super) solaris: Given,
    #[serde(default)]
    pub(super) vm: Given,
    #[serde(default)]
    pub(super) zos: Given,
}

/// A process: the container's, or that of an exec.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process {
    #[serde(default)]
    pub(super) terminal: bool,
    pub(super) console_size: Option<ConsoleSize>,
    #[serde(default)]
    pub(super) user: User,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    #[serde(default)]
    pub(super) cwd: String,
    pub(super) capabilities: Option<Capabilities>,
    #[serde(default)]
    pub(super) rlimits: Vec<Rlimit>,
    #[serde(default)]
    pub(super) no_new_privileges: bool,
    pub(super) oom_score_adj: Option<i32>,
    #[serde(default)]
    pub(super) apparmor_profile: Given,
    #[serde(default)]
    pub(super) selinux_label: Given,
    #[serde(default)]
    pub(super) scheduler: Given,
    #[serde(default)]
    pub(super) io_priority: Given,
    #[serde(default, rename = "execCPUAffinity")]
    pub(super) exec_cpu_affinity: Given,
}

/// Rows and columns.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct ConsoleSize {
    pub(super) height: u16,
    pub(super) width: u16,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    #[serde(default)]
    pub(super) uid: u32,
    #[serde(default)]
    pub(super) gid: u32,
    #[serde(default)]
    pub(super) additional_gids: Vec<u32>,
    pub(super) umask: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Capabilities {
    #[serde(default)]
    pub(super) bounding: Vec<String>,
    #[serde(default)]
    pub(super) permitted: Vec<String>,
    #[serde(default)]
    pub(super) effective: Vec<String>,
    #[serde(default)]
    pub(super) inheritable: Vec<String>,
    #[serde(default)]
    pub(super) ambient: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Rlimit {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Root {
    pub(super) path: String,
    #[serde(default)]
    pub(super) readonly: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) destination: String,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) source: String,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(default)]
    pub(super) uid_mappings: Given,
    #[serde(default)]
    pub(super) gid_mappings: Given,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Linux {
    #[serde(default)]
    pub(super) namespaces: Vec<Namespace>,
    #[serde(default)]
    pub(super) uid_mappings: Vec<IdMapping>,
    #[serde(default)]
    pub(super) gid_mappings: Vec<IdMapping>,
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    #[serde(default)]
    pub(super) cgroups_path: String,
    #[serde(default)]
    pub(super) resources: Resources,
    #[serde(default)]
    pub(super) rootfs_propagation: String,
    pub(super) seccomp: Option<Seccomp>,
    #[serde(default)]
    pub(super) sysctl: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) masked_paths: Vec<String>,
    #[serde(default)]
    pub(super) readonly_paths: Vec<String>,
    #[serde(default)]
    pub(super) mount_label: Given,
    #[serde(default)]
    pub(super) intel_rdt: Given,
    #[serde(default)]
    pub(super) personality: Given,
    #[serde(default)]
    pub(super) memory_policy: Given,
    #[serde(default)]
    pub(super) time_offsets: Given,
    #[serde(default)]
    pub(super) net_devices: Given,
}

/// A profile in the specification's words.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seccomp {
    pub(super) default_action: String,
    pub(super) default_errno_ret: Option<u16>,
    #[serde(default)]
    pub(super) flags: Vec<String>,
    #[serde(default)]
    pub(super) listener_path: Given,
    #[serde(default)]
    pub(super) syscalls: Vec<SeccompRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeccompRule {
    pub(super) names: Vec<String>,
    pub(super) action: String,
    pub(super) errno_ret: Option<u16>,
    #[serde(default)]
    pub(super) args: Vec<SeccompArgument>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeccompArgument {
    pub(super) index: u8,
    pub(super) value: u64,
    #[serde(default)]
    pub(super) value_two: u64,
    pub(super) op: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Namespace {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(super) container_id: u32,
    #[serde(rename = "hostID")]
    pub(super) host_id: u32,
    pub(super) size: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) major: u32,
    #[serde(default)]
    pub(super) minor: u32,
    pub(super) file_mode: Option<u32>,
    #[serde(default)]
    pub(super) uid: u32,
    #[serde(default)]
    pub(super) gid: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resources {
    #[serde(default)]
    pub(super) devices: Vec<DeviceAccess>,
    #[serde(default)]
    pub(super) memory: Memory,
    #[serde(default)]
    pub(super) cpu: Cpu,
    #[serde(default)]
    pub(super) pids: Pids,
    #[serde(default, rename = "blockIO")]
    pub(super) block_io: BlockIo,
    #[serde(default)]
    pub(super) hugepage_limits: Given,
    #[serde(default)]
    pub(super) network: Given,
    #[serde(default)]
    pub(super) rdma: Given,
    #[serde(default)]
    pub(super) unified: Given,
}

#[derive(Debug, Deserialize)]
pub(super) struct DeviceAccess {
    pub(super) allow: bool,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    #[serde(default)]
    pub(super) access: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    pub(super) limit: Option<i64>,
    pub(super) reservation: Option<i64>,
    pub(super) swap: Option<i64>,
    #[serde(default)]
    pub(super) kernel: Given,
    #[serde(default, rename = "kernelTCP")]
    pub(super) kernel_tcp: Given,
    #[serde(default)]
    pub(super) swappiness: Given,
    #[serde(default, rename = "disableOOMKiller")]
    pub(super) disable_oom_killer: Given,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cpu {
    pub(super) shares: Option<u64>,
    pub(super) quota: Option<i64>,
    pub(super) period: Option<u64>,
    #[serde(default)]
    pub(super) cpus: String,
    #[serde(default)]
    pub(super) mems: String,
    #[serde(default)]
    pub(super) burst: Given,
    #[serde(default)]
    pub(super) realtime_runtime: Given,
    #[serde(default)]
    pub(super) realtime_period: Given,
    #[serde(default)]
    pub(super) idle: Given,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Pids {
    pub(super) limit: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockIo {
    pub(super) weight: Option<u16>,
    #[serde(default)]
    pub(super) leaf_weight: Given,
    #[serde(default)]
    pub(super) weight_device: Given,
    #[serde(default)]
    pub(super) throttle_read_bps_device: Given,
    #[serde(default)]
    pub(super) throttle_write_bps_device: Given,
    #[serde(default, rename = "throttleReadIOPSDevice")]
    pub(super) throttle_read_iops_device: Given,
    #[serde(default, rename = "throttleWriteIOPSDevice")]
    pub(super) throttle_write_iops_device: Given,
}

/// Whether a property says anything: it is there, and neither null, false, 0 nor empty.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given(pub(super) bool);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor)
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Given, E> {
        Ok(Given(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Given, E> {
        Ok(Given(value != 0))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Given, E> {
        Ok(Given(value != 0))
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Given, E> {
        Ok(Given(true))
    }

    fn visit_str<E>(self, value: &str) -> Result<Given, E> {
        Ok(Given(!value.is_empty()))
    }

    fn visit_unit<E>(self) -> Result<Given, E> {
        Ok(Given(false))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Given, A::Error> {
        let mut any = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(Given(any))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Given, A::Error> {
        let mut any = false;
        while let Some((_, value)) = items.next_entry::<IgnoredAny, Given>()? {
            any |= value.0;
        }
        Ok(Given(any))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_not_given() {
        for nothing in ["null", "false", "0", "\"\"", "[]", "{}", r#"{"prestart":[],"poststop":null}"#] {
            assert_eq!(serde_json::from_str::<Given>(nothing).expect(nothing), Given(false), "{nothing}");
        }
        for something in ["true", "7", "-1", "\"x\"", "[0]", r#"{"prestart":[{"path":"/x"}]}"#] {
            assert_eq!(
                serde_json::from_str::<Given>(something).expect(something),
                Given(true),
                "{something}"
            );
        }
    }

    #[test]
    fn properties_that_nobody_knows_are_ignored_and_wrong_types_are_not() {
        let config = r#"{"ociVersion":"1.0.2","surprise":{"a":[1]},"process":{"args":["sh"],"x":1}}"#;
        let config: Config = serde_json::from_str(config).expect("config");
        assert_eq!(config.process.expect("process").args, ["sh"]);
        assert!(serde_json::from_str::<Config>(r#"{"ociVersion":"1","process":{"args":"sh"}}"#).is_err());
    }
}
