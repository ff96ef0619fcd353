//! Limits of a configuration, as what is written into which file of the container's cgroups.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use wharf_runtime::cgroup::{Cgroup, Controller, Layout, LayoutKind};

use super::config::{Given, Resources};
use super::translate::ConfigError;

/// One limit, in the words of both worlds; `None` where a world has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) controller: Controller,
    pub(super) legacy: Option<(&'static str, String)>,
    pub(super) unified: Option<(&'static str, String)>,
}

/// All limits, in the order in which they must be written.
pub(super) type Limits = Vec<Limit>;

/// A limit that could not be set.
#[derive(Debug, thiserror::Error)]
pub(super) enum LimitError {
    #[error("this host's cgroups have no {name} controller, which a limit needs", name = .0.name())]
    NoController(Controller),
    #[error("could not write {value:?} to {path}", path = path.display())]
    Write { path: PathBuf, value: String, source: std::io::Error },
}

/// Returns the limits that are asked for.
pub(super) fn limits(resources: &Resources) -> Result<Limits, ConfigError> {
    refuse(resources)?;
    let mut limits = Vec::new();
    memory(resources, &mut limits)?;
    cpu(resources, &mut limits);
    if let Some(limit) = resources.pids.limit {
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
        limits.push(both(Controller::Pids, ("pids.max", value.clone()), ("pids.max", value)));
    }
    if let Some(weight) = resources.block_io.weight.filter(|weight| *weight > 0) {
        // As runc converts: 10–1000 to 1–10000.
        let unified = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
        let legacy = ("blkio.weight", weight.to_string());
        limits.push(both(Controller::BlkIo, legacy, ("io.weight", unified.to_string())));
    }
    Ok(limits)
}

fn refuse(resources: &Resources) -> Result<(), ConfigError> {
    let Resources { memory, cpu, block_io, .. } = resources;
    let unsupported: [(Given, &str); 17] = [
        (memory.kernel, "memory.kernel"),
        (memory.kernel_tcp, "memory.kernelTCP"),
        (memory.swappiness, "memory.swappiness"),
        (memory.disable_oom_killer, "memory.disableOOMKiller"),
        (cpu.burst, "cpu.burst"),
        (cpu.realtime_runtime, "cpu.realtimeRuntime"),
        (cpu.realtime_period, "cpu.realtimePeriod"),
        (cpu.idle, "cpu.idle"),
        (block_io.leaf_weight, "blockIO.leafWeight"),
        (block_io.weight_device, "blockIO.weightDevice"),
        (block_io.throttle_read_bps_device, "blockIO.throttleReadBpsDevice"),
        (block_io.throttle_write_bps_device, "blockIO.throttleWriteBpsDevice"),
        (block_io.throttle_read_iops_device, "blockIO.throttleReadIOPSDevice"),
        (block_io.throttle_write_iops_device, "blockIO.throttleWriteIOPSDevice"),
        (resources.hugepage_limits, "hugepageLimits"),
        (resources.network, "network"),
        (resources.unified, "unified"),
    ];
    match unsupported.iter().chain(&[(resources.rdma, "rdma")]).find(|(given, _)| given.0) {
        Some((_, name)) => Err(ConfigError::Unsupported(format!("linux.resources.{name}"))),
        None => Ok(()),
    }
}

fn both(controller: Controller, legacy: (&'static str, String), unified: (&'static str, String)) -> Limit {
    Limit { controller, legacy: Some(legacy), unified: Some(unified) }
}

fn memory(resources: &Resources, limits: &mut Limits) -> Result<(), ConfigError> {
    let memory = &resources.memory;
    let number = |value: i64, unlimited: &str| {
        if value < 0 { unlimited.to_owned() } else { value.to_string() }
    };
    if let Some(limit) = memory.limit {
        let legacy = ("memory.limit_in_bytes", number(limit, "-1"));
        limits.push(both(Controller::Memory, legacy, ("memory.max", number(limit, "max"))));
    }
    if let Some(swap) = memory.swap {
        // v1 counts memory and swap together, v2 swap alone.
        let alone = match memory.limit {
            _ if swap < 0 => "max".to_owned(),
            Some(limit) if limit >= 0 && swap >= limit => (swap - limit).to_string(),
            _ => {
                return Err(super::translate::bad(
                    "linux.resources.memory.swap",
                    "is not at least memory.limit, of which it is the sum with swap",
                ));
            }
        };
        let legacy = ("memory.memsw.limit_in_bytes", number(swap, "-1"));
        limits.push(both(Controller::Memory, legacy, ("memory.swap.max", alone)));
    }
    if let Some(reservation) = memory.reservation {
        let legacy = ("memory.soft_limit_in_bytes", number(reservation, "-1"));
        limits.push(both(Controller::Memory, legacy, ("memory.low", number(reservation, "max"))));
    }
    Ok(())
}

fn cpu(resources: &Resources, limits: &mut Limits) {
    let cpu = &resources.cpu;
    if let Some(shares) = cpu.shares.filter(|shares| *shares > 0) {
        // As runc converts: 2–262144 to 1–10000.
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        let legacy = ("cpu.shares", shares.to_string());
        limits.push(both(Controller::Cpu, legacy, ("cpu.weight", weight.to_string())));
    }
    let period = cpu.period.filter(|period| *period > 0);
    let legacy = |file, value: String| Limit {
        controller: Controller::Cpu,
        legacy: Some((file, value)),
        unified: None,
    };
    if let Some(period) = period {
        limits.push(legacy("cpu.cfs_period_us", period.to_string()));
    }
    if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
        limits.push(legacy("cpu.cfs_quota_us", quota.to_string()));
    }
    if period.is_some() || cpu.quota.is_some_and(|quota| quota != 0) {
        let quota = cpu.quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        let value = format!("{quota} {}", period.unwrap_or(100_000));
        let unified = Some(("cpu.max", value));
        limits.push(Limit { controller: Controller::Cpu, legacy: None, unified });
    }
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !value.is_empty() {
            limits.push(both(Controller::CpuSet, (file, value.clone()), (file, value.clone())));
        }
    }
}

