//! `wharf run` and `wharf create`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, ValueEnum};
use reqwest::Method;
use wharf_shared::container::{
    AppArmorMode, ContainerSpec, ContainerState, ContainerView, HostNamespace, Limits, NetworkMode,
    RestartPolicy, SeccompMode, SignalRequest,
};
use wharf_shared::health::{HealthAction, HealthCheck, HealthTest, HttpTest};
use wharf_shared::image::{ImageDetail, PullRequest};
use wharf_shared::kernel::Ulimit;
use wharf_shared::network::PortMapping;
use wharf_shared::problem::ProblemKind;
use wharf_shared::volume::VolumeMount;

use super::{Shell, containers, images};
use crate::client::{Client, is_problem};
use crate::docker::SecurityOption;
use crate::stream::{Ended, Joint, Stream};
use crate::{docker, failure, output, quantity};

/// Unmounting and tidying up take a moment; longer means that the agent is gone.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(30);
/// A start may have to wait for a pull.
const START_TIMEOUT: Duration = Duration::from_hours(6);

/// Whose namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Namespace {
    /// The container's own.
    #[default]
    Private,
    /// The host's.
    Host,
}

/// When the image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    /// When it is not here.
    #[default]
    Missing,
    /// Always, to get the newest of its name.
    Always,
    /// Never; fail when it is not here.
    Never,
}

/// `wharf run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Leave it running and print its id.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Pass standard input on.
    #[arg(short, long, conflicts_with = "detach")]
    pub(crate) interactive: bool,
    #[command(flatten)]
    pub(crate) create: CreateArguments,
}

/// `wharf create`, and most of `wharf run`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct CreateArguments {
    /// Give it a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Remove it when it has ended.
    #[arg(long, conflicts_with = "restart")]
    pub(crate) rm: bool,
    /// Its name; the short id when absent.
    #[arg(long)]
    name: Option<String>,
    /// Whose it is; your own tenant when absent.
    #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
    tenant: Option<String>,
    /// An environment variable; a name alone takes the value it has here.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file of environment variables, one a line; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Publish a port: `[[IP:]HOST_PORT:]PORT[/udp]`.
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<PortMapping>,
    /// Mount a volume or a path of the host: `NAME:/PATH[:ro]`.
    #[arg(short, long, value_name = "MOUNT", value_parser = docker::volume)]
    volume: Vec<VolumeMount>,
    /// Mount memory: `/PATH[:size=64m]`.
    #[arg(long, value_name = "MOUNT", value_parser = docker::tmpfs)]
    tmpfs: Vec<VolumeMount>,
    #[command(flatten)]
    limits: LimitArguments,
    /// When it is started again: no, always, unless-stopped, on-failure[:N].
    #[arg(long, value_name = "POLICY", value_parser = docker::restart)]
    restart: Option<RestartPolicy>,
    /// User inside: NAME or UID, and perhaps :GROUP.
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory inside.
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Replaces the image's entrypoint; empty for none.
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Host name inside; the short id when absent.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// A label.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = docker::label)]
    label: Vec<(String, String)>,
    /// Make its root file system read-only.
    #[arg(long)]
    read_only: bool,
    /// A small init as first process, which reaps orphans.
    #[arg(long)]
    init: bool,
    /// Network: tenant, none or host.
    #[arg(long, value_name = "NETWORK", value_parser = docker::network)]
    network: Option<NetworkMode>,
    /// Add a capability (operators only).
    #[arg(long, value_name = "NAME")]
    cap_add: Vec<String>,
    /// Take a capability away; ALL takes every one.
    #[arg(long, value_name = "NAME")]
    cap_drop: Vec<String>,
    /// A limit of every process, such as nofile=1024:4096; -1 for none.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = docker::ulimit)]
    ulimit: Vec<(String, Ulimit)>,
    /// A further group of its processes, by name or number.
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// A kernel parameter of its own, such as net.core.somaxconn=1024.
    #[arg(long, value_name = "NAME=VALUE", value_parser = docker::sysctl)]
    sysctl: Vec<(String, String)>,
    /// no-new-privileges (what holds unless told otherwise) or no-new-privileges=false; seccomp=FILE with a
    /// profile in Docker's JSON, seccomp=unconfined (both for operators only) or seccomp=default; apparmor=NAME
    /// of a profile of the host, apparmor=unconfined (both for operators only) or apparmor=default.
    #[arg(long, value_name = "OPTION", value_parser = docker::security_option)]
    security_opt: Vec<SecurityOption>,
    /// Run the image's own init system, such as systemd, with a cgroup that is its own to divide.
    #[arg(long)]
    system: bool,
    /// No wall at all between it and the host: all capabilities, devices and system calls (operators only).
    #[arg(long)]
    privileged: bool,
    /// `host`: see and signal all processes of the host (operators only).
    #[arg(long, value_enum, default_value_t, hide_default_value = true, value_name = "NAMESPACE")]
    pid: Namespace,
    /// `host`: share memory and queues with the host's processes (operators only).
    #[arg(long, value_enum, default_value_t, hide_default_value = true, value_name = "NAMESPACE")]
    ipc: Namespace,
    /// `host`: have the host's name (operators only).
    #[arg(long, value_enum, default_value_t, hide_default_value = true, value_name = "NAMESPACE")]
    uts: Namespace,
    /// `host`: its root is the host's (operators only).
    #[arg(long, value_enum, default_value_t, hide_default_value = true, value_name = "NAMESPACE")]
    userns: Namespace,
    #[command(flatten)]
    health: HealthArguments,
    /// Let it use a device of the host, such as /dev/fuse (operators only, but for those that they allow).
    #[arg(long, value_name = "PATH", value_parser = docker::device)]
    device: Vec<String>,
    /// Signal that asks it to stop.
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds between that signal and the kill.
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
    /// When to pull the image.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pull: Pull,
    /// The image, such as busybox:1.36.
    image: String,
    /// Replaces the image's command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// What a container may use.
