//! One test's machine: network namespace, registry, agent; made for it and ended with it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use wharf_shared::auth::{NewToken, SessionView};
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::reading::{ReadingKind, ReadingRecord};
use wharf_shared::tenant::TenantView;
use wharf_shared::user::UserView;
use wharf_shim::connection::Connection;
use wharf_shim::failpoint;
use wharf_shim::paths::RunRoot;
use wharf_shim::state::StateFile;
use wharf_store::journal::Journal;

use crate::client::Api;
use crate::disk::Disk;
use crate::leftovers;
use crate::registry::{Image, Registry, free_port, run as run_program};

/// Anything that a working agent does takes less, in seconds; the guest says how slow it is.
const PATIENCE_S: u64 = 30;
const PASSWORD: &str = "correct horse battery staple";

/// What a test has.
#[derive(Debug)]
pub struct World {
    /// The agent's state is on it; unmounted before the directory goes.
    disk: Option<Disk>,
    /// Everything on disk is below it.
    dir: TempDir,
    /// The agent's instance name.
    pub instance: String,
    /// The registry.
    pub registry: RefCell<Registry>,
    programs: PathBuf,
    /// Where the agent listens.
    pub port: u16,
    tls: bool,
    by_xtask: bool,
    settings: Vec<String>,
    agent: RefCell<Option<Child>>,
    http: reqwest::Client,
    runtime: Rc<Runtime>,
    admin: OnceCell<Api>,
    busybox: OnceCell<String>,
    names: Cell<u32>,
}

/// Runs a test in a world of its own, ends the world, and fails if anything of it is left.
pub fn run(test: impl FnOnce(&World) -> Result<()> + Send) -> Result<()> {
    run_with(&[], test)
}

/// As [`run`], with settings of the agent such as `metering.journal_interval_ms=500`.
pub fn run_with(settings: &[&str], test: impl FnOnce(&World) -> Result<()> + Send) -> Result<()> {
    run_in(Setup { settings, ..Setup::USUAL }, test)
}

/// How a world differs from the usual.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Settings of the agent.
    pub settings: &'a [&'a str],
    /// The agent's state is on a disk of this size.
    pub disk_mebibytes: Option<u32>,
    /// The agent listens on every address, with a certificate that it generates.
    pub tls: bool,
    /// The agent is started as the README says.
    pub by_xtask: bool,
}

impl Setup<'static> {
    /// The usual world.
    pub const USUAL: Self = Self { settings: &[], disk_mebibytes: None, tls: false, by_xtask: false };
}

/// As [`run`], in a world that differs.
pub fn run_in(setup: Setup<'_>, test: impl FnOnce(&World) -> Result<()> + Send) -> Result<()> {
    // A network namespace belongs to a thread; what the thread spawns inherits it.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                ensure!(nix::unistd::geteuid().is_root(), "the end-to-end tests need root");
                unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
                run_program(Command::new("ip").args(["link", "set", "lo", "up"]))?;
                let world = World::prepare(setup)?;
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    world.start_agent()?;
                    world.set_up()?;
                    test(&world)
                }));
                let failed = !matches!(outcome, Ok(Ok(())));
                if failed {
                    world.tell();
                }
                let ended = world.end();
                match outcome {
                    Err(panic) => resume_unwind(panic),
                    Ok(Err(error)) => Err(error),
                    Ok(Ok(())) => ended,
                }
            })
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    })
}

