//! The life of a container beyond start and stop: health, names, rights, reboots, and what is refused.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use wharf_e2e::{Image, Socket, World, run, run_with};
use wharf_shared::container::{ContainerState, ContainerView, ProcessView};
use wharf_shared::event::AuditView;
use wharf_shared::health::{HealthResult, HealthStatus, OUTPUT_MAX_BYTES, RESULTS_KEPT};
use wharf_shared::page::Page;
use wharf_shared::problem::{Problem, ProblemKind};
use wharf_shared::tenant::TenantView;

/// As often as may be.
const OFTEN: u64 = 1_000;

/// A check that decides after this many failures.
fn check(test: &Value, timeout_ms: u64, retries: u32) -> Value {
    json!({ "health": { "test": test, "interval_ms": OFTEN, "timeout_ms": timeout_ms, "retries": retries } })
}

fn has_become(world: &World, view: &ContainerView, status: HealthStatus) -> Result<ContainerView> {
    world.container_until(view.id.as_str(), &format!("it is {}", status.as_str()), |view| {
        view.health.as_ref().is_some_and(|health| health.status == status && !health.results.is_empty())
    })
}

fn last(view: &ContainerView) -> Result<&HealthResult> {
    view.health.as_ref().and_then(|health| health.results.last()).context("no result is shown")
}

/// Attacks: D7.
#[test]
fn a_command_says_how_a_container_is_until_it_is_paused_and_after_the_agent_s_death() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let line = "grep -e NoNewPrivs -e Seccomp: /proc/self/status; test ! -e /ill || exit 3";
        let view = world.start(&tenant, &["sleep", "1000"], check(&json!({ "shell": line }), 5_000, 2))?;
        assert_eq!(view.health.context("a health")?.status, HealthStatus::Starting);
        let path = format!("/containers/{}", view.id);
        let view: ContainerView = world.api().get(&path)?;
        let well = has_become(world, &view, HealthStatus::Healthy)?;
        assert_eq!(last(&well)?.output, "NoNewPrivs:\t1\nSeccomp:\t2\n");
        Socket::output_of(world.api(), view.id.as_str(), &["touch", "/ill"])?;
        let ill = has_become(world, &view, HealthStatus::Unhealthy)?;
        let health = ill.health.clone().context("a health")?;
        ensure!(health.failing_streak >= 2 && health.results.len() <= RESULTS_KEPT, "{health:?}");
        assert_eq!((last(&ill)?.code, last(&ill)?.passed), (Some(3), false));
        let events = world.api().events_until("/events?after=0", None, |event| {
            event.kind == "container.health"
                && event.detail.get("health").map(String::as_str) == Some("unhealthy")
        })?;
        ensure!(events.iter().any(|event| event.detail.get("health").is_some_and(|told| told == "healthy")));

        // Asked of nothing that is paused, and again afterwards.
        let _: ContainerView = world.api().post(&format!("{path}/pause"), &json!({}))?;
        let before = last(&world.api().get(&path)?)?.started_at;
        world.pause(std::time::Duration::from_millis(2 * OFTEN));
        assert_eq!(last(&world.api().get(&path)?)?.started_at, before);
        let _: ContainerView = world.api().post(&format!("{path}/resume"), &json!({}))?;
        world.container_until(view.id.as_str(), "it is asked again", |view| {
            last(view).is_ok_and(|result| result.started_at > before)
        })?;

        world.kill_agent()?;
        world.start_agent()?;
        let adopted: ContainerView = world.api().get(&path)?;
        assert_eq!(adopted.health.as_ref().context("a health")?.status, HealthStatus::Unhealthy);
        Socket::output_of(world.api(), view.id.as_str(), &["rm", "/ill"])?;
        has_become(world, &view, HealthStatus::Healthy)?;
        let ended: ContainerView = world.api().post(&format!("{path}/stop"), &json!({ "grace_s": 0 }))?;
        assert_eq!(ended.health, None);
        world.api().delete(&path)?;
        world.no_container_is_left()
    })
}

