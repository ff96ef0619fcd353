//! A new container: who may have it, whether the quota allows it, and its row.

use std::collections::BTreeMap;

use wharf_shared::checkpoint::CheckpointView;
use wharf_shared::container::{ContainerSpec, ContainerState, ContainerView};
use wharf_shared::id::{CheckpointId, ContainerId, VolumeId};
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_shared::tenant::Quota;
use wharf_shared::volume::VolumeSource;
use wharf_shim::failpoint;
use wharf_store::StoreError;
use wharf_store::containers::{self as rows, ContainerRecord, Desired, Observed};
use wharf_store::tenants::{self, TenantUse};

use super::actor::Command;
use super::{Containers, filter, label, launch, name_taken, view};
use crate::checkpoints::Record;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};
use crate::events::Change;

impl Containers {
    /// Makes a container, and has it started if asked.
    pub(crate) async fn create(&self, ctx: &Ctx, spec: ContainerSpec, start: bool) -> Result<ContainerView> {
        ctx.require(Permission::TenantWrite)?;
        if spec.checkpoint.is_some() {
            return Err(ServiceError::invalid_field("checkpoint", "restore it with its own request"));
        }
        self.insert(ctx, spec, start).await
    }

    /// Makes a container that goes on where a checkpoint was made.
    pub(crate) async fn restore(
        &self,
        ctx: &Ctx,
        record: &Record,
        name: Option<String>,
    ) -> Result<ContainerView> {
        let checkpoint = Some(record.view.id.clone());
        let tenant = Some(record.view.tenant.clone());
        let spec = ContainerSpec { name, tenant, checkpoint, ..record.spec.clone() };
        let made = self.insert(ctx, spec, false).await?;
        match self.start(ctx, made.id.as_str()).await {
            Ok(view) => Ok(view),
            Err(error) => {
                // One that never ran is of no use, and its name would be taken.
                if let Err(error) = self.remove(ctx, made.id.as_str(), true, false).await {
                    tracing::warn!(error = chain(&error), "what a failed restore made was left behind");
                }
                Err(error)
            }
        }
    }

    pub(crate) async fn checkpoint(
        &self,
        ctx: &Ctx,
        container: &str,
        id: CheckpointId,
        keep_running: bool,
    ) -> Result<CheckpointView> {
        let container = self.find(ctx, container).await?.id;
        let view = self
            .ask(ctx, container.as_str(), |answer| Command::Checkpoint {
                ctx: ctx.clone(),
                id,
                keep_running,
                answer,
            })
            .await?;
        if !keep_running && let Err(error) = self.wait(ctx, container.as_str(), false).await {
            // One that removes itself is gone by now.
            tracing::debug!(error = chain(&error), "a saved container's end was not seen");
        }
        Ok(view)
    }

    async fn insert(&self, ctx: &Ctx, mut spec: ContainerSpec, start: bool) -> Result<ContainerView> {
        let tenant = ctx.tenant_for(spec.tenant.as_ref())?;
        spec.tenant = Some(tenant.clone());
        let problems = spec.problems();
        if !problems.is_empty() {
            return Err(ServiceError::invalid(problems));
        }
        if start {
            self.deps.budgets.require_start(&tenant)?;
        }
        filter::of(&spec).map_err(|error| launch::no_filter(&error))?;
        let host_access = self.check_host_access(ctx, &spec)?;
        label::of(&spec, self.deps.engine.apparmor())?;
        self.add_defaults(&mut spec);
        self.deps.engine.check_limits(&spec.limits).map_err(launch::engine_failed)?;
        let reference = spec
            .image
            .parse::<wharf_image::ImageRef>()
            .map_err(|error| ServiceError::invalid_field("image", error.to_string()))?;
        spec.image = reference.to_string();
        let id = new_id()?;
        let name = spec.name.clone().unwrap_or_else(|| id.short().to_owned());
        spec.name = Some(name.clone());

        let mut tx = self.deps.db.begin().await?;
        tenants::lock(&mut tx, &tenant).await.map_err(|error| match error {
            StoreError::NotFound(_) => ServiceError::not_found("tenant", tenant.as_str()),
            error => error.into(),
        })?;
        let owner = tenants::get(&mut tx, &tenant).await?;
        let used = tenants::usage(&mut tx, &tenant).await?;
        check_quota(&owner.quota, &used, &spec)?;
        let mut volumes: Vec<VolumeId> = Vec::new();
        for mount in &spec.volumes {
            if let VolumeSource::Volume(name) = &mount.source {
                volumes.push(self.deps.volumes.ensure(&mut tx, ctx, &owner, name).await?);
            }
        }
        let row = ContainerRecord {
            id: id.clone(),
            tenant: tenant.clone(),
            tenant_name: owner.name.clone(),
            name: name.clone(),
            desired: if start { Desired::Running } else { Desired::Stopped },
            created_at: self.deps.clock.now(),
            version: 1,
            observed: Observed {
                state: if start { ContainerState::Pulling } else { ContainerState::Created },
                ports: spec.ports.clone(),
                ..Observed::default()
            },
            spec,
        };
        match rows::insert(&mut tx, &row, &volumes).await {
            Ok(()) => {}
            Err(StoreError::Taken(_)) => {
                return Err(name_taken(&owner.name, &name));
            }
            Err(error) => return Err(error.into()),
        }
        let change = Change {
            kind: "container.created",
            tenant: Some(tenant),
            subject: id.to_string(),
            subject_name: name,
            detail: create_detail(&row.spec.image, &host_access),
        };
        self.deps.events.changed(&mut tx, ctx, "container.create", change).await?;
        tx.commit().await?;
        failpoint::reach("agent.create.written");
        self.deps.events.publish();
        // From here on the container is found again whatever happens: its actor sees that it shall run.
        self.spawn(row.clone(), false);
        Ok(view(&row))
    }

