//! Volumes, and the networks of tenants.

use anyhow::Result;
use clap::{Args, Subcommand};
use reqwest::Method;
use wharf_shared::network::NetworkView;
use wharf_shared::volume::{VolumeSpec, VolumeView};

use super::Shell;
use crate::docker;
use crate::output::{self, Table};

/// `wharf volume`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume.
    Create {
        #[command(flatten)]
        volume: OneArguments,
        /// A label.
        #[arg(short, long, value_name = "NAME=VALUE", value_parser = docker::label)]
        label: Vec<(String, String)>,
    },
    /// List volumes.
    #[command(visible_alias = "list")]
    Ls {
        /// Only those of this tenant.
        #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
        tenant: Option<String>,
    },
    /// Show all about a volume, as JSON.
    Inspect(OneArguments),
    /// Remove a volume and what is in it.
    Rm(OneArguments),
}

/// One volume.
#[derive(Debug, Args)]
pub(crate) struct OneArguments {
    /// Whose volume; your own tenant's when absent.
    #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
    tenant: Option<String>,
    /// Its name.
    name: String,
}

impl OneArguments {
    fn query(&self) -> Vec<(&'static str, &str)> {
        self.tenant.iter().map(|tenant| ("tenant", tenant.as_str())).collect()
    }
}

/// Does one of these.
pub(crate) async fn volume(shell: &Shell, command: VolumeCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        VolumeCommand::Create { volume, label } => {
            let tenant = client.tenant_id(volume.tenant.as_deref()).await?;
            let spec = VolumeSpec { name: volume.name, tenant, labels: label.into_iter().collect() };
            let view: VolumeView = client.post(&["volumes"], &[], &spec).await?;
            shell.output.outcome(&view, &view.name)
        }
        VolumeCommand::Ls { tenant } => {
            let query: Vec<_> = tenant.iter().map(|tenant| ("tenant", tenant.as_str())).collect();
            let views: Vec<VolumeView> = client.list(&["volumes"], &query).await?;
            shell.output.list(&views, |views| {
                let mut table = Table::new(&["NAME", "TENANT", "CREATED", "USED BY"]);
                for view in views {
                    table.row([
                        view.name.clone(),
                        view.tenant_name.clone(),
                        view.created_at.to_string(),
                        view.used_by.join(", "),
                    ]);
                }
                table
            })
        }
        VolumeCommand::Inspect(one) => {
            let view: VolumeView = client.get(&["volumes", &one.name], &one.query()).await?;
            output::document(&view)
        }
        VolumeCommand::Rm(one) => {
            let request = client.request(Method::DELETE, &["volumes", &one.name]).query(&one.query());
            client.act(request).await?;
            shell.output.outcome(&one.name, &one.name)
        }
    }
}

/// Lists networks.
pub(crate) async fn networks(shell: &Shell) -> Result<()> {
    let views: Vec<NetworkView> = shell.client()?.list(&["networks"], &[]).await?;
    shell.output.list(&views, |views| {
        let mut table = Table::new(&["TENANT", "BRIDGE", "SUBNET", "GATEWAY", "ADDRESSES USED"]);
        for view in views {
            table.row([
                view.tenant.to_string(),
                view.bridge.clone(),
                view.subnet.clone(),
                view.gateway.clone(),
                view.addresses_used.to_string(),
            ]);
        }
        table
    })
}
