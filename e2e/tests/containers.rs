//! Containers from their creation to their end, as a tenant meets them.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;
use wharf_e2e::{Image, Socket, World, run};
use wharf_shared::container::{ContainerState, ContainerView, ExitView, ProcessView};
use wharf_shared::event::AuditView;
use wharf_shared::live::{MetricsPoint, StreamInput, StreamOutput};
use wharf_shared::page::Page;
use wharf_shared::problem::ProblemKind;
use wharf_shared::tenant::TenantView;
use wharf_shared::volume::VolumeView;

#[test]
fn a_container_prints_ends_with_its_code_and_leaves_nothing() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.script(&tenant, "echo out; echo err >&2; exit 7", json!({}))?;
        let exit = view.exit.context("an exit")?;
        assert_eq!(exit, ExitView { code: Some(7), signal: None, oom_killed: false, supervisor_lost: false });
        let lines = world.api().log_lines(view.id.as_str(), 0)?;
        let mut texts: Vec<_> =
            lines.iter().map(|line| (format!("{:?}", line.stream), line.text.clone())).collect();
        texts.sort();
        assert_eq!(texts, [("Stderr".to_owned(), "err".to_owned()), ("Stdout".to_owned(), "out".to_owned())]);
        world.api().delete(&format!("/containers/{}", view.id))?;
        let gone = world.api().refused(Method::GET, &format!("/containers/{}", view.id), None)?;
        assert_eq!(gone.kind, ProblemKind::NotFound);
        world.no_container_is_left()
    })
}

#[test]
fn stop_asks_with_the_signal_and_kills_after_the_grace() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let polite = "trap 'echo asked; exit 3' USR1; echo ready; while :; do sleep 0.05; done";
        let view = world.start(
            &tenant,
            &["sh", "-c", polite],
            json!({ "stop_signal": "USR1", "stop_grace_s": 20 }),
        )?;
        world.logged(view.id.as_str(), "ready")?;
        let view: ContainerView = world.api().post(&format!("/containers/{}/stop", view.id), &json!({}))?;
        assert_eq!(view.state, ContainerState::Exited);
        assert_eq!(view.exit.context("an exit")?.code, Some(3));
        assert!(world.logs(view.id.as_str())?.contains("asked"));

        let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let view = world.start(&tenant, &["sh", "-c", deaf], json!({}))?;
        world.logged(view.id.as_str(), "ready")?;
        let view: ContainerView =
            world.api().post(&format!("/containers/{}/stop", view.id), &json!({ "grace_s": 1 }))?;
        assert_eq!(view.exit.context("an exit")?.signal, Some(9));
        Ok(())
    })
}

#[test]
fn whoever_asks_later_is_obeyed_while_it_is_being_stopped() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let view = world.start(&tenant, &["sh", "-c", deaf], json!({}))?;
        let path = format!("/containers/{}", view.id);
        world.logged(view.id.as_str(), "ready")?;
        let patient = json!({ "grace_s": 3_000 });
        let leave = |what: &str| -> Result<()> {
            let after = Duration::from_millis(200);
            world.api().send_and_leave(Method::POST, &format!("{path}/{what}"), Some(&patient), after);
            world.container_until(view.id.as_str(), "it is being stopped", |view| {
                view.state == ContainerState::Stopping
            })?;
            Ok(())
        };
        // A stop calls a restart off that waits for the end, and may have less patience.
        leave("restart")?;
        let stopped: ContainerView = world.api().post(&format!("{path}/stop"), &json!({ "grace_s": 0 }))?;
        assert_eq!(stopped.exit.context("an exit")?.signal, Some(9));
        world.pause(Duration::from_millis(500));
        assert_eq!(world.api().get::<ContainerView>(&path)?.state, ContainerState::Exited);

        let _: ContainerView = world.api().post(&format!("{path}/start"), &json!({}))?;
        leave("stop")?;
        world.api().delete(&format!("{path}?force=true"))?;
        world.no_container_is_left()
    })
}