#[derive(Debug, Default, Args)]
pub(crate) struct LimitArguments {
    /// CPUs, such as 0.5.
    #[arg(long, value_name = "NUMBER", value_parser = quantity::cpu_millis)]
    cpus: Option<u32>,
    /// Share of the CPU under contention, 1 to 10000.
    #[arg(long, value_name = "WEIGHT")]
    cpu_weight: Option<u32>,
    /// CPUs that it runs on, such as 0-1,3; empty for all.
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that its memory is on, such as 0; empty for all.
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory, such as 512m.
    #[arg(short, long, value_name = "SIZE", value_parser = quantity::size_bytes)]
    memory: Option<u64>,
    /// Memory and swap together; -1 for unlimited swap.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Memory that is taken from others first when memory is short.
    #[arg(long, value_name = "SIZE", value_parser = quantity::size_bytes)]
    memory_reservation: Option<u64>,
    /// Memory from which on it is slowed down (hosts with cgroup v2 only).
    #[arg(long, value_name = "SIZE", value_parser = quantity::size_bytes)]
    memory_high: Option<u64>,
    /// Whether all of it ends when one process is killed for lack of memory; so it is on cgroup v2.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    oom_group: Option<bool>,
    /// Bytes in huge pages of a size, such as 2MB=64m.
    #[arg(long, value_name = "PAGE=SIZE", value_parser = docker::huge_pages)]
    huge_pages: Vec<(String, u64)>,
    /// Processes and threads.
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<u32>,
    /// Bytes read per second, on the disk of the containers.
    #[arg(long, visible_alias = "device-read-bps", value_name = "SIZE", value_parser = docker::rate_bytes)]
    io_read: Option<u64>,
    /// Bytes written per second, on the disk of the containers.
    #[arg(long, visible_alias = "device-write-bps", value_name = "SIZE", value_parser = docker::rate_bytes)]
    io_write: Option<u64>,
    /// Read operations per second, on the disk of the containers.
    #[arg(long, visible_alias = "device-read-iops", value_name = "NUMBER", value_parser = docker::rate_ops)]
    io_read_ops: Option<u32>,
    /// Write operations per second, on the disk of the containers.
    #[arg(long, visible_alias = "device-write-iops", value_name = "NUMBER", value_parser = docker::rate_ops)]
    io_write_ops: Option<u32>,
    /// Share of block I/O under contention, 1 to 10000.
    #[arg(long, value_name = "WEIGHT")]
    io_weight: Option<u32>,
    /// Size of /dev/shm.
    #[arg(long, value_name = "SIZE", value_parser = quantity::size_bytes)]
    shm_size: Option<u64>,
    /// Open files.
    #[arg(long, value_name = "NUMBER")]
    open_files: Option<u32>,
}

