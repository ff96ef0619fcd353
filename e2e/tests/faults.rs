//! What goes wrong: a full disk, lost supervisors, refused requests. Each says what to do, and nothing is left.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wharf_e2e::{Setup, World, run, run_in};
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::image::{PullState, PullView};
use wharf_shared::page::Page;
use wharf_shared::problem::ProblemKind;
use wharf_shared::tenant::TenantView;
use wharf_shared::usage::Meter;

const SMALL_DISK: Setup<'_> = Setup { disk_mebibytes: Some(48), ..Setup::USUAL };

#[test]
fn a_pull_on_a_full_disk_fails_clearly_and_works_once_there_is_room() -> Result<()> {
    run_in(SMALL_DISK, |world| {
        let tenant = world.tenant("acme")?;
        let image = world.busybox()?;
        world.disk()?.fill()?;
        let failed = pull(world, &tenant, &image)?;
        match failed {
            // The request itself could not be written down, or the layers found no room.
            Err(problem) => ensure!(problem.contains("the disk is full"), "{problem}"),
            Ok(view) => {
                assert_eq!(view.state, PullState::Failed, "{view:?}");
                let error = view.error.clone().context("no error is told")?;
                ensure!(error.contains("the disk is full") && error.contains("free some space"), "{error}");
            }
        }
        world.disk()?.free()?;
        let view = pull(world, &tenant, &image)?.map_err(anyhow::Error::msg)?;
        assert_eq!(view.state, PullState::Done, "{view:?}");
        let view = world.script(&tenant, "echo room", json!({}))?;
        assert_eq!(world.logs(view.id.as_str())?, "room\n");
        world.api().delete(&format!("/containers/{}", view.id))?;
        world.no_container_is_left()
    })
}

#[test]
fn a_creation_on_a_full_disk_is_refused_and_works_once_there_is_room() -> Result<()> {
    run_in(SMALL_DISK, |world| {
        let tenant = world.tenant("acme")?;
        world.script(&tenant, "true", json!({ "name": "first" }))?;
        world.api().delete("/containers/first")?;
        world.disk()?.fill()?;
        let spec = world.spec(&tenant, &["echo", "room"], json!({ "name": "second" }))?;
        for _ in 0..3 {
            let problem = world.api().refused(Method::POST, "/containers?start=true", Some(&spec))?;
            assert_eq!(problem.kind, ProblemKind::InsufficientStorage, "{problem}");
            ensure!(problem.detail.contains("free some space"), "{problem}");
        }
        // It still answers, and shows what there is.
        assert!(world.api().get::<Page<ContainerView>>("/containers?all=true")?.items.is_empty());
        world.no_container_is_left()?;
        world.disk()?.free()?;
        let view: ContainerView = world.api().post("/containers?start=true", &spec)?;
        world.ended(view.id.as_str())?;
        assert_eq!(world.logs(view.id.as_str())?, "room\n");
        world.api().delete("/containers/second")?;
        world.no_container_is_left()
    })
}

#[test]
fn a_log_on_a_full_disk_blocks_nobody_and_says_what_is_missing() -> Result<()> {
    run_in(SMALL_DISK, |world| {
        let tenant = world.tenant("acme")?;
        // Prints on command, so that the test knows when the disk is full.
        let script = "echo before; read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo lost $i; done; \
                      echo written > /dev/shm/done; read x; echo after; exit 5";
        let view = world.start(&tenant, &["sh", "-c", script], json!({ "stdin": true }))?;
        let id = view.id.as_str();
        world.logged(id, "before")?;
        let path = format!("/containers/{id}/attach?stdin=true");
        let mut stdin = wharf_e2e::Socket::open(world.api(), &path)?;
        world.disk()?.fill()?;
        stdin.stdin("go\n")?;
        let done = format!("/proc/{}/root/dev/shm/done", view.pid.context("a pid")?);
        world.until("it has written everything, though nothing fits", || Ok(fs::exists(&done)?))?;
        let state: ContainerView = world.api().get(&format!("/containers/{id}"))?;
        assert_eq!(state.state, ContainerState::Running);
        world.disk()?.free()?;
        stdin.stdin("end\n")?;
        let ended = world.ended(id)?;
        assert_eq!(ended.exit.context("an exit")?.code, Some(5));
        let log = world.logs(id)?;
        ensure!(log.starts_with("before\n") && log.ends_with("after\n"), "{log}");
        let note = log.lines().find(|line| line.contains("bytes of output were dropped"));
        ensure!(note.is_some(), "nothing is said of what is missing: {} bytes", log.len());
        Ok(())
    })
}

#[test]
fn a_container_that_ends_on_a_full_disk_loses_neither_its_exit_code_nor_its_usage() -> Result<()> {
    run_in(SMALL_DISK, |world| {
        let tenant = world.tenant("acme")?;
        let script = "read x; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exit 9";
        let view = world.start(&tenant, &["sh", "-c", script], json!({ "stdin": true }))?;
        let path = format!("/containers/{}/attach?stdin=true", view.id);
        let mut stdin = wharf_e2e::Socket::open(world.api(), &path)?;
        world.disk()?.fill()?;
        stdin.stdin("go\n")?;
        world.until("it ends", || Ok(!world.process_runs(view.pid)?))?;
        world.disk()?.free()?;
        let ended = world.ended(view.id.as_str())?;
        let exit = ended.exit.clone().context("an exit")?;
        assert_eq!((exit.code, exit.supervisor_lost), (Some(9), false));
        ensure!(world.quantity(&ended, Meter::CpuUsed)? > 20_000_000, "its CPU time is not on the bill");
        world.api().delete(&format!("/containers/{}", view.id))?;
        world.no_container_is_left()
    })
}

