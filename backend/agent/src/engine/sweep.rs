//! What lies on the host under this instance's names, whatever the store says of it.
//!
//! A container's row is written before anything of it is made and deleted after everything of it is
//! gone, so what no row accounts for comes from a store that was restored or lost. It is found by the
//! instance's own directories and cgroups, never by a process's name, and ended through its cgroup.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use wharf_runtime::cgroup::{Cgroup, CgroupError, Layout};
use wharf_shared::id::{ContainerId, TenantId};
use wharf_shim::client::{self, Client};
use wharf_shim::paths::RunDir;
use wharf_shim::protocol::{Phase, Request, StateReport};

use super::{Engine, EngineError};

/// The kernel ends a killed cgroup, and a supervisor writes its exit record, within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// The cgroup of one start of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunCgroup {
    pub(crate) path: PathBuf,
    pub(crate) id: ContainerId,
    pub(crate) generation: u64,
}

/// Everything of this instance on the host.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    pub(crate) runs: Vec<RunCgroup>,
    /// Tenants that have a cgroup.
    pub(crate) tenants: BTreeSet<TenantId>,
    /// Containers that have a run directory: their supervisors may live.
    pub(crate) supervised: BTreeSet<ContainerId>,
    /// Containers that have a directory on disk.
    pub(crate) stored: BTreeSet<ContainerId>,
}

impl Remains {
    /// Every container that anything speaks of.
    pub(crate) fn containers(&self) -> BTreeSet<ContainerId> {
        let runs = self.runs.iter().map(|run| &run.id);
        runs.chain(&self.supervised).chain(&self.stored).cloned().collect()
    }
}

impl Engine {
    /// Looks for everything of this instance.
    pub(crate) async fn remains(&self) -> Result<Remains, EngineError> {
        let (layout, root) = (self.layout.clone(), self.cgroup_root.clone());
        let (run, state) = (self.run_root.containers(), self.state_root.containers());
        let found = tokio::task::spawn_blocking(move || {
            let mut remains =
                Remains { supervised: ids_in(&run)?, stored: ids_in(&state)?, ..Remains::default() };
            for tenant in children(&layout, &root) {
                remains.tenants.extend(name_of(&tenant).and_then(|name| name.parse().ok()));
                remains.runs.extend(children(&layout, &tenant).into_iter().filter_map(run_cgroup));
            }
            Ok(remains)
        });
        found.await?.map_err(|source| EngineError::Prepare { path: self.run_root.containers(), source })
    }

    /// The starts of a tenant whose cgroups are there.
    pub(crate) async fn runs_of(&self, tenant: &str) -> Vec<RunCgroup> {
        let (layout, path) = (self.layout.clone(), self.tenant_cgroup(tenant));
        let found = tokio::task::spawn_blocking(move || {
            children(&layout, &path).into_iter().filter_map(run_cgroup).collect()
        });
        found.await.unwrap_or_default()
    }

    /// Kills every process of a start, and waits until they have ended.
    pub(crate) async fn end_run(&self, cgroup: &Path) -> Result<(), EngineError> {
        empty(&self.layout, cgroup)
            .await
            .map_err(|source| EngineError::Cgroup { path: cgroup.to_owned(), source })
    }

    /// Removes the cgroup of a start that was ended.
    pub(crate) async fn remove_run(&self, cgroup: &Path) -> Result<(), EngineError> {
        remove(&self.layout, cgroup)
            .await
            .map_err(|source| EngineError::Cgroup { path: cgroup.to_owned(), source })
    }

