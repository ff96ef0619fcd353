//! Signing in, and the agents this command line knows.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use reqwest::header::{COOKIE, SET_COOKIE};
use reqwest::{Method, Response, Url};
use serde::Serialize;
use wharf_shared::auth::{
    CSRF_HEADER, LoginRequest, NewToken, SESSION_COOKIE, SessionView, SetupRequest, TokenSpec,
};

use super::Shell;
use crate::client::{Client, read};
use crate::contexts::{self, Context};
use crate::output::{self, Table};
use crate::{clock, terminal};

/// `wharf login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// Name of the context; the agent's host and port when absent.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// User name; asked for when absent.
    #[arg(short, long)]
    user: Option<String>,
    /// Read the password from standard input.
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    trust: TrustArguments,
    /// Address of the agent, or the one-time link that it printed at its first start.
    url: String,
}

/// How an agent is known.
#[derive(Debug, Args)]
pub(crate) struct TrustArguments {
    /// Trust this certificate and no other: sha256:….
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<String>,
    /// Trust the certificate authority in this PEM file.
    #[arg(long, value_name = "FILE", conflicts_with = "fingerprint")]
    ca_file: Option<PathBuf>,
}

/// `wharf context`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Add an agent by its address and a token.
    Add {
        /// Its name here.
        name: String,
        /// Its address.
        url: String,
        /// Read the token from standard input; asked for otherwise.
        #[arg(long)]
        token_stdin: bool,
        #[command(flatten)]
        trust: TrustArguments,
    },
    /// Bring an agent into use.
    Use {
        /// Its name here.
        name: String,
    },
    /// List the agents.
    #[command(visible_alias = "ls")]
    List,
    /// Forget an agent; its token stays good until it is revoked there.
    Remove {
        /// Its name here.
        name: String,
    },
}

impl TrustArguments {
    fn context(self, url: &Url, token: Option<String>) -> Result<Context> {
        if url.scheme() != "https" && (self.fingerprint.is_some() || self.ca_file.is_some()) {
            bail!("{url} has no certificate; write https://…");
        }
        // The file is looked for from wherever the command line is used later.
        let absolute =
            |path: PathBuf| std::fs::canonicalize(&path).with_context(|| format!("find {}", path.display()));
        let ca_file = self.ca_file.map(absolute).transpose()?;
        Ok(Context { url: url.origin().ascii_serialization(), token, fingerprint: self.fingerprint, ca_file })
    }
}

/// Signs in by name and password, makes a token and remembers it.
pub(crate) async fn login(shell: &Shell, arguments: LoginArguments) -> Result<()> {
    let url = Url::parse(&arguments.url).with_context(|| format!("read the address {:?}", arguments.url))?;
    let setup_secret = match (url.path().trim_end_matches('/'), url.fragment()) {
        ("/setup", Some(secret)) => Some(secret.to_owned()),
        _ => None,
    };
    let context_name = arguments.name.clone().unwrap_or_else(|| default_name(&url));
    let mut context = arguments.trust.context(&url, None)?;
    let client = Client::new(&context)?;
    let name = match arguments.user {
        Some(name) => name,
        None => terminal::ask("User name", "--user NAME")?,
    };
    let request = if let Some(secret) = setup_secret {
        let password =
            terminal::new_secret("New password (12 characters at least)", arguments.password_stdin)?;
        let request = SetupRequest { secret, name, password };
        client.request(Method::POST, &["auth", "setup"]).json(&request)
    } else {
        let password = terminal::secret("Password", arguments.password_stdin)?;
        client.request(Method::POST, &["auth", "login"]).json(&LoginRequest { name, password })
    };
    let response = client.send(request).await?;
    let new = token_of_session(&client, response).await?;
    context.token = Some(new.secret);
    Shell::change_contexts(|contexts| {
        contexts.add(&context_name, context)?;
        contexts.select(&context_name)
    })?;
    let word = format!(
        "Signed in as {}; context {context_name} is in use until {}",
        new.token.user_name, new.token.expires_at
    );
    shell.output.outcome(&new.token, &word)
}