#[test]
fn requests_connections_hanging_and_flooding_checks_are_bounded_and_told() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "mkdir -p /www; echo fine > /www/ready; exec httpd -f -p 80 -h /www";
        let start = |test: Value, timeout_ms: u64| {
            world.start(&tenant, &["sh", "-c", script], check(&test, timeout_ms, 1))
        };
        let ready = start(json!({ "http": { "port": 80, "path": "/ready" } }), 5_000)?;
        let absent = start(json!({ "http": { "port": 80, "path": "/absent" } }), 5_000)?;
        let open = start(json!({ "tcp": { "port": 80 } }), 5_000)?;
        let shut = start(json!({ "tcp": { "port": 81 } }), 5_000)?;
        let hanging = start(json!({ "command": ["sleep", "4000"] }), 300)?;
        let flooding = start(json!({ "command": ["yes"] }), 2_000)?;
        let missing = start(json!({ "command": ["/no/such/check"] }), 5_000)?;
        let image = checked_image(world)?;
        let more = json!({ "image": image });
        let of_image = world.start(&tenant, &["sleep", "1000"], more)?;
        let off = world.start(
            &tenant,
            &["sleep", "1000"],
            json!({ "image": image, "health": { "test": "none" } }),
        )?;
        // Speaks, but neither HTTP nor an end.
        let babble = world.start(
            &tenant,
            &["sh", "-c", "while :; do yes | nc -l -p 80; done"],
            check(&json!({ "http": { "port": 80 } }), 2_000, 1),
        )?;

        let view = has_become(world, &ready, HealthStatus::Healthy)?;
        let result = last(&view)?;
        assert_eq!((result.code, result.output.as_str()), (Some(200), "HTTP 200\nfine\n"));
        let view = has_become(world, &absent, HealthStatus::Unhealthy)?;
        assert_eq!(last(&view)?.code, Some(404));
        has_become(world, &open, HealthStatus::Healthy)?;
        let view = has_become(world, &shut, HealthStatus::Unhealthy)?;
        ensure!(last(&view)?.output.contains("connect to port 81"), "{view:?}");
        let view = has_become(world, &hanging, HealthStatus::Unhealthy)?;
        assert_eq!(last(&view)?.output, "no answer within 300 ms");
        let view = has_become(world, &flooding, HealthStatus::Unhealthy)?;
        ensure!(last(&view)?.output.len() <= OUTPUT_MAX_BYTES, "{view:?}");
        let view = has_become(world, &missing, HealthStatus::Unhealthy)?;
        ensure!(last(&view)?.output.contains("/no/such/check"), "{view:?}");
        let view = has_become(world, &babble, HealthStatus::Unhealthy)?;
        ensure!(last(&view)?.output.len() <= OUTPUT_MAX_BYTES, "{view:?}");
        has_become(world, &of_image, HealthStatus::Healthy)?;
        assert_eq!(world.api().get::<ContainerView>(&format!("/containers/{}", off.id))?.health, None);

        // However often it hangs, at most one of its checks is there.
        world.container_until(hanging.id.as_str(), "it hung three times", |view| {
            view.health.as_ref().is_some_and(|health| health.failing_streak >= 3)
        })?;
        let found: Vec<ProcessView> = world.api().get(&format!("/containers/{}/processes", hanging.id))?;
        let checks = found.iter().filter(|process| process.command.starts_with("sleep")).count();
        ensure!(checks <= 1, "{found:?}");
        Ok(())
    })
}

/// An image with a check of its own.
fn checked_image(world: &World) -> Result<String> {
    world.busybox()?;
    let dir = world.dir().join("checked");
    fs::create_dir_all(&dir)?;
    Image::busybox(&dir)?;
    let config = json!({
        "Cmd": ["/bin/sh"], "Env": ["PATH=/bin:/usr/bin"],
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 1 },
    });
    let image = Image::from_root(&dir, &dir.join("root"), &config)?;
    world.registry.borrow().push(&image, "library/checked:1")
}

