//! `kill -9` of agent, forge and supervisor: at each step of what they do, and at random under load.
//!
//! Whatever dies, a container that ran lives on, unless it was its supervisor; no exit code is lost but to a
//! killed supervisor, and then it is never guessed; its container has ended as lost, and its restart policy
//! follows; what was asked for can be asked for again; and in the end nothing of any container is left, and
//! the journal has its last reading.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wharf_e2e::{Answer, Api, Door, Socket, World, run};
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::page::Page;
use wharf_shared::problem::ProblemKind;
use wharf_shared::tenant::TenantView;
use wharf_shim::failpoint::POINTS;
use wharf_shim::process_ref::exit_status;
use wharf_shim::state::StateFile;

/// Answers at its port until it is asked to end, and then ends with 7.
const LIFE: &str = "httpd -p 80 -h /www; trap 'exit 7' TERM; echo up; while :; do sleep 1000 & wait $!; done";
/// Does not end when it is asked to.
const STUBBORN: &str = "trap '' TERM; echo up; while :; do sleep 1000; done";
const CODE: i32 = 7;
/// A container under load has reached any state within this time, whatever is killed meanwhile.
const PATIENCE: Duration = Duration::from_mins(1);
/// Containers that live at the same time.
const WORKERS: u64 = 4;

#[test]
fn an_agent_killed_at_any_step_of_a_start_loses_nothing() -> Result<()> {
    at_each_point(&["agent.create.", "agent.start."])
}

#[test]
fn an_agent_killed_at_any_later_step_loses_nothing() -> Result<()> {
    at_each_point(&["agent.exec.", "agent.stop.", "agent.remove.", "agent.recover.", "agent.sweep."])
}

#[test]
fn a_forge_or_a_supervisor_killed_at_any_step_leaves_nothing_behind() -> Result<()> {
    at_each_point(&["forge.", "shim."])
}

#[test]
fn what_follows_from_an_end_follows_although_the_agent_died_between() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let start = |more: Value| world.start(&tenant, &["sleep", "1000"], more);
        let end = |view: &ContainerView, by_request: bool| {
            world.arm("agent.stop.told")?;
            if by_request {
                let path = format!("/containers/{}/restart", view.id);
                ensure!(world.api().send(Method::POST, &path, Some(&json!({}))).is_err(), "it was answered");
            } else {
                kill(Pid::from_raw(view.pid.context("a pid")?), Signal::SIGKILL)?;
            }
            world.killed()?;
            world.bury_agent()?;
            world.start_agent()
        };
        for (more, by_request) in [(json!({ "restart": "always" }), false), (json!({}), true)] {
            let view = start(more)?;
            end(&view, by_request)?;
            world.container_until(view.id.as_str(), "it runs again", |again| {
                again.state == ContainerState::Running && again.pid != view.pid
            })?;
            world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        }
        let view = start(json!({ "auto_remove": true }))?;
        end(&view, false)?;
        world.until("it removes itself", || {
            let answer = world.api().send(Method::GET, &format!("/containers/{}", view.id), None)?;
            Ok(answer.status == StatusCode::NOT_FOUND)
        })?;
        world.no_container_is_left()?;
        world.every_reading_is_there()
    })
}

#[test]
fn the_steps_of_all_three_are_tried() {
    let tried = ["agent.create.", "agent.start.", "agent.exec.", "agent.stop.", "agent.remove."];
    // Those of budgets are in `budgets.rs`; only on cgroup v2 alone there is a tail.
    let tried = [&tried[..], &["agent.recover.", "agent.sweep.", "agent.tail.", "forge.", "shim."]].concat();
    let tried = [&tried[..], &["agent.budget."]].concat();
    let untried = POINTS.iter().filter(|point| !tried.iter().any(|prefix| point.starts_with(prefix)));
    assert_eq!(untried.collect::<Vec<_>>(), Vec::<&&str>::new());
}