impl World {
    fn prepare(setup: Setup<'_>) -> Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("wharf-e2e-").tempdir().context("make a temporary directory")?;
        let programs = programs()?;
        let mut random = [0; 3];
        getrandom::fill(&mut random).context("draw a name")?;
        let registry = Registry::start(dir.path())?;
        let mut all = vec![format!("registry.insecure_hosts=[\"{}\"]", registry.host)];
        all.extend(setup.settings.iter().map(|setting| (*setting).to_owned()));
        if setup.tls {
            all.push("tls.mode=generate".to_owned());
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
        Ok(Self {
            instance: format!("e2e{}", hex::encode(random)),
            registry: RefCell::new(registry),
            programs,
            port: free_port()?,
            tls: setup.tls,
            by_xtask: setup.by_xtask,
            settings: all,
            agent: RefCell::new(None),
            http: reqwest::Client::builder()
                .timeout(2 * patience())
                .no_proxy()
                // While a test waits for another program nobody sees that the agent closed an idle one.
                .pool_max_idle_per_host(0)
                // That clients can tell one certificate from another is shown with the command line.
                .danger_accept_invalid_certs(setup.tls)
                .build()
                .context("make a client")?,
            runtime: Rc::new(runtime),
            admin: OnceCell::new(),
            busybox: OnceCell::new(),
            names: Cell::new(0),
            disk: setup.disk_mebibytes.map(|size| Disk::new(dir.path(), size)).transpose()?,
            dir,
        })
    }

    /// A directory for the test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The agent's durable state.
    pub fn state_dir(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.dir.path(), |disk| &disk.path).join("state")
    }

    /// The small disk that the agent's state is on.
    pub fn disk(&self) -> Result<&Disk> {
        self.disk.as_ref().context("this world has no disk of its own")
    }

    /// The agent's sockets and the supervisors' state files.
    pub fn run_root(&self) -> RunRoot {
        RunRoot::new(self.dir.path().join("run"))
    }

    /// Has the next process that reaches this point killed there.
    pub fn arm(&self, point: &str) -> Result<()> {
        fs::write(self.run_root().path().join(failpoint::FILE), point).context("name the point")
    }

    /// Waits until a process was killed at the armed point.
    pub fn killed(&self) -> Result<()> {
        let file = self.run_root().path().join(failpoint::FILE);
        self.until("a process reaches the point", || Ok(!file.exists()))
    }

    /// Where one of our programs is.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// The agent's address.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    /// The fingerprint of its certificate, as the agent prints it at its start.
    pub fn fingerprint(&self) -> Result<String> {
        let log = fs::read_to_string(self.agent_log()).context("read the agent's log")?;
        let (_, rest) = log.split_once("certificate fingerprint: ").context("no fingerprint is printed")?;
        Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
    }

    fn agent_command(&self) -> Command {
        let mut command = Command::new(self.program("wharfd"));
        self.instance_of(&mut command);
        command.args(["--listen", &self.listen()]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }

    fn serve_command(&self) -> Result<Command> {
        if !self.by_xtask {
            let mut command = self.agent_command();
            command.arg("serve");
            return Ok(command);
        }
        // A setting is a line of a configuration file.
        let config = self.dir.path().join("wharfd.toml");
        fs::write(&config, self.settings.join("\n")).context("write the agent's configuration")?;
        let mut command = self.xtask("up");
        command.args(["--listen", &self.listen(), "--config"]).arg(config);
        Ok(command)
    }

    /// A command of the README for this world's instance, with the programs under test.
    pub fn xtask(&self, name: &str) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(["xtask", name]);
        command.args(["--profile", "dev"]);
        self.instance_of(&mut command);
        command
    }

    fn instance_of(&self, command: &mut Command) {
        let run_dir = self.dir.path().join("run");
        command.args(["--instance", &self.instance]).stdin(Stdio::null());
        command.arg("--state-dir").arg(self.state_dir()).arg("--run-dir").arg(run_dir);
    }

    fn listen(&self) -> String {
        format!("{}:{}", if self.tls { "0.0.0.0" } else { "127.0.0.1" }, self.port)
    }

    fn agent_log(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    /// Starts the agent and waits until it answers.
    pub fn start_agent(&self) -> Result<()> {
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.agent_log())
            .context("open the log")?;
        let child = self
            .serve_command()?
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .context("start wharfd")?;
        self.agent.replace(Some(child));
        self.until("the agent answers", || {
            if let Some(child) = self.agent.borrow_mut().as_mut()
                && let Some(status) = child.try_wait().context("look at the agent")?
            {
                bail!("the agent ended with {status}");
            }
            let answer = self
                .runtime
                .block_on(async { self.http.get(format!("{}/healthz", self.url())).send().await });
            Ok(answer.is_ok_and(|answer| answer.status().is_success()))
        })
    }