#[test]
fn a_followed_log_goes_on_over_every_restart() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let policy = json!({ "restart": { "on_failure": { "max_retries": 3 } } });
        let view = world.start(&tenant, &["sh", "-c", "echo run; sleep 0.2; exit 5"], policy)?;
        let text = world.api().text(&format!("/containers/{}/logs?follow=true", view.id))?;
        assert_eq!(text, "run\n".repeat(4));
        Ok(())
    })
}

#[test]
fn kill_sends_exactly_the_signal() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "trap 'echo hung' HUP; echo ready; while :; do sleep 0.05; done";
        let view = world.start(&tenant, &["sh", "-c", script], json!({}))?;
        let path = format!("/containers/{}/kill", view.id);
        world.logged(view.id.as_str(), "ready")?;
        world.api().act(&path, &json!({ "signal": "SIGHUP" }))?;
        world.logged(view.id.as_str(), "hung")?;
        assert_eq!(
            world.api().refused(Method::POST, &path, Some(&json!({ "signal": "NOPE" })))?.kind,
            ProblemKind::Invalid
        );
        world.api().act(&path, &json!({ "signal": "9" }))?;
        assert_eq!(world.ended(view.id.as_str())?.exit.context("an exit")?.signal, Some(9));
        assert_eq!(
            world.api().refused(Method::POST, &path, Some(&json!({ "signal": "9" })))?.kind,
            ProblemKind::Conflict
        );
        Ok(())
    })
}

#[test]
fn on_failure_starts_again_so_many_times() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let policy = json!({ "restart": { "on_failure": { "max_retries": 2 } } });
        let spec = world.spec(&tenant, &["sh", "-c", "echo began; exit 5"], policy)?;
        let view: ContainerView = world.api().post("/containers?start=true", &spec)?;
        let id = view.id.as_str();
        let view = world.container_until(id, "it has given up", |view| {
            view.state == ContainerState::Exited && view.restart_count == 2
        })?;
        assert_eq!(view.exit.context("an exit")?.code, Some(5));
        assert_eq!(world.logs(id)?.matches("began").count(), 3);
        Ok(())
    })
}

#[test]
fn a_paused_container_uses_no_cpu() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(
            &tenant,
            &["sh", "-c", "while :; do :; done"],
            json!({ "limits": { "cpu_millis": 300 } }),
        )?;
        let path = format!("/containers/{}", view.id);
        let busy = |point: &MetricsPoint| point.cpu_millis.value().is_some_and(|millis| millis > 100);
        metrics_until(world, &view, "it uses CPU", busy)?;
        let view: ContainerView = world.api().post(&format!("{path}/pause"), &json!({}))?;
        assert_eq!(view.state, ContainerState::Paused);
        metrics_until(world, &view, "it uses none", |point| point.cpu_millis.value() == Some(0))?;
        let view: ContainerView = world.api().post(&format!("{path}/resume"), &json!({}))?;
        assert_eq!(view.state, ContainerState::Running);
        metrics_until(world, &view, "it uses CPU again", busy)
    })
}

#[test]
fn its_processes_are_told_in_its_own_numbers() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "sleep 1000 & exec sleep 2000";
        let view = world.start(&tenant, &["sh", "-c", script], json!({ "user": "7:8" }))?;
        let path = format!("/containers/{}", view.id);
        let mut found: Vec<ProcessView> = Vec::new();
        world.until("both sleep", || {
            found = world.api().get(&format!("{path}/processes"))?;
            Ok(found.len() == 2 && found.iter().all(|process| process.command.starts_with("sleep")))
        })?;
        let facts: Vec<_> = found
            .iter()
            .map(|process| (process.pid, process.parent, process.user, process.command.as_str()))
            .collect();
        let child = found.last().context("no process")?.pid;
        assert_eq!(facts, [(1, None, Some(7), "sleep 2000"), (child, Some(1), Some(7), "sleep 1000")]);
        assert!(child > 1 && found.iter().all(|process| process.memory_bytes > 0), "{found:?}");
        let _: ContainerView = world.api().post(&format!("{path}/stop"), &json!({ "grace_s": 0 }))?;
        let problem = world.api().refused(Method::GET, &format!("{path}/processes"), None)?;
        assert_eq!(problem.kind, ProblemKind::Conflict, "{problem:?}");
        Ok(())
    })
}