fn at_each_point(prefixes: &[&str]) -> Result<()> {
    ensure!(cfg!(debug_assertions), "only debug builds can be killed at a point");
    run(|world| {
        let tenant = world.tenant("acme")?;
        let mut failures = Vec::new();
        for point in POINTS.iter().filter(|point| prefixes.iter().any(|prefix| point.starts_with(prefix))) {
            // What is given back before the end is told, and what after it, depends on published ports; what
            // follows from the loss of a supervisor depends on the policy.
            let mut variants = vec![(true, "no")];
            variants.extend(point.contains(".stop.").then_some((false, "no")));
            variants.extend(point.starts_with("shim.").then_some((true, "always")));
            for (publishes, policy) in variants {
                let kill = Kill::new(world, &tenant, point, publishes, policy)?;
                if let Err(error) = kill.run() {
                    failures.push(format!("{point}, ports: {publishes}, restart: {policy}: {error:#}"));
                    kill.clear()?;
                }
            }
        }
        ensure!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
        world.every_reading_is_there()
    })
}

/// One kill at one point.
struct Kill<'a> {
    world: &'a World,
    tenant: &'a TenantView,
    point: &'a str,
    who: &'a str,
    operation: &'a str,
    step: &'a str,
    always: bool,
    name: String,
    spec: Value,
}

impl<'a> Kill<'a> {
    fn new(
        world: &'a World,
        tenant: &'a TenantView,
        point: &'a str,
        publishes: bool,
        policy: &str,
    ) -> Result<Self> {
        let parts: Vec<_> = point.split('.').collect();
        let [who, operation, step] = parts[..] else { bail!("{point} has not three parts") };
        let script = if point == "agent.stop.killed" { STUBBORN } else { LIFE };
        let mut more = json!({ "name": point, "stop_grace_s": 20, "restart": policy });
        if publishes {
            more["ports"] = json!([{ "container_port": 80 }]);
        }
        let spec = world.spec(tenant, &["sh", "-c", script], more)?;
        let always = policy == "always";
        Ok(Self { world, tenant, point, who, operation, step, always, name: point.to_owned(), spec })
    }

    /// Whether the program ran before the supervisor that started it was killed.
    fn ran(&self) -> bool {
        self.operation != "start" || ["executed", "answered"].contains(&self.step)
    }

    fn path(&self, rest: &str) -> String {
        format!("/containers/{}{rest}", self.name)
    }

    fn run(&self) -> Result<()> {
        let before = self.arrange().context("arrange")?;
        self.act().context("act")?;
        let died_running = match &before {
            Some(view) => self.world.state_file(view.id.as_str())?.and_then(|state| state.init),
            None => None,
        };
        if self.who == "agent" {
            self.world.bury_agent()?;
            self.world.start_agent()?;
        }
        let lives = match (self.who, self.operation) {
            ("shim", "start" | "exec") => {
                self.lost(before.as_ref())?;
                self.always && self.ran()
            }
            (_, "create" | "start") => {
                let view = self.running()?;
                if ["started", "told"].contains(&self.step) && self.who == "agent" {
                    let pid = died_running.context("it ran when the agent died")?.pid;
                    ensure!(view.pid == Some(pid), "{pid} ran, and {:?} was started anew", view.pid);
                }
                true
            }
            (_, "exec" | "recover" | "sweep") => {
                let (view, before) = (self.running()?, before.as_ref().context("it was seen")?);
                ensure!(view.pid == before.pid, "{:?} ran, and {:?} does", before.pid, view.pid);
                true
            }
            ("shim", "stop") if ["asked", "signalled", "reaped", "emptied"].contains(&self.step) => {
                self.lost(before.as_ref())?;
                false
            }
            (_, "stop") => {
                self.ended()?;
                false
            }
            (_, "remove") => {
                self.world.until("it is gone", || {
                    let answer = self.world.api().send(Method::GET, &self.path(""), None)?;
                    Ok(answer.status == StatusCode::NOT_FOUND)
                })?;
                return self.nothing_is_left();
            }
            other => bail!("nobody knows what is to come of {other:?}"),
        };
        self.again(lives).context("again")?;
        self.nothing_is_left()
    }

