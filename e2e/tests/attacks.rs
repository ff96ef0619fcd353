//! What a hostile tenant tries against a real agent, and does not get. More of it is closer to what it
//! attacks: `cargo xtask attacks` lists all.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::run;
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::live::LogStream;

/// Attacks: E7, E8.
#[test]
fn a_crash_leaves_no_core_and_open_files_are_bounded() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        // A first process does not die of its own signal; a child of it does.
        let script = "cd /tmp; ulimit -c; ulimit -n; sh -c 'kill -SEGV $$'; echo $?";
        let view = world.script(&tenant, script, json!({}))?;
        let log = world.logs(view.id.as_str())?;
        let numbers: Vec<u64> = log.lines().filter_map(|line| line.parse().ok()).collect();
        ensure!(matches!(numbers.as_slice(), [0, 1..=65_536, 139]), "{log}");
        let upper = world.state_dir().join("c").join(view.id.as_str()).join("upper/tmp");
        ensure!(!upper.join("core").exists(), "a core was written");
        Ok(())
    })
}

/// Attacks: E9.
#[test]
fn supervisor_and_launcher_are_outside_and_outlive_the_container_s_end_for_want_of_memory() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let hungry = "BEGIN { s = \"0123456789abcdef\"; while (1) s = s s }";
        let script = format!("read x </dev/null; while :; do awk '{hungry}'; done");
        let limits = json!({ "limits": { "memory_bytes": 16 << 20, "oom_group": false } });
        let view = world.start(&tenant, &["sh", "-c", &script], limits)?;
        let supervisor = parent_of(view.pid.context("a pid")?)?;
        world.until("the kernel kills one of it", || {
            let events = world.api().text("/events")?;
            Ok(events.contains("container.oom"))
        })?;
        for pid in [supervisor, i32::try_from(world.agent_pid()?)?] {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("it lives")?;
            ensure!(!groups.contains(view.id.as_str()), "{pid} is inside: {groups}");
        }
        let after: ContainerView = world.api().get(&format!("/containers/{}", view.id))?;
        assert_eq!((after.state, after.pid), (ContainerState::Running, view.pid));
        Ok(())
    })
}

/// Attacks: F5.
#[test]
fn what_looks_like_a_frame_of_the_log_is_only_output() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        // Length, stream 2, flags, time: as the supervisor writes them.
        let forged =
            r"printf '\005\000\000\000\002\000\000\000\000\000\000\000\000\000\000\000fake\n'; echo end";
        let view = world.script(&tenant, forged, json!({}))?;
        let lines = world.api().log_lines(view.id.as_str(), 0)?;
        assert_eq!(lines.len(), 2);
        ensure!(lines.iter().all(|line| line.stream == LogStream::Stdout), "a stream was forged: {lines:?}");
        ensure!(lines.first().is_some_and(|line| line.text.ends_with("fake")), "{lines:?}");
        Ok(())
    })
}

/// Attacks: A5, F6, G8.
#[test]
fn a_secret_is_in_no_log_no_command_line_and_no_file_of_others() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let canary = "canary-7f3a9c";
        let more = json!({ "env": { "PASSWORD": canary } });
        let view = world.start(&tenant, &["sleep", "1000"], more)?;
        let log = fs::read_to_string(world.dir().join("agent.log"))?;
        ensure!(!log.contains(canary), "the agent's log has it");
        let pid = view.pid.context("a pid")?;
        let supervisor = parent_of(pid)?;
        let agent = i32::try_from(world.agent_pid()?)?;
        for process in [supervisor, agent] {
            for file in ["cmdline", "environ"] {
                let text = fs::read(format!("/proc/{process}/{file}"))?;
                ensure!(!contains(&text, canary), "/proc/{process}/{file} has it");
            }
        }
        let token = world.api().token().context("a token")?.to_owned();
        ensure!(
            !contains(&memory_of(supervisor)?, &token),
            "the agent's token is in the supervisor's memory"
        );
        ensure!(!contains(&memory_of(pid)?, &token), "the agent's token is in the container's memory");
        // Sockets and files are below these; abstract names, which no directory guards, are not used.
        for root in [world.state_dir(), world.dir().join("run")] {
            ensure!(fs::metadata(&root)?.mode() & 0o777 == 0o700, "{} is open to others", root.display());
        }
        let sockets = fs::read_to_string("/proc/net/unix")?;
        ensure!(!sockets.contains(" @"), "an abstract socket: {sockets}");
        Ok(())
    })
}

/// Attacks: E12.
#[test]
fn many_that_stop_at_once_hold_up_no_start() -> Result<()> {
    run(|world| {
        let count = if std::env::var_os("WHARF_SOAK").is_some() { 100 } else { 25 };
        let tenant = world.tenant("acme")?;
        let all: Vec<ContainerView> = (0..count)
            .map(|_| world.start(&tenant, &["sleep", "1000"], json!({ "network": "none" })))
            .collect::<Result<_>>()?;
        let started = std::thread::scope(|scope| {
            for view in &all {
                let pid = view.pid;
                scope.spawn(move || {
                    let pid = nix::unistd::Pid::from_raw(pid.unwrap_or(0));
                    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
                });
            }
            // While they go: it needs no more than any start does.
            world.script(&tenant, "echo started", json!({ "network": "none" }))
        })?;
        assert_eq!(world.logs(started.id.as_str())?, "started\n");
        for view in &all {
            assert_eq!(world.ended(view.id.as_str())?.exit.context("an exit")?.signal, Some(9));
            world.api().delete(&format!("/containers/{}", view.id))?;
        }
        Ok(())
    })
}

fn parent_of(pid: i32) -> Result<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("a parent")?;
    Ok(parent.trim().parse()?)
}

/// Everything that a process has written into its memory.
fn memory_of(pid: i32) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) =
            line.split_once(' ').and_then(|(range, _)| range.split_once('-')).context("a range")?;
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut part = vec![0; usize::try_from(to - from)?];
        // Some of it is not there to be read.
        if memory.read_exact_at(&mut part, from).is_ok() {
            all.extend(part);
        }
    }
    ensure!(!all.is_empty(), "nothing of {pid} was read");
    Ok(all)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
