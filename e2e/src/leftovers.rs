//! What may be left of an agent's instance on the machine after it was purged: nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::registry::run;

/// So many shims of a forge may wait for a launch.
const PARKED: usize = 4;

/// Directories of an instance in every cgroup hierarchy of this machine, whether they exist or not.
pub(crate) fn cgroup_dirs(instance: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let target = fields.next()?;
            fields.next()?.starts_with("cgroup").then(|| Path::new(target).join(instance))
        })
        .collect();
    dirs.dedup();
    dirs
}

fn below(dir: &PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// The containers' cgroups of an instance, in every hierarchy.
pub(crate) fn container_cgroups(instance: &str) -> Vec<PathBuf> {
    let tenants = cgroup_dirs(instance).iter().flat_map(below).collect::<Vec<_>>();
    tenants.iter().flat_map(below).collect()
}

/// What is left of containers while the agent goes on, in words; `dirs` are theirs.
pub(crate) fn of_containers(instance: &str, dir: &Path, dirs: &[PathBuf]) -> Result<Vec<String>> {
    let cgroups = container_cgroups(instance).into_iter();
    let mut left: Vec<String> = cgroups.map(|path| format!("cgroup {}", path.display())).collect();
    for dir in dirs {
        left.extend(below(dir).iter().map(|path| format!("directory {}", path.display())));
        left.extend(mounts(&[format!("{}/", dir.display())]));
    }
    let links = run(Command::new("ip").args(["-o", "link", "show", "type", "veth"]))?;
    left.extend(links.lines().map(|line| format!("link {line}")));
    // A container's elements are in these sets; the others have those of tenants.
    let rules = run(Command::new("nft").args(["list", "ruleset"]))?;
    let mut set = "";
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(" {").and_then(|line| line.split(' ').nth(1)) {
            set = name;
        }
        let of_containers = ["owners", "published", "published_at"].contains(&set)
            || ["internet_", "tenant_", "cross_", "host_"].iter().any(|class| set.starts_with(class));
        if line.starts_with("elements") && of_containers {
            left.push(format!("nft {set} {line}"));
        }
    }
    // One process of the supervisor's program is the forge, and some wait for a launch; each other one has a
    // container.
    let ours = processes(&[format!("{}/", dir.display())]);
    let named = |name: &'static str| {
        let of_name = move |process: &&String| process.contains("--forge") && process.contains(name);
        ours.iter().filter(of_name).cloned()
    };
    left.extend(named("(wharf-forge)").skip(1));
    left.extend(named("(wharf-parked)").skip(PARKED));
    left.extend(named("(wharf-shim)"));
    Ok(left)
}

fn mounts(marks: &[String]) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let marked = mounts.lines().filter(|line| marks.iter().any(|mark| line.contains(mark)));
    marked.map(|line| format!("mount {line}")).collect()
}

/// Everything that is left, in words.
pub(crate) fn find(instance: &str, dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for cgroup in cgroup_dirs(instance) {
        if cgroup.exists() {
            left.push(format!("cgroup {}", cgroup.display()));
        }
    }
    let marks = [format!("/{instance}/"), format!("{}/", dir.display())];
    left.extend(mounts(&marks));
    left.extend(processes(&marks));
    for path in [
        dir.join("state"),
        dir.join("run"),
        Path::new("/run").join(instance),
        Path::new("/var/lib").join(instance),
    ] {
        if path.exists() {
            left.push(format!("directory {}", path.display()));
        }
    }
    // This thread's network namespace had only loopback and no table.
    match run(Command::new("ip").args(["-o", "link"])) {
        Ok(links) => left
            .extend(links.lines().filter(|line| !line.contains(": lo:")).map(|line| format!("link {line}"))),
        Err(error) => left.push(format!("links cannot be listed: {error:#}")),
    }
    match run(Command::new("nft").args(["list", "tables"])) {
        Ok(tables) => left.extend(tables.lines().map(|line| format!("nft {line}"))),
        Err(error) => left.push(format!("nft tables cannot be listed: {error:#}")),
    }
    left
}

/// Processes in the instance's cgroups, with its directory in their arguments, or in this network namespace.
fn processes(marks: &[String]) -> Vec<String> {
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let cgroups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let marked = |text: &str| marks.iter().any(|mark| text.contains(mark));
        let same_network = own.is_some() && fs::read_link(path.join("ns/net")).ok() == own;
        if cgroups.lines().any(|line| marked(&format!("{line}/"))) || marked(&arguments) || same_network {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            left.push(format!("process {pid} ({}): {arguments}", name.trim_end()));
        }
    }
    left
}