#[test]
fn a_cpu_quota_holds() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "for i in 1 2 3; do while :; do :; done & done; wait";
        let view = world.start(&tenant, &["sh", "-c", script], json!({ "limits": { "cpu_millis": 200 } }))?;
        let mut seen = Vec::new();
        metrics_until(world, &view, "five seconds were measured", |point| {
            if let Some(millis) = point.cpu_millis.value()
                && !seen.iter().any(|(at, _)| *at == point.at)
            {
                seen.push((point.at, millis));
            }
            seen.len() >= 6
        })?;
        // The first second has the start in it.
        let mean = seen.iter().skip(1).map(|(_, millis)| millis).sum::<u64>() / 5;
        assert!((150..=230).contains(&mean), "200 millis were allowed, measured {seen:?}");
        Ok(())
    })
}

/// Attacks: E3, E4, E5.
#[test]
fn too_much_memory_is_an_oom_kill_and_too_many_processes_are_refused() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        // awk itself is pid 1, so that its end is the container's.
        let hungry = "BEGIN { s = \"0123456789abcdef\"; while (1) s = s s }";
        let limits = json!({ "limits": { "memory_bytes": 16 << 20 } });
        let view = world.start(&tenant, &["awk", hungry], limits)?;
        let exit = world.ended(view.id.as_str())?.exit.context("an exit")?;
        assert_eq!((exit.signal, exit.oom_killed), (Some(9), true));

        let forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait; echo all";
        let view = world.script(&tenant, forks, json!({ "limits": { "pids": 5 } }))?;
        let log = world.logs(view.id.as_str())?;
        assert!(log.contains("can't fork"), "{log}");
        Ok(())
    })
}

#[test]
fn exec_passes_streams_and_the_exit_code() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["sleep", "1000"], json!({ "env": { "COLOUR": "blue" } }))?;
        let id = view.id.as_str();
        let script = "echo $COLOUR $FORM; read line; echo got $line; cat; echo oops >&2; exit 42";
        let spec = json!({ "command": ["sh", "-c", script], "stdin": true, "env": { "FORM": "round" } });
        let mut socket = Socket::exec(world.api(), id, &spec)?;
        socket.until("blue round")?;
        socket.stdin("one\n")?;
        socket.until("got one")?;
        socket.stdin("rest")?;
        socket.send(&StreamInput::CloseStdin)?;
        assert_eq!(socket.exit_code()?, 42);
        assert!(socket.output.contains("rest") && socket.output.contains("oops"), "{:?}", socket.output);

        let trail: Page<AuditView> = world.api().get("/audit")?;
        let entry = trail.items.iter().find(|entry| entry.action == "container.exec");
        let entry = entry.context("the exec is not in the trail")?;
        assert_eq!((entry.subject.as_str(), entry.detail["program"].as_str()), (id, "sh"), "{entry:?}");

        let mut absent = Socket::exec(world.api(), id, &json!({ "command": ["/nope"] }))?;
        let refused = absent.exit_code().map_err(|error| format!("{error:#}"));
        assert!(
            refused.clone().is_ok_and(|code| code == 127)
                || refused.is_err_and(|text| text.contains("/nope"))
        );
        Ok(())
    })
}

#[test]
fn an_exec_has_a_terminal_of_the_wanted_size() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        let spec = json!({ "command": ["sh"], "terminal": true, "stdin": true, "terminal_size": [33, 101] });
        let mut socket = Socket::exec(world.api(), view.id.as_str(), &spec)?;
        socket.stdin("stty size; test -t 0 && echo is''-tty\n")?;
        socket.until("33 101")?;
        socket.until("is-tty")?;
        socket.send(&StreamInput::Resize { rows: 20, columns: 60 })?;
        socket.stdin("stty size\n")?;
        socket.until("20 60")?;
        socket.stdin("exit 9\n")?;
        assert_eq!(socket.exit_code()?, 9);
        Ok(())
    })
}