    /// `kill -9` of the agent.
    pub fn kill_agent(&self) -> Result<()> {
        let Some(mut agent) = self.agent.take() else { bail!("no agent runs") };
        agent.kill().context("kill the agent")?;
        agent.wait().context("wait for the agent")?;
        Ok(())
    }

    /// Waits until the agent, which is being killed, is dead.
    pub fn bury_agent(&self) -> Result<()> {
        let Some(mut agent) = self.agent.take() else { bail!("no agent runs") };
        let status = agent.wait().context("wait for the agent")?;
        ensure!(status.signal() == Some(9), "the agent was not killed: {status}");
        Ok(())
    }

    /// `kill -9` of the forge, if there is one.
    pub fn kill_forge(&self) -> Result<()> {
        let Ok(forge) = Connection::connect(&self.run_root().forge_socket()) else { return Ok(()) };
        let pid = forge.peer_pid().context("ask who the forge is")?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).context("kill the forge")
    }

    /// Asks the agent to stop and waits until it has.
    pub fn stop_agent(&self) -> Result<ExitStatus> {
        self.signal_agent(Signal::SIGTERM)
    }

    /// Presses Ctrl-C in the agent's terminal, and waits until it has stopped.
    pub fn interrupt_agent(&self) -> Result<ExitStatus> {
        self.signal_agent(Signal::SIGINT)
    }

    fn signal_agent(&self, signal: Signal) -> Result<ExitStatus> {
        let Some(mut agent) = self.agent.take() else { bail!("no agent runs") };
        kill(Pid::from_raw(i32::try_from(agent.id())?), signal).context("stop the agent")?;
        let mut ended = None;
        let stopped = self.until("the agent stops", || {
            ended = agent.try_wait().context("look at the agent")?;
            Ok(ended.is_some())
        });
        if stopped.is_err() {
            agent.kill().context("kill the agent")?;
            agent.wait().context("wait for the agent")?;
        }
        stopped?;
        ended.context("the agent's status")
    }

    /// The agent's process.
    pub fn agent_pid(&self) -> Result<u32> {
        self.agent.borrow().as_ref().map(Child::id).context("no agent runs")
    }

    /// The first admin.
    pub fn api(&self) -> &Api {
        self.admin.get_or_init(|| self.stranger())
    }

    /// The agent as a stranger sees it.
    pub fn stranger(&self) -> Api {
        Api::new(self.url(), None, self.http.clone(), Rc::clone(&self.runtime))
    }

    /// Makes the first admin with the link that the agent printed.
    fn set_up(&self) -> Result<()> {
        let log = fs::read_to_string(self.agent_log()).context("read the agent's log")?;
        let (_, link) = log.split_once("setup link: ").context("the agent printed no setup link")?;
        let link = link.split_whitespace().next().unwrap_or_default();
        let (_, secret) = link.split_once('#').context("the link has no secret")?;
        let body = json!({ "secret": secret, "name": "admin", "password": PASSWORD });
        let url = format!("{}/api/v1/auth/setup", self.url());
        let token = self.runtime.block_on(self.token(&url, &body)).context("set up the first admin")?;
        self.admin.get_or_init(|| self.stranger().with_token(token));
        Ok(())
    }

    /// Signs in as a browser does, and makes a token as the CLI does.
    async fn token(&self, url: &str, body: &Value) -> Result<String> {
        let response = self.http.post(url).json(body).send().await?.error_for_status()?;
        let cookie = response.headers().get("set-cookie").context("no cookie came")?.to_str()?.to_owned();
        let session: SessionView = response.json().await?;
        let cookie = cookie.split(';').next().unwrap_or_default();
        let response = self
            .http
            .post(format!("{}/api/v1/tokens", self.url()))
            .header("cookie", cookie)
            .header("x-wharf-csrf", session.csrf_token)
            .json(&json!({ "name": "e2e" }))
            .send()
            .await?
            .error_for_status()?;
        let token: NewToken = response.json().await?;
        Ok(token.secret)
    }

    /// Makes a tenant.
    pub fn tenant(&self, name: &str) -> Result<TenantView> {
        self.api().post("/tenants", &json!({ "name": name }))
    }

    /// Makes a user of this tenant and returns what they see.
    pub fn member(&self, tenant: &TenantView) -> Result<Api> {
        let name = format!("{}-member", tenant.name);
        let body = json!({ "name": name, "password": PASSWORD, "role": "member", "tenant": tenant.id });
        let _: UserView = self.api().post("/users", &body)?;
        let url = format!("{}/api/v1/auth/login", self.url());
        let token =
            self.runtime.block_on(self.token(&url, &json!({ "name": name, "password": PASSWORD })))?;
        Ok(self.api().with_token(token))
    }

    /// Reference of the busybox image in the registry.
    pub fn busybox(&self) -> Result<String> {
        if self.busybox.get().is_none() {
            let dir = self.dir.path().join("busybox");
            fs::create_dir_all(&dir).context("make the image's directory")?;
            let image = Image::busybox(&dir)?;
            let registry = self.registry.borrow();
            self.until("the registry answers", || {
                Ok(self.api().fetch(&format!("http://{}/v2/", registry.host)).is_ok())
            })?;
            let reference = registry.push(&image, "library/busybox:1")?;
            // Only this thread fills it, and only once.
            self.busybox.get_or_init(|| reference);
        }
        self.busybox.get().cloned().context("the image's reference")
    }

    /// Pushes the Debian image and returns its reference.
    pub fn debian(&self) -> Result<String> {
        // Asks until the registry answers.
        self.busybox()?;
        self.registry.borrow().push(&Image::debian()?, "library/debian:12")
    }

    /// The files of the busybox image, for a peer that takes a directory.
    pub fn busybox_root(&self) -> Result<PathBuf> {
        self.busybox()?;
        Ok(self.dir.path().join("busybox/root"))
    }

    /// The layer of the busybox image, for a peer that takes an archive.
    pub fn busybox_layer(&self) -> Result<PathBuf> {
        self.busybox()?;
        Ok(self.dir.path().join("busybox/layer.tar"))
    }

    /// The specification of a busybox container of this tenant, with these fields over it.
    pub fn spec(&self, tenant: &TenantView, command: &[&str], more: Value) -> Result<Value> {
        let number = self.names.get() + 1;
        self.names.set(number);
        let mut spec = json!({
            "image": self.busybox()?,
            "tenant": tenant.id,
            "name": format!("c{number}"),
            "command": command,
            "stop_grace_s": 1,
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        Ok(spec)
    }

    /// Creates and starts a container and waits until it runs or has ended.
    pub fn start(&self, tenant: &TenantView, command: &[&str], more: Value) -> Result<ContainerView> {
        let spec = self.spec(tenant, command, more)?;
        let created: ContainerView = self.api().post("/containers?start=true", &spec)?;
        let view = self.container_until(created.id.as_str(), "it has started", |view| {
            view.started_at.is_some() || view.state == ContainerState::Failed
        })?;
        ensure!(view.state != ContainerState::Failed, "it failed: {:?}", view.error);
        Ok(view)
    }

    /// Runs a shell script in a container to its end.
    pub fn script(&self, tenant: &TenantView, script: &str, more: Value) -> Result<ContainerView> {
        let view = self.start(tenant, &["sh", "-c", script], more)?;
        self.ended(view.id.as_str())
    }

    /// `wharf` in the world's directory, as the admin, for the tenant `acme`, with nothing to read.
    pub fn wharf_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.program("wharf"));
        command
            .args(arguments)
            .env("WHARF_URL", self.url())
            .env("WHARF_TOKEN", self.api().token().context("a token")?)
            .env("WHARF_TENANT", "acme")
            .env("XDG_CONFIG_HOME", self.dir())
            .current_dir(self.dir())
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs it to its end.
    pub fn wharf(&self, arguments: &[&str]) -> Result<Output> {
        self.wharf_command(arguments)?.output().context("run wharf")
    }

    /// The same, and returns what it printed; it must succeed.
    pub fn said(&self, arguments: &[&str]) -> Result<String> {
        let output = self.wharf(arguments)?;
        ensure!(output.status.success(), "wharf {arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits until a container has ended.
    pub fn ended(&self, id: &str) -> Result<ContainerView> {
        self.container_until(id, "it has ended", |view| view.state == ContainerState::Exited)
    }

    /// Waits for a state of a container.
    pub fn container_until(
        &self,
        id: &str,
        what: &str,
        mut holds: impl FnMut(&ContainerView) -> bool,
    ) -> Result<ContainerView> {
        let mut last = None;
        let path = format!("/containers/{id}");
        let reached = self.until(what, || {
            let view: ContainerView = self.api().get(&path)?;
            let reached = holds(&view);
            last = Some(view);
            Ok(reached)
        });
        reached.with_context(|| format!("container as last seen: {last:?}"))?;
        last.context("it was never seen")
    }

    /// Whether a process of the host runs: one that ended and was not yet waited for does not.
    pub fn process_runs(&self, pid: Option<i32>) -> Result<bool> {
        let pid = pid.context("the container has no pid")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        Ok(state.is_some_and(|state| !matches!(state, 'Z' | 'X')))
    }

    /// `kill -9` of a running container's supervisor.
    pub fn kill_supervisor(&self, view: &ContainerView) -> Result<()> {
        let state = self.state_file(view.id.as_str())?.context("it has no supervisor")?;
        kill(Pid::from_raw(state.shim.pid), Signal::SIGKILL).context("kill the supervisor")
    }

    /// What a container's supervisor has written of itself; `None` when it is gone.
    pub fn state_file(&self, id: &str) -> Result<Option<StateFile>> {
        Ok(StateFile::read(&self.run_root().container(id)?, id)?)
    }

    /// Its whole log as text.
    pub fn logs(&self, id: &str) -> Result<String> {
        self.api().text(&format!("/containers/{id}/logs"))
    }

    /// Waits until its log contains this.
    pub fn logged(&self, id: &str, wanted: &str) -> Result<()> {
        self.until(&format!("{wanted:?} is logged"), || Ok(self.logs(id)?.contains(wanted)))
    }

    /// Waits until something holds.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let patience = patience();
        let deadline = Instant::now() + patience;
        loop {
            if holds().with_context(|| format!("wait until {what}"))? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not within {} s: {what}", patience.as_secs());
            self.pause(Duration::from_millis(25));
        }
    }

    /// Lets time pass: between two looks at something, or to a random instant of a fault.
    pub fn pause(&self, duration: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(duration).await });
    }

    /// Every reading in the host's journal, after proving that it is whole.
    pub fn readings(&self) -> Result<Vec<ReadingRecord>> {
        self.runtime.block_on(all_readings(&self.state_dir()))
    }

    /// Proves that the journal is whole, and that every container in it, which all have ended, was read to its end.
    pub fn every_reading_is_there(&self) -> Result<()> {
        let mut last = BTreeMap::new();
        for reading in self.readings()? {
            if let Some(id) = reading.series.container.clone() {
                last.insert((id, reading.series.incarnation), reading.kind);
            }
        }
        last.retain(|_, kind| !matches!(kind, ReadingKind::Final | ReadingKind::FinalBlock));
        ensure!(last.is_empty(), "without a last reading: {last:?}");
        Ok(())
    }

    /// The containers' cgroups of the instance, in every hierarchy.
    pub fn container_cgroups(&self) -> Vec<PathBuf> {
        leftovers::container_cgroups(&self.instance)
    }

    /// The cgroups of a tenant that are there, one in each hierarchy.
    pub fn tenant_cgroups(&self, tenant: &TenantView) -> Vec<PathBuf> {
        let instances = leftovers::cgroup_dirs(&self.instance).into_iter();
        instances.map(|dir| dir.join(tenant.id.as_str())).filter(|dir| dir.exists()).collect()
    }

    /// Waits until no container of the instance is left on the host: processes, mounts, cgroups, links,
    /// firewall elements, directories. The agent and its forge go on.
    pub fn no_container_is_left(&self) -> Result<()> {
        let dirs = [self.state_dir().join("c"), self.dir.path().join("run/c")];
        let mut left = Vec::new();
        let looked = self.until("no container is left", || {
            left = leftovers::of_containers(&self.instance, self.dir.path(), &dirs)?;
            Ok(left.is_empty())
        });
        looked.with_context(|| format!("left of containers: {left:#?}"))
    }

    /// Prints what helps to understand a failure.
    fn tell(&self) {
        let log = fs::read_to_string(self.agent_log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(80));
        let text: Vec<_> = last.map(|line| format!("    {line}")).collect();
        print(&format!("the agent's log ends:\n{}", text.join("\n")));
    }

    /// Waits until nothing of the instance is on the machine.
    pub fn nothing_is_left(&self) -> Result<()> {
        let mut left = Vec::new();
        let looked = self.until("nothing is left", || {
            left = leftovers::find(&self.instance, self.dir.path());
            Ok(left.is_empty())
        });
        looked.with_context(|| format!("left on the machine: {left:#?}"))
    }

    /// Ends everything and looks for what is left.
    fn end(mut self) -> Result<()> {
        let runs = self.agent.borrow().is_some();
        let stopped = runs.then(|| self.stop_agent());
        self.registry.borrow_mut().stop()?;
        run_program(self.agent_command().args(["down", "--purge"])).context("purge the instance")?;
        ensure!(!self.state_dir().exists(), "the state was not purged");
        if let Some(disk) = &mut self.disk {
            disk.remove().context("something still uses the agent's disk")?;
        }
        self.nothing_is_left()?;
        if let Some(status) = stopped.transpose()? {
            ensure!(status.success(), "the agent ended with {status}");
        }
        Ok(())
    }
}

