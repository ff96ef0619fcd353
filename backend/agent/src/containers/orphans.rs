//! What is on the host although no row accounts for it: ended, billed, removed.
//!
//! A row is written before anything of a container is made, and deleted last, so an orphan means
//! that the store was restored from an older copy, or that another start than the one in the row was
//! left behind. Its readings are in the journal; its last one is taken before its cgroup goes.

use std::collections::{BTreeMap, BTreeSet};

use wharf_shared::id::{ContainerId, TenantId};
use wharf_shared::problem::ProblemKind;
use wharf_shim::failpoint;
use wharf_store::containers::{self as rows, ContainerFilter, ContainerRecord};
use wharf_store::pagination::PageRequest;
use wharf_store::{Scope, tenants};

use super::{Containers, launch};
use crate::engine::{Remains, RunCgroup};
use crate::error::{Result, ServiceError, chain};
use crate::metering::End;

/// What is to be done with what was found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sweep {
    /// Starts that no row says to be there.
    runs: Vec<RunCgroup>,
    /// Containers whose supervisor goes, unless it supervises the start that is wanted.
    supervisors: BTreeMap<ContainerId, Option<u64>>,
    /// Containers that have no row.
    unknown: BTreeSet<ContainerId>,
    /// Tenants that have no row.
    tenants: BTreeSet<TenantId>,
}

impl Containers {
    /// Ends and removes whatever the store does not account for. Before actors, volumes and network.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let remains = self.deps.engine.remains().await.map_err(launch::engine_failed)?;
        let (all, known) = {
            let mut tx = self.deps.db.read().await?;
            let whole = PageRequest::whole();
            let all = rows::list(&mut tx, &Scope::All, &ContainerFilter::default(), &whole).await?.items;
            let owners = tenants::list(&mut tx, &Scope::All, &whole).await?.items;
            (all, owners.into_iter().map(|tenant| tenant.id).collect())
        };
        let sweep = plan(remains, &all, &known);
        if known.is_empty() && !sweep.unknown.is_empty() {
            return Err(foreign_store(&format!("{} containers", sweep.unknown.len())));
        }
        for run in &sweep.runs {
            if let Err(error) = self.deps.engine.end_run(&run.path).await {
                tracing::error!(container.id = %run.id, error = chain(&error), "a start that no row knows was not ended");
            }
        }
        failpoint::reach("agent.sweep.ended");
        for (id, wanted) in &sweep.supervisors {
            self.deps.engine.dismiss_supervisor(id, *wanted).await.map_err(launch::engine_failed)?;
        }
        for run in &sweep.runs {
            self.book(&run.id, run.generation, Some(run)).await;
            failpoint::reach("agent.sweep.booked");
        }
        for id in &sweep.unknown {
            for generation in self.deps.engine.exit_generations(id).await.map_err(launch::engine_failed)? {
                self.book(id, generation, None).await;
            }
            self.deps.engine.remove_files(id.as_str()).await.map_err(launch::engine_failed)?;
            tracing::warn!(container.id = %id, "removed what was left of a container that the store does not know");
        }
        for tenant in &sweep.tenants {
            self.end_tails(tenant).await;
            if let Err(error) = self.deps.engine.remove_tenant(tenant.as_str()).await {
                tracing::error!(tenant.id = %tenant, error = chain(&error), "the cgroup of a tenant that the store does not know was left behind");
            }
        }
        Ok(())
    }

    /// Books of ended starts of a tenant that goes what they wrote so far, and removes their cgroups: the
    /// tenant's cannot go before them, and nobody is left to be charged for the rest.
    pub(super) async fn end_tails(&self, tenant: &TenantId) {
        if !self.deps.metering.lingers() {
            return;
        }
        for run in self.deps.engine.runs_of(tenant.as_str()).await {
            let booked = self.deps.metering.book_tail(&run.id, run.generation, &run.path, true).await;
            let done = match booked {
                Ok(true) => self.deps.engine.remove_cgroup(run.path).await.map_err(launch::engine_failed),
                booked => booked.map(|_| ()),
            };
            if let Err(error) = done {
                tracing::error!(container.id = %run.id, error = chain(&error), "what a container of a removed tenant wrote last was not stored; its cgroup is kept");
            }
        }
    }

    /// Stores the last reading of a start and removes its cgroup; without the reading the cgroup stays,
    /// for its counters are the only copy of what was used.
    async fn book(&self, id: &ContainerId, generation: u64, run: Option<&RunCgroup>) {
        let record = self.deps.engine.exit_record(id.as_str(), generation).await.ok().flatten();
        let end = record.as_ref().map(End::of);
        if let Err(error) = self.deps.metering.close(id, generation, end.as_ref()).await {
            tracing::error!(container.id = %id, error = chain(&error), "the last reading of an orphan was not stored; its cgroup is kept");
            return;
        }
        let Some(run) = run else { return };
        if self.deps.metering.lingers() {
            launch::remove_cgroup_later(&self.deps, id, generation, run.path.clone()).await;
        } else if let Err(error) = self.deps.engine.remove_run(&run.path).await {
            tracing::error!(container.id = %id, error = chain(&error), "the cgroup of an orphan was left behind");
        }
    }
}