#[test]
fn attach_feeds_standard_input_and_shows_the_output() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["cat"], json!({ "stdin": true }))?;
        let mut socket =
            Socket::open(world.api(), &format!("/containers/{}/attach?stdin=true&logs=true", view.id))?;
        socket.stdin("hello cat\n")?;
        socket.until("hello cat")?;
        socket.send(&StreamInput::CloseStdin)?;
        assert_eq!(socket.exit_code()?, 0);
        assert_eq!(world.ended(view.id.as_str())?.exit.context("an exit")?.code, Some(0));
        assert_eq!(world.logs(view.id.as_str())?, "hello cat\n");
        Ok(())
    })
}

#[test]
fn a_client_slower_than_the_log_s_rotation_is_told_what_it_missed() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "read go; head -c 40000000 /dev/zero | tr '\\0' x; echo; echo last";
        let limits = json!({ "stdin": true, "log": { "max_file_bytes": 100_000, "max_files": 2 } });
        let view = world.start(&tenant, &["sh", "-c", script], limits)?;
        let path = format!("/containers/{}/attach?stdin=true&logs=true", view.id);
        let mut socket = Socket::open(world.api(), &path)?;
        socket.stdin("go\n")?;
        // It reads nothing until all is written; what lies in sockets between them is far less.
        world.ended(view.id.as_str())?;
        let mut missed = 0;
        loop {
            match socket.frame()?.context("closed before the end")? {
                StreamOutput::Missed(bytes) => missed += bytes,
                StreamOutput::Exited(code) => break assert_eq!(code, 0),
                _ => {}
            }
        }
        ensure!(missed > 0, "{} bytes came and none is said to be missing", socket.output.len());
        ensure!(socket.output.ends_with("x\nlast\n"), "the end is there");
        ensure!(socket.output.len() < 40_000_000, "something is missing");
        Ok(())
    })
}

#[test]
fn auto_remove_leaves_nothing() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let spec = world.spec(&tenant, &["true"], json!({ "auto_remove": true }))?;
        let _: ContainerView = world.api().post("/containers?start=true", &spec)?;
        world.until("it is gone", || {
            Ok(world.api().get::<Page<ContainerView>>("/containers?all=true")?.items.is_empty())
        })?;
        world.no_container_is_left()
    })
}

#[test]
fn a_volume_outlives_its_containers_and_read_only_is_read_only() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let mount = |read_only: bool| json!({ "volumes": [{ "source": { "volume": "box" }, "target": "/data", "read_only": read_only }] });
        let view = world.script(&tenant, "echo kept > /data/file", mount(false))?;
        assert_eq!(view.exit.context("an exit")?.code, Some(0));
        world.api().delete(&format!("/containers/{}", view.id))?;
        let view =
            world.script(&tenant, "cat /data/file; echo more > /data/file || echo refused", mount(true))?;
        let log = world.logs(view.id.as_str())?;
        assert!(log.contains("kept") && log.contains("Read-only") && log.contains("refused"), "{log}");
        let path = format!("/volumes/box?tenant={}", tenant.id);
        assert_eq!(world.api().refused(Method::DELETE, &path, None)?.kind, ProblemKind::InUse);
        world.api().delete(&format!("/containers/{}", view.id))?;
        world.api().delete(&path)
    })
}

#[test]
fn a_container_is_as_it_was_asked_for() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "id -u; id -g; pwd; echo $COLOUR; hostname; ulimit -n; cut -d: -f3 /proc/self/cgroup | sort -u; \
                      touch /file 2>/dev/null || echo read-only; touch /dev/shm/file && echo shm; \
                      stat -c %a /tmp; grep CapBnd /proc/self/status | cut -f2";
        let spec = json!({
            "user": "guest", "workdir": "/data", "env": { "COLOUR": "blue" }, "hostname": "box",
            "labels": { "purpose": "test" }, "read_only": true, "limits": { "open_files": 333 },
        });
        let view = world.script(&tenant, script, spec)?;
        let log = world.logs(view.id.as_str())?;
        // The last is Docker's default set of capabilities less NET_RAW and MKNOD.
        let wanted = [
            "1000",
            "1000",
            "/data",
            "blue",
            "box",
            "333",
            "/",
            "read-only",
            "shm",
            "1777",
            "00000000a00405fb",
        ];
        assert_eq!(log.lines().collect::<Vec<_>>(), wanted);
        let inspected: ContainerView = world.api().get(&format!("/containers/{}", view.id))?;
        assert_eq!(inspected.spec.labels.get("purpose").map(String::as_str), Some("test"));
        Ok(())
    })
}

