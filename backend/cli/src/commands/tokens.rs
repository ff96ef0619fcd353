//! API tokens.

use anyhow::{Result, bail};
use clap::Subcommand;
use reqwest::Method;
use wharf_shared::auth::{NewToken, TokenSpec, TokenView};

use super::Shell;
use crate::output::{self, Table};

/// `wharf token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print its secret, once.
    Create {
        /// Days until it ends; 90 when absent, at most 366.
        #[arg(long, value_name = "DAYS")]
        expires_in: Option<u32>,
        /// Its name.
        name: String,
    },
    /// List tokens.
    #[command(visible_alias = "list")]
    Ls,
    /// Revoke a token.
    Rm {
        /// Name or id.
        token: String,
    },
}

/// Does one of these.
pub(crate) async fn token(shell: &Shell, command: TokenCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        TokenCommand::Create { expires_in, name } => {
            let spec = TokenSpec { name, expires_in_days: expires_in };
            let new: NewToken = client.post(&["tokens"], &[], &spec).await?;
            if !shell.output.json {
                output::note(&format!("Good until {}; it is shown only now:", new.token.expires_at));
            }
            shell.output.outcome(&new, &new.secret)
        }
        TokenCommand::Ls => {
            let views: Vec<TokenView> = client.list(&["tokens"], &[]).await?;
            shell.output.list(&views, |views| {
                let mut table = Table::new(&["NAME", "ID", "USER", "ROLE", "EXPIRES", "LAST USED"]);
                for view in views {
                    table.row([
                        view.name.clone(),
                        view.id.to_string(),
                        view.user_name.clone(),
                        view.role.as_str().to_owned(),
                        view.expires_at.to_string(),
                        view.last_used_at.map_or_else(|| "never".to_owned(), |at| at.to_string()),
                    ]);
                }
                table
            })
        }
        TokenCommand::Rm { token } => {
            let views: Vec<TokenView> = client.list(&["tokens"], &[]).await?;
            let mut found = views.iter().filter(|view| view.name == token || view.id.as_str() == token);
            let (first, second) = (found.next(), found.next());
            let Some(view) = first else { bail!("there is no token {token:?}") };
            if second.is_some() {
                bail!("several users have a token {token:?}; give its id");
            }
            client.act(client.request(Method::DELETE, &["tokens", view.id.as_str()])).await?;
            shell.output.outcome(view, &view.name)
        }
    }
}