/// How a container is checked while it runs.
#[derive(Debug, Default, Args)]
pub(crate) struct HealthArguments {
    /// Check its health with this shell command, run inside.
    #[arg(long, value_name = "COMMAND", group = "health_test")]
    health_cmd: Option<String>,
    /// Check its health with an HTTP request from the host: PORT[/PATH].
    #[arg(long, value_name = "PORT[/PATH]", value_parser = docker::health_http, group = "health_test")]
    health_http: Option<HttpTest>,
    /// Statuses of that request that are healthy.
    #[arg(long, value_name = "FROM-TO", value_parser = docker::health_status, requires = "health_http")]
    health_http_status: Option<(u16, u16)>,
    /// Check its health by connecting to this port from the host.
    #[arg(long, value_name = "PORT", group = "health_test")]
    health_tcp: Option<u16>,
    /// Do not check its health, whatever the image says.
    #[arg(long, group = "health_test")]
    no_healthcheck: bool,
    /// Time between two checks; 30s when neither this nor the image says.
    #[arg(long, value_name = "TIME", value_parser = quantity::span_ms)]
    health_interval: Option<u64>,
    /// A check that takes longer has failed; 30s when neither this nor the image says.
    #[arg(long, value_name = "TIME", value_parser = quantity::span_ms)]
    health_timeout: Option<u64>,
    /// So long after the start failures do not count.
    #[arg(long, value_name = "TIME", value_parser = quantity::span_ms)]
    health_start_period: Option<u64>,
    /// Time between two checks in the start period.
    #[arg(long, value_name = "TIME", value_parser = quantity::span_ms)]
    health_start_interval: Option<u64>,
    /// Failures in a row until it is unhealthy; 3 when neither this nor the image says.
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u32>,
    /// What is done when it is unhealthy: none or restart.
    #[arg(long, value_name = "ACTION", value_parser = docker::health_action)]
    health_on_failure: Option<HealthAction>,
}

impl HealthArguments {
    /// The check that is asked for; `None` leaves it to the image.
    fn check(&self) -> Option<HealthCheck> {
        let http = self.health_http.clone().map(|test| {
            let (status_min, status_max) =
                self.health_http_status.unwrap_or((test.status_min, test.status_max));
            HealthTest::Http(HttpTest { status_min, status_max, ..test })
        });
        let check = HealthCheck {
            test: (self.no_healthcheck.then_some(HealthTest::None))
                .or_else(|| self.health_cmd.clone().map(HealthTest::Shell))
                .or(http)
                .or_else(|| self.health_tcp.map(|port| HealthTest::Tcp { port })),
            interval_ms: self.health_interval,
            timeout_ms: self.health_timeout,
            start_period_ms: self.health_start_period,
            start_interval_ms: self.health_start_interval,
            retries: self.health_retries,
            on_unhealthy: self.health_on_failure.unwrap_or_default(),
        };
        (check != HealthCheck::default()).then_some(check)
    }
}

