//! The host: what it is, what it can do, how full it is.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use wharf_runtime::probe::{self, Places};
use wharf_shared::host::{CheckStatus, CheckView, HostView};
use wharf_shared::id::HostId;
use wharf_shared::permission::Permission;
use wharf_shared::time::Timestamp;

use crate::billing::Capacity;
use crate::clock::Clock;
use crate::config::Config;
use crate::containers::Containers;
use crate::ctx::Ctx;
use crate::engine::Engine;
use crate::error::{Result, ServiceError, chain};

/// A look at the host takes some hundred milliseconds, if CRIU takes no longer.
const DOCTOR_PATIENCE: Duration = Duration::from_secs(30);

/// The service.
#[derive(Clone)]
pub(crate) struct Host {
    id: HostId,
    config: Arc<Config>,
    engine: Arc<Engine>,
    containers: Containers,
    started_at: Timestamp,
}

impl Host {
    pub(crate) fn new(
        id: HostId,
        config: Arc<Config>,
        engine: Arc<Engine>,
        containers: Containers,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        Self { id, config, engine, containers, started_at: clock.now() }
    }

    pub(crate) async fn view(&self, ctx: &Ctx) -> Result<HostView> {
        ctx.require(Permission::HostRead)?;
        let state_dir = self.config.state_dir.clone();
        let failed = |error: nix::Error| ServiceError::internal("the host cannot be looked at", error);
        let (disk, names) = tokio::task::spawn_blocking(move || {
            Ok((nix::sys::statvfs::statvfs(&state_dir)?, nix::sys::utsname::uname()?))
        })
        .await
        .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
        .map_err(failed)?;
        let (containers_running, containers_total) = self.containers.counts();
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let v2 = self.engine.layout_name() == "v2";
        Ok(HostView {
            id: self.id.clone(),
            name: names.nodename().to_string_lossy().into_owned(),
            version: crate::VERSION.to_owned(),
            kernel: names.release().to_string_lossy().into_owned(),
            cgroup_layout: self.engine.layout_name().to_owned(),
            cpus: cpus(),
            memory_bytes: memory_total_bytes(&meminfo).unwrap_or(0),
            agent_started_at: self.started_at,
            disk_free_bytes: disk.blocks_available().saturating_mul(disk.fragment_size()),
            disk_total_bytes: disk.blocks().saturating_mul(disk.fragment_size()),
            containers_running,
            containers_total,
            not_measurable: if v2 {
                Vec::new()
            } else {
                vec!["block_read".to_owned(), "block_write".to_owned()]
            },
        })
    }

    pub(crate) async fn checks(&self, ctx: &Ctx) -> Result<Vec<CheckView>> {
        ctx.require(Permission::HostRead)?;
        if let Some(checks) = checks_apart(&self.config).await {
            return Ok(checks);
        }
        let config = Arc::clone(&self.config);
        tokio::task::spawn_blocking(move || checks(&config))
            .await
            .map_err(|error| ServiceError::internal("a worker thread panicked", error))
    }
}

/// Looks in a process of its own: some abilities can be tried only by one without threads.
async fn checks_apart(config: &Config) -> Option<Vec<CheckView>> {
    let criu = &config.checkpoints.criu;
    let doctor = tokio::process::Command::new("/proc/self/exe")
        // What was read at our start holds, whatever the file says by now.
        .args(["doctor", "--json", "--config", "/dev/null", "--state-dir"])
        .arg(&config.state_dir)
        .arg(format!("--set=cgroup_parent={:?}", config.cgroup_parent.display().to_string()))
        .args((!criu.as_os_str().is_empty()).then(|| format!("--set=checkpoints.criu={}", criu.display())))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DOCTOR_PATIENCE, doctor).await.ok()?.ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

/// Looks at everything that containers need of a host.
pub(crate) fn checks(config: &Config) -> Vec<CheckView> {
    let places = Places { state_dir: &config.state_dir, criu: &config.checkpoints.criu };
    let abilities = probe::doctor(places).into_iter();
    let mut checks: Vec<CheckView> = abilities
        .map(|check| CheckView {
            name: check.name.to_owned(),
            status: match check.status {
                probe::Status::Ok => CheckStatus::Ok,
                probe::Status::Degraded => CheckStatus::Degraded,
                probe::Status::Missing => CheckStatus::Missing,
            },
            detail: check.detail,
            remedy: check.remedy.map(str::to_owned),
        })
        .collect();
    checks.extend([firewall(), forwarding()]);
    let runs = Path::new("/run/systemd/system").is_dir();
    checks.extend(delegation(runs, &config.cgroup_parent, |group| {
        // Every layout has memory's controller or the unified tree there.
        ["", "unified", "memory"]
            .iter()
            .any(|tree| Path::new("/sys/fs/cgroup").join(tree).join(group).is_dir())
    }));
    checks
}