#[test]
fn an_unhealthy_container_is_started_again_if_it_asks_for_it() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        // Gone with every start.
        let test = json!({ "command": ["test", "!", "-e", "/dev/shm/ill"] });
        let mut more = check(&test, 5_000, 1);
        more["health"]["on_unhealthy"] = json!("restart");
        let view = world.start(&tenant, &["sleep", "1000"], more)?;
        has_become(world, &view, HealthStatus::Healthy)?;
        Socket::output_of(world.api(), view.id.as_str(), &["touch", "/dev/shm/ill"])?;
        let again = world.container_until(view.id.as_str(), "it runs again", |now| {
            now.state == ContainerState::Running && now.pid != view.pid
        })?;
        assert_eq!(again.restart_count, 1);
        has_become(world, &view, HealthStatus::Healthy)?;
        Ok(())
    })
}

#[test]
fn a_renamed_container_is_found_by_its_new_name_only() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let start = |name: &str| world.start(&tenant, &["sleep", "1000"], json!({ "name": name }));
        let (near, far) = (start("near")?, start("far")?);
        let hosts = || Socket::output_of(world.api(), near.id.as_str(), &["cat", "/etc/hosts"]);
        world.until("they know each other", || Ok(hosts()?.contains("\tfar")))?;
        let renamed: ContainerView = world.api().patch("/containers/far", &json!({ "name": "farther" }))?;
        assert_eq!((renamed.name.as_str(), renamed.pid), ("farther", far.pid));
        world.until("the new name is known", || {
            let hosts = hosts()?;
            Ok(hosts.split_whitespace().any(|word| word == "farther")
                && !hosts.split_whitespace().any(|word| word == "far"))
        })?;
        assert_eq!(refused(world, Method::GET, "/containers/far", None)?.kind, ProblemKind::NotFound);
        let conflict =
            refused(world, Method::PATCH, "/containers/near", Some(&json!({ "name": "farther" })))?;
        assert_eq!(conflict.kind, ProblemKind::NameTaken);
        ensure!(conflict.to_string().contains("choose another name"), "{conflict}");
        // The old one is free again.
        start("far")?;
        Ok(())
    })
}

/// Attacks: D8, D12, D13.
#[test]
fn limits_groups_parameters_and_privileges_are_as_asked_and_no_more() -> Result<()> {
    run_with(&["containers.allowed_devices=[\"/dev/fuse\"]"], |world| {
        let tenant = world.tenant("acme")?;
        let script = "ulimit -Sn; ulimit -Hn; id -G; cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni; \
            grep NoNewPrivs /proc/self/status";
        let more = json!({
            "ulimits": { "nofile": { "soft": 77, "hard": 99 } },
            "group_add": ["3", "1234"],
            "sysctls": { "net.core.somaxconn": "321", "kernel.shmmni": "123" },
        });
        let view = world.script(&tenant, script, more)?;
        assert_eq!(world.logs(view.id.as_str())?, "77\n99\n0 3 1234\n321\n123\nNoNewPrivs:\t1\n");
        let gains = json!({ "new_privileges": true });
        let view = world.script(&tenant, "grep NoNewPrivs /proc/self/status", gains)?;
        assert_eq!(world.logs(view.id.as_str())?, "NoNewPrivs:\t0\n");

        let member = world.member(&tenant)?;
        let ask = |more: Value| -> Result<_> {
            let spec = world.spec(&tenant, &["true"], more)?;
            member.send(Method::POST, "/containers", Some(&spec))
        };
        for (more, named) in [
            (json!({ "ulimits": { "rtprio": { "soft": 1, "hard": 1 } } }), "rtprio"),
            (json!({ "cap_add": ["SYS_ADMIN"] }), "SYS_ADMIN"),
            (json!({ "network": "host" }), "network"),
            (json!({ "limits": { "devices": ["/dev/mem"] } }), "/dev/mem"),
            (json!({ "volumes": [{ "source": { "host": "/etc" }, "target": "/x" }] }), "/etc"),
        ] {
            let problem = ask(more)?.problem()?;
            assert_eq!(problem.kind, ProblemKind::Forbidden, "{problem}");
            ensure!(problem.to_string().contains(named), "{named} is not named: {problem}");
        }
        // Nobody has these here, under any name.
        for more in [
            json!({ "system": true, "host_namespaces": ["user"] }),
            json!({ "pid_mode": "host" }),
            json!({ "sysctls": { "kernel.core_pattern": "|/x" } }),
            json!({ "sysctls": { "net.core.somaxconn": "1\n2" } }),
            json!({ "sysctls": { "vm.swappiness": "1" } }),
        ] {
            let status = ask(more.clone())?.status.as_u16();
            ensure!(matches!(status, 400 | 422), "{more}: {status}");
        }
        ask(json!({ "limits": { "devices": ["/dev/fuse"] } }))?.success()?;

        let spec = world.spec(&tenant, &["true"], json!({ "cap_add": ["NET_RAW"] }))?;
        let made: ContainerView = world.api().post("/containers", &spec)?;
        let trail: Page<AuditView> = world.api().get("/audit")?;
        let entry = trail.items.iter().find(|entry| entry.subject == made.id.as_str());
        let entry = entry.context("its creation is not in the trail")?;
        assert_eq!(entry.detail.get("host_access").map(String::as_str), Some("the capability NET_RAW"));
        Ok(())
    })
}