impl LimitArguments {
    /// The limits that result when these go over `limits`.
    pub(crate) fn over(&self, limits: Limits) -> Result<Limits, String> {
        let memory_bytes = self.memory.or(limits.memory_bytes);
        let list = |given: &Option<String>, present: Option<String>| {
            given.clone().or(present).filter(|list| !list.is_empty())
        };
        let swap = self.memory_swap.as_deref().map(|text| docker::swap_bytes(memory_bytes, text));
        Ok(Limits {
            cpu_millis: self.cpus.or(limits.cpu_millis),
            cpu_weight: self.cpu_weight.or(limits.cpu_weight),
            cpus: list(&self.cpuset_cpus, limits.cpus),
            mems: list(&self.cpuset_mems, limits.mems),
            memory_bytes,
            memory_high_bytes: self.memory_high.or(limits.memory_high_bytes),
            memory_reservation_bytes: self.memory_reservation.or(limits.memory_reservation_bytes),
            oom_group: self.oom_group.or(limits.oom_group),
            swap_bytes: swap.transpose()?.or(limits.swap_bytes),
            huge_pages: limits.huge_pages.into_iter().chain(self.huge_pages.iter().cloned()).collect(),
            pids: self.pids_limit.or(limits.pids),
            io_read_bytes_per_s: self.io_read.or(limits.io_read_bytes_per_s),
            io_write_bytes_per_s: self.io_write.or(limits.io_write_bytes_per_s),
            io_read_ops_per_s: self.io_read_ops.or(limits.io_read_ops_per_s),
            io_write_ops_per_s: self.io_write_ops.or(limits.io_write_ops_per_s),
            io_weight: self.io_weight.or(limits.io_weight),
            shm_bytes: self.shm_size.or(limits.shm_bytes),
            open_files: self.open_files.or(limits.open_files),
            devices: limits.devices,
        })
    }
}

impl CreateArguments {
    /// The specification that is asked for.
    async fn spec(&self, client: &Client, stdin: bool) -> Result<ContainerSpec> {
        let files = self.env_file.iter().map(|path| read_text(path)).collect::<Result<Vec<_>>>()?;
        let here = |name: &str| std::env::var(name).ok();
        Ok(ContainerSpec {
            name: self.name.clone(),
            image: self.image.clone(),
            tenant: client.tenant_id(self.tenant.as_deref()).await?,
            entrypoint: self.entrypoint.as_ref().map(|program| match program.as_str() {
                "" => Vec::new(),
                program => vec![program.to_owned()],
            }),
            command: (!self.command.is_empty()).then(|| self.command.clone()),
            env: docker::environment(&files, &self.env, here).map_err(|why| anyhow!(why))?,
            labels: self.label.iter().cloned().collect::<BTreeMap<_, _>>(),
            user: self.user.clone(),
            workdir: self.workdir.clone(),
            hostname: self.hostname.clone(),
            terminal: self.tty,
            stdin,
            init: self.init,
            read_only: self.read_only,
            ports: self.publish.clone(),
            volumes: self.volume.iter().chain(&self.tmpfs).cloned().collect(),
            network: self.network.unwrap_or_default(),
            limits: Limits {
                devices: self.device.clone(),
                ..self.limits.over(Limits::default()).map_err(|why| anyhow!(why))?
            },
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            health: self.health.check(),
            ulimits: self.ulimit.iter().cloned().collect(),
            group_add: self.group_add.clone(),
            sysctls: self.sysctl.iter().cloned().collect(),
            system: self.system,
            privileged: self.privileged,
            host_namespaces: self.host_namespaces(),
            seccomp: self.seccomp(),
            apparmor: self.apparmor(),
            new_privileges: self.new_privileges(),
            restart: self.restart.unwrap_or_default(),
            auto_remove: self.rm,
            stop_signal: self.stop_signal.clone(),
            stop_grace_s: self.stop_timeout,
            ..ContainerSpec::default()
        })
    }

    fn host_namespaces(&self) -> Vec<HostNamespace> {
        let given = [
            (self.pid, HostNamespace::Pid),
            (self.ipc, HostNamespace::Ipc),
            (self.uts, HostNamespace::Uts),
            (self.userns, HostNamespace::User),
        ];
        given.into_iter().filter(|(given, _)| *given == Namespace::Host).map(|(_, of)| of).collect()
    }

    fn seccomp(&self) -> SeccompMode {
        let given = self.security_opt.iter().rev().find_map(|option| match option {
            SecurityOption::Seccomp(mode) => Some(mode.clone()),
            SecurityOption::NewPrivileges(_) | SecurityOption::AppArmor(_) => None,
        });
        given.unwrap_or_default()
    }

    fn apparmor(&self) -> AppArmorMode {
        let given = self.security_opt.iter().rev().find_map(|option| match option {
            SecurityOption::AppArmor(mode) => Some(mode.clone()),
            SecurityOption::NewPrivileges(_) | SecurityOption::Seccomp(_) => None,
        });
        given.unwrap_or_default()
    }

