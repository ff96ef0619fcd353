//! Checkpoints by the real CRIU: a container is saved, and goes on elsewhere where it was.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;
use wharf_e2e::run_with;
use wharf_shared::checkpoint::CheckpointView;
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::page::Page;
use wharf_shared::problem::ProblemKind;
use wharf_shared::reading::ReadingKind;
use wharf_shared::usage::Meter;

/// As `cargo xtask test` unpacks it.
const CRIU: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/criu/criu");

/// Counts in memory, and in a file of its root.
const COUNT: &str =
    "echo first >/root-file; i=0; while :; do i=$((i+1)); echo $i; echo $i >/count; sleep 0.02; done";

/// Attacks: H13.
#[test]
fn a_saved_container_is_restored_under_a_new_name_and_counts_on() -> Result<()> {
    let setting = format!("checkpoints.criu={CRIU}");
    run_with(&[&setting], |world| {
        let tenant = world.tenant("acme")?;
        let api = world.api();
        let first = world.start(&tenant, &["sh", "-c", COUNT], json!({ "name": "counter" }))?;
        world.logged(first.id.as_str(), "\n10\n")?;
        let path = format!("/containers/{}/checkpoints", first.id);

        // One that is saved and runs on.
        let kept: CheckpointView = api.post(&path, &json!({ "keep_running": true }))?;
        let seen = world.logs(first.id.as_str())?.lines().count();
        world.until("it runs on", || Ok(world.logs(first.id.as_str())?.lines().count() > seen))?;
        let readings = world.readings()?;
        let kinds: Vec<ReadingKind> = readings
            .iter()
            .filter(|reading| reading.series.container.as_ref() == Some(&first.id))
            .map(|reading| reading.kind)
            .filter(|kind| matches!(kind, ReadingKind::Freeze | ReadingKind::Thaw))
            .collect();
        assert_eq!(kinds, [ReadingKind::Freeze, ReadingKind::Thaw]);

        // One that is saved and stopped.
        let saved: CheckpointView = api.post(&path, &json!({}))?;
        let stopped: ContainerView = api.get(&format!("/containers/{}", first.id))?;
        assert_eq!(stopped.state, ContainerState::Exited);
        assert_eq!((saved.container_name.as_str(), &saved.tenant), ("counter", &tenant.id));
        let log = world.logs(first.id.as_str())?;
        let last: u64 = log.lines().last().context("a line")?.parse()?;
        let listed: Page<CheckpointView> = api.get("/checkpoints?tenant=acme")?;
        assert_eq!(listed.items, [saved.clone(), kept.clone()]);

        // It goes on where it was, in the same tenant, with its files, its network, its own log.
        let restore = format!("/checkpoints/{}/restore", saved.id);
        let taken = api.refused(Method::POST, &restore, Some(&json!({ "name": "counter" })))?;
        assert_eq!(taken.kind, ProblemKind::NameTaken);
        let second: ContainerView = api.post(&restore, &json!({ "name": "again" }))?;
        assert_eq!((second.state, second.name.as_str()), (ContainerState::Running, "again"));
        assert!(second.address.is_some() && second.id != first.id);
        world.logged(second.id.as_str(), "\n")?;
        let log = world.logs(second.id.as_str())?;
        let next: u64 = log.lines().next().context("a line")?.parse()?;
        ensure!((last..=last + 1).contains(&next), "it counts on at {next} after {last}");
        let state = world.state_dir().join("c").join(second.id.as_str());
        assert_eq!(std::fs::read_to_string(state.join("upper/root-file"))?, "first\n");
        ensure!(!state.join("images").exists(), "CRIU's files go when they were read");
        world.until("the file follows", || {
            let count: u64 = std::fs::read_to_string(state.join("upper/count"))?.trim().parse().unwrap_or(0);
            Ok(count > next + 3)
        })?;

        // Another agent finds it as any other; it stops, starts anew from its files, and is billed.
        world.kill_agent()?;
        world.start_agent()?;
        let again = format!("/containers/{}", second.id);
        let adopted: ContainerView = world.api().get(&again)?;
        assert_eq!((adopted.state, adopted.pid), (ContainerState::Running, second.pid));
        world.api().act(&format!("{again}/stop"), &json!({ "grace_s": 0 }))?;
        let before = world.logs(second.id.as_str())?.lines().count();
        world.api().act(&format!("{again}/start"), &json!({}))?;
        world.until("it begins anew", || {
            Ok(world.logs(second.id.as_str())?.lines().nth(before) == Some("1"))
        })?;
        world.api().act(&format!("{again}/stop"), &json!({ "grace_s": 0 }))?;
        ensure!(world.quantity(&second, Meter::CpuUsed)? > 0, "what it used is billed");

        // The one from before the stop is as good; then both go, and what they are made of.
        let third: ContainerView = api.post(&format!("/checkpoints/{}/restore", kept.id), &json!({}))?;
        world.logged(third.id.as_str(), "\n")?;
        for view in [&first, &second, &third] {
            world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        }
        for id in [&saved.id, &kept.id] {
            api.delete(&format!("/checkpoints/{id}"))?;
        }
        assert_eq!(std::fs::read_dir(world.state_dir().join("checkpoints"))?.count(), 0);
        world.no_container_is_left()
    })
}

