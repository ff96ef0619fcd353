//! What a running container costs outside its own processes: its supervisor, and what the agent and
//! the forge grew by, against containerd's shim, and what dockerd and containerd grew by.
//!
//! PSS: a page that several processes share is counted in parts, as `smaps_rollup` does.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;
use wharf_e2e::figures::{self, Bar, line};
use wharf_e2e::peers::Dockerd;
use wharf_e2e::{World, run};

const CONTAINERS: u32 = 100;
/// Docker's are fewer: each takes half a second to start.
const DOCKER_CONTAINERS: u32 = 10;
/// Less than 1 MiB each.
const BAR_KIB: f64 = 1024.0;
/// Of a supervisor alone.
const SUPERVISOR_BAR_KIB: f64 = 100.0;

fn main() -> Result<()> {
    if figures::wanted() { run(measure) } else { Ok(()) }
}

fn measure(world: &World) -> Result<()> {
    let tenant = world.tenant("bench")?;
    // What the first one brings along is the agent's, not a container's.
    world.start(&tenant, &["sleep", "1000"], json!({}))?;
    let mark = world.dir().join("run").display().to_string();
    let ours = || pss_kib(|process| process.arguments.contains(&mark));
    let before = ours()?;
    for _container in 0..CONTAINERS {
        world.start(&tenant, &["sleep", "1000"], json!({}))?;
    }
    let after = ours()?;
    let shims = after.processes - before.processes;
    // The forge has the same arguments, and is about as large.
    let supervisors =
        pss_kib(|process| process.arguments.contains(&mark) && process.arguments.contains("--forge"))?;

    let docker = Dockerd::start(world).context("start dockerd (package docker.io)")?;
    let start = || docker.run(&["run", "-d", "busybox", "sleep", "1000"]).map(drop);
    start()?;
    let mark = world.dir().join("docker/").display().to_string();
    let theirs = || pss_kib(|process| process.arguments.contains(&mark));
    let docker_before = theirs()?;
    for _container in 0..DOCKER_CONTAINERS {
        start()?;
    }
    let docker_after = theirs()?;

    figures::machine()?;
    figures::with(&docker.version)?;
    let own = (after.kib - before.kib) / f64::from(CONTAINERS);
    line(&format!(
        "  ours, agent, forge and shims before: {:.0} KiB; with {CONTAINERS} more ({shims} processes): {:.0} KiB",
        before.kib, after.kib
    ))?;
    Bar::AtMost(BAR_KIB).judge("a running container", own, " KiB")?;
    let what = format!("a supervisor, with {CONTAINERS} containers");
    let each = supervisors.kib / u32::try_from(supervisors.processes).map_or(f64::MAX, f64::from);
    Bar::AtMost(SUPERVISOR_BAR_KIB).judge(&what, each, " KiB")?;
    let theirs = (docker_after.kib - docker_before.kib) / f64::from(DOCKER_CONTAINERS);
    figures::beside("docker, a running container", theirs, " KiB")
}

/// A process of the host.
struct Process {
    arguments: String,
    dir: PathBuf,
}

struct Pss {
    kib: f64,
    processes: usize,
}

/// What the chosen processes of this host use together.
fn pss_kib(chosen: impl Fn(&Process) -> bool) -> Result<Pss> {
    let mut sum = Pss { kib: 0.0, processes: 0 };
    for entry in fs::read_dir("/proc").context("list processes")? {
        let dir = entry.context("list processes")?.path();
        let arguments = fs::read(dir.join("cmdline")).unwrap_or_default();
        let process = Process { arguments: String::from_utf8_lossy(&arguments).into_owned(), dir };
        if !chosen(&process) {
            continue;
        }
        let rollup = fs::read_to_string(process.dir.join("smaps_rollup")).unwrap_or_default();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        if let Some(pss) = pss {
            let kib: u32 = pss.trim().trim_end_matches(" kB").parse().context("understand smaps_rollup")?;
            sum.kib += f64::from(kib);
            sum.processes += 1;
        }
    }
    Ok(sum)
}