    fn new_privileges(&self) -> bool {
        let given = self.security_opt.iter().rev().find_map(|option| match option {
            SecurityOption::NewPrivileges(may) => Some(*may),
            SecurityOption::Seccomp(_) | SecurityOption::AppArmor(_) => None,
        });
        given.unwrap_or_default()
    }

    /// Sees to the image, then makes the container.
    async fn create(
        &self,
        shell: &Shell,
        client: &Client,
        stdin: bool,
        start: bool,
    ) -> Result<ContainerView> {
        let spec = self.spec(client, stdin).await?;
        let tenant = spec.tenant.clone();
        let mut query = vec![("reference", self.image.as_str())];
        query.extend(tenant.as_ref().map(|tenant| ("tenant", tenant.as_str())));
        let wanted = match self.pull {
            Pull::Always => true,
            Pull::Never => false,
            Pull::Missing => client.find::<ImageDetail>(&["images", "detail"], &query).await?.is_none(),
        };
        if wanted {
            let request = PullRequest { image: self.image.clone(), tenant, credentials: None };
            images::pull_image(client, &request, !shell.output.json).await?;
        } else if self.pull == Pull::Never {
            client.get::<ImageDetail>(&["images", "detail"], &query).await?;
        }
        let start = if start { "true" } else { "false" };
        client.post(&["containers"], &[("start", start)], &spec).await
    }
}

/// Makes a container.
pub(crate) async fn create(shell: &Shell, arguments: CreateArguments) -> Result<()> {
    let client = shell.client()?;
    let view = arguments.create(shell, &client, false, false).await?;
    shell.output.outcome(&view, view.id.as_str())
}

/// Makes a container, starts it and stays with it unless told otherwise. Returns its exit code.
pub(crate) async fn run(shell: &Shell, arguments: RunArguments) -> u8 {
    match try_run(shell, &arguments).await {
        Ok(code) => code,
        Err(error) if failure::is_closed_pipe(&error) => 0,
        Err(error) => {
            output::note(&failure::line(&error));
            failure::start_code(&format!("{error:#}"))
        }
    }
}

async fn try_run(shell: &Shell, arguments: &RunArguments) -> Result<u8> {
    let client = shell.client()?;
    let create = &arguments.create;
    if arguments.detach {
        let view = create.create(shell, &client, false, true).await?;
        let view = started(&client, view).await?;
        shell.output.outcome(&view, view.id.as_str())?;
        return Ok(0);
    }
    let view = create.create(shell, &client, arguments.interactive, false).await?;
    let joint = Joint { terminal: create.tty, stdin: arguments.interactive };
    match start_and_join(&client, view.id.as_str(), joint).await {
        Ok(Ended::Exited(code)) => {
            if create.rm {
                removed(&client, view.id.as_str()).await;
            }
            Ok(failure::process_code(code))
        }
        Ok(Ended::Detached) => {
            output::note(&format!(
                "\r\n{} runs on; `wharf attach {}` comes back to it",
                view.name, view.name
            ));
            Ok(0)
        }
        Err(error) => {
            forget(&client, view.id.as_str(), create.rm).await;
            Err(error)
        }
    }
}

/// Attaches first and starts then, so that not a byte is missed.
async fn start_and_join(client: &Client, id: &str, joint: Joint) -> Result<Ended> {
    let stdin = if joint.stdin { "true" } else { "false" };
    let query = [("stdin", stdin), ("logs", "true")];
    let segments = ["containers", id, "attach"];
    let attach = || Stream::open(client, &segments, &query);
    let attached = match attach().await {
        Ok(stream) => Some(stream),
        // An agent that can attach only to what runs: its log has the first bytes.
        Err(error)
            if [ProblemKind::Conflict, ProblemKind::Internal]
                .iter()
                .any(|kind| is_problem(&error, *kind)) =>
        {
            None
        }
        Err(error) => return Err(error),
    };
    let request = client.request(Method::POST, &["containers", id, "start"]).timeout(START_TIMEOUT);
    client.act(request).await?;
    let stream = match attached {
        Some(stream) => stream,
        None => attach().await?,
    };
    stream.join(joint).await
}