#[test]
fn wait_tells_the_end_and_restart_makes_a_new_process() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "trap 'exit 12' TERM; echo ready; while :; do sleep 0.05; done";
        let view = world.start(&tenant, &["sh", "-c", script], json!({ "stop_grace_s": 20 }))?;
        let path = format!("/containers/{}", view.id);
        world.logged(view.id.as_str(), "ready")?;
        let again: ContainerView = world.api().post(&format!("{path}/restart"), &json!({}))?;
        assert_eq!(again.state, ContainerState::Running);
        ensure!(again.pid != view.pid, "it is still the same process");
        world
            .until("it is ready again", || Ok(world.logs(view.id.as_str())?.matches("ready").count() == 2))?;
        // Asked while it runs; answered at its end.
        std::thread::scope(|scope| -> Result<()> {
            let url = format!("{}/api/v1{path}/wait", world.url());
            let token = world.api().token().context("a token")?.to_owned();
            let waiting = scope.spawn(move || {
                let mut curl = std::process::Command::new("curl");
                curl.args(["-sf", "--max-time", "40", "-H"]).arg(format!("Authorization: Bearer {token}"));
                curl.arg(url).output()
            });
            world.api().act(&format!("{path}/stop"), &json!({}))?;
            let output = waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let exit: ExitView = serde_json::from_slice(&output.stdout)?;
            assert_eq!(exit.code, Some(12));
            Ok(())
        })
    })
}

#[test]
fn an_image_s_volumes_are_made_filled_and_removed_with_their_container() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let image = image_with_volumes(world)?;
        let script = "if [ -e /data/mine ]; then echo again; else cat /data/seed; fi; echo x > /data/mine; \
            stat -c '%a %u' /data /data/seed; readlink /data/evil; cat /data/evil 2>&1; touch /cache/x; \
            stat -c %h /data/seed /data/sub/twin; test -p /data/pipe && echo pipe";
        let view = world.script(&tenant, script, json!({ "image": image }))?;
        let log = world.logs(view.id.as_str())?;
        // The link came along as a link, and leads to nothing of the host.
        let rest = "1770 0\n640 0\n/outside/secret\ncat: can't open '/data/evil': No such file or directory\n2\n2\npipe\n";
        assert_eq!(log, format!("seeded\n{rest}"));
        let volumes = |world: &World| -> Result<Vec<VolumeView>> {
            Ok(world.api().get::<Page<VolumeView>>("/volumes")?.items)
        };
        let made = volumes(world)?;
        assert_eq!(made.len(), 2, "{made:?}");
        assert!(made.iter().all(|volume| volume.used_by == [view.name.clone()]), "{made:?}");
        let seeds = made
            .iter()
            .map(|volume| world.state_dir().join("volumes").join(volume.id.as_str()).join("data/seed"));
        let seed = seeds.into_iter().find(|seed| seed.exists()).context("the seed on disk")?;
        for (name, value) in ATTRIBUTES {
            let mut found = [0; 64];
            let length = rustix::fs::getxattr(&seed, name, &mut found[..]).context(name)?;
            assert_eq!(found.get(..length), Some(value), "{name}");
        }

        let _: ContainerView = world.api().post(&format!("/containers/{}/start", view.id), &json!({}))?;
        world.logged(view.id.as_str(), "again")?;
        world.ended(view.id.as_str())?;
        assert_eq!(volumes(world)?.len(), 2, "a second start makes no others");

        // A named volume is filled too, and stands in for the image's.
        let named = json!([{ "source": { "volume": "named" }, "target": "/data/", "read_only": true }]);
        let with = world.script(
            &tenant,
            "cat /data/seed; touch /data/no 2>/dev/null || echo refused",
            json!({ "image": image, "volumes": named }),
        )?;
        assert_eq!(world.logs(with.id.as_str())?, "seeded\nrefused\n");
        assert_eq!(volumes(world)?.len(), 4);

        world.api().delete(&format!("/containers/{}?volumes=true", with.id))?;
        let left = volumes(world)?;
        assert!(left.len() == 3 && left.iter().any(|volume| volume.name == "named"), "{left:?}");
        world.api().delete(&format!("/containers/{}", view.id))?;
        let left = volumes(world)?;
        assert!(left.len() == 3 && left.iter().all(|volume| volume.used_by.is_empty()), "{left:?}");
        let gone = world.start(&tenant, &["true"], json!({ "image": image, "auto_remove": true }));
        // It may be gone before it is seen to run.
        drop(gone);
        world.until("its volumes went with it", || Ok(volumes(world)?.len() == 3))?;
        for volume in volumes(world)? {
            world.api().delete(&format!("/volumes/{}", volume.id))?;
        }
        assert_eq!(std::fs::read_dir(world.state_dir().join("volumes"))?.count(), 0);
        world.no_container_is_left()
    })
}

