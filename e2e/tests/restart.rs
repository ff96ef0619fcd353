//! The agent dies, the supervisor dies: containers, logs and usage do not.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use wharf_e2e::{World, run};
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::page::Page;

#[test]
fn a_killed_agent_adopts_its_containers_and_no_log_line_is_lost() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line $i; sleep 0.01; done; exit 6";
        let counting = world.start(&tenant, &["sh", "-c", script], json!({}))?;
        let short = world.start(&tenant, &["sh", "-c", "read x < /dev/null; sleep 1; exit 4"], json!({}))?;
        world.logged(counting.id.as_str(), "line 20\n")?;
        let before = world.api().log_lines(counting.id.as_str(), 0)?;
        let cursor = before.last().context("lines")?.cursor;
        world.kill_agent()?;
        // The short one ends while no agent runs.
        world.until("the short one ends", || Ok(!world.process_runs(short.pid)?))?;
        world.start_agent()?;
        let adopted: ContainerView = world.api().get(&format!("/containers/{}", counting.id))?;
        assert_eq!(adopted.state, ContainerState::Running);
        assert_eq!((adopted.pid, adopted.started_at), (counting.pid, counting.started_at));
        assert_eq!(world.ended(short.id.as_str())?.exit.context("an exit")?.code, Some(4));
        assert_eq!(world.ended(counting.id.as_str())?.exit.context("an exit")?.code, Some(6));
        let after = world.api().log_lines(counting.id.as_str(), cursor)?;
        let texts: Vec<_> = before.iter().chain(&after).map(|line| line.text.clone()).collect();
        let wanted: Vec<_> = (1..=400).map(|number| format!("line {number}")).collect();
        assert_eq!(texts, wanted);
        for view in [counting, short] {
            world.api().delete(&format!("/containers/{}", view.id))?;
        }
        world.no_container_is_left()
    })
}

#[test]
fn a_stopped_agent_leaves_its_containers_running() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        assert!(world.stop_agent()?.success());
        assert!(world.process_runs(view.pid)?);
        world.start_agent()?;
        let adopted: ContainerView = world.api().get(&format!("/containers/{}", view.id))?;
        assert_eq!((adopted.state, adopted.pid), (ContainerState::Running, view.pid));
        Ok(())
    })
}

#[test]
fn an_agent_killed_at_any_instant_finds_a_whole_state() -> Result<()> {
    run(|world| {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)?;
        let given = std::env::var("WHARF_E2E_SEED").ok();
        let mut random = given.map_or(Ok(u64::from_le_bytes(seed)), |text| text.parse())?;
        eprintln!("WHARF_E2E_SEED={random}");
        let tenant = world.tenant("acme")?;
        // So that the image is here and instants fall into creation, not into the pull.
        world.script(&tenant, "true", json!({ "auto_remove": false }))?;
        for round in 0..5 {
            let victim = world.start(&tenant, &["sleep", "1000"], json!({}))?;
            let spec = world.spec(&tenant, &["sleep", "1000"], json!({ "name": format!("new{round}") }))?;
            let path = format!("/containers/{}", victim.id);
            let (method, path, body) = match next(&mut random) % 4 {
                0 | 1 => (Method::POST, "/containers?start=true".to_owned(), Some(spec)),
                2 => (Method::POST, format!("{path}/stop"), Some(json!({ "grace_s": 0 }))),
                _ => (Method::DELETE, format!("{path}?force=true"), None),
            };
            let after = Duration::from_micros(next(&mut random) % 120_000);
            eprintln!("round {round}: {method} {path}, killed after {after:?}");
            world.api().send_and_leave(method, &path, body.as_ref(), after);
            world.kill_agent()?;
            world.start_agent()?;
            settle_and_remove_all(world)?;
        }
        Ok(())
    })
}

#[test]
fn an_agent_killed_in_mid_create_leaves_no_orphan() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        world.script(&tenant, "true", json!({}))?;
        for after_ms in [1, 4, 8, 14, 22, 35] {
            let spec = world.spec(&tenant, &["sleep", "1000"], json!({}))?;
            let after = Duration::from_millis(after_ms);
            world.api().send_and_leave(Method::POST, "/containers?start=true", Some(&spec), after);
            world.kill_agent()?;
            world.start_agent()?;
            settle_and_remove_all(world)
                .with_context(|| format!("killed {after_ms} ms into the creation"))?;
        }
        Ok(())
    })
}

#[test]
fn containers_that_a_restored_store_does_not_know_are_ended_billed_and_removed() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let kept = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        assert!(world.stop_agent()?.success());
        let (database, copy) = (world.state_dir().join("wharf.db"), world.dir().join("copy.db"));
        fs::copy(&database, &copy).context("copy the store")?;
        world.start_agent()?;
        let stranger = world.tenant("stranger")?;
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; exec sleep 1000";
        let orphan =
            world.start(&tenant, &["sh", "-c", busy], json!({ "ports": [{ "container_port": 80 }] }))?;
        let other = world.start(&stranger, &["sleep", "1000"], json!({}))?;
        world.logged(orphan.id.as_str(), "done")?;
        world.kill_agent()?;
        // As an operator restores a copy: the journal and the host are ahead of it.
        for name in ["wharf.db-wal", "wharf.db-shm"] {
            fs::remove_file(world.state_dir().join(name)).ok();
        }
        fs::copy(&copy, &database).context("restore the store")?;
        world.start_agent()?;
        let page: Page<ContainerView> = world.api().get("/containers?all=true")?;
        assert_eq!(page.items.iter().map(|view| &view.id).collect::<Vec<_>>(), [&kept.id]);
        assert_eq!(page.items.first().context("the kept one")?.pid, kept.pid);
        for view in [&orphan, &other] {
            ensure!(!world.process_runs(view.pid)?, "process {:?} outlived its row", view.pid);
            for dir in ["state/c", "run/c"] {
                let path = world.dir().join(dir).join(view.id.as_str());
                ensure!(!path.exists(), "{} is left", path.display());
            }
        }
        let left = world.container_cgroups();
        let foreign = left.iter().find(|path| !path.display().to_string().contains(kept.id.as_str()));
        assert_eq!(foreign, None);
        let rules = Command::new("nft").args(["list", "ruleset"]).output().context("list the rules")?;
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        ensure!(!rules.contains(orphan.address.as_deref().context("an address")?), "{rules}");
        // What it used is billed all the same.
        world.until("the orphan's usage is rolled up", || {
            Ok(world.api().text("/usage/export?provisional=true&format=jsonl")?.contains(orphan.id.as_str()))
        })?;
        world.api().delete(&format!("/containers/{}?force=true", kept.id))?;
        world.no_container_is_left()
    })
}