    /// Makes what the operation needs, and returns the container, if that is one.
    fn arrange(&self) -> Result<Option<ContainerView>> {
        let api = self.world.api();
        if self.operation == "create" {
            return Ok(None);
        }
        let _: ContainerView = api.post("/containers", &self.spec)?;
        if ["exec", "stop", "remove", "recover", "sweep"].contains(&self.operation) {
            api.act(&self.path("/start"), &json!({}))?;
            self.world.logged(&self.name, "up")?;
        }
        if self.operation == "remove" {
            api.act(&self.path("/stop"), &json!({}))?;
        }
        let view = api.get(&self.path(""))?;
        if ["recover", "sweep"].contains(&self.operation) {
            self.world.kill_agent()?;
        }
        Ok(Some(view))
    }

    /// Does it, until somebody has died of it.
    fn act(&self) -> Result<()> {
        let (world, api) = (self.world, self.world.api());
        world.arm(self.point)?;
        // Whoever asks an agent that dies gets no answer.
        let mut answer: Option<Result<Answer>> = None;
        let mut socket = None;
        match self.operation {
            "create" => answer = Some(api.send(Method::POST, "/containers?start=true", Some(&self.spec))),
            "start" => answer = Some(api.send(Method::POST, &self.path("/start"), Some(&json!({})))),
            "exec" => socket = Socket::exec(api, &self.name, &json!({ "command": ["true"] })).ok(),
            "stop" => {
                let grace = if self.step == "killed" { json!({ "grace_s": 0 }) } else { json!({}) };
                answer = Some(api.send(Method::POST, &self.path("/stop"), Some(&grace)));
            }
            "remove" => answer = Some(api.send(Method::DELETE, &self.path(""), None)),
            "sweep" | "recover" => {
                // A start of which no row knows.
                let id = self.id_on_disk()?;
                let sweeps = self.operation == "sweep";
                for group in if sweeps { world.tenant_cgroups(self.tenant) } else { vec![] } {
                    fs::create_dir(group.join(format!("{id}-99"))).context("make a stray cgroup")?;
                }
                ensure!(world.start_agent().is_err(), "the agent came up all the same");
            }
            other => bail!("nobody can {other}"),
        }
        world.killed()?;
        drop(socket);
        match (self.who, self.operation, answer) {
            ("forge", _, Some(answer)) => drop(answer?.success().context("a start outlives the forge")?),
            ("shim", "start", Some(answer)) => {
                let answer = answer?;
                // Once the supervisor has answered, the start was one; and what ran is started again.
                let started = self.step == "answered" || self.always && self.ran();
                ensure!(answer.status.is_success() == started, "the answer is {}", answer.status);
                if !started {
                    let problem = answer.problem()?;
                    let kind = if self.ran() { ProblemKind::Conflict } else { ProblemKind::Unavailable };
                    ensure!(problem.kind == kind && problem.to_string().contains("supervisor"), "{problem}");
                }
            }
            ("shim", "stop", Some(answer)) => drop(answer?.success()?),
            _ => {}
        }
        Ok(())
    }

    /// The container's id while no agent can be asked.
    fn id_on_disk(&self) -> Result<String> {
        let mut dirs = fs::read_dir(self.world.state_dir().join("c"))?;
        let entry = dirs.next().context("one container has a directory")??;
        Ok(entry.file_name().to_string_lossy().into_owned())
    }

    /// It runs, is told all about, and answers.
    fn running(&self) -> Result<ContainerView> {
        let view = self
            .world
            .container_until(&self.name, "it runs", |view| view.state == ContainerState::Running)?;
        ensure!(self.world.process_runs(view.pid)?, "no process {:?} runs", view.pid);
        ensure!(view.started_at.is_some() && view.address.is_some(), "it is not wholly told: {view:?}");
        for port in &view.ports {
            let url = format!("http://127.0.0.1:{}/", port.host_port.context("a host port")?);
            self.world.until("its port answers", || Ok(self.world.api().fetch(&url).is_ok()))?;
        }
        Ok(view)
    }