/// Waits until a started container runs, has run or could not be started.
async fn started(client: &Client, mut view: ContainerView) -> Result<ContainerView> {
    let mut pause = Duration::from_millis(10);
    loop {
        // One that has ended with an error lost its supervisor before its program ran.
        let failed = view.state == ContainerState::Failed
            || (view.state == ContainerState::Exited && view.error.is_some());
        if failed {
            let why = view.error.unwrap_or_else(|| "it could not be started".to_owned());
            return Err(anyhow!("{}: {why}", view.name));
        }
        let waits = [ContainerState::Created, ContainerState::Pulling, ContainerState::Starting]
            .contains(&view.state);
        if !waits {
            return Ok(view);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
        let id = view.id.clone();
        match client.find::<ContainerView>(&["containers", id.as_str()], &[]).await? {
            Some(now) => view = now,
            // Ended and removed itself before we looked.
            None => return Ok(view),
        }
    }
}

/// Waits until a container that removes itself is gone, so that its name, ports and volumes are free
/// for what is run next.
async fn removed(client: &Client, id: &str) {
    match tokio::time::timeout(REMOVAL_TIMEOUT, containers::wait_for(client, id, "removed")).await {
        Ok(Err(error)) if !is_problem(&error, ProblemKind::NotFound) => {
            output::note(&failure::line(&error));
        }
        // It is gone; or the agent is, and removes it when it comes back.
        Ok(_) | Err(_) => {}
    }
}

/// Removes a container that was to remove itself and was never started.
async fn forget(client: &Client, id: &str, wanted: bool) {
    if wanted {
        // Not by force: one that runs after all removes itself.
        let request = client.request(Method::DELETE, &["containers", id]);
        if let Err(error) = client.act(request).await
            && !is_problem(&error, ProblemKind::NotFound)
            && !is_problem(&error, ProblemKind::Conflict)
        {
            output::note(&format!("wharf: {id} stays: {error:#}"));
        }
    }
}

/// Sends a signal to a container.
pub(crate) async fn signal(client: &Client, name: &str, signal: &str) -> Result<()> {
    let body = SignalRequest { signal: signal.to_owned() };
    client.act(client.request(Method::POST, &["containers", name, "kill"]).json(&body)).await
}

fn read_text(path: &str) -> Result<String> {
    if path != "-" {
        return std::fs::read_to_string(path).with_context(|| format!("read {path}"));
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("read standard input")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_limits_go_over_present_ones_and_leave_the_others() {
        let given = LimitArguments { cpus: Some(500), ..LimitArguments::default() };
        let present = Limits { memory_bytes: Some(1 << 30), cpu_millis: Some(2_000), ..Limits::default() };
        let limits = given.over(present.clone()).expect("valid");
        assert_eq!(limits, Limits { cpu_millis: Some(500), ..present });
    }

    #[test]
    fn an_empty_set_of_cpus_lifts_it_and_huge_pages_of_another_size_stay() {
        let given = LimitArguments {
            cpuset_cpus: Some(String::new()),
            huge_pages: vec![("2MB".to_owned(), 0)],
            ..LimitArguments::default()
        };
        let present = Limits {
            cpus: Some("1".to_owned()),
            mems: Some("0".to_owned()),
            huge_pages: BTreeMap::from([("1GB".to_owned(), 1 << 30), ("2MB".to_owned(), 2 << 20)]),
            ..Limits::default()
        };
        let limits = given.over(present).expect("valid");
        assert_eq!((limits.cpus, limits.mems.as_deref()), (None, Some("0")));
        let huge_pages = BTreeMap::from([("1GB".to_owned(), 1 << 30), ("2MB".to_owned(), 0)]);
        assert_eq!(limits.huge_pages, huge_pages);
    }

    #[test]
    fn a_swap_limit_counts_from_the_memory_limit_that_holds_in_the_end() {
        let given = LimitArguments { memory_swap: Some("3g".to_owned()), ..LimitArguments::default() };
        let present = Limits { memory_bytes: Some(1 << 30), ..Limits::default() };
        assert_eq!(given.over(present).expect("valid").swap_bytes, Some(2 << 30));
        assert!(given.over(Limits::default()).is_err());
    }
}