/// Of a file in an image's volume. The second is effective `CAP_NET_BIND_SERVICE`.
const ATTRIBUTES: [(&str, &[u8]); 2] = [
    ("user.note", b"kept"),
    ("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
];

/// A busybox that declares `/data`, with content, and `/cache`.
fn image_with_volumes(world: &World) -> Result<String> {
    world.busybox()?;
    let dir = world.dir().join("with-volumes");
    std::fs::create_dir_all(&dir)?;
    Image::busybox(&dir)?;
    let data = dir.join("root/data");
    std::fs::write(data.join("seed"), "seeded\n")?;
    std::fs::set_permissions(data.join("seed"), std::fs::Permissions::from_mode(0o640))?;
    std::fs::create_dir(data.join("sub"))?;
    std::fs::hard_link(data.join("seed"), data.join("sub/twin"))?;
    nix::unistd::mkfifo(&data.join("pipe"), nix::sys::stat::Mode::S_IRWXU)?;
    for (name, value) in ATTRIBUTES {
        rustix::fs::setxattr(data.join("seed"), name, value, rustix::fs::XattrFlags::empty())
            .context(name)?;
    }
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o1770))?;
    let outside = world.dir().join("outside");
    std::fs::create_dir_all(&outside)?;
    std::os::unix::fs::symlink("/outside/secret", data.join("evil"))?;
    let config = json!({
        "Cmd": ["/bin/sh"], "Env": ["PATH=/bin:/usr/bin"], "Volumes": { "/data": {}, "/cache/": {} },
    });
    let image = Image::from_root(&dir, &dir.join("root"), &config)?;
    world.registry.borrow().push(&image, "library/volumes:1")
}

#[test]
fn a_tenant_s_new_quota_holds_at_once_and_can_be_lifted() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        let read = |names: &[&str]| -> Option<String> {
            let dirs = world.container_cgroups();
            let tenants = dirs.iter().filter_map(|dir| dir.parent());
            let mut files = tenants.flat_map(|dir| names.iter().map(move |name| dir.join(name)));
            files.find_map(|file| std::fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
        };
        let pids = || read(&["pids.max"]);
        let memory = || read(&["memory.limit_in_bytes", "memory.max"]);
        let cpu = || read(&["cpu.cfs_quota_us", "cpu.max"]);
        let quota = json!({
            "quota": { "pids": 77, "memory_bytes": 268_435_456, "cpu_millis": 1_500, "cpu_weight": 400 },
        });
        let _: TenantView = world.api().patch("/tenants/acme", &quota)?;
        assert_eq!(pids().as_deref(), Some("77"));
        assert_eq!(memory().as_deref(), Some("268435456"));
        // Its share among tenants; v1's shares are 1024 where the weight is 100.
        let weight = || read(&["cpu.shares", "cpu.weight"]);
        ensure!(matches!(weight().as_deref(), Some("4096" | "400")), "{:?}", weight());
        let limited = cpu().context("a CPU quota")?;
        assert!(limited.starts_with("150000"), "{limited}");
        let _: TenantView = world.api().patch("/tenants/acme", &json!({ "quota": { "pids": 50 } }))?;
        assert_eq!(pids().as_deref(), Some("50"));
        let lifted = cpu().context("a CPU quota")?;
        assert!(lifted.starts_with("-1") || lifted.starts_with("max"), "{lifted}");
        assert_ne!(memory().as_deref(), Some("268435456"));
        ensure!(matches!(weight().as_deref(), Some("1024" | "100")), "{:?}", weight());
        let beyond = json!({ "quota": { "cpu_weight": 10_001 } });
        let problem = world.api().refused(Method::PATCH, "/tenants/acme", Some(&beyond))?;
        ensure!(problem.fields.iter().any(|field| field.field == "quota.cpu_weight"), "{problem}");
        world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        world.no_container_is_left()
    })
}

