//! Listing containers and changing their state.

use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use wharf_shared::container::{
    ContainerState, ContainerUpdate, ContainerView, ExitView, Limits, ProcessView, RestartPolicy, StopRequest,
};
use wharf_shared::health::HealthStatus;
use wharf_shared::time::Timestamp;

use super::Shell;
use super::run::{LimitArguments, signal};
use crate::client::{Client, read};
use crate::output::{self, Table};
use crate::quantity::{show_bytes, show_span};
use crate::{clock, docker, failure};

/// How long one question of a long wait may take; a server or proxy may cut it shorter.
const WAIT_TIMEOUT: Duration = Duration::from_mins(5);
/// Between two questions of a long wait.
const WAIT_PAUSE: Duration = Duration::from_millis(200);
/// A stop takes as long as its grace, at most a day, and a little more.
const STOP_TIMEOUT: Duration = Duration::from_hours(25);
/// A command line in a table is cut at this length.
const COMMAND_CHARS: usize = 32;

/// One or more containers.
#[derive(Debug, Args)]
pub(crate) struct NamesArguments {
    /// Names or ids.
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// `wharf ps`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Also those that do not run.
    #[arg(short, long)]
    all: bool,
    /// Only those of this tenant.
    #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
    tenant: Option<String>,
    /// Only those that match: state=…, name=… or label=NAME[=VALUE].
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter)]
    filter: Vec<(String, String)>,
    /// Print ids only.
    #[arg(short, long)]
    quiet: bool,
}

/// `wharf stop` and `wharf restart`.
#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// Seconds before the kill; the container's own when absent.
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<u32>,
    #[command(flatten)]
    names: NamesArguments,
}

/// `wharf kill`.
#[derive(Debug, Args)]
pub(crate) struct KillArguments {
    /// Which signal, by name or number.
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    names: NamesArguments,
}

/// `wharf rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// Kill those that run.
    #[arg(short, long)]
    force: bool,
    /// Also the volumes that were made because its image declares them.
    #[arg(short, long)]
    volumes: bool,
    #[command(flatten)]
    names: NamesArguments,
}

/// `wharf top`.
#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    /// Name or id.
    container: String,
}

/// `wharf update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArguments {
    /// A new name.
    #[arg(long)]
    name: Option<String>,
    /// When it is started again: no, always, unless-stopped, on-failure[:N].
    #[arg(long, value_name = "POLICY", value_parser = docker::restart)]
    restart: Option<RestartPolicy>,
    #[command(flatten)]
    limits: LimitArguments,
    /// Name or id.
    container: String,
}

/// `wharf rename`.
#[derive(Debug, Args)]
pub(crate) struct RenameArguments {
    /// Name or id.
    container: String,
    /// Its new name.
    name: String,
}

/// An empty object, the body of what needs none.
#[derive(Serialize)]
struct Nothing {}

fn filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key @ ("state" | "name" | "label"), value)) => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no filter; write state=…, name=… or label=NAME[=VALUE]")),
    }
}