#[test]
fn after_a_reboot_of_the_host_runs_what_its_policy_says() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let start = |name: &str, policy: &str| {
            let more = json!({ "name": name, "restart": policy });
            world.start(&tenant, &["sleep", "1000"], more)
        };
        let all = [
            start("never", "no")?,
            start("always", "always")?,
            start("always-stopped", "always")?,
            start("unless-stopped", "unless_stopped")?,
            start("unless-stopped-stopped", "unless_stopped")?,
        ];
        for name in ["always-stopped", "unless-stopped-stopped"] {
            world.api().act(&format!("/containers/{name}/stop"), &json!({ "grace_s": 0 }))?;
        }
        world.kill_agent()?;
        // As a power cut and another boot leave it: no process, nothing in the run directory.
        for view in &all {
            if world.process_runs(view.pid)? {
                world.kill_supervisor(view)?;
                kill(Pid::from_raw(view.pid.context("a pid")?), Signal::SIGKILL).ok();
                world.until("it is gone", || Ok(!world.process_runs(view.pid)?))?;
            }
            let run_dir = world.dir().join("run/c").join(view.id.as_str());
            if run_dir.exists() {
                fs::remove_dir_all(run_dir)?;
            }
        }
        fs::write(world.dir().join("run/boot_id"), "another boot")?;
        world.start_agent()?;
        for name in ["always", "always-stopped", "unless-stopped"] {
            let view =
                world.container_until(name, "it runs again", |view| view.state == ContainerState::Running)?;
            ensure!(all.iter().all(|before| before.pid != view.pid), "{name} is the same process");
        }
        let never = world.ended("never")?;
        assert!(never.exit.context("an exit")?.supervisor_lost);
        assert_eq!(world.ended("unless-stopped-stopped")?.restart_count, 0);
        for view in &all {
            world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        }
        world.no_container_is_left()
    })
}

#[test]
fn fifty_execs_at_once_each_have_their_own_streams() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        let mut sockets = Vec::new();
        for number in 0..50 {
            let script = format!("echo up{number}; read x; echo got''-$x-{number}; exit {number}");
            let spec = json!({ "command": ["sh", "-c", script], "stdin": true, "terminal": number % 2 == 1 });
            sockets.push(Socket::exec(world.api(), view.id.as_str(), &spec)?);
        }
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.until(&format!("up{number}"))?;
        }
        // All of them are there now.
        let found: Vec<ProcessView> = world.api().get(&format!("/containers/{}/processes", view.id))?;
        ensure!(found.len() == 51, "{} processes", found.len());
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.stdin(&format!("line{number}\n"))?;
        }
        for (number, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.exit_code()?, i32::try_from(number)?);
            ensure!(socket.output.contains(&format!("got-line{number}-{number}")), "{:?}", socket.output);
        }
        Ok(())
    })
}

