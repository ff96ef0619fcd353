//! Users.

use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use wharf_shared::user::{Role, UserSpec, UserView};

use super::Shell;
use crate::output::Table;
use crate::terminal;

/// `wharf user`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user.
    Create {
        /// What they may do.
        #[arg(long, value_enum)]
        role: RoleArgument,
        /// The tenant of a member.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Read the password from standard input.
        #[arg(long)]
        password_stdin: bool,
        /// Name to sign in with.
        name: String,
    },
    /// List users.
    #[command(visible_alias = "list")]
    Ls,
    /// Remove a user with their sessions and tokens.
    Rm {
        /// Name or id.
        user: String,
    },
}

/// A role as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArgument {
    /// Everything.
    Admin,
    /// Every tenant's workloads, and what touches the host.
    Operator,
    /// One tenant's workloads.
    Member,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::Admin => Self::Admin,
            RoleArgument::Operator => Self::Operator,
            RoleArgument::Member => Self::Member,
        }
    }
}

/// Does one of these.
pub(crate) async fn user(shell: &Shell, command: UserCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        UserCommand::Create { role, tenant, password_stdin, name } => {
            if (role == RoleArgument::Member) != tenant.is_some() {
                bail!("a member needs --tenant, and nobody else has one");
            }
            let tenant = client.tenant_id(tenant.as_deref()).await?;
            let password = terminal::new_secret("Password of the new user", password_stdin)?;
            let spec = UserSpec { name, password, role: role.into(), tenant };
            let view: UserView = client.post(&["users"], &[], &spec).await?;
            shell.output.outcome(&view, &view.name)
        }
        UserCommand::Ls => {
            let views: Vec<UserView> = client.list(&["users"], &[]).await?;
            shell.output.list(&views, |views| {
                let mut table = Table::new(&["NAME", "ID", "ROLE", "TENANT", "CREATED"]);
                for view in views {
                    table.row([
                        view.name.clone(),
                        view.id.to_string(),
                        view.role.as_str().to_owned(),
                        view.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
                        view.created_at.to_string(),
                    ]);
                }
                table
            })
        }
        UserCommand::Rm { user } => {
            let views: Vec<UserView> = client.list(&["users"], &[]).await?;
            let found = views.into_iter().find(|view| view.name == user || view.id.as_str() == user);
            let Some(view) = found else { bail!("there is no user {user:?}") };
            client.act(client.request(Method::DELETE, &["users", view.id.as_str()])).await?;
            shell.output.outcome(&view, &view.name)
        }
    }
}