    /// It has ended by itself, and how is known.
    fn ended(&self) -> Result<()> {
        let exit = self.world.ended(&self.name)?.exit.context("an exit")?;
        let wanted = if self.step == "killed" { (None, Some(9)) } else { (Some(CODE), None) };
        ensure!((exit.code, exit.signal) == wanted && !exit.supervisor_lost, "it ended with {exit:?}");
        Ok(())
    }

    /// Its supervisor was lost, and it with it; how it ended is told right, and its policy has followed.
    fn lost(&self, before: Option<&ContainerView>) -> Result<()> {
        // A stop was asked for, and a start that came to nothing was answered: no policy follows.
        if self.always && self.ran() && self.operation != "stop" {
            let again = self.world.container_until(&self.name, "it runs again", |view| {
                view.state == ContainerState::Running && view.restart_count == 1
            })?;
            let pid = before.and_then(|before| before.pid);
            ensure!(again.pid != pid, "{pid:?} lost its supervisor, and is said to run");
            return Ok(());
        }
        let view = self.world.container_until(&self.name, "it has lost its supervisor", |view| {
            view.exit.as_ref().is_some_and(|exit| exit.supervisor_lost)
        })?;
        ensure!((view.state, view.restart_count) == (ContainerState::Exited, 0), "it goes on: {view:?}");
        ensure!(view.error.is_some() != self.ran(), "{:?} is told of a start", view.error);
        let pid = before.and_then(|before| before.pid);
        if pid.is_some() {
            // It may be on its way out until whoever inherits the processes beside it has waited for them.
            self.world.until("its process is gone", || Ok(!self.world.process_runs(pid)?))?;
        }
        let exit = view.exit.context("an exit")?;
        let (killed, stopped, unknown) = ((None, Some(9)), (Some(CODE), None), (None, None));
        let known: &[_] = match self.step {
            _ if !self.ran() || !the_kernel_tells()? => &[unknown],
            "signalled" => &[killed, stopped],
            "reaped" | "emptied" if self.operation == "stop" => &[stopped],
            // As above.
            _ if self.operation == "exec" => &[killed, unknown],
            _ => &[killed],
        };
        ensure!(known.contains(&(exit.code, exit.signal)), "it is said that it ended with {exit:?}");
        Ok(())
    }

    /// Everything can be done to it (again), and it can be removed.
    fn again(&self, lives: bool) -> Result<()> {
        let api = self.world.api();
        if !lives {
            api.act(&self.path("/start"), &json!({}))?;
        }
        if self.step != "killed" {
            self.running()?;
        }
        self.world.logged(&self.name, "up")?;
        Socket::output_of(api, &self.name, &["true"])?;
        let grace = if self.step == "killed" { json!({ "grace_s": 0 }) } else { json!({}) };
        api.act(&self.path("/stop"), &grace)?;
        self.ended()?;
        api.delete(&self.path(""))
    }

    fn nothing_is_left(&self) -> Result<()> {
        self.world.no_container_is_left()?;
        self.world.every_reading_is_there()
    }

    /// After a failure, so that the other points can be tried.
    fn clear(&self) -> Result<()> {
        if self.world.agent_pid().is_err() {
            fs::remove_file(self.world.run_root().path().join(wharf_shim::failpoint::FILE)).ok();
            self.world.start_agent()?;
        }
        let page: Page<ContainerView> = self.world.api().get("/containers?all=true")?;
        for view in page.items {
            self.world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        }
        Ok(())
    }
}

/// Whether this kernel tells how a process ended that is not our child.
fn the_kernel_tells() -> Result<bool> {
    let mut child = Command::new("true").spawn().context("start a child")?;
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    child.wait()?;
    Ok(exit_status(pidfd.as_fd()).is_some())
}