fn patience() -> Duration {
    let said = std::env::var("WHARF_PATIENCE_S").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(said.unwrap_or(PATIENCE_S))
}

/// Every reading in the journal of this state directory, after proving that it is whole.
pub fn readings_in(state_dir: &Path) -> Result<Vec<ReadingRecord>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
    runtime.block_on(all_readings(state_dir))
}

async fn all_readings(state_dir: &Path) -> Result<Vec<ReadingRecord>> {
    let nobody = "hst_00000000-0000-7000-8000-000000000000".parse().context("a host id")?;
    let journal = Journal::open(&state_dir.join("journal.db"), &nobody).await.context("open the journal")?;
    let count = journal.verify().await.context("verify the journal")?.records;
    let readings = journal.read_from(0, u32::try_from(count)?).await.context("read the journal")?;
    journal.close().await;
    Ok(readings.into_iter().map(|(_, reading)| reading).collect())
}

/// The directory of the built programs: above this test's executable, or where the guest has them.
fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this test's executable")?;
    let dir = match std::env::var_os("WHARF_PROGRAMS") {
        Some(dir) => dir.into(),
        None => own.ancestors().nth(2).context("find the build directory")?.to_owned(),
    };
    for name in ["wharf", "wharfd", "wharf-shim"] {
        ensure!(
            dir.join(name).exists(),
            "there is no {}: run cargo build -p wharf-agent -p wharf-shim -p wharf-cli first",
            dir.join(name).display()
        );
    }
    Ok(dir)
}

#[expect(clippy::print_stderr, reason = "a failed test says what it saw; libtest shows it only then")]
fn print(text: &str) {
    eprintln!("{text}");
}