    /// Lets a container's supervisor go once it has written how its run ended, unless it supervises the
    /// start `wanted`.
    pub(crate) async fn dismiss_supervisor(
        &self,
        id: &ContainerId,
        wanted: Option<u64>,
    ) -> Result<(), EngineError> {
        let Ok(run) = self.run_root.container(id.as_str()) else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let dir = run.clone();
            let gone = tokio::task::spawn_blocking(move || {
                dismiss(&dir, |report| Some(report.generation) == wanted)
            });
            if gone.await? {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        tracing::error!(container.id = %id, "a supervisor that nobody wants does not go");
        Ok(())
    }

    /// The starts of which a container's directory has an exit record.
    pub(crate) async fn exit_generations(&self, id: &ContainerId) -> Result<Vec<u64>, EngineError> {
        let Some(state) = self.state_dir(id.as_str()) else { return Ok(Vec::new()) };
        let path = state.path().to_owned();
        let listed = tokio::task::spawn_blocking(move || names_in(&path)).await?;
        let names =
            listed.map_err(|source| EngineError::Prepare { path: state.path().to_owned(), source })?;
        let number = |name: &String| name.strip_prefix("exit-")?.strip_suffix(".json")?.parse().ok();
        Ok(names.iter().filter_map(number).collect())
    }
}

/// Asks a supervisor to go if its run is over; true when nobody has to go any more.
fn dismiss(run: &RunDir, wanted: impl Fn(&StateReport) -> bool) -> bool {
    let Ok(mut shim): Result<Client, _> = client::connect_shim(run) else { return true };
    match shim.state() {
        Ok((report, _)) if wanted(&report) => true,
        Ok((report, _)) if report.phase == Phase::Exited => {
            // Whether it said yes shows when it is asked again and nobody answers.
            shim.done(Request::Release, &[]).ok();
            false
        }
        _ => false,
    }
}

/// The cgroups directly below this one, in any hierarchy.
pub(crate) fn children(layout: &Layout, path: &Path) -> Vec<PathBuf> {
    let mut names = BTreeSet::new();
    for hierarchy in layout.hierarchies() {
        let Ok(entries) = std::fs::read_dir(hierarchy.join(path)) else { continue };
        let dirs = entries.flatten().filter(|entry| entry.path().is_dir());
        names.extend(dirs.map(|entry| entry.file_name()));
    }
    names.into_iter().map(|name| path.join(name)).collect()
}

/// Kills every process of a cgroup until there is none.
pub(crate) async fn empty(layout: &Layout, path: &Path) -> Result<(), CgroupError> {
    let cgroup = Cgroup::open(layout, path)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        cgroup.kill()?;
        if cgroup.is_empty().unwrap_or(true) || Instant::now() >= deadline {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Removes an emptied cgroup; the kernel lets go of one a moment after its last process.
pub(crate) async fn remove(layout: &Layout, path: &Path) -> Result<(), CgroupError> {
    let cgroup = Cgroup::open(layout, path)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match cgroup.remove() {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            removed => return removed,
        }
    }
}

fn run_cgroup(path: PathBuf) -> Option<RunCgroup> {
    let (id, generation) = name_of(&path)?.rsplit_once('-')?;
    let (id, generation) = (id.parse().ok()?, generation.parse().ok()?);
    Some(RunCgroup { path, id, generation })
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// What in a directory is named as a container; the rest was not made by us.
fn ids_in(dir: &Path) -> io::Result<BTreeSet<ContainerId>> {
    Ok(names_in(dir)?.iter().filter_map(|name| name.parse().ok()).collect())
}

fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_by_the_name_of_its_cgroup() {
        let id = "0123456789abcdef".repeat(4);
        let path = PathBuf::from(format!("wharf/tnt_x/{id}-12"));
        let run = run_cgroup(path.clone()).expect("a run");
        assert_eq!((run.id.as_str(), run.generation, run.path), (id.as_str(), 12, path));
        for name in ["x-1", &id, &format!("{id}-"), &format!("{id}-x"), &format!("../{id}-1/..")] {
            assert_eq!(run_cgroup(Path::new("wharf/tnt_x").join(name)), None, "{name}");
        }
    }

    #[test]
    fn only_what_is_named_as_a_container_is_taken_for_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let id = "0123456789abcdef".repeat(4);
        for name in [id.as_str(), "lost+found", "abc"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let found = ids_in(dir.path()).expect("listed");
        assert_eq!(found.iter().map(ContainerId::as_str).collect::<Vec<_>>(), [id]);
        assert!(ids_in(&dir.path().join("missing")).expect("none").is_empty());
    }
}
