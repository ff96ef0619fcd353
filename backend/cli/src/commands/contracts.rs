//! Contracts: what one tenant pays in place of what the price book says.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use reqwest::Method;
use wharf_shared::billing::{ContractEnd, ContractSpec, ContractView};
use wharf_shared::time::Timestamp;

use super::Shell;
use crate::client::read;
use crate::output::{self, Table};

/// `wharf contract`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContractCommand {
    /// List contracts, the newest first.
    #[command(visible_alias = "ls")]
    List {
        /// Only this tenant's.
        #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
        tenant: Option<String>,
    },
    /// Show a contract, as JSON.
    Show {
        /// Its id.
        contract: String,
    },
    /// Add a contract.
    Add {
        /// The contract as a JSON file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Give a contract an end.
    End {
        /// Its id.
        contract: String,
        /// The hour after its last.
        #[arg(long, value_name = "TIME")]
        to: Timestamp,
    },
}

/// Does one of these.
pub(crate) async fn contract(shell: &Shell, command: ContractCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        ContractCommand::List { tenant } => {
            let query: Vec<_> = tenant.as_deref().map(|tenant| ("tenant", tenant)).into_iter().collect();
            let views: Vec<ContractView> = client.list(&["contracts"], &query).await?;
            shell.output.list(&views, table)
        }
        ContractCommand::Show { contract } => {
            let views: Vec<ContractView> = client.list(&["contracts"], &[]).await?;
            let found = views.into_iter().find(|view| view.id.as_str() == contract);
            output::document(&found.with_context(|| format!("there is no contract {contract:?}"))?)
        }
        ContractCommand::Add { file } => {
            let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let spec: ContractSpec =
                serde_json::from_slice(&text).with_context(|| format!("understand {}", file.display()))?;
            let view: ContractView = client.post(&["contracts"], &[], &spec).await?;
            shell.output.outcome(&view, view.id.as_str())
        }
        ContractCommand::End { contract, to } => {
            let request = client.request(Method::PATCH, &["contracts", &contract]).json(&ContractEnd { to });
            let view: ContractView = read(client.send(request).await?).await?;
            shell.output.outcome(&view, view.id.as_str())
        }
    }
}

fn table(views: &[ContractView]) -> Table {
    let mut table = Table::new(&["CONTRACT", "TENANT", "FROM", "TO", "DISCOUNT", "SKUS", "CREDITS"]);
    for ContractView { id, contract, .. } in views {
        let percent = contract.discount_percent.as_ref();
        table.row([
            id.to_string(),
            contract.tenant.to_string(),
            contract.from.to_string(),
            contract.to.map(|to| to.to_string()).unwrap_or_default(),
            percent.map(|percent| format!("{percent} %")).unwrap_or_default(),
            contract.terms.len().to_string(),
            contract.credits.len().to_string(),
        ]);
    }
    table
}