/// Lists containers.
pub(crate) async fn list(shell: &Shell, arguments: ListArguments) -> Result<()> {
    let mut query = vec![("all", if arguments.all { "true" } else { "false" })];
    query.extend(arguments.tenant.iter().map(|tenant| ("tenant", tenant.as_str())));
    query.extend(arguments.filter.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let views: Vec<ContainerView> = shell.client()?.list(&["containers"], &query).await?;
    if arguments.quiet {
        return views.iter().try_for_each(|view| output::line(view.id.as_str()));
    }
    shell.output.list(&views, |views| table(views, clock::now()))
}

/// Lists what runs in a container.
pub(crate) async fn top(shell: &Shell, arguments: TopArguments) -> Result<()> {
    let views: Vec<ProcessView> =
        shell.client()?.get(&["containers", &arguments.container, "processes"], &[]).await?;
    shell.output.list(&views, |views| {
        let mut table = Table::new(&["PID", "PARENT", "USER", "STATE", "CPU", "MEMORY", "COMMAND"]);
        // What the container has no number for.
        let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        for view in views {
            table.row([
                view.pid.to_string(),
                number(view.parent),
                number(view.user),
                view.state.clone(),
                format!("{}.{:02} s", view.cpu_ms / 1000, view.cpu_ms % 1000 / 10),
                show_bytes(view.memory_bytes),
                view.command.clone(),
            ]);
        }
        table
    })
}

fn table(views: &[ContainerView], now: Timestamp) -> Table {
    let mut table =
        Table::new(&["CONTAINER ID", "NAME", "TENANT", "IMAGE", "COMMAND", "STATUS", "ADDRESS", "PORTS"]);
    for view in views {
        let ports: Vec<String> = view.ports.iter().map(ToString::to_string).collect();
        table.row([
            view.id.short().to_owned(),
            view.name.clone(),
            view.tenant_name.clone(),
            view.spec.image.clone(),
            cut(&view.command_line.join(" ")),
            status(view, now),
            view.address.clone().unwrap_or_default(),
            ports.join(", "),
        ]);
    }
    table
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(COMMAND_CHARS) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// State, how it ended and since when: `running 5 minutes`, `exited (137, out of memory) 2 hours ago`.
fn status(view: &ContainerView, now: Timestamp) -> String {
    let state = view.state.as_str();
    let since = |moment: Option<Timestamp>| moment.map(|moment| show_span(moment, now));
    match view.state {
        ContainerState::Running | ContainerState::Paused | ContainerState::Stopping => {
            let span = since(view.started_at).map_or(String::new(), |span| format!(" {span}"));
            // As Docker: `health: starting`, or the plain word.
            let health = view.health.as_ref().map_or(String::new(), |health| match health.status {
                HealthStatus::Starting => " (health: starting)".to_owned(),
                status => format!(" ({})", status.as_str()),
            });
            format!("{state}{span}{health}")
        }
        ContainerState::Exited | ContainerState::Restarting => {
            let code = view.exit.as_ref().map_or_else(|| "?".to_owned(), how);
            let ago = since(view.finished_at).map_or(String::new(), |span| format!(" {span} ago"));
            format!("{state} ({code}){ago}")
        }
        ContainerState::Failed => {
            format!("{state}: {}", view.error.as_deref().unwrap_or("no reason was recorded"))
        }
        ContainerState::Created
        | ContainerState::Pulling
        | ContainerState::Starting
        | ContainerState::Removing => state.to_owned(),
    }
}

fn how(exit: &ExitView) -> String {
    let mut how = match (exit.code, exit.signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "code unknown".to_owned(),
    };
    if exit.oom_killed {
        how.push_str(", out of memory");
    }
    if exit.supervisor_lost {
        how.push_str(", supervisor lost");
    }
    how
}

/// Shows containers whole.
pub(crate) async fn inspect(shell: &Shell, arguments: NamesArguments) -> Result<()> {
    let client = shell.client()?;
    let mut views: Vec<ContainerView> = Vec::new();
    for name in &arguments.containers {
        views.push(client.get(&["containers", name], &[]).await?);
    }
    output::document(&views)
}

/// Does one of the things that need nothing but a name.
pub(crate) async fn act(shell: &Shell, arguments: NamesArguments, verb: &str) -> Result<()> {
    let client = shell.client()?;
    for_each(&arguments.containers, async |name: &str| {
        let view: ContainerView = client.post(&["containers", name, verb], &[], &Nothing {}).await?;
        shell.output.outcome(&view, &view.name)
    })
    .await
}

/// Stops containers, or stops and starts them again.
pub(crate) async fn stop(shell: &Shell, arguments: StopArguments, verb: &str) -> Result<()> {
    let client = shell.client()?;
    let body = StopRequest { grace_s: arguments.timeout };
    for_each(&arguments.names.containers, async |name: &str| {
        // It answers when the container has stopped, which takes as long as its grace.
        let request = client.request(Method::POST, &["containers", name, verb]).json(&body);
        let response = client.send(request.timeout(STOP_TIMEOUT)).await?;
        let view: ContainerView = read(response).await?;
        shell.output.outcome(&view, &view.name)
    })
    .await
}

/// Sends a signal to containers.
pub(crate) async fn kill(shell: &Shell, arguments: KillArguments) -> Result<()> {
    let client = shell.client()?;
    for_each(&arguments.names.containers, async |name: &str| {
        signal(&client, name, &arguments.signal).await?;
        shell.output.outcome(&name, name)
    })
    .await
}

/// Removes containers.
pub(crate) async fn remove(shell: &Shell, arguments: RemoveArguments) -> Result<()> {
    let client = shell.client()?;
    let query = [("force", arguments.force), ("volumes", arguments.volumes)];
    for_each(&arguments.names.containers, async |name: &str| {
        client.act(client.request(Method::DELETE, &["containers", name]).query(&query)).await?;
        shell.output.outcome(&name, name)
    })
    .await
}

/// Changes a container.
pub(crate) async fn update(shell: &Shell, arguments: UpdateArguments) -> Result<()> {
    let client = shell.client()?;
    let segments = ["containers", arguments.container.as_str()];
    let present: ContainerView = client.get(&segments, &[]).await?;
    let limits: Limits = arguments.limits.over(present.spec.limits.clone()).map_err(|why| anyhow!(why))?;
    let update = ContainerUpdate {
        name: arguments.name,
        limits: (limits != present.spec.limits).then_some(limits),
        restart: arguments.restart,
    };
    // Limits are sent whole: they must not undo what somebody else changed in between.
    let request = client.request(Method::PATCH, &segments).header("if-match", present.version).json(&update);
    let view: ContainerView = read(client.send(request).await?).await?;
    shell.output.outcome(&view, &view.name)
}

/// Gives a container another name.
pub(crate) async fn rename(shell: &Shell, arguments: RenameArguments) -> Result<()> {
    let client = shell.client()?;
    let update = ContainerUpdate { name: Some(arguments.name), ..ContainerUpdate::default() };
    let request = client.request(Method::PATCH, &["containers", arguments.container.as_str()]).json(&update);
    let view: ContainerView = read(client.send(request).await?).await?;
    shell.output.outcome(&view, &view.name)
}

/// Waits for containers to end; returns the first code that is not 0.
pub(crate) async fn wait(shell: &Shell, arguments: NamesArguments) -> Result<u8> {
    let client = shell.client()?;
    let mut code = 0;
    for name in &arguments.containers {
        let exit = wait_for(&client, name, "exited").await?;
        shell.output.outcome(&exit, &exit.shell_code().to_string())?;
        if code == 0 {
            code = failure::process_code(exit.shell_code());
        }
    }
    Ok(code)
}

/// Waits until a container has ended (`exited`) or is gone (`removed`), and returns how it ended.
pub(super) async fn wait_for(client: &Client, name: &str, condition: &str) -> Result<ExitView> {
    loop {
        let request = client
            .request(Method::GET, &["containers", name, "wait"])
            .query(&[("condition", condition)])
            .timeout(WAIT_TIMEOUT);
        let Some(response) = client.try_send(request).await? else { continue };
        if !matches!(response.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) {
            return read(Client::success(response).await?).await;
        }
        // It still runs, or the agent is being restarted: ask again.
        tokio::time::sleep(WAIT_PAUSE).await;
    }
}

/// Does it for each, goes on after a failure, and fails if one failed.
async fn for_each(names: &[String], mut act: impl AsyncFnMut(&str) -> Result<()>) -> Result<()> {
    let mut failed: Option<anyhow::Error> = None;
    for name in names {
        if let Err(error) = act(name).await
            && let Some(earlier) = failed.replace(error)
        {
            output::note(&failure::line(&earlier));
        }
    }
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use wharf_shared::container::ContainerSpec;
    use wharf_shared::health::HealthView;

    use super::*;

    fn view(state: ContainerState) -> ContainerView {
        ContainerView {
            id: "0123456789abcdef".repeat(4).parse().expect("an id"),
            name: "web".to_owned(),
            tenant: "tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b".parse().expect("an id"),
            tenant_name: "acme".to_owned(),
            state,
            error: Some("no such file".to_owned()),
            image_digest: None,
            command_line: vec![
                "sh".to_owned(),
                "-c".to_owned(),
                "while true; do date; sleep 1; done".to_owned(),
            ],
            created_at: Timestamp(0),
            started_at: Some(Timestamp(0)),
            finished_at: Some(Timestamp(240_000_000)),
            exit: Some(ExitView { code: None, signal: Some(9), oom_killed: true, supervisor_lost: false }),
            health: None,
            restart_count: 0,
            pid: None,
            address: Some("10.201.4.2".to_owned()),
            ports: vec!["127.0.0.1:8080:80".parse().expect("a port")],
            spec: ContainerSpec { image: "busybox".to_owned(), ..ContainerSpec::default() },
            version: 1,
        }
    }

    #[test]
    fn a_row_says_what_runs_where_since_when() {
        let text = table(&[view(ContainerState::Running)], Timestamp(300_000_000)).render();
        assert_eq!(
            text.lines().nth(1),
            Some(
                "0123456789ab  web   acme    busybox  sh -c while true; do date; sleep…  running 5 minutes  10.201.4.2  127.0.0.1:8080:80/tcp"
            )
        );
    }

    #[test]
    fn a_status_says_how_it_ended() {
        let status = |state| status(&view(state), Timestamp(360_000_000));
        assert_eq!(status(ContainerState::Exited), "exited (signal 9, out of memory) 2 minutes ago");
        assert_eq!(status(ContainerState::Failed), "failed: no such file");
        assert_eq!(status(ContainerState::Pulling), "pulling");
    }

    #[test]
    fn a_status_says_how_a_checked_container_is() {
        let mut view = view(ContainerState::Running);
        let status_of = |view: &ContainerView| status(view, Timestamp(300_000_000));
        for (health, wanted) in [
            (HealthStatus::Starting, "running 5 minutes (health: starting)"),
            (HealthStatus::Unhealthy, "running 5 minutes (unhealthy)"),
        ] {
            view.health = Some(HealthView { status: health, failing_streak: 0, results: Vec::new() });
            assert_eq!(status_of(&view), wanted);
        }
    }

    #[test]
    fn only_known_filters_are_taken() {
        assert_eq!(filter("label=a=b"), Ok(("label".to_owned(), "a=b".to_owned())));
        assert!(filter("colour=red").is_err() && filter("state").is_err());
    }

    #[test]
    fn a_failure_does_not_keep_the_others_from_their_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let mut seen = Vec::new();
        let outcome = runtime.block_on(for_each(&names, async |name: &str| {
            seen.push(name.to_owned());
            if name == "b" { Err(anyhow!("b failed")) } else { Ok(()) }
        }));
        assert_eq!(seen, names);
        assert_eq!(outcome.expect_err("one failed").to_string(), "b failed");
    }
}