/// Makes a token with a fresh session, and ends the session.
async fn token_of_session(client: &Client, response: Response) -> Result<NewToken> {
    let cookies = response.headers().get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
    let cookie = session_cookie(cookies).context("find the session in the agent's answer")?;
    let session: SessionView = read(response).await?;
    let with_session = |segments: &[&str]| {
        client
            .request(Method::POST, segments)
            .header(COOKIE, &cookie)
            .header(CSRF_HEADER, &session.csrf_token)
    };
    let machine = rustix::system::uname();
    // Unique for its user, and telling in a list of tokens.
    let name = format!("cli-{}-{}", machine.nodename().to_string_lossy(), clock::now().0 / 1_000);
    let name: String =
        name.chars().filter(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(*letter)).collect();
    let spec = TokenSpec { name: name.chars().take(63).collect(), expires_in_days: None };
    let new = read(client.send(with_session(&["tokens"]).json(&spec)).await?).await?;
    client.act(with_session(&["auth", "logout"]).json(&())).await?;
    Ok(new)
}

/// `name=value` of the session among the cookies that were set.
fn session_cookie<'a>(cookies: impl Iterator<Item = &'a str>) -> Option<String> {
    let pairs = cookies.filter_map(|cookie| cookie.split(';').next());
    let is_session =
        |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| name.trim() == SESSION_COOKIE);
    pairs.map(str::trim).find(is_session).map(str::to_owned)
}

/// Host and port as a name.
fn default_name(url: &Url) -> String {
    let text = url.origin().ascii_serialization();
    let host = text.split_once("://").map_or(text.as_str(), |(_, host)| host);
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
    host.chars().map(plain).collect::<String>().trim_matches('-').chars().take(63).collect()
}

#[derive(Serialize)]
struct ContextRow<'a> {
    name: &'a str,
    url: &'a str,
    in_use: bool,
}

/// Changes or shows the contexts.
pub(crate) fn context(shell: &Shell, command: ContextCommand) -> Result<()> {
    match command {
        ContextCommand::Add { name, url, token_stdin, trust } => {
            let url = Url::parse(&url).with_context(|| format!("read the address {url:?}"))?;
            let mut context = trust.context(&url, None)?;
            // What a client could not be made from is refused before a secret is asked for.
            Client::new(&context)?;
            context.token = Some(terminal::secret("Token", token_stdin)?);
            Shell::change_contexts(|contexts| contexts.add(&name, context))?;
            output::note(&format!("Context {name} added"));
            Ok(())
        }
        ContextCommand::Use { name } => Shell::change_contexts(|contexts| contexts.select(&name)),
        ContextCommand::Remove { name } => Shell::change_contexts(|contexts| contexts.remove(&name)),
        ContextCommand::List => {
            let known = contexts::load(&Shell::contexts_path()?)?;
            let rows: Vec<_> = known
                .contexts
                .iter()
                .map(|(name, context)| ContextRow {
                    name,
                    url: &context.url,
                    in_use: known.current.as_ref() == Some(name),
                })
                .collect();
            shell.output.list(&rows, |rows| {
                let mut table = Table::new(&["NAME", "URL", "IN USE"]);
                for row in rows {
                    let in_use = if row.in_use { "yes" } else { "" };
                    table.row([row.name.to_owned(), row.url.to_owned(), in_use.to_owned()]);
                }
                table
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let cookies = ["a=b; Path=/", "wharf_session=s3cret; HttpOnly; SameSite=Strict; Path=/"];
        assert_eq!(session_cookie(cookies.into_iter()).as_deref(), Some("wharf_session=s3cret"));
        assert_eq!(session_cookie(["wharf_session_old=x"].into_iter()), None);
    }

    #[test]
    fn an_address_makes_a_valid_name() {
        for url in ["http://127.0.0.1:8080", "https://[::1]:8443/setup#x", "https://host.example"] {
            let name = default_name(&Url::parse(url).expect("an address"));
            assert!(wharf_shared::name::check(&name).is_ok(), "{url}: {name}");
        }
    }

    #[test]
    fn a_fingerprint_for_an_address_without_tls_is_refused() {
        let trust = TrustArguments { fingerprint: Some("sha256:00".to_owned()), ca_file: None };
        assert!(trust.context(&Url::parse("http://127.0.0.1:1").expect("an address"), None).is_err());
    }
}