/// Writes limits into a group that nothing is in yet.
pub(super) fn write(limits: &Limits, group: &Cgroup, layout: &Layout) -> Result<(), LimitError> {
    for limit in limits {
        let legacy = layout.legacy(limit.controller).is_some();
        let wanted = if legacy { &limit.legacy } else { &limit.unified };
        let Some((file, value)) = wanted else { continue };
        if !legacy && layout.kind() != LayoutKind::V2 {
            return Err(LimitError::NoController(limit.controller));
        }
        let dir = group.dir(limit.controller).ok_or(LimitError::NoController(limit.controller))?;
        let path = dir.join(file);
        let written = OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut opened| opened.write_all(value.as_bytes()));
        written.map_err(|source| LimitError::Write { path, value: value.clone(), source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Limits, ConfigError> {
        limits(&serde_json::from_str(json).expect("resources"))
    }

    fn unified(limits: &Limits) -> Vec<(&'static str, &str)> {
        let files = limits.iter().filter_map(|limit| limit.unified.as_ref());
        files.map(|(file, value)| (*file, value.as_str())).collect()
    }

    fn legacy(limits: &Limits) -> Vec<(&'static str, &str)> {
        let files = limits.iter().filter_map(|limit| limit.legacy.as_ref());
        files.map(|(file, value)| (*file, value.as_str())).collect()
    }

    #[test]
    fn limits_have_the_words_of_both_worlds() {
        let all = of(r#"{"memory":{"limit":1000,"swap":1500,"reservation":500},
            "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0"},"pids":{"limit":9},
            "blockIO":{"weight":10}}"#)
        .expect("limits");
        assert_eq!(
            unified(&all),
            [
                ("memory.max", "1000"),
                ("memory.swap.max", "500"),
                ("memory.low", "500"),
                ("cpu.weight", "39"),
                ("cpu.max", "50000 100000"),
                ("cpuset.cpus", "0"),
                ("pids.max", "9"),
                ("io.weight", "1"),
            ]
        );
        assert_eq!(
            legacy(&all),
            [
                ("memory.limit_in_bytes", "1000"),
                ("memory.memsw.limit_in_bytes", "1500"),
                ("memory.soft_limit_in_bytes", "500"),
                ("cpu.shares", "1024"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpuset.cpus", "0"),
                ("pids.max", "9"),
                ("blkio.weight", "10"),
            ]
        );
    }

    #[test]
    fn no_limit_is_written_as_each_world_writes_it() {
        let all = of(r#"{"memory":{"limit":-1,"swap":-1},"cpu":{"quota":-1},"pids":{"limit":-1}}"#);
        let all = all.expect("limits");
        assert_eq!(
            unified(&all),
            [
                ("memory.max", "max"),
                ("memory.swap.max", "max"),
                ("cpu.max", "max 100000"),
                ("pids.max", "max")
            ]
        );
        assert_eq!(of("{}").expect("none"), []);
    }

    #[test]
    fn what_is_not_supported_or_makes_no_sense_is_refused() {
        for bad in [
            r#"{"memory":{"swap":10}}"#,
            r#"{"memory":{"limit":20,"swap":10}}"#,
            r#"{"memory":{"swappiness":10}}"#,
            r#"{"unified":{"memory.high":"1"}}"#,
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#,
            r#"{"rdma":{"x":{"hcaHandles":1}}}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