#[test]
fn a_tenant_that_goes_right_after_its_containers_takes_its_groups_along() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let more = json!({ "network": "none" });
        let views: Vec<ContainerView> =
            (0..6).map(|_| world.start(&tenant, &["sleep", "1000"], more.clone())).collect::<Result<_>>()?;
        ensure!(!world.tenant_cgroups(&tenant).is_empty(), "the tenant has no group");
        for view in &views {
            world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        }
        // Their groups may be on their way out still: nobody waits for that.
        world.api().delete(&format!("/images?reference={}&tenant={}", world.busybox()?, tenant.id))?;
        world.api().delete(&format!("/tenants/{}", tenant.id))?;
        let left = world.tenant_cgroups(&tenant);
        ensure!(left.is_empty(), "left: {left:?}");
        world.no_container_is_left()
    })
}

#[test]
fn bad_input_is_refused_with_what_to_do_and_leaves_nothing() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let create = |more: serde_json::Value| -> Result<_> {
            let spec = world.spec(&tenant, &["true"], more)?;
            world.api().refused(Method::POST, "/containers?start=true", Some(&spec))
        };
        let problem = create(json!({ "privilege": true }))?;
        assert!(problem.status == 400 || problem.status == 422, "{problem}");
        assert!(problem.to_string().contains("privilege"), "{problem}");

        let problem = create(json!({ "limits": { "memory_bytes": 1 } }))?;
        assert_eq!(problem.kind, ProblemKind::Invalid);
        assert!(problem.fields.iter().any(|field| field.field == "limits.memory_bytes"), "{problem}");
        assert!(create(json!({ "limits": { "pids": 5_000_000_000_u64 } }))?.status >= 400);

        let spec = world.spec(&tenant, &["true"], json!({ "name": "twice" }))?;
        let first: ContainerView = world.api().post("/containers", &spec)?;
        assert_eq!(create(json!({ "name": "twice" }))?.kind, ProblemKind::NameTaken);
        world.api().delete(&format!("/containers/{}", first.id))?;
        world.no_container_is_left()
    })
}

#[test]
fn what_cannot_be_started_fails_clearly_and_leaves_nothing() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let absent = format!("{}/library/absent:1", world.registry.borrow().host);
        let cases = [
            (json!({ "image": absent }), "absent"),
            (json!({ "command": ["/no/such/program"] }), "/no/such/program"),
            (json!({ "command": ["/etc/passwd"] }), "/etc/passwd"),
            (json!({ "user": "nobody-here" }), "nobody-here"),
        ];
        for (more, named) in cases {
            let spec = world.spec(&tenant, &["true"], more)?;
            let view: ContainerView = world.api().post("/containers?start=true", &spec)?;
            let view = world.container_until(view.id.as_str(), "it failed", |view| {
                view.state == ContainerState::Failed
            })?;
            let error = view.error.clone().context("no error is told")?;
            ensure!(error.contains(named), "{named} is not named: {error}");
            world.api().delete(&format!("/containers/{}", view.id))?;
            world.no_container_is_left()?;
        }
        Ok(())
    })
}

/// Waits until the latest metrics of a container are so.
fn metrics_until(
    world: &World,
    view: &ContainerView,
    what: &str,
    mut holds: impl FnMut(&MetricsPoint) -> bool,
) -> Result<()> {
    world.until(what, || {
        let answer = world.api().send(Method::GET, &format!("/containers/{}/metrics", view.id), None)?;
        // Nothing was read in the first second.
        if answer.status.as_u16() == 409 {
            return Ok(false);
        }
        Ok(holds(&serde_json::from_str(&answer.success()?)?))
    })
}