#[test]
fn what_cannot_be_saved_or_restored_is_refused_in_words_and_runs_on() -> Result<()> {
    let setting = format!("checkpoints.criu={CRIU}");
    run_with(&[&setting], |world| {
        let tenant = world.tenant("acme")?;
        let api = world.api();
        for (more, word) in [
            (json!({ "terminal": true }), "terminal"),
            (json!({ "init": true }), "init"),
            (json!({ "network": "host" }), "network"),
        ] {
            let view = world.start(&tenant, &["sleep", "1000"], more)?;
            let path = format!("/containers/{}", view.id);
            let refused = api.refused(Method::POST, &format!("{path}/checkpoints"), Some(&json!({})))?;
            assert_eq!(refused.kind, ProblemKind::Conflict, "{refused}");
            ensure!(refused.detail.contains(word), "{refused}");
            let after: ContainerView = api.get(&path)?;
            assert_eq!((after.state, after.pid), (ContainerState::Running, view.pid));
            api.delete(&format!("{path}?force=true"))?;
        }
        // A socket whose other end is outside: CRIU itself refuses, and the container runs on.
        let view = world.start(&tenant, &["sh", "-c", "echo up; exec sleep 1000"], json!({}))?;
        world.logged(view.id.as_str(), "up\n")?;
        let path = format!("/containers/{}", view.id);
        api.act(&format!("{path}/stop"), &json!({ "grace_s": 0 }))?;
        let refused = api.refused(Method::POST, &format!("{path}/checkpoints"), Some(&json!({})))?;
        ensure!(refused.detail.contains("start it first"), "{refused}");
        let ghost = "chk_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b";
        for id in [ghost, "..%2f..", "x"] {
            let path = format!("/checkpoints/{id}/restore");
            let refused = api.refused(Method::POST, &path, Some(&json!({})))?;
            assert_eq!(refused.kind, ProblemKind::NotFound, "{refused}");
        }
        // A request cannot name a checkpoint, and members have no checkpoints at all.
        let spec = world.spec(&tenant, &["true"], json!({ "checkpoint": ghost }))?;
        let refused = api.refused(Method::POST, "/containers", Some(&spec))?;
        assert_eq!(refused.kind, ProblemKind::Invalid);
        let member = world.member(&tenant)?;
        for (method, path) in [
            (Method::POST, format!("{path}/checkpoints")),
            (Method::GET, "/checkpoints".to_owned()),
            (Method::POST, format!("/checkpoints/{ghost}/restore")),
        ] {
            let body = (method == Method::POST).then(|| json!({}));
            assert_eq!(member.refused(method, &path, body.as_ref())?.kind, ProblemKind::Forbidden, "{path}");
        }
        Ok(())
    })
}

#[test]
fn a_host_without_criu_says_so() -> Result<()> {
    run_with(&["checkpoints.criu=/nowhere/criu"], |world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        let path = format!("/containers/{}/checkpoints", view.id);
        let refused = world.api().refused(Method::POST, &path, Some(&json!({})))?;
        assert_eq!(refused.kind, ProblemKind::Unsupported);
        ensure!(refused.detail.contains("not available here, because /nowhere/criu"), "{refused}");
        Ok(())
    })
}