#[test]
fn a_supervisor_killed_while_no_agent_looks_is_lost_and_the_policy_follows() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let start = |name: &str, policy: Value| {
            world.start(&tenant, &["sleep", "1000"], json!({ "name": name, "restart": policy }))
        };
        let down = [start("never", json!("no"))?, start("paused", json!("no"))?, {
            let more = json!({ "name": "asked", "restart": "always", "stop_grace_s": 600 });
            world.start(&tenant, &["sh", "-c", STUBBORN], more)?
        }];
        let again = [
            start("always", json!("always"))?,
            start("on-failure", json!({ "on_failure": { "max_retries": 1 } }))?,
            start("unless-stopped", json!("unless_stopped"))?,
        ];
        world.api().act("/containers/paused/pause", &json!({}))?;
        world.logged("asked", "up")?;
        world.arm("agent.stop.signalled")?;
        let answer = world.api().send(Method::POST, "/containers/asked/stop", Some(&json!({})));
        ensure!(answer.is_err(), "the agent lived to answer");
        world.bury_agent()?;
        for view in down.iter().chain(&again) {
            world.kill_supervisor(view)?;
        }
        world.start_agent()?;
        for view in &again {
            let after = world.container_until(view.id.as_str(), "it runs again", |view| {
                view.state == ContainerState::Running && view.restart_count == 1
            })?;
            ensure!(after.pid != view.pid, "{} is the same process", view.name);
        }
        for view in &down {
            let ended = world.ended(view.id.as_str())?;
            let exit = ended.exit.context("an exit")?;
            // Known if nobody had waited for it yet.
            let known = exit.code.is_none() && matches!(exit.signal, None | Some(9));
            ensure!(known && exit.supervisor_lost, "{}: {exit:?}", view.name);
            assert_eq!(ended.restart_count, 0, "{}", view.name);
        }
        for view in down.iter().chain(&again) {
            world.until("its process is gone", || Ok(!world.process_runs(view.pid)?))?;
            world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        }
        world.no_container_is_left()?;
        world.every_reading_is_there()
    })
}

#[test]
fn each_lost_supervisor_counts_as_a_failure_of_a_policy_that_counts() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let more = json!({ "restart": { "on_failure": { "max_retries": 2 } } });
        let view = world.start(&tenant, &["sleep", "1000"], more)?;
        for restarts in 0..=2 {
            let view = world.container_until(view.id.as_str(), "it runs (again)", |view| {
                view.state == ContainerState::Running && view.restart_count == restarts
            })?;
            world.kill_supervisor(&view)?;
        }
        let ended = world.ended(view.id.as_str())?;
        assert_eq!(ended.restart_count, 2);
        ensure!(ended.exit.context("an exit")?.supervisor_lost);
        world.api().delete(&format!("/containers/{}", view.id))?;
        world.no_container_is_left()
    })
}

#[test]
fn a_policys_own_start_that_loses_its_supervisor_is_tried_again() -> Result<()> {
    ensure!(cfg!(debug_assertions), "only debug builds can be killed at a point");
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["sleep", "1000"], json!({ "restart": "unless_stopped" }))?;
        for (point, restarts) in [("shim.start.built", 2), ("shim.start.told", 4)] {
            world.arm(point)?;
            let view = world.api().get(&format!("/containers/{}", view.id))?;
            world.kill_supervisor(&view)?;
            world.killed()?;
            world.container_until(view.id.as_str(), "it runs again", |view| {
                view.state == ContainerState::Running && view.restart_count == restarts
            })?;
        }
        world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        world.no_container_is_left()?;
        world.every_reading_is_there()
    })
}