#[test]
fn usage_of_a_container_whose_supervisor_was_killed_is_on_the_bill() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; times; exec sleep 1000";
        let view = world.start(&tenant, &["sh", "-c", script], json!({}))?;
        world.until("it has worked", || Ok(world.logs(view.id.as_str())?.lines().count() >= 2))?;
        let counted = World::cpu_time_ns(&world.logs(view.id.as_str())?)?;
        world.kill_supervisor(&view)?;
        let ended = world.ended(view.id.as_str())?;
        assert!(ended.exit.clone().context("an exit")?.supervisor_lost);
        let billed = world.quantity(&ended, Meter::CpuUsed)?;
        ensure!(
            billed >= counted && billed - counted < 50_000_000,
            "times says {counted} ns, the bill {billed} ns"
        );
        world.api().delete(&format!("/containers/{}", view.id))?;
        world.no_container_is_left()
    })
}

#[test]
fn every_kind_of_bad_request_names_its_field_and_leaves_nothing() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let too_long = "x".repeat(200_000);
        let cases = [
            (json!({ "limits": { "memory_mb": 5 } }), "memory_mb"),
            (json!({ "restart": "sometimes" }), "restart"),
            (json!({ "limits": { "cpu_millis": -1 } }), "cpu_millis"),
            (json!({ "limits": { "cpu_weight": 10_001 } }), "cpu_weight"),
            (json!({ "limits": { "cpu_millis": 4_000_000_000_u32 } }), "cpu_millis"),
            (json!({ "limits": { "memory_bytes": u64::MAX } }), "memory_bytes"),
            (json!({ "name": "../escape" }), "name"),
            (json!({ "name": "x".repeat(300) }), "name"),
            (json!({ "image": "UPPER CASE!" }), "UPPER"),
            (json!({ "workdir": "relative" }), "workdir"),
            (json!({ "stop_signal": "SIGNOPE" }), "SIGNOPE"),
            (json!({ "stop_grace_s": 100_000 }), "stop_grace_s"),
            (json!({ "ports": [{ "container_port": 0 }] }), "ports[0]"),
            (json!({ "ports": [{ "container_port": 80, "host_port": 70_000 }] }), "host_port"),
            (json!({ "volumes": [{ "source": { "volume": "a" }, "target": "/" }] }), "volumes[0]"),
            (json!({ "env": { "A=B": "c" } }), "env"),
            (json!({ "command": [too_long] }), "command"),
            (json!({ "auto_remove": true, "restart": "always" }), "auto_remove"),
            (json!({ "cap_add": ["EVERYTHING"] }), "EVERYTHING"),
        ];
        for (more, named) in cases {
            let what = more.to_string().chars().take(80).collect::<String>();
            let spec = world.spec(&tenant, &["true"], more)?;
            let problem = world
                .api()
                .refused(Method::POST, "/containers?start=true", Some(&spec))
                .with_context(|| what.clone())?;
            ensure!(matches!(problem.status, 400 | 422), "{what}: {problem}");
            ensure!(problem.to_string().contains(named), "{what}: {named} is not named: {problem}");
        }
        for (method, path, body) in [
            (Method::GET, "/containers?colour=red", None),
            (Method::POST, "/containers/none/stop", Some(json!({ "graces": 1 }))),
            (Method::POST, "/tenants", Some(json!({ "name": "Not A Name" }))),
            (Method::POST, "/volumes", Some(json!({ "name": "a/b", "tenant": tenant.id }))),
            (Method::POST, "/images/pull", Some(json!({ "image": "a b", "tenant": tenant.id }))),
            (Method::GET, "/usage/export?format=pdf", None),
        ] {
            let problem =
                world.api().refused(method, path, body.as_ref()).with_context(|| path.to_owned())?;
            ensure!(matches!(problem.status, 400 | 422), "{path}: {problem}");
        }
        assert!(world.api().get::<Page<ContainerView>>("/containers?all=true")?.items.is_empty());
        world.no_container_is_left()
    })
}

/// Pulls to the end; a refused request is an error in words.
fn pull(world: &World, tenant: &TenantView, image: &str) -> Result<Result<PullView, String>> {
    let body: Value = json!({ "image": image, "tenant": tenant.id });
    let answer = world.api().send(Method::POST, "/images/pull", Some(&body))?;
    if !answer.status.is_success() {
        return Ok(Err(answer.problem()?.to_string()));
    }
    let mut view: PullView = serde_json::from_str(&answer.body)?;
    world.until("the pull has ended", || {
        view = world.api().get(&format!("/images/pulls/{}", view.id))?;
        Ok(matches!(view.state, PullState::Done | PullState::Failed))
    })?;
    Ok(Ok(view))
}