#[test]
fn the_kernel_s_kill_of_a_child_for_memory_is_told_with_the_exact_exit() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let hungry = "BEGIN { s = \"0123456789abcdef\"; while (1) s = s s }";
        let script = format!("awk '{hungry}'; echo child $?; exit 5");
        let limits = json!({ "limits": { "memory_bytes": 16 << 20, "oom_group": false } });
        let view = world.script(&tenant, &script, limits)?;
        let exit = view.exit.context("an exit")?;
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (Some(5), None, true));
        assert!(world.logs(view.id.as_str())?.contains("child 137"));
        // A kill by hand is none for memory.
        let view = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        world.api().act(&format!("/containers/{}/kill", view.id), &json!({ "signal": "KILL" }))?;
        let exit = world.ended(view.id.as_str())?.exit.context("an exit")?;
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (None, Some(9), false));
        Ok(())
    })
}

fn refused(world: &World, method: Method, path: &str, body: Option<&Value>) -> Result<Problem> {
    world.api().refused(method, path, body).with_context(|| path.to_owned())
}

#[test]
fn what_does_not_fit_a_container_s_state_is_answered_in_words_and_changes_nothing() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let post = |path: &str| world.api().post::<ContainerView>(path, &json!({}));
        // Its first process never waits for the child, which stays a zombie.
        let view =
            world.start(&tenant, &["sh", "-c", "sleep 0 & exec sleep 1000"], json!({ "name": "it" }))?;
        let says = |method: Method, path: &str, body: Option<Value>, words: &str| -> Result<()> {
            let problem = refused(world, method, path, body.as_ref())?;
            assert_eq!(problem.kind, ProblemKind::Conflict, "{path}: {problem}");
            ensure!(problem.to_string().contains(words), "{path}: {words} is not said: {problem}");
            Ok(())
        };
        let exec = || Some(json!({ "command": ["true"] }));
        world.until("it has a zombie", || {
            let states = "grep -h State: /proc/[0-9]*/status; true";
            Ok(Socket::output_of(world.api(), "it", &["sh", "-c", states])?.contains("zombie"))
        })?;
        // Twice started is once started.
        assert_eq!(post("/containers/it/start")?.pid, view.pid);
        says(Method::DELETE, "/containers/it", None, "stop it first, or remove it with force")?;
        says(Method::POST, "/containers/it/resume", None, "not paused")?;
        post("/containers/it/pause")?;
        says(Method::POST, "/containers/it/pause", None, "only a running container can be paused")?;
        says(Method::POST, "/containers/it/exec", exec(), "paused; resume it first")?;
        // One that is paused, with a zombie, stops all the same.
        let stopped: ContainerView = world.api().post("/containers/it/stop", &json!({ "grace_s": 1 }))?;
        assert_eq!(stopped.state, ContainerState::Exited);
        for path in ["/containers/it/pause", "/containers/it/resume"] {
            says(Method::POST, path, None, "start it first")?;
        }
        says(Method::POST, "/containers/it/exec", exec(), "start it first")?;
        says(Method::POST, "/containers/it/kill", Some(json!({ "signal": "TERM" })), "start it first")?;
        // Stopping what has ended is done already.
        assert_eq!(post("/containers/it/stop")?.exit, stopped.exit);

        // Whoever takes the image away is told who uses it; the container goes on, and starts again.
        let image = world.busybox()?;
        let path = format!("/images?reference={image}&tenant={}", tenant.id);
        let problem = refused(world, Method::DELETE, &path, None)?;
        assert_eq!(problem.kind, ProblemKind::InUse);
        ensure!(problem.to_string().contains("it"), "{problem}");
        post("/containers/it/start")?;
        world.api().delete(&format!("{path}&force=true"))?;
        post("/containers/it/restart")?;
        world.api().delete("/containers/it?force=true")?;
        for (method, path, body) in [
            (Method::PATCH, "/containers/it", Some(json!({ "restart": "always" }))),
            (Method::POST, "/containers/it/start", None),
            (Method::DELETE, "/containers/it", None),
        ] {
            assert_eq!(refused(world, method, path, body.as_ref())?.kind, ProblemKind::NotFound);
        }
        world.no_container_is_left()
    })
}