#[test]
fn kills_at_random_under_load_lose_nothing() -> Result<()> {
    let rounds = if std::env::var_os("WHARF_SOAK").is_some() { 1_000 } else { 25 };
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)?;
    let given = std::env::var("WHARF_E2E_SEED").ok();
    let mut random = given.map_or(Ok(u64::from_le_bytes(seed)), |text| text.parse())?;
    eprintln!("WHARF_E2E_SEED={random}");
    run(|world| {
        let tenant = world.tenant("acme")?;
        let bystander = world.start(&tenant, &["sleep", "100000"], json!({ "name": "bystander" }))?;
        let load = Load {
            door: world.api().door(),
            spec: world.spec(&tenant, &[], json!({ "stop_grace_s": 20 }))?,
            over: AtomicBool::new(false),
            lives: AtomicU32::new(0),
            bereaved: Mutex::default(),
        };
        let mut killed = [0; 3];
        std::thread::scope(|scope| {
            let (load, seed) = (&load, random);
            let workers: Vec<_> =
                (0..WORKERS).map(|number| scope.spawn(move || load.work(number, seed))).collect();
            let outcome = (0..rounds).try_for_each(|round| {
                world.pause(Duration::from_millis(next(&mut random) % 400));
                let victim = next(&mut random) % 3;
                killed[usize::try_from(victim)?] += 1;
                match victim {
                    0 => world.kill_agent().and_then(|()| world.start_agent()),
                    1 => world.kill_forge(),
                    _ => kill_a_supervisor(world, load, bystander.id.as_str(), next(&mut random)),
                }
                .with_context(|| format!("kill {victim} in round {round}"))?;
                ensure!(workers.iter().all(|worker| !worker.is_finished()), "a worker failed; see below");
                Ok(())
            });
            load.over.store(true, Ordering::Relaxed);
            let ends = workers.into_iter().map(|worker| match worker.join() {
                Ok(end) => end,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ends.collect::<Result<Vec<()>>>()?;
            outcome
        })?;
        let [agents, forges, supervisors] = killed;
        let lives = load.lives.load(Ordering::Relaxed);
        eprintln!("{lives} lives; killed: agent {agents}, forge {forges}, supervisors {supervisors}");
        let after: ContainerView = world.api().get("/containers/bystander")?;
        assert_eq!((after.state, after.pid), (ContainerState::Running, bystander.pid));
        world.api().delete("/containers/bystander?force=true")?;
        world.no_container_is_left()?;
        world.every_reading_is_there()
    })
}

/// What the workers share.
struct Load {
    door: Door,
    spec: Value,
    over: AtomicBool,
    lives: AtomicU32,
    /// Containers whose supervisor was killed.
    bereaved: Mutex<BTreeSet<String>>,
}

impl Load {
    fn work(&self, number: u64, seed: u64) -> Result<()> {
        let mut random = seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut life = 0;
        while !self.over.load(Ordering::Relaxed) {
            let api = self.door.enter()?;
            let (name, code) = (format!("w{number}-{life}"), i32::try_from(next(&mut random) % 100)? + 1);
            let outcome = Life { load: self, api, path: format!("/containers/{name}"), code }
                .live(&name, next(&mut random));
            outcome.with_context(|| format!("container {name} that ends with {code}"))?;
            self.lives.fetch_add(1, Ordering::Relaxed);
            life += 1;
        }
        Ok(())
    }

    fn is_bereaved(&self, view: &ContainerView) -> bool {
        self.bereaved.lock().unwrap_or_else(PoisonError::into_inner).contains(view.id.as_str())
    }
}

/// One container under load, from its creation to its removal.
struct Life<'a> {
    load: &'a Load,
    api: Api,
    path: String,
    code: i32,
}

