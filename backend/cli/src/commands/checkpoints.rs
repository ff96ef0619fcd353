//! Checkpoints.

use anyhow::Result;
use clap::Subcommand;
use reqwest::Method;
use wharf_shared::checkpoint::{CheckpointRequest, CheckpointView, RestoreRequest};
use wharf_shared::container::ContainerView;

use super::Shell;
use crate::output::{self, Table};
use crate::quantity;

/// `wharf checkpoint`.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Save a running container's processes and what they have written, and stop it.
    Create {
        /// Let it run on.
        #[arg(long, visible_alias = "leave-running")]
        keep_running: bool,
        /// The container's name or id.
        container: String,
    },
    /// List checkpoints.
    #[command(visible_alias = "list")]
    Ls {
        /// Only those of this tenant.
        #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
        tenant: Option<String>,
    },
    /// Show all about a checkpoint, as JSON.
    Inspect {
        /// Its id.
        checkpoint: String,
    },
    /// Make a container of a checkpoint, which goes on where the saved one was.
    Restore {
        /// The new container's name.
        #[arg(long)]
        name: Option<String>,
        /// The checkpoint's id.
        checkpoint: String,
    },
    /// Remove a checkpoint.
    Rm {
        /// Its id.
        checkpoint: String,
    },
}

/// Does one of these.
pub(crate) async fn checkpoint(shell: &Shell, command: CheckpointCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        CheckpointCommand::Create { keep_running, container } => {
            let request = CheckpointRequest { keep_running };
            let path = ["containers", &container, "checkpoints"];
            let view: CheckpointView = client.post(&path, &[], &request).await?;
            shell.output.outcome(&view, view.id.as_str())
        }
        CheckpointCommand::Ls { tenant } => {
            let query: Vec<_> = tenant.iter().map(|tenant| ("tenant", tenant.as_str())).collect();
            let views: Vec<CheckpointView> = client.list(&["checkpoints"], &query).await?;
            shell.output.list(&views, |views| {
                let mut table = Table::new(&["ID", "CONTAINER", "IMAGE", "CREATED", "SIZE"]);
                for view in views {
                    table.row([
                        view.id.to_string(),
                        view.container_name.clone(),
                        view.image.clone(),
                        view.created_at.to_string(),
                        quantity::show_bytes(view.size_bytes),
                    ]);
                }
                table
            })
        }
        CheckpointCommand::Inspect { checkpoint } => {
            let view: CheckpointView = client.get(&["checkpoints", &checkpoint], &[]).await?;
            output::document(&view)
        }
        CheckpointCommand::Restore { name, checkpoint } => {
            let path = ["checkpoints", &checkpoint, "restore"];
            let view: ContainerView = client.post(&path, &[], &RestoreRequest { name }).await?;
            shell.output.outcome(&view, view.id.as_str())
        }
        CheckpointCommand::Rm { checkpoint } => {
            client.act(client.request(Method::DELETE, &["checkpoints", &checkpoint])).await?;
            shell.output.outcome(&checkpoint, &checkpoint)
        }
    }
}
