//! What each command does, one file a noun.

pub(crate) mod budgets;
pub(crate) mod checkpoints;
pub(crate) mod containers;
pub(crate) mod context;
pub(crate) mod contracts;
pub(crate) mod copy;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod focus;
pub(crate) mod host;
pub(crate) mod images;
pub(crate) mod ledger;
pub(crate) mod logs;
pub(crate) mod oci;
pub(crate) mod outbox;
pub(crate) mod prices;
pub(crate) mod run;
pub(crate) mod statements;
pub(crate) mod stats;
pub(crate) mod tenants;
pub(crate) mod tokens;
pub(crate) mod usage;
pub(crate) mod users;
pub(crate) mod volumes;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;

use crate::arguments::{Arguments, Command};
use crate::client::Client;
use crate::contexts::{self, Contexts, Override};
use crate::output::Output;

/// What every command needs.
pub(crate) struct Shell {
    /// Where results go.
    pub(crate) output: Output,
    over: Override,
}

impl Shell {
    /// A client for the agent that is meant.
    pub(crate) fn client(&self) -> Result<Client> {
        let known = match Self::contexts_path() {
            Ok(path) => contexts::load(&path)?,
            // Without a home everything comes from the environment.
            Err(_) if self.over.url.is_some() => Contexts::default(),
            Err(error) => return Err(error),
        };
        Client::new(&known.resolve(&self.over)?)
    }

    /// Where the contexts are kept.
    pub(crate) fn contexts_path() -> Result<PathBuf> {
        contexts::path(variable)
    }

    /// Changes the contexts on disk.
    pub(crate) fn change_contexts(change: impl FnOnce(&mut Contexts) -> Result<()>) -> Result<()> {
        let path = Self::contexts_path()?;
        let mut contexts = contexts::load(&path)?;
        change(&mut contexts)?;
        contexts::save(&path, &contexts)
    }
}

/// Runs one command and returns its exit code.
pub(crate) async fn run(arguments: Arguments) -> Result<u8> {
    let global = arguments.global;
    let shell = Shell {
        output: Output { json: global.json },
        over: Override {
            context: global.context,
            url: variable("WHARF_URL"),
            token: variable("WHARF_TOKEN"),
        },
    };
    let shell = &shell;
    // These end with a process's code.
    let done = match arguments.command {
        Command::Run(given) => return Ok(Box::pin(run::run(shell, given)).await),
        Command::Exec(given) => return Ok(exec::exec(shell, given).await),
        Command::Attach(given) => return exec::attach(shell, given).await,
        Command::Wait(given) => return containers::wait(shell, given).await,
        Command::Focus(given) => return focus::focus(shell, &given),
        Command::Create(given) => run::create(shell, given).await,
        Command::Ps(given) => containers::list(shell, given).await,
        Command::Inspect(given) => containers::inspect(shell, given).await,
        Command::Logs(given) => Box::pin(logs::logs(shell, given)).await,
        Command::Start(given) => containers::act(shell, given, "start").await,
        Command::Stop(given) => containers::stop(shell, given, "stop").await,
        Command::Kill(given) => containers::kill(shell, given).await,
        Command::Restart(given) => containers::stop(shell, given, "restart").await,
        Command::Pause(given) => containers::act(shell, given, "pause").await,
        Command::Resume(given) => containers::act(shell, given, "resume").await,
        Command::Update(given) => containers::update(shell, given).await,
        Command::Rename(given) => containers::rename(shell, given).await,
        Command::Rm(given) => containers::remove(shell, given).await,
        Command::Stats(given) => stats::stats(shell, given).await,
        Command::Top(given) => containers::top(shell, given).await,
        Command::Cp(given) => copy::copy(shell, given).await,
        Command::Diff(given) => files::diff(shell, given).await,
        Command::Export(given) => files::export(shell, given).await,
        Command::Commit(given) => files::commit(shell, given).await,
        Command::Pull(given) => images::pull(shell, given).await,
        Command::Images(given) => images::list(shell, given).await,
        Command::Image(command) => images::image(shell, command).await,
        Command::Import(given) => images::import(shell, given).await,
        Command::Checkpoint(command) => checkpoints::checkpoint(shell, command).await,
        Command::Volume(command) => volumes::volume(shell, command).await,
        Command::Networks => volumes::networks(shell).await,
        Command::Tenant(command) => tenants::tenant(shell, command).await,
        Command::User(command) => users::user(shell, command).await,
        Command::Token(command) => tokens::token(shell, command).await,
        Command::Usage(given) => usage::usage(shell, given).await,
        Command::Ledger(command) => ledger::ledger(shell, command).await,
        Command::Outbox(command) => outbox::outbox(shell, command).await,
        Command::Price(command) => prices::price(shell, command).await,
        Command::Contract(command) => contracts::contract(shell, command).await,
        Command::Budget(command) => budgets::budget(shell, command).await,
        Command::Statement(command) => statements::statement(shell, command).await,
        Command::Explain(given) => statements::explain(shell, given).await,
        Command::Events(given) => events::events(shell, given).await,
        Command::Audit(given) => events::audit(shell, given).await,
        Command::Host => host::host(shell).await,
        Command::Doctor(given) => host::doctor(shell, &given),
        Command::Install(given) => host::agent("install", &given),
        Command::Uninstall(given) => host::agent("uninstall", &given),
        Command::Oci(given) => oci::oci(&given),
        Command::Login(given) => context::login(shell, given).await,
        Command::Context(command) => context::context(shell, command),
        Command::Completions(given) => host::completions(&given),
    };
    done.map(|()| 0)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Writes an answer's body as it comes: to a file, which is there only once it is whole, or to standard
/// output.
async fn save(answer: reqwest::Response, path: Option<&Path>) -> Result<()> {
    let mut body = answer.bytes_stream();
    let Some(path) = path else {
        while let Some(bytes) = body.try_next().await.context("the answer broke off")? {
            crate::output::write_out(&bytes)?;
        }
        return Ok(());
    };
    let what = || format!("write {}", path.display());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).with_context(what)?;
    while let Some(bytes) = body.try_next().await.context("the answer broke off")? {
        file.write_all(&bytes).with_context(what)?;
    }
    file.as_file().sync_all().with_context(what)?;
    file.persist(path).map(drop).with_context(what)
}