/// What nobody accounts for.
fn plan(remains: Remains, all: &[ContainerRecord], known: &BTreeSet<TenantId>) -> Sweep {
    let wanted: BTreeMap<&ContainerId, Option<u64>> = all
        .iter()
        .map(|row| (&row.id, row.observed.state.is_live().then_some(row.observed.generation)))
        .collect();
    let wants = |id: &ContainerId| wanted.get(id).copied().flatten();
    let unknown = remains.containers().into_iter().filter(|id| !wanted.contains_key(id)).collect();
    let runs: Vec<RunCgroup> =
        remains.runs.into_iter().filter(|run| wants(&run.id) != Some(run.generation)).collect();
    let idle = remains.supervised.into_iter().filter(|id| wants(id).is_none());
    let replaced = runs.iter().map(|run| run.id.clone());
    let supervisors = idle.chain(replaced).map(|id| (id.clone(), wants(&id))).collect();
    let tenants = remains.tenants.into_iter().filter(|tenant| !known.contains(tenant)).collect();
    Sweep { runs, supervisors, unknown, tenants }
}

/// A store without any tenant beside a full state directory is another store than the one that filled
/// it: nothing is removed on its word.
pub(crate) fn foreign_store(found: &str) -> ServiceError {
    ServiceError::new(
        ProblemKind::Conflict,
        format!(
            "the store has no tenant, but this host holds {found} of another store; \
             set database.url to that store, or remove them with `wharfd down --purge`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use wharf_shared::container::{ContainerSpec, ContainerState};
    use wharf_shared::time::Timestamp;
    use wharf_store::containers::{Desired, Observed};

    use super::*;

    fn id(digit: char) -> ContainerId {
        digit.to_string().repeat(64).parse().expect("an id")
    }

    fn tenant(last: char) -> TenantId {
        format!("tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3{last}").parse().expect("an id")
    }

    fn row(digit: char, state: ContainerState, generation: u64) -> ContainerRecord {
        ContainerRecord {
            id: id(digit),
            tenant: tenant('a'),
            tenant_name: "acme".to_owned(),
            name: digit.to_string(),
            spec: ContainerSpec::default(),
            desired: Desired::Running,
            created_at: Timestamp(0),
            version: 1,
            observed: Observed { state, generation, ..Observed::default() },
        }
    }

    fn run(digit: char, generation: u64) -> RunCgroup {
        RunCgroup { path: format!("wharf/{digit}-{generation}").into(), id: id(digit), generation }
    }

    #[test]
    fn what_a_row_says_to_run_is_left_alone() {
        let remains = Remains {
            runs: vec![run('1', 2)],
            tenants: BTreeSet::from([tenant('a')]),
            supervised: BTreeSet::from([id('1')]),
            stored: BTreeSet::from([id('1'), id('2')]),
        };
        let all = [row('1', ContainerState::Running, 2), row('2', ContainerState::Exited, 1)];
        assert_eq!(plan(remains, &all, &BTreeSet::from([tenant('a')])), Sweep::default());
    }

    #[test]
    fn another_start_than_the_rows_goes_and_the_rows_stays() {
        let remains = Remains {
            runs: vec![run('1', 2), run('1', 3), run('2', 1)],
            supervised: BTreeSet::from([id('1'), id('2')]),
            ..Remains::default()
        };
        let all = [row('1', ContainerState::Running, 2), row('2', ContainerState::Exited, 1)];
        let sweep = plan(remains, &all, &BTreeSet::from([tenant('a')]));
        assert_eq!(sweep.runs, [run('1', 3), run('2', 1)]);
        assert_eq!(sweep.supervisors, BTreeMap::from([(id('1'), Some(2)), (id('2'), None)]));
        assert!(sweep.unknown.is_empty());
    }

    #[test]
    fn what_has_no_row_goes_wherever_it_is_seen() {
        let remains = Remains {
            runs: vec![run('1', 1)],
            tenants: BTreeSet::from([tenant('a'), tenant('b')]),
            supervised: BTreeSet::from([id('2')]),
            stored: BTreeSet::from([id('3')]),
        };
        let sweep = plan(remains, &[], &BTreeSet::from([tenant('a')]));
        assert_eq!(sweep.unknown, BTreeSet::from([id('1'), id('2'), id('3')]));
        assert_eq!(sweep.tenants, BTreeSet::from([tenant('b')]));
        assert_eq!(sweep.runs, [run('1', 1)]);
    }
}
