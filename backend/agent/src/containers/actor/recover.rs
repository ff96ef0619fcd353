//! After a start of the agent: what became of the container while no agent looked.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;
use tokio::time::Instant;
use wharf_shared::container::{ContainerState, RestartPolicy};
use wharf_shared::network::PortMapping;
use wharf_shim::failpoint;
use wharf_shim::process_ref::ProcessRef;
use wharf_shim::protocol::{ExitStatus, Phase, StateReport};
use wharf_store::containers::Desired;
use wharf_store::{addresses, ports};

use super::ending::{Ending, RETRY, status_of};
use super::{Actor, Live, Then};
use crate::containers::{reading_limits, restart};
use crate::ctx::Ctx;
use crate::engine::{Found, Session};
use crate::error::{Result, chain};
use crate::metering::Run;

impl Actor {
    /// Finds out what became of the container while no agent looked.
    pub(super) async fn recover(&mut self, booted: bool) {
        let generation = self.row.observed.generation;
        let cgroup = PathBuf::from(self.row.observed.cgroup_path.clone().unwrap_or_default());
        let was_live = self.row.observed.state.is_live();
        if was_live && generation > 0 {
            let mut lost_status = ExitStatus::Unknown;
            let (record, ran) = match self.look(&cgroup).await {
                None => return,
                Some(Found::Alive { session, report }) => {
                    failpoint::reach("agent.recover.found");
                    self.adopt(session, &report, cgroup).await;
                    return;
                }
                Some(Found::Ended(record)) => {
                    let ran = record.started.is_some();
                    (Some(*record), ran)
                }
                Some(Found::Lost { ran, init }) => {
                    if ran {
                        lost_status = status_of(init.as_ref()).await;
                    }
                    (None, ran)
                }
                Some(Found::Nothing) => (None, false),
            };
            // The agent died before anything of it ran, and it shall run: it is built anew.
            self.restart_after_stop = !booted
                && !ran
                && self.row.observed.state == ContainerState::Starting
                && self.row.desired == Desired::Running;
            if !self.finish(Ending::of(generation, record, lost_status, cgroup), None).await {
                return;
            }
        }
        if !was_live && generation > 0 {
            self.find_unbooked().await;
        }
        match self.row.observed.state {
            ContainerState::Removing => {
                self.remove_now(&Ctx::system("recover"), false, Vec::new()).await;
            }
            ContainerState::Pulling | ContainerState::Starting if self.row.desired == Desired::Running => {
                self.begin(&Ctx::system("recover")).await;
            }
            // The agent told of an end and died before it could do what follows; when nothing does, what is
            // asked for has changed with the end.
            ContainerState::Exited if !was_live && !booted && self.row.desired == Desired::Running => {
                let exit = self.row.observed.exit.as_ref();
                let by_policy = exit.and_then(|exit| {
                    restart::after_exit(self.row.spec.restart, exit, false, self.restarts_in_a_row)
                });
                self.restart_after_stop = by_policy.is_none() && !self.row.spec.auto_remove;
                self.after_end().await;
            }
            ContainerState::Restarting => self.deadline = Some((Instant::now(), Then::Start)),
            _ if was_live && !booted => self.after_end().await,
            _ => {
                let by_hand = self.row.desired == Desired::Stopped;
                let policy = self.row.spec.restart;
                let wanted = was_live || policy == RestartPolicy::Always || !by_hand;
                if booted && wanted && restart::after_boot(policy, by_hand) {
                    self.begin(&Ctx::system("boot")).await;
                } else if was_live {
                    self.after_end().await;
                }
            }
        }
    }

    /// Looks for the run of the row until it is known what became of it: what may run must be neither started
    /// again nor removed. `None` when the agent stops.
    pub(super) async fn look(&self, cgroup: &Path) -> Option<Found> {
        let stop = self.deps.tasks.stopping();
        loop {
            match self.deps.engine.find(self.row.id.as_str(), self.row.observed.generation, cgroup).await {
                Ok(found) => return Some(found),
                Err(error) => {
                    tracing::error!(container.id = %self.row.id, error = chain(&error), "a container cannot be looked for; it is tried again");
                }
            }
            // Dropping either loses nothing.
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return None,
            }
        }
    }

    /// The address and the published ports that the store has for it.
    async fn names_held(&self) -> Result<(Option<Ipv4Addr>, Vec<PortMapping>)> {
        let mut tx = self.deps.db.read().await?;
        Ok((addresses::find(&mut tx, &self.row.id).await?, ports::of_container(&mut tx, &self.row.id).await?))
    }

    async fn adopt(&mut self, session: Session, report: &StateReport, cgroup: PathBuf) {
        let id = self.row.id.clone();
        let init = ProcessRef { pid: report.pid, start_time_ticks: report.start_time_ticks };
        self.live = Some(Live {
            session: session.clone(),
            cgroup: cgroup.clone(),
            init: init.pin().ok().flatten(),
            since: Instant::now(),
            execs: HashMap::new(),
        });
        let names = self.names_held().await;
        if let Err(error) = &names {
            tracing::error!(container.id = %id, error = chain(error), "an adopted container's address is not known");
        }
        let names = names.ok();
        let run = Run {
            id: &id,
            generation: report.generation,
            tenant: &self.row.tenant,
            cgroup: &cgroup,
            address: names.as_ref().and_then(|(address, _)| *address),
            limits: reading_limits(&self.row.spec.limits),
        };
        // The end of one that has ended is what its supervisor saw, not the moment of this look.
        if report.phase != Phase::Exited
            && let Err(error) = self.deps.metering.adopt(run).await
        {
            tracing::error!(container.id = %id, error = chain(&error), "an adopted container cannot be metered");
        }
        failpoint::reach("agent.recover.adopted");
        match report.phase {
            Phase::Running => {
                let frozen = self.row.observed.state == ContainerState::Paused;
                let pid = report.pid;
                // It was let run, and the agent died before it could write so.
                let untold = self.row.observed.state == ContainerState::Starting;
                let names = names.filter(|_| untold);
                let now = self.deps.clock.now();
                self.note(Some(if untold { "container.started" } else { "container.adopted" }), |row| {
                    if untold {
                        row.observed.started_at = Some(now);
                        row.observed.finished_at = None;
                    }
                    if let Some((address, ports)) = names {
                        row.observed.address = address;
                        row.observed.ports = ports;
                    }
                    row.observed.state =
                        if frozen { ContainerState::Paused } else { ContainerState::Running };
                    row.observed.pid = Some(pid);
                })
                .await;
                if untold {
                    self.deps.names_changed(&self.row);
                }
                self.adopt_health(frozen).await;
                if self.row.desired == Desired::Stopped {
                    let (ignored, _) = oneshot::channel();
                    self.stop(&Ctx::system("recover"), None, ignored).await;
                }
            }
            Phase::Exited => self.ended(None).await,
            // The agent died between building and starting: nothing of it has run. Build it anew.
            Phase::Creating | Phase::Created => {
                self.restart_after_stop = self.row.desired == Desired::Running;
                self.deadline = Some((Instant::now(), Then::Kill));
            }
        }
    }
}
