//! `wharfd down`: ends everything of one instance, and with `--purge` leaves nothing of it.
//!
//! Works without a running agent. What belongs to the instance is found by its own directories and
//! cgroups, never by a process's name. An agent that still runs is asked to stop first, because it
//! would restart what ends.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;
use wharf_runtime::cgroup::{Cgroup, Layout};
use wharf_shim::client;
use wharf_shim::paths::{RunDir, RunRoot};
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{Phase, Request};

use crate::config::Config;
use crate::engine::sweep::{self, children};
use crate::say;

/// Name of the file in the run directory that names the agent.
pub(crate) const PID_FILE: &str = "wharfd.pid";
/// The agent and its supervisors get so long to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends it.
pub(crate) async fn down(config: &Config, purge: bool) -> anyhow::Result<()> {
    stop_agent(&config.run_dir).await?;
    let layout = Layout::detect().context("look at the host's cgroups")?;
    let root = config.cgroup_root();
    let run_root = RunRoot::new(&config.run_dir);
    let ended = end_containers(&layout, &root, &run_root).await?;
    say(&format!("ended {ended} containers"));
    if let Some(forge) = client::connect_forge(&run_root).context("ask for the forge")? {
        forge.quit().context("stop the forge")?;
    }
    let network = wharf_network::Network::open(&wharf_network::NetworkConfig::new(config.instance.clone()))?;
    network.purge().await.context("remove the network")?;
    remove(&config.run_dir)?;
    if purge {
        remove(&config.state_dir)?;
        say("removed all state");
    }
    Ok(())
}

/// The process of the agent that has this run directory, if one runs.
pub(crate) fn running_agent(run_dir: &Path) -> anyhow::Result<Option<ProcessRef>> {
    let Ok(text) = std::fs::read_to_string(run_dir.join(PID_FILE)) else { return Ok(None) };
    let Ok(agent) = serde_json::from_str::<ProcessRef>(&text) else { return Ok(None) };
    Ok(agent.is_alive().context("look for the agent")?.then_some(agent))
}

async fn stop_agent(run_dir: &Path) -> anyhow::Result<()> {
    let Some(agent) = running_agent(run_dir)? else { return Ok(()) };
    kill(Pid::from_raw(agent.pid), Signal::SIGTERM).context("ask the agent to stop")?;
    let deadline = Instant::now() + PATIENCE;
    while agent.is_alive().context("look for the agent")? {
        anyhow::ensure!(Instant::now() < deadline, "the agent (pid {}) does not stop", agent.pid);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    say("stopped the agent");
    Ok(())
}

/// Kills and removes every cgroup below the instance's, deepest first.
async fn end_containers(layout: &Layout, root: &Path, run_root: &RunRoot) -> anyhow::Result<usize> {
    let mut ended = 0;
    let tenants = children(layout, root);
    for tenant in &tenants {
        for container in children(layout, tenant) {
            Cgroup::open(layout, &container)
                .and_then(|cgroup| cgroup.kill())
                .with_context(|| format!("kill the cgroup {}", container.display()))?;
            ended += 1;
        }
    }
    release_shims(run_root).await?;
    for tenant in &tenants {
        for container in children(layout, tenant) {
            end(layout, &container).await?;
        }
        end(layout, tenant).await?;
    }
    if !layout.hierarchies().iter().any(|hierarchy| hierarchy.join(root).exists()) {
        return Ok(ended);
    }
    end(layout, root).await?;
    for parent in root.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        for hierarchy in layout.hierarchies() {
            // Made on the way where nobody handed it over; the kernel keeps one that is in use.
            std::fs::remove_dir(hierarchy.join(parent)).ok();
        }
    }
    Ok(ended)
}

/// Waits until every supervisor has written its exit record, so that the next start of the agent
/// bills what was used until now, and lets it go.
async fn release_shims(run_root: &RunRoot) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(run_root.containers()) else { return Ok(()) };
    let deadline = Instant::now() + PATIENCE;
    for entry in entries.flatten() {
        let dir = RunDir::new(entry.path());
        loop {
            let Ok(mut shim) = client::connect_shim(&dir) else { break };
            let exited = shim.state().is_ok_and(|(report, _)| report.phase == Phase::Exited);
            if exited && shim.done(Request::Release, &[]).is_ok() {
                break;
            }
            drop(shim);
            anyhow::ensure!(
                Instant::now() < deadline,
                "the supervisor in {} does not end",
                dir.path().display()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

async fn end(layout: &Layout, path: &Path) -> anyhow::Result<()> {
    sweep::empty(layout, path).await.with_context(|| format!("kill the cgroup {}", path.display()))?;
    sweep::remove(layout, path).await.with_context(|| format!("remove the cgroup {}", path.display()))
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