/// Whether systemd, where it runs, has handed a control group over for the containers.
fn delegation(systemd_runs: bool, parent: &Path, stands: impl Fn(&Path) -> bool) -> Option<CheckView> {
    let check = |status, detail: &str, remedy: Option<&str>| CheckView {
        name: "delegation".to_owned(),
        status,
        detail: detail.to_owned(),
        remedy: remedy.map(str::to_owned),
    };
    if !systemd_runs {
        return None;
    }
    Some(if parent.as_os_str().is_empty() {
        check(
            CheckStatus::Degraded,
            "systemd runs here and has handed nothing over: it may change the controllers above the containers' \
             groups, and an end of the session the agent was started from may end it",
            Some("make the agent a service: wharf install"),
        )
    } else if stands(parent) {
        check(CheckStatus::Ok, "systemd has handed the containers' control group over", None)
    } else {
        check(
            CheckStatus::Degraded,
            "the control group of cgroup_parent is not there: no unit has handed it over",
            Some("systemctl start wharfd, or set cgroup_parent to the group of a unit with Delegate=yes"),
        )
    })
}

/// Whether the kernel takes the rules that part tenants and lead to their ports.
fn firewall() -> CheckView {
    let check = |status, detail: String, remedy: Option<&str>| CheckView {
        name: "firewall".to_owned(),
        status,
        detail,
        remedy: remedy.map(str::to_owned),
    };
    match wharf_network::nft::try_rules() {
        Ok(()) => check(CheckStatus::Ok, "nf_tables takes every rule of ours".to_owned(), None),
        Err(error) => check(
            CheckStatus::Missing,
            format!("the rules that part tenants cannot be made: {}", chain(&error)),
            Some(
                "install the package nftables, run as root, and load what is named (nf_tables, nft_ct, nft_nat, \
                 nft_masq, nft_connlimit, nft_chain_nat)",
            ),
        ),
    }
}

/// Whether containers reach beyond this host, and others the ports they publish.
fn forwarding() -> CheckView {
    let check = |status, detail: String, remedy: Option<&str>| CheckView {
        name: "forwarding".to_owned(),
        status,
        detail,
        remedy: remedy.map(str::to_owned),
    };
    match wharf_network::forwarding::closed_by() {
        Ok(chains) if chains.is_empty() => {
            check(CheckStatus::Ok, "no other firewall drops what containers send".to_owned(), None)
        }
        Ok(chains) => check(
            CheckStatus::Degraded,
            format!(
                "the firewall chain {} drops what containers send and what is sent to their ports",
                chains.join(", ")
            ),
            Some(
                "let the bridges of the instance wharf through, e.g. beside Docker: iptables -I DOCKER-USER -i wharfb+ \
                 -j ACCEPT; iptables -I DOCKER-USER -o wharfb+ -j ACCEPT",
            ),
        ),
        Err(error) => check(
            CheckStatus::Missing,
            format!("the firewall cannot be looked at: {}", chain(&error)),
            Some("install the package nftables, and run the agent as root"),
        ),
    }
}

/// CPUs that this process may use, at least one.
fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX))
}

/// What containers without limits have together.
pub(crate) fn capacity() -> Capacity {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Capacity {
        cpu_millis: u64::from(cpus()).saturating_mul(1_000),
        memory_bytes: memory_total_bytes(&meminfo).unwrap_or(0),
    }
}

fn memory_total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What this machine calls itself.
pub(crate) fn name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_systemd_hands_nothing_over_and_lacks_nothing() {
        let check = |runs, parent: &str, stands| {
            delegation(runs, Path::new(parent), |_| stands)
                .map(|check| (check.status, check.remedy.is_some()))
        };
        assert_eq!(check(false, "", false), None);
        assert_eq!(check(true, "", false), Some((CheckStatus::Degraded, true)));
        assert_eq!(check(true, "a.slice", false), Some((CheckStatus::Degraded, true)));
        assert_eq!(check(true, "a.slice", true), Some((CheckStatus::Ok, false)));
    }

    #[test]
    fn reads_the_memory_in_bytes() {
        assert_eq!(memory_total_bytes("MemTotal:       24000 kB\nMemFree: 1 kB\n"), Some(24_576_000));
        assert_eq!(memory_total_bytes(""), None);
    }
}