impl Life<'_> {
    fn live(&self, name: &str, choice: u64) -> Result<()> {
        let code = self.code;
        let by_itself = choice.is_multiple_of(3);
        let script = if by_itself {
            format!("sleep 0.{}; exit {code}", choice % 7)
        } else {
            format!("trap 'exit {code}' TERM; echo up; while :; do sleep 1000 & wait $!; done")
        };
        let mut spec = self.load.spec.clone();
        spec["name"] = json!(name);
        spec["command"] = json!(["sh", "-c", script]);
        self.until("it is created", &Method::POST, "/containers?start=true", Some(&spec), |answer| {
            // The answer before may not have come.
            answer.status.is_success() || answer.status == StatusCode::CONFLICT
        })?;
        if !by_itself {
            self.until("it is up", &Method::GET, &format!("{}/logs", self.path), None, |answer| {
                answer.body.contains("up") || self.view().is_ok_and(|view| self.is_over(&view))
            })?;
            if choice.is_multiple_of(2) {
                self.exec()?;
            }
            let stop = format!("{}/stop", self.path);
            self.until("it is asked to stop", &Method::POST, &stop, Some(&json!({})), |answer| {
                answer.status.is_success() || answer.status == StatusCode::CONFLICT
            })?;
        }
        let deadline = Instant::now() + PATIENCE;
        let view = loop {
            match self.view() {
                Ok(view) if self.is_over(&view) => break view,
                last => ensure!(Instant::now() < deadline, "it does not end: {last:?}"),
            }
            self.api.pause(Duration::from_millis(25));
        };
        self.judge(&view)?;
        let path = format!("{}?force=true", self.path);
        self.until("it is removed", &Method::DELETE, &path, None, |answer| {
            answer.status.is_success() || answer.status == StatusCode::NOT_FOUND
        })
    }

    /// Only the death of its supervisor excuses anything.
    fn judge(&self, view: &ContainerView) -> Result<()> {
        let bereaved = self.load.is_bereaved(view);
        if view.state == ContainerState::Failed {
            ensure!(bereaved, "its start failed: {view:?}");
            return Ok(());
        }
        let exit = view.exit.as_ref().context("an exit")?;
        ensure!(bereaved || !exit.supervisor_lost, "it lost a supervisor that nobody killed: {view:?}");
        let (code, signal) = (exit.code, exit.signal);
        let told = (code, signal) == (Some(self.code), None);
        let excused = exit.supervisor_lost && code.is_none() && matches!(signal, None | Some(9));
        ensure!(told || excused, "it ended with {exit:?}");
        Ok(())
    }

    /// One more process, whose exit code is its own or not known.
    fn exec(&self) -> Result<()> {
        let id = self.path.trim_start_matches("/containers/");
        let wanted = self.code + 1;
        let spec = json!({ "command": ["sh", "-c", format!("exit {wanted}")] });
        // Whatever went wrong, it was killed.
        let Ok(mut socket) = Socket::exec(&self.api, id, &spec) else { return Ok(()) };
        let Ok(code) = socket.exit_code() else { return Ok(()) };
        // 255 when nobody can tell, 137 when it was killed with its container.
        ensure!([wanted, 255, 137].contains(&code), "an exec ended with {code} instead of {wanted}");
        Ok(())
    }

    fn view(&self) -> Result<ContainerView> {
        self.api.get(&self.path)
    }

    /// What has ended without having run was built for an agent that died, and is built anew; unless agent and
    /// supervisor died before anybody could write that it ran.
    fn is_over(&self, view: &ContainerView) -> bool {
        let lost = view.exit.as_ref().is_some_and(|exit| exit.supervisor_lost);
        match view.state {
            ContainerState::Exited => view.started_at.is_some() || lost && self.load.is_bereaved(view),
            state => state == ContainerState::Failed,
        }
    }

    /// Asks until the answer is good; there may be no agent for a while.
    fn until(
        &self,
        what: &str,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        good: impl Fn(&Answer) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.api.send(method.clone(), path, body);
            if answer.as_ref().is_ok_and(&good) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not within {} s: {what}: {answer:?}", PATIENCE.as_secs());
            self.api.pause(Duration::from_millis(25));
        }
    }
}

/// Kills one of the supervisors that are there, if there are any but the bystander's.
fn kill_a_supervisor(world: &World, load: &Load, bystander: &str, choice: u64) -> Result<()> {
    let dirs: Vec<PathBuf> =
        fs::read_dir(world.run_root().containers())?.flatten().map(|entry| entry.path()).collect();
    let ids = dirs.iter().filter_map(|dir| dir.file_name()?.to_str()).filter(|id| *id != bystander);
    let states: Vec<StateFile> = ids.filter_map(|id| world.state_file(id).ok().flatten()).collect();
    let count = u64::try_from(states.len())?;
    let Some(index) = choice.checked_rem(count) else { return Ok(()) };
    let state = states.get(usize::try_from(index)?).context("one of them")?;
    // Pinned, so that it is it that dies, and known to be dying before it does.
    let Some(_pinned) = state.shim.open()? else { return Ok(()) };
    load.bereaved.lock().unwrap_or_else(PoisonError::into_inner).insert(state.id.clone());
    match kill(Pid::from_raw(state.shim.pid), Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno).context("kill a supervisor"),
    }
}

/// The next number of the `SplitMix64` sequence.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