#[test]
fn input_that_no_kernel_takes_is_refused_with_what_to_do() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let create = |more: Value| -> Result<Problem> {
            let spec = world.spec(&tenant, &["true"], more)?;
            refused(world, Method::POST, "/containers?start=true", Some(&spec))
        };
        let cases = [
            (json!({ "limits": { "memory_bytes": 4_096 } }), "limits.memory_bytes"),
            (json!({ "limits": { "cpu_millis": 1 } }), "limits.cpu_millis"),
            (json!({ "limits": { "pids": 0 } }), "limits.pids"),
            (json!({ "limits": { "shm_bytes": 1 } }), "limits.shm_bytes"),
            (json!({ "cap_drop": ["FLYING"] }), "FLYING"),
            (json!({ "name": "a/b" }), "name"),
            (json!({ "ulimits": { "nofiles": { "soft": 1, "hard": 1 } } }), "nofile"),
            (json!({ "ulimits": { "nofile": { "soft": 2, "hard": 1 } } }), "soft limit"),
            (json!({ "group_add": ["a:b"] }), "group_add"),
            (json!({ "sysctls": { "kernel.hostname": "x" } }), "can be set"),
            (json!({ "stop_signal": "SIGFLY" }), "SIGFLY"),
            (json!({ "health": { "interval_ms": 1 } }), "health.interval_ms"),
            (json!({ "health": { "test": { "command": [] } } }), "say what to run"),
            (json!({ "network": "none", "health": { "test": { "tcp": { "port": 1 } } } }), "network"),
            (json!({ "env": { "BIG": "x".repeat(500_000) } }), "at most"),
        ];
        for (more, named) in cases {
            let what: String = more.to_string().chars().take(80).collect();
            let problem = create(more)?;
            ensure!(matches!(problem.status, 400 | 422), "{what}: {problem}");
            ensure!(problem.to_string().contains(named), "{what}: {named} is not named: {problem}");
        }
        // Ten megabytes do not even get to be looked at.
        let problem = create(json!({ "env": { "BIG": "x".repeat(10 << 20) } }))?;
        assert_eq!(problem.kind, ProblemKind::TooLarge, "{problem}");

        let created = |more: Value| -> Result<String> { failed_start(world, &tenant, more) };
        let error = created(json!({ "workdir": "/etc/passwd" }))?;
        ensure!(error.contains("/etc/passwd"), "{error}");
        let error = created(json!({ "command": ["/no/such"] }))?;
        ensure!(error.contains("/no/such"), "{error}");
        let error = created(json!({ "command": ["/etc/passwd"] }))?;
        ensure!(error.to_lowercase().contains("permission denied"), "{error}");
        let error = created(json!({ "group_add": ["no-such-group"] }))?;
        ensure!(error.contains("no-such-group"), "{error}");
        world.no_container_is_left()
    })
}

/// Why a container could not be started; it is removed.
fn failed_start(world: &World, tenant: &TenantView, more: Value) -> Result<String> {
    let spec = world.spec(tenant, &["true"], more)?;
    let view: ContainerView = world.api().post("/containers?start=true", &spec)?;
    let view =
        world.container_until(view.id.as_str(), "it failed", |view| view.state == ContainerState::Failed)?;
    world.api().delete(&format!("/containers/{}", view.id))?;
    view.error.context("no error is told")
}

#[test]
fn health_names_and_rights_from_the_command_line() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        world.said(&[
            "run",
            "-d",
            "--name",
            "one",
            "--health-cmd",
            "echo well",
            "--health-interval",
            "1s",
            &image,
            "sleep",
            "1000",
        ])?;
        world.until("it is healthy", || Ok(world.said(&["ps"])?.contains("(healthy)")))?;
        ensure!(world.said(&["inspect", "one"])?.contains("well"));
        world.said(&["rename", "one", "two"])?;
        ensure!(world.said(&["ps"])?.contains("two"));
        let printed = world.said(&[
            "run",
            "--rm",
            "--ulimit",
            "nofile=50:60",
            "--group-add",
            "7",
            "--sysctl",
            "net.core.somaxconn=55",
            "--security-opt",
            "no-new-privileges=false",
            &image,
            "sh",
            "-c",
            "ulimit -n; id -G; cat /proc/sys/net/core/somaxconn; grep NoNewPrivs /proc/self/status",
        ])?;
        assert_eq!(printed, "50\n0 7\n55\nNoNewPrivs:\t0\n");
        Ok(())
    })
}