    /// What reaches out of the tenant's walls is for operators; returns it in words, for the audit trail.
    pub(super) fn check_host_access(&self, ctx: &Ctx, spec: &ContainerSpec) -> Result<Vec<String>> {
        let access = spec.host_access(&self.deps.config.containers.allowed_devices);
        if !access.is_empty() {
            ctx.require(Permission::HostAccess).map_err(|_forbidden| {
                ServiceError::new(
                    ProblemKind::Forbidden,
                    format!(
                        "{}: for operators only, as are host paths, the host's network and added capabilities",
                        access.join(", ")
                    ),
                )
            })?;
        }
        Ok(access)
    }

    fn add_defaults(&self, spec: &mut ContainerSpec) {
        let (limits, defaults) = (&mut spec.limits, &self.deps.config.containers.limits);
        limits.pids = limits.pids.or(defaults.pids);
        limits.cpu_millis = limits.cpu_millis.or(defaults.cpu_millis);
        limits.memory_bytes = limits.memory_bytes.or(defaults.memory_bytes);
    }
}

/// What the trail says of a new container.
fn create_detail(image: &str, host_access: &[String]) -> BTreeMap<String, String> {
    let mut detail = BTreeMap::from([("image".to_owned(), image.to_owned())]);
    if !host_access.is_empty() {
        detail.insert("host_access".to_owned(), host_access.join(", "));
    }
    detail
}

/// Whether one more container with these limits fits.
pub(super) fn check_quota(quota: &Quota, used: &TenantUse, spec: &ContainerSpec) -> Result<()> {
    let exceeded = |what: &str, wanted: u64, most: u64| {
        ServiceError::new(
            ProblemKind::QuotaExceeded,
            format!(
                "the tenant may have {most} {what} and would have {wanted}; remove something or ask for more"
            ),
        )
    };
    if let Some(most) = quota.containers
        && used.containers >= most
    {
        return Err(exceeded("containers", u64::from(used.containers) + 1, u64::from(most)));
    }
    let sums = [
        (
            "cpu_millis",
            "thousandths of a CPU",
            quota.cpu_millis.map(u64::from),
            used.cpu_millis,
            spec.limits.cpu_millis.map(u64::from),
        ),
        ("memory_bytes", "bytes of memory", quota.memory_bytes, used.memory_bytes, spec.limits.memory_bytes),
    ];
    for (field, what, quota, used, asked) in sums {
        let Some(most) = quota else { continue };
        let Some(asked) = asked else {
            return Err(ServiceError::invalid_field(
                &format!("limits.{field}"),
                "the tenant has a quota for this, so the container needs a limit",
            ));
        };
        if used.saturating_add(asked) > most {
            return Err(exceeded(what, used.saturating_add(asked), most));
        }
    }
    Ok(())
}

fn new_id() -> Result<ContainerId> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ServiceError::internal("no random numbers", error))?;
    hex::encode(bytes).parse().map_err(|error| ServiceError::internal("an id could not be made", error))
}