#[test]
fn an_agent_with_another_store_removes_nothing() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        world.kill_agent()?;
        let (database, copy) = (world.state_dir().join("wharf.db"), world.dir().join("own"));
        fs::create_dir(&copy)?;
        let files = ["wharf.db", "wharf.db-wal", "wharf.db-shm"];
        for name in files {
            fs::rename(world.state_dir().join(name), copy.join(name)).ok();
        }
        let refused = world.start_agent().err().context("an agent with an empty store started")?;
        ensure!(format!("{refused:#}").contains("ended"), "{refused:#}");
        ensure!(world.process_runs(view.pid)?, "it was ended on an empty store's word");
        fs::remove_file(&database)?;
        for name in files {
            fs::remove_file(world.state_dir().join(name)).ok();
            fs::rename(copy.join(name), world.state_dir().join(name)).ok();
        }
        world.start_agent()?;
        let adopted: ContainerView = world.api().get(&format!("/containers/{}", view.id))?;
        assert_eq!((adopted.state, adopted.pid), (ContainerState::Running, view.pid));
        Ok(())
    })
}

#[test]
fn a_killed_supervisor_ends_its_container_and_the_policy_starts_it_again() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let plain = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        let again = world.start(&tenant, &["sleep", "1000"], json!({ "restart": "always" }))?;
        for view in [&plain, &again] {
            world.kill_supervisor(view)?;
        }
        let ended = world.ended(plain.id.as_str())?;
        assert!(ended.exit.context("an exit")?.supervisor_lost);
        ensure!(!world.process_runs(plain.pid)?, "process {:?} outlived its container", plain.pid);
        let restarted = world.container_until(again.id.as_str(), "it runs again", |view| {
            view.state == ContainerState::Running && view.restart_count > 0
        })?;
        ensure!(restarted.pid != again.pid, "it is still the same process");
        world.api().delete(&format!("/containers/{}", plain.id))?;
        world.api().delete(&format!("/containers/{}?force=true", again.id))?;
        world.no_container_is_left()
    })
}

#[test]
fn restart_policies_hold_over_a_restart_of_the_agent() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let start = |name: &str, policy: Value| {
            world.start(&tenant, &["sleep", "1000"], json!({ "name": name, "restart": policy }))
        };
        let never = start("never", json!("no"))?;
        let always = start("always", json!("always"))?;
        let on_failure = start("on-failure", json!({ "on_failure": { "max_retries": 3 } }))?;
        let unless_stopped = start("unless-stopped", json!("unless_stopped"))?;
        let stopped = start("stopped", json!("always"))?;
        world.api().act("/containers/stopped/stop", &json!({ "grace_s": 0 }))?;
        world.kill_agent()?;
        let dying = [&never, &always, &on_failure, &unless_stopped];
        for view in dying {
            kill(Pid::from_raw(view.pid.context("a pid")?), Signal::SIGKILL).context("kill a container")?;
        }
        for view in dying {
            world.until("it has ended", || Ok(!world.process_runs(view.pid)?))?;
        }
        world.start_agent()?;
        for view in [&always, &on_failure, &unless_stopped] {
            let again = world.container_until(view.id.as_str(), "it runs again", |view| {
                view.state == ContainerState::Running && view.restart_count == 1
            })?;
            ensure!(again.pid != view.pid, "{}: it is still the same process", view.name);
        }
        let ended = world.ended(never.id.as_str())?;
        assert_eq!((ended.exit.context("an exit")?.signal, ended.restart_count), (Some(9), 0));
        // What a person stopped stays so, even over a further start of the agent.
        world.kill_agent()?;
        world.start_agent()?;
        let stopped: ContainerView = world.api().get(&format!("/containers/{}", stopped.id))?;
        assert_eq!((stopped.state, stopped.restart_count), (ContainerState::Exited, 0));
        settle_and_remove_all(world)
    })
}

/// Every container reaches a state that lasts, can be removed, and leaves nothing.
fn settle_and_remove_all(world: &World) -> Result<()> {
    use ContainerState::{Created, Exited, Failed, Running};
    world.until("every container is settled", || {
        let page: Page<ContainerView> = world.api().get("/containers?all=true")?;
        Ok(page.items.iter().all(|view| matches!(view.state, Created | Running | Exited | Failed)))
    })?;
    let page: Page<ContainerView> = world.api().get("/containers?all=true")?;
    for view in page.items {
        if view.state == Running {
            ensure!(world.process_runs(view.pid)?, "{} is told to run, but does not", view.name);
        }
        world.api().delete(&format!("/containers/{}?force=true", view.id))?;
    }
    world.no_container_is_left()
}

/// The next number of the `SplitMix64` sequence.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
