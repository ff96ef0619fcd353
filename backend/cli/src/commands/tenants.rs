//! Tenants and their quotas.

use anyhow::Result;
use clap::{Args, Subcommand};
use reqwest::Method;
use wharf_shared::tenant::{Quota, TenantSpec, TenantUpdate, TenantView};

use super::Shell;
use crate::client::read;
use crate::output::Table;
use crate::quantity::{self, show_bytes};

/// What a tenant has that was given none.
const CPU_WEIGHT_DEFAULT: u32 = 100;

/// `wharf tenant`.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant.
    Create {
        #[command(flatten)]
        quota: QuotaArguments,
        /// Its name.
        name: String,
    },
    /// List tenants.
    #[command(visible_alias = "list")]
    Ls,
    /// Change a tenant's name or quota; what is not given stays.
    Set {
        /// A new name.
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        #[command(flatten)]
        quota: QuotaArguments,
        /// Its name.
        name: String,
    },
    /// Remove a tenant without containers and volumes; what it used stays on record.
    Rm {
        /// Its name.
        name: String,
    },
}

/// What a tenant may use in all.
#[derive(Debug, Default, Args)]
pub(crate) struct QuotaArguments {
    /// Containers.
    #[arg(long, value_name = "NUMBER")]
    containers: Option<u32>,
    /// Volumes.
    #[arg(long, value_name = "NUMBER")]
    volumes: Option<u32>,
    /// CPUs, such as 4 or 0.5.
    #[arg(long, value_name = "NUMBER", value_parser = quantity::cpu_millis)]
    cpus: Option<u32>,
    /// Its share of the CPU when tenants contend for it, 1 to 10000; 100 unless told otherwise.
    #[arg(long, value_name = "WEIGHT")]
    cpu_weight: Option<u32>,
    /// Memory, such as 8g.
    #[arg(short, long, value_name = "SIZE", value_parser = quantity::size_bytes)]
    memory: Option<u64>,
    /// Processes and threads.
    #[arg(long, value_name = "NUMBER")]
    pids: Option<u32>,
}

impl QuotaArguments {
    fn over(&self, quota: &Quota) -> Quota {
        Quota {
            containers: self.containers.or(quota.containers),
            volumes: self.volumes.or(quota.volumes),
            cpu_millis: self.cpus.or(quota.cpu_millis),
            cpu_weight: self.cpu_weight.or(quota.cpu_weight),
            memory_bytes: self.memory.or(quota.memory_bytes),
            pids: self.pids.or(quota.pids),
        }
    }
}

/// Does one of these.
pub(crate) async fn tenant(shell: &Shell, command: TenantCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        TenantCommand::Create { quota, name } => {
            let spec = TenantSpec { name, quota: quota.over(&Quota::default()) };
            let view: TenantView = client.post(&["tenants"], &[], &spec).await?;
            shell.output.outcome(&view, &view.name)
        }
        TenantCommand::Ls => {
            let views: Vec<TenantView> = client.list(&["tenants"], &[]).await?;
            shell.output.list(&views, table)
        }
        TenantCommand::Set { rename, quota, name } => {
            let present: TenantView = client.get(&["tenants", &name], &[]).await?;
            let wanted = quota.over(&present.quota);
            let update = TenantUpdate { name: rename, quota: (wanted != present.quota).then_some(wanted) };
            let request = client.request(Method::PATCH, &["tenants", present.id.as_str()]).json(&update);
            let view: TenantView = read(client.send(request).await?).await?;
            shell.output.outcome(&view, &view.name)
        }
        TenantCommand::Rm { name } => {
            client.act(client.request(Method::DELETE, &["tenants", &name])).await?;
            shell.output.outcome(&name, &name)
        }
    }
}

fn table(views: &[TenantView]) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "ID",
        "SUBNET",
        "CONTAINERS",
        "VOLUMES",
        "CPUS",
        "CPU WEIGHT",
        "MEMORY",
        "PIDS",
    ]);
    for view in views {
        let quota = &view.quota;
        let of = |used: u32, most: Option<u32>| match most {
            Some(most) => format!("{used} of {most}"),
            None => used.to_string(),
        };
        let unlimited = || "unlimited".to_owned();
        table.row([
            view.name.clone(),
            view.id.to_string(),
            view.subnet.clone(),
            of(view.containers, quota.containers),
            of(view.volumes, quota.volumes),
            quota
                .cpu_millis
                .map_or_else(unlimited, |millis| format!("{}.{:03}", millis / 1_000, millis % 1_000)),
            quota.cpu_weight.unwrap_or(CPU_WEIGHT_DEFAULT).to_string(),
            quota.memory_bytes.map_or_else(unlimited, show_bytes),
            quota.pids.map_or_else(unlimited, |pids| pids.to_string()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_as_it_is() {
        let present = Quota { pids: Some(10), cpu_millis: Some(1), ..Quota::default() };
        let given = QuotaArguments { cpus: Some(500), ..QuotaArguments::default() };
        assert_eq!(given.over(&present), Quota { cpu_millis: Some(500), ..present });
    }
}
